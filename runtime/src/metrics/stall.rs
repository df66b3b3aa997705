//! Polls that take too long: finding them, and saying which task it was.
//!
//! A clock reading for every poll would cost more than it tells. So a turn is timed as a whole, which costs one reading; after one
//! that took longer than the limit, the polls of the next [`TIMED_TURNS`] are timed one by one.

use std::cell::Cell;
use std::fmt;
use std::panic::Location;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::Row;
use super::counter::{Counter, Distribution};
use crate::sys::{monotonic_ns, nanos};

/// What a loop may spend between two waits by default: other connections wait meanwhile.
pub(crate) const LIMIT: Duration = Duration::from_millis(100);
/// Turns after a slow one whose polls are timed one by one. Arbitrary: a task that stalls for each request is met again.
const TIMED_TURNS: u32 = 10_000;
/// Between two warnings of a loop; those between are counted and told with the next.
const QUIET_NS: u64 = 1_000_000_000;
/// Tasks of a slow turn that are named.
const NAMED_MAX: usize = 4;

/// A task in a [`Stall`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Stalled {
    /// Its name, if it was given one.
    pub name: Option<String>,
    /// Where it was spawned; of the main future, where the loop was started.
    pub location: &'static Location<'static>,
}

impl Stalled {
    pub(crate) fn new(name: Option<&Rc<str>>, location: &'static Location<'static>) -> Self {
        Stalled { name: name.map(|name| name.to_string()), location }
    }
}

impl fmt::Display for Stalled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(name) = &self.name {
            write!(f, "{name:?} ")?;
        }
        write!(f, "({}:{})", self.location.file(), self.location.line())
    }
}

/// A loop was kept from its work for too long; see [`Builder::on_stall`](crate::Builder::on_stall).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Stall {
    /// How long.
    pub took: Duration,
    /// Whether it was a poll of the one task that is named. Otherwise it was a turn, and the tasks are (some of) those that were
    /// polled in it and live on.
    pub is_exact: bool,
    /// Who is, or may be, to blame.
    pub tasks: Vec<Stalled>,
    /// Stalls of this loop that nobody was told of, because less than a second had passed since the last one that was told.
    pub untold: u64,
}

impl fmt::Display for Stall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Stall { took, tasks, untold, .. } = self;
        match (self.is_exact, &tasks[..]) {
            (true, [task, ..]) => write!(f, "a poll of task {task} took {took:.1?}")?,
            (_, []) => write!(f, "a turn of the loop took {took:.1?}")?,
            (_, tasks) => {
                write!(f, "a turn of the loop took {took:.1?}, with polls of")?;
                for (index, task) in tasks.iter().enumerate() {
                    write!(f, "{} {task}", if index == 0 { "" } else { "," })?;
                }
            }
        }
        f.write_str("; everything else on this loop waited (use spawn_blocking, or yield_now now and then)")?;
        if *untold > 0 {
            write!(f, "; {untold} more since the last warning")?;
        }
        Ok(())
    }
}

/// Who is told.
#[derive(Clone)]
pub(crate) struct Tell(Arc<dyn Fn(&Stall) + Send + Sync>);

impl Tell {
    pub(crate) fn new(tell: impl Fn(&Stall) + Send + Sync + 'static) -> Self {
        Tell(Arc::new(tell))
    }
}

impl Default for Tell {
    fn default() -> Self {
        Tell::new(|stall| eprintln!("annulet: {stall}"))
    }
}

impl fmt::Debug for Tell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tell")
    }
}

/// What is asked for of a loop's [`Watch`].
#[derive(Clone, Debug)]
pub(crate) struct StallSettings {
    /// None: nobody is told.
    pub(crate) limit: Option<Duration>,
    pub(crate) tell: Tell,
}

impl Default for StallSettings {
    fn default() -> Self {
        StallSettings { limit: Some(LIMIT), tell: Tell::default() }
    }
}

