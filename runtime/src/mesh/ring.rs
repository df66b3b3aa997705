//! A bounded queue from one thread to another: one producer, one consumer, values that are moved in and out.
//!
//! It waits for nothing and wakes nobody: the [port](super::port) does both. Each side writes one word of its own, which
//! the other reads only when what it remembers of it is used up; so no atomic read-modify-write, and a cache line moves
//! between the cores once a batch.

#![allow(unsafe_code)]

use std::fmt;
use std::mem::MaybeUninit;

use crate::sync_shim::{Arc, AtomicBool, AtomicUsize, Ordering, UnsafeCell};

/// Makes a queue for at most `capacity` values.
///
/// # Panics
///
/// With a capacity of zero, or of more than 2^31.
pub(crate) fn ring<T: Send>(capacity: usize) -> (Producer<T>, Consumer<T>) {
    assert!((1..=1 << 31).contains(&capacity), "the capacity of a queue between cores is 1 to 2^31");
    let slots = (0..capacity.next_power_of_two()).map(|_| UnsafeCell::new(MaybeUninit::uninit())).collect();
    let shared = Arc::new(Shared { produced: Side::new(), consumed: Side::new(), slots });
    let producer = Producer { shared: Arc::clone(&shared), capacity, tail: 0, head_seen: 0 };
    (producer, Consumer { shared, head: 0, tail_seen: 0, has_left: false })
}

/// What one side writes and the other reads. Two cache lines: processors fetch them in pairs.
#[repr(align(128))]
struct Side {
    /// Values that went through this side, ever; wraps.
    position: AtomicUsize,
    /// Set once, when the side's handle is gone, which does not touch the queue any more.
    is_gone: AtomicBool,
    /// Whether the side waits for the other to do something.
    waits: AtomicBool,
}

impl Side {
    fn new() -> Self {
        Side { position: AtomicUsize::new(0), is_gone: AtomicBool::new(false), waits: AtomicBool::new(false) }
    }
}

struct Shared<T> {
    /// Written by the producer.
    produced: Side,
    /// Written by the consumer.
    consumed: Side,
    /// A power of two of them; position `p` lives in slot `p % len`.
    ///
    /// INVARIANT: those at positions from `consumed` (inclusive) to `produced` (exclusive) are initialised and belong to
    /// the consumer, the others are not and belong to the producer.
    slots: Box<[UnsafeCell<MaybeUninit<T>>]>,
}

// SAFETY: values move from one thread to another, which `T: Send` allows; no reference to one is shared. Which thread may
// touch a slot follows from the invariant of `slots`.
unsafe impl<T: Send> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Shared<T> {}

impl<T> Shared<T> {
    #[inline]
    fn slot(&self, position: usize) -> &UnsafeCell<MaybeUninit<T>> {
        &self.slots[position & (self.slots.len() - 1)]
    }

    /// # Safety
    ///
    /// The caller is the only one that consumes, and `position` is the oldest one that is initialised. It is not any more
    /// afterwards: the caller must move `consumed` beyond it.
    #[inline]
    unsafe fn take(&self, position: usize) -> T {
        // SAFETY: initialised, and the consumer's, by the caller's promise.
        self.slot(position).with_mut(|slot| unsafe { (*slot).assume_init_read() })
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        // Relaxed: nobody else is left; the count of the Arc has ordered what they did.
        let tail = self.produced.position.load(Ordering::Relaxed);
        let mut head = self.consumed.position.load(Ordering::Relaxed);
        while head != tail {
            // SAFETY: alone; the oldest.
            let value = unsafe { self.take(head) };
            head = head.wrapping_add(1);
            // Before the value is dropped: should that panic, what is left is leaked and nothing is dropped twice.
            self.consumed.position.store(head, Ordering::Relaxed);
            drop(value);
        }
    }
}

/// Why a value was not taken. Gives it back.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refused<T> {
    /// No room.
    Full(T),
    /// The consumer is gone.
    Gone(T),
}

/// The end where values go in.
pub(crate) struct Producer<T> {
    shared: Arc<Shared<T>>,
    capacity: usize,
    /// `produced.position`, which only this writes.
    tail: usize,
    /// The last reading of `consumed.position`.
    head_seen: usize,
}

impl<T> Producer<T> {
    /// Puts a value in.
    ///
    /// # Errors
    ///
    /// The value, when there is no room or nobody to take it. One that was put in while the consumer left is lost to it:
    /// [`take_back`](Self::take_back) finds it.
    #[inline]
    pub(crate) fn push(&mut self, value: T) -> Result<(), Refused<T>> {
        if self.is_gone() {
            return Err(Refused::Gone(value));
        }
        if !self.has_room() {
            return Err(Refused::Full(value));
        }
        // SAFETY: there is room, so the slot at `tail` is not initialised and belongs to the producer, which this is.
        self.shared.slot(self.tail).with_mut(|slot| unsafe {
            (*slot).write(value);
        });
        self.tail = self.tail.wrapping_add(1);
        // Release pairs with the Acquire in `Consumer::has_items`: who sees the position sees the value.
        self.shared.produced.position.store(self.tail, Ordering::Release);
        Ok(())
    }

