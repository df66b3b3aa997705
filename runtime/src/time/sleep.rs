//! A future that waits until a deadline.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::TimerKey;
use crate::shard::{self, ShardKey, with_current};
use crate::task::{WaitsFor, waits};

/// Waits for `duration`.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// annulet::run(async {
///     annulet::time::sleep(Duration::from_millis(1)).await;
/// });
/// ```
///
/// # Cancel safety
///
/// Dropping the future removes its timer.
///
/// # Panics
///
/// Outside of a loop.
#[track_caller]
pub fn sleep(duration: Duration) -> Sleep {
    // Far beyond any uptime is as good as for ever.
    let deadline = super::now().checked_add(duration);
    Sleep { deadline, timer: None }
}

/// Waits until `deadline`; at once if it has passed.
pub fn sleep_until(deadline: Instant) -> Sleep {
    Sleep { deadline: Some(deadline), timer: None }
}

/// See [`sleep`]. Holds a timer's number, so it may move to another thread before it is first polled.
#[must_use = "a sleep does nothing unless it is awaited"]
pub struct Sleep {
    /// None: never.
    deadline: Option<Instant>,
    /// The entry in the wheel of the shard that polled it.
    timer: Option<(ShardKey, TimerKey)>,
}

impl Sleep {
    /// When it ends; `None` if that is beyond what the clock can say.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Whether the deadline has passed, by the loop's clock.
    pub fn is_elapsed(&self) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= super::now())
    }

    /// Waits for another deadline from now on.
    pub fn reset(&mut self, deadline: Instant) {
        self.cancel();
        self.deadline = Some(deadline);
    }

    fn cancel(&mut self) {
        let Some((key, timer)) = self.timer.take() else { return };
        // On another thread the entry stays, fires, and wakes a task once more than needed.
        let removed = with_current(|current| {
            let current = current.filter(|current| current.key == key)?;
            current.io.borrow_mut().timers.remove(timer)
        });
        // The waker is dropped here, where nothing is borrowed.
        drop(removed);
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(deadline) = self.deadline else {
            waits::note(WaitsFor::Timer { deadline_ns: u64::MAX });
            return Poll::Pending;
        };
        let current = shard::current();
        let at = current.clock.nanos(deadline);
        if at <= current.clock.now() {
            std::task::ready!(current.executor.poll_share(cx));
            self.cancel();
            return Poll::Ready(());
        }
        waits::note(WaitsFor::Timer { deadline_ns: at });
        let waker = cx.waker().clone();
        let mut io = current.io.borrow_mut();
        let mine = self.timer.filter(|(key, _)| *key == current.key);
        let unused = match mine {
            Some((_, timer)) => io.timers.replace_waker(timer, waker),
            None => Err(waker),
        };
        match unused {
            Ok(old) => {
                drop(io);
                drop(old);
            }
            Err(waker) => {
                let timer = io.timers.insert_waker(at, waker);
                drop(io);
                self.cancel();
                self.timer = Some((current.key, timer));
            }
        }
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.cancel();
    }
}

impl fmt::Debug for Sleep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sleep").field("deadline", &self.deadline).finish()
    }
}
