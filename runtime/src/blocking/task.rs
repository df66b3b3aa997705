//! The handle of a job, and the slot through which its result comes back.

use std::any::Any;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use super::pool::Shared;
use super::queue::{Job, JobNumber, Ticket};
use crate::panics::drop_quietly;
use crate::shard::{TimeHold, hold_virtual_time};
use crate::task::JoinError;
use crate::task::waits::{WaitsFor, note};

/// Awaits a closure on a pool of threads and gives its value; made by [`spawn_blocking`](crate::spawn_blocking) and
/// [`Pool::spawn`](super::Pool::spawn).
///
/// It may be sent to other threads and awaited there, on a loop of Annulet or in any other executor. On a loop with a
/// virtual clock time stands still while a closure that was handed over there waits or runs.
///
/// # Errors
///
/// Awaiting gives a [`JoinError`] when the closure panicked, or when no thread could be started for it.
///
/// # Cancel safety
///
/// Dropping the handle before the closure runs takes it out of the queue and drops it. Once it runs it runs to its end,
/// and its value is dropped on the pool's thread. To keep a closure that nobody waits for, spawn its handle as a task:
/// `annulet::spawn(handle)`.
///
/// # Panics
///
/// Awaiting panics after the value was taken.
#[must_use = "dropping the handle takes the closure out of the queue; await it, or spawn it as a task"]
pub struct BlockingTask<T> {
    pool: Arc<Shared>,
    slot: Arc<Slot<T>>,
    stage: Stage,
}

enum Stage {
    /// The queue was full; its place in line once it was polled.
    Waits { job: Option<Box<dyn Job>>, ticket: Option<Ticket> },
    /// In the queue, running, or done.
    Submitted(JobNumber),
    /// The value was taken.
    Taken,
}

/// The queue of a pool is full. Holds the closure.
pub struct Full<F>(pub F);

impl<F> fmt::Display for Full<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "the queue of the blocking pool is full; wait for room with spawn, or raise queue_max or threads_max",
        )
    }
}

impl<F> fmt::Debug for Full<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Full({self})")
    }
}

impl<F> std::error::Error for Full<F> {}

impl<T: Send + 'static> BlockingTask<T> {
    pub(super) fn spawn<F: FnOnce() -> T + Send + 'static>(pool: &Arc<Shared>, f: F) -> Self {
        let slot = Arc::new(Slot::new());
        let job = Box::new(Packet { f, slot: Arc::clone(&slot), hold: hold_virtual_time() });
        let stage = match pool.submit(job, None) {
            Ok(number) => Stage::Submitted(number),
            Err(job) => Stage::Waits { job: Some(job), ticket: None },
        };
        BlockingTask { pool: Arc::clone(pool), slot, stage }
    }

    pub(super) fn try_spawn<F: FnOnce() -> T + Send + 'static>(
        pool: &Arc<Shared>,
        f: F,
    ) -> Result<Self, Full<F>> {
        let slot = Arc::new(Slot::new());
        let job = Box::new(Packet { f, slot: Arc::clone(&slot), hold: hold_virtual_time() });
        match pool.submit(job, None) {
            Ok(number) => Ok(BlockingTask { pool: Arc::clone(pool), slot, stage: Stage::Submitted(number) }),
            Err(job) => {
                let job: Box<dyn Any> = job;
                match job.downcast::<Packet<F, T>>() {
                    Ok(packet) => Err(Full(packet.f)),
                    Err(_) => unreachable!("a refused job comes back as it was"),
                }
            }
        }
    }
}

impl<T> BlockingTask<T> {
    /// Waits until the closure has a place in the pool's queue; at once if it has.
    ///
    /// # Cancel safety
    ///
    /// A dropped wait keeps its place in line.
    pub async fn submitted(&mut self) {
        poll_fn(|cx| self.poll_submitted(cx)).await;
    }

    /// Whether the closure has run, so that awaiting it gives its value at once.
    pub fn is_finished(&self) -> bool {
        match self.stage {
            Stage::Taken => true,
            Stage::Waits { .. } => false,
            Stage::Submitted(_) => self.slot.lock().outcome.is_some(),
        }
    }

    fn poll_submitted(&mut self, cx: &Context<'_>) -> Poll<()> {
        let Stage::Waits { job, ticket } = &mut self.stage else { return Poll::Ready(()) };
        let waiting = job.take().expect("a waiting handle holds its job");
        match self.pool.submit_or_wait(waiting, ticket, cx.waker().clone()) {
            Ok(number) => {
                self.stage = Stage::Submitted(number);
                Poll::Ready(())
            }
            Err(back) => {
                *job = Some(back);
                note(WaitsFor::Blocking);
                Poll::Pending
            }
        }
    }
}

