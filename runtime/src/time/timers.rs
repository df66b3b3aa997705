//! The core's timers: one wheel for tasks, sockets and listeners.

use std::task::Waker;

use super::wheel::{TimerKey, Wheel};
use crate::socket::{ListenerId, SocketId};

/// Who is told when a deadline passes.
#[derive(Debug)]
pub(crate) enum TimerTarget {
    Waker(Waker),
    Socket(SocketId),
    Listener(ListenerId),
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Timers {
    wheel: Wheel<TimerTarget>,
    /// What fired, between `expire` and `put_back`; kept for its memory.
    due: Vec<TimerTarget>,
}

impl Default for Timers {
    fn default() -> Self {
        Timers { wheel: Wheel::new(), due: Vec::new() }
    }
}

impl Timers {
    pub(crate) fn insert_waker(&mut self, at: u64, waker: Waker) -> TimerKey {
        self.wheel.insert(at, TimerTarget::Waker(waker))
    }

    pub(crate) fn insert_socket(&mut self, at: u64, id: SocketId) -> TimerKey {
        self.wheel.insert(at, TimerTarget::Socket(id))
    }

    pub(crate) fn insert_listener(&mut self, at: u64, id: ListenerId) -> TimerKey {
        self.wheel.insert(at, TimerTarget::Listener(id))
    }

    /// Replaces the waker of an entry that has not fired; gives `waker` back if it has, and the old one if not.
    pub(crate) fn replace_waker(&mut self, key: TimerKey, waker: Waker) -> Result<Waker, Waker> {
        match self.wheel.value_mut(key) {
            Some(TimerTarget::Waker(slot)) => Ok(std::mem::replace(slot, waker)),
            _ => Err(waker),
        }
    }

    pub(crate) fn remove(&mut self, key: TimerKey) -> Option<TimerTarget> {
        self.wheel.remove(key)
    }

    /// When the wheel must be looked at next.
    #[inline]
    pub(crate) fn next_deadline(&mut self) -> Option<u64> {
        self.wheel.next_deadline()
    }

    /// Takes out what is due at `now`; give the emptied vector back with [`put_back`](Self::put_back).
    #[inline]
    pub(crate) fn expire(&mut self, now: u64) -> Vec<TimerTarget> {
        let mut due = std::mem::take(&mut self.due);
        self.wheel.expire(now, &mut due);
        due
    }

    pub(crate) fn put_back(&mut self, due: Vec<TimerTarget>) {
        debug_assert!(due.is_empty());
        self.due = due;
    }

    pub(crate) fn len(&self) -> usize {
        self.wheel.len()
    }
}
