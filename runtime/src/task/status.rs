//! How a task is, in 24 bytes: the executor's marks, and what the task dump tells.
//!
//! Every task has one in its cell and the main future has one too, so each byte counts: of a waiting task it is the larger
//! part of what the runtime keeps beside the future.

#![allow(unsafe_code)]

use std::cell::Cell;
use std::os::fd::RawFd;

use super::{Id, TaskId, WaitsFor};
use crate::shard::ShardKey;

/// See the module.
#[derive(Debug)]
pub(crate) struct Status {
    /// When the last poll began, by the loop's clock; when the task was spawned, before that.
    pub(crate) polled_at: Cell<u64>,
    /// What the last poll waited for, with the next three: the start of a name, a deadline or a task, by `kind`.
    ///
    /// INVARIANT: where `kind` has a name, this and `len` are of a `&'static str`.
    word: Cell<*const u8>,
    fd: Cell<RawFd>,
    len: Cell<u8>,
    kind: Cell<Kind>,
    /// Where it is in its life.
    pub(crate) phase: Cell<Phase>,
    /// `JOINED`, `ABORTED`.
    marks: Cell<u8>,
}

/// A handle will come for the result.
const JOINED: u8 = 1;
/// The future is to be dropped instead of polled.
const ABORTED: u8 = 2;

/// Where a task is in its life, as its cell sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Its future is there and nobody is at it.
    Waiting,
    /// Its future is being polled or dropped: then it cannot be dropped.
    Busy,
    /// Its future is gone, the result is there or was taken.
    Finished,
}

/// The kinds of [`WaitsFor`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Other,
    Operation,
    Readiness,
    Timer,
    Lock,
    Channel,
    Task,
    Blocking,
}

impl Status {
    /// Of a task that was spawned at `now` and has a handle.
    #[inline]
    pub(crate) const fn new(now: u64) -> Self {
        Status {
            polled_at: Cell::new(now),
            word: Cell::new(std::ptr::null()),
            fd: Cell::new(0),
            len: Cell::new(0),
            kind: Cell::new(Kind::Other),
            phase: Cell::new(Phase::Waiting),
            marks: Cell::new(JOINED),
        }
    }

    #[inline]
    pub(crate) fn is_finished(&self) -> bool {
        self.phase.get() == Phase::Finished
    }

    /// Whether a handle will come for the result.
    #[inline]
    pub(crate) fn is_joined(&self) -> bool {
        self.marks.get() & JOINED != 0
    }

    /// No handle will come any more.
    pub(crate) fn detach(&self) {
        self.marks.set(self.marks.get() & !JOINED);
    }

    /// Whether the future is to be dropped instead of polled.
    #[inline]
    pub(crate) fn is_aborted(&self) -> bool {
        self.marks.get() & ABORTED != 0
    }

    /// The future is to be dropped instead of polled.
    pub(crate) fn abort(&self) {
        self.marks.set(self.marks.get() | ABORTED);
    }

    /// Before a poll: nothing is noted.
    #[inline]
    pub(crate) fn clear_note(&self) {
        self.kind.set(Kind::Other);
    }

    /// Keeps what is waited for. A name of more than 255 bytes is not kept.
    #[inline]
    pub(crate) fn note(&self, what: WaitsFor) {
        let number = |number: u64| self.word.set(std::ptr::without_provenance(number as usize));
        let name = |name: &'static str| {
            self.word.set(name.as_ptr());
            self.len.set(name.len() as u8);
            name.len() <= usize::from(u8::MAX)
        };
        let kind = match what {
            WaitsFor::Operation { name: of, fd } if name(of) => {
                self.fd.set(fd);
                Kind::Operation
            }
            WaitsFor::Readiness { fd } => {
                self.fd.set(fd);
                Kind::Readiness
            }
            WaitsFor::Timer { deadline_ns } => {
                number(deadline_ns);
                Kind::Timer
            }
            WaitsFor::Lock(of) if name(of) => Kind::Lock,
            WaitsFor::Channel(of) if name(of) => Kind::Channel,
            WaitsFor::Task(id) => {
                number(id.task.word());
                Kind::Task
            }
            WaitsFor::Blocking => Kind::Blocking,
            _ => Kind::Other,
        };
        self.kind.set(kind);
    }

    /// What is waited for, as it was noted. Tasks wait for tasks of their own `shard` only.
    pub(crate) fn waits(&self, shard: ShardKey) -> WaitsFor {
        let word = self.word.get();
        let name = || {
            // SAFETY: called for kinds with a name only, so these are the parts of a `&'static str` (the invariant).
            unsafe {
                std::str::from_utf8_unchecked(std::slice::from_raw_parts(word, usize::from(self.len.get())))
            }
        };
        match self.kind.get() {
            Kind::Other => WaitsFor::Other,
            Kind::Operation => WaitsFor::Operation { name: name(), fd: self.fd.get() },
            Kind::Readiness => WaitsFor::Readiness { fd: self.fd.get() },
            Kind::Timer => WaitsFor::Timer { deadline_ns: word.addr() as u64 },
            Kind::Lock => WaitsFor::Lock(name()),
            Kind::Channel => WaitsFor::Channel(name()),
            Kind::Task => WaitsFor::Task(Id { shard, task: TaskId::from_word(word.addr() as u64) }),
            Kind::Blocking => WaitsFor::Blocking,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::ShardId;

    #[test]
    fn what_was_noted_comes_back() {
        let shard = ShardKey::new(ShardId(3), 7);
        let check = |what: WaitsFor, expected: WaitsFor| {
            let status = Status::new(1);
            // Something larger before it: nothing of that may stay.
            status.note(WaitsFor::Operation { name: "another", fd: 99 });
            status.note(what);
            assert_eq!(status.waits(shard), expected);
            status.clear_note();
            assert_eq!(status.waits(shard), WaitsFor::Other);
        };
        for what in [
            WaitsFor::Other,
            WaitsFor::Operation { name: "recv", fd: 7 },
            WaitsFor::Operation { name: "", fd: -1 },
            WaitsFor::Readiness { fd: 3 },
            WaitsFor::Timer { deadline_ns: u64::MAX },
            WaitsFor::Lock("Mutex"),
            WaitsFor::Channel("oneshot (closed)"),
            WaitsFor::Task(Id { shard, task: TaskId::new(super::super::id::SLOT_MAX, 5) }),
            WaitsFor::Blocking,
        ] {
            check(what, what);
        }
        static LONG: [u8; 256] = [b'x'; 256];
        let long = std::str::from_utf8(&LONG).unwrap();
        check(WaitsFor::Lock(&long[..255]), WaitsFor::Lock(&long[..255]));
        check(WaitsFor::Lock(long), WaitsFor::Other);
    }

    #[test]
    fn marks_are_independent() {
        let status = Status::new(0);
        assert!(status.is_joined() && !status.is_aborted() && !status.is_finished());
        status.abort();
        assert!(status.is_joined() && status.is_aborted());
        status.detach();
        assert!(!status.is_joined() && status.is_aborted());
    }

    #[test]
    fn it_is_small() {
        assert_eq!(size_of::<Status>(), 24);
    }
}
