//! The wheel beside an ordered map, through random events.

use std::collections::BTreeMap;

use super::super::slots::{LEVEL_BITS, LEVELS, RESCAN_MAX, SPLIT_ABOVE, SlotIndex};
use super::*;

/// SplitMix64 (Steele, Lea, Flood 2014): enough for tests, and no dependency.
pub(super) struct Random(pub(super) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// Any magnitude from 1 ns to 2^`bits_max` ns is as likely as another.
    fn span(&mut self, bits_max: u64) -> u64 {
        let bits = self.below(bits_max + 1);
        self.next() & ((1 << bits) - 1)
    }
}

/// A node of `level` in level `top`, whose ticks begin with the digits of `prefix`.
fn check_node<T>(
    wheel: &Wheel<T>,
    id: u32,
    level: usize,
    top: usize,
    prefix: u64,
    timers: &mut usize,
    nodes: &mut usize,
) {
    *nodes += 1;
    let node = &wheel.nodes[id as usize];
    assert_eq!(usize::from(node.level), level);
    assert_eq!((node.split | node.min_removed) & !node.occupied, 0);
    assert_eq!(node.split & node.min_removed, 0, "only a list has a minimum");
    for (digit, slot) in node.slots.iter().enumerate().filter(|(digit, _)| node.occupied >> digit & 1 == 1) {
        let slot_index: SlotIndex = id << LEVEL_BITS | digit as u32;
        let prefix = prefix << LEVEL_BITS | digit as u64;
        if node.split >> digit & 1 == 1 {
            assert!(level > 0);
            let child = &wheel.nodes[slot.head as usize];
            assert_eq!(child.parent, slot_index);
            assert_ne!(child.occupied, 0);
            check_node(wheel, slot.head, level - 1, top, prefix, timers, nodes);
            continue;
        }
        assert!(level == 0 || slot.count as usize <= SPLIT_ABOVE + LEVELS);
        let mut index = slot.head;
        for _ in 0..slot.count {
            let entry = &wheel.entries[index as usize];
            *timers += 1;
            assert!(entry.value.is_some());
            assert_eq!(entry.slot, slot_index);
            assert!(slot.deadline_min <= entry.deadline);
            assert_eq!(wheel.entries[entry.next as usize].prev, index);
            let tick = (entry.deadline >> TICK_SHIFT).max(wheel.elapsed);
            assert_eq!(tick >> (level as u32 * LEVEL_BITS), prefix);
            assert_eq!(((tick ^ wheel.elapsed) | 1).ilog2() / LEVEL_BITS, top as u32);
            index = entry.next;
        }
        assert_eq!(index, slot.head);
    }
}

/// Every link, bitmap, count and minimum agrees with every other, and every timer is where `file` would put it.
pub(super) fn check_structure<T>(wheel: &Wheel<T>) {
    let (mut timers, mut nodes) = (0, 0);
    for (level, &id) in wheel.levels.iter().enumerate() {
        assert_eq!(wheel.nodes[id as usize].parent, NIL);
        assert_eq!(wheel.levels_occupied >> level & 1 == 1, wheel.nodes[id as usize].occupied != 0);
        let start = wheel.elapsed >> (level as u32 * LEVEL_BITS) >> LEVEL_BITS;
        check_node(wheel, id, level, level, start, &mut timers, &mut nodes);
    }
    let mut spare = wheel.spare;
    while spare != NIL {
        nodes += 1;
        let node = &wheel.nodes[spare as usize];
        assert_eq!(node.occupied | node.split | node.min_removed, 0);
        spare = node.parent;
    }
    assert_eq!(nodes, wheel.nodes.len());
    assert_eq!(timers, wheel.len());
    let mut index = wheel.vacant;
    let mut vacant = 0;
    while index != NIL {
        assert!(wheel.entries[index as usize].value.is_none());
        vacant += 1;
        index = wheel.entries[index as usize].next;
    }
    assert_eq!(timers + vacant, wheel.entries.len());
}

/// An `expire`, and whether it moved few timers beside those that fired. The bound is the wheel's promise to the loop.
pub(super) fn expire_few<T>(wheel: &mut Wheel<T>, now: u64) -> Vec<T> {
    let before = wheel.moves;
    let fired = expire(wheel, now);
    let moves = wheel.moves - before;
    let moves_max = (LEVELS - 1) * (fired.len() + SPLIT_ABOVE + LEVELS);
    assert!(moves <= moves_max, "{moves} timers were moved when {} fired", fired.len());
    fired
}

