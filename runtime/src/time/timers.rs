//! The core's timers: one wheel for tasks, sockets and listeners.

#![allow(unsafe_code)]

use std::ptr;
use std::task::{RawWaker, RawWakerVTable, Waker};

use super::wheel::{TimerKey, Wheel};
use crate::socket::{ListenerId, SocketId};

/// Who is told when a deadline passes.
#[derive(Debug)]
pub(crate) enum TimerTarget {
    Waker(Waker),
    Socket(SocketId),
    Listener(ListenerId),
}

/// A [`TimerTarget`] in two words, as the wheel keeps it: a waker, whose table may be one of the two below. Then its data is
/// an id and it wakes nobody. (An enum would need a third word, which is eight bytes for every sleeping task.)
#[derive(Debug)]
pub(crate) struct Filed(Waker);

static SOCKET: RawWakerVTable =
    RawWakerVTable::new(|data| RawWaker::new(data, &SOCKET), |_| {}, |_| {}, |_| {});
static LISTENER: RawWakerVTable =
    RawWakerVTable::new(|data| RawWaker::new(data, &LISTENER), |_| {}, |_| {}, |_| {});

impl From<TimerTarget> for Filed {
    #[inline]
    fn from(target: TimerTarget) -> Self {
        let (table, word) = match target {
            TimerTarget::Waker(waker) => return Filed(waker),
            TimerTarget::Socket(id) => (&SOCKET, id.word()),
            TimerTarget::Listener(id) => (&LISTENER, id.word()),
        };
        let data = ptr::without_provenance(word as usize);
        // SAFETY: the functions of both tables do nothing with the data but copy it, on any thread and in any order.
        Filed(unsafe { Waker::from_raw(RawWaker::new(data, table)) })
    }
}

impl From<Filed> for TimerTarget {
    #[inline]
    fn from(Filed(waker): Filed) -> Self {
        let word = waker.data().addr() as u64;
        if ptr::eq(waker.vtable(), &SOCKET) {
            TimerTarget::Socket(SocketId::from_word(word))
        } else if ptr::eq(waker.vtable(), &LISTENER) {
            TimerTarget::Listener(ListenerId::from_word(word))
        } else {
            TimerTarget::Waker(waker)
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Timers {
    wheel: Wheel<Filed>,
    /// What fired, between `expire` and `put_back`; kept for its memory.
    due: Vec<Filed>,
}

impl Default for Timers {
    fn default() -> Self {
        Timers { wheel: Wheel::new(), due: Vec::new() }
    }
}

impl Timers {
    pub(crate) fn insert_waker(&mut self, at: u64, waker: Waker) -> TimerKey {
        self.wheel.insert(at, Filed(waker))
    }

    pub(crate) fn insert_socket(&mut self, at: u64, id: SocketId) -> TimerKey {
        self.wheel.insert(at, TimerTarget::Socket(id).into())
    }

    pub(crate) fn insert_listener(&mut self, at: u64, id: ListenerId) -> TimerKey {
        self.wheel.insert(at, TimerTarget::Listener(id).into())
    }

    /// Replaces the waker of an entry of a waker that has not fired; gives `waker` back if it has, and the old one if not.
    pub(crate) fn replace_waker(&mut self, key: TimerKey, waker: Waker) -> Result<Waker, Waker> {
        match self.wheel.value_mut(key) {
            Some(Filed(old)) => Ok(std::mem::replace(old, waker)),
            None => Err(waker),
        }
    }

    pub(crate) fn remove(&mut self, key: TimerKey) -> Option<Filed> {
        self.wheel.remove(key)
    }

    /// When the wheel must be looked at next.
    #[inline]
    pub(crate) fn next_deadline(&mut self) -> Option<u64> {
        self.wheel.next_deadline()
    }

    /// Takes out what is due at `now`; give the emptied vector back with [`put_back`](Self::put_back).
    #[inline]
    pub(crate) fn expire(&mut self, now: u64) -> Vec<Filed> {
        let mut due = std::mem::take(&mut self.due);
        self.wheel.expire(now, &mut due);
        due
    }

    pub(crate) fn put_back(&mut self, due: Vec<Filed>) {
        debug_assert!(due.is_empty());
        self.due = due;
    }

    pub(crate) fn len(&self) -> usize {
        self.wheel.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_filed_comes_back() {
        let mut timers = Timers::default();
        let (socket, listener) = (u64::MAX - 1, 7 << 32 | 5);
        timers.insert_socket(1, SocketId::from_word(socket));
        timers.insert_listener(1, ListenerId::from_word(listener));
        let key = timers.insert_waker(1, Waker::noop().clone());
        assert!(timers.replace_waker(key, Waker::noop().clone()).is_ok());
        let found: Vec<TimerTarget> = timers.expire(2000).into_iter().map(TimerTarget::from).collect();
        let [TimerTarget::Socket(first), TimerTarget::Listener(second), TimerTarget::Waker(third)] =
            &found[..]
        else {
            panic!("found {found:?}")
        };
        assert_eq!((first.word(), second.word()), (socket, listener));
        assert!(third.will_wake(Waker::noop()));
        assert!(timers.replace_waker(key, Waker::noop().clone()).is_err(), "it has fired");
        assert_eq!(size_of::<Option<Filed>>(), 16);
    }
}
