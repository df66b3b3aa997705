//! The latest value, for everybody who wants to know when it changes.
//!
//! # Examples
//!
//! ```
//! use annulet::sync::watch;
//!
//! annulet::run(async {
//!     let (sender, mut receiver) = watch::channel("starting");
//!     annulet::spawn(async move {
//!         sender.send("half way").unwrap(); // nobody sees it: it is overwritten at once
//!         sender.send("ready").unwrap();
//!     });
//!     receiver.changed().await.unwrap();
//!     assert_eq!(*receiver.borrow_and_update(), "ready");
//!     assert!(receiver.changed().await.is_err(), "the sender is gone");
//! });
//! ```

use std::cell::{Cell, RefCell};
use std::fmt;
use std::ops::Deref;
use std::rc::Rc;

use super::mpsc::SendError;
use super::waiters::Watchers;

/// A channel that holds `value` until another is sent.
pub fn channel<T>(value: T) -> (Sender<T>, Receiver<T>) {
    let shared = Rc::new(Shared {
        value: RefCell::new(value),
        version: Cell::new(0),
        senders: Cell::new(1),
        receivers: Cell::new(1),
        changed: Watchers::new("watch"),
        closed: Watchers::new("watch (closed)"),
    });
    (Sender(Rc::clone(&shared)), Receiver { shared, seen: 0 })
}

struct Shared<T> {
    /// Borrowed by [`Ref`]s, and while the user's functions change it.
    value: RefCell<T>,
    /// Changes so far.
    version: Cell<u64>,
    senders: Cell<usize>,
    receivers: Cell<usize>,
    /// Receivers that wait for a change.
    changed: Watchers,
    /// Senders that wait for the last receiver to go.
    closed: Watchers,
}

impl<T> Shared<T> {
    #[track_caller]
    fn borrow(&self) -> Ref<'_, T> {
        match self.value.try_borrow() {
            Ok(value) => Ref { value, has_changed: false },
            Err(_) => panic!("a watch value was looked at by the function that changes it"),
        }
    }

    #[track_caller]
    fn borrow_mut(&self) -> std::cell::RefMut<'_, T> {
        match self.value.try_borrow_mut() {
            Ok(value) => value,
            Err(_) => panic!(
                "a watch value was sent while a watch::Ref is held; clone the value instead of keeping the Ref across an await"
            ),
        }
    }
}

/// A look at the value. While it is kept nothing can be sent: do not keep it across an await.
pub struct Ref<'a, T> {
    value: std::cell::Ref<'a, T>,
    has_changed: bool,
}

impl<T> Ref<'_, T> {
    /// Whether this receiver sees the value for the first time.
    pub fn has_changed(&self) -> bool {
        self.has_changed
    }
}

impl<T> Deref for Ref<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: fmt::Debug> fmt::Debug for Ref<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// Changes the value; cloned for more senders.
pub struct Sender<T>(Rc<Shared<T>>);

impl<T> Sender<T> {
    /// Sends `value` in the place of the last one.
    ///
    /// # Errors
    ///
    /// [`SendError`] with the value when there is no receiver; [`send_replace`](Self::send_replace) does not mind.
    ///
    /// # Panics
    ///
    /// When a [`Ref`] is held.
    #[track_caller]
    pub fn send(&self, value: T) -> Result<(), SendError<T>> {
        if self.0.receivers.get() == 0 {
            return Err(SendError(value));
        }
        self.send_replace(value);
        Ok(())
    }

    /// Sends `value`, also when there is no receiver, and gives the last one back.
    ///
    /// # Panics
    ///
    /// When a [`Ref`] is held.
    #[track_caller]
    pub fn send_replace(&self, value: T) -> T {
        let last = std::mem::replace(&mut *self.0.borrow_mut(), value);
        self.changed();
        last
    }

    /// Changes the value where it is.
    ///
    /// # Panics
    ///
    /// When a [`Ref`] is held, and when `change` does. Then nobody is told of what it had changed.
    #[track_caller]
    pub fn send_modify(&self, change: impl FnOnce(&mut T)) {
        self.send_if_modified(|value| {
            change(value);
            true
        });
    }

    /// Changes the value where it is; receivers are told if `change` says that it has. Gives what `change` gave.
    ///
    /// # Panics
    ///
    /// As [`send_modify`](Self::send_modify).
    #[track_caller]
    pub fn send_if_modified(&self, change: impl FnOnce(&mut T) -> bool) -> bool {
        let has_changed = change(&mut self.0.borrow_mut());
        if has_changed {
            self.changed();
        }
        has_changed
    }

    fn changed(&self) {
        self.0.version.set(self.0.version.get() + 1);
        self.0.changed.wake_all();
    }