/// A run of random events against an ordered map. `population` is about how many timers there are at a time,
/// `bits_max` the largest magnitude of a timer's distance in bits of nanoseconds.
fn check_against_model(seed: u64, steps: usize, population: u64, bits_max: u64) {
    println!("seed {seed}, {steps} steps, population {population}, distances below 2^{bits_max} ns");
    let mut random = Random(seed);
    let mut wheel = Wheel::new();
    // (tick when inserted or later, order of insertion) → (deadline, key): the order in which timers fire.
    let mut model: BTreeMap<(u64, u64), (u64, TimerKey)> = BTreeMap::new();
    let mut keys: Vec<(u64, u64)> = Vec::new();
    let mut dead_keys: Vec<TimerKey> = Vec::new();
    let mut now = 0_u64;
    let (mut len_max, mut fired_count, mut removed_mins) = (0, 0, 0);
    let mut wakes_for_nothing = 0;
    for step in 0..steps as u64 {
        match random.below(8) {
            // The fuller, the fewer: the number of timers hovers below twice the population.
            0..=5 if random.below(population * 2) > model.len() as u64 => {
                let deadline = match random.below(8) {
                    // Past, this very tick, a round number as timeouts are, the end of the scale.
                    0 => now.saturating_sub(random.span(20)),
                    1 => now + random.below(1024),
                    2 => now + (1 + random.below(5)) * 100 * MS,
                    3 if random.below(64) == 0 => u64::MAX - random.below(3),
                    // Crowds: few deadlines, or few milliseconds, that many share for a while.
                    4 => (((now >> bits_max) + 1) << bits_max) + random.below(4),
                    5 => (((now >> bits_max) + 1) << bits_max) + random.span(24),
                    _ => now.saturating_add(random.span(bits_max)),
                };
                let id = ((deadline >> TICK_SHIFT).max(now >> TICK_SHIFT), step);
                let moves = wheel.moves;
                let key = wheel.insert(deadline, id);
                assert!(wheel.moves - moves <= SPLIT_ABOVE + LEVELS);
                assert!(wheel.contains(key));
                assert!(model.insert(id, (deadline, key)).is_none());
                keys.push(id);
            }
            0..=5 => {
                let earliest = model.values().map(|&(deadline, _)| deadline).min();
                let id = if random.below(4) == 0 {
                    model.iter().find(|(_, (deadline, _))| Some(*deadline) == earliest).map(|(id, _)| *id)
                } else {
                    keys.retain(|id| model.contains_key(id));
                    keys.get(random.below(1 + keys.len() as u64) as usize).copied()
                };
                if let Some((deadline, key)) = id.and_then(|id| model.remove(&id)) {
                    let id = id.unwrap();
                    removed_mins += u64::from(Some(deadline) == earliest);
                    assert_eq!(wheel.value_mut(key), Some(&mut id.clone()));
                    assert_eq!(wheel.remove(key), Some(id));
                    dead_keys.push(key);
                }
            }
            _ => {
                // Timers at the end of the scale stay: there is nothing to test behind them.
                let next = wheel.next_deadline().filter(|&next| next < 500 * YEAR);
                now = match next {
                    // As an idle runtime does: exactly to the deadline, or to just before it.
                    Some(next) if random.below(2) == 0 => now.max(next),
                    Some(next) if random.below(4) == 0 => now.max(next.saturating_sub(1)),
                    _ => now.max((now + random.span(bits_max) / (population * 4)).min(500 * YEAR)),
                };
                let fired = expire_few(&mut wheel, now);
                let mut due: Vec<_> =
                    model.iter().filter(|(_, (deadline, _))| *deadline <= now).map(|(id, _)| *id).collect();
                due.sort_unstable();
                assert_eq!(fired, due, "now {now}");
                if fired.is_empty() && next == Some(now) {
                    wakes_for_nothing += 1;
                }
                fired_count += fired.len();
                for id in fired {
                    dead_keys.push(model.remove(&id).unwrap().1);
                }
                assert!(wheel.next_deadline().is_none_or(|next| next > now));
            }
        }
        // Never later than the earliest; exact while a slot cannot hold more than RESCAN_MAX.
        let earliest = model.values().map(|&(deadline, _)| deadline).min();
        let next = wheel.next_deadline();
        assert_eq!(next.is_some(), earliest.is_some());
        assert!(next <= earliest);
        if population * 2 <= RESCAN_MAX as u64 {
            assert_eq!(next, earliest);
        }
        assert_eq!(wheel.len(), model.len());
        len_max = len_max.max(wheel.len());
        if step % 256 == 0 {
            check_structure(&wheel);
            dead_keys.drain(..dead_keys.len().saturating_sub(1000));
            for &key in &dead_keys {
                assert!(
                    !wheel.contains(key) && wheel.remove(key).is_none() && wheel.value_mut(key).is_none()
                );
            }
        }
    }
    println!(
        "  at most {len_max} timers, {} nodes, {fired_count} fired, {removed_mins} earliest timers removed, {wakes_for_nothing} wake-ups for nothing",
        wheel.nodes.len()
    );
    assert!(wakes_for_nothing <= removed_mins);
    check_structure(&wheel);
}

#[test]
fn agrees_with_an_ordered_map() {
    // 1.27 million steps in all. A population of 16 must be exact; 300 makes slots longer than RESCAN_MAX, 3000 splits
    // slots of several levels, in one another.
    for seed in 0..8 {
        check_against_model(seed, 100_000, 16, 20 + seed * 5);
    }
    for seed in 8..12 {
        check_against_model(seed, 100_000, 150, 24 + (seed - 8) * 10);
    }
    for seed in 12..18 {
        check_against_model(seed, 12_000, 1500, 14 + (seed - 12) * 6);
    }
}
