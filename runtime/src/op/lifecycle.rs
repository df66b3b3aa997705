//! The life of one operation that the kernel works on, as a state machine without I/O.
//!
//! It answers one question: who still needs the operation's memory, and who gets its results. Events go in
//! (`handle_*`), what the op table has to do comes out (`On*`). It holds no waker, no buffer and no queue, and it
//! submits nothing: the op table does, as told. Start at the diagram above [`Lifecycle`].

#![cfg_attr(
    not(any(test, loom)),
    allow(
        dead_code,
        reason = "the table has one-shot operations only; sockets keep the state of their own multishots"
    )
)]

/// What one completion says: the `res` and `flags` of its CQE.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Completion {
    pub(crate) result: i32,
    pub(crate) flags: u32,
}

/// Where an operation stands. "Future" is whoever waits for it: the future of a one-shot operation, or the
/// stream of a multishot one.
///
/// ```text
///                        one-shot                                     multishot
///
///  new ──► Submitted ────────(1)──────► Completed      new ──► Armed ────────(7)────► Ended
///           │     │                      ▲     │               │ ▲ │                    │
///           │    (2)                     │   (3, 5)            │ └(6)                 (3, 5)
///           │     ▼                      │     │               │                        │
///          (4)  Landed ──────(10)────────┘     │              (4)                       │
///           │     │                            │               │                        │
///           │   (3, 5)                         │               │                        │
///           ▼     ▼                            ▼               ▼                        ▼
///           Orphaned ────────(9)────────────► free          Orphaned ────────(9)────► free
///             │ ▲                                             │ ▲
///             └(8)                                            └(8)
/// ```
///
/// 1. The only completion. Its result waits in the machine; the future is woken.
/// 2. The first completion of two, with F_MORE: a zero-copy send has its result, but the kernel reads the memory
///    until the second one (F_NOTIF). The future is woken.
/// 3. The future is polled and takes the result, or learns that the stream has ended.
/// 4. The future is dropped while the kernel works: the operation has to be cancelled, its memory stays.
/// 5. The future is dropped and the result that waited is reclaimed.
/// 6. A completion with F_MORE: its result goes to the stream's queue.
/// 7. The last completion of a multishot operation: likewise, and the kernel is done.
/// 8. A completion with F_MORE that nobody waits for is reclaimed.
/// 9. The last completion that nobody waits for is reclaimed, and with it the memory.
/// 10. The notification after (2), before the future was polled.
///
/// The memory is freed where the diagram says free and nowhere else: by the future where the kernel is done, by the
/// last completion where the future is. The answer to the cancel request moves nothing: whatever it says, a
/// completion of the operation itself is still to come, or has come already.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Lifecycle {
    /// One-shot. The kernel works, the future waits.
    Submitted,
    /// One-shot. The result waits to be taken, the kernel still uses the memory.
    Landed(Completion),
    /// One-shot. The result waits to be taken, the kernel is done.
    Completed(Completion),
    /// Multishot. The kernel works; results, if any, wait in the stream's queue.
    Armed,
    /// Multishot. The kernel is done; results, if any, wait in the stream's queue.
    Ended,
    /// The kernel may use the memory; nobody waits any more.
    Orphaned,
}

/// To be done after a completion.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum OnCompletion {
    /// The result is kept here. Wake the future.
    Wake,
    /// Append the result to the stream's queue and wake the stream.
    Deliver(Completion),
    /// Nobody will see this result: close the descriptor or give back the buffer it carries (a notification, with
    /// F_NOTIF, carries nothing). Then, if `free`, free the slot and its memory.
    Reclaim { completion: Completion, free: bool },
}

/// To be done after the future was polled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum OnPoll {
    /// Keep its waker.
    Pending,
    /// The result is the future's. If `free`, free the slot and its memory. Either way the future forgets the
    /// operation: it neither polls nor drops it again.
    Ready { completion: Completion, free: bool },
    /// No result will follow. Free the slot and its memory; the stream forgets the operation.
    Ended,
}

