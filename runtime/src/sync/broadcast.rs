//! Every value to every receiver.
//!
//! The channel keeps the last `capacity` values. A sender never waits: a receiver that is slower than that misses the
//! oldest, and is told how many.
//!
//! # Examples
//!
//! ```
//! use annulet::sync::broadcast::{self, RecvError};
//!
//! annulet::run(async {
//!     let (sender, mut fast) = broadcast::channel(2);
//!     let mut slow = sender.subscribe();
//!     for number in 1..=3 {
//!         sender.send(number).unwrap();
//!         assert_eq!(fast.recv().await, Ok(number));
//!     }
//!     assert_eq!(slow.recv().await, Err(RecvError::Lagged(1)));
//!     assert_eq!(slow.recv().await, Ok(2));
//! });
//! ```

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use futures_core::Stream;

use super::mpsc::SendError;
use super::waiters::{WaiterId, Watchers};
use crate::task::waker;

/// A channel that keeps the last `capacity` values. Memory for them is taken at once.
///
/// # Panics
///
/// When `capacity` is zero.
#[track_caller]
pub fn channel<T: Clone>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    assert!(
        capacity > 0,
        "a broadcast channel needs a capacity above zero: it is how far a receiver may fall behind"
    );
    let slots = (0..capacity).map(|_| Slot { value: RefCell::new(None), unseen: Cell::new(0) }).collect();
    let shared = Rc::new(Shared {
        slots,
        sent: Cell::new(0),
        senders: Cell::new(1),
        receivers: Cell::new(1),
        watchers: Watchers::new("broadcast"),
    });
    (Sender(Rc::clone(&shared)), Receiver { shared, next: 0, id: None })
}

struct Shared<T> {
    /// A ring: value number `n` is in slot `n % capacity`.
    slots: Box<[Slot<T>]>,
    /// Values so far.
    sent: Cell<u64>,
    senders: Cell<usize>,
    receivers: Cell<usize>,
    watchers: Watchers,
}

struct Slot<T> {
    /// Borrowed while it is cloned, which is the user's code; nothing else is borrowed then.
    value: RefCell<Option<T>>,
    /// Receivers that have not seen it. At zero it is dropped.
    unseen: Cell<usize>,
}

impl<T> Shared<T> {
    fn slot(&self, number: u64) -> &Slot<T> {
        &self.slots[(number % self.slots.len() as u64) as usize]
    }

    /// The oldest value that is kept.
    fn oldest(&self) -> u64 {
        self.sent.get().saturating_sub(self.slots.len() as u64)
    }

    /// One receiver has seen `number`. The last of them takes it out.
    fn seen(&self, number: u64) -> Option<T> {
        let slot = self.slot(number);
        slot.unseen.set(slot.unseen.get() - 1);
        if slot.unseen.get() == 0 { slot.value.borrow_mut().take() } else { None }
    }
}

/// Sends to every receiver; cloned for more senders.
pub struct Sender<T>(Rc<Shared<T>>);

impl<T> Sender<T> {
    /// Sends `value` to every receiver there is; gives their number.
    ///
    /// # Errors
    ///
    /// [`SendError`] with the value when there is none. There may be one again later.
    ///
    /// # Panics
    ///
    /// When `T`'s `clone` sends into the same channel, and so would overwrite what it clones.
    pub fn send(&self, value: T) -> Result<usize, SendError<T>> {
        let shared = &*self.0;
        let receivers = shared.receivers.get();
        if receivers == 0 {
            return Err(SendError(value));
        }
        let slot = shared.slot(shared.sent.get());
        let mut place = slot
            .value
            .try_borrow_mut()
            .unwrap_or_else(|_| panic!("a broadcast value was overwritten by its own clone()"));
        let overwritten = place.replace(value);
        drop(place);
        slot.unseen.set(receivers);
        shared.sent.set(shared.sent.get() + 1);
        drop(overwritten);
        shared.watchers.wake_all();
        Ok(receivers)
    }

    /// A receiver of what is sent from now on.
    pub fn subscribe(&self) -> Receiver<T> {
        self.0.receivers.set(self.0.receivers.get() + 1);
        Receiver { next: self.0.sent.get(), shared: Rc::clone(&self.0), id: None }
    }

    /// Receivers.
    pub fn receiver_count(&self) -> usize {
        self.0.receivers.get()
    }

    /// Values that are kept because some receiver has not seen them.
    pub fn len(&self) -> usize {
        (self.0.oldest()..self.0.sent.get()).filter(|number| self.0.slot(*number).unseen.get() > 0).count()
    }

    /// Whether every receiver has seen everything.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    #[cfg(test)]
    pub(super) fn waiters(&self) -> usize {
        self.0.watchers.used()
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.0.senders.set(self.0.senders.get() + 1);
        Sender(Rc::clone(&self.0))
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.0.senders.set(self.0.senders.get() - 1);
        if self.0.senders.get() == 0 {
            self.0.watchers.wake_all();
        }
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("broadcast::Sender").field("receivers", &self.receiver_count()).finish_non_exhaustive()
    }
}

/// Receives every value that is sent while it lives; also a [`Stream`], whose items are results because of the lag.
pub struct Receiver<T> {
    shared: Rc<Shared<T>>,
    /// The number of the value that it has next.
    next: u64,
    id: Option<WaiterId>,
}

