//! Telling a waiting task that something has happened.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::task::{Context, Poll};

use super::waiters::{OldWakers, Removed, WaiterId, Waiters, wake_due};
use crate::task::waits::{WaitsFor, note};

/// Wakes one waiting task, or all of them; carries no value.
///
/// [`notify_one`](Self::notify_one) with nobody waiting is kept for the next who waits, once. So a task that looks at
/// something and then waits misses nothing:
///
/// # Examples
///
/// ```
/// use std::{cell::RefCell, collections::VecDeque, rc::Rc};
/// use annulet::sync::Notify;
///
/// annulet::run(async {
///     let shared = Rc::new((RefCell::new(VecDeque::new()), Notify::new()));
///     let producer = Rc::clone(&shared);
///     annulet::spawn(async move {
///         producer.0.borrow_mut().push_back(7);
///         producer.1.notify_one();
///     });
///     let value = loop {
///         if let Some(value) = shared.0.borrow_mut().pop_front() {
///             break value;
///         }
///         shared.1.notified().await;
///     };
///     assert_eq!(value, 7);
/// });
/// ```
#[derive(Debug, Default)]
pub struct Notify {
    /// Whether a `notify_one` found nobody and is kept.
    is_stored: Cell<bool>,
    /// Calls of `notify_waiters`, so that a future that was made before one of them knows.
    calls: Cell<u64>,
    waiters: RefCell<Waiters<(), Grant>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Grant {
    /// `notify_one`: goes to somebody else if this one does not take it.
    One,
    /// `notify_waiters`.
    All,
}

impl Notify {
    /// Nobody waits, nothing is stored.
    pub const fn new() -> Self {
        Notify { is_stored: Cell::new(false), calls: Cell::new(0), waiters: RefCell::new(Waiters::new()) }
    }

    /// Waits for a notification.
    ///
    /// A future that was made before a [`notify_waiters`](Self::notify_waiters) is woken by it, even if it was not polled
    /// yet; to be in the queue of `notify_one` it must have been polled, or [`enable`](Notified::enable)d.
    ///
    /// # Cancel safety
    ///
    /// A dropped wait loses its place in the queue; a `notify_one` that it may have got goes to the next, or is stored.
    pub fn notified(&self) -> Notified<'_> {
        Notified { notify: self, calls: self.calls.get(), id: None, is_done: false }
    }

    /// Wakes the task that has waited longest; if there is none, the next one that waits does not have to.
    pub fn notify_one(&self) {
        if self.waiters.borrow_mut().grant_front(Grant::One) {
            self.wake();
        } else {
            self.is_stored.set(true);
        }
    }

    /// Wakes every task that waits now; nothing is kept for later ones.
    pub fn notify_waiters(&self) {
        self.calls.set(self.calls.get().wrapping_add(1));
        self.waiters.borrow_mut().grant_all(Grant::All);
        self.wake();
    }

    fn wake(&self) {
        wake_due(|| self.waiters.borrow_mut().take_due());
    }

    #[cfg(test)]
    pub(super) fn waiters(&self) -> usize {
        self.waiters.borrow().used()
    }
}

/// See [`Notify::notified`].
#[must_use = "it does nothing unless it is awaited"]
#[derive(Debug)]
pub struct Notified<'a> {
    notify: &'a Notify,
    /// Calls of `notify_waiters` when this was made.
    calls: u64,
    id: Option<WaiterId>,
    is_done: bool,
}

impl Notified<'_> {
    /// Takes a place in the queue without waiting; true if the notification is there already.
    pub fn enable(self: Pin<&mut Self>) -> bool {
        self.poll(&mut Context::from_waker(std::task::Waker::noop())).is_ready()
    }
}

impl Future for Notified<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        if this.is_done {
            return Poll::Ready(());
        }
        let notify = this.notify;
        let (waker, mut old) = (cx.waker().clone(), OldWakers::default());
        if this.id.is_none() {
            if this.calls == notify.calls.get() && !notify.is_stored.take() {
                this.id = Some(notify.waiters.borrow_mut().push((), waker));
                note(WaitsFor::Lock("Notify"));
                return Poll::Pending;
            }
            this.is_done = true;
            return Poll::Ready(());
        }
        let polled = notify.waiters.borrow_mut().poll(&mut this.id, waker, &mut old);
        this.is_done = polled.is_ready();
        if !this.is_done {
            note(WaitsFor::Lock("Notify"));
        }
        polled.map(|_| ())
    }
}

impl Drop for Notified<'_> {
    fn drop(&mut self) {
        if self.id.is_none() {
            return;
        }
        let removed = self.notify.waiters.borrow_mut().remove(&mut self.id);
        if let Some((Removed::Granted(Grant::One), _)) = removed {
            self.notify.notify_one();
        }
    }
}
