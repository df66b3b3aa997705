//! The timing wheel: deadlines in, expired values out, both in O(1).
//!
//! It has no clock: `now` is passed in, in nanoseconds since the runtime's start, and every deadline uses the
//! same scale. It wakes nobody either: `T` is whatever the caller wants back (a waker, a connection's id).
//! Start at [`Wheel`]; [`Wheel::file`] is the one place that decides where a timer lives.
//!
//! # Layout
//!
//! A tick is 1024 ns, and a tick number has 54 bits: nine digits of six bits. Level `l` has one slot for each
//! value of digit `l`. A timer is filed at the highest digit in which its tick differs from the wheel's own
//! (`elapsed`), in the slot of that digit:
//!
//! ```text
//! elapsed   …  3  17  40 |5          timer A   … 3 17 40 |9      level 0, slot 9
//! digits       3   2   1  0          timer B   … 3 17 41 |0      level 1, slot 41
//!                                    timer C   … 3 18  0 |0      level 2, slot 18
//! ```
//!
//! From this follows what the rest leans on: everything in level `l` is due before anything in level `l + 1`,
//! and within a level slots are due from low to high, without wrap-around. The first occupied slot of the
//! lowest occupied level therefore holds the earliest timer: two `trailing_zeros`, no search.
//!
//! Nine levels cover all of `u64`, so no deadline has to be clamped and filed again, at 9 KiB for the slots.

use std::fmt;

use super::pages::Pages;

/// One tick is `1 << TICK_SHIFT` nanoseconds: 1024 ns. Waking a sleeping core costs tens of microseconds, so a
/// finer tick separates nothing; and with 6 bits a level it makes the 64 bits of a deadline come out even.
const TICK_SHIFT: u32 = 10;

/// Bits of the tick number that one level stands for: the 64 slots of a level fit one bitmap word.
const LEVEL_BITS: u32 = 6;
const SLOTS_PER_LEVEL: usize = 1 << LEVEL_BITS;

/// Levels that cover every `u64` deadline: `TICK_SHIFT + LEVELS * LEVEL_BITS == 64`.
const LEVELS: usize = 9;
const _: () = assert!(TICK_SHIFT + LEVELS as u32 * LEVEL_BITS == 64);

/// How many timers of one slot [`Wheel::next_deadline`] looks at to replace a minimum that was cancelled. Keeps
/// that call bounded; a longer slot keeps its older, too early bound until it is filed anew. Arbitrary: about
/// a hundred nanoseconds when all of them miss the cache.
const RESCAN_MAX: usize = 32;

/// No entry: the end of the free list, or the head of an empty slot. It bounds a wheel to `u32::MAX` timers;
/// insert panics there, but at 40 bytes each memory ends earlier.
const NIL: u32 = u32::MAX;

/// Names one timer of one wheel. Stays invalid forever once its timer has fired or was removed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct TimerKey {
    index: u32,
    generation: u32,
}

/// A hierarchical timing wheel of values `T`.
///
/// - A timer fires at the first [`expire`](Self::expire) whose `now` is at or past its deadline, never before.
/// - Timers that are due at the same `expire` come out in order of their tick (1024 ns), and within a tick in
///   order of insertion. A deadline that was already past when inserted counts as the tick of the last `expire`.
/// - Insert and remove are O(1). A timer is filed anew at most once a level, eight times in its life.
pub(crate) struct Wheel<T> {
    /// The tick of the latest `expire`. Never goes back. INVARIANT: no timer is filed before it.
    elapsed: u64,
    /// Timers in the wheel.
    len: usize,
    /// Bit `l`: `occupied[l] != 0`.
    levels_occupied: u16,
    /// Bit `s` of word `l`: slot `s` of level `l` has timers.
    occupied: [u64; LEVELS],
    /// Bit `s` of word `l`: the timer that set the slot's `deadline_min` was removed, and nobody has looked for
    /// its successor yet. Meaningless, and cleared, where the slot is empty.
    min_removed: [u64; LEVELS],
    /// All levels, lowest first.
    slots: Box<[Slot; LEVELS * SLOTS_PER_LEVEL]>,
    entries: Pages<Entry<T>>,
    /// Head of the list of vacant entries, linked through `next`.
    vacant: u32,
}

