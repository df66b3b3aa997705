//! The sockets of one core: a slot each, with its receive queue, its two send buffers and who waits.
//!
//! Futures hold a [`SocketId`]; everything the kernel may touch lives here or in the buffer pool, so a future can be
//! dropped at any await point. A slot is reused only when the kernel holds nothing of it any more:
//!
//! ```text
//!            insert                    release                    last completion
//!   (free) ----------> Open ------------------------> Closing ----------------------> (free)
//!                       |  receive: receive.rs            |  1. stop receiving, give buffers back
//!                       |  send:    send.rs               |  2. let gathered bytes leave (bounded in time)
//!                       |                                 |  3. close the descriptor: close.rs
//! ```
//!
//! Listeners have a table of their own in `listener`.
//!
//! Architecture invariant: no waker is woken or dropped here; they are collected in [`Wakes`] and woken by the shard
//! when nothing is borrowed.

mod close;
mod datagram;
mod listener;
mod owned;
mod receive;
mod send;
mod table;
mod zero_copy;

use std::task::Waker;

use bytes::Bytes;

use crate::driver::Driver;
use crate::op::BufferPool;
use crate::time::{TimerKey, Timers};

pub(crate) use datagram::{Envelope, NAME_BYTES as DATAGRAM_NAME_BYTES};
pub(crate) use listener::{ListenerId, Listeners};
pub(crate) use owned::NotOwned;
pub(crate) use receive::Received;
pub(crate) use send::{NotLent, SEND_HIGH_WATER};
pub(crate) use table::{SocketId, Sockets};

/// What a socket needs from the rest of its shard.
pub(crate) struct Context<'a> {
    pub(crate) driver: &'a mut Driver,
    pub(crate) pool: &'a BufferPool,
    pub(crate) timers: &'a mut Timers,
    pub(crate) wakes: &'a mut Wakes,
    /// Nanoseconds of the shard's clock.
    pub(crate) now: u64,
}

/// Wakers that are due; woken by the shard once no table is borrowed, because a waker may run any code.
#[derive(Debug, Default)]
pub(crate) struct Wakes {
    wakers: Vec<Waker>,
    /// Bytes of users that have left: to be dropped then, too.
    sent: Vec<Bytes>,
}

impl Wakes {
    #[inline]
    pub(crate) fn push(&mut self, waiter: &mut Option<Waker>) {
        if let Some(waker) = waiter.take() {
            self.wakers.push(waker);
        }
    }

    pub(crate) fn take(&mut self) -> Vec<Waker> {
        std::mem::take(&mut self.wakers)
    }

    pub(crate) fn push_sent(&mut self, bytes: Option<Bytes>) {
        self.sent.extend(bytes);
    }

    /// Bytes to drop, if there are any.
    #[inline]
    pub(crate) fn take_sent(&mut self) -> Option<Vec<Bytes>> {
        (!self.sent.is_empty()).then(|| std::mem::take(&mut self.sent))
    }

    /// Gives the vector back, as [`put_back`](Self::put_back) does.
    pub(crate) fn put_back_sent(&mut self, mut sent: Vec<Bytes>) {
        debug_assert!(sent.is_empty());
        if self.sent.is_empty() {
            std::mem::swap(&mut self.sent, &mut sent);
        }
    }

    /// Gives the emptied vector back, so that it is not allocated anew each turn.
    pub(crate) fn put_back(&mut self, mut wakers: Vec<Waker>) {
        wakers.clear();
        if self.wakers.is_empty() {
            self.wakers = wakers;
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.wakers.is_empty() && self.sent.is_empty()
    }
}

/// A deadline of a socket or listener in the core's wheel.
pub(crate) type ArmedTimer = Option<TimerKey>;
