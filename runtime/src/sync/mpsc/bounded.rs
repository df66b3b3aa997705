//! The channel with a bound.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll};

use futures_core::Stream;

use super::queue::Queue;
use super::{SendError, TryRecvError, TrySendError};
use crate::sync::permits::{NoPermits, PERMITS_MAX};
use crate::task::waits::WaitsFor;

/// What a task dump calls the wait for room.
const SEND: WaitsFor = WaitsFor::Channel("mpsc (send)");

/// A channel that holds at most `capacity` values; see the [module](super).
///
/// # Panics
///
/// When `capacity` is zero.
#[track_caller]
pub fn channel<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    assert!(
        capacity > 0,
        "an mpsc channel needs a capacity above zero; for a hand-over without a queue take 1, or a oneshot"
    );
    assert!(capacity <= PERMITS_MAX, "an mpsc channel holds at most Semaphore::MAX_PERMITS values");
    let queue = Rc::new(Queue::new(capacity));
    (Sender(Rc::clone(&queue)), Receiver(queue))
}

/// Sends into a bounded channel; cloned for more senders.
pub struct Sender<T>(Rc<Queue<T>>);

impl<T> Sender<T> {
    /// Waits for room and sends `value`.
    ///
    /// # Errors
    ///
    /// [`SendError`] with the value when the receiver is gone or closed.
    ///
    /// # Cancel safety
    ///
    /// A dropped wait has not sent, its value is dropped, and its place in the queue is lost. Await
    /// [`reserve`](Self::reserve) first where the value matters.
    pub async fn send(&self, value: T) -> Result<(), SendError<T>> {
        match self.reserve().await {
            Ok(permit) => {
                permit.send(value);
                Ok(())
            }
            Err(SendError(())) => Err(SendError(value)),
        }
    }

    /// Sends `value` if there is room and nobody waits for it.
    ///
    /// # Errors
    ///
    /// [`TrySendError`] with the value.
    pub fn try_send(&self, value: T) -> Result<(), TrySendError<T>> {
        match self.0.permits.try_acquire(1) {
            Ok(()) => {
                self.0.push(value);
                Ok(())
            }
            Err(NoPermits::Busy) => Err(TrySendError::Full(value)),
            Err(NoPermits::Closed) => Err(TrySendError::Closed(value)),
        }
    }

    /// Waits for room for one value, which is then kept for it.
    ///
    /// # Errors
    ///
    /// [`SendError`] when the receiver is gone or closed.
    ///
    /// # Cancel safety
    ///
    /// A dropped wait loses its place in the queue; room that it may have got goes to the next.
    pub async fn reserve(&self) -> Result<Permit<'_, T>, SendError<()>> {
        self.0.acquire(&SEND).await?;
        Ok(Permit(self))
    }

    /// [`reserve`](Self::reserve) with a permit that owns the sender.
    ///
    /// # Errors
    ///
    /// As there.
    ///
    /// # Cancel safety
    ///
    /// As there; the sender is dropped with the wait.
    pub async fn reserve_owned(self) -> Result<OwnedPermit<T>, SendError<()>> {
        self.0.acquire(&SEND).await?;
        Ok(OwnedPermit(Some(self)))
    }

    /// Room for one value, if there is some and nobody waits for it.
    ///
    /// # Errors
    ///
    /// [`TrySendError`] says which of the two it is: full, or closed.
    pub fn try_reserve(&self) -> Result<Permit<'_, T>, TrySendError<()>> {
        match self.0.permits.try_acquire(1) {
            Ok(()) => Ok(Permit(self)),
            Err(NoPermits::Busy) => Err(TrySendError::Full(())),
            Err(NoPermits::Closed) => Err(TrySendError::Closed(())),
        }
    }

    /// Waits until the receiver is gone or closed.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn closed(&self) {
        self.0.closed.wait(|| self.is_closed().then_some(())).await;
    }

    /// Whether the receiver is gone or closed.
    pub fn is_closed(&self) -> bool {
        self.0.permits.is_closed()
    }

    /// Values that could be sent now.
    pub fn capacity(&self) -> usize {
        self.0.permits.available()
    }

    /// The bound.
    pub fn max_capacity(&self) -> usize {
        self.0.capacity
    }

    /// Whether both send into the same channel.
    pub fn same_channel(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }

    /// A sender that does not keep the channel open.
    pub fn downgrade(&self) -> WeakSender<T> {
        WeakSender(Rc::downgrade(&self.0))
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.0.add_sender();
        Sender(Rc::clone(&self.0))
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.0.drop_sender();
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("mpsc::Sender").field("capacity", &self.capacity()).finish_non_exhaustive()
    }
}

