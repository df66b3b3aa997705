//! The tasks that live on this thread's loop, as values.

use std::fmt;
use std::panic::Location;
use std::rc::Rc;

use super::Id;
use crate::executor::Seen;
use crate::shard::{self, Message, Shard};

/// A live task of this thread's loop: what [`current`] and [`all`] give. It does not keep the task alive.
#[derive(Clone)]
pub struct Task {
    id: Id,
    name: Option<Rc<str>>,
    location: &'static Location<'static>,
}

impl Task {
    fn new(shard: &Shard, seen: Seen) -> Self {
        Task { id: Id { shard: shard.key, task: seen.task }, name: seen.name, location: seen.location }
    }

    /// The task's id.
    pub fn id(&self) -> Id {
        self.id
    }

    /// The task's name, if it was given one.
    pub fn name(&self) -> Option<Rc<str>> {
        self.name.clone()
    }

    /// Where it was spawned; of the main future, where the loop was started.
    pub fn location(&self) -> &'static Location<'static> {
        self.location
    }

    /// Whether it has ended since.
    pub fn is_finished(&self) -> bool {
        self.id.task != crate::executor::MAIN && shard::is_finished(self.id.shard, self.id.task)
    }

    /// Asks the task to end, as [`JoinHandle::abort`](super::JoinHandle::abort) does. The main future cannot be asked.
    pub fn abort(&self) {
        shard::send(self.id.shard, Message::Abort(self.id.task));
    }
}

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task").field("id", &self.id).field("name", &self.name).finish_non_exhaustive()
    }
}

/// The task that is running now; the future that the loop was started with is one too.
///
/// # Examples
///
/// ```
/// annulet::run(async {
///     assert_eq!(annulet::task::current().id().to_string(), "main");
/// });
/// ```
///
/// # Panics
///
/// Where no task is being polled: outside of a loop, and in a waker that the loop wakes.
#[track_caller]
pub fn current() -> Task {
    try_current().unwrap_or_else(|| {
        panic!(
            "no annulet task is running on this thread; call task::current from inside of a task or of the future that \
             annulet::run was called with"
        )
    })
}

/// The task that is running now, if there is one; see [`current`].
pub fn try_current() -> Option<Task> {
    shard::with_current(|shard| {
        let shard = shard?;
        let seen = shard.executor.see(shard.key, shard.executor.running()?)?;
        Some(Task::new(shard, seen))
    })
}

/// Every live task of this thread's loop: the main future first, the others in no particular order.
///
/// A task that has ended is not among them, even if nobody has taken its result.
///
/// # Examples
///
/// ```
/// annulet::run(async {
///     annulet::spawn(std::future::pending::<()>());
///     assert_eq!(annulet::task::all().len(), 2);
/// });
/// ```
///
/// # Panics
///
/// Outside of a loop.
#[track_caller]
pub fn all() -> Vec<Task> {
    let shard = shard::current();
    shard.executor.see_all(shard.key).into_iter().map(|seen| Task::new(&shard, seen)).collect()
}