/// Times the turns of one loop.
#[derive(Debug)]
pub(crate) struct Watch {
    row: Row,
    limit_ns: u64,
    tell: Tell,
    /// Turns left in which polls are timed one by one.
    timed_turns: Cell<u32>,
    /// When the poll before ended, in such a turn.
    last: Cell<u64>,
    /// When somebody was told last, and stalls since then.
    told_at: Cell<Option<u64>>,
    untold: Cell<u64>,
}

impl Watch {
    pub(crate) fn new(settings: &StallSettings, row: Row) -> Self {
        Watch {
            row,
            limit_ns: settings.limit.map_or(u64::MAX, nanos),
            tell: settings.tell.clone(),
            timed_turns: Cell::new(0),
            last: Cell::new(0),
            told_at: Cell::new(None),
            untold: Cell::new(0),
        }
    }

    /// Whether polls are timed one by one.
    #[inline]
    pub(crate) fn times_polls(&self) -> bool {
        self.timed_turns.get() != 0
    }

    /// The polls of a turn begin, and they are timed.
    #[cold]
    pub(crate) fn begin_polls(&self) {
        self.last.set(monotonic_ns());
    }

    /// A timed poll has ended. Runs the user's code if it was a stall.
    #[cold]
    pub(crate) fn polled(&self, name: Option<&Rc<str>>, location: &'static Location<'static>) {
        let now = monotonic_ns();
        let took = now - self.last.replace(now);
        self.row.record(Distribution::PollTime, took, 1);
        if took > self.limit_ns {
            self.stalled(now, took, true, || vec![Stalled::new(name, location)]);
            // Not the time that the telling took.
            self.last.set(monotonic_ns());
        }
    }

    /// The polls of a turn have ended, and so many they were. `polled` tells whose they may have been. Runs the user's code if it
    /// was a stall.
    #[inline]
    pub(crate) fn end_turn(&self, began: u64, polls: u64, polled: impl FnOnce() -> Vec<Stalled>) {
        let now = monotonic_ns();
        let took = now.saturating_sub(began);
        self.row.record(Distribution::LoopLag, took, 1);
        if self.times_polls() {
            self.timed_turns.set(self.timed_turns.get() - 1);
        } else {
            if let Some(each) = took.checked_div(polls) {
                self.row.record(Distribution::PollTime, each, polls);
            }
            if took > self.limit_ns {
                self.timed_turns.set(TIMED_TURNS);
                self.stalled(now, took, false, || {
                    let mut polled = polled();
                    polled.truncate(NAMED_MAX);
                    polled
                });
            }
        }
    }

    #[cold]
    fn stalled(&self, now: u64, took: u64, is_exact: bool, tasks: impl FnOnce() -> Vec<Stalled>) {
        self.row.add(Counter::Stalls, 1);
        if self.told_at.get().is_some_and(|at| now < at + QUIET_NS) {
            self.untold.set(self.untold.get() + 1);
            return;
        }
        self.told_at.set(Some(now));
        let untold = self.untold.take();
        (self.tell.0)(&Stall { took: Duration::from_nanos(took), is_exact, tasks: tasks(), untold });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stall_has_words() {
        let here = Location::caller();
        let stall = |is_exact, tasks, untold| {
            let took = Duration::from_millis(150);
            Stall { took, is_exact, tasks, untold }.to_string()
        };
        let named = Stalled::new(Some(&Rc::from("parser")), here);
        let check = |text: String, begin: &str, end: &str| {
            assert!(text.starts_with(begin) && text.ends_with(end), "{text}");
        };
        let at = format!("({}:{})", here.file(), here.line());
        check(
            stall(true, vec![named.clone()], 0),
            &format!("a poll of task \"parser\" {at} took 150.0ms; "),
            "now and then)",
        );
        let both = vec![named, Stalled::new(None, here)];
        check(
            stall(false, both, 3),
            &format!("a turn of the loop took 150.0ms, with polls of \"parser\" {at}, {at}; "),
            "; 3 more since the last warning",
        );
        check(stall(false, vec![], 0), "a turn of the loop took 150.0ms; ", "now and then)");
    }
}
