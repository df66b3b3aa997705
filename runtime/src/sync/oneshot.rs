//! One value from one task to another: what `Future` and `set_result` are in asyncio.
//!
//! # Examples
//!
//! ```
//! use annulet::sync::oneshot;
//!
//! annulet::run(async {
//!     let (sender, receiver) = oneshot::channel();
//!     annulet::spawn(async move { sender.send(3).unwrap() });
//!     assert_eq!(receiver.await, Ok(3));
//!
//!     let (sender, receiver) = oneshot::channel::<u32>();
//!     drop(sender);
//!     assert!(receiver.await.is_err(), "a sender that is dropped is an error, not a hang");
//! });
//! ```

use std::cell::RefCell;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use crate::task::waits::{WaitsFor, note};
use crate::task::waker;

/// The two ends of a new channel.
pub fn channel<T>() -> (Sender<T>, Receiver<T>) {
    let shared = Rc::new(RefCell::new(State {
        value: None,
        is_sender_gone: false,
        is_receiver_closed: false,
        receiver: None,
        sender: None,
    }));
    (Sender { shared: Rc::clone(&shared) }, Receiver { shared })
}

struct State<T> {
    value: Option<T>,
    /// Also after it has sent.
    is_sender_gone: bool,
    is_receiver_closed: bool,
    /// The task that waits for the value.
    receiver: Option<Waker>,
    /// The task that waits for the receiver to go.
    sender: Option<Waker>,
}

/// Sends the value.
pub struct Sender<T> {
    shared: Rc<RefCell<State<T>>>,
}

/// Waits for the value; a future.
#[must_use = "it does nothing unless it is awaited"]
pub struct Receiver<T> {
    shared: Rc<RefCell<State<T>>>,
}

impl<T> Sender<T> {
    /// Sends `value`, without waiting.
    ///
    /// # Errors
    ///
    /// `value` comes back when the receiver is gone or closed. A receiver that goes later takes it along.
    pub fn send(self, value: T) -> Result<(), T> {
        let mut state = self.shared.borrow_mut();
        if state.is_receiver_closed {
            return Err(value);
        }
        state.value = Some(value);
        Ok(())
        // Dropping the sender wakes the receiver.
    }

    /// Waits until nobody wants the value any more.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn closed(&mut self) {
        poll_fn(|cx| self.poll_closed(cx)).await;
    }

    /// The polling form of [`closed`](Self::closed).
    pub fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let waker = cx.waker().clone();
        let mut state = self.shared.borrow_mut();
        if state.is_receiver_closed {
            drop(state);
            return Poll::Ready(());
        }
        let old = state.sender.replace(waker);
        drop(state);
        drop(old);
        note(WaitsFor::Channel("oneshot (closed)"));
        Poll::Pending
    }

    /// Whether the receiver is gone or closed.
    pub fn is_closed(&self) -> bool {
        self.shared.borrow().is_receiver_closed
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let mut state = self.shared.borrow_mut();
        state.is_sender_gone = true;
        let (receiver, own) = (state.receiver.take(), state.sender.take());
        drop(state);
        drop(own);
        if let Some(receiver) = receiver {
            receiver.wake();
        }
    }
}

impl<T> Receiver<T> {
    /// Refuses a value from now on; one that was sent before can still be received.
    pub fn close(&mut self) {
        let mut state = self.shared.borrow_mut();
        state.is_receiver_closed = true;
        // Whoever closes does not wait; should it wait again, it will be told at once.
        let (sender, own) = (state.sender.take(), state.receiver.take());
        drop(state);
        drop(own);
        if let Some(sender) = sender {
            sender.wake();
        }
    }

    /// The value, if it is there.
    ///
    /// # Errors
    ///
    /// [`TryRecvError`] says whether it can still come.
    pub fn try_recv(&mut self) -> Result<T, TryRecvError> {
        let mut state = self.shared.borrow_mut();
        match state.value.take() {
            Some(value) => Ok(value),
            None if state.is_sender_gone || state.is_receiver_closed => Err(TryRecvError::Closed),
            None => Err(TryRecvError::Empty),
        }
    }
}

impl<T> Future for Receiver<T> {
    type Output = Result<T, RecvError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut waker = None;
        loop {
            match self.try_recv() {
                Ok(value) => return Poll::Ready(Ok(value)),
                Err(TryRecvError::Closed) => return Poll::Ready(Err(RecvError(()))),
                Err(TryRecvError::Empty) if waker.is_some() => break,
                // Cloning it, which is anybody's code, may send: look again.
                Err(TryRecvError::Empty) => waker = Some(waker::clone(cx.waker())),
            }
        }
        let old = std::mem::replace(&mut self.shared.borrow_mut().receiver, waker);
        drop(old);
        note(WaitsFor::Channel("oneshot"));
        Poll::Pending
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.close();
        let mut state = self.shared.borrow_mut();
        let value = state.value.take();
        drop(state);
        drop(value);
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("oneshot::Sender").field("is_closed", &self.is_closed()).finish()
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("oneshot::Receiver").finish_non_exhaustive()
    }
}

/// The sender was dropped without sending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecvError(());

impl fmt::Display for RecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no value will come: the oneshot sender was dropped without sending, or the receiver was closed or read before")
    }
}

impl std::error::Error for RecvError {}

/// Why [`Receiver::try_recv`] gave nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TryRecvError {
    /// It may still come.
    Empty,
    /// It will not come: the sender is gone, or the value was taken.
    Closed,
}

impl fmt::Display for TryRecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TryRecvError::Empty => f.write_str("the value has not been sent yet"),
            TryRecvError::Closed => RecvError(()).fmt(f),
        }
    }
}

impl std::error::Error for TryRecvError {}
