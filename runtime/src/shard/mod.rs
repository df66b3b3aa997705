//! One core: driver, tables, executor, wheel and inbox, and the only run loop.
//!
//! `run` is a turn of the loop. No task is polled from inside completion handling, and what is below this module is told the time.
//!
//! `current` knows the shard of the calling thread, `registry` those of other threads, `shutdown` is the way out.

#![allow(unsafe_code)]

mod current;
mod hold;
mod io;
mod policy;
mod registry;
mod ringing;
mod run;
mod shutdown;
mod signals;

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

pub(crate) use current::{Entered, assert_no_loop, current, no_loop, with_current};
pub(crate) use hold::{TimeHold, hold_virtual_time};
pub(crate) use io::Io;
pub use policy::{Batch, LoopPolicy};
pub(crate) use registry::{Message, Remote, send_to_all};
pub(crate) use shutdown::LoopGuard;
pub(crate) use signals::{ListenerId, Signals};

use crate::driver::{BufferGroup, Driver, Settings};
use crate::executor::Executor;
use crate::mesh::{Membership, Port};
use crate::metrics::{Board, Place, StallSettings, Watch};
use crate::op::{BufferPool, Shape};
use crate::task::cell::Outcome;
use crate::task::{JoinError, TaskId};
use crate::time::Clock;

/// Which shard, among those that live: what a waker holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ShardId(pub(crate) u16);

/// Which shard, among all that ever were: what a handle holds. One word, as [`TaskId`] is, and for the same reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ShardKey(u64);

impl ShardKey {
    /// The largest serial: a handle uses the bit above it.
    pub(crate) const SERIAL_MAX: u32 = u32::MAX >> 1;

    #[inline]
    pub(crate) const fn new(id: ShardId, serial: u32) -> Self {
        ShardKey((serial as u64) << 16 | id.0 as u64)
    }

    #[inline]
    pub(crate) const fn id(self) -> ShardId {
        ShardId(self.0 as u16)
    }

    #[inline]
    pub(crate) const fn serial(self) -> u32 {
        (self.0 >> 16) as u32
    }
}

/// How a shard is made.
#[derive(Clone, Debug, Default)]
pub(crate) struct ShardSettings {
    pub(crate) ring: Settings,
    pub(crate) buffers_max: Option<usize>,
    pub(crate) policy: LoopPolicy,
    pub(crate) virtual_clock: bool,
    /// Where the loop's counters are, and in which row.
    pub(crate) board: Board,
    pub(crate) row: usize,
    pub(crate) stall: StallSettings,
}

/// One core's everything.
pub(crate) struct Shard {
    pub(crate) key: ShardKey,
    pub(crate) executor: Executor,
    pub(crate) io: RefCell<Io>,
    pub(crate) pool: Rc<BufferPool>,
    pub(crate) clock: Clock,
    pub(crate) signals: Signals,
    /// The loop's counters.
    pub(crate) row: Place,
    /// Work elsewhere that a virtual clock waits for.
    holds: hold::Holds,
    /// What other threads see of this shard.
    remote: Arc<Remote>,
    policy: LoopPolicy,
    /// Set when the shard ends: no new work is taken.
    closing: Cell<bool>,
    /// Turns of the loop so far.
    turns: Cell<u64>,
    /// Empty between two batches from the inbox; kept for its memory.
    messages: RefCell<Vec<Message>>,
    /// The other cores; empty for a loop that is alone.
    port: OnceCell<Rc<Port>>,
    /// Where connections that come from another core are counted.
    pub(crate) seat: Cell<Option<usize>>,
    /// Polls so far when the last turn ended.
    polls_before: Cell<u64>,
}

impl std::fmt::Debug for Shard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shard").field("key", &self.key).finish_non_exhaustive()
    }
}

impl Shard {
    /// Makes a shard for the calling thread.
    ///
    /// # Errors
    ///
    /// When no ring can be had; the message names the likely cause and the cure.
    pub(crate) fn new(settings: &ShardSettings, core: Option<usize>) -> std::io::Result<Rc<Self>> {
        // A bare errno is of the descriptors beside the ring; the ring's own errors are sentences already.
        Self::make(settings, core).map_err(|error| match error.raw_os_error() {
            Some(_) => crate::driver::uring::explain(&error),
            None => error,
        })
    }