impl<T> Future for BlockingTask<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        assert!(
            !matches!(self.stage, Stage::Taken),
            "a BlockingTask was awaited again after it gave its value"
        );
        std::task::ready!(self.poll_submitted(cx));
        let mut slot = self.slot.lock();
        if let Some(outcome) = slot.outcome.take() {
            drop(slot);
            self.stage = Stage::Taken;
            return Poll::Ready(outcome);
        }
        let old = slot.waker.replace(cx.waker().clone());
        drop(slot);
        drop(old);
        note(WaitsFor::Blocking);
        Poll::Pending
    }
}

// It holds boxes and numbers; nothing in it is pinned.
impl<T> Unpin for BlockingTask<T> {}

impl<T> Drop for BlockingTask<T> {
    fn drop(&mut self) {
        match &mut self.stage {
            Stage::Waits { ticket, .. } => {
                if let Some(ticket) = ticket.take() {
                    let (mine, woken) = self.pool.queue().leave_line(ticket);
                    woken.into_iter().for_each(Waker::wake);
                    drop(mine);
                }
            }
            Stage::Submitted(number) => {
                let removed = self.pool.queue().remove(*number);
                if let Some((job, woken)) = removed {
                    woken.into_iter().for_each(Waker::wake);
                    drop(job);
                }
                self.slot.abandon();
            }
            Stage::Taken => {}
        }
    }
}

impl<T> fmt::Debug for BlockingTask<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockingTask").field("is_finished", &self.is_finished()).finish()
    }
}

/// Where a result lies until its handle takes it.
struct Slot<T>(Mutex<SlotState<T>>);

struct SlotState<T> {
    outcome: Option<Result<T, JoinError>>,
    waker: Option<Waker>,
    /// The handle is gone.
    is_abandoned: bool,
}

impl<T> Slot<T> {
    fn new() -> Self {
        Slot(Mutex::new(SlotState { outcome: None, waker: None, is_abandoned: false }))
    }

    fn lock(&self) -> MutexGuard<'_, SlotState<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// On the pool's thread: leaves the result and wakes the handle; without one it drops the result here.
    fn put(&self, outcome: Result<T, JoinError>) {
        let mut slot = self.lock();
        if slot.is_abandoned {
            drop(slot);
            // The value's drop is the user's code; its panic is told by the panic hook and ends here.
            drop_quietly(outcome);
            return;
        }
        slot.outcome = Some(outcome);
        let waker = slot.waker.take();
        drop(slot);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// On the handle's thread: nobody will come for the result.
    fn abandon(&self) {
        let mut slot = self.lock();
        slot.is_abandoned = true;
        let left = (slot.outcome.take(), slot.waker.take());
        drop(slot);
        drop(left);
    }
}

/// A closure and the slot for its value.
struct Packet<F, T> {
    f: F,
    slot: Arc<Slot<T>>,
    /// Keeps a virtual clock from moving until the value is there and its handle is woken.
    hold: Option<TimeHold>,
}

impl<F: FnOnce() -> T + Send + 'static, T: Send + 'static> Job for Packet<F, T> {
    fn run(self: Box<Self>) {
        let Packet { f, slot, hold } = *self;
        slot.put(catch_unwind(AssertUnwindSafe(f)).map_err(JoinError::panicked));
        drop(hold);
    }

    fn refuse(self: Box<Self>, why: &io::Error) {
        let Packet { f, slot, hold } = *self;
        slot.put(Err(JoinError::not_started(format!(
            "no thread could be started for it: {why}; lower threads_max of the blocking pool, or raise the limit on \
             processes (ulimit -u, pids.max of the cgroup)"
        ))));
        drop(hold);
        drop(f);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_closure_is_an_error_with_the_cure() {
        let slot = Arc::new(Slot::<()>::new());
        let packet = Packet { f: || (), slot: Arc::clone(&slot), hold: None };
        Box::new(packet).refuse(&io::Error::from_raw_os_error(libc::EAGAIN));
        let error = slot.lock().outcome.take().unwrap().unwrap_err();
        assert!(!error.is_cancelled() && !error.is_panic());
        assert_eq!(
            error.to_string(),
            "the task was not started: no thread could be started for it: Resource temporarily unavailable (os error 11); \
             lower threads_max of the blocking pool, or raise the limit on processes (ulimit -u, pids.max of the cgroup)"
        );
    }
}