    /// Whether a value can be put in now.
    #[inline]
    pub(crate) fn has_room(&mut self) -> bool {
        if self.tail.wrapping_sub(self.head_seen) < self.capacity {
            return true;
        }
        self.consumed();
        self.tail.wrapping_sub(self.head_seen) < self.capacity
    }

    /// How many values have been taken out, ever; wraps.
    #[inline]
    pub(crate) fn consumed(&mut self) -> usize {
        // Acquire pairs with the Release in `Consumer::pop`: the slot was read before it is written again.
        self.head_seen = self.shared.consumed.position.load(Ordering::Acquire);
        self.head_seen
    }

    /// Announces, or ends, a wait for room: who takes a value out then asks [`Consumer::is_waited_for`].
    ///
    /// Before the thread sleeps on it, it makes a sequentially consistent fence and asks [`has_room`](Self::has_room) again.
    #[inline]
    pub(crate) fn set_waits(&mut self, waits: bool) {
        // Relaxed: the fences order it, here before the sleep and there before the question.
        self.shared.produced.waits.store(waits, Ordering::Relaxed);
    }

    /// Whether there is nobody any more who takes values out.
    #[inline]
    pub(crate) fn is_gone(&self) -> bool {
        // Acquire pairs with the Release in the consumer's drop, for `take_back`.
        self.shared.consumed.is_gone.load(Ordering::Acquire)
    }

    /// A value that the consumer left behind, the oldest first. None while there is a consumer.
    pub(crate) fn take_back(&mut self) -> Option<T> {
        if !self.is_gone() || self.consumed() == self.tail {
            return None;
        }
        // SAFETY: the consumer's drop came before (Acquire in `is_gone`), and it touches nothing any more: this is the only
        // one that consumes. `head_seen` is the oldest position, and it is not the producer's own next one.
        let value = unsafe { self.shared.take(self.head_seen) };
        self.shared.consumed.position.store(self.head_seen.wrapping_add(1), Ordering::Release);
        Some(value)
    }
}

impl<T> Drop for Producer<T> {
    fn drop(&mut self) {
        // Release pairs with the Acquire in `Consumer::is_finished`: who sees it sees the last value.
        self.shared.produced.is_gone.store(true, Ordering::Release);
    }
}

/// Looks at a queue from the consumer's thread without taking anything out.
pub(crate) struct Observer<T>(Arc<Shared<T>>);

impl<T> Observer<T> {
    /// Whether there is a value that was not taken.
    #[inline]
    pub(crate) fn has_items(&self) -> bool {
        // Relaxed: the consumer's own position. Acquire is not needed for the other: nothing is read but the number, and the
        // consumer looks again.
        self.0.consumed.position.load(Ordering::Relaxed) != self.0.produced.position.load(Ordering::Relaxed)
    }

    /// How many values were taken out, ever; wraps.
    #[inline]
    pub(crate) fn consumed(&self) -> usize {
        // Relaxed: the position of the consumer, whose thread this is.
        self.0.consumed.position.load(Ordering::Relaxed)
    }

    /// Whether nothing more will be put in.
    #[inline]
    pub(crate) fn is_producer_gone(&self) -> bool {
        self.0.produced.is_gone.load(Ordering::Relaxed)
    }

    /// Whether nobody takes anything out any more.
    #[inline]
    pub(crate) fn is_consumer_gone(&self) -> bool {
        self.0.consumed.is_gone.load(Ordering::Relaxed)
    }

    /// As [`Consumer::is_waited_for`].
    #[inline]
    pub(crate) fn is_waited_for(&self) -> bool {
        self.0.produced.waits.load(Ordering::Relaxed)
    }
}

/// The end where values come out.
pub(crate) struct Consumer<T> {
    shared: Arc<Shared<T>>,
    /// `consumed.position`, which only this writes.
    head: usize,
    /// The last reading of `produced.position`.
    tail_seen: usize,
    /// INVARIANT: once set the queue is not touched any more, since the producer may take back what is in it.
    has_left: bool,
}

impl<T> Consumer<T> {
    /// Takes the oldest value out.
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<T> {
        debug_assert!(!self.has_left);
        self.take_oldest()
    }

