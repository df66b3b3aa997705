//! What one core has under way to another: parcels that did not fit into the queue yet, and calls that wait for their result.
//!
//! A call's life at the core that made it:
//!
//! ```text
//!           begin              finish                  poll
//!   (free) -------> Waiting ------------> Done -------------------> (free)
//!                    |   |  the core ended                ^  poll
//!                    |   '----------------> Lost ---------'
//!                    | drop, detach
//!                    '--> Abandoned --- finish, or the core ended ---> (free)
//! ```
//!
//! What it does not do: wake or drop anything of the user's. What is to be dropped or woken is handed back, because the table
//! is borrowed here.

use std::collections::VecDeque;
use std::mem;
use std::rc::Rc;
use std::task::{Poll, Waker};

use super::call::{Job, Parcel, Ticket};
use super::lobby::{Peer, Ring};
use super::ring::{Producer, Refused};
use crate::panics::drop_quietly;
use crate::shard::TimeHold;
use crate::sync::Semaphore;

/// Calls from one core to another that are under way; beyond it callers wait in line.
pub(super) const CALLS_MAX: usize = 1024;

/// One direction between two cores.
#[derive(Debug)]
pub(super) struct Outgoing {
    lane: Producer<Parcel>,
    /// Behind a full lane. Bounded by the calls: each sends itself and at most one abort, and is answered once.
    overflow: VecDeque<Parcel>,
    peer: Peer,
    /// Something was put into the lane since the last ring.
    pushed: bool,
    calls: Vec<Call>,
    free: Vec<Ticket>,
    /// A permit for each call that may still begin.
    pub(super) room: Rc<Semaphore>,
}

#[derive(Debug)]
enum Call {
    Free,
    Waiting {
        waker: Option<Waker>,
        /// A virtual clock stands still until the result is there.
        _hold: Option<TimeHold>,
    },
    Done(Box<dyn Job>),
    Lost,
    Abandoned,
}

/// What is to be dropped, or woken, once nothing is borrowed.
#[derive(Debug, Default)]
pub(super) struct Leftovers {
    pub(super) wakers: Vec<Waker>,
    /// Only dropped.
    parcels: Vec<Parcel>,
}

impl Leftovers {
    pub(super) fn settle(self) {
        self.parcels.into_iter().for_each(drop_quietly);
        self.wakers.into_iter().for_each(Waker::wake);
    }
}

impl Outgoing {
    pub(super) fn new(lane: Producer<Parcel>, peer: Peer) -> Self {
        Outgoing {
            lane,
            overflow: VecDeque::new(),
            peer,
            pushed: false,
            calls: Vec::new(),
            free: Vec::new(),
            room: Rc::new(Semaphore::new(CALLS_MAX)),
        }
    }

    /// Whether the core at the other end has ended.
    pub(super) fn is_gone(&self) -> bool {
        self.lane.is_gone()
    }

    /// Sends a parcel, or keeps it until there is room.
    ///
    /// # Errors
    ///
    /// The parcel, when the other core has ended.
    pub(super) fn push(&mut self, parcel: Parcel) -> Result<(), Parcel> {
        if self.overflow.is_empty() {
            match self.lane.push(parcel) {
                Ok(()) => self.pushed = true,
                Err(Refused::Gone(parcel)) => return Err(parcel),
                Err(Refused::Full(parcel)) => {
                    self.overflow.push_back(parcel);
                    self.lane.set_waits(true);
                }
            }
        } else if self.is_gone() {
            return Err(parcel);
        } else {
            self.overflow.push_back(parcel);
        }
        Ok(())
    }

    /// Sends on what did not fit. True if that was something.
    pub(super) fn send_on(&mut self) -> bool {
        if self.overflow.is_empty() || !self.lane.has_room() {
            return false;
        }
        while let Some(parcel) = self.overflow.pop_front() {
            match self.lane.push(parcel) {
                Ok(()) => self.pushed = true,
                Err(Refused::Full(parcel) | Refused::Gone(parcel)) => {
                    self.overflow.push_front(parcel);
                    break;
                }
            }
        }
        if self.overflow.is_empty() {
            self.lane.set_waits(false);
        }
        true
    }

    /// Whether [`send_on`](Self::send_on) would do something.
    pub(super) fn can_send_on(&mut self) -> bool {
        !self.overflow.is_empty() && self.lane.has_room()
    }

