//! Where a timer lives: slots, sixty-four to a node, in a list each or split into a node of their own.
//!
//! The lists of a slot are unordered, so who wants its first timer has to look at all of them. That is why no list of a
//! higher level gets long: see [`SPLIT_ABOVE`].

use super::{NIL, TICK_SHIFT, Wheel};

/// Bits of the tick number that one level stands for: the 64 slots of a node fit one bitmap word.
pub(super) const LEVEL_BITS: u32 = 6;
pub(super) const SLOTS_PER_NODE: usize = 1 << LEVEL_BITS;

/// Levels that cover every `u64` deadline: `TICK_SHIFT + LEVELS * LEVEL_BITS == 64`.
pub(super) const LEVELS: usize = 9;
const _: () = assert!(TICK_SHIFT + LEVELS as u32 * LEVEL_BITS == 64);

/// A slot above level 0 with more timers than these is split by the insert that finds it so: into 64 slots of the next
/// lower level. This bounds what an `expire` moves before it comes to the timers that are due: this many, and
/// `LEVELS` more at worst, once a level. (A split may put all of them into one slot, which the next insert into that
/// one splits.)
///
/// A smaller one is more nodes, of 1 KiB beside the 5 KiB of so many timers; a larger one is a longer wait, as moving a
/// timer that no cache has any more takes a hundred nanoseconds or more. In between it is arbitrary.
pub(super) const SPLIT_ABOVE: usize = 128;

/// How many timers of one slot [`Wheel::next_deadline`] looks at to replace a minimum that was cancelled. Keeps
/// that call bounded; a longer slot keeps its older, too early bound until it is filed anew. Arbitrary: about
/// a hundred nanoseconds when all of them miss the cache.
pub(super) const RESCAN_MAX: usize = 32;

/// Their slots have numbers below `NIL`. Where there are so many, slots are split no more; memory ends earlier.
const NODES_MAX: usize = u32::MAX as usize / SLOTS_PER_NODE;

/// The number of a slot: that of its node, then its digit.
pub(super) type SlotIndex = u32;

#[derive(Clone, Copy)]
pub(super) struct Slot {
    /// The oldest timer of a circular list; its `prev` is the youngest. Of a split slot: its node.
    pub(super) head: u32,
    /// Timers in the list.
    pub(super) count: u32,
    /// At or before every deadline in the list; exact unless the timer that had it was removed.
    pub(super) deadline_min: u64,
}

/// One slot for each value of a digit.
pub(super) struct Node {
    /// Bit `s`: slot `s` has timers. What the slots without say is out of date.
    pub(super) occupied: u64,
    /// Bit `s`: slot `s` has a node of its own instead of a list.
    pub(super) split: u64,
    /// Bit `s`: the timer that set the slot's `deadline_min` was removed, and nobody has looked for its successor yet.
    pub(super) min_removed: u64,
    /// The slot that was split into these. NIL: these are the slots of a level. Of a spare node: the next one.
    pub(super) parent: SlotIndex,
    /// The digit is that of this level.
    pub(super) level: u8,
    pub(super) slots: [Slot; SLOTS_PER_NODE],
}

impl Node {
    pub(super) fn new(level: u8) -> Box<Self> {
        let slots = [Slot { head: NIL, count: 0, deadline_min: 0 }; SLOTS_PER_NODE];
        Box::new(Node { occupied: 0, split: 0, min_removed: 0, parent: NIL, level, slots })
    }
}

/// The digit of a tick, or of a slot's number.
#[inline]
pub(super) fn digit(tick: u64, level: usize) -> u32 {
    (tick >> (level as u32 * LEVEL_BITS)) as u32 % SLOTS_PER_NODE as u32
}

impl<T> Wheel<T> {
    #[inline]
    pub(super) fn node(&mut self, slot: SlotIndex) -> (&mut Node, usize) {
        (&mut self.nodes[(slot >> LEVEL_BITS) as usize], slot as usize % SLOTS_PER_NODE)
    }

