//! A number of permits and who waits for some of them: what [`Semaphore`](super::Semaphore), [`Mutex`](super::Mutex),
//! [`RwLock`](super::RwLock) and the bounded [`mpsc`](super::mpsc) channel are made of.
//!
//! First come, first served: while somebody waits nobody else takes a permit, also if there would be enough. So a writer,
//! which asks for all of them, cannot be starved by readers, which ask for one each.

use std::cell::{RefCell, RefMut};
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use super::waiters::{OldWakers, Removed, WaiterId, Waiters, wake_first_and_due};
use crate::task::waits::{WaitsFor, note};
use crate::task::waker;

/// The most permits that there can be; the rest of the range is room for sums.
pub(super) const PERMITS_MAX: usize = usize::MAX >> 3;

/// See the module.
#[derive(Default)]
pub(super) struct Permits {
    state: RefCell<State>,
}

#[derive(Debug, Default)]
struct State {
    available: usize,
    is_closed: bool,
    /// How many each waits for.
    waiters: Waiters<usize, Grant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Grant {
    /// This many permits, which are taken out already.
    Permits(usize),
    /// None: there will be no more.
    Closed,
}

/// Why there are no permits to be had at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoPermits {
    /// Somebody has them, or waits for them.
    Busy,
    /// There will be no more.
    Closed,
}

impl State {
    fn try_take(&mut self, count: usize) -> Result<(), NoPermits> {
        if self.is_closed {
            return Err(NoPermits::Closed);
        }
        if count > self.available || (count > 0 && self.waiters.waiting() > 0) {
            return Err(NoPermits::Busy);
        }
        self.available -= count;
        Ok(())
    }

    /// Gives what there is to those who wait, as long as it is enough for the first of them. The first waker is given out,
    /// to be woken by [`Permits::wake`]; most often there is no other.
    fn hand_out(&mut self) -> Option<Waker> {
        let mut first = None;
        while let Some(count) = self.waiters.front().copied()
            && count <= self.available
        {
            self.available -= count;
            let grant = Grant::Permits(count);
            match first {
                None => first = self.waiters.grant_front_now(grant),
                Some(_) => _ = self.waiters.grant_front(grant),
            }
        }
        first
    }
}

impl Permits {
    pub(super) const fn new(available: usize) -> Self {
        Permits { state: RefCell::new(State { available, is_closed: false, waiters: Waiters::new() }) }
    }

    /// Those that nobody has.
    pub(super) fn available(&self) -> usize {
        self.state.borrow().available
    }

    pub(super) fn is_closed(&self) -> bool {
        self.state.borrow().is_closed
    }

    #[inline]
    pub(super) fn try_acquire(&self, count: usize) -> Result<(), NoPermits> {
        self.state.borrow_mut().try_take(count)
    }

    /// Waits its turn for `count` permits. `dump` is what a task dump says of the wait.
    #[inline]
    pub(super) fn acquire(&self, count: usize, dump: &'static WaitsFor) -> Acquire<'_> {
        Acquire { permits: self, count, id: None, dump }
    }

    /// Puts `count` permits back, or new ones in.
    ///
    /// # Panics
    ///
    /// When there would be more than [`PERMITS_MAX`].
    #[inline]
    pub(super) fn release(&self, count: usize) {
        let mut state = self.state.borrow_mut();
        assert!(
            count <= PERMITS_MAX.saturating_sub(state.available),
            "a semaphore has at most {PERMITS_MAX} permits; {count} more were added"
        );
        state.available += count;
        if state.waiters.waiting() > 0 {
            let first = state.hand_out();
            self.wake(state, first);
        }
    }

    /// Takes up to `count` permits away for good, and tells how many there were.
    pub(super) fn forget(&self, count: usize) -> usize {
        let mut state = self.state.borrow_mut();
        let count = count.min(state.available);
        state.available -= count;
        count
    }

    /// Ends every wait and refuses every later one. Permits that were given out stay valid.
    pub(super) fn close(&self) {
        let mut state = self.state.borrow_mut();
        state.is_closed = true;
        state.waiters.grant_all(Grant::Closed);
        self.wake(state, None);
    }

    /// Wakes those who were given something: `first`, and whose grant is due.
    #[inline]
    fn wake(&self, state: RefMut<'_, State>, first: Option<Waker>) {
        let has_due = state.waiters.has_due();
        drop(state);
        if has_due {
            wake_first_and_due(first, || self.state.borrow_mut().waiters.take_due());
        } else if let Some(first) = first {
            first.wake();
        }
    }

    /// Waits that are under way.
    #[cfg(test)]
    pub(super) fn waiters(&self) -> usize {
        self.state.borrow().waiters.used()
    }
}

impl fmt::Debug for Permits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.borrow();
        f.debug_struct("Permits")
            .field("available", &state.available)
            .field("waiting", &state.waiters.waiting())
            .field("is_closed", &state.is_closed)
            .finish()
    }
}

/// The wait for permits. Dropped before it is done, it leaves the queue, and hands on what it may have been given.
#[derive(Debug)]
pub(super) struct Acquire<'a> {
    permits: &'a Permits,
    count: usize,
    id: Option<WaiterId>,
    dump: &'static WaitsFor,
}

/// There will be no more permits.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Closed;

impl From<Grant> for Result<(), Closed> {
    fn from(grant: Grant) -> Self {
        match grant {
            Grant::Permits(_) => Ok(()),
            Grant::Closed => Err(Closed),
        }
    }
}

impl Future for Acquire<'_> {
    type Output = Result<(), Closed>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if this.id.is_none() {
            match this.permits.try_acquire(this.count) {
                Ok(()) => return Poll::Ready(Ok(())),
                Err(NoPermits::Closed) => return Poll::Ready(Err(Closed)),
                Err(NoPermits::Busy) => {}
            }
        }
        this.poll_in_queue(cx)
    }
}

impl Acquire<'_> {
    fn poll_in_queue(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Closed>> {
        if self.id.is_some() {
            let granted = self.permits.state.borrow_mut().waiters.take_granted(&mut self.id);
            if let Some((grant, unwoken)) = granted {
                drop(unwoken);
                return Poll::Ready(grant.into());
            }
        }
        // Cloning the waker, which is anybody's code, may make room, give this one its turn, or close.
        let waker = waker::clone(cx.waker());
        let mut state = self.permits.state.borrow_mut();
        if self.id.is_none() {
            if state.is_closed {
                drop(state);
                return Poll::Ready(Err(Closed));
            }
            self.id = Some(state.waiters.push(self.count, waker));
            if state.available > 0 {
                let first = state.hand_out();
                self.permits.wake(state, first);
            }
        } else {
            let mut old = OldWakers::default();
            let granted = state.waiters.poll(&mut self.id, waker, &mut old);
            drop(state);
            drop(old);
            if let Poll::Ready(grant) = granted {
                return Poll::Ready(grant.into());
            }
        }
        note(*self.dump);
        Poll::Pending
    }
}

impl Drop for Acquire<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.id.is_some() {
            self.leave();
        }
    }
}

impl Acquire<'_> {
    fn leave(&mut self) {
        let mut state = self.permits.state.borrow_mut();
        let Some((removed, waker)) = state.waiters.remove(&mut self.id) else { return };
        if let Removed::Granted(Grant::Permits(count)) = removed {
            state.available += count;
        }
        // Not only after a grant: who waited behind a large request may be in its turn now.
        let first = state.hand_out();
        self.permits.wake(state, first);
        drop(waker);
    }
}
