//! Time: sleeping, intervals and time limits on the core's timer wheel.
//!
//! All of it counts by the loop's clock, which is read once a turn; [`now`] is that reading. A deadline never fires
//! early, and it fires with the first turn after it: the next deadline goes to the kernel with every wait.
//!
//! `wheel` is the pure data structure, in `pages`, `timers` the core's use of it, `clock` the one place that reads a clock.

mod clock;
mod interval;
mod pages;
mod sleep;
mod timeout;
mod timers;
mod wheel;

use std::time::Instant;

pub(crate) use clock::Clock;
pub use interval::{Interval, MissedTickBehavior, interval, interval_at};
pub use sleep::{Sleep, sleep, sleep_until};
pub use timeout::{Elapsed, Timeout, timeout, timeout_at};
pub(crate) use timers::{TimerTarget, Timers};
pub(crate) use wheel::TimerKey;

/// The loop's time: read once a turn, so it costs a load.
///
/// With a virtual clock it is virtual time.
///
/// # Panics
///
/// Outside of a loop; `std::time::Instant::now` is for there.
#[track_caller]
pub fn now() -> Instant {
    // `sleep`, `interval` and others come here too: words that fit them all.
    match crate::shard::with_current(|shard| shard.map(|shard| shard.clock.instant())) {
        Some(now) => now,
        None => crate::shard::no_loop(),
    }
}