#[derive(Clone, Copy)]
struct Slot {
    /// The oldest timer of a circular list; its `prev` is the youngest.
    head: u32,
    /// At or before every deadline in the slot; exact unless the timer that had it was removed.
    deadline_min: u64,
}

struct Entry<T> {
    deadline: u64,
    /// Counts the timers that lived here before. An entry that reaches `u32::MAX` is retired.
    generation: u32,
    prev: u32,
    /// The next timer of the slot, or the next vacant entry.
    next: u32,
    /// Index into `slots`. Meaningless while vacant.
    slot: u16,
    /// None: vacant.
    value: Option<T>,
}

impl<T> Wheel<T> {
    /// An empty wheel at time 0. Allocates its slots (9 KiB), entries only with the first timer.
    pub(crate) fn new() -> Self {
        Wheel {
            elapsed: 0,
            len: 0,
            levels_occupied: 0,
            occupied: [0; LEVELS],
            min_removed: [0; LEVELS],
            slots: Box::new([Slot { head: NIL, deadline_min: 0 }; LEVELS * SLOTS_PER_LEVEL]),
            entries: Pages::new(),
            vacant: NIL,
        }
    }

    /// The number of timers that have neither fired nor been removed.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Files `value` under `deadline_ns`. One that is already past fires at the next [`expire`](Self::expire).
    ///
    /// # Panics
    ///
    /// With `u32::MAX` timers in the wheel.
    #[inline]
    pub(crate) fn insert(&mut self, deadline_ns: u64, value: T) -> TimerKey {
        let index = self.vacant;
        let key = if index == NIL {
            self.grow(deadline_ns, value)
        } else {
            let entry = &mut self.entries[index as usize];
            self.vacant = entry.next;
            entry.deadline = deadline_ns;
            entry.value = Some(value);
            TimerKey { index, generation: entry.generation }
        };
        self.len += 1;
        self.file(key.index, deadline_ns);
        key
    }

    /// Takes a timer out before it fires. None if it has fired or was removed before.
    #[inline]
    pub(crate) fn remove(&mut self, key: TimerKey) -> Option<T> {
        if !self.contains(key) {
            return None;
        }
        self.unlink(key.index);
        Some(self.vacate(key.index))
    }

    /// Whether the timer is still to fire.
    #[inline]
    pub(crate) fn contains(&self, key: TimerKey) -> bool {
        // A vacant entry's generation has not been given to anybody yet.
        self.entries.get(key.index as usize).is_some_and(|entry| entry.generation == key.generation)
    }

    /// The value of a timer that is still to fire, to replace a waker by a newer one.
    #[inline]
    pub(crate) fn value_mut(&mut self, key: TimerKey) -> Option<&mut T> {
        let entry = self.entries.get_mut(key.index as usize)?;
        if entry.generation == key.generation { entry.value.as_mut() } else { None }
    }

    /// When to call [`expire`](Self::expire) next; None while the wheel is empty.
    ///
    /// Never later than the earliest deadline. Equal to it, except where the earliest timer of a slot was
    /// removed from among more than [`RESCAN_MAX`]: then it may be the removed timer's deadline, and an `expire`
    /// at that time fires nothing but files the slot anew, so that one removed timer causes at most one wake-up
    /// for nothing. After an `expire(now)` it is always later than `now`.
    #[inline]
    pub(crate) fn next_deadline(&mut self) -> Option<u64> {
        let (level, slot) = self.first_occupied()?;
        if self.min_removed[level] & (1 << slot) != 0 {
            self.rescan(level, slot);
        }
        Some(self.slots[level * SLOTS_PER_LEVEL + slot].deadline_min)
    }

    /// Appends the values of all timers with a deadline at or before `now_ns` to `out`. A `now_ns` before that of
    /// an earlier call fires nothing.
    #[inline]
    pub(crate) fn expire(&mut self, now_ns: u64, out: &mut Vec<T>) {
        let now = now_ns >> TICK_SHIFT;
        while let Some((level, slot)) = self.first_occupied() {
            if self.slot_start(level, slot) > now {
                break;
            }
            let index = level * SLOTS_PER_LEVEL + slot;
            if level > 0 {
                self.file_slot_anew(index, now, now_ns, out);
            } else if self.slots[index].deadline_min <= now_ns {
                self.fire_slot(index, now_ns, out);
            } else {
                // The slot of this very tick, due later within it.
                break;
            }
        }
        // Holds the invariant of `elapsed`: the loop left no slot that starts at or before `now` but that of
        // `now` itself in level 0.
        self.elapsed = self.elapsed.max(now);
    }