    /// The number of a slot of a level itself.
    #[inline]
    pub(super) fn slot_of_level(&self, level: usize, digit: u32) -> SlotIndex {
        self.levels[level] << LEVEL_BITS | digit
    }

    /// The first slot of the lowest level in use: the one with the earliest timer.
    #[inline]
    pub(super) fn first_occupied(&self) -> Option<(usize, u32)> {
        if self.levels_occupied == 0 {
            return None;
        }
        let level = self.levels_occupied.trailing_zeros() as usize;
        Some((level, self.nodes[self.levels[level] as usize].occupied.trailing_zeros()))
    }

    /// The slot with the first list, of an occupied slot and all it was split into.
    #[inline]
    pub(super) fn first_list(&self, mut slot: SlotIndex) -> SlotIndex {
        loop {
            let node = &self.nodes[(slot >> LEVEL_BITS) as usize];
            let digit = slot as usize % SLOTS_PER_NODE;
            if node.split >> digit & 1 == 0 {
                return slot;
            }
            let child = node.slots[digit].head;
            slot = child << LEVEL_BITS | self.nodes[child as usize].occupied.trailing_zeros();
        }
    }

    /// The first tick that belongs to an occupied slot: the digits of `elapsed` above the level, then the slot.
    #[inline]
    pub(super) fn slot_start(&self, level: usize, digit: u32) -> u64 {
        let shift = level as u32 * LEVEL_BITS;
        let below_and_at = (SLOTS_PER_NODE as u64 - 1) << shift | ((1 << shift) - 1);
        (self.elapsed & !below_and_at) | u64::from(digit) << shift
    }

    /// Puts an unlinked entry at the end of the list that its deadline and `elapsed` call for. Gives its slot and
    /// how many it has now.
    #[inline]
    pub(super) fn file(&mut self, index: u32, deadline: u64) -> (SlotIndex, u32) {
        let tick = (deadline >> TICK_SHIFT).max(self.elapsed);
        let differing = tick ^ self.elapsed;
        // `| 1`: equal ticks belong to level 0.
        let mut level = ((differing | 1).ilog2() / LEVEL_BITS) as usize;
        self.levels_occupied |= 1 << level;
        let mut slot = self.slot_of_level(level, digit(tick, level));
        loop {
            let (node, at) = self.node(slot);
            if node.split >> at & 1 == 0 {
                return (slot, self.append(slot, index, deadline));
            }
            level -= 1;
            slot = node.slots[at].head << LEVEL_BITS | digit(tick, level);
        }
    }

    /// Puts an unlinked entry at the end of a list. Gives how many it has now.
    #[inline]
    fn append(&mut self, slot_index: SlotIndex, index: u32, deadline: u64) -> u32 {
        let (node, at) = self.node(slot_index);
        let bit = 1 << at;
        let slot = &mut node.slots[at];
        if node.occupied & bit == 0 {
            node.occupied |= bit;
            *slot = Slot { head: index, count: 1, deadline_min: deadline };
            let entry = &mut self.entries[index as usize];
            (entry.prev, entry.next, entry.slot) = (index, index, slot_index);
            1
        } else {
            if deadline <= slot.deadline_min {
                slot.deadline_min = deadline;
                node.min_removed &= !bit;
            }
            slot.count += 1;
            let Slot { head, count, .. } = *slot;
            let tail = std::mem::replace(&mut self.entries[head as usize].prev, index);
            self.entries[tail as usize].next = index;
            let entry = &mut self.entries[index as usize];
            (entry.prev, entry.next, entry.slot) = (tail, head, slot_index);
            count
        }
    }

