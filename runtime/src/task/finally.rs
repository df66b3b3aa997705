//! Closing that takes time, also when the one who would close is cancelled.
//!
//! A cancelled future is dropped where it waits, and a drop cannot await. So what has to be awaited on every way out (a
//! farewell to a peer, a rollback) is handed to a task of its own, a finaliser. The loop waits for finalisers before it
//! ends, for five seconds at the most.

use std::fmt;
use std::future::Future;

use super::Builder;
use crate::shard::with_current;

/// Runs `future` when the guard is dropped, or when [`run`](Finally::run) is called, in a task that the loop waits for
/// before it ends (for five seconds at the most; what is not done then is dropped, and said so on stderr).
///
/// # Examples
///
/// ```
/// use std::{cell::Cell, rc::Rc, time::Duration};
///
/// let closed = Rc::new(Cell::new(false));
/// let flag = Rc::clone(&closed);
/// annulet::run(async move {
///     let task = annulet::spawn(async move {
///         let _close = annulet::task::finally(async move {
///             annulet::time::sleep(Duration::from_millis(1)).await;
///             flag.set(true);
///         });
///         std::future::pending::<()>().await;
///     });
///     annulet::yield_now().await;
///     task.abort();
/// });
/// assert!(closed.get());
/// ```
///
/// # Cancel safety
///
/// That is what it is for. Dropped outside of a loop, or after its loop has ended, it drops `future` without running it:
/// there is nobody to run it.
pub fn finally<F: Future<Output = ()> + 'static>(future: F) -> Finally<F> {
    Finally { future: Some(future) }
}

/// See [`finally`].
#[must_use = "dropping the guard runs its future"]
pub struct Finally<F: Future<Output = ()> + 'static> {
    future: Option<F>,
}

impl<F: Future<Output = ()> + 'static> Finally<F> {
    /// Runs the future now and waits until it is done. If the wait is dropped, the future goes on.
    ///
    /// # Panics
    ///
    /// With the future's panic; outside of a loop.
    pub async fn run(mut self) {
        let Some(future) = self.future.take() else { return };
        if let Err(error) = Builder::new().finaliser().spawn(future).await
            && error.is_panic()
        {
            std::panic::resume_unwind(error.into_panic());
        }
    }

    /// Gives the future back, and does not run it.
    pub fn disarm(mut self) -> F {
        self.future.take().expect("a guard holds its future until it is disarmed")
    }
}

impl<F: Future<Output = ()> + 'static> Drop for Finally<F> {
    fn drop(&mut self) {
        if let Some(future) = self.future.take()
            && with_current(|shard| shard.is_some_and(|shard| !shard.is_closing()))
        {
            drop(Builder::new().finaliser().spawn(future));
        }
    }
}

impl<F: Future<Output = ()> + 'static> fmt::Debug for Finally<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Finally").finish_non_exhaustive()
    }
}

/// Runs `body` with a resource and closes it on every way out: after `body` is done, whether that gave a value or an error;
/// when it panics; and when the whole is cancelled. Python's `async with`.
///
/// `close` runs in a task that the loop waits for, as that of [`finally`] does. On the normal way this waits for it too.
///
/// # Examples
///
/// ```
/// use annulet::task::using;
///
/// struct Connection;
/// impl Connection {
///     async fn ask(&mut self) -> u32 { 666 }
///     async fn close(self) { annulet::yield_now().await; }
/// }
///
/// let answer = annulet::run(async {
///     using(Connection, async |connection| connection.ask().await, Connection::close).await
/// });
/// assert_eq!(answer, 666);
/// ```
///
/// # Cancel safety
///
/// Dropping the future drops `body` where it waits, and then closes.
///
/// # Panics
///
/// With the panic of `body` (after which `close` runs in its task) or of `close`.
pub async fn using<R, T, B, C, F>(resource: R, body: B, close: C) -> T
where
    R: 'static,
    B: AsyncFnOnce(&mut R) -> T,
    C: FnOnce(R) -> F + 'static,
    F: Future<Output = ()> + 'static,
{
    let mut held = Held { parts: Some((resource, close)) };
    let output = body(&mut held.parts.as_mut().expect("they are there until the end").0).await;
    if let Some((resource, close)) = held.parts.take() {
        finally(close(resource)).run().await;
    }
    output
}

/// A resource and its close, until one of them is used.
struct Held<R: 'static, C, F>
where
    C: FnOnce(R) -> F + 'static,
    F: Future<Output = ()> + 'static,
{
    parts: Option<(R, C)>,
}

impl<R: 'static, C, F> Drop for Held<R, C, F>
where
    C: FnOnce(R) -> F + 'static,
    F: Future<Output = ()> + 'static,
{
    fn drop(&mut self) {
        if let Some((resource, close)) = self.parts.take() {
            drop(finally(async move { close(resource).await }));
        }
    }
}
