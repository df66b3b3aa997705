//! The run loop: one turn after the other until the main future is done.
//!
//! ```text
//!        .-> poll the ready tasks, the main one among them  (executor, budgeted)
//!        |   ring the sleepers that something was sent to  (other cores)
//!        |   hand gathered bytes over                   (sockets: at most one send each)
//!        |   submit and wait, once                      (driver: io_uring_enter)
//!        |   take completions into the tables           (never polls a task)
//!        |   expire timers                              (wheel)
//!        |   wake
//!        '-- take the inbox, look at the mesh           (other threads, other cores)
//! ```

#![deny(unsafe_code)]

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::panic::Location;
use std::pin::pin;
use std::task::Poll;

use super::{Batch, Io, Shard};
use crate::driver::Wait;
use crate::executor::{MAIN, POLLS_PER_TURN_MIN, POLLS_PER_TURN_MIN_OF_MESH};
use crate::metrics::{Counter, Distribution};
use crate::panics::drop_quietly;
use crate::sys::{monotonic_ns, nanos};
use crate::task::waker::waker;

/// With a virtual clock: how long the machine's own work (a connect, a packet) may take before virtual time moves on.
const VIRTUAL_GRACE_NS: u64 = 1_000_000;

/// The moving average of completions a turn, in sixteenths.
#[derive(Debug, Default)]
struct Busy(Cell<u32>);

impl Busy {
    fn note(&self, completions: u32) {
        // An average over about eight turns: it follows a burst within a millisecond.
        let average = self.0.get();
        self.0.set(average - average / 8 + completions.min(1024) * 2);
    }

    fn completions_per_turn(&self) -> u32 {
        self.0.get() / 16
    }
}

impl Shard {
    /// Runs the loop until `future` is done.
    ///
    /// # Panics
    ///
    /// When the kernel refuses to be entered: it has lost completions for want of memory (EBADR), or somebody has closed the ring.
    pub(crate) fn block_on<F: Future>(&self, future: F, location: &'static Location<'static>) -> F::Output {
        self.executor.start_main(location);
        let mut future = pin!(future);
        let main_waker = waker(self.key.id(), MAIN);
        let busy = Busy::default();
        // The first turn begins here, not when the loop was made.
        self.clock.refresh();
        loop {
            let now = self.clock.now();
            let main = || self.executor.poll_main(future.as_mut(), &main_waker, now);
            let is_sent_to = self.port().is_some_and(|port| port.is_in_use());
            let at_least = if is_sent_to { POLLS_PER_TURN_MIN_OF_MESH } else { POLLS_PER_TURN_MIN };
            if let Poll::Ready(output) = self.executor.run(now, at_least, main) {
                return output;
            }
            if let Err(error) = self.turn(&busy) {
                panic!("annulet: the kernel refused to be entered: {error}");
            }
        }
    }

    /// Runs the loop, without a main future, until no finaliser is left or `deadline` has passed.
    pub(super) fn run_finalisers(&self, deadline: u64) {
        let busy = Busy::default();
        while self.executor.finalisers() > 0 && self.clock.now() < deadline {
            // Nobody is there to be told, should something wake the main future.
            let _: Poll<()> = self.executor.run(self.clock.now(), POLLS_PER_TURN_MIN, || Poll::Pending);
            if let Err(error) = self.turn(&busy) {
                panic!("annulet: the kernel refused to be entered: {error}");
            }
        }
    }

    /// Everything between two rounds of polling.
    fn turn(&self, busy: &Busy) -> io::Result<()> {
        self.turns.set(self.turns.get() + 1);
        self.end_polls();
        let mut io = self.io.borrow_mut();
        if let Some(port) = self.port() {
            // Leaves with the one entry below, before the loop sleeps there.
            port.ring(|remote| io.ring(remote));
        }
        let is_unsettled = io.is_unsettled();
        io.flush(self.clock.now());
        self.publish(&io);
        if self.executor.is_ready() || io.is_hungry() || is_unsettled {
            io.driver.wait(Wait::No)?;
        } else if self.spin(&mut io)? {
            // Found without a sleep that was announced: nobody had to ring.
        } else if self.remote.inbox.prepare_sleep(|| self.is_mesh_quiet()) {
            let waited = self.sleep(&mut io, busy);
            self.remote.inbox.wake_up();
            waited?;
        } else {
            io.driver.wait(Wait::No)?;
        }
        let now = self.clock.refresh();
        let (completions, rang) = io.drain(now);
        busy.note(completions);
        self.row.row.record(Distribution::CompletionsPerEnter, u64::from(completions), 1);
        if rang && !io.doorbell_armed {
            self.remote.inbox.doorbell().silence();
            io.arm_doorbell();
        }
        if rang {
            // After the bell was silenced: a ring that this has swallowed left its mark before.
            self.signals.collect(&mut io.wakes);
        }
        if self.clock.is_virtual() && completions == 0 {
            self.advance_virtual_clock(&mut io)?;
        }
        io.expire(self.clock.now());
        let mut due = io.wakes.take();
        let sent = io.wakes.take_sent();
        drop(io);
        due.drain(..).for_each(std::task::Waker::wake);
        self.io.borrow_mut().wakes.put_back(due);
        if let Some(mut sent) = sent {
            sent.drain(..).for_each(drop_quietly);
            self.io.borrow_mut().wakes.put_back_sent(sent);
        }
        // Last, so that what ended the sleep is polled next.
        self.take_inbox();
        if let Some(port) = self.port() {
            port.look();
        }
        Ok(())
    }

