//! Time goes on: slots that it has reached are emptied, or their timers filed anew in lower levels.

use super::slots::{SLOTS_PER_LEVEL, Slot};
use super::{Entry, TICK_SHIFT, Wheel};

impl<T> Wheel<T> {
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