    /// The first slot of the lowest level in use: the one with the earliest timer.
    #[inline]
    fn first_occupied(&self) -> Option<(usize, usize)> {
        if self.levels_occupied == 0 {
            return None;
        }
        let level = self.levels_occupied.trailing_zeros() as usize;
        Some((level, self.occupied[level].trailing_zeros() as usize))
    }

    /// The first tick that belongs to an occupied slot: the digits of `elapsed` above the level, then the slot.
    #[inline]
    fn slot_start(&self, level: usize, slot: usize) -> u64 {
        let shift = level as u32 * LEVEL_BITS;
        let below_and_at = (SLOTS_PER_LEVEL as u64 - 1) << shift | ((1 << shift) - 1);
        (self.elapsed & !below_and_at) | (slot as u64) << shift
    }

    /// Puts an unlinked entry at the end of the slot that its deadline and `elapsed` call for.
    #[inline]
    fn file(&mut self, index: u32, deadline: u64) {
        let tick = (deadline >> TICK_SHIFT).max(self.elapsed);
        let differing = tick ^ self.elapsed;
        // `| 1`: equal ticks belong to level 0.
        let level = ((differing | 1).ilog2() / LEVEL_BITS) as usize;
        let digit = (tick >> (level as u32 * LEVEL_BITS)) as usize % SLOTS_PER_LEVEL;
        let slot_index = level * SLOTS_PER_LEVEL + digit;

        let bit = 1 << digit;
        let slot = &mut self.slots[slot_index];
        if self.occupied[level] & bit == 0 {
            self.occupied[level] |= bit;
            self.levels_occupied |= 1 << level;
            *slot = Slot { head: index, deadline_min: deadline };
            let entry = &mut self.entries[index as usize];
            (entry.prev, entry.next, entry.slot) = (index, index, slot_index as u16);
        } else {
            if deadline <= slot.deadline_min {
                slot.deadline_min = deadline;
                self.min_removed[level] &= !bit;
            }
            let head = slot.head;
            let tail = std::mem::replace(&mut self.entries[head as usize].prev, index);
            self.entries[tail as usize].next = index;
            let entry = &mut self.entries[index as usize];
            (entry.prev, entry.next, entry.slot) = (tail, head, slot_index as u16);
        }
    }

    /// Takes an entry out of its slot's list.
    #[inline]
    fn unlink(&mut self, index: u32) {
        let entry = &self.entries[index as usize];
        let (prev, next, deadline, slot_index) =
            (entry.prev, entry.next, entry.deadline, entry.slot as usize);
        if next == index {
            self.slots[slot_index].head = NIL;
            self.mark_empty(slot_index);
            return;
        }
        self.entries[prev as usize].next = next;
        self.entries[next as usize].prev = prev;
        let slot = &mut self.slots[slot_index];
        if slot.head == index {
            slot.head = next;
        }
        if slot.deadline_min == deadline {
            self.min_removed[slot_index / SLOTS_PER_LEVEL] |= 1 << (slot_index % SLOTS_PER_LEVEL);
        }
    }

    #[inline]
    fn mark_empty(&mut self, slot_index: usize) {
        let (level, bit) = (slot_index / SLOTS_PER_LEVEL, 1 << (slot_index % SLOTS_PER_LEVEL));
        self.occupied[level] &= !bit;
        self.min_removed[level] &= !bit;
        if self.occupied[level] == 0 {
            self.levels_occupied &= !(1 << level);
        }
    }

    /// Gives an unlinked entry back and its value out.
    #[inline]
    fn vacate(&mut self, index: u32) -> T {
        self.len -= 1;
        let entry = &mut self.entries[index as usize];
        let value = entry.value.take().expect("a timer that is in a list has a value");
        entry.generation += 1;
        // An entry whose generations are used up is never handed out again, so that no old key can name a new
        // timer: some 40 bytes for every four billion timers.
        if entry.generation < u32::MAX {
            entry.next = self.vacant;
            self.vacant = index;
        }
        value
    }