    /// Tells the watch how long the polls of this turn took.
    #[inline]
    fn end_polls(&self) {
        if self.clock.is_virtual() {
            return;
        }
        let began = self.clock.now();
        let polls = self.executor.polls();
        let of_turn = polls - self.polls_before.replace(polls);
        self.executor.watch().end_turn(began, of_turn, || self.executor.polled_at(self.key, began));
    }

    /// Nothing is ready: wait for the kernel, as the policy says.
    fn sleep(&self, io: &mut Io, busy: &Busy) -> io::Result<()> {
        if self.clock.is_virtual() {
            let grace = io.timers.next_deadline().map(|_| monotonic_ns() + VIRTUAL_GRACE_NS);
            return io.driver.wait(Wait::Until(grace));
        }
        let deadline = io.deadline_of_wait(self.clock.now());
        let wait = match self.policy.batch {
            Some(batch) if busy.completions_per_turn() >= batch.threshold => {
                Self::in_batches(batch, io.timers.next_deadline(), deadline)
            }
            _ => Wait::Until(deadline),
        };
        io.driver.wait(wait)
    }

    /// Gathering, but never past the next deadline, which an alarm may stand for in `deadline`.
    fn in_batches(batch: Batch, next: Option<u64>, deadline: Option<u64>) -> Wait {
        let left = next.map_or(u64::MAX, |next| next.saturating_sub(monotonic_ns()));
        let gather_us = nanos(batch.wait).min(left) / 1000;
        if gather_us == 0 {
            return Wait::Until(deadline);
        }
        Wait::Gather { deadline, gather_us: gather_us as u32, count: batch.count.max(1) }
    }

    /// Looks for work in shared memory for a while, if the policy has it. True if there is some, and it was fetched.
    fn spin(&self, io: &mut Io) -> io::Result<bool> {
        if self.policy.spin.is_zero() || self.clock.is_virtual() || !io.driver.shows_work() {
            return Ok(false);
        }
        io.driver.wait(Wait::No)?;
        let deadline = io.timers.next_deadline().unwrap_or(u64::MAX);
        let until = monotonic_ns().saturating_add(nanos(self.policy.spin)).min(deadline);
        loop {
            if io.driver.has_work() || self.remote.inbox.has_mail() || !self.is_mesh_quiet() {
                io.driver.wait(Wait::No)?;
                return Ok(true);
            }
            if monotonic_ns() >= until {
                return Ok(false);
            }
            std::hint::spin_loop();
        }
    }

    /// Everything waits, and the machine has nothing for us: the next deadline is now.
    fn advance_virtual_clock(&self, io: &mut Io) -> io::Result<()> {
        // Asked before the inbox: what ends a hold has left its mail there first.
        if self.holds.any()
            || self.executor.is_ready()
            || !io.wakes.is_empty()
            || self.remote.inbox.has_mail()
            || !self.is_mesh_quiet()
        {
            return Ok(());
        }
        if let Some(deadline) = io.timers.next_deadline() {
            self.clock.advance(deadline);
        }
        Ok(())
    }

    /// Whether no other core of the mesh has sent anything.
    #[inline]
    fn is_mesh_quiet(&self) -> bool {
        self.port().is_none_or(|port| port.is_quiet())
    }

    /// Does what other threads asked for.
    #[inline]
    pub(super) fn take_inbox(&self) {
        if !self.remote.inbox.has_mail() {
            return self.row.row.set(Counter::InboxDepth, 0);
        }
        let mut messages = self.messages.take();
        self.remote.inbox.take(&mut messages);
        self.row.row.set(Counter::InboxDepth, messages.len() as u64);
        self.row.row.add(Counter::InboxMessages, messages.len() as u64);
        messages.drain(..).for_each(|message| self.handle_message(message));
        self.messages.replace(messages);
    }
}
