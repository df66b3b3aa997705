//! What is told of tasks: which one runs, which ones live, and how they are. Nothing here changes a task.

#![deny(unsafe_code)]

use std::panic::Location;
use std::rc::Rc;

use super::{Executor, MAIN, NOBODY, State};
use crate::metrics::Stalled;
use crate::shard::ShardKey;
use crate::task::{TaskId, WaitsFor};

/// A live task as it is now.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) task: TaskId,
    pub(crate) name: Option<Rc<str>>,
    pub(crate) location: &'static Location<'static>,
    pub(crate) is_running: bool,
    pub(crate) is_queued: bool,
    /// When it was polled last, by the loop's clock.
    pub(crate) polled_at: u64,
    /// What its last poll waited for.
    pub(crate) waits: WaitsFor,
}

impl Executor {
    /// The task that is being polled; `MAIN` is one too.
    pub(crate) fn running(&self) -> Option<TaskId> {
        Some(self.running.get()).filter(|task| *task != NOBODY)
    }

    /// A live task of this executor, which is that of `shard`; none if it has ended.
    pub(crate) fn see(&self, shard: ShardKey, task: TaskId) -> Option<Seen> {
        let is_running = self.running.get() == task;
        if task == MAIN {
            let main = &self.main;
            return Some(Seen {
                task,
                name: None,
                location: main.location.get()?,
                is_running,
                is_queued: main.is_queued.get(),
                polled_at: main.status.polled_at.get(),
                waits: main.status.waits(shard),
            });
        }
        let mut tasks = self.tasks.borrow_mut();
        let slot = tasks.find(task)?;
        let header = slot.cell.as_ref()?.header();
        (!header.status.is_finished()).then(|| Seen {
            task,
            name: header.name(),
            location: header.location,
            is_running,
            is_queued: slot.state == State::Queued,
            polled_at: header.status.polled_at.get(),
            waits: header.status.waits(shard),
        })
    }

    /// Every live task: the main one, then the others in the order of their slots.
    pub(crate) fn see_all(&self, shard: ShardKey) -> Vec<Seen> {
        let slots = self.tasks.borrow().slots.len();
        let others =
            (0..slots).map(|slot| TaskId::new(slot as u32, self.tasks.borrow().slots[slot].generation));
        std::iter::once(MAIN).chain(others).filter_map(|task| self.see(shard, task)).collect()
    }

    /// Tasks that were polled in the turn that began then, and live on.
    pub(crate) fn polled_at(&self, shard: ShardKey, turn: u64) -> Vec<Stalled> {
        let polled = self.see_all(shard).into_iter().filter(|seen| seen.polled_at == turn);
        polled.map(|seen| Stalled::new(seen.name.as_ref(), seen.location)).collect()
    }
}
