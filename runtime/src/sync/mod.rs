//! Waiting for each other, on one loop: locks, notifications and channels between tasks of the same core.
//!
//! The names and habits are tokio's. What differs: nothing here is shared between threads, so nothing here costs an
//! atomic operation, and what tokio keeps in an `Arc` is kept in an `Rc`. Every wait is first come, first served, and can
//! be dropped at any point: a dropped waiter leaves the queue, and what it may have been given goes to the next. Nothing
//! is allocated where nobody waits (a new channel, and a queue that grows, excepted).
//!
//! A value that is used between two awaits needs none of this: `Cell` and `RefCell` serve. And an operation that is ready
//! does not make way for other tasks: a loop over such operations alone calls [`yield_now`](crate::yield_now).
//!
//! # Between threads and cores
//!
//! Bring the crates that you know: channels of `tokio::sync`, `async-channel` and `flume` wake tasks of these loops. The
//! types of this module stay where they are, which the compiler tells like this:
//!
//! ```compile_fail,E0277
//! let (sender, receiver) = annulet::sync::oneshot::channel();
//! std::thread::spawn(move || sender.send(1));
//! ```
//!
//! ```text
//! error[E0277]: `Rc<RefCell<annulet::sync::oneshot::State<i32>>>` cannot be sent between threads safely
//! ```
//!
//! The cure: `tokio::sync::oneshot` in its place, everything else as it is.
//!
//! What it does not do: wait without a loop (no `blocking_lock`), and find deadlocks.

mod barrier;
pub mod broadcast;
mod condvar;
mod locked;
pub mod mpsc;
mod mutex;
mod notify;
pub mod oneshot;
#[cfg(test)]
mod orders;
mod permits;
mod rwlock;
mod semaphore;
mod waiters;
pub mod watch;

#[cfg(test)]
mod tests;

pub use barrier::{Barrier, BarrierWaitResult};
pub use condvar::Condvar;
pub use mutex::{Mutex, MutexGuard, OwnedMutexGuard, TryLockError};
pub use notify::{Notified, Notify};
pub use rwlock::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};
pub use semaphore::{AcquireError, OwnedSemaphorePermit, Semaphore, SemaphorePermit, TryAcquireError};
