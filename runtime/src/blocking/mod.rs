//! Work that blocks, on threads beside the loops.
//!
//! [`spawn_blocking`] hands a closure to a pool of threads and gives a handle to await; the loop goes on meanwhile. The
//! pool of the process is made when it is first used; [`Pool::builder`] makes others, with bounds of their own.
//!
//! What it does not do: end a closure that runs (no thread can be stopped from outside), or wait at the end of a loop for
//! closures that nobody awaits.
//!
//! `queue` is the pure part: which job is next, who waits for room, which thread sleeps. `pool` and `worker` put it under
//! a lock and give it threads, `task` is the user's handle. A lock is right here: every job crosses threads anyway.

mod pool;
mod queue;
mod task;
mod worker;

use std::sync::OnceLock;

pub use pool::{Pool, PoolBuilder};
pub use task::{BlockingTask, Full};

/// Runs a closure that blocks on the pool of the process.
///
/// The closure is in the pool's queue when this returns, unless the queue is full: see [`Pool::spawn`].
///
/// # Examples
///
/// ```
/// annulet::run(async {
///     let text = annulet::spawn_blocking(|| std::fs::read_to_string("/proc/self/comm")).await.unwrap();
///     assert!(!text.unwrap().is_empty());
/// });
/// ```
///
/// # Cancel safety
///
/// Dropping the handle takes the closure out of the queue. Once it runs it runs to its end, and its value is dropped on
/// the pool's thread.
pub fn spawn_blocking<F, T>(f: F) -> BlockingTask<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    process_pool().spawn(f)
}

/// The pool that [`spawn_blocking`] uses: the defaults of [`PoolBuilder`], threads named `annulet-blocking-0` and so on.
///
/// # Examples
///
/// ```
/// println!("{} threads", annulet::blocking::process_pool().threads());
/// ```
pub fn process_pool() -> &'static Pool {
    static POOL: OnceLock<Pool> = OnceLock::new();
    POOL.get_or_init(|| Pool::builder().build().expect("the defaults are valid"))
}