    fn make(settings: &ShardSettings, core: Option<usize>) -> std::io::Result<Rc<Self>> {
        let row = settings.board.take(settings.row, core)?;
        let mut driver = Driver::new(&settings.ring)?;
        let with_ring = driver.capabilities().has(crate::driver::Feature::BufferRing);
        let buffers_max = settings.buffers_max.unwrap_or(crate::op::BUFFERS_MAX);
        let mut pool = Rc::new(BufferPool::new(Shape::STREAM, with_ring, buffers_max));
        if let Some((address, entries)) = pool.ring() {
            // SAFETY: the pool is kept by the shard, which closes the ring first, or leaks its share of the pool.
            if unsafe { driver.register_buffers(BufferGroup::Streams, address, entries) }.is_err() {
                driver.without_buffer_ring();
                pool = Rc::new(BufferPool::new(Shape::STREAM, false, buffers_max));
            }
        }
        let (key, remote) = registry::register(driver.bell())?;
        let io = Io::new(driver, Rc::clone(&pool), remote.inbox.doorbell().fd());
        Ok(Rc::new(Shard {
            key,
            executor: Executor::new(key.id(), Watch::new(&settings.stall, row.row.clone())),
            io: RefCell::new(io),
            pool,
            clock: Clock::new(settings.virtual_clock),
            signals: Signals::default(),
            row,
            holds: hold::Holds::default(),
            remote,
            policy: settings.policy,
            closing: Cell::new(false),
            turns: Cell::new(0),
            messages: RefCell::default(),
            port: OnceCell::new(),
            seat: Cell::new(None),
            polls_before: Cell::new(0),
        }))
    }

    /// Whether the shard has ended, so that operations must fail instead of waiting for ever.
    #[inline]
    pub(crate) fn is_closing(&self) -> bool {
        self.closing.get()
    }

    /// Takes the shard's place in a mesh. To be called on its thread, once, before it runs.
    pub(crate) fn join_mesh(&self, membership: &Membership) {
        let port = Port::new(membership, &self.remote);
        self.port.set(port).expect("a loop is in one mesh");
    }

    /// The other cores; none for a loop that is alone.
    #[inline]
    pub(crate) fn port(&self) -> Option<&Rc<Port>> {
        self.port.get()
    }

    pub(crate) fn turns(&self) -> u64 {
        self.turns.get()
    }
}

/// Wakes a task, from any thread.
#[inline]
pub(crate) fn wake(shard: ShardId, task: TaskId) {
    let local = with_current(|current| {
        let here = current.is_some_and(|current| current.key.id() == shard);
        if here && let Some(current) = current {
            current.executor.schedule(task);
        }
        here
    });
    if !local {
        registry::send(shard, None, Message::Wake(task));
    }
}

/// Sends a message to a shard, directly if it is this thread's. To one that ended: nothing happens.
pub(crate) fn send(shard: ShardKey, message: Message) {
    let local = with_current(|current| match current {
        Some(current) if current.key == shard => {
            current.handle_message(message);
            true
        }
        _ => false,
    });
    if !local {
        registry::send(shard.id(), Some(shard.serial()), message);
    }
}

/// Drops a task's future here and now if it is of this thread's shard, and not below this call.
pub(crate) fn end(shard: ShardKey, task: TaskId) {
    with_current(|current| {
        if let Some(current) = current.filter(|current| current.key == shard) {
            current.executor.end(task);
        }
    });
}

/// Whether a task has ended, as far as this thread can see.
pub(crate) fn is_finished(shard: ShardKey, task: TaskId) -> bool {
    with_current(|current| match current {
        Some(current) if current.key == shard => current.executor.is_finished(task),
        _ => !registry::lives(shard),
    })
}

/// Calls `callback` when a task has ended. See [`JoinHandle`](crate::JoinHandle), the only caller: its `T` is the task's
/// output, and it lends itself to the call.
pub(crate) fn on_done<T>(shard: ShardKey, task: TaskId, callback: impl FnOnce(&Outcome<T>) + 'static) {
    with_current(|current| match current {
        // SAFETY: a handle is made by `spawn` with the task's output as its `T`; the caller vouches for the rest.
        Some(current) if current.key == shard => unsafe { current.executor.on_done::<T>(task, callback) },
        _ if !registry::lives(shard) => callback(&Err(JoinError::cancelled())),
        _ => panic!(
            "JoinHandle::on_done was called on another thread than its task's; its callback runs there, so register it \
             where the task was spawned"
        ),
    });
}

/// See [`JoinHandle`](crate::JoinHandle), the only caller: its `T` is the task's output.
pub(crate) fn poll_join<T>(shard: ShardKey, task: TaskId, cx: &Context<'_>) -> Poll<Outcome<T>> {
    with_current(|current| match current {
        // SAFETY: a handle is made by `spawn` with the task's output as its `T`, and asks until it has the result.
        Some(current) if current.key == shard => unsafe { current.executor.poll_join::<T>(task, cx) },
        _ if !registry::lives(shard) => Poll::Ready(Err(JoinError::cancelled())),
        _ => panic!(
            "a JoinHandle was awaited on another thread than its task's; await it where the task was spawned, or send \
             the result through a channel"
        ),
    })
}

impl Shard {
    /// Does what another thread (or a handle on this one) asked for.
    pub(crate) fn handle_message(&self, message: Message) {
        match message {
            Message::Wake(task) => self.executor.schedule(task),
            Message::Abort(task) => self.executor.abort(task),
            Message::Detach(task) => self.executor.detach(task),
            Message::Dump => crate::task::dump().print(),
            Message::Mesh => self.port().into_iter().for_each(Port::handle_news),
            Message::Gather => crate::task::give_dump(self.key),
        }
    }
}