    /// Takes an entry out of its slot's list.
    #[inline]
    pub(super) fn unlink(&mut self, index: u32) {
        let entry = &self.entries[index as usize];
        let (prev, next, deadline, slot_index) = (entry.prev, entry.next, entry.deadline, entry.slot);
        if next == index {
            self.mark_empty(slot_index);
            return;
        }
        self.entries[prev as usize].next = next;
        self.entries[next as usize].prev = prev;
        let (node, at) = self.node(slot_index);
        let slot = &mut node.slots[at];
        slot.count -= 1;
        if slot.head == index {
            slot.head = next;
        }
        if slot.deadline_min == deadline {
            node.min_removed |= 1 << at;
        }
    }

    /// The slot has no timers any more, nor has the one whose node this leaves empty.
    #[inline]
    pub(super) fn mark_empty(&mut self, mut slot: SlotIndex) {
        loop {
            let (node, at) = self.node(slot);
            let bit = 1 << at;
            node.occupied &= !bit;
            node.split &= !bit;
            node.min_removed &= !bit;
            if node.occupied != 0 {
                return;
            }
            let (level, parent) = (node.level, node.parent);
            if parent == NIL {
                self.levels_occupied &= !(1 << level);
                return;
            }
            self.keep_spare(slot >> LEVEL_BITS);
            slot = parent;
        }
    }

    /// Gives the list of a slot, which has become too long, a node of its own. Leaves it as it is in level 0, where all are of
    /// one tick.
    #[cold]
    pub(super) fn split(&mut self, slot_index: SlotIndex) {
        let level = self.node(slot_index).0.level;
        if level == 0 {
            return;
        }
        let Some(child) = self.spare_node(level - 1) else { return };
        self.nodes[child as usize].parent = slot_index;
        let (node, at) = self.node(slot_index);
        node.split |= 1 << at;
        node.min_removed &= !(1 << at);
        let first = std::mem::replace(&mut node.slots[at].head, child);
        let last = self.entries[first as usize].prev;
        let mut index = first;
        loop {
            let entry = &self.entries[index as usize];
            let (deadline, next) = (entry.deadline, entry.next);
            let digit = digit(deadline >> TICK_SHIFT, usize::from(level) - 1);
            self.append(child << LEVEL_BITS | digit, index, deadline);
            self.note_move();
            if index == last {
                break;
            }
            index = next;
        }
    }

    fn spare_node(&mut self, level: u8) -> Option<u32> {
        if self.spare == NIL {
            let id = self.nodes.len();
            (id < NODES_MAX).then(|| self.nodes.push(Node::new(level)))?;
            return Some(id as u32);
        }
        let id = self.spare;
        let node = &mut self.nodes[id as usize];
        self.spare = std::mem::replace(&mut node.parent, NIL);
        node.level = level;
        Some(id)
    }

    /// Keeps an empty node for the next split.
    pub(super) fn keep_spare(&mut self, id: u32) {
        let node = &mut self.nodes[id as usize];
        debug_assert!(node.occupied == 0 && node.split == 0 && node.min_removed == 0, "it is empty");
        node.parent = std::mem::replace(&mut self.spare, id);
    }

    /// Looks for the earliest deadline of a list after the one it had was removed, and gives what it has now.
    #[cold]
    pub(super) fn rescan(&mut self, slot: SlotIndex) -> u64 {
        // Also where the list is too long to be searched: the work is done once for each minimum removed.
        let (node, at) = self.node(slot);
        node.min_removed &= !(1 << at);
        let Slot { head, deadline_min: before, .. } = node.slots[at];
        let mut deadline_min = u64::MAX;
        let mut index = head;
        for _ in 0..RESCAN_MAX {
            let entry = &self.entries[index as usize];
            deadline_min = deadline_min.min(entry.deadline);
            index = entry.next;
            if index == head {
                let (node, at) = self.node(slot);
                node.slots[at].deadline_min = deadline_min;
                return deadline_min;
            }
        }
        before
    }

    /// Counts the timers that were put elsewhere, for tests.
    #[inline]
    pub(super) fn note_move(&mut self) {
        #[cfg(test)]
        {
            self.moves += 1;
        }
    }
}
