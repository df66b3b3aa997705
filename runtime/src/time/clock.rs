//! The one place that reads a clock.

use std::cell::Cell;
use std::time::{Duration, Instant};

use crate::sys::monotonic_ns;

/// A shard's clock: the machine's, or a virtual one that moves only when everything waits.
///
/// It is read once a turn; in between, [`now`](Self::now) is the turn's time. Times are nanoseconds of CLOCK_MONOTONIC.
#[derive(Debug)]
pub(crate) struct Clock {
    is_virtual: bool,
    /// The time of this turn.
    now: Cell<u64>,
    /// The same moment on both scales, for conversion.
    origin: Instant,
    origin_ns: u64,
}

impl Clock {
    pub(crate) fn new(is_virtual: bool) -> Self {
        let origin_ns = monotonic_ns();
        Clock { is_virtual, now: Cell::new(origin_ns), origin: Instant::now(), origin_ns }
    }

    pub(crate) fn is_virtual(&self) -> bool {
        self.is_virtual
    }

    /// The time of this turn.
    #[inline]
    pub(crate) fn now(&self) -> u64 {
        self.now.get()
    }

    /// Reads the machine's clock; a virtual clock stands still.
    #[inline]
    pub(crate) fn refresh(&self) -> u64 {
        if !self.is_virtual {
            self.now.set(monotonic_ns());
        }
        self.now.get()
    }

    /// Moves a virtual clock forward to `to`.
    pub(crate) fn advance(&self, to: u64) {
        debug_assert!(self.is_virtual);
        self.now.set(self.now.get().max(to));
    }

    /// The time of this turn as an [`Instant`].
    #[inline]
    pub(crate) fn instant(&self) -> Instant {
        self.origin + Duration::from_nanos(self.now.get() - self.origin_ns)
    }

    /// An [`Instant`] as nanoseconds; what lies before the clock's origin is the origin.
    #[inline]
    pub(crate) fn nanos(&self, instant: Instant) -> u64 {
        let since = instant.saturating_duration_since(self.origin);
        self.origin_ns.saturating_add(crate::sys::nanos(since))
    }
}
