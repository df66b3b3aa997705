//! The wheel beside an ordered map, through random events.

use std::collections::BTreeMap;

use super::super::slots::{LEVEL_BITS, LEVELS, RESCAN_MAX};
use super::*;

/// SplitMix64 (Steele, Lea, Flood 2014): enough for tests, and no dependency.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// Any magnitude from 1 ns to 2^`bits_max` ns is as likely as another.
    fn span(&mut self, bits_max: u64) -> u64 {
        let bits = self.below(bits_max + 1);
        self.next() & ((1 << bits) - 1)
    }
}

/// Every link, bitmap, count and minimum agrees with every other, and every timer is where `file` would put it.
pub(super) fn check_structure<T>(wheel: &Wheel<T>) {
    let mut timers = 0;
    for (slot_index, slot) in wheel.slots.iter().enumerate() {
        let (level, digit) = (slot_index / SLOTS_PER_LEVEL, slot_index % SLOTS_PER_LEVEL);
        let is_occupied = wheel.occupied[level] >> digit & 1 == 1;
        let is_min_removed = wheel.min_removed[level] >> digit & 1 == 1;
        if !is_occupied {
            assert!(!is_min_removed);
            continue;
        }
        assert!(wheel.levels_occupied >> level & 1 == 1);
        let mut index = slot.head;
        loop {
            let entry = &wheel.entries[index as usize];
            timers += 1;
            assert!(entry.value.is_some());
            assert_eq!(usize::from(entry.slot), slot_index);
            assert!(slot.deadline_min <= entry.deadline);
            assert_eq!(wheel.entries[entry.next as usize].prev, index);
            let tick = (entry.deadline >> TICK_SHIFT).max(wheel.elapsed);
            assert_eq!(
                tick >> (level as u32 * LEVEL_BITS),
                wheel.slot_start(level, digit) >> (level as u32 * LEVEL_BITS)
            );
            assert_eq!(((tick ^ wheel.elapsed) | 1).ilog2() / LEVEL_BITS, level as u32);
            index = entry.next;
            if index == slot.head {
                break;
            }
        }
    }
    for level in 0..LEVELS {
        assert_eq!(wheel.levels_occupied >> level & 1 == 1, wheel.occupied[level] != 0);
    }
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
                    _ => now.saturating_add(random.span(bits_max)),
                };
                let id = ((deadline >> TICK_SHIFT).max(now >> TICK_SHIFT), step);
                let key = wheel.insert(deadline, id);
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
                let fired = expire(&mut wheel, now);
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
        "  at most {len_max} timers, {fired_count} fired, {removed_mins} earliest timers removed, {wakes_for_nothing} wake-ups for nothing"
    );
    assert!(wakes_for_nothing <= removed_mins);
    check_structure(&wheel);
}

#[test]
fn agrees_with_an_ordered_map() {
    // 1.2 million steps in all. A population of 16 must be exact; 300 makes slots longer than RESCAN_MAX.
    for seed in 0..8 {
        check_against_model(seed, 100_000, 16, 20 + seed * 5);
    }
    for seed in 8..12 {
        check_against_model(seed, 100_000, 150, 24 + (seed - 8) * 10);
    }
}
