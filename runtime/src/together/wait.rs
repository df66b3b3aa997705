//! Waiting for some of a list of tasks, without ending the others.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::task::{Id, JoinError, JoinHandle};
use crate::time::{Sleep, sleep, sleep_until};

/// Waits until `when` is fulfilled, and gives the tasks that are done and those that are not, both in the order of the
/// list. Tasks that are not done go on: await their handles later, cancel them, or drop them to let the tasks run.
///
/// [`Wait::timeout`] limits the wait. At the limit both lists come back as they are then.
///
/// # Examples
///
/// ```
/// use annulet::{When, spawn, wait};
/// use std::time::Duration;
///
/// annulet::run(async {
///     let tasks = [1, 60_000].map(|millis| spawn(annulet::time::sleep(Duration::from_millis(millis))));
///     let (done, pending) = wait(tasks, When::FIRST_COMPLETED).await;
///     assert_eq!((done[0].index, pending.len()), (0, 1));
///     let (done, pending) = wait(pending, When::ALL).timeout(Duration::from_millis(1)).await;
///     assert_eq!((done.len(), pending.len()), (0, 1));
/// });
/// ```
///
/// # Cancel safety
///
/// Dropping it drops the handles: the tasks go on, their results are lost. To keep them, pass it on by `&mut`.
///
/// # Panics
///
/// Awaiting panics on another thread than the tasks'.
pub fn wait<T>(tasks: impl IntoIterator<Item = JoinHandle<T>>, when: When<T>) -> Wait<T> {
    let tasks: Vec<_> = tasks.into_iter().map(Entry::Pending).collect();
    Wait { tasks, first_pending: 0, when, is_fulfilled: false, limit: None }
}

/// When a [`wait`] ends, before its time limit. In every case it ends when no task is left.
pub struct When<T>(Option<IsEnough<T>>);

/// Whether the wait ends with a task that gave this.
type IsEnough<T> = fn(&Result<T, JoinError>) -> bool;

impl<T> When<T> {
    /// When every task is done.
    pub const ALL: Self = When(None);

    /// When at least one task is done.
    pub const FIRST_COMPLETED: Self = When(Some(|_| true));
}

impl<T, E> When<Result<T, E>> {
    /// When at least one task gave an `Err`, was cancelled or panicked, or when all are done.
    pub const FIRST_ERROR: Self = When(Some(|result| !matches!(result, Ok(Ok(_)))));
}

impl<T> Clone for When<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for When<T> {}

impl<T> fmt::Debug for When<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("When").finish_non_exhaustive()
    }
}

/// A task that a [`wait`] found done.
#[derive(Debug)]
#[non_exhaustive]
pub struct Finished<T> {
    /// Its place in the list that was passed to `wait`.
    pub index: usize,
    /// Its id.
    pub id: Id,
    /// What it gave.
    pub result: Result<T, JoinError>,
}

/// See [`wait`].
#[must_use = "a wait does nothing unless it is awaited"]
pub struct Wait<T> {
    tasks: Vec<Entry<T>>,
    /// Before this one none is pending.
    first_pending: usize,
    when: When<T>,
    is_fulfilled: bool,
    limit: Option<Sleep>,
}

enum Entry<T> {
    Pending(JoinHandle<T>),
    Done(Finished<T>),
}

// Results are never pinned.
impl<T> Unpin for Wait<T> {}

impl<T> Wait<T> {
    /// Waits for `duration` at the most.
    ///
    /// # Panics
    ///
    /// Outside of a loop.
    #[track_caller]
    pub fn timeout(self, duration: Duration) -> Self {
        Wait { limit: Some(sleep(duration)), ..self }
    }

    /// Waits until `deadline` at the most.
    pub fn timeout_at(self, deadline: Instant) -> Self {
        Wait { limit: Some(sleep_until(deadline)), ..self }
    }

    /// Takes the result of a task that is done; registers with one that is not.
    fn poll_task(&mut self, index: usize, cx: &mut Context<'_>) -> Poll<()> {
        let Entry::Pending(handle) = &mut self.tasks[index] else { return Poll::Ready(()) };
        let id = handle.id();
        let result = std::task::ready!(Pin::new(handle).poll(cx));
        self.is_fulfilled |= self.when.0.is_some_and(|is_enough| is_enough(&result));
        self.tasks[index] = Entry::Done(Finished { index, id, result });
        Poll::Ready(())
    }
}

impl<T> Future for Wait<T> {
    /// Those that are done, and those that are not.
    type Output = (Vec<Finished<T>>, Vec<JoinHandle<T>>);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let is_late = match &mut self.limit {
            Some(limit) => Pin::new(limit).poll(cx).is_ready(),
            None => false,
        };
        // If every task is needed, one after the other is waited for: a result waits in its task until it is asked for.
        // Otherwise, and at the end, all are looked at.
        let looks_at_all = self.when.0.is_some() || is_late;
        for index in self.first_pending..self.tasks.len() {
            match self.poll_task(index, cx) {
                Poll::Ready(()) if self.first_pending == index => self.first_pending += 1,
                Poll::Pending if !looks_at_all => return Poll::Pending,
                _ => {}
            }
        }
        if self.first_pending < self.tasks.len() && !is_late && !self.is_fulfilled {
            return Poll::Pending;
        }
        let (mut done, mut pending) = (Vec::new(), Vec::new());
        for entry in self.tasks.drain(..) {
            match entry {
                Entry::Done(finished) => done.push(finished),
                Entry::Pending(handle) => pending.push(handle),
            }
        }
        Poll::Ready((done, pending))
    }
}

impl<T> fmt::Debug for Wait<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wait").field("tasks", &self.tasks.len()).finish_non_exhaustive()
    }
}
