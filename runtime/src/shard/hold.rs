//! What a virtual clock waits for: work on other threads that will come back to this loop.
//!
//! A loop on the machine's clock makes no use of it.

#![deny(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::with_current;

/// How much is under way elsewhere.
#[derive(Clone, Debug, Default)]
pub(super) struct Holds(Arc<AtomicUsize>);

impl Holds {
    /// Whether virtual time must stand still.
    pub(super) fn any(&self) -> bool {
        // Acquire pairs with the Release in `drop`: the wake-up that came before it is in the inbox by now.
        self.0.load(Ordering::Acquire) > 0
    }
}

/// Keeps a virtual clock from moving until it is dropped, on any thread.
#[derive(Debug)]
pub(crate) struct TimeHold(Holds);

/// Stops this thread's clock if it is a virtual one.
pub(crate) fn hold_virtual_time() -> Option<TimeHold> {
    with_current(|current| {
        let shard = current.filter(|shard| shard.clock.is_virtual())?;
        // Relaxed: taken by the thread that asks.
        shard.holds.0.fetch_add(1, Ordering::Relaxed);
        Some(TimeHold(shard.holds.clone()))
    })
}

impl Drop for TimeHold {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Release);
    }
}
