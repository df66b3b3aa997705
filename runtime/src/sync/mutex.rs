//! A lock for a value that is held across awaits.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::rc::Rc;

use super::locked::{Hold, Lock, Locked};
use crate::task::waits::WaitsFor;

/// A value that one task at a time may use, also while it waits for something else.
///
/// Tasks get it in the order in which they asked. A value that is used between two awaits only needs no lock on a loop: a
/// `Cell` or a `RefCell` serves. A panic of the holder frees the lock; it does not poison it.
///
/// # Examples
///
/// ```
/// use std::rc::Rc;
/// use annulet::sync::Mutex;
///
/// annulet::run(async {
///     let count = Rc::new(Mutex::new(0));
///     let tasks: Vec<_> = (0..3)
///         .map(|_| {
///             let count = Rc::clone(&count);
///             annulet::spawn(async move {
///                 let mut count = count.lock().await;
///                 let before = *count;
///                 annulet::yield_now().await; // nobody else comes in between
///                 *count = before + 1;
///             })
///         })
///         .collect();
///     for task in tasks {
///         task.await.unwrap();
///     }
///     assert_eq!(*count.lock().await, 3);
/// });
/// ```
pub struct Mutex<T: ?Sized>(Locked<T>);

impl<T> Mutex<T> {
    /// A free lock around `value`.
    pub const fn new(value: T) -> Self {
        Mutex(Locked::new(value, 1))
    }

    /// The value, without the lock.
    pub fn into_inner(self) -> T {
        self.0.into_inner()
    }
}

impl<T: ?Sized> Mutex<T> {
    /// Waits until the value is free and it is this caller's turn.
    ///
    /// # Cancel safety
    ///
    /// A dropped wait loses its place in the queue; the lock goes to the next.
    #[inline]
    pub async fn lock(&self) -> MutexGuard<'_, T> {
        MutexGuard(Hold::unique(self, &WaitsFor::Lock("Mutex")).await)
    }

    /// [`lock`](Self::lock) with a guard that owns the mutex, so that it can be kept anywhere.
    ///
    /// # Cancel safety
    ///
    /// As there.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::rc::Rc;
    /// use annulet::sync::Mutex;
    ///
    /// annulet::run(async {
    ///     let mutex = Rc::new(Mutex::new(1));
    ///     let guard = Rc::clone(&mutex).lock_owned().await;
    ///     assert!(mutex.try_lock().is_err());
    ///     annulet::spawn(async move { drop(guard) });
    ///     assert_eq!(*mutex.lock().await, 1);
    /// });
    /// ```
    #[inline]
    pub async fn lock_owned(self: Rc<Self>) -> OwnedMutexGuard<T> {
        OwnedMutexGuard(Hold::unique(self, &WaitsFor::Lock("Mutex")).await)
    }

    /// The value, if it is free and nobody waits for it.
    ///
    /// # Errors
    ///
    /// [`TryLockError`] otherwise.
    pub fn try_lock(&self) -> Result<MutexGuard<'_, T>, TryLockError> {
        Hold::try_unique(self).map(MutexGuard).map_err(|_| TryLockError(()))
    }

    /// [`try_lock`](Self::try_lock) with a guard that owns the mutex.
    ///
    /// # Errors
    ///
    /// [`TryLockError`] when it is held, or others wait for it.
    pub fn try_lock_owned(self: Rc<Self>) -> Result<OwnedMutexGuard<T>, TryLockError> {
        Hold::try_unique(self).map(OwnedMutexGuard).map_err(|_| TryLockError(()))
    }

    /// The value, without locking: a unique reference to the mutex is proof enough.
    pub fn get_mut(&mut self) -> &mut T {
        self.0.get_mut()
    }
}

impl<T: ?Sized> Lock for Mutex<T> {
    type Value = T;

    fn locked(&self) -> &Locked<T> {
        &self.0
    }
}

impl<T: Default> Default for Mutex<T> {
    fn default() -> Self {
        Mutex::new(T::default())
    }
}

impl<T> From<T> for Mutex<T> {
    fn from(value: T) -> Self {
        Mutex::new(value)
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Mutex");
        match self.try_lock() {
            Ok(guard) => debug.field("value", &&*guard),
            Err(_) => debug.field("value", &format_args!("<locked>")),
        };
        debug.finish()
    }
}

/// The hold on a mutex's value; it is free again when this is dropped.
#[must_use = "if it is not kept the mutex is free again at once"]
pub struct MutexGuard<'a, T: ?Sized>(Hold<&'a Mutex<T>>);

impl<'a, T: ?Sized> MutexGuard<'a, T> {
    /// The mutex that `guard` holds.
    pub fn mutex(guard: &Self) -> &'a Mutex<T> {
        guard.0.lock()
    }
}

/// [`MutexGuard`] that owns the mutex.
#[must_use = "if it is not kept the mutex is free again at once"]
pub struct OwnedMutexGuard<T: ?Sized>(Hold<Rc<Mutex<T>>>);

impl<T: ?Sized> OwnedMutexGuard<T> {
    /// The mutex that `guard` holds.
    pub fn mutex(guard: &Self) -> &Rc<Mutex<T>> {
        guard.0.lock()
    }
}

/// The mutex is held, or others wait for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TryLockError(pub(super) ());

impl fmt::Display for TryLockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the lock is held, or others wait for it")
    }
}

impl std::error::Error for TryLockError {}

/// What a guard of shared access is.
macro_rules! shared_guard {
    ($guard:ty, $($parameter:tt)*) => {
        impl<$($parameter)* T: ?Sized> Deref for $guard {
            type Target = T;

            #[inline]
            fn deref(&self) -> &T {
                self.0.value()
            }
        }

        impl<$($parameter)* T: ?Sized + fmt::Debug> fmt::Debug for $guard {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                (**self).fmt(f)
            }
        }

        impl<$($parameter)* T: ?Sized + fmt::Display> fmt::Display for $guard {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                (**self).fmt(f)
            }
        }
    };
}

/// What a guard of unique access is beside that.
macro_rules! unique_guard {
    ($guard:ty, $($parameter:tt)*) => {
        shared_guard!($guard, $($parameter)*);

        impl<$($parameter)* T: ?Sized> DerefMut for $guard {
            #[inline]
            fn deref_mut(&mut self) -> &mut T {
                self.0.value_mut()
            }
        }
    };
}

pub(super) use {shared_guard, unique_guard};

unique_guard!(MutexGuard<'a, T>, 'a,);
unique_guard!(OwnedMutexGuard<T>,);
