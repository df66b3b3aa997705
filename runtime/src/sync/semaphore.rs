//! A bound on how many tasks do something at the same time.

use std::fmt;
use std::rc::Rc;

use super::permits::{NoPermits, PERMITS_MAX, Permits};
use crate::task::waits::WaitsFor;

/// Permits that tasks take, hold and give back.
///
/// Tasks get them in the order in which they asked; one that asks for many is not overtaken by those that ask for few.
///
/// # Examples
///
/// ```
/// annulet::run(async {
///     let downloads = annulet::sync::Semaphore::new(3);
///     let permit = downloads.acquire().await.expect("nobody closes it");
///     assert_eq!(downloads.available_permits(), 2);
///     drop(permit);
///     assert_eq!(downloads.available_permits(), 3);
/// });
/// ```
#[derive(Debug)]
pub struct Semaphore(Permits);

impl Semaphore {
    /// The most permits that a semaphore can have.
    pub const MAX_PERMITS: usize = PERMITS_MAX;

    /// A semaphore with `permits` permits. With none, everybody waits until [`add_permits`](Self::add_permits).
    ///
    /// # Panics
    ///
    /// When `permits` is above [`MAX_PERMITS`](Self::MAX_PERMITS).
    #[track_caller]
    pub const fn new(permits: usize) -> Self {
        assert!(permits <= PERMITS_MAX, "a semaphore may not have more than Semaphore::MAX_PERMITS permits");
        Semaphore(Permits::new(permits))
    }

    /// Permits that nobody holds.
    pub fn available_permits(&self) -> usize {
        self.0.available()
    }

    /// Adds permits.
    ///
    /// # Panics
    ///
    /// When there would be more than [`MAX_PERMITS`](Self::MAX_PERMITS).
    pub fn add_permits(&self, count: usize) {
        self.0.release(count);
    }

    /// Takes up to `count` free permits away for good, and gives the number that there were.
    pub fn forget_permits(&self, count: usize) -> usize {
        self.0.forget(count)
    }

    /// Waits for a permit.
    ///
    /// # Errors
    ///
    /// [`AcquireError`] after [`close`](Self::close).
    ///
    /// # Cancel safety
    ///
    /// A dropped wait loses its place in the queue; a permit that it may have got goes to the next.
    #[inline]
    pub async fn acquire(&self) -> Result<SemaphorePermit<'_>, AcquireError> {
        self.acquire_many(1).await
    }

    /// Waits for `count` permits together. More than there ever are is an endless wait.
    ///
    /// # Errors
    ///
    /// [`AcquireError`] after [`close`](Self::close).
    ///
    /// # Cancel safety
    ///
    /// As [`acquire`](Self::acquire).
    pub async fn acquire_many(&self, count: u32) -> Result<SemaphorePermit<'_>, AcquireError> {
        let permits = count as usize;
        self.0.acquire(permits, &WaitsFor::Lock("Semaphore")).await.map_err(|_| AcquireError(()))?;
        Ok(SemaphorePermit { semaphore: self, permits })
    }

    /// A permit, if one is free and nobody waits.
    ///
    /// # Errors
    ///
    /// [`TryAcquireError`] says which of the two it is: none free, or closed.
    pub fn try_acquire(&self) -> Result<SemaphorePermit<'_>, TryAcquireError> {
        self.try_acquire_many(1)
    }

    /// `count` permits, if as many are free and nobody waits.
    ///
    /// # Errors
    ///
    /// As [`try_acquire`](Self::try_acquire).
    pub fn try_acquire_many(&self, count: u32) -> Result<SemaphorePermit<'_>, TryAcquireError> {
        let permits = count as usize;
        self.0.try_acquire(permits)?;
        Ok(SemaphorePermit { semaphore: self, permits })
    }

    /// [`acquire`](Self::acquire) with a permit that owns the semaphore, so that it can be kept anywhere.
    ///
    /// # Errors
    ///
    /// As there.
    ///
    /// # Cancel safety
    ///
    /// As there.
    pub async fn acquire_owned(self: Rc<Self>) -> Result<OwnedSemaphorePermit, AcquireError> {
        self.acquire_many_owned(1).await
    }

    /// [`acquire_many`](Self::acquire_many) with permits that own the semaphore.
    ///
    /// # Errors
    ///
    /// As there.
    ///
    /// # Cancel safety
    ///
    /// As there.
    pub async fn acquire_many_owned(
        self: Rc<Self>,
        count: u32,
    ) -> Result<OwnedSemaphorePermit, AcquireError> {
        let permits = count as usize;
        self.0.acquire(permits, &WaitsFor::Lock("Semaphore")).await.map_err(|_| AcquireError(()))?;
        Ok(OwnedSemaphorePermit { semaphore: self, permits })
    }

    /// [`try_acquire`](Self::try_acquire) with a permit that owns the semaphore.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn try_acquire_owned(self: Rc<Self>) -> Result<OwnedSemaphorePermit, TryAcquireError> {
        self.try_acquire_many_owned(1)
    }

    /// [`try_acquire_many`](Self::try_acquire_many) with permits that own the semaphore.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn try_acquire_many_owned(
        self: Rc<Self>,
        count: u32,
    ) -> Result<OwnedSemaphorePermit, TryAcquireError> {
        let permits = count as usize;
        self.0.try_acquire(permits)?;
        Ok(OwnedSemaphorePermit { semaphore: self, permits })
    }

    /// Ends every wait with an error and refuses every later one. Permits that are held stay valid.
    pub fn close(&self) {
        self.0.close();
    }

    /// Whether [`close`](Self::close) was called.
    pub fn is_closed(&self) -> bool {
        self.0.is_closed()
    }
}