    #[cold]
    fn grow(&mut self, deadline: u64, value: T) -> TimerKey {
        let index = self.entries.len();
        assert!(index < NIL as usize, "too many timers for one wheel");
        let value = Some(value);
        self.entries.push(Entry { deadline, generation: 0, prev: NIL, next: NIL, slot: 0, value });
        TimerKey { index: index as u32, generation: 0 }
    }

    /// Looks for the earliest deadline of a slot after the one it had was removed.
    #[cold]
    fn rescan(&mut self, level: usize, slot: usize) {
        // Also where the slot is too long to be searched: the work is done once for each minimum removed.
        self.min_removed[level] &= !(1 << slot);
        let slot = &mut self.slots[level * SLOTS_PER_LEVEL + slot];
        let mut deadline_min = u64::MAX;
        let mut index = slot.head;
        for _ in 0..RESCAN_MAX {
            let entry = &self.entries[index as usize];
            deadline_min = deadline_min.min(entry.deadline);
            index = entry.next;
            if index == slot.head {
                slot.deadline_min = deadline_min;
                return;
            }
        }
    }

    /// Empties a slot of level 0 into `out`, but for timers that are due later within the tick of `now_ns`.
    fn fire_slot(&mut self, slot_index: usize, now_ns: u64, out: &mut Vec<T>) {
        let first = self.slots[slot_index].head;
        let last = self.entries[first as usize].prev;
        self.mark_empty(slot_index);
        let mut index = first;
        loop {
            let &Entry { deadline, next, .. } = &self.entries[index as usize];
            if deadline <= now_ns {
                out.push(self.vacate(index));
            } else {
                // Back to the same slot, which is that of the tick of `now_ns`.
                self.file(index, deadline);
            }
            if index == last {
                break;
            }
            index = next;
        }
    }

    /// Moves the timers of a slot of a higher level, which time has reached, to lower levels.
    fn file_slot_anew(&mut self, slot_index: usize, now: u64, now_ns: u64, out: &mut Vec<T>) {
        let Slot { head: first, deadline_min } = self.slots[slot_index];
        let last = self.entries[first as usize].prev;
        self.mark_empty(slot_index);
        // Forward to the first timer, or to `now` where that is earlier: all levels below are empty, everything
        // in this slot is due at or after it, and everything else after this slot.
        self.elapsed = (deadline_min >> TICK_SHIFT).min(now);
        if first == last && self.entries[first as usize].deadline <= now_ns {
            // Alone in its slot, hence next in order: the usual case of a sleeping task.
            out.push(self.vacate(first));
            return;
        }
        let mut index = first;
        loop {
            let &Entry { deadline, next, .. } = &self.entries[index as usize];
            self.file(index, deadline);
            if index == last {
                break;
            }
            index = next;
        }
    }
}

