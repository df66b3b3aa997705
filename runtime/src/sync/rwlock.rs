//! A lock with many readers or one writer.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::rc::Rc;

use super::locked::{Hold, Lock, Locked};
use super::mutex::{TryLockError, shared_guard, unique_guard};
use crate::task::waits::WaitsFor;

/// Readers at the same time; a number that is never reached, as in tokio.
const READERS_MAX: usize = (u32::MAX >> 3) as usize;

/// A value that many tasks may read at the same time, or one may change, also while they wait for something else.
///
/// Tasks get it in the order in which they asked: readers that come behind a waiting writer wait for it. So neither side
/// starves; and a task that asks to read while it reads already can wait for itself.
///
/// # Examples
///
/// ```
/// annulet::run(async {
///     let lock = annulet::sync::RwLock::new(5);
///     {
///         let (one, other) = (lock.read().await, lock.read().await);
///         assert_eq!(*one + *other, 10);
///         assert!(lock.try_write().is_err());
///     }
///     *lock.write().await += 1;
///     assert_eq!(lock.into_inner(), 6);
/// });
/// ```
pub struct RwLock<T: ?Sized>(Locked<T>);

impl<T> RwLock<T> {
    /// A free lock around `value`.
    pub const fn new(value: T) -> Self {
        RwLock(Locked::new(value, READERS_MAX))
    }

    /// The value, without the lock.
    pub fn into_inner(self) -> T {
        self.0.into_inner()
    }
}

impl<T: ?Sized> RwLock<T> {
    /// Waits to read, together with others.
    ///
    /// # Cancel safety
    ///
    /// A dropped wait loses its place in the queue.
    #[inline]
    pub async fn read(&self) -> RwLockReadGuard<'_, T> {
        RwLockReadGuard(Hold::shared(self, &WaitsFor::Lock("RwLock (read)")).await)
    }

    /// Waits to have the value alone.
    ///
    /// # Cancel safety
    ///
    /// A dropped wait loses its place in the queue; readers behind it go on.
    #[inline]
    pub async fn write(&self) -> RwLockWriteGuard<'_, T> {
        RwLockWriteGuard(Hold::unique(self, &WaitsFor::Lock("RwLock (write)")).await)
    }

    /// [`read`](Self::read) with a guard that owns the lock.
    #[inline]
    pub async fn read_owned(self: Rc<Self>) -> OwnedRwLockReadGuard<T> {
        OwnedRwLockReadGuard(Hold::shared(self, &WaitsFor::Lock("RwLock (read)")).await)
    }

    /// [`write`](Self::write) with a guard that owns the lock.
    #[inline]
    pub async fn write_owned(self: Rc<Self>) -> OwnedRwLockWriteGuard<T> {
        OwnedRwLockWriteGuard(Hold::unique(self, &WaitsFor::Lock("RwLock (write)")).await)
    }

    /// The value to read, if nobody changes it or waits for it.
    ///
    /// # Errors
    ///
    /// [`TryLockError`] otherwise.
    pub fn try_read(&self) -> Result<RwLockReadGuard<'_, T>, TryLockError> {
        Hold::try_shared(self).map(RwLockReadGuard).map_err(|_| TryLockError(()))
    }

    /// The value alone, if nobody has it or waits for it.
    ///
    /// # Errors
    ///
    /// [`TryLockError`] otherwise.
    pub fn try_write(&self) -> Result<RwLockWriteGuard<'_, T>, TryLockError> {
        Hold::try_unique(self).map(RwLockWriteGuard).map_err(|_| TryLockError(()))
    }

    /// [`try_read`](Self::try_read) with a guard that owns the lock.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn try_read_owned(self: Rc<Self>) -> Result<OwnedRwLockReadGuard<T>, TryLockError> {
        Hold::try_shared(self).map(OwnedRwLockReadGuard).map_err(|_| TryLockError(()))
    }

    /// [`try_write`](Self::try_write) with a guard that owns the lock.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn try_write_owned(self: Rc<Self>) -> Result<OwnedRwLockWriteGuard<T>, TryLockError> {
        Hold::try_unique(self).map(OwnedRwLockWriteGuard).map_err(|_| TryLockError(()))
    }

    /// The value, without locking: a unique reference to the lock is proof enough.
    pub fn get_mut(&mut self) -> &mut T {
        self.0.get_mut()
    }
}

impl<T: ?Sized> Lock for RwLock<T> {
    type Value = T;

    fn locked(&self) -> &Locked<T> {
        &self.0
    }
}

impl<T: Default> Default for RwLock<T> {
    fn default() -> Self {
        RwLock::new(T::default())
    }
}

impl<T> From<T> for RwLock<T> {
    fn from(value: T) -> Self {
        RwLock::new(value)
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RwLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("RwLock");
        match self.try_read() {
            Ok(guard) => debug.field("value", &&*guard),
            Err(_) => debug.field("value", &format_args!("<locked>")),
        };
        debug.finish()
    }
}

/// One reader's hold on the value of an [`RwLock`].
#[must_use = "if it is not kept the lock is free again at once"]
pub struct RwLockReadGuard<'a, T: ?Sized>(Hold<&'a RwLock<T>>);

/// The writer's hold on the value of an [`RwLock`].
#[must_use = "if it is not kept the lock is free again at once"]
pub struct RwLockWriteGuard<'a, T: ?Sized>(Hold<&'a RwLock<T>>);

/// [`RwLockReadGuard`] that owns the lock.
#[must_use = "if it is not kept the lock is free again at once"]
pub struct OwnedRwLockReadGuard<T: ?Sized>(Hold<Rc<RwLock<T>>>);

/// [`RwLockWriteGuard`] that owns the lock.
#[must_use = "if it is not kept the lock is free again at once"]
pub struct OwnedRwLockWriteGuard<T: ?Sized>(Hold<Rc<RwLock<T>>>);

impl<'a, T: ?Sized> RwLockWriteGuard<'a, T> {
    /// Reads from now on; no other writer comes in between.
    pub fn downgrade(self) -> RwLockReadGuard<'a, T> {
        RwLockReadGuard(self.0.downgrade())
    }
}

impl<T: ?Sized> OwnedRwLockWriteGuard<T> {
    /// Reads from now on; no other writer comes in between.
    pub fn downgrade(self) -> OwnedRwLockReadGuard<T> {
        OwnedRwLockReadGuard(self.0.downgrade())
    }
}

shared_guard!(RwLockReadGuard<'a, T>, 'a,);
shared_guard!(OwnedRwLockReadGuard<T>,);
unique_guard!(RwLockWriteGuard<'a, T>, 'a,);
unique_guard!(OwnedRwLockWriteGuard<T>,);