    /// A look at the value.
    #[track_caller]
    pub fn borrow(&self) -> Ref<'_, T> {
        self.0.borrow()
    }

    /// A receiver that has seen the present value.
    pub fn subscribe(&self) -> Receiver<T> {
        self.0.receivers.set(self.0.receivers.get() + 1);
        Receiver { seen: self.0.version.get(), shared: Rc::clone(&self.0) }
    }

    /// Waits until there is no receiver.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn closed(&self) {
        self.0.closed.wait(|| self.is_closed().then_some(())).await;
    }

    /// Whether there is no receiver.
    pub fn is_closed(&self) -> bool {
        self.0.receivers.get() == 0
    }

    /// Receivers.
    pub fn receiver_count(&self) -> usize {
        self.0.receivers.get()
    }

    #[cfg(test)]
    pub(super) fn waiters(&self) -> usize {
        self.0.changed.used() + self.0.closed.used()
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
            self.0.changed.wake_all();
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("watch::Sender").field("value", &self.0.value).finish_non_exhaustive()
    }
}

/// Sees the latest value and waits for changes; cloned for more receivers.
pub struct Receiver<T> {
    shared: Rc<Shared<T>>,
    /// The version that it has seen.
    seen: u64,
}

impl<T> Receiver<T> {
    /// Waits until there is a value that this receiver has not seen, and marks it as seen.
    ///
    /// # Errors
    ///
    /// [`RecvError`] when every sender is gone and the last value is seen.
    ///
    /// # Cancel safety
    ///
    /// A dropped wait loses no change.
    pub async fn changed(&mut self) -> Result<(), RecvError> {
        let shared = &*self.shared;
        let seen = self.seen;
        let version = shared
            .changed
            .wait(|| match shared.version.get() {
                version if version != seen => Some(Ok(version)),
                _ if shared.senders.get() == 0 => Some(Err(RecvError(()))),
                _ => None,
            })
            .await?;
        self.seen = version;
        Ok(())
    }

    /// Waits until `condition` holds for the value: at once, if it does already.
    ///
    /// # Errors
    ///
    /// [`RecvError`] when every sender is gone and it does not hold.
    ///
    /// # Cancel safety
    ///
    /// A dropped wait loses no change.
    pub async fn wait_for(&mut self, mut condition: impl FnMut(&T) -> bool) -> Result<Ref<'_, T>, RecvError> {
        loop {
            let holds = condition(&self.shared.borrow());
            let has_changed = self.seen != self.shared.version.get();
            self.seen = self.shared.version.get();
            if holds {
                return Ok(Ref { has_changed, ..self.shared.borrow() });
            }
            self.changed().await?;
        }
    }

    /// Whether there is a value that this receiver has not seen.
    ///
    /// # Errors
    ///
    /// [`RecvError`] when every sender is gone and there is none.
    pub fn has_changed(&self) -> Result<bool, RecvError> {
        match self.seen != self.shared.version.get() {
            false if self.shared.senders.get() == 0 => Err(RecvError(())),
            has_changed => Ok(has_changed),
        }
    }

    /// A look at the value, which is not marked as seen.
    #[track_caller]
    pub fn borrow(&self) -> Ref<'_, T> {
        Ref { has_changed: self.seen != self.shared.version.get(), ..self.shared.borrow() }
    }

    /// A look at the value, which is marked as seen.
    #[track_caller]
    pub fn borrow_and_update(&mut self) -> Ref<'_, T> {
        let has_changed = self.seen != self.shared.version.get();
        self.seen = self.shared.version.get();
        Ref { has_changed, ..self.shared.borrow() }
    }

    /// Marks the value as not seen.
    pub fn mark_changed(&mut self) {
        self.seen = self.shared.version.get().wrapping_sub(1);
    }

    /// Marks the value as seen.
    pub fn mark_unchanged(&mut self) {
        self.seen = self.shared.version.get();
    }

    /// Whether both receive from the same channel.
    pub fn same_channel(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.shared, &other.shared)
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        self.shared.receivers.set(self.shared.receivers.get() + 1);
        Receiver { shared: Rc::clone(&self.shared), seen: self.seen }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.shared.receivers.set(self.shared.receivers.get() - 1);
        if self.shared.receivers.get() == 0 {
            self.shared.closed.wake_all();
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("watch::Receiver").field("value", &self.shared.value).finish_non_exhaustive()
    }
}

/// Every sender is gone: the value will not change any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecvError(());

impl fmt::Display for RecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the channel is closed: every sender was dropped, the value will not change any more")
    }
}

impl std::error::Error for RecvError {}