/// To be done after the future was dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum OnDrop {
    /// Ask the kernel to cancel the operation. The slot and its memory stay.
    RequestCancel,
    /// Close the descriptor or give back the buffer that the result carries. Then, if `free`, free the slot and its
    /// memory; if not, the kernel needs no asking, it is about to finish.
    Reclaim { completion: Completion, free: bool },
    /// Free the slot and its memory.
    Free,
}

/// What the kernel answered to a cancel request (`io_uring_prep_cancel(3)`). For the metrics: the operation goes
/// on as if it had not been said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum CancelAnswer {
    /// The operation was taken back. Its completion follows, or overtook this.
    Found,
    /// ENOENT: not found, because its last completion is already posted or about to be.
    NotFound,
    /// EALREADY: a worker thread executes it and was told; it completes, with its result or with EINTR.
    Running,
    /// Any other errno: the request itself was refused. The operation completes when it completes.
    Refused(i32),
}

impl CancelAnswer {
    /// From the `res` of the cancel request's own completion.
    pub(crate) fn from_result(result: i32) -> Self {
        match -result {
            // Without IORING_ASYNC_CANCEL_ALL 0 is success, with it the number of operations found.
            i32::MIN..=0 => CancelAnswer::Found,
            libc::ENOENT => CancelAnswer::NotFound,
            libc::EALREADY => CancelAnswer::Running,
            errno => CancelAnswer::Refused(errno),
        }
    }
}

impl Lifecycle {
    /// An operation with one result, just submitted.
    pub(crate) const fn one_shot() -> Self {
        Lifecycle::Submitted
    }

    /// An operation with a result for each completion, just submitted.
    pub(crate) const fn multishot() -> Self {
        Lifecycle::Armed
    }

    /// A completion of the operation itself; `more`: its CQE has F_MORE, so another one follows.
    ///
    /// # Panics
    ///
    /// Where the kernel breaks its word: a completion after one without F_MORE, or a third of a one-shot operation.
    #[inline]
    pub(crate) fn handle_completion(&mut self, completion: Completion, more: bool) -> OnCompletion {
        match *self {
            Lifecycle::Submitted => {
                *self = if more { Lifecycle::Landed(completion) } else { Lifecycle::Completed(completion) };
                OnCompletion::Wake
            }
            Lifecycle::Landed(first) => {
                assert!(!more, "a one-shot operation completed three times");
                // The notification says only that the memory is free. The first result stays the result, and
                // the future is awake.
                *self = Lifecycle::Completed(first);
                OnCompletion::Reclaim { completion, free: false }
            }
            Lifecycle::Armed => {
                if !more {
                    *self = Lifecycle::Ended;
                }
                OnCompletion::Deliver(completion)
            }
            Lifecycle::Orphaned => OnCompletion::Reclaim { completion, free: !more },
            Lifecycle::Completed(_) | Lifecycle::Ended => {
                unreachable!("a completion after the last one of its operation")
            }
        }
    }

    /// The future was polled. A stream is asked only once its queue is empty.
    #[inline]
    pub(crate) fn handle_poll(&mut self) -> OnPoll {
        match *self {
            Lifecycle::Submitted | Lifecycle::Armed => OnPoll::Pending,
            Lifecycle::Landed(completion) => {
                *self = Lifecycle::Orphaned;
                OnPoll::Ready { completion, free: false }
            }
            Lifecycle::Completed(completion) => OnPoll::Ready { completion, free: true },
            Lifecycle::Ended => OnPoll::Ended,
            Lifecycle::Orphaned => unreachable!("a future polled after it was ready or dropped"),
        }
    }

    /// The future was dropped. What its stream's queue holds is the caller's to reclaim.
    #[inline]
    pub(crate) fn handle_drop(&mut self) -> OnDrop {
        match std::mem::replace(self, Lifecycle::Orphaned) {
            Lifecycle::Submitted | Lifecycle::Armed => OnDrop::RequestCancel,
            Lifecycle::Landed(completion) => OnDrop::Reclaim { completion, free: false },
            Lifecycle::Completed(completion) => OnDrop::Reclaim { completion, free: true },
            Lifecycle::Ended => OnDrop::Free,
            Lifecycle::Orphaned => unreachable!("a future dropped after it was ready or dropped"),
        }
    }

