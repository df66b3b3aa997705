//! The way out: drop the tasks, cancel what the kernel holds, wait for its last word, and only then free.
//!
//! Architecture invariant: a ring is dropped only when nothing is in flight. If the kernel does not answer in time, ring
//! and tables are leaked, never freed: a leak is a loss, a buffer that is written to after its reuse is a catastrophe.

use std::rc::Rc;
use std::time::Duration;

use super::{Entered, Shard, registry};
use crate::driver::Wait;
use crate::sys::{monotonic_ns, nanos};

/// How long the kernel may take to answer every cancellation. They are answered within microseconds; bytes of dropped
/// streams that their peers do not take are given this long as well.
const REAP_DEADLINE: Duration = Duration::from_secs(2);
/// After half of it, bytes that did not leave are given up.
const ABANDON_AFTER: Duration = Duration::from_secs(1);

/// Ends the loop of the thread when it is dropped: after its main future is done, or while a panic unwinds.
#[derive(Debug)]
pub(crate) struct Runtime(Entered);

impl Runtime {
    pub(crate) fn new(shard: Rc<Shard>) -> Self {
        Runtime(Entered::new(shard))
    }

    pub(crate) fn shard(&self) -> &Rc<Shard> {
        self.0.shard()
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        self.shard().shut_down();
    }
}

impl Shard {
    fn shut_down(&self) {
        self.closing.set(true);
        self.take_inbox();
        self.executor.cancel_all();
        registry::unregister(self.key);
        self.release_all();
        if !self.reap() {
            // Ring, tables and buffers stay as they are, for ever: the kernel may still write to them.
            let shard = super::current();
            std::mem::forget(shard);
            eprintln!(
                "annulet: the kernel did not answer every cancellation within {REAP_DEADLINE:?}; \
                 the memory of this loop is leaked on purpose"
            );
        }
    }

    /// Releases what handles that outlive the loop still hold.
    fn release_all(&self) {
        let now = self.clock.now();
        let mut dropped = Vec::new();
        let mut io = self.io.borrow_mut();
        let (sockets, mut cx) = io.sockets(now);
        for id in sockets.ids() {
            dropped.extend(sockets.release(id, &mut cx));
        }
        let (listeners, mut cx) = io.listeners(now);
        for id in listeners.ids() {
            dropped.push(listeners.release(id, &mut cx));
        }
        let (ops, driver, _) = io.ops();
        dropped.extend(ops.cancel_all(driver));
        io.stop_doorbell();
        drop(io);
        // Wakers are dropped while nothing is borrowed: they may be anybody's.
        drop(dropped);
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
                return io.driver.wait(Wait::No).is_ok() && io.driver.settled(io.driver.ticket());
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
            }
        }
    }
}
