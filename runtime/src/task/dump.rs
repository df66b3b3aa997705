//! The task dump: what every live task of a loop is doing, as a value and as text.

use std::fmt;
use std::io::{self, Write};
use std::panic::Location;
use std::time::Duration;

use super::{Id, WaitsFor};
use crate::executor::Seen;
use crate::shard::{self, Message};

/// How a task is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// It is being polled: it is the one that asks.
    Running,
    /// It was woken (or spawned) and will be polled in its turn.
    Queued,
    /// It waits to be woken.
    Waiting,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            State::Running => "running",
            State::Queued => "queued",
            State::Waiting => "waiting",
        })
    }
}

/// One live task in a [`Dump`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TaskDump {
    /// The task's id; as text, `main` for the future that the loop was started with.
    pub id: Id,
    /// Its name, if it was given one.
    pub name: Option<String>,
    /// Where it was spawned; of the main future, where the loop was started.
    pub location: &'static Location<'static>,
    /// How it is.
    pub state: State,
    /// How long ago its last poll began (or since it was spawned), by the loop's clock, which is read once a turn.
    pub since_last_poll: Duration,
    /// What it waits for, as the future that was polled last has told. None unless it is waiting.
    pub waits_for: Option<WaitsFor>,
    /// How long until its timer fires, if it is a timer that it waits for.
    pub timer_in: Option<Duration>,
}

impl TaskDump {
    fn new(shard: shard::ShardKey, seen: Seen, now: u64) -> Self {
        let state = match seen {
            Seen { is_running: true, .. } => State::Running,
            Seen { is_queued: true, .. } => State::Queued,
            _ => State::Waiting,
        };
        let waits_for = (state == State::Waiting).then_some(seen.waits);
        let timer_in = match waits_for {
            Some(WaitsFor::Timer { deadline_ns }) if deadline_ns != u64::MAX => {
                Some(Duration::from_nanos(deadline_ns.saturating_sub(now)))
            }
            _ => None,
        };
        TaskDump {
            id: Id { shard, task: seen.task },
            name: seen.name.map(|name| name.to_string()),
            location: seen.location,
            state,
            since_last_poll: Duration::from_nanos(now.saturating_sub(seen.polled_at)),
            waits_for,
            timer_in,
        }
    }
}

impl fmt::Display for TaskDump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "task {}", self.id)?;
        if let Some(name) = &self.name {
            write!(f, " {name:?}")?;
        }
        write!(f, " ({}:{}): {}", self.location.file(), self.location.line(), self.state)?;
        if let Some(what) = self.waits_for {
            write!(f, " for {what}")?;
        }
        if let Some(left) = self.timer_in {
            write!(f, " that fires in {left:.1?}")?;
        }
        write!(f, ", last polled {:.1?} ago", self.since_last_poll)
    }
}

/// What every live task of a loop is doing; made by [`dump`]. Its text has one line a task.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Dump {
    /// The name of the loop's thread.
    pub thread: String,
    /// The main future first, then the others in no particular order.
    pub tasks: Vec<TaskDump>,
}

impl Dump {
    /// Writes the text in one piece, so that the dumps of several loops do not mix.
    ///
    /// # Errors
    ///
    /// What `to` says.
    pub fn write_to(&self, to: &mut impl Write) -> io::Result<()> {
        to.write_all(self.to_string().as_bytes())
    }

    /// To stderr. A process without one has nobody to tell.
    pub(crate) fn print(&self) {
        let _ = self.write_to(&mut io::stderr());
    }
}

impl fmt::Display for Dump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "loop {:?}: {} tasks", self.thread, self.tasks.len())?;
        self.tasks.iter().try_for_each(|task| writeln!(f, "  {task}"))
    }
}

/// What every live task of this thread's loop is doing.
///
/// A dump costs an allocation or two a task when it is taken, and a few stores a poll when it is not.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// annulet::run(async {
///     annulet::task::Builder::new().name("sleeper").spawn(annulet::time::sleep(Duration::from_secs(60)));
///     annulet::yield_now().await;
///     let dump = annulet::task::dump();
///     assert_eq!(dump.tasks[1].name.as_deref(), Some("sleeper"));
///     assert_eq!(dump.tasks[1].state, annulet::task::State::Waiting);
///     println!("{dump}");
/// });
/// ```
///
/// # Panics
///
/// Outside of a loop.
#[track_caller]
pub fn dump() -> Dump {
    let shard = shard::current();
    let now = shard.clock.now();
    let tasks = shard
        .executor
        .see_all(shard.key)
        .into_iter()
        .map(|seen| TaskDump::new(shard.key, seen, now))
        .collect();
    Dump { thread: std::thread::current().name().unwrap_or("without a name").to_owned(), tasks }
}

/// Asks every loop of the process to print its [`Dump`] to stderr, and gives how many were asked. For any thread.
///
/// Each loop prints when its turn ends; one that is stuck in a poll prints nothing, which tells as well.
pub fn print_all() -> usize {
    shard::send_to_all(Message::Dump)
}
