//! A point at which tasks wait for each other.

use std::cell::RefCell;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::waiters::{OldWakers, WaiterId, Waiters, wake_due};
use crate::task::waits::{WaitsFor, note};

/// Lets tasks go on when a number of them have come, again and again.
///
/// # Examples
///
/// ```
/// use std::rc::Rc;
///
/// annulet::run(async {
///     let barrier = Rc::new(annulet::sync::Barrier::new(3));
///     let tasks: Vec<_> = (0..3)
///         .map(|_| {
///             let barrier = Rc::clone(&barrier);
///             annulet::spawn(async move { barrier.wait().await.is_leader() })
///         })
///         .collect();
///     let mut leaders = 0;
///     for task in tasks {
///         leaders += usize::from(task.await.unwrap());
///     }
///     assert_eq!(leaders, 1);
/// });
/// ```
#[derive(Debug)]
pub struct Barrier {
    /// How many make a round.
    size: usize,
    waiters: RefCell<Waiters<(), ()>>,
}

impl Barrier {
    /// A barrier for `size` tasks. Zero is taken for one, as std and tokio do: nobody waits.
    pub const fn new(size: usize) -> Self {
        Barrier { size: if size == 0 { 1 } else { size }, waiters: RefCell::new(Waiters::new()) }
    }

    /// Waits until as many tasks wait as the barrier is for. One of them, the last to come, is the leader.
    ///
    /// # Cancel safety
    ///
    /// A wait that is dropped before its round is complete takes its arrival back (in tokio it counts on).
    pub async fn wait(&self) -> BarrierWaitResult {
        Wait { barrier: self, id: None }.await
    }

    #[cfg(test)]
    pub(super) fn waiters(&self) -> usize {
        self.waiters.borrow().used()
    }
}

/// See [`Barrier::wait`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BarrierWaitResult {
    is_leader: bool,
}

impl BarrierWaitResult {
    /// Whether this task came last; one of each round is it.
    pub fn is_leader(&self) -> bool {
        self.is_leader
    }
}

#[derive(Debug)]
struct Wait<'a> {
    barrier: &'a Barrier,
    id: Option<WaiterId>,
}

impl Future for Wait<'_> {
    type Output = BarrierWaitResult;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<BarrierWaitResult> {
        let this = &mut *self;
        let (waker, mut old) = (cx.waker().clone(), OldWakers::default());
        let mut waiters = this.barrier.waiters.borrow_mut();
        note(WaitsFor::Lock("Barrier"));
        if this.id.is_some() {
            return waiters
                .poll(&mut this.id, waker, &mut old)
                .map(|()| BarrierWaitResult { is_leader: false });
        }
        if waiters.waiting() + 1 < this.barrier.size {
            this.id = Some(waiters.push((), waker));
            return Poll::Pending;
        }
        waiters.grant_all(());
        drop(waiters);
        wake_due(|| this.barrier.waiters.borrow_mut().take_due());
        Poll::Ready(BarrierWaitResult { is_leader: true })
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        let removed = self.barrier.waiters.borrow_mut().remove(&mut self.id);
        drop(removed);
    }
}
