//! What the loops of a mesh share: for each of them a door, through which queues and news are handed in.
//!
//! Doors have locks. They are used when a queue is opened and when a loop begins or ends, never for a message.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::call::Parcel;
use super::ring::{Consumer, Producer, ring};
use crate::executor::inbox::Doorbell as _;
use crate::shard::{Message, Remote};

/// Parcels from one core to another that the receiver has not looked at; beyond it they wait at the sender.
const LANE_CAPACITY: usize = 256;

/// A loop has ended, or will never begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ended;

/// All doors.
#[derive(Debug)]
pub(crate) struct Lobby {
    doors: Box<[Mutex<Door>]>,
}

#[derive(Debug, Default)]
struct Door {
    state: State,
    /// Queues towards this core that it has not taken over: who sends, and the receiving end.
    lanes: Vec<(usize, Consumer<Parcel>)>,
    /// Sharded values whose last handle is gone.
    dropped: Vec<u64>,
}

#[derive(Debug, Default)]
enum State {
    /// Not begun yet.
    #[default]
    Expected,
    Open(Arc<Remote>),
    Ended,
}

/// What a loop finds at its door.
#[derive(Debug, Default)]
pub(super) struct News {
    pub(super) lanes: Vec<(usize, Consumer<Parcel>)>,
    pub(super) dropped: Vec<u64>,
}

impl Lobby {
    /// For `cores` loops, none of which has begun.
    pub(crate) fn new(cores: usize) -> Arc<Self> {
        Arc::new(Lobby { doors: (0..cores).map(|_| Mutex::default()).collect() })
    }

    pub(super) fn cores(&self) -> usize {
        self.doors.len()
    }

    fn door(&self, core: usize) -> MutexGuard<'_, Door> {
        self.doors[core].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A loop begins.
    pub(super) fn open(&self, core: usize, remote: Arc<Remote>) {
        self.door(core).state = State::Open(remote);
    }

    /// A loop has ended. What lies at its door is dropped; all others are told.
    pub(super) fn close(&self, core: usize) {
        let mut door = self.door(core);
        if matches!(door.state, State::Ended) {
            return;
        }
        door.state = State::Ended;
        let left = (std::mem::take(&mut door.lanes), std::mem::take(&mut door.dropped));
        drop(door);
        // Without the lock: parcels are the user's code.
        drop(left);
        (0..self.cores()).filter(|&other| other != core).for_each(|other| self.tell(other));
    }

    /// What lies at a loop's own door.
    pub(super) fn news(&self, core: usize) -> News {
        let mut door = self.door(core);
        News { lanes: std::mem::take(&mut door.lanes), dropped: std::mem::take(&mut door.dropped) }
    }

    /// Makes the queue from one core to another.
    pub(super) fn open_lane(&self, from: usize, to: usize) -> Result<Producer<Parcel>, Ended> {
        let mut door = self.door(to);
        if matches!(door.state, State::Ended) {
            return Err(Ended);
        }
        let (producer, consumer) = ring(LANE_CAPACITY);
        door.lanes.push((from, consumer));
        drop(door);
        self.tell(to);
        Ok(producer)
    }

    /// The last handle of a sharded value is gone: every core that lives drops its own.
    pub(super) fn drop_shards(&self, id: u64) {
        for core in 0..self.cores() {
            let mut door = self.door(core);
            if !matches!(door.state, State::Ended) {
                door.dropped.push(id);
                drop(door);
                self.tell(core);
            }
        }
    }

    /// The shared side of a loop that runs.
    pub(super) fn remote(&self, core: usize) -> Option<Arc<Remote>> {
        match &self.door(core).state {
            State::Open(remote) => Some(Arc::clone(remote)),
            State::Expected | State::Ended => None,
        }
    }

    /// Makes a loop look at its door. One that has not begun looks when it does.
    fn tell(&self, core: usize) {
        if let Some(remote) = self.remote(core) {
            // To a loop that ends just now there is nothing left to say.
            let _ = remote.inbox.push(Message::Mesh);
        }
    }
}

/// How a loop that sleeps is rung.
pub(super) type Ring<'a> = &'a mut dyn FnMut(&Arc<Remote>);

/// By a system call of its own.
pub(super) fn ring_now(remote: &Arc<Remote>) {
    remote.inbox.doorbell().ring();
}

/// How to wake the loop of another core, if it sleeps.
#[derive(Debug)]
pub(super) struct Peer {
    lobby: Arc<Lobby>,
    pub(super) core: usize,
    /// Known once the loop has begun.
    remote: Option<Arc<Remote>>,
}

impl Peer {
    pub(super) fn new(lobby: &Arc<Lobby>, core: usize) -> Self {
        Peer { lobby: Arc::clone(lobby), core, remote: None }
    }

    /// Lets `ring` ring if the loop sleeps. The caller has made a sequentially consistent fence since it wrote what is to be
    /// found.
    #[inline]
    pub(super) fn nudge_behind_fence(&mut self, ring: Ring<'_>) {
        if self.remote.is_none() {
            // One that has not begun looks at its queues before its first sleep.
            self.remote = self.lobby.remote(self.core);
        }
        if let Some(remote) = &self.remote
            && remote.inbox.is_to_be_rung_behind_fence()
        {
            ring(remote);
        }
    }

    /// The same with a fence, and at once.
    pub(super) fn nudge(&mut self) {
        crate::sync_shim::fence(crate::sync_shim::Ordering::SeqCst);
        self.nudge_behind_fence(&mut ring_now);
    }
}

/// A place in a mesh, of the thread that is to run its loop. When it is dropped the loop counts as ended.
pub(crate) struct Membership {
    pub(super) lobby: Arc<Lobby>,
    pub(super) core: usize,
}

impl Membership {
    /// One for each core.
    pub(crate) fn all(lobby: &Arc<Lobby>) -> Vec<Self> {
        (0..lobby.cores()).map(|core| Membership { lobby: Arc::clone(lobby), core }).collect()
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.lobby.close(self.core);
    }
}

impl fmt::Debug for Membership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Membership").field("core", &self.core).finish_non_exhaustive()
    }
}