/// A [`Sender`] that does not keep the channel open.
pub struct WeakSender<T>(Weak<Queue<T>>);

impl<T> WeakSender<T> {
    /// A sender, if one is still alive.
    pub fn upgrade(&self) -> Option<Sender<T>> {
        let queue = self.0.upgrade().filter(|queue| queue.senders() > 0)?;
        queue.add_sender();
        Some(Sender(queue))
    }
}

impl<T> Clone for WeakSender<T> {
    fn clone(&self) -> Self {
        WeakSender(Weak::clone(&self.0))
    }
}

impl<T> fmt::Debug for WeakSender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("mpsc::WeakSender").finish_non_exhaustive()
    }
}

/// Room for one value. Dropped without [`send`](Self::send), it goes to the next who waits.
#[must_use = "room that is not used goes back at once"]
pub struct Permit<'a, T>(&'a Sender<T>);

impl<T> Permit<'_, T> {
    /// Sends `value` into the room. If the receiver has gone in the meantime, it is dropped.
    pub fn send(self, value: T) {
        let sender = self.0;
        std::mem::forget(self);
        sender.0.push(value);
    }
}

impl<T> Drop for Permit<'_, T> {
    fn drop(&mut self) {
        self.0.0.give_back();
    }
}

impl<T> fmt::Debug for Permit<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("mpsc::Permit").finish_non_exhaustive()
    }
}

/// [`Permit`] that owns its sender.
#[must_use = "room that is not used goes back at once"]
pub struct OwnedPermit<T>(Option<Sender<T>>);

impl<T> OwnedPermit<T> {
    /// Sends `value` into the room and gives the sender back.
    pub fn send(mut self, value: T) -> Sender<T> {
        let sender = self.0.take().expect("it is taken by who consumes the permit");
        sender.0.push(value);
        sender
    }

    /// Gives the room and the sender back.
    pub fn release(mut self) -> Sender<T> {
        let sender = self.0.take().expect("it is taken by who consumes the permit");
        sender.0.give_back();
        sender
    }
}

impl<T> Drop for OwnedPermit<T> {
    fn drop(&mut self) {
        if let Some(sender) = &self.0 {
            sender.0.give_back();
        }
    }
}

impl<T> fmt::Debug for OwnedPermit<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("mpsc::OwnedPermit").finish_non_exhaustive()
    }
}

/// Receives from a bounded channel; also a [`Stream`].
pub struct Receiver<T>(Rc<Queue<T>>);

impl<T> Receiver<T> {
    /// The next value, or `None` when nothing will come any more.
    ///
    /// # Cancel safety
    ///
    /// A dropped wait loses no value.
    pub async fn recv(&mut self) -> Option<T> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// [`recv`](Self::recv) under the name that streams have for it.
    ///
    /// # Cancel safety
    ///
    /// As there.
    pub async fn next(&mut self) -> Option<T> {
        self.recv().await
    }

    /// The polling form of [`recv`](Self::recv).
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        self.0.poll_recv(cx)
    }

    /// Waits for at least one value and appends what is there, at most `limit`, to `buffer`. Gives the count: zero when
    /// nothing will come any more, or `limit` is zero.
    ///
    /// # Cancel safety
    ///
    /// A dropped wait loses no value.
    pub async fn recv_many(&mut self, buffer: &mut Vec<T>, limit: usize) -> usize {
        poll_fn(|cx| self.0.poll_recv_many(cx, buffer, limit)).await
    }

    /// The next value, if it is there.
    ///
    /// # Errors
    ///
    /// [`TryRecvError`] says whether something can still come.
    pub fn try_recv(&mut self) -> Result<T, TryRecvError> {
        self.0.try_recv()
    }

    /// Refuses further values. What was sent, and what goes through permits that were given out, can still be received.
    pub fn close(&mut self) {
        self.0.close();
    }

    /// Whether the channel is closed: by [`close`](Self::close), or because every sender is gone.
    pub fn is_closed(&self) -> bool {
        self.0.permits.is_closed() || self.0.senders() == 0
    }

    /// Values in the queue.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the queue is empty.
    pub fn is_empty(&self) -> bool {
        self.0.len() == 0
    }

    /// Values that could be sent now.
    pub fn capacity(&self) -> usize {
        self.0.permits.available()
    }

    /// The bound.
    pub fn max_capacity(&self) -> usize {
        self.0.capacity
    }
}

impl<T> Stream for Receiver<T> {
    type Item = T;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        self.0.poll_recv(cx)
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.0.drop_receiver();
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("mpsc::Receiver").field("len", &self.len()).finish_non_exhaustive()
    }
}
