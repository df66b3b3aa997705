//! Starting loops: one on this thread, or one pinned thread per core.

mod builder;
mod core;
mod loops;
mod start;

use std::future::Future;

use crate::shard::current;
use crate::task::JoinHandle;

pub use self::builder::Builder;
pub use self::core::Core;
pub use self::loops::Loops;
pub(crate) use self::start::pin_and_make;

/// Runs `future` on a loop of this thread and gives its output.
///
/// Tasks that are still live when it is done are dropped; what they had in flight is cancelled and waited for.
///
/// # Examples
///
/// ```
/// let answer = annulet::run(async { 6 * 7 });
/// assert_eq!(answer, 42);
/// ```
///
/// # Panics
///
/// When neither a ring nor epoll can be had, for want of memory or descriptors (use [`Builder::run_local`] for an error instead), and
/// inside of a loop.
#[track_caller]
pub fn run<F: Future>(future: F) -> F::Output {
    match Builder::new().run_local(future) {
        Ok(output) => output,
        Err(error) => panic!("annulet: {error}"),
    }
}

/// Starts a task on this thread's loop. It runs whether its handle is awaited or not.
///
/// # Examples
///
/// ```
/// annulet::run(async {
///     let task = annulet::spawn(async { "done" });
///     assert_eq!(task.await.unwrap(), "done");
/// });
/// ```
///
/// # Panics
///
/// Outside of a loop, and with 16 777 215 live tasks.
#[track_caller]
pub fn spawn<F: Future + 'static>(future: F) -> JoinHandle<F::Output> {
    crate::task::Builder::new().spawn(future)
}

/// What this thread's ring can do.
///
/// # Panics
///
/// Outside of a loop.
#[track_caller]
pub fn capabilities() -> crate::Capabilities {
    *current().io.borrow().driver.capabilities()
}
