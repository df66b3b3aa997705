//! Spawning a task with a name.

use std::future::Future;
use std::panic::Location;

use super::JoinHandle;
use super::cell::Origin;
use crate::shard::{no_loop, with_current};

/// How a task is spawned.
///
/// # Examples
///
/// ```
/// annulet::run(async {
///     let task = annulet::task::Builder::new().name("greeter").spawn(async {
///         annulet::task::current().name().as_deref() == Some("greeter")
///     });
///     assert!(task.await.unwrap());
/// });
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[must_use = "it starts nothing before `spawn` is called"]
pub struct Builder<'a> {
    name: Option<&'a str>,
    is_finaliser: bool,
}

impl<'a> Builder<'a> {
    /// A task without a name.
    pub fn new() -> Self {
        Self::default()
    }

    /// The task's name, in task dumps and for [`Task::name`](super::Task::name). It need not be unique. A name costs an
    /// allocation; a task without one costs none.
    pub fn name(self, name: &'a str) -> Self {
        Builder { name: Some(name), ..self }
    }

    /// A task that the loop waits for before it ends; see [`finally`](super::finally()).
    pub(super) fn finaliser(self) -> Self {
        Builder { is_finaliser: true, ..self }
    }

    /// Starts the task on this thread's loop, as [`spawn`](crate::spawn) does. Where this is called is kept, for task
    /// dumps.
    ///
    /// # Panics
    ///
    /// Outside of a loop, and with 16 777 215 live tasks.
    #[track_caller]
    pub fn spawn<F: Future + 'static>(self, future: F) -> JoinHandle<F::Output> {
        let location = Location::caller();
        let spawned = with_current(|shard| {
            let shard = shard?;
            let origin = Origin {
                name: self.name.map(Into::into),
                location,
                now: shard.clock.now(),
                is_finaliser: self.is_finaliser,
            };
            let task = shard.executor.spawn(future, origin);
            if shard.is_closing() {
                shard.executor.abort(task);
            }
            Some(JoinHandle::new(shard.key, task))
        });
        // Not a closure: the panic names the caller's line.
        match spawned {
            Some(handle) => handle,
            None => no_loop(),
        }
    }
}