    /// Rings, if something was sent since the last time. The caller has made a sequentially consistent fence since.
    #[inline]
    pub(super) fn ring_behind_fence(&mut self, ring: Ring<'_>) {
        if mem::take(&mut self.pushed) {
            self.peer.nudge_behind_fence(ring);
        }
    }

    /// Files a call that is about to be sent.
    pub(super) fn begin(&mut self, hold: Option<TimeHold>) -> Ticket {
        let call = Call::Waiting { waker: None, _hold: hold };
        match self.free.pop() {
            Some(ticket) => {
                self.calls[ticket as usize] = call;
                ticket
            }
            None => {
                self.calls.push(call);
                (self.calls.len() - 1) as Ticket
            }
        }
    }

    /// A call could not be sent.
    pub(super) fn withdraw(&mut self, ticket: Ticket) {
        self.free(ticket);
    }

    fn free(&mut self, ticket: Ticket) {
        self.calls[ticket as usize] = Call::Free;
        self.free.push(ticket);
    }

    /// A call has its result. Gives who is to be woken, or the result if nobody wants it and the call is over.
    pub(super) fn finish(&mut self, ticket: Ticket, job: Box<dyn Job>) -> Finished {
        match mem::replace(&mut self.calls[ticket as usize], Call::Free) {
            Call::Waiting { waker, .. } => {
                self.calls[ticket as usize] = Call::Done(job);
                Finished::Wake(waker)
            }
            Call::Abandoned => {
                self.free.push(ticket);
                Finished::Unwanted(job)
            }
            other => unreachable!("a call is answered once: {other:?}"),
        }
    }

    /// The result of a call, an error if its core ended before it began. The old waker comes back in `old`.
    pub(super) fn poll(
        &mut self,
        ticket: Ticket,
        new: Waker,
        old: &mut Option<Waker>,
    ) -> Poll<Option<Box<dyn Job>>> {
        match &mut self.calls[ticket as usize] {
            Call::Waiting { waker, .. } => {
                *old = waker.replace(new);
                return Poll::Pending;
            }
            Call::Done(_) | Call::Lost => {}
            other => unreachable!("its future is there: {other:?}"),
        }
        *old = Some(new);
        let call = mem::replace(&mut self.calls[ticket as usize], Call::Free);
        self.free(ticket);
        Poll::Ready(if let Call::Done(job) = call { Some(job) } else { None })
    }

    /// Nobody will ask for the result of a call. Gives what it left, if it is over.
    pub(super) fn abandon(&mut self, ticket: Ticket) -> Abandoned {
        match mem::replace(&mut self.calls[ticket as usize], Call::Abandoned) {
            Call::Waiting { waker, .. } => Abandoned::UnderWay(waker),
            Call::Done(job) => {
                self.free(ticket);
                Abandoned::Over(Some(job))
            }
            _ => {
                self.free(ticket);
                Abandoned::Over(None)
            }
        }
    }

    /// The other core has ended: no call will be answered any more. To be called when its last answers were taken.
    pub(super) fn lose_calls(&mut self) -> Leftovers {
        let mut leftovers = Leftovers::default();
        for ticket in 0..self.calls.len() {
            match &mut self.calls[ticket] {
                Call::Waiting { waker, .. } => {
                    leftovers.wakers.extend(waker.take());
                    self.calls[ticket] = Call::Lost;
                }
                Call::Abandoned => self.free(ticket as Ticket),
                Call::Free | Call::Done(_) | Call::Lost => {}
            }
        }
        leftovers.parcels.extend(self.overflow.drain(..));
        leftovers.parcels.extend(std::iter::from_fn(|| self.lane.take_back()));
        leftovers
    }

    /// Whether a call still has its place in the table.
    pub(super) fn is_idle(&self) -> bool {
        self.free.len() == self.calls.len()
    }
}

/// See [`Outgoing::finish`].
pub(super) enum Finished {
    Wake(Option<Waker>),
    Unwanted(Box<dyn Job>),
}

/// See [`Outgoing::abandon`].
pub(super) enum Abandoned {
    /// It is still with the other core.
    UnderWay(Option<Waker>),
    /// It was done already; its place is free.
    Over(Option<Box<dyn Job>>),
}
