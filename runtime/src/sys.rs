//! The few system calls that have no safe wrapper in rustix or socket2, and the clock.

use std::time::Duration;

/// Nanoseconds of CLOCK_MONOTONIC, the clock that io_uring's deadlines count in.
#[inline]
pub(crate) fn monotonic_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// A duration in nanoseconds; five hundred years and more are the same.
#[inline]
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
