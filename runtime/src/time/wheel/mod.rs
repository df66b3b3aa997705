//! The timing wheel: deadlines in, expired values out, both in O(1).
//!
//! It has no clock: `now` is passed in, in nanoseconds since the runtime's start, and every deadline uses the
//! same scale. It wakes nobody either: `T` is whatever the caller wants back (a waker, a connection's id).
//! Start at [`Wheel`].
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
//! A slot that gets many timers is split by the next lower digit, there and then, into a node of 64 slots:
//!
//! ```text
//! level 4   . . # . . .        a list of at most SPLIT_ABOVE timers,
//!                 |            or a node
//!                 +-- level 3   # . # # . .        of lists and nodes again
//! ```
//!
//! When time reaches such a slot, its node becomes the slots of the level below, as it is. So however many timers there are,
//! none that is due waits until thousands that are not have been filed anew, and nothing has to be remembered from one `expire` to
//! the next.
//!
//! Nine levels cover all of `u64`, so no deadline has to be clamped and filed again, at 9 KiB for the slots.
//!
//! `slots` decides where a timer lives ([`Wheel::file`] is the one place), `expire` is the passing of time.

mod expire;
mod slots;
#[cfg(test)]
mod tests;

use std::fmt;

use super::pages::Pages;
use slots::{LEVELS, Node, SPLIT_ABOVE, SlotIndex};

/// One tick is `1 << TICK_SHIFT` nanoseconds: 1024 ns. Waking a sleeping core costs tens of microseconds, so a
/// finer tick separates nothing; and with 6 bits a level it makes the 64 bits of a deadline come out even.
const TICK_SHIFT: u32 = 10;

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
/// - Insert and remove are O(1). A timer is filed anew at most once a level, eight times in its life: by an `expire`, or
///   by an insert that finds its slot too full, which moves no more than [`SPLIT_ABOVE`] and a few.
/// - Memory for slots is allocated by inserts only, when there are more split slots than ever before, and kept.
pub(crate) struct Wheel<T> {
    /// The tick of the latest `expire`. Never goes back. INVARIANT: no timer is filed before it.
    elapsed: u64,
    /// Timers in the wheel.
    len: usize,
    /// Bit `l`: level `l` has timers.
    levels_occupied: u16,
    /// The nodes of the levels themselves, lowest first.
    levels: [u32; LEVELS],
    /// These, those of split slots, and spare ones. In boxes, because a node is 1 KiB, and more of them are wanted in the middle
    /// of a turn.
    #[allow(clippy::vec_box)]
    nodes: Vec<Box<Node>>,
    /// Head of the list of spare nodes, linked through `parent`.
    spare: u32,
    entries: Pages<Entry<T>>,
    /// Head of the list of vacant entries, linked through `next`.
    vacant: u32,
    #[cfg(test)]
    moves: usize,
}

struct Entry<T> {
    deadline: u64,
    /// Counts the timers that lived here before. An entry that reaches `u32::MAX` is retired.
    generation: u32,
    prev: u32,
    /// The next timer of the slot, or the next vacant entry.
    next: u32,
    /// Where it is filed. Meaningless while vacant.
    slot: SlotIndex,
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
            levels: std::array::from_fn(|level| level as u32),
            nodes: (0..LEVELS as u8).map(Node::new).collect(),
            spare: NIL,
            entries: Pages::new(),
            vacant: NIL,
            #[cfg(test)]
            moves: 0,
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
        let (slot, count) = self.file(key.index, deadline_ns);
        if count as usize > SPLIT_ABOVE {
            self.split(slot);
        }
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
    /// removed from among more than [`RESCAN_MAX`](slots::RESCAN_MAX): then it may be the removed timer's deadline, and an `expire`
    /// at that time fires nothing but files the slot anew, so that one removed timer causes at most one wake-up
    /// for nothing. After an `expire(now)` it is always later than `now`.
    #[inline]
    pub(crate) fn next_deadline(&mut self) -> Option<u64> {
        let (level, digit) = self.first_occupied()?;
        let slot = self.first_list(self.slot_of_level(level, digit));
        let (node, at) = self.node(slot);
        if node.min_removed >> at & 1 == 0 {
            return Some(node.slots[at].deadline_min);
        }
        Some(self.rescan(slot))
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
}

impl<T> fmt::Debug for Wheel<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wheel")
            .field("len", &self.len)
            .field("elapsed_ns", &(self.elapsed << TICK_SHIFT))
            .finish()
    }
}
