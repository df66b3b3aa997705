//! What both channels are: a queue, permits to put something in, and who waits on either side.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::task::{Context, Poll, Waker};

use super::{SendError, TryRecvError};
use crate::sync::permits::Permits;
use crate::sync::waiters::Watchers;
use crate::task::waits::{WaitsFor, note};
use crate::task::waker;

pub(super) struct Queue<T> {
    /// One for each value that may be sent now. Closed together with the channel.
    pub(super) permits: Permits,
    /// All of them.
    pub(super) capacity: usize,
    state: RefCell<State<T>>,
    /// Who waits for the channel to be closed.
    pub(super) closed: Watchers,
    /// Senders; weak ones do not count.
    senders: Cell<usize>,
}

struct State<T> {
    values: VecDeque<T>,
    /// The task that waits for a value.
    receiver: Option<Waker>,
    is_receiver_gone: bool,
}

impl<T> Queue<T> {
    pub(super) fn new(capacity: usize) -> Self {
        Queue {
            permits: Permits::new(capacity),
            capacity,
            state: RefCell::new(State { values: VecDeque::new(), receiver: None, is_receiver_gone: false }),
            closed: Watchers::new("mpsc (closed)"),
            senders: Cell::new(1),
        }
    }

    /// Puts a value in for which a permit was taken.
    pub(super) fn push(&self, value: T) {
        let mut state = self.state.borrow_mut();
        if state.is_receiver_gone {
            drop(state);
            drop(value);
            return self.permits.release(1);
        }
        state.values.push_back(value);
        let receiver = state.receiver.take();
        drop(state);
        wake(receiver);
    }

    /// Waits for room.
    pub(super) async fn acquire(&self, dump: &'static WaitsFor) -> Result<(), SendError<()>> {
        // Room that was granted to a wait which is dropped comes back, after which a closed channel may wait for nothing.
        struct Dropped<'a, T>(&'a Queue<T>);
        impl<T> Drop for Dropped<'_, T> {
            fn drop(&mut self) {
                self.0.wake_receiver_if_closed();
            }
        }
        let dropped = Dropped(self);
        let acquired = self.permits.acquire(1, dump).await;
        std::mem::forget(dropped);
        acquired.map_err(|_| SendError(()))
    }

    /// Gives a permit back that was not used.
    pub(super) fn give_back(&self) {
        self.permits.release(1);
        self.wake_receiver_if_closed();
    }

    /// Room came back: it may have been the last thing that a closed channel waited for.
    fn wake_receiver_if_closed(&self) {
        if self.permits.is_closed() {
            self.wake_receiver();
        }
    }

    pub(super) fn try_recv(&self) -> Result<T, TryRecvError> {
        let value = self.state.borrow_mut().values.pop_front();
        match value {
            Some(value) => {
                self.permits.release(1);
                Ok(value)
            }
            // Closed and every permit back: nobody can put anything in any more.
            None if self.senders.get() == 0
                || (self.permits.is_closed() && self.permits.available() == self.capacity) =>
            {
                Err(TryRecvError::Disconnected)
            }
            None => Err(TryRecvError::Empty),
        }
    }

    pub(super) fn poll_recv(&self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let mut waker = None;
        loop {
            match self.try_recv() {
                Ok(value) => return Poll::Ready(Some(value)),
                Err(TryRecvError::Disconnected) => return Poll::Ready(None),
                Err(TryRecvError::Empty) if waker.is_some() => break,
                // Cloning it, which is anybody's code, may send or close: look again.
                Err(TryRecvError::Empty) => waker = Some(waker::clone(cx.waker())),
            }
        }
        let old = std::mem::replace(&mut self.state.borrow_mut().receiver, waker);
        drop(old);
        note(WaitsFor::Channel("mpsc"));
        Poll::Pending
    }

    pub(super) fn poll_recv_many(
        &self,
        cx: &mut Context<'_>,
        buffer: &mut Vec<T>,
        limit: usize,
    ) -> Poll<usize> {
        let before = buffer.len();
        while buffer.len() - before < limit {
            match self.poll_recv(cx) {
                Poll::Ready(Some(value)) => buffer.push(value),
                Poll::Pending if buffer.len() == before => return Poll::Pending,
                Poll::Ready(None) | Poll::Pending => break,
            }
        }
        Poll::Ready(buffer.len() - before)
    }

    /// Values in the queue.
    pub(super) fn len(&self) -> usize {
        self.state.borrow().values.len()
    }

    /// Refuses further values.
    pub(super) fn close(&self) {
        self.permits.close();
        self.closed.wake_all();
    }

    /// The receiver is gone: what it did not take is dropped, outside of the borrow, because drops may run any code.
    pub(super) fn drop_receiver(&self) {
        self.close();
        let mut state = self.state.borrow_mut();
        state.is_receiver_gone = true;
        let (values, waker) = (std::mem::take(&mut state.values), state.receiver.take());
        drop(state);
        self.permits.release(values.len());
        drop((values, waker));
    }

    pub(super) fn senders(&self) -> usize {
        self.senders.get()
    }

    pub(super) fn add_sender(&self) {
        self.senders.set(self.senders.get() + 1);
    }

    pub(super) fn drop_sender(&self) {
        self.senders.set(self.senders.get() - 1);
        if self.senders.get() == 0 {
            self.wake_receiver();
        }
    }

    fn wake_receiver(&self) {
        let receiver = self.state.borrow_mut().receiver.take();
        wake(receiver);
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}
