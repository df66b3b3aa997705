//! Waiting for a change of what a mutex protects.

use std::cell::RefCell;
use std::task::{Context, Poll};

use super::waiters::{OldWakers, Removed, WaiterId, Waiters, wake_due};
use super::{Mutex, MutexGuard};
use crate::task::waits::{WaitsFor, note};

/// Lets tasks free a [`Mutex`] while they wait for somebody to change its value; `std::sync::Condvar` for tasks.
///
/// # Examples
///
/// ```
/// use std::rc::Rc;
/// use annulet::sync::{Condvar, Mutex};
///
/// annulet::run(async {
///     let shared = Rc::new((Mutex::new(0), Condvar::new()));
///     let other = Rc::clone(&shared);
///     annulet::spawn(async move {
///         *other.0.lock().await = 3;
///         other.1.notify_one();
///     });
///     let (number, changed) = &*shared;
///     let number = changed.wait_while(number.lock().await, |number| *number == 0).await;
///     assert_eq!(*number, 3);
/// });
/// ```
#[derive(Debug, Default)]
pub struct Condvar {
    waiters: RefCell<Waiters<(), Grant>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Grant {
    /// `notify_one`: goes to somebody else if this one does not use it.
    One,
    /// `notify_all`.
    All,
}

impl Condvar {
    /// Nobody waits.
    pub const fn new() -> Self {
        Condvar { waiters: RefCell::new(Waiters::new()) }
    }

    /// Frees the mutex, waits to be notified, and locks it again. Nothing can be missed between freeing and waiting.
    ///
    /// It may return although what is waited for has not come: somebody may have been faster. Look again, or use
    /// [`wait_while`](Self::wait_while).
    ///
    /// # Cancel safety
    ///
    /// A dropped wait leaves the mutex free; a `notify_one` that it may have got goes to the next that waits.
    pub async fn wait<'a, T: ?Sized>(&self, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
        let mutex: &'a Mutex<T> = MutexGuard::mutex(&guard);
        let mut wait = Wait { condvar: self, id: None, has_one: false };
        let mut guard = Some(guard);
        std::future::poll_fn(|cx| wait.poll(cx, || drop(guard.take()))).await;
        // Still with the notification in hand: should this be dropped while it waits for the mutex, it is passed on.
        let guard = mutex.lock().await;
        wait.has_one = false;
        guard
    }

    /// Waits as long as `condition` says so of the value.
    ///
    /// # Cancel safety
    ///
    /// As [`wait`](Self::wait).
    pub async fn wait_while<'a, T: ?Sized>(
        &self,
        mut guard: MutexGuard<'a, T>,
        mut condition: impl FnMut(&mut T) -> bool,
    ) -> MutexGuard<'a, T> {
        while condition(&mut guard) {
            guard = self.wait(guard).await;
        }
        guard
    }

    /// Wakes the task that has waited longest, if there is one.
    pub fn notify_one(&self) {
        self.waiters.borrow_mut().grant_front(Grant::One);
        self.wake();
    }

    /// Wakes every task that waits now.
    pub fn notify_all(&self) {
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

#[derive(Debug)]
struct Wait<'a> {
    condvar: &'a Condvar,
    id: Option<WaiterId>,
    /// Whether it has a `notify_one` that it has not used yet.
    has_one: bool,
}

impl Wait<'_> {
    /// Joins the queue, then calls `free`; later takes the notification.
    fn poll(&mut self, cx: &mut Context<'_>, free: impl FnOnce()) -> Poll<()> {
        note(WaitsFor::Lock("Condvar"));
        let (waker, mut old) = (cx.waker().clone(), OldWakers::default());
        if self.id.is_none() {
            self.id = Some(self.condvar.waiters.borrow_mut().push((), waker));
            free();
            return Poll::Pending;
        }
        let polled = self.condvar.waiters.borrow_mut().poll(&mut self.id, waker, &mut old);
        polled.map(|grant| self.has_one = grant == Grant::One)
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        let removed = self.condvar.waiters.borrow_mut().remove(&mut self.id);
        let unused = matches!(removed, Some((Removed::Granted(Grant::One), _)));
        drop(removed);
        if unused || self.has_one {
            self.condvar.notify_one();
        }
    }
}