impl<T> Receiver<T> {
    /// Values that wait for this receiver, with those that it has missed.
    pub fn len(&self) -> usize {
        usize::try_from(self.shared.sent.get() - self.next).unwrap_or(usize::MAX)
    }

    /// Whether it has seen everything.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A new receiver of what is sent from now on.
    pub fn resubscribe(&self) -> Self {
        self.shared.receivers.set(self.shared.receivers.get() + 1);
        Receiver { next: self.shared.sent.get(), shared: Rc::clone(&self.shared), id: None }
    }

    /// Whether every sender is gone.
    pub fn is_closed(&self) -> bool {
        self.shared.senders.get() == 0
    }
}

impl<T: Clone> Receiver<T> {
    /// The next value.
    ///
    /// # Errors
    ///
    /// [`RecvError::Lagged`] tells how many were missed, and the next call gives the oldest that is kept;
    /// [`RecvError::Closed`] when nothing will come any more.
    ///
    /// # Cancel safety
    ///
    /// A dropped wait loses no value.
    pub async fn recv(&mut self) -> Result<T, RecvError> {
        struct Wait<'a, T>(&'a mut Receiver<T>);
        impl<T> Drop for Wait<'_, T> {
            fn drop(&mut self) {
                self.0.shared.watchers.forget(&mut self.0.id);
            }
        }
        let wait = Wait(self);
        poll_fn(|cx| wait.0.poll_recv(cx)).await
    }

    /// The next value, or how many were missed; `None` when nothing will come any more.
    ///
    /// # Cancel safety
    ///
    /// As [`recv`](Self::recv).
    pub async fn next(&mut self) -> Option<Result<T, Lagged>> {
        match self.recv().await {
            Ok(value) => Some(Ok(value)),
            Err(RecvError::Lagged(missed)) => Some(Err(Lagged(missed))),
            Err(RecvError::Closed) => None,
        }
    }

    /// The polling form of [`recv`](Self::recv).
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<T, RecvError>> {
        let mut result = self.try_recv();
        if let Err(TryRecvError::Empty) = result {
            let waker = waker::clone(cx.waker());
            result = self.try_recv();
            if let Err(TryRecvError::Empty) = result {
                self.shared.watchers.register(&mut self.id, waker);
                return Poll::Pending;
            }
        }
        let result = result.map_err(|error| match error {
            TryRecvError::Lagged(missed) => RecvError::Lagged(missed),
            TryRecvError::Closed | TryRecvError::Empty => RecvError::Closed,
        });
        self.shared.watchers.forget(&mut self.id);
        Poll::Ready(result)
    }

    /// The next value, if it is there.
    ///
    /// # Errors
    ///
    /// [`TryRecvError`] says why there is none.
    pub fn try_recv(&mut self) -> Result<T, TryRecvError> {
        if self.next == self.shared.sent.get() {
            return Err(if self.is_closed() { TryRecvError::Closed } else { TryRecvError::Empty });
        }
        let oldest = self.shared.oldest();
        if self.next < oldest {
            let missed = oldest - self.next;
            self.next = oldest;
            return Err(TryRecvError::Lagged(missed));
        }
        let slot = self.shared.slot(self.next);
        // The last to see it takes it; the others clone it.
        let cloned = if slot.unseen.get() > 1 { slot.value.borrow().clone() } else { None };
        let taken = self.shared.seen(self.next);
        self.next += 1;
        Ok(cloned.or(taken).expect("a value stays until every receiver has seen it"))
    }
}

impl<T: Clone> Stream for Receiver<T> {
    type Item = Result<T, Lagged>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_recv(cx).map(|result| match result {
            Ok(value) => Some(Ok(value)),
            Err(RecvError::Lagged(missed)) => Some(Err(Lagged(missed))),
            Err(RecvError::Closed) => None,
        })
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.shared.watchers.forget(&mut self.id);
        self.shared.receivers.set(self.shared.receivers.get() - 1);
        let sent = self.shared.sent.get();
        loop {
            // Asked anew each time: the drop of a value is the user's, and may send. What is sent now is not for this one.
            self.next = self.next.max(self.shared.oldest());
            if self.next >= sent {
                return;
            }
            let value = self.shared.seen(self.next);
            self.next += 1;
            drop(value);
        }
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("broadcast::Receiver").field("len", &self.len()).finish_non_exhaustive()
    }
}

/// How many values a receiver has missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lagged(pub u64);

impl fmt::Display for Lagged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the receiver was too slow; values that it missed: {}", self.0)
    }
}

impl std::error::Error for Lagged {}

/// Why there is no next value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecvError {
    /// Every sender is gone.
    Closed,
    /// The receiver was too slow and has missed so many.
    Lagged(u64),
}

impl fmt::Display for RecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecvError::Closed => f.write_str("the channel is closed: every sender was dropped"),
            RecvError::Lagged(missed) => Lagged(*missed).fmt(f),
        }
    }
}

impl std::error::Error for RecvError {}

/// Why there is no value at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TryRecvError {
    /// It has seen everything.
    Empty,
    /// Every sender is gone.
    Closed,
    /// The receiver was too slow and has missed so many.
    Lagged(u64),
}

impl fmt::Display for TryRecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TryRecvError::Empty => f.write_str("nothing new was sent"),
            TryRecvError::Closed => RecvError::Closed.fmt(f),
            TryRecvError::Lagged(missed) => Lagged(*missed).fmt(f),
        }
    }
}

impl std::error::Error for TryRecvError {}
