//! What a task waits for: a note that a future leaves when it returns Pending, for the task dump.
//!
//! It costs a few plain stores a poll: before it the executor says where the note is to go, and a future that waits writes
//! it there. It wakes nobody and owns nothing. Of several futures that one task awaits at a time (a
//! select, a gather) the one that was polled last is named.

#![allow(unsafe_code)]

use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
use std::os::fd::RawFd;
use std::ptr;

use super::Id;
use super::status::Status;

/// What a task waits for, as its last poll left it; part of a [`Dump`](super::Dump).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum WaitsFor {
    /// Something that left no note: a future of another crate, a yield.
    #[default]
    Other,
    /// A kernel operation: `accept`, `recv`, `connect`. A descriptor of -1 stands for none.
    Operation {
        /// The operation's name.
        name: &'static str,
        /// The descriptor that it works on.
        fd: RawFd,
    },
    /// A descriptor that is to become readable or writable.
    Readiness {
        /// The descriptor.
        fd: RawFd,
    },
    /// A timer.
    Timer {
        /// When it fires, in nanoseconds of CLOCK_MONOTONIC (or of the virtual clock); `u64::MAX` for never.
        deadline_ns: u64,
    },
    /// A lock or something like it, by its type's name: `Mutex`, `Semaphore`.
    Lock(&'static str),
    /// A channel, by its type's name: `oneshot`, `mpsc`.
    Channel(&'static str),
    /// Another task.
    Task(Id),
    /// Work on a thread outside of the loop.
    Blocking,
}

impl fmt::Display for WaitsFor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WaitsFor::Other => f.write_str("something without a name"),
            WaitsFor::Operation { name, fd: -1 } => f.write_str(name),
            WaitsFor::Operation { name, fd } => write!(f, "{name} on descriptor {fd}"),
            WaitsFor::Readiness { fd } => write!(f, "readiness of descriptor {fd}"),
            WaitsFor::Timer { deadline_ns: u64::MAX } => f.write_str("a timer that never fires"),
            WaitsFor::Timer { .. } => f.write_str("a timer"),
            WaitsFor::Lock(name) => write!(f, "lock {name}"),
            WaitsFor::Channel(name) => write!(f, "channel {name}"),
            WaitsFor::Task(id) => write!(f, "task {id}"),
            WaitsFor::Blocking => f.write_str("a blocking thread"),
        }
    }
}

thread_local! {
    /// Where the note of the poll that runs on this thread goes. Null where there is none.
    ///
    /// INVARIANT: null, or set by a [`Noting`] that lives, to a status that it borrows.
    static STATUS: Cell<*const Status> = const { Cell::new(ptr::null()) };
}

/// Leaves a note of what the task that is being polled waits for. Called by a future that returns Pending; outside of a
/// poll it does nothing.
#[inline]
pub(crate) fn note(what: WaitsFor) {
    // SAFETY: the invariant; statuses are only shared, their fields are cells.
    if let Some(status) = unsafe { STATUS.get().as_ref() } {
        status.note(what);
    }
}

/// The time of a poll, in which notes go to a status.
#[derive(Debug)]
pub(crate) struct Noting<'a>(PhantomData<&'a Status>);

impl<'a> Noting<'a> {
    /// Nothing is noted yet.
    #[inline]
    pub(crate) fn to(status: &'a Status) -> Self {
        status.clear_note();
        STATUS.set(status);
        Noting(PhantomData)
    }
}

impl Drop for Noting<'_> {
    #[inline]
    fn drop(&mut self) {
        STATUS.set(ptr::null());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::{ShardId, ShardKey};

    #[test]
    fn a_note_has_words() {
        let check = |what: WaitsFor, words: &str| assert_eq!(what.to_string(), words);
        check(WaitsFor::Operation { name: "recv", fd: 7 }, "recv on descriptor 7");
        check(WaitsFor::Operation { name: "waitid", fd: -1 }, "waitid");
        check(WaitsFor::Readiness { fd: 3 }, "readiness of descriptor 3");
        check(WaitsFor::Timer { deadline_ns: 1 }, "a timer");
        check(WaitsFor::Timer { deadline_ns: u64::MAX }, "a timer that never fires");
        check(WaitsFor::Lock("Mutex"), "lock Mutex");
        check(WaitsFor::Channel("oneshot"), "channel oneshot");
        check(WaitsFor::Blocking, "a blocking thread");
        check(WaitsFor::Other, "something without a name");
    }

    #[test]
    fn the_last_note_of_a_poll_counts() {
        let shard = ShardKey::new(ShardId(0), 0);
        let status = Status::new(0);
        note(WaitsFor::Lock("nobody is polled"));
        assert_eq!(status.waits(shard), WaitsFor::Other);
        let noting = Noting::to(&status);
        note(WaitsFor::Lock("Mutex"));
        note(WaitsFor::Blocking);
        drop(noting);
        note(WaitsFor::Lock("the poll is over"));
        assert_eq!(status.waits(shard), WaitsFor::Blocking);
        drop(Noting::to(&status));
        assert_eq!(status.waits(shard), WaitsFor::Other);
    }
}
