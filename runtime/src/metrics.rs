//! What a loop counts: plain cells of its core, read on request.

use crate::shard::current;

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
