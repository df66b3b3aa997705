//! The way out: drop the tasks, cancel what the kernel holds, wait for its last word, and only then free.
//!
//! Architecture invariant: a ring is dropped only when nothing is in flight. If the kernel does not answer in time, ring
//! and tables are leaked, never freed: a leak is a loss, a buffer that is written to after its reuse is a catastrophe.

#![deny(unsafe_code)]

use std::any::Any;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::task::Waker;
use std::time::Duration;

use super::{Entered, Shard, registry};
use crate::driver::Wait;
use crate::panics::drop_payload;
use crate::sys::{monotonic_ns, nanos};

/// How long the kernel may take to answer every cancellation. They are answered within microseconds.
const REAP_DEADLINE: Duration = Duration::from_secs(2);
/// After half of it, bytes that did not leave are given up: those of dropped streams that their peers do not take, and
/// writes of dropped files that go on, to a full pipe for example.
const ABANDON_AFTER: Duration = Duration::from_secs(1);

/// How long finalisers may take when the loop ends. Arbitrary: a peer that answers at all answers within it.
const FINALISE_MAX: Duration = Duration::from_secs(5);

/// How often the tasks are cancelled, because the drop of one may spawn another.
const CANCEL_PASSES_MAX: usize = 1000;

/// Ends the loop of the thread when it is dropped: after its main future is done, or while a panic unwinds.
#[derive(Debug)]
pub(crate) struct LoopGuard(Entered);

impl LoopGuard {
    pub(crate) fn new(shard: Rc<Shard>) -> Self {
        LoopGuard(Entered::new(shard))
    }

    pub(crate) fn shard(&self) -> &Rc<Shard> {
        self.0.shard()
    }
}

impl Drop for LoopGuard {
    fn drop(&mut self) {
        // Whatever happens on the way, panics of wakers and drops included: without the kernel's last word the shard and
        // its memory stay.
        let kept = ManuallyDrop::new(Rc::clone(self.shard()));
        let mut panic = None;
        let reaped = kept.shut_down(&mut panic);
        if reaped {
            drop(ManuallyDrop::into_inner(kept));
        } else {
            eprintln!(
                "annulet: the kernel did not answer every cancellation within {REAP_DEADLINE:?}; \
                 the memory of this loop is leaked on purpose"
            );
        }
        if let Some(payload) = panic {
            if std::thread::panicking() {
                drop_payload(payload);
            } else {
                resume_unwind(payload);
            }
        }
    }
}

/// The first panic of the user's code during shutdown, to be passed on when all is done.
type FirstPanic = Option<Box<dyn Any + Send>>;

/// Runs code of the user's; keeps what it panics with.
fn guarded<R>(panic: &mut FirstPanic, f: impl FnOnce() -> R) -> Option<R> {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(result) => Some(result),
        Err(payload) => {
            match panic {
                None => *panic = Some(payload),
                Some(_) => drop_payload(payload),
            }
            None
        }
    }
}

impl Shard {
    /// True when the kernel holds nothing any more.
    fn shut_down(&self, panic: &mut FirstPanic) -> bool {
        guarded(panic, || self.take_inbox());
        // What is cancelled may want to close in its own time: that is let run before the loop takes no more work.
        if self.cancel_all(true, panic) {
            self.finalise(panic);
        }
        self.closing.set(true);
        if !self.clear(panic) {
            eprintln!(
                "annulet: tasks whose drop spawns tasks do not come to an end; the last ones are leaked"
            );
        }
        if let Some(port) = self.port() {
            guarded(panic, || port.close());
        }
        registry::unregister(self.key);
        let dropped = self.release_all();
        for waker in dropped {
            // One by one, while nothing is borrowed: they may be anybody's.
            guarded(panic, || drop(waker));
        }
        let is_quiet = self.reap();
        let sent = self.io.borrow_mut().wakes.take_sent();
        for bytes in sent.into_iter().flatten() {
            // Theirs, too.
            guarded(panic, || drop(bytes));
        }
        is_quiet
    }

