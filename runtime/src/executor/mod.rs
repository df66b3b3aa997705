//! The run queue of one core: tasks in slots, each at most once in the queue.
//!
//! What it does not do: sleep, look at the kernel, or know what a task waits for.
//!
//! Architecture invariant: the queue is touched by its own thread only, without a lock and without an atomic; other
//! threads go through the [`inbox`].

#![allow(unsafe_code)]

pub(crate) mod inbox;
mod view;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use crate::metrics::Watch;
use crate::shard::ShardId;
use crate::task::cell::{Origin, Outcome, TaskCell};
use crate::task::status::{Phase, Status};
use crate::task::waits::Noting;
use crate::task::waker::{self, waker};
use crate::task::{GENERATION_MASK, JoinError, SLOT_MAX, TaskId};

pub(crate) use view::Seen;

/// Polls that a turn may do beyond what was ready when it began; then the ring has its turn.
pub(crate) const POLLS_PER_TURN_MIN: usize = 64;
/// The same on a loop to which other cores send: what they sent is looked at between two turns.
pub(crate) const POLLS_PER_TURN_MIN_OF_MESH: usize = 16;
/// Operations that one poll of a task may complete before it must let others run.
const OPERATIONS_PER_POLL: u32 = 128;
/// The slot of the future that `run` was called with; it lives on the stack and has no cell.
pub(crate) const MAIN: TaskId = TaskId::new(SLOT_MAX, 0);
/// What runs while no task is being polled.
const NOBODY: TaskId = TaskId::NONE;

/// The tasks of one core.
#[derive(Debug)]
pub(crate) struct Executor {
    shard: ShardId,
    tasks: RefCell<Tasks>,
    main: Main,
    /// The task that is being polled, or `NOBODY`. Between two polls of a round it is the one before.
    running: Cell<TaskId>,
    /// Operations left to the task that is being polled.
    operations_left: Cell<u32>,
    /// Polls left of the round that is run.
    polls_left: Cell<usize>,
    /// Polls so far.
    polls: Cell<u64>,
    /// Live tasks that the loop waits for before it ends.
    finalisers: Cell<usize>,
    /// Looks for polls that take too long.
    watch: Watch,
}

/// The main future's share of what other tasks have in their cells.
#[derive(Debug)]
struct Main {
    /// Whether it is in the queue, in its place among the others.
    is_queued: Cell<bool>,
    status: Status,
    /// Where the loop was started. None before that.
    location: Cell<Option<&'static Location<'static>>>,
}

#[derive(Debug, Default)]
struct Tasks {
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// Slots that are to be polled. A task is in it at most once, so it is bounded by their number, and by that of the
    /// tasks that were in it when they finished.
    queue: VecDeque<u32>,
}

#[derive(Debug)]
struct Slot {
    /// None while the slot is free.
    cell: Option<TaskCell>,
    generation: u32,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Waits to be woken, or is being polled.
    Idle,
    /// In the queue.
    Queued,
    /// Nothing to poll: finished, or free. Waking it does nothing; should its number still be in the queue, because it
    /// was woken in its last poll, it is passed over there.
    Done,
}

impl Tasks {
    #[inline]
    fn find(&mut self, task: TaskId) -> Option<&mut Slot> {
        self.slots
            .get_mut(task.slot() as usize)
            .filter(|slot| slot.generation == task.generation() && slot.cell.is_some())
    }

    /// Takes the cell out and frees the slot.
    #[inline]
    fn vacate(&mut self, task: TaskId) -> Option<TaskCell> {
        let slot = self.find(task)?;
        let cell = slot.cell.take();
        slot.generation = slot.generation.wrapping_add(1) & GENERATION_MASK;
        slot.state = State::Done;
        self.free.push(task.slot());
        cell
    }

    #[cold]
    fn grow(&mut self) -> u32 {
        let slot = self.slots.len() as u32;
        assert!(slot < MAIN.slot(), "too many tasks: one core runs at most {} at a time", MAIN.slot());
        self.slots.push(Slot { cell: None, generation: 0, state: State::Done });
        slot
    }
}

impl Executor {
    pub(crate) fn new(shard: ShardId, watch: Watch) -> Self {
        Executor {
            shard,
            tasks: RefCell::default(),
            main: Main { is_queued: Cell::new(false), status: Status::new(0), location: Cell::new(None) },
            running: Cell::new(NOBODY),
            operations_left: Cell::new(OPERATIONS_PER_POLL),
            polls_left: Cell::new(0),
            polls: Cell::new(0),
            finalisers: Cell::new(0),
            watch,
        }
    }

