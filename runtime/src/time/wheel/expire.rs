//! Time goes on: slots that it has reached are emptied, or their timers filed anew in lower levels.

use super::slots::{Slot, SlotIndex};
use super::{Entry, NIL, TICK_SHIFT, Wheel};

impl<T> Wheel<T> {
    /// Appends the values of all timers with a deadline at or before `now_ns` to `out`. A `now_ns` before that of
    /// an earlier call fires nothing.
    ///
    /// What it does for timers that are not due is bounded by [`SPLIT_ABOVE`](super::slots::SPLIT_ABOVE): of each level it
    /// files one slot anew at most, that of `now`. All others it reaches are due.
    #[inline]
    pub(crate) fn expire(&mut self, now_ns: u64, out: &mut Vec<T>) {
        let now = now_ns >> TICK_SHIFT;
        while let Some((level, digit)) = self.first_occupied() {
            let start = self.slot_start(level, digit);
            if start > now {
                break;
            }
            let slot = self.slot_of_level(level, digit);
            let (node, at) = self.node(slot);
            if level > 0 {
                if node.split >> at & 1 == 1 {
                    self.graft(slot, level, start);
                } else {
                    self.file_slot_anew(slot, now, now_ns, out);
                }
            } else if node.slots[at].deadline_min <= now_ns {
                self.fire_slot(slot, now_ns, out);
            } else {
                // The slot of this very tick, due later within it.
                break;
            }
        }
        // Holds the invariant of `elapsed`: the loop left no slot that starts at or before `now` but that of
        // `now` itself in level 0.
        self.elapsed = self.elapsed.max(now);
    }

    /// Empties a slot of level 0 into `out`, but for timers that are due later within the tick of `now_ns`.
    fn fire_slot(&mut self, slot: SlotIndex, now_ns: u64, out: &mut Vec<T>) {
        let (node, at) = self.node(slot);
        let first = node.slots[at].head;
        let last = self.entries[first as usize].prev;
        self.mark_empty(slot);
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

    /// Makes the slots that one was split into, which time has reached, those of the next lower level.
    fn graft(&mut self, slot: SlotIndex, level: usize, start: u64) {
        let (node, at) = self.node(slot);
        let child = node.slots[at].head;
        self.mark_empty(slot);
        // All levels below are empty.
        let below = std::mem::replace(&mut self.levels[level - 1], child);
        self.keep_spare(below);
        self.levels_occupied |= 1 << (level - 1);
        self.nodes[child as usize].parent = NIL;
        // Everything in this slot is due at or after its start, and everything else after this slot.
        self.elapsed = start;
    }

    /// Moves the timers of a slot of a higher level, which time has reached, to lower levels.
    fn file_slot_anew(&mut self, slot: SlotIndex, now: u64, now_ns: u64, out: &mut Vec<T>) {
        let (node, at) = self.node(slot);
        let Slot { head: first, deadline_min, .. } = node.slots[at];
        let last = self.entries[first as usize].prev;
        self.mark_empty(slot);
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
            self.note_move();
            if index == last {
                break;
            }
            index = next;
        }
    }
}
