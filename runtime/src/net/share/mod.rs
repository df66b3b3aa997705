//! How the cores that listen on one address share its connections: the policy, the counts, and the hand-over.
//!
//! Counts are atomic and change once a connection, not once a request. What is handed over is a descriptor that no operation
//! of a ring was armed on. It lies on the desk of the chosen core and address until the listener there takes it; a listener that
//! closes takes what lies there along, and what one leaves behind (its loop has panicked) goes to another core, or waits for the
//! worker that takes its place. So a desk outlives its listeners, and what lies on it is nobody's but the desk's.
//!
//! Here is a listener's share. `policy` says which core is wanted, `group` is what the cores have in common and `counted` one
//! connection's place in it, `connections` what users see.

mod connections;
mod counted;
mod group;
mod policy;
#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

pub use self::connections::Connections;
pub(crate) use self::connections::skew;
pub(crate) use self::counted::Counted;
pub(crate) use self::group::Group;
use self::group::{Connection, bit_of};
pub use self::policy::AcceptPolicy;

/// A listener's share in the group: what other cores have handed to it, and what it hands over.
pub(crate) struct Share {
    group: Arc<Group>,
    /// Distinguishes it from others of its core and address, which were there before it or come after it.
    number: u64,
    core: usize,
    /// Which of the addresses it is: a connection is handed to the listener of the same one.
    address: usize,
    /// Whether it takes connections over.
    is_open: Cell<bool>,
    /// What lay on its desk when it closed.
    left: RefCell<VecDeque<Connection>>,
    /// One that was accepted here when the last place had just been taken.
    parked: Cell<Option<OwnedFd>>,
}

/// What becomes of a connection that was accepted here.
pub(in crate::net) enum Placed {
    Here(OwnedFd, Box<Counted>),
    Elsewhere,
    /// All cores are full; it is kept until there is room.
    Parked,
}

impl Share {
    /// Enters a listener of this core. It takes over what another one of the same core and address was given and did not take.
    pub(crate) fn enter(group: &Arc<Group>, core: usize, address: usize) -> Rc<Self> {
        let share = Rc::new(Share {
            group: Arc::clone(group),
            number: group.next.fetch_add(1, Ordering::Relaxed),
            core,
            address,
            is_open: Cell::new(false),
            left: RefCell::default(),
            parked: Cell::new(None),
        });
        share.open();
        share
    }

    /// Takes connections over from now on.
    pub(in crate::net) fn open(&self) {
        if !self.is_open.replace(true) {
            self.group.open(self.core, self.address, self.number);
        }
    }

    /// The connection for which there was no room, to be placed anew.
    pub(in crate::net) fn unpark(&self) -> Option<OwnedFd> {
        self.parked.take()
    }

    /// A connection that is served here without a choice.
    pub(in crate::net) fn keep(&self) -> Box<Counted> {
        self.served(self.group.count(self.core))
    }

    /// Takes no more over; what has come is still to be taken.
    pub(in crate::net) fn close(&self) {
        if self.is_open.replace(false) {
            self.left.borrow_mut().extend(self.group.close(self.core, self.address, self.number));
            self.group.wait_no_more(self.number);
        }
    }

    /// Whether its listener is one of those that the kernel chooses from by the receiving core, and leaves them with its socket.
    pub(in crate::net) fn is_steered(&self) -> bool {
        self.group.policy == AcceptPolicy::Steer && !self.group.is_watched
    }

    /// The next connection that another core has handed over; registers the task if there is none.
    pub(in crate::net) fn poll_take(&self, cx: &Context<'_>) -> Poll<Connection> {
        if let Some(left) = self.take_left() {
            return Poll::Ready(left);
        }
        let new = cx.waker().clone();
        let mut reopened = false;
        let (taken, old) = self.group.desk(self.core, self.address, |desk| {
            if desk.owner.is_none() {
                // Who came after this one has left before it.
                desk.owner = Some(self.number);
                self.group.seats[self.core].open.fetch_or(bit_of(self.address), Ordering::SeqCst);
                reopened = true;
            }
            if desk.owner != Some(self.number) {
                return (None, Some(new));
            }
            match desk.connections.pop_front() {
                Some(connection) => (Some(connection), Some(new)),
                None => (None, desk.waker.replace(new)),
            }
        });
        // Without the lock: a waker may be anybody's.
        drop(old);
        if reopened {
            self.group.wake_waiting();
        }
        match taken {
            Some((fd, counted)) => Poll::Ready((fd, self.served(counted))),
            None => Poll::Pending,
        }
    }

    /// The next of those that lay there when it closed.
    pub(in crate::net) fn take_left(&self) -> Option<Connection> {
        let (fd, counted) = self.left.borrow_mut().pop_front()?;
        Some((fd, self.served(counted)))
    }

    fn served(&self, counted: Box<Counted>) -> Box<Counted> {
        self.group.seats[self.core].served.fetch_add(1, Ordering::Relaxed);
        counted
    }

    /// Ready while there is room on some core; registers the task otherwise.
    pub(in crate::net) fn poll_room(&self, cx: &Context<'_>) -> Poll<()> {
        let Share { group, core, address, number, .. } = self;
        if !group.is_full(*core, *address) || group.wait(*core, *address, *number, cx.waker().clone()) {
            return Poll::Ready(());
        }
        Poll::Pending
    }

    /// Finds a core for a connection that was accepted here.
    pub(in crate::net) fn place(&self, fd: OwnedFd) -> Placed {
        let Some(core) = self.group.choose(self.core, self.address) else {
            self.parked.set(Some(fd));
            return Placed::Parked;
        };
        let counted = Box::new(Counted { group: Arc::clone(&self.group), core });
        if core == self.core {
            return Placed::Here(fd, self.served(counted));
        }
        match self.group.hand_in(core, self.address, (fd, counted)) {
            Ok(()) => {
                self.group.seats[self.core].handed_over.fetch_add(1, Ordering::Relaxed);
                Placed::Elsewhere
            }
            Err((fd, elsewhere)) => {
                // It has stopped listening meanwhile.
                let here = self.keep();
                drop(elsewhere);
                Placed::Here(fd, here)
            }
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.close();
        let left = self.left.take().into_iter().map(|(fd, _counted)| fd);
        for fd in left.chain(self.parked.take()) {
            self.group.find_another(self.core, self.address, fd);
        }
    }
}

impl fmt::Debug for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Share").field("core", &self.core).finish_non_exhaustive()
    }
}
