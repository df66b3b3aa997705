//! The life of a one-shot operation that the kernel works on, as a state machine without I/O.
//!
//! It answers one question: who still needs the operation's memory, and who gets its result. Events go in
//! (`handle_*`), what the op table has to do comes out (`On*`). It holds no waker and no memory, and it submits nothing:
//! the op table does, as told.

/// Where an operation stands.
///
/// ```text
///  new ──► Submitted ──(1)──► Completed ──(2, 3)──► free
///              │
///             (4)
///              ▼
///          Orphaned ──(5)──► free
/// ```
///
/// 1. The completion. Its result waits here; the future is woken.
/// 2. The future is polled and takes the result.
/// 3. The future is dropped and the result that waited is reclaimed.
/// 4. The future is dropped while the kernel works: its memory stays. The operation is cancelled, or left to end.
/// 5. The completion that nobody waits for is reclaimed, and with it the memory.
///
/// The memory is freed where the diagram says free and nowhere else: by the future where the kernel is done, by the
/// completion where the future is gone. The answer to the cancel request moves nothing: whatever it says, the completion
/// of the operation itself is still to come, or has come already.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Lifecycle {
    /// The kernel works, the future waits.
    Submitted,
    /// The result waits to be taken, the kernel is done.
    Completed(i32),
    /// The kernel may use the memory; nobody waits any more.
    Orphaned,
}

/// To be done after the completion.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum OnCompletion {
    /// The result is kept here. Wake the future.
    Wake,
    /// Nobody will see this result: close the descriptor that it may be, and free the slot and its memory.
    Reclaim(i32),
}

/// To be done after the future was dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum OnDrop {
    /// Ask the kernel to cancel the operation, if it is not to go on. The slot and its memory stay.
    Cancel,
    /// Close the descriptor that the result may be, and free the slot and its memory.
    Reclaim(i32),
}

impl Lifecycle {
    /// The operation's completion.
    ///
    /// # Panics
    ///
    /// Where the kernel breaks its word and completes a second time.
    #[inline]
    pub(crate) fn handle_completion(&mut self, result: i32) -> OnCompletion {
        match *self {
            Lifecycle::Submitted => {
                *self = Lifecycle::Completed(result);
                OnCompletion::Wake
            }
            Lifecycle::Orphaned => OnCompletion::Reclaim(result),
            Lifecycle::Completed(_) => unreachable!("a completion after the last one of its operation"),
        }
    }

    /// The future was polled. Some: the result; free the slot, its memory goes to the future.
    #[inline]
    pub(crate) fn handle_poll(&self) -> Option<i32> {
        match *self {
            Lifecycle::Submitted => None,
            Lifecycle::Completed(result) => Some(result),
            Lifecycle::Orphaned => unreachable!("a future polled after it was ready or dropped"),
        }
    }

    /// The future was dropped.
    #[inline]
    pub(crate) fn handle_drop(&mut self) -> OnDrop {
        match std::mem::replace(self, Lifecycle::Orphaned) {
            Lifecycle::Submitted => OnDrop::Cancel,
            Lifecycle::Completed(result) => OnDrop::Reclaim(result),
            Lifecycle::Orphaned => unreachable!("a future dropped after it was ready or dropped"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Event {
        Completion,
        Poll,
        Drop,
    }

    /// Plays a sequence. Gives who got the result ("handed", "reclaimed"), and asserts that the memory is freed when
    /// both the kernel and the future are done, not earlier and not later.
    fn play(events: &[Event]) -> Option<&'static str> {
        let mut lifecycle = Lifecycle::Submitted;
        let (mut kernel_done, mut future_alive) = (false, true);
        let mut end = None;
        for event in events {
            assert_eq!(end, None, "freed too early: {events:?}");
            match event {
                Event::Completion => {
                    kernel_done = true;
                    match lifecycle.handle_completion(7) {
                        OnCompletion::Wake => assert!(future_alive, "wake after drop: {events:?}"),
                        OnCompletion::Reclaim(result) => end = Some((result, "reclaimed")),
                    }
                }
                Event::Poll => {
                    if let Some(result) = lifecycle.handle_poll() {
                        future_alive = false;
                        end = Some((result, "handed"));
                    }
                }
                Event::Drop => {
                    future_alive = false;
                    match lifecycle.handle_drop() {
                        OnDrop::Cancel => assert!(!kernel_done, "nothing to cancel: {events:?}"),
                        OnDrop::Reclaim(result) => end = Some((result, "reclaimed")),
                    }
                }
            }
            assert_eq!(end.is_some(), kernel_done && !future_alive, "{events:?}");
        }
        end.map(|(result, who)| {
            assert_eq!(result, 7);
            who
        })
    }

    #[test]
    fn every_order_of_events() {
        use Event::{Completion, Drop, Poll};
        let check = |events: &[Event], end| assert_eq!(play(events), end, "{events:?}");
        check(&[], None);
        check(&[Poll], None);
        check(&[Completion], None);
        check(&[Drop], None);
        check(&[Completion, Poll], Some("handed"));
        check(&[Poll, Completion, Poll], Some("handed"));
        check(&[Completion, Drop], Some("reclaimed"));
        check(&[Poll, Completion, Drop], Some("reclaimed"));
        check(&[Drop, Completion], Some("reclaimed"));
        check(&[Poll, Drop, Completion], Some("reclaimed"));
    }

    #[test]
    #[should_panic(expected = "a completion after the last one")]
    fn a_second_completion_is_not_accepted() {
        play(&[Event::Completion, Event::Completion]);
    }
}