    /// The cancel request has completed. `&self`: it can neither free the memory nor move anything else, and the
    /// table may have freed the operation before it arrives.
    #[inline]
    pub(crate) fn handle_cancel_result(&self, result: i32) -> CancelAnswer {
        CancelAnswer::from_result(result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The longest sequence of events: arbitrary, the number of states is small.
    const EVENTS_MAX: usize = 9;

    #[derive(Clone, Copy, Debug)]
    enum Event {
        Completion { more: bool },
        Poll,
        Drop,
        CancelResult(i32),
    }

    /// The op table and everybody around it: does what the machine says and keeps the books.
    #[derive(Clone)]
    struct World {
        lifecycle: Lifecycle,
        is_multishot: bool,
        /// Completions so far. Each carries a resource, named by its number from 0.
        posted: u32,
        kernel_done: bool,
        future_alive: bool,
        /// The stream's queue.
        queue: Vec<u32>,
        /// By resource: how often the future got it, and how often it was reclaimed.
        handed: [u8; EVENTS_MAX * 2],
        reclaimed: [u8; EVENTS_MAX * 2],
        cancels_requested: u32,
        cancels_answered: u32,
        freed: bool,
    }

    impl World {
        fn new(is_multishot: bool) -> Self {
            World {
                lifecycle: if is_multishot { Lifecycle::multishot() } else { Lifecycle::one_shot() },
                is_multishot,
                posted: 0,
                kernel_done: false,
                future_alive: true,
                queue: Vec::new(),
                handed: [0; EVENTS_MAX * 2],
                reclaimed: [0; EVENTS_MAX * 2],
                cancels_requested: 0,
                cancels_answered: 0,
                freed: false,
            }
        }

        /// Whether the kernel, the future and the table can cause this event now.
        fn allows(&self, event: Event) -> bool {
            match event {
                // One result and one notification are the most a one-shot operation has.
                Event::Completion { more } => {
                    !self.kernel_done && (self.is_multishot || !more || self.posted == 0)
                }
                Event::Poll | Event::Drop => self.future_alive,
                Event::CancelResult(_) => self.cancels_answered < self.cancels_requested,
            }
        }

        fn free(&mut self) {
            assert!(!self.freed, "freed twice");
            assert!(self.kernel_done, "freed under the kernel's hands");
            self.freed = true;
        }

        fn reclaim(&mut self, completion: Completion) {
            self.reclaimed[completion.flags as usize] += 1;
        }

        fn apply(&mut self, event: Event) {
            match event {
                Event::Completion { more } => {
                    assert!(!self.freed);
                    let completion = Completion { result: 1, flags: self.posted };
                    self.posted += 1;
                    self.kernel_done = !more;
                    match self.lifecycle.handle_completion(completion, more) {
                        OnCompletion::Wake => assert!(self.future_alive, "wake after drop"),
                        OnCompletion::Deliver(completion) => {
                            assert!(self.future_alive && self.is_multishot, "wake after drop");
                            self.queue.push(completion.flags);
                        }
                        OnCompletion::Reclaim { completion, free } => {
                            self.reclaim(completion);
                            if free {
                                self.free();
                            }
                        }
                    }
                }
                Event::Poll => {
                    if !self.queue.is_empty() {
                        self.handed[self.queue.remove(0) as usize] += 1;
                        return;
                    }
                    match self.lifecycle.handle_poll() {
                        OnPoll::Pending => {
                            // Nothing to be had: no result yet, or all of the stream's were handed out.
                            let handed = self.handed.iter().map(|&n| u32::from(n)).sum::<u32>();
                            assert!(!self.kernel_done && handed == self.posted);
                        }
                        OnPoll::Ready { completion, free } => {
                            self.handed[completion.flags as usize] += 1;
                            self.future_alive = false;
                            if free {
                                self.free();
                            }
                        }
                        OnPoll::Ended => {
                            self.future_alive = false;
                            self.free();
                        }
                    }
                }
                Event::Drop => {
                    self.future_alive = false;
                    for resource in std::mem::take(&mut self.queue) {
                        self.reclaimed[resource as usize] += 1;
                    }
                    match self.lifecycle.handle_drop() {
                        OnDrop::RequestCancel => self.cancels_requested += 1,
                        OnDrop::Reclaim { completion, free } => {
                            self.reclaim(completion);
                            if free {
                                self.free();
                            }
                        }
                        OnDrop::Free => self.free(),
                    }
                }
                Event::CancelResult(result) => {
                    self.cancels_answered += 1;
                    let before = self.lifecycle;
                    self.lifecycle.handle_cancel_result(result);
                    assert_eq!(self.lifecycle, before);
                }
            }
            // The memory is there for as long as anybody needs it, and not a moment longer.
            assert_eq!(self.freed, self.kernel_done && !self.future_alive);
        }

        /// Lets the kernel finish and the future go, and settles the books.
        fn settle(mut self) {
            if !self.kernel_done {
                self.apply(Event::Completion { more: false });
            }
            if self.future_alive {
                self.apply(Event::Drop);
            }
            assert!(self.freed);
            for resource in 0..self.posted as usize {
                // The first result of a one-shot operation is the future's; the notification is for the table.
                let (handed, reclaimed) = (self.handed[resource], self.reclaimed[resource]);
                assert_eq!(
                    handed + reclaimed,
                    1,
                    "result {resource}: handed {handed}, reclaimed {reclaimed}"
                );
            }
        }
    }

    /// Every order of events that can happen, depth first. Gives the number of sequences.
    fn explore(world: &World, trace: &mut Vec<Event>) -> u64 {
        let mut sequences = 1;
        world.clone().settle();
        if trace.len() == EVENTS_MAX {
            return sequences;
        }
        for event in [
            Event::Completion { more: false },
            Event::Completion { more: true },
            Event::Poll,
            Event::Drop,
            Event::CancelResult(0),
            Event::CancelResult(-libc::ENOENT),
            Event::CancelResult(-libc::EALREADY),
        ] {
            if world.allows(event) {
                let mut next = world.clone();
                trace.push(event);
                next.apply(event);
                sequences += explore(&next, trace);
                trace.pop();
            }
        }
        sequences
    }

    fn check_all_orders(is_multishot: bool) {
        let mut trace = Vec::new();
        let world = World::new(is_multishot);
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| explore(&world, &mut trace)));
        match result {
            Ok(sequences) => {
                println!("multishot {is_multishot}: {sequences} sequences of at most {EVENTS_MAX} events");
            }
            Err(panic) => {
                println!("multishot {is_multishot}: failed after {trace:?}");
                std::panic::resume_unwind(panic);
            }
        }
    }

    #[test]
    fn every_order_of_events_of_a_one_shot_operation() {
        check_all_orders(false);
    }

    #[test]
    fn every_order_of_events_of_a_multishot_operation() {
        check_all_orders(true);
    }

    #[test]
    fn a_slot_spends_three_words_on_it() {
        assert_eq!(size_of::<Lifecycle>(), 12);
    }

    #[test]
    fn cancel_answers() {
        use CancelAnswer::{Found, NotFound, Refused, Running};
        let answers = [0, 3, -libc::ENOENT, -libc::EALREADY, -libc::EINVAL].map(CancelAnswer::from_result);
        assert_eq!(answers, [Found, Found, NotFound, Running, Refused(libc::EINVAL)]);
    }

    #[test]
    #[should_panic(expected = "a completion after the last one")]
    fn a_completion_after_the_last_one_is_not_accepted() {
        let mut lifecycle = Lifecycle::one_shot();
        let completion = Completion { result: 0, flags: 0 };
        lifecycle.handle_completion(completion, false);
        lifecycle.handle_completion(completion, false);
    }
}