    /// Adds a task and schedules it.
    ///
    /// # Panics
    ///
    /// With 16 million live tasks.
    #[inline]
    pub(crate) fn spawn<F: Future + 'static>(&self, future: F, origin: Origin) -> TaskId {
        let is_finaliser = origin.is_finaliser;
        let cell = TaskCell::new(future, origin);
        let mut tasks = self.tasks.borrow_mut();
        let tasks = &mut *tasks;
        let slot = match tasks.free.pop() {
            Some(slot) => slot,
            None => tasks.grow(),
        };
        let entry = &mut tasks.slots[slot as usize];
        entry.cell = Some(cell);
        entry.state = State::Queued;
        self.finalisers.set(self.finalisers.get() + usize::from(is_finaliser));
        let generation = entry.generation;
        tasks.queue.push_back(slot);
        TaskId::new(slot, generation)
    }

    /// Puts a task into the queue, unless it is there, done or gone.
    #[inline]
    pub(crate) fn schedule(&self, task: TaskId) {
        let mut tasks = self.tasks.borrow_mut();
        let tasks = &mut *tasks;
        match tasks.slots.get_mut(task.slot() as usize) {
            Some(slot) if slot.generation == task.generation() && slot.state == State::Idle => {
                slot.state = State::Queued;
                tasks.queue.push_back(task.slot());
            }
            None if task == MAIN && !self.main.is_queued.replace(true) => tasks.queue.push_back(MAIN.slot()),
            _ => {}
        }
    }

    /// The main future, called at `location`, is to be polled.
    pub(crate) fn start_main(&self, location: &'static Location<'static>) {
        self.main.location.set(Some(location));
        self.schedule(MAIN);
    }

    /// Polls the main future, which has no cell.
    #[inline]
    pub(crate) fn poll_main<F: Future>(
        &self,
        future: Pin<&mut F>,
        waker: &Waker,
        now: u64,
    ) -> Poll<F::Output> {
        self.operations_left.set(OPERATIONS_PER_POLL);
        self.main.status.polled_at.set(now);
        self.running.set(MAIN);
        self.polls.set(self.polls.get() + 1);
        // Ends with the poll also when that panics: then the loop ends, and its status with it.
        let noting = Noting::to(&self.main.status);
        let polled = future.poll(&mut Context::from_waker(waker));
        drop(noting);
        if self.watch.times_polls()
            && let Some(location) = self.main.location.get()
        {
            self.watch.polled(None, location);
        }
        polled
    }

    /// Nothing more is polled before the loop's next turn.
    pub(crate) fn end_round(&self) {
        self.polls_left.set(0);
    }

    /// Whether anything could be polled now.
    #[inline]
    pub(crate) fn is_ready(&self) -> bool {
        !self.tasks.borrow().queue.is_empty()
    }

    /// Polls what is ready: all that was when it began, and what that wakes as long as the turn is short. `main` polls the
    /// main future; once that is done nothing more is polled.
    #[inline]
    pub(crate) fn run<T>(&self, now: u64, at_least: usize, main: impl FnMut() -> Poll<T>) -> Poll<T> {
        if self.watch.times_polls() {
            self.watch.begin_polls();
        }
        let polled = self.run_queue(now, at_least, main);
        self.running.set(NOBODY);
        polled
    }

    #[inline]
    fn run_queue<T>(&self, now: u64, at_least: usize, mut main: impl FnMut() -> Poll<T>) -> Poll<T> {
        self.polls_left.set(self.tasks.borrow().queue.len().max(at_least));
        while self.polls_left.get() > 0 {
            let mut tasks = self.tasks.borrow_mut();
            let Some(index) = tasks.queue.pop_front() else { break };
            if index == MAIN.slot() {
                drop(tasks);
                self.main.is_queued.set(false);
                self.polls_left.set(self.polls_left.get() - 1);
                let polled = main();
                if polled.is_ready() {
                    return polled;
                }
                continue;
            }
            let slot = &mut tasks.slots[index as usize];
            if slot.state != State::Queued {
                continue;
            }
            slot.state = State::Idle;
            let cell = slot.cell.as_ref().expect("a queued slot is not free").alias();
            let task = TaskId::new(index, slot.generation);
            drop(tasks);
            // Before the poll, which may end the round.
            self.polls_left.set(self.polls_left.get() - 1);
            if self.watch.times_polls() {
                self.poll_timed(task, &cell, now);
            } else {
                self.poll(task, &cell, now);
            }
        }
        Poll::Pending
    }

    #[inline]
    fn poll(&self, task: TaskId, cell: &TaskCell, now: u64) {
        self.operations_left.set(OPERATIONS_PER_POLL);
        self.polls.set(self.polls.get() + 1);
        self.running.set(task);
        let status = &cell.header().status;
        let done = if status.is_aborted() {
            // SAFETY: the task is live (a slot that is `Done` is passed over). It is not busy: only `run` polls, and not
            // nested, and `cancel` of a task ends it before it returns.
            unsafe { cell.cancel() };
            true
        } else {
            status.polled_at.set(now);
            let _noting = Noting::to(status);
            // SAFETY: as above.
            unsafe { cell.poll(&waker(self.shard, task)) }
        };
        if done {
            self.finished(task, cell);
        } else if status.is_aborted() {
            // Aborted by itself while it ran.
            self.schedule(task);
        }
    }

    #[cold]
    fn poll_timed(&self, task: TaskId, cell: &TaskCell, now: u64) {
        // The cell may be gone after the poll.
        let (name, location) = (cell.header().name(), cell.header().location);
        self.poll(task, cell, now);
        self.watch.polled(name.as_ref(), location);
    }

    /// The future is gone; the result waits for its handle or is dropped.
    fn finished(&self, task: TaskId, cell: &TaskCell) {
        let header = cell.header();
        self.finalisers.set(self.finalisers.get() - usize::from(header.is_finaliser()));
        // A task keeps its slot at least until it has finished.
        self.tasks.borrow_mut().slots[task.slot() as usize].state = State::Done;
        if !header.status.is_joined() {
            return self.free(task);
        }
        let Some(waiter) = header.waiter.take() else { return };
        match waker::task_of(&waiter, self.shard) {
            Some(task) => {
                // Dropping it does nothing, by a call.
                std::mem::forget(waiter);
                self.schedule(task);
            }
            None => waiter.wake(),
        }
    }

    /// Gives slot and memory back. The borrow ends before the result is dropped: that is the user's code.
    fn free(&self, task: TaskId) {
        let cell = self.tasks.borrow_mut().vacate(task);
        if let Some(cell) = cell {
            // SAFETY: the slot's name was the last one in use; `poll` does not touch its alias after `finished`.
            unsafe { cell.free() };
        }
    }

    #[inline]
    fn alias(&self, task: TaskId) -> Option<TaskCell> {
        self.tasks.borrow_mut().find(task).and_then(|slot| slot.cell.as_ref().map(TaskCell::alias))
    }

    /// Asks a task to end at its next turn.
    pub(crate) fn abort(&self, task: TaskId) {
        if let Some(cell) = self.alias(task)
            && !cell.header().status.is_finished()
        {
            cell.header().status.abort();
            self.schedule(task);
        }
    }

    /// Drops a task's future here and now, unless it runs below this call: then it ends at its next turn.
    pub(crate) fn end(&self, task: TaskId) {
        let Some(cell) = self.alias(task) else { return };
        match cell.header().status.phase.get() {
            Phase::Waiting => {}
            Phase::Busy => return self.abort(task),
            Phase::Finished => return,
        }
        // SAFETY: live and not busy. Its memory stays at least until it is finished, and what was called until then has
        // returned.
        unsafe { cell.cancel() };
        self.finished(task, &cell);
    }

    /// The handle is gone: nobody will come for the result.
    pub(crate) fn detach(&self, task: TaskId) {
        let Some(cell) = self.alias(task) else { return };
        cell.header().status.detach();
        let waiter = cell.header().waiter.take();
        if cell.header().status.is_finished() {
            self.free(task);
        }
        drop(waiter);
    }

    /// Whether a task has ended.
    pub(crate) fn is_finished(&self, task: TaskId) -> bool {
        self.alias(task).is_none_or(|cell| cell.header().status.is_finished())
    }

    /// Calls `callback` with the result when the task ends; at once if it has. Not for a task that is gone.
    ///
    /// # Safety
    ///
    /// The task's output is `T`, and this is called by its handle, which has not taken the result, and which stays as it
    /// is meanwhile.
    pub(crate) unsafe fn on_done<T>(&self, task: TaskId, callback: impl FnOnce(&Outcome<T>) + 'static) {
        match self.alias(task) {
            // SAFETY: of this type, and while the handle lends itself nobody takes or frees the result: `free_all` runs
            // after the last poll.
            Some(cell) => unsafe { cell.on_done(callback) },
            None => callback(&Err(JoinError::cancelled())),
        }
    }

    /// Takes the result of a task, or registers for it.
    ///
    /// # Safety
    ///
    /// The task's output is `T`, and this is called by its handle, which has not taken the result yet.
    pub(crate) unsafe fn poll_join<T>(&self, task: TaskId, cx: &Context<'_>) -> Poll<Outcome<T>> {
        let mut tasks = self.tasks.borrow_mut();
        let Some(slot) = tasks.find(task) else { return Poll::Ready(Err(JoinError::cancelled())) };
        let cell = slot.cell.as_ref().expect("a slot that is found is not free").alias();
        if !cell.header().status.is_finished() {
            drop(tasks);
            let old: Option<Waker> = cell.header().waiter.replace(Some(waker::clone(cx.waker())));
            drop(old);
            // Cloning, which is anybody's code, may have ended the task; then nobody was there to be woken.
            if cell.header().status.is_finished() {
                cx.waker().wake_by_ref();
            }
            return Poll::Pending;
        }
        let _ = tasks.vacate(task);
        // Before the cell goes, which may drop what is the user's.
        drop(tasks);
        // SAFETY: finished, not taken, and of this type, by the caller's promise. The slot's name of it is gone, and `poll`
        // does not touch its alias after `finished`.
        Poll::Ready(unsafe { cell.take_and_free::<T>() })
    }

    /// Counts one completed operation of the running task; pending, and scheduled again, when it had its share.
    #[inline]
    pub(crate) fn poll_share(&self, cx: &Context<'_>) -> Poll<()> {
        match self.operations_left.get() {
            0 => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            left => {
                self.operations_left.set(left - 1);
                Poll::Ready(())
            }
        }
    }

    /// Whether the running task may complete another operation in this poll.
    #[inline]
    pub(crate) fn has_share(&self) -> bool {
        self.operations_left.get() > 0
    }

    /// Lets the running task complete one operation more, if it had its share.
    #[inline]
    pub(crate) fn leave_one_share(&self) {
        self.operations_left.set(self.operations_left.get().max(1));
    }

    /// As [`poll_share`](Self::poll_share), for operations that need no polling of their own.
    pub(crate) async fn share(&self) {
        std::future::poll_fn(|cx| self.poll_share(cx)).await;
    }

    /// Live tasks that the loop waits for before it ends.
    pub(crate) fn finalisers(&self) -> usize {
        self.finalisers.get()
    }

    /// Drops every task's future, for shutdown, but those of finalisers if they are kept. True when there was none left to
    /// drop: their drops may spawn others.
    pub(crate) fn cancel_all(&self, keeps_finalisers: bool) -> bool {
        let mut none = true;
        let mut index = 0;
        loop {
            let tasks = self.tasks.borrow();
            let Some(slot) = tasks.slots.get(index) else { break };
            let found = slot.cell.as_ref().map(|cell| (slot.generation, cell.alias()));
            drop(tasks);
            if let Some((generation, cell)) = found
                && !cell.header().status.is_finished()
                && !(keeps_finalisers && cell.header().is_finaliser())
            {
                none = false;
                // SAFETY: live, and nothing is being polled or dropped at the start of a step of the shutdown.
                unsafe { cell.cancel() };
                self.finished(TaskId::new(index as u32, generation), &cell);
            }
            index += 1;
        }
        none
    }

    /// Drops the results that nobody took, for shutdown: they may hold sockets. Their handles find nothing any more. False
    /// if there was none.
    pub(crate) fn free_all(&self) -> bool {
        let mut freed = false;
        let mut index = 0;
        loop {
            let tasks = self.tasks.borrow();
            let Some(slot) = tasks.slots.get(index) else { break };
            let task = TaskId::new(index as u32, slot.generation);
            let finished = slot.cell.as_ref().is_some_and(|cell| cell.header().status.is_finished());
            drop(tasks);
            if finished {
                freed = true;
                self.free(task);
            }
            index += 1;
        }
        freed
    }

    /// Live tasks, and finished ones whose result nobody took yet.
    pub(crate) fn len(&self) -> usize {
        let tasks = self.tasks.borrow();
        tasks.slots.len() - tasks.free.len()
    }

    /// Times the polls.
    pub(crate) fn watch(&self) -> &Watch {
        &self.watch
    }

    /// Polls so far, those of the main future among them.
    pub(crate) fn polls(&self) -> u64 {
        self.polls.get()
    }
}
