//! Who listens for signals on this loop. Marks are set by signal handlers, on any thread, which then ring the doorbell.

#![deny(unsafe_code)]

use std::cell::RefCell;
use std::sync::Arc;
use std::task::Waker;

use super::{Remote, Shard};
use crate::executor::inbox::Doorbell as _;
use crate::signal::Mark;
use crate::socket::Wakes;

/// Which listener of its loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ListenerId(usize);

#[derive(Debug)]
struct Listener {
    mark: Mark,
    waiter: Option<Waker>,
}

/// The listeners of a loop, as many as the program makes.
#[derive(Debug, Default)]
pub(crate) struct Signals(RefCell<Vec<Option<Listener>>>);

impl Signals {
    pub(crate) fn insert(&self, mark: Mark) -> ListenerId {
        let mut listeners = self.0.borrow_mut();
        let entry = Some(Listener { mark, waiter: None });
        match listeners.iter().position(Option::is_none) {
            Some(free) => {
                listeners[free] = entry;
                ListenerId(free)
            }
            None => {
                listeners.push(entry);
                ListenerId(listeners.len() - 1)
            }
        }
    }

    /// Registers who waits. The waker that was there before comes back.
    ///
    /// A signal that comes after the mark was found unset has rung the doorbell after it too, so the next turn sees it.
    pub(crate) fn wait(&self, id: ListenerId, waker: Waker) -> Option<Waker> {
        let mut listeners = self.0.borrow_mut();
        listeners[id.0].as_mut().expect("a listener lives as long as its handle").waiter.replace(waker)
    }

    /// Forgets a listener. Returns its waker, to be dropped when nothing is borrowed.
    pub(crate) fn remove(&self, id: ListenerId) -> Option<Waker> {
        self.0.borrow_mut()[id.0].take().and_then(|listener| listener.waiter)
    }

    /// The doorbell rang: wakes those whose signal came.
    pub(super) fn collect(&self, wakes: &mut Wakes) {
        for listener in self.0.borrow_mut().iter_mut().flatten() {
            if listener.mark.is_set() {
                wakes.push(&mut listener.waiter);
            }
        }
    }

    /// Listeners that live.
    pub(crate) fn len(&self) -> usize {
        self.0.borrow().iter().flatten().count()
    }
}

/// The doorbell of a loop, for signal handlers.
#[derive(Debug)]
pub(crate) struct LoopBell(Arc<Remote>);

impl Shard {
    /// The doorbell, to be rung whenever something happens that is not in the inbox.
    pub(crate) fn doorbell(&self) -> LoopBell {
        LoopBell(Arc::clone(&self.remote))
    }
}

impl crate::signal::Bell for LoopBell {
    fn ring_in_handler(&self) {
        // One write(2) to an eventfd that does not block, made without libc and hence without errno. A loop that is awake
        // sees it when it enters the kernel next.
        self.0.inbox.doorbell().ring();
    }
}
