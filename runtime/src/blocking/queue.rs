//! Which job is next, who waits for room, which threads sleep: the state of a pool, without threads and without a lock.
//!
//! ```text
//!                 no room                    a job leaves the queue
//!   submitter ─────────────► line (fifo) ─────────────────────────► granted: room is kept for it
//!       │ room                                                           │
//!       └────────────────► jobs (fifo) ◄──────────────────────────────────┘
//!                              │ a thread takes the first
//! ```
//!
//! Functions that make room return wakers. They are to be woken after the lock is given back.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::task::{Poll, Waker};
use std::thread::Thread;

/// What a pool's thread runs.
pub(super) trait Job: Any + Send {
    /// Runs it and hands the result over; never unwinds.
    fn run(self: Box<Self>);
    /// No thread can be had for it.
    fn refuse(self: Box<Self>, why: &io::Error);
}

/// A job's place among all jobs of its pool.
pub(super) type JobNumber = u64;
/// A submitter's place among all that ever waited for room.
pub(super) type Ticket = u64;

/// What to do for a job that has come into the queue.
#[derive(Debug)]
pub(super) enum Start {
    /// Wake this thread.
    Unpark(Thread),
    /// Start a thread with this number.
    Spawn(usize),
    /// Every thread is busy; the next one that is done takes it.
    Nothing,
}

/// See the module.
pub(super) struct Queue {
    threads_max: usize,
    queue_max: usize,
    jobs: BTreeMap<JobNumber, Box<dyn Job>>,
    next_job: JobNumber,
    /// Submitters that wait for room, first come, first served.
    line: BTreeMap<Ticket, Waker>,
    next_ticket: Ticket,
    /// Submitters that were woken because there is room for them; each keeps one place in the queue.
    granted: BTreeSet<Ticket>,
    /// Threads that sleep, by number; the last one to lie down is the first to be woken, so that the others can leave.
    idle: Vec<(usize, Thread)>,
    /// Which numbers are taken by threads.
    threads: Vec<bool>,
    /// Set when the pool was dropped: threads leave as soon as there is nothing to do.
    is_closed: bool,
    /// Who waits until the last thread has left.
    watchers: Vec<Waker>,
}

impl Queue {
    pub(super) fn new(threads_max: usize, queue_max: usize) -> Self {
        Queue {
            threads_max,
            queue_max,
            jobs: BTreeMap::new(),
            next_job: 0,
            line: BTreeMap::new(),
            next_ticket: 0,
            granted: BTreeSet::new(),
            idle: Vec::new(),
            threads: Vec::new(),
            is_closed: false,
            watchers: Vec::new(),
        }
    }

    fn has_room(&self) -> bool {
        self.jobs.len() + self.granted.len() < self.queue_max
    }

    /// Puts a job into the queue, if there is room or room was kept for it.
    ///
    /// # Errors
    ///
    /// The job, when the queue is full.
    pub(super) fn submit(
        &mut self,
        job: Box<dyn Job>,
        ticket: Option<Ticket>,
    ) -> Result<(JobNumber, Start), Box<dyn Job>> {
        let has_kept_room = ticket.is_some_and(|ticket| self.granted.remove(&ticket));
        if !has_kept_room && !self.has_room() {
            return Err(job);
        }
        let number = self.next_job;
        self.next_job += 1;
        self.jobs.insert(number, job);
        let start = match self.idle.pop() {
            Some((_, thread)) => Start::Unpark(thread),
            None => match self.free_number() {
                Some(number) => {
                    self.threads[number] = true;
                    Start::Spawn(number)
                }
                None => Start::Nothing,
            },
        };
        Ok((number, start))
    }

    fn free_number(&mut self) -> Option<usize> {
        if let Some(number) = self.threads.iter().position(|taken| !taken) {
            return Some(number);
        }
        (self.threads.len() < self.threads_max).then(|| {
            self.threads.push(false);
            self.threads.len() - 1
        })
    }

    /// Waits in line, or goes on doing so with another waker. The waker that was there before comes back.
    pub(super) fn stand_in_line(&mut self, ticket: &mut Option<Ticket>, waker: Waker) -> Option<Waker> {
        let place = *ticket.get_or_insert_with(|| {
            self.next_ticket += 1;
            self.next_ticket
        });
        self.line.insert(place, waker)
    }

    /// The submitter is gone. Returns its waker and those that have room now.
    pub(super) fn leave_line(&mut self, ticket: Ticket) -> (Option<Waker>, Vec<Waker>) {
        let waker = self.line.remove(&ticket);
        self.granted.remove(&ticket);
        (waker, self.grant())
    }

    /// The next job.
    pub(super) fn take(&mut self) -> Option<(Box<dyn Job>, Vec<Waker>)> {
        let (_, job) = self.jobs.pop_first()?;
        Some((job, self.grant()))
    }

    /// Takes a job out that nobody wants any more. None: it runs, or it has run.
    pub(super) fn remove(&mut self, number: JobNumber) -> Option<(Box<dyn Job>, Vec<Waker>)> {
        let job = self.jobs.remove(&number)?;
        Some((job, self.grant()))
    }

    /// Keeps room for those in line as far as there is some.
    fn grant(&mut self) -> Vec<Waker> {
        let mut woken = Vec::new();
        while self.has_room()
            && let Some((ticket, waker)) = self.line.pop_first()
        {
            self.granted.insert(ticket);
            woken.push(waker);
        }
        woken
    }

    /// A thread found nothing to do.
    pub(super) fn lie_down(&mut self, number: usize, thread: Thread) {
        self.idle.push((number, thread));
    }

    /// Whether the thread still sleeps as far as submitters know; if not, there is a job for it or was.
    pub(super) fn is_idle(&self, number: usize) -> bool {
        self.idle.iter().any(|(of, _)| *of == number)
    }

    /// A thread ends, or could not be started. Returns who waited for the last one.
    pub(super) fn leave(&mut self, number: usize) -> Vec<Waker> {
        self.idle.retain(|(of, _)| *of != number);
        self.threads[number] = false;
        if self.threads() == 0 { std::mem::take(&mut self.watchers) } else { Vec::new() }
    }

    /// No thread could be had, and none is there: every job in the queue is given up.
    pub(super) fn give_up(&mut self) -> (Vec<Box<dyn Job>>, Vec<Waker>) {
        let jobs = std::mem::take(&mut self.jobs).into_values().collect();
        (jobs, self.grant())
    }

    /// The pool was dropped. Returns the threads that sleep.
    pub(super) fn close(&mut self) -> Vec<(usize, Thread)> {
        self.is_closed = true;
        std::mem::take(&mut self.idle)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// Registers for the end of the last thread.
    ///
    /// # Errors
    ///
    /// The waker, when it is not needed: because there is no thread (`Ready`), or it is known already.
    pub(super) fn watch_end(&mut self, waker: Waker) -> Result<(), (Poll<()>, Waker)> {
        if self.threads() == 0 {
            return Err((Poll::Ready(()), waker));
        }
        if self.watchers.iter().any(|known| known.will_wake(&waker)) {
            return Err((Poll::Pending, waker));
        }
        self.watchers.push(waker);
        Ok(())
    }

    /// Threads that live or are being started.
    pub(super) fn threads(&self) -> usize {
        self.threads.iter().filter(|taken| **taken).count()
    }

    /// Jobs that no thread has taken.
    pub(super) fn len(&self) -> usize {
        self.jobs.len()
    }
}
