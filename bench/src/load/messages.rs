//! What the main thread and the loops of a load say to each other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Instant;

use hdrhistogram::Histogram;

use super::handshakes::Handshakes;
use super::samples::Samples;
use super::stalls::Stalls;
use super::stats::Stats;
use super::usage::Usage;

/// What the main thread tells the loops.
#[derive(Debug)]
pub(crate) struct Control {
    /// When the load starts, in nanoseconds since `origin`; zero while that is not known.
    pub(crate) start_ns: AtomicU64,
    /// End now, and report what there is.
    pub(crate) stop: AtomicBool,
    /// The same, asked for from outside of this load.
    pub(crate) interrupt: Arc<AtomicBool>,
    /// What all times count from.
    pub(crate) origin: Instant,
}

/// What a loop tells the main thread.
#[derive(Debug)]
pub(crate) enum Message {
    /// Every connection was tried once.
    Ready { connected: usize, failure: Option<String> },
    /// An interval of the measured time is over.
    Interval(Part),
    /// The loop has ended.
    Done(Box<Outcome>),
}

/// One core's share of an interval.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) number: usize,
    /// From the start of the measured time.
    pub(crate) start_ns: u64,
    /// What passed in fact: a loop that was held up hands its part over late.
    pub(crate) duration_ns: u64,
    /// Errors so far, not those of the interval alone.
    pub(crate) errors: u64,
    pub(crate) histogram: Histogram<u64>,
}

/// What one core has to say at the end.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) core: usize,
    pub(crate) connections: usize,
    pub(crate) stats: Stats,
    pub(crate) handshakes: Handshakes,
    pub(crate) usage: Usage,
    /// The time in which it used that.
    pub(crate) used_in_ns: u64,
    pub(crate) measured_ns: u64,
    /// Planned instants that passed without a send.
    pub(crate) unsent: u64,
    /// Closed loop: requests in flight at the end, which are in no figure, and the age of the oldest.
    pub(crate) abandoned: usize,
    pub(crate) abandoned_age_ns: u64,
    /// Spinning in open loop: what the machine took.
    pub(crate) stalls: Option<Stalls>,
    pub(crate) samples: Option<Samples>,
}