impl<T> fmt::Debug for Wheel<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wheel")
            .field("len", &self.len)
            .field("elapsed_ns", &(self.elapsed << TICK_SHIFT))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::hint::black_box;
    use std::time::Instant;

    use super::*;

    const MS: u64 = 1_000_000;
    const SECOND: u64 = 1_000 * MS;
    const YEAR: u64 = 365 * 24 * 3600 * SECOND;

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

    fn expire<T>(wheel: &mut Wheel<T>, now: u64) -> Vec<T> {
        let mut out = Vec::new();
        wheel.expire(now, &mut out);
        out
    }

    /// Goes from deadline to deadline as an idle runtime would. Gives what fired when.
    fn run_idle<T>(wheel: &mut Wheel<T>) -> Vec<(u64, T)> {
        let mut fired = Vec::new();
        while let Some(now) = wheel.next_deadline() {
            fired.extend(expire(wheel, now).into_iter().map(|value| (now, value)));
        }
        assert!(wheel.is_empty());
        fired
    }

    /// Every link, bitmap, count and minimum agrees with every other, and every timer is where `file` would put it.
    fn check_structure<T>(wheel: &Wheel<T>) {
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
                    let mut due: Vec<_> = model
                        .iter()
                        .filter(|(_, (deadline, _))| *deadline <= now)
                        .map(|(id, _)| *id)
                        .collect();
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

    #[test]
    fn fires_at_the_deadline_and_not_before() {
        fn check(start: u64, deadline: u64) {
            let mut wheel = Wheel::new();
            expire(&mut wheel, start);
            wheel.insert(deadline, ());
            assert_eq!(wheel.next_deadline(), Some(deadline));
            if deadline > start {
                assert_eq!(expire(&mut wheel, deadline - 1).len(), 0, "start {start} deadline {deadline}");
                assert_eq!(wheel.next_deadline(), Some(deadline));
            }
            assert_eq!(expire(&mut wheel, deadline.max(start)).len(), 1, "start {start} deadline {deadline}");
            assert!(wheel.is_empty() && wheel.next_deadline().is_none());
        }
        for start in [0, 1, 1023, 1024, 1 << 16, (1 << 16) - 1, 3 * YEAR + 12345] {
            for distance in
                [0, 1, 1000, 1023, 1024, 65_535, 65_536, MS, SECOND, 60 * SECOND, YEAR, 100 * YEAR]
            {
                check(start, start + distance);
                check(start + distance, start);
            }
        }
        check(0, u64::MAX);
        check(u64::MAX, u64::MAX);
        check(u64::MAX, 0);
    }

    #[test]
    fn a_far_timer_does_not_wake_an_idle_runtime_to_be_filed_anew() {
        let mut wheel = Wheel::new();
        let deadlines = [MS, SECOND, 61 * SECOND, 3600 * SECOND, YEAR, YEAR + 1, 50 * YEAR, u64::MAX];
        for deadline in deadlines {
            wheel.insert(deadline, deadline);
        }
        assert_eq!(run_idle(&mut wheel), deadlines.map(|deadline| (deadline, deadline)));
    }

    #[test]
    fn a_late_expire_fires_in_order_across_levels() {
        let mut wheel = Wheel::new();
        // Two a tick, the later inserted first where they differ by more than a tick.
        let order: Vec<u64> = (0..200).map(|i| i * i * i * 997 / 1024 * 1024).collect();
        for &deadline in order.iter().rev() {
            wheel.insert(deadline, (deadline, 'a'));
            wheel.insert(deadline, (deadline, 'b'));
        }
        let mut expected: Vec<_> = order.iter().flat_map(|&d| [(d, 'a'), (d, 'b')]).collect();
        expected.dedup();
        expected.sort_by_key(|&(deadline, _)| deadline);
        let fired = expire(&mut wheel, SECOND * 3600);
        assert_eq!(fired.len(), expected.len());
        assert!(fired.iter().map(|f| f.0).is_sorted());
    }

    #[test]
    fn a_timer_filed_anew_keeps_its_key() {
        let mut wheel = Wheel::new();
        let keys: Vec<_> = (0..100).map(|i| wheel.insert(60 * SECOND + i * MS, i)).collect();
        for now in (0..60).map(|s| s * SECOND) {
            assert!(expire(&mut wheel, now).is_empty());
            check_structure(&wheel);
        }
        for (i, key) in keys.into_iter().enumerate() {
            *wheel.value_mut(key).unwrap() += 1;
            assert_eq!(wheel.remove(key), Some(i as u64 + 1));
        }
        assert!(wheel.is_empty());
    }

    #[test]
    fn the_earliest_of_a_short_slot_removed_wakes_nobody() {
        let mut wheel = Wheel::new();
        let keys: Vec<_> = (0..RESCAN_MAX as u64).map(|i| wheel.insert(600 * SECOND + i * MS, i)).collect();
        for (i, &key) in keys.iter().enumerate().take(RESCAN_MAX - 1) {
            assert_eq!(wheel.next_deadline(), Some(600 * SECOND + i as u64 * MS));
            wheel.remove(key);
        }
        let last = RESCAN_MAX as u64 - 1;
        assert_eq!(run_idle(&mut wheel), [(600 * SECOND + last * MS, last)]);
    }

    #[test]
    fn the_earliest_of_a_long_slot_removed_wakes_once_for_nothing() {
        let mut wheel = Wheel::new();
        let keys: Vec<_> = (0..1000).map(|i| wheel.insert(600 * SECOND + i * MS, i)).collect();
        for &key in &keys[..500] {
            wheel.remove(key);
            wheel.next_deadline();
        }
        let mut wakes_for_nothing = 0;
        while let Some(now) = wheel.next_deadline() {
            wakes_for_nothing += usize::from(expire(&mut wheel, now).is_empty());
        }
        println!("{wakes_for_nothing} wake-ups for nothing");
        assert!(wakes_for_nothing <= 1);
    }

    #[test]
    fn memory_is_reused_and_old_keys_stay_invalid() {
        let mut wheel = Wheel::new();
        let first = wheel.insert(MS, 0);
        wheel.remove(first);
        for i in 1..1000 {
            let key = wheel.insert(MS * i, i);
            assert!(
                !wheel.contains(first) && wheel.remove(first).is_none() && wheel.value_mut(first).is_none()
            );
            if i % 2 == 0 {
                assert_eq!(expire(&mut wheel, MS * i), [i]);
            } else {
                assert_eq!(wheel.remove(key), Some(i));
            }
            assert!(!wheel.contains(key));
        }
        assert_eq!(wheel.entries.len(), 1);
    }

    #[test]
    fn an_entry_is_retired_before_its_generations_repeat() {
        let mut wheel = Wheel::new();
        let key = wheel.insert(MS, 'a');
        wheel.remove(key);
        wheel.entries[0].generation = u32::MAX - 1;
        let last = wheel.insert(MS, 'b');
        assert_eq!(last, TimerKey { index: 0, generation: u32::MAX - 1 });
        assert_eq!(wheel.remove(last), Some('b'));
        assert_eq!(wheel.insert(MS, 'c'), TimerKey { index: 1, generation: 0 });
        assert!(!wheel.contains(key) && !wheel.contains(last));
    }

    #[test]
    fn time_that_goes_back_fires_nothing() {
        let mut wheel = Wheel::new();
        expire(&mut wheel, SECOND);
        wheel.insert(SECOND / 2, 'a');
        wheel.insert(2 * SECOND, 'b');
        assert!(expire(&mut wheel, SECOND / 4).is_empty());
        assert_eq!(expire(&mut wheel, SECOND), ['a']);
        assert_eq!(run_idle(&mut wheel), [(2 * SECOND, 'b')]);
    }

    #[test]
    fn entries_are_small() {
        // A waker is two words. What a sleeping task costs the wheel:
        assert_eq!(size_of::<Entry<std::task::Waker>>(), 40);
    }

    /// Goal: the cost of the paths a server takes for every timeout, with as many other timers around as it has
    /// connections. Not a goal: the cost of a cache miss on an entry nobody touched for long.
    ///
    /// `cargo test -p annulet --release --lib wheel::tests::costs -- --nocapture`
    #[test]
    fn costs() {
        let rounds: u64 = if cfg!(debug_assertions) { 10_000 } else { 20_000_000 };
        for others in [0, 64, 10_000] {
            let mut wheel = Wheel::new();
            let mut out = Vec::new();
            for i in 0..others {
                wheel.insert(YEAR + i * MS, i);
            }

            let start = Instant::now();
            for i in 0..rounds {
                // The clock goes on 1 µs an operation; timeouts of 5 s.
                let key = wheel.insert(i * 1000 + 5 * SECOND, i);
                black_box(wheel.remove(black_box(key)));
            }
            let insert_remove = start.elapsed().as_nanos() as f64 / rounds as f64;

            let start = Instant::now();
            for i in 0..rounds {
                wheel.insert(i * 1000 + 100_000, i);
                black_box(wheel.next_deadline());
                wheel.expire(i * 1000, &mut out);
                out.clear();
            }
            let insert_fire = start.elapsed().as_nanos() as f64 / rounds as f64;

            // Each connection's timeout in turn is put off, as a server does with every request.
            let mut now = rounds * 1000;
            expire(&mut wheel, now);
            let mut keys: Vec<_> = (0..others).map(|i| wheel.insert(now + 5 * SECOND, i)).collect();
            let start = Instant::now();
            for i in 0..if others > 0 { rounds as usize } else { 0 } {
                now += 1000;
                let key = &mut keys[i % others as usize];
                black_box(wheel.remove(*key));
                *key = wheel.insert(now + 5 * SECOND, i as u64);
                black_box(wheel.next_deadline());
                wheel.expire(now, &mut out);
            }
            let put_off = start.elapsed().as_nanos() as f64 / rounds as f64;
            println!(
                "{others:>6} other timers: insert + remove {insert_remove:.1} ns, insert + next_deadline + expire \
                 {insert_fire:.1} ns, put off (remove + insert + next_deadline + expire) {put_off:.1} ns"
            );
        }
    }
}