    /// Drops every task. False if that comes to no end.
    fn cancel_all(&self, keeps_finalisers: bool, panic: &mut FirstPanic) -> bool {
        // A pass that panics has still ended the task that it was at.
        (0..CANCEL_PASSES_MAX)
            .any(|_| guarded(panic, || self.executor.cancel_all(keeps_finalisers)) == Some(true))
    }

    /// Drops what tasks left for handles that did not take it. False if there was nothing.
    fn free_all(&self, panic: &mut FirstPanic) -> bool {
        loop {
            if let Some(freed) = guarded(panic, || self.executor.free_all()) {
                return freed;
            }
        }
    }

    /// Drops every task and every result. False if that comes to no end.
    fn clear(&self, panic: &mut FirstPanic) -> bool {
        for _ in 0..CANCEL_PASSES_MAX {
            if !self.cancel_all(false, panic) {
                return false;
            }
            // The drop of a result may spawn as well.
            if !self.free_all(panic) {
                return true;
            }
        }
        false
    }

    /// Runs the loop until the finalisers are done, for a bounded time; then drops the results, one of which may hold
    /// another.
    fn finalise(&self, panic: &mut FirstPanic) {
        let deadline = self.clock.refresh().saturating_add(nanos(FINALISE_MAX));
        // It wakes nobody: it keeps the loop from sleeping beyond the deadline.
        let timer = self.io.borrow_mut().timers.insert_waker(deadline, Waker::noop().clone());
        // More than once after a panic of a waker, which is not the fault of the others.
        for _ in 0..CANCEL_PASSES_MAX {
            guarded(panic, || self.run_finalisers(deadline));
            if self.executor.finalisers() == 0 {
                self.free_all(panic);
            }
            if self.executor.finalisers() == 0 || self.clock.refresh() >= deadline {
                break;
            }
        }
        self.io.borrow_mut().timers.remove(timer);
        let left = self.executor.finalisers();
        if left > 0 {
            eprintln!(
                "annulet: {left} finalisers were not done {FINALISE_MAX:?} after their loop ended and are dropped; give \
                 what they close a time limit of its own"
            );
        }
    }

    /// Releases what handles that outlive the loop still hold.
    fn release_all(&self) -> Vec<Option<Waker>> {
        let now = self.clock.now();
        let mut dropped = Vec::new();
        let mut io = self.io.borrow_mut();
        let (sockets, mut cx) = io.sockets(now);
        for id in sockets.ids() {
            dropped.extend(sockets.release(id, &mut cx));
        }
        let (datagrams, mut cx) = io.datagrams(now);
        for id in datagrams.ids() {
            dropped.extend(datagrams.release(id, &mut cx));
        }
        let (listeners, mut cx) = io.listeners(now);
        for id in listeners.ids() {
            dropped.push(listeners.release(id, &mut cx));
        }
        let (ops, driver, _) = io.ops();
        dropped.extend(ops.cancel_all(driver));
        io.stop_watching();
        dropped
    }

    /// Turns the loop without polling anything until the kernel holds nothing. False if it takes too long.
    fn reap(&self) -> bool {
        let start = monotonic_ns();
        let (abandon_at, give_up_at) = (start + nanos(ABANDON_AFTER), start + nanos(REAP_DEADLINE));
        let mut abandoned = false;
        let mut io = self.io.borrow_mut();
        loop {
            io.flush(start);
            if io.is_quiet() {
                // The last closes answer nothing; they only need to be handed over.
                let handed_over = io.driver.wait(Wait::No).is_ok();
                io.drain(start);
                return handed_over && io.driver.settled(io.driver.ticket());
            }
            let now = monotonic_ns();
            if now >= give_up_at
                || io.driver.wait(Wait::Until(Some(if abandoned { give_up_at } else { abandon_at }))).is_err()
            {
                return false;
            }
            io.drain(now);
            if now >= abandon_at && !abandoned {
                abandoned = true;
                let (sockets, mut cx) = io.sockets(now);
                for id in sockets.ids() {
                    sockets.abandon(id, &mut cx);
                }
                let (ops, driver, _) = io.ops();
                ops.cancel_orphans(driver);
            }
        }
    }
}