    #[inline]
    fn take_oldest(&mut self) -> Option<T> {
        if self.head == self.tail_seen && !self.has_items() {
            return None;
        }
        // SAFETY: the producer's position was seen beyond `head` (Acquire), so that slot is initialised; this is the only
        // consumer, and `head` the oldest position.
        let value = unsafe { self.shared.take(self.head) };
        self.head = self.head.wrapping_add(1);
        // Release pairs with the Acquire in `Producer::consumed`.
        self.shared.consumed.position.store(self.head, Ordering::Release);
        Some(value)
    }

    /// Whether there is a value to take out.
    #[inline]
    pub(crate) fn has_items(&mut self) -> bool {
        // Acquire pairs with the Release in `Producer::push`.
        self.tail_seen = self.shared.produced.position.load(Ordering::Acquire);
        self.tail_seen != self.head
    }

    /// Whether the producer waits for room. To be asked behind a sequentially consistent fence that follows [`pop`](Self::pop).
    #[inline]
    pub(crate) fn is_waited_for(&self) -> bool {
        // Relaxed: see `Producer::set_waits`.
        self.shared.produced.waits.load(Ordering::Relaxed)
    }

    /// Another look at the same queue.
    pub(crate) fn observer(&self) -> Observer<T> {
        Observer(Arc::clone(&self.shared))
    }

    /// Whether nothing will ever come out again.
    pub(crate) fn is_finished(&mut self) -> bool {
        // In this order: the last value was put in before the producer went. Acquire pairs with the Release in its drop.
        self.shared.produced.is_gone.load(Ordering::Acquire) && !self.has_items()
    }
}

impl<T> Consumer<T> {
    /// Leaves before the drop does: values that nobody took are dropped, the producer learns of it, and nothing comes out any
    /// more.
    pub(crate) fn leave(&mut self) {
        /// Says that the consumer is gone also if the drop of a value panics.
        struct Gone<'a, T>(&'a Shared<T>);
        impl<T> Drop for Gone<'_, T> {
            fn drop(&mut self) {
                // Release pairs with the Acquire in `Producer::is_gone`.
                self.0.consumed.is_gone.store(true, Ordering::Release);
            }
        }
        if self.has_left {
            return;
        }
        self.has_left = true;
        let shared = Arc::clone(&self.shared);
        let _gone = Gone(&shared);
        while let Some(value) = self.take_oldest() {
            drop(value);
        }
    }
}

impl<T> Drop for Consumer<T> {
    fn drop(&mut self) {
        self.leave();
    }
}

impl<T> fmt::Debug for Producer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer").field("capacity", &self.capacity).finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Observer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observer").finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Consumer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer").finish_non_exhaustive()
    }
}

