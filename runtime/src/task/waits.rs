//! What a task waits for: a note that a future leaves when it returns Pending, for the task dump.
//!
//! It costs a few plain stores a poll: a future that waits overwrites the thread's note, and after the poll the executor
//! copies it into the task. It wakes nobody and owns nothing. Of several futures that one task awaits at a time (a
//! select, a gather) the one that was polled last is named.

use std::cell::Cell;
use std::fmt;
use std::os::fd::RawFd;

use super::Id;

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
    /// The note of the poll that runs on this thread.
    static NOTED: Cell<WaitsFor> = const { Cell::new(WaitsFor::Other) };
}

/// Leaves a note of what the task that is being polled waits for. Called by a future that returns Pending; outside of a
/// poll it does nothing of use and no harm.
#[inline]
pub(crate) fn note(what: WaitsFor) {
    NOTED.set(what);
}

/// Before a poll: nothing is noted.
#[inline]
pub(crate) fn clear() {
    NOTED.set(WaitsFor::Other);
}

/// After a poll: what was noted.
#[inline]
pub(crate) fn noted() -> WaitsFor {
    NOTED.get()
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn the_last_note_counts_until_it_is_cleared() {
        note(WaitsFor::Lock("Mutex"));
        note(WaitsFor::Blocking);
        assert_eq!(noted(), WaitsFor::Blocking);
        clear();
        assert_eq!(noted(), WaitsFor::Other);
    }
}
