//! What a run leaves behind.
//!
//! [`schema`] is the versioned document that everything else reads and writes: tables, comparisons, merges and pages are made
//! from it, never from the running load. While it runs, [`Slice`]s go to the live line or screen and to the interval log.

pub(crate) mod hgrm;
pub(crate) mod histogram;
pub(crate) mod hlog;
pub(crate) mod host;
pub(crate) mod html;
pub(crate) mod live;
pub(crate) mod outputs;
pub(crate) mod schema;
pub(crate) mod screen;
pub(crate) mod table;

use hdrhistogram::Histogram;

/// A piece of the measured time.
#[derive(Clone, Debug)]
pub(crate) struct Slice {
    /// From the start of the measured time.
    pub(crate) start_s: f64,
    pub(crate) duration_s: f64,
    pub(crate) errors: u64,
    /// Response times in nanoseconds.
    pub(crate) histogram: Histogram<u64>,
}
