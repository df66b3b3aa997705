//! The slots of all levels: where a timer lives, and which slot is the first.

use super::{NIL, TICK_SHIFT, Wheel};

/// Bits of the tick number that one level stands for: the 64 slots of a level fit one bitmap word.
pub(super) const LEVEL_BITS: u32 = 6;
pub(super) const SLOTS_PER_LEVEL: usize = 1 << LEVEL_BITS;

/// Levels that cover every `u64` deadline: `TICK_SHIFT + LEVELS * LEVEL_BITS == 64`.
pub(super) const LEVELS: usize = 9;
const _: () = assert!(TICK_SHIFT + LEVELS as u32 * LEVEL_BITS == 64);

/// How many timers of one slot [`Wheel::next_deadline`] looks at to replace a minimum that was cancelled. Keeps
/// that call bounded; a longer slot keeps its older, too early bound until it is filed anew. Arbitrary: about
/// a hundred nanoseconds when all of them miss the cache.
pub(super) const RESCAN_MAX: usize = 32;

#[derive(Clone, Copy)]
pub(super) struct Slot {
    /// The oldest timer of a circular list; its `prev` is the youngest.
    pub(super) head: u32,
    /// At or before every deadline in the slot; exact unless the timer that had it was removed.
    pub(super) deadline_min: u64,
}

impl<T> Wheel<T> {
    /// The first slot of the lowest level in use: the one with the earliest timer.
    #[inline]
    pub(super) fn first_occupied(&self) -> Option<(usize, usize)> {
        if self.levels_occupied == 0 {
            return None;
        }
        let level = self.levels_occupied.trailing_zeros() as usize;
        Some((level, self.occupied[level].trailing_zeros() as usize))
    }

    /// The first tick that belongs to an occupied slot: the digits of `elapsed` above the level, then the slot.
    #[inline]
    pub(super) fn slot_start(&self, level: usize, slot: usize) -> u64 {
        let shift = level as u32 * LEVEL_BITS;
        let below_and_at = (SLOTS_PER_LEVEL as u64 - 1) << shift | ((1 << shift) - 1);
        (self.elapsed & !below_and_at) | (slot as u64) << shift
    }

    /// Puts an unlinked entry at the end of the slot that its deadline and `elapsed` call for.
    #[inline]
    pub(super) fn file(&mut self, index: u32, deadline: u64) {
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
    pub(super) fn unlink(&mut self, index: u32) {
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
    pub(super) fn mark_empty(&mut self, slot_index: usize) {
        let (level, bit) = (slot_index / SLOTS_PER_LEVEL, 1 << (slot_index % SLOTS_PER_LEVEL));
        self.occupied[level] &= !bit;
        self.min_removed[level] &= !bit;
        if self.occupied[level] == 0 {
            self.levels_occupied &= !(1 << level);
        }
    }

    /// Looks for the earliest deadline of a slot after the one it had was removed.
    #[cold]
    pub(super) fn rescan(&mut self, level: usize, slot: usize) {
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
}
