//! The channel without a bound.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use futures_core::Stream;

use super::queue::Queue;
use super::{SendError, TryRecvError};
use crate::sync::permits::PERMITS_MAX;

/// A channel that holds any number of values; see the [module](super).
pub fn unbounded_channel<T>() -> (UnboundedSender<T>, UnboundedReceiver<T>) {
    // Memory is exhausted long before so many values are in it.
    let queue = Rc::new(Queue::new(PERMITS_MAX));
    (UnboundedSender(Rc::clone(&queue)), UnboundedReceiver(queue))
}

/// Sends into an unbounded channel; cloned for more senders.
pub struct UnboundedSender<T>(Rc<Queue<T>>);

impl<T> UnboundedSender<T> {
    /// Sends `value`, without waiting.
    ///
    /// # Errors
    ///
    /// [`SendError`] with the value when the receiver is gone or closed.
    pub fn send(&self, value: T) -> Result<(), SendError<T>> {
        match self.0.permits.try_acquire(1) {
            Ok(()) => {
                self.0.push(value);
                Ok(())
            }
            Err(_) => Err(SendError(value)),
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

    /// Whether both send into the same channel.
    pub fn same_channel(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }
}

impl<T> Clone for UnboundedSender<T> {
    fn clone(&self) -> Self {
        self.0.add_sender();
        UnboundedSender(Rc::clone(&self.0))
    }
}

impl<T> Drop for UnboundedSender<T> {
    fn drop(&mut self) {
        self.0.drop_sender();
    }
}

impl<T> fmt::Debug for UnboundedSender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("mpsc::UnboundedSender").finish_non_exhaustive()
    }
}

/// Receives from an unbounded channel; also a [`Stream`].
pub struct UnboundedReceiver<T>(Rc<Queue<T>>);

impl<T> UnboundedReceiver<T> {
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

    /// Refuses further values. What was sent can still be received.
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
}

impl<T> Stream for UnboundedReceiver<T> {
    type Item = T;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        self.0.poll_recv(cx)
    }
}

impl<T> Drop for UnboundedReceiver<T> {
    fn drop(&mut self) {
        self.0.drop_receiver();
    }
}

impl<T> fmt::Debug for UnboundedReceiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("mpsc::UnboundedReceiver").field("len", &self.len()).finish_non_exhaustive()
    }
}
