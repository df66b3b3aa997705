//! Whether a program should be sent work: one shared value, for whoever answers a load balancer.
//!
//! Whoever starts and ends loops sets it ([`Builder`](crate::Builder)); anybody may look. It is one atomic byte, which is
//! written a few times in the life of a process and read when a probe comes.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// Where a process is in its life, for `/readyz` and the like. Clones are the same value, on any thread.
///
/// # Examples
///
/// ```
/// use annulet::ReadinessState;
///
/// let loops = annulet::Builder::new().start(|core| async move { core.stopped().await }).unwrap();
/// let readiness = loops.readiness().clone();
/// assert_eq!(readiness.state(), ReadinessState::Ready);
/// loops.stop();
/// assert!(!readiness.is_ready());
/// loops.join().unwrap();
/// ```
#[derive(Clone, Default)]
pub struct Readiness(Arc<AtomicU8>);

/// What a [`Readiness`] says.
///
/// ```text
///   Starting ── every loop runs ──► Ready ── asked to end ──► Draining
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ReadinessState {
    /// Not every loop runs yet.
    Starting = 0,
    /// Send it work.
    Ready = 1,
    /// Send it no more: it is about to end. What arrives all the same is still answered for a while.
    Draining = 2,
}

impl Readiness {
    /// What is to be said now.
    pub fn state(&self) -> ReadinessState {
        // Acquire pairs with the Release in `move_to`: who is told "ready" finds what was made before.
        match self.0.load(Ordering::Acquire) {
            0 => ReadinessState::Starting,
            1 => ReadinessState::Ready,
            _ => ReadinessState::Draining,
        }
    }

    /// Whether work may be sent.
    pub fn is_ready(&self) -> bool {
        self.state() == ReadinessState::Ready
    }

    /// Goes on to `state`; never back.
    pub(crate) fn move_to(&self, state: ReadinessState) {
        self.0.fetch_max(state as u8, Ordering::Release);
    }
}

impl fmt::Debug for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Readiness").field(&self.state()).finish()
    }
}

impl fmt::Display for ReadinessState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ReadinessState::Starting => "starting",
            ReadinessState::Ready => "ready",
            ReadinessState::Draining => "draining",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_never_goes_back() {
        let readiness = Readiness::default();
        let check = |to, expected| {
            readiness.move_to(to);
            assert_eq!(readiness.clone().state(), expected);
        };
        assert_eq!(readiness.state(), ReadinessState::Starting);
        check(ReadinessState::Ready, ReadinessState::Ready);
        check(ReadinessState::Starting, ReadinessState::Ready);
        check(ReadinessState::Draining, ReadinessState::Draining);
        check(ReadinessState::Ready, ReadinessState::Draining);
        assert_eq!(format!("{readiness:?} {}", readiness.state()), "Readiness(Draining) draining");
    }
}