/// Permits of a [`Semaphore`]; they go back when this is dropped.
#[must_use = "if it is not kept the permit goes back at once"]
#[derive(Debug)]
pub struct SemaphorePermit<'a> {
    semaphore: &'a Semaphore,
    permits: usize,
}

/// [`SemaphorePermit`] that owns the semaphore.
#[must_use = "if it is not kept the permit goes back at once"]
#[derive(Debug)]
pub struct OwnedSemaphorePermit {
    semaphore: Rc<Semaphore>,
    permits: usize,
}

macro_rules! permit {
    ($permit:ty, $same:expr, $part:expr) => {
        impl $permit {
            /// How many permits it holds.
            pub fn num_permits(&self) -> usize {
                self.permits
            }

            /// Does not give the permits back: the semaphore has so many less from now on.
            pub fn forget(mut self) {
                self.permits = 0;
            }

            /// Takes `other`'s permits over.
            ///
            /// # Panics
            ///
            /// When they are of different semaphores.
            #[track_caller]
            pub fn merge(&mut self, mut other: Self) {
                assert!($same(&self.semaphore, &other.semaphore), "merging permits of different semaphores");
                self.permits += std::mem::take(&mut other.permits);
            }

            /// Splits `count` permits off; `None` if there are fewer.
            pub fn split(&mut self, count: usize) -> Option<Self> {
                self.permits = self.permits.checked_sub(count)?;
                Some($part(&self.semaphore, count))
            }
        }

        impl Drop for $permit {
            #[inline]
            fn drop(&mut self) {
                if self.permits > 0 {
                    self.semaphore.0.release(self.permits);
                }
            }
        }
    };
}

permit!(
    SemaphorePermit<'_>,
    |one: &&Semaphore, other: &&Semaphore| std::ptr::eq(*one, *other),
    |of, permits| { SemaphorePermit { semaphore: of, permits } }
);
permit!(OwnedSemaphorePermit, Rc::ptr_eq, |of, permits| OwnedSemaphorePermit {
    semaphore: Rc::clone(of),
    permits
});

/// The semaphore was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AcquireError(());

impl fmt::Display for AcquireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the semaphore is closed: Semaphore::close was called, there will be no more permits")
    }
}

impl std::error::Error for AcquireError {}

/// Why [`Semaphore::try_acquire`] gave nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TryAcquireError {
    /// The semaphore was closed.
    Closed,
    /// Too few permits are free, or others wait for them.
    NoPermits,
}

impl From<NoPermits> for TryAcquireError {
    fn from(error: NoPermits) -> Self {
        match error {
            NoPermits::Busy => TryAcquireError::NoPermits,
            NoPermits::Closed => TryAcquireError::Closed,
        }
    }
}

impl fmt::Display for TryAcquireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TryAcquireError::Closed => "the semaphore is closed: there will be no more permits",
            TryAcquireError::NoPermits => "too few permits are free, or others wait for them",
        })
    }
}

impl std::error::Error for TryAcquireError {}
