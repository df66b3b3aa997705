//! What a loop counts: cells of its own, read on request.
//!
//! [`metrics()`](crate::metrics()) is a reading of this thread's loop. A [`Board`] has a row of counters for each loop, which any
//! thread may read, and [`prometheus`] makes text of it.
//!
//! `counter` names the counters, `board` keeps them, `stall` times turns and polls.

mod board;
mod counter;
mod stall;
mod text;

pub(crate) use board::Place;
pub use board::{Board, Reading, Row};
pub use counter::{Counter, Distribution, Kind};
pub use stall::{Stall, Stalled};
pub(crate) use stall::{StallSettings, Tell, Watch};
pub use text::{CONTENT_TYPE, prometheus};

use crate::shard::{Io, Shard, current};

/// A reading of this thread's loop.
///
/// # Examples
///
/// ```
/// annulet::run(async {
///     let metrics = annulet::metrics();
///     assert_eq!((metrics.sockets, metrics.timers), (0, 0));
/// });
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metrics {
    /// Tasks that are live, and finished ones whose handle has not taken the result.
    pub tasks: usize,
    /// Connected stream sockets and UDP sockets, closing ones included.
    pub sockets: usize,
    /// Listening sockets.
    pub listeners: usize,
    /// One-shot operations that the kernel holds, or whose result nobody took yet.
    pub operations: usize,
    /// Receive buffers outside the ring: queued at a socket, or leased.
    pub buffers_held: usize,
    /// Timers in the wheel.
    pub timers: usize,
    /// Listeners for signals.
    pub signal_listeners: usize,
    /// Turns of the loop so far.
    pub turns: u64,
    /// Polls of tasks so far.
    pub polls: u64,
    /// Entries into the kernel so far.
    pub enters: u64,
    /// Completions so far.
    pub completions: u64,
    /// How often accepting paused for want of descriptors or memory.
    pub accept_pauses: u64,
}

/// A reading of this thread's loop.
///
/// # Panics
///
/// Outside of a loop.
#[track_caller]
pub fn metrics() -> Metrics {
    let shard = current();
    let io = shard.io.borrow();
    Metrics {
        tasks: shard.executor.len(),
        sockets: io.sockets.len() + io.datagrams.len(),
        listeners: io.listeners.len(),
        operations: io.ops.len(),
        buffers_held: io.buffers_held(),
        timers: io.timers.len(),
        signal_listeners: shard.signals.len(),
        turns: shard.turns(),
        polls: shard.executor.polls(),
        enters: io.driver.enters(),
        completions: io.completions,
        accept_pauses: io.listeners.pauses,
    }
}

impl Shard {
    /// Writes what the tables count anyway into the loop's row, once a turn.
    #[inline]
    pub(crate) fn publish(&self, io: &Io) {
        let row = &self.row.row;
        let set = |counter, value: usize| row.set(counter, value as u64);
        row.set(Counter::Turns, self.turns());
        row.set(Counter::Enters, io.driver.enters());
        row.set(Counter::Submissions, io.driver.ticket());
        row.set(Counter::Completions, io.completions);
        row.set(Counter::Overflows, io.driver.overflows());
        row.set(Counter::Polls, self.executor.polls());
        row.set(Counter::Accepts, io.listeners.accepts);
        row.set(Counter::AcceptPauses, io.listeners.pauses);
        row.set(Counter::ReceivedBytes, io.sockets.received_bytes);
        row.set(Counter::SentBytes, io.sockets.sent_bytes);
        row.set(Counter::BuffersMissing, io.sockets.starvations + io.datagrams.starvations);
        set(Counter::Tasks, self.executor.len());
        set(Counter::Sockets, io.sockets.len() + io.datagrams.len());
        set(Counter::Listeners, io.listeners.len());
        set(Counter::Operations, io.ops.len());
        set(Counter::Timers, io.timers.len());
        set(Counter::BuffersFree, io.pool.available());
        set(Counter::BuffersHeld, io.buffers_held());
    }
}
