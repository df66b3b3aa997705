//! A value behind permits, and the hold on it: what [`Mutex`](super::Mutex) and [`RwLock`](super::RwLock) share.
//!
//! All of them are asked for by who wants to change the value, one by who wants to look at it. The only unsafe code of
//! this room: a guard that owns its lock cannot also hold a borrow out of a `RefCell` in it.

#![allow(unsafe_code)]

use std::cell::UnsafeCell;
use std::rc::Rc;

use super::permits::{Acquire, NoPermits, Permits};
use crate::task::waits::WaitsFor;

/// What a lock has to be for [`Hold`].
pub(super) trait Lock {
    type Value: ?Sized;

    fn locked(&self) -> &Locked<Self::Value>;
}

impl<L: Lock> Lock for &L
where
    L: ?Sized,
{
    type Value = L::Value;

    fn locked(&self) -> &Locked<L::Value> {
        (**self).locked()
    }
}

impl<L: Lock> Lock for Rc<L>
where
    L: ?Sized,
{
    type Value = L::Value;

    fn locked(&self) -> &Locked<L::Value> {
        (**self).locked()
    }
}

/// A value and its permits.
pub(super) struct Locked<T: ?Sized> {
    permits: Permits,
    /// How many there are in all.
    all: usize,
    /// INVARIANT: shared references come from a [`Hold`] of at least one permit, unique ones from one of `all` permits,
    /// or from `&mut self`. Holds are made with permits that were taken out, and put them back when they are dropped.
    value: UnsafeCell<T>,
}

impl<T> Locked<T> {
    pub(super) const fn new(value: T, all: usize) -> Self {
        Locked { permits: Permits::new(all), all, value: UnsafeCell::new(value) }
    }

    pub(super) fn into_inner(self) -> T {
        self.value.into_inner()
    }
}

impl<T: ?Sized> Locked<T> {
    pub(super) fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }

    #[inline]
    pub(super) fn shared(&self, dump: &'static WaitsFor) -> Acquire<'_> {
        self.permits.acquire(1, dump)
    }

    #[inline]
    pub(super) fn unique(&self, dump: &'static WaitsFor) -> Acquire<'_> {
        self.permits.acquire(self.all, dump)
    }
}

/// The hold on a value: permits of its lock, which go back when it is dropped.
///
/// INVARIANT: this many permits of `lock` are taken out for this hold alone.
pub(super) struct Hold<L: Lock> {
    lock: L,
    permits: usize,
}

impl<L: Lock> Hold<L> {
    /// Waits to share the value.
    pub(super) async fn shared(lock: L, dump: &'static WaitsFor) -> Hold<L> {
        let acquired = lock.locked().shared(dump).await;
        debug_assert!(acquired.is_ok(), "locks are never closed");
        Hold { lock, permits: 1 }
    }

    /// Waits to have the value alone.
    pub(super) async fn unique(lock: L, dump: &'static WaitsFor) -> Hold<L> {
        let acquired = lock.locked().unique(dump).await;
        debug_assert!(acquired.is_ok(), "locks are never closed");
        let permits = lock.locked().all;
        Hold { lock, permits }
    }

    pub(super) fn try_shared(lock: L) -> Result<Hold<L>, NoPermits> {
        lock.locked().permits.try_acquire(1)?;
        Ok(Hold { lock, permits: 1 })
    }

    pub(super) fn try_unique(lock: L) -> Result<Hold<L>, NoPermits> {
        let permits = lock.locked().all;
        lock.locked().permits.try_acquire(permits)?;
        Ok(Hold { lock, permits })
    }

    /// Shares the value from now on; nobody can have changed it in between.
    pub(super) fn downgrade(mut self) -> Hold<L> {
        let given_back = self.permits - 1;
        self.permits = 1;
        self.lock.locked().permits.release(given_back);
        self
    }

    pub(super) fn lock(&self) -> &L {
        &self.lock
    }

    #[inline]
    pub(super) fn value(&self) -> &L::Value {
        debug_assert!(self.permits >= 1);
        // SAFETY: this hold has at least one permit, so no other has all of them: there is no unique reference, and none
        // can be made before this borrow of the hold ends (invariant on the field).
        unsafe { &*self.lock.locked().value.get() }
    }

    #[inline]
    pub(super) fn value_mut(&mut self) -> &mut L::Value {
        let locked = self.lock.locked();
        assert!(self.permits == locked.all, "only who holds a value alone may change it");
        // SAFETY: this hold has all permits (asserted), so there is no other hold, and `self` is borrowed uniquely.
        unsafe { &mut *locked.value.get() }
    }
}

impl<L: Lock> Drop for Hold<L> {
    #[inline]
    fn drop(&mut self) {
        self.lock.locked().permits.release(self.permits);
    }
}
