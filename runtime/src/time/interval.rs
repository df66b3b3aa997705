//! Ticks at a fixed period.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use futures_core::Stream;

use super::{Sleep, sleep_until};

/// What an [`Interval`] does about ticks that were missed because nobody waited for them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MissedTickBehavior {
    /// Catch up: missed ticks come at once, one after the other.
    #[default]
    Burst,
    /// Go on from now: the next tick is a full period after the late one.
    Delay,
    /// Drop them: the next tick is the next multiple of the period.
    Skip,
}

/// Ticks every `period`; the first tick is at once.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// annulet::run(async {
///     let mut interval = annulet::time::interval(Duration::from_millis(1));
///     for _ in 0..3 {
///         interval.tick().await;
///     }
/// });
/// ```
///
/// # Panics
///
/// When `period` is zero, and outside of a loop.
#[track_caller]
pub fn interval(period: Duration) -> Interval {
    interval_at(super::now(), period)
}

/// Ticks every `period`; the first tick is at `start`.
///
/// # Panics
///
/// When `period` is zero.
#[track_caller]
pub fn interval_at(start: Instant, period: Duration) -> Interval {
    assert!(!period.is_zero(), "an interval needs a period above zero");
    Interval { sleep: sleep_until(start), next: start, period, missed: MissedTickBehavior::default() }
}

/// See [`interval`].
#[derive(Debug)]
pub struct Interval {
    sleep: Sleep,
    /// When the next tick is due.
    next: Instant,
    period: Duration,
    missed: MissedTickBehavior,
}

impl Interval {
    /// Waits for the next tick and gives the instant for which it was planned.
    ///
    /// # Cancel safety
    ///
    /// A dropped wait loses no tick.
    pub async fn tick(&mut self) -> Instant {
        poll_fn(|cx| self.poll_tick(cx)).await
    }

    /// The polling form of [`tick`](Self::tick).
    pub fn poll_tick(&mut self, cx: &mut Context<'_>) -> Poll<Instant> {
        ready!(Pin::new(&mut self.sleep).poll(cx));
        let planned = self.next;
        let now = super::now();
        self.next = match self.missed {
            MissedTickBehavior::Burst => planned + self.period,
            MissedTickBehavior::Delay if now > planned + self.period => now + self.period,
            MissedTickBehavior::Delay => planned + self.period,
            MissedTickBehavior::Skip => {
                let late = now.saturating_duration_since(planned).as_nanos();
                let periods = late / self.period.as_nanos() + 1;
                planned
                    + Duration::from_nanos(
                        u64::try_from(periods * self.period.as_nanos()).unwrap_or(u64::MAX),
                    )
            }
        };
        self.sleep.reset(self.next);
        Poll::Ready(planned)
    }

    /// [`tick`](Self::tick) as streams have it; never `None`.
    ///
    /// # Cancel safety
    ///
    /// As there.
    pub async fn next(&mut self) -> Option<Instant> {
        Some(self.tick().await)
    }

    /// Starts the period anew from now.
    pub fn reset(&mut self) {
        self.next = super::now() + self.period;
        self.sleep.reset(self.next);
    }

    /// The period.
    pub fn period(&self) -> Duration {
        self.period
    }

    /// What happens to missed ticks.
    pub fn set_missed_tick_behavior(&mut self, behavior: MissedTickBehavior) {
        self.missed = behavior;
    }
}

impl Stream for Interval {
    type Item = Instant;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Instant>> {
        self.poll_tick(cx).map(Some)
    }
}