#[cfg(all(test, not(annulet_loom)))]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn first_in_first_out_within_the_capacity() {
        for capacity in [1, 2, 3, 5, 8] {
            let (mut producer, mut consumer) = ring(capacity);
            let mut next = 0;
            for round in 0..4 {
                let first = next;
                for _ in 0..capacity {
                    producer.push(next).unwrap();
                    next += 1;
                }
                assert_eq!(producer.push(99), Err(Refused::Full(99)), "capacity {capacity}, round {round}");
                assert!(!producer.has_room());
                for expected in first..next {
                    assert_eq!(consumer.pop(), Some(expected), "capacity {capacity}, round {round}");
                }
                assert_eq!(consumer.pop(), None);
                assert!(producer.has_room());
            }
        }
    }

    #[test]
    fn positions_wrap() {
        let (mut producer, mut consumer) = ring(4);
        let start = usize::MAX - 2;
        (producer.tail, producer.head_seen, consumer.head, consumer.tail_seen) = (start, start, start, start);
        producer.shared.produced.position.store(start, Ordering::Relaxed);
        producer.shared.consumed.position.store(start, Ordering::Relaxed);
        for round in 0..3 {
            for i in 0..4 {
                producer.push(10 * round + i).unwrap();
            }
            assert_eq!(producer.push(0), Err(Refused::Full(0)));
            assert!((0..4).all(|i| consumer.pop() == Some(10 * round + i)));
        }
        assert_eq!(consumer.pop(), None);
    }

    #[test]
    #[should_panic(expected = "the capacity of a queue between cores is 1 to 2^31")]
    fn no_capacity() {
        let _ = ring::<u8>(0);
    }

    /// Counts the values that live.
    #[derive(Clone)]
    struct Counted(#[allow(dead_code, reason = "counted by its Rc")] Arc<()>);

    #[test]
    fn values_that_nobody_took_are_dropped_once() {
        let alive = Arc::new(());
        let counted = || Counted(Arc::clone(&alive));
        let count = || Arc::strong_count(&alive) - 1;

        let (mut producer, mut consumer) = ring(4);
        (0..4).for_each(|_| producer.push(counted()).ok().unwrap());
        drop(consumer.pop());
        assert_eq!(count(), 3);
        drop(consumer);
        assert_eq!(count(), 0, "the consumer drops what it leaves");
        assert!(producer.is_gone());
        assert!(matches!(producer.push(counted()), Err(Refused::Gone(_))));
        assert!(producer.take_back().is_none());

        let (mut producer, mut consumer) = ring(4);
        (0..3).for_each(|_| producer.push(counted()).ok().unwrap());
        drop(producer);
        assert!(!consumer.is_finished() && consumer.pop().is_some());
        assert_eq!(count(), 2);
        drop((consumer.pop(), consumer.pop()));
        assert!(consumer.is_finished() && consumer.pop().is_none());
        assert_eq!(count(), 0);
    }

    #[test]
    fn what_the_consumer_left_behind_comes_back() {
        let (mut producer, mut consumer) = ring(4);
        producer.push(1).unwrap();
        assert_eq!(producer.take_back(), None, "there is a consumer");
        // As if the consumer had gone between the producer's look and its push.
        producer.shared.consumed.is_gone.store(true, Ordering::Release);
        assert_eq!((producer.take_back(), producer.take_back()), (Some(1), None));
        // It was gone by then: it looks at nothing any more.
        consumer.has_left = true;
    }

    #[test]
    fn a_drop_that_panics_loses_no_other_value() {
        struct Fragile(Arc<AtomicUsize>, bool);
        impl Drop for Fragile {
            fn drop(&mut self) {
                self.0.fetch_add(1, Ordering::Relaxed);
                assert!(!self.1, "fragile");
            }
        }
        let dropped = Arc::new(AtomicUsize::new(0));
        let (mut producer, consumer) = ring(4);
        for i in 0..3 {
            producer.push(Fragile(dropped.clone(), i == 1)).ok().unwrap();
        }
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(consumer)));
        assert!(caught.is_err() && producer.is_gone());
        drop(producer);
        assert_eq!(dropped.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn a_million_values_between_two_threads() {
        const COUNT: u64 = 1_000_000;
        let (mut producer, mut consumer) = ring(64);
        let sender = thread::spawn(move || {
            for mut value in 0..COUNT {
                while let Err(Refused::Full(same)) = producer.push(value) {
                    value = same;
                    thread::yield_now();
                }
            }
        });
        let mut expected = 0;
        while !consumer.is_finished() {
            match consumer.pop() {
                Some(value) => {
                    assert_eq!(value, expected);
                    expected += 1;
                }
                None => thread::yield_now(),
            }
        }
        assert_eq!(expected, COUNT);
        sender.join().unwrap();
    }
}

/// `CARGO_TARGET_DIR=target/loom RUSTFLAGS="--cfg annulet_loom" cargo test -p annulet --lib --release ring::loom_tests`
#[cfg(all(test, annulet_loom))]
mod loom_tests {
    use loom::thread;

    use super::*;

    #[test]
    fn values_arrive_once_and_in_order() {
        for capacity in [1, 2] {
            loom::model(move || {
                let (mut producer, mut consumer) = ring(capacity);
                let sender = thread::spawn(move || {
                    for mut value in 0..3_u32 {
                        while let Err(Refused::Full(same)) = producer.push(value) {
                            value = same;
                            thread::yield_now();
                        }
                    }
                });
                let mut expected = 0;
                while expected < 3 {
                    match consumer.pop() {
                        Some(value) => {
                            assert_eq!(value, expected);
                            expected += 1;
                        }
                        None => thread::yield_now(),
                    }
                }
                sender.join().unwrap();
                assert!(consumer.is_finished());
            });
        }
    }

    #[test]
    fn a_consumer_that_leaves_loses_no_value() {
        loom::model(|| {
            let alive = Arc::new(());
            let (mut producer, mut consumer) = ring(2);
            let sender = {
                let alive = Arc::clone(&alive);
                thread::spawn(move || {
                    let mut back = 0;
                    for _ in 0..2 {
                        back += u32::from(producer.push(Arc::clone(&alive)).is_err());
                    }
                    back += std::iter::from_fn(|| producer.take_back()).count() as u32;
                    back
                })
            };
            let taken = u32::from(consumer.pop().is_some());
            drop(consumer);
            // Neither lost nor doubled: each was taken, came back, or was dropped by one of the two; loom finds leaks of an Arc.
            assert!(taken + sender.join().unwrap() <= 2);
        });
    }

    #[test]
    fn a_producer_that_leaves_loses_no_value() {
        loom::model(|| {
            let (mut producer, mut consumer) = ring(2);
            let sender = thread::spawn(move || {
                producer.push(1).unwrap();
                producer.push(2).unwrap();
            });
            let mut sum = 0;
            while !consumer.is_finished() {
                match consumer.pop() {
                    Some(value) => sum += value,
                    None => thread::yield_now(),
                }
            }
            assert_eq!(sum, 3);
            sender.join().unwrap();
        });
    }
}
