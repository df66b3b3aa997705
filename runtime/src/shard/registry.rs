//! What other threads know of a shard: its inbox and its doorbell.

#![deny(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::event::{EventfdFlags, eventfd};

use super::{ShardId, ShardKey};
use crate::executor::MAIN;
use crate::executor::inbox::{self, Inbox};
use crate::task::TaskId;

/// What one thread may ask of another's shard.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Message {
    /// A waker was woken.
    Wake(TaskId),
    /// A handle asks its task to end.
    Abort(TaskId),
    /// A handle was dropped.
    Detach(TaskId),
    /// Print the task dump.
    Dump,
    /// Something lies at the loop's door, see `mesh::lobby`.
    Mesh,
    /// Give the task dump to whoever gathers those of all loops.
    Gather,
}

impl inbox::Message for Message {
    type Key = (u8, TaskId);

    fn collapse_key(&self) -> Option<Self::Key> {
        match *self {
            Message::Wake(task) => Some((0, task)),
            Message::Abort(task) => Some((1, task)),
            Message::Detach(task) => Some((2, task)),
            Message::Dump => Some((3, MAIN)),
            Message::Mesh => Some((4, MAIN)),
            Message::Gather => Some((5, MAIN)),
        }
    }
}

/// The side of a shard that is shared.
#[derive(Debug)]
pub(crate) struct Remote {
    serial: u32,
    pub(crate) inbox: Inbox<Message, Bell>,
    /// The shard's ring, for loops that ring by a message; until the shard ends. Who has a message under way holds on to it, so
    /// that its number does not become another file's.
    pub(super) ring: Mutex<Option<Arc<OwnedFd>>>,
}

impl Remote {
    /// The shard's ring, if it can be rung by a message.
    pub(super) fn ring(&self) -> Option<Arc<OwnedFd>> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// An eventfd that the shard's ring polls. Of the ways to wake a ring from a thread that has none it is the cheapest,
/// see docs/measuring.md.
#[derive(Debug)]
pub(crate) struct Bell(OwnedFd);

impl Bell {
    pub(crate) fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    /// Stops the bell, for a poll that would see it ring for ever.
    pub(crate) fn silence(&self) {
        let mut count = [0; 8];
        // EAGAIN: it was not ringing.
        let _ = rustix::io::read(self.0.as_fd(), &mut count);
    }
}

impl inbox::Doorbell for Bell {
    fn ring(&self) {
        // Fails only when 2^64 - 2 rings were not heard (EAGAIN): then it is ringing already.
        let _ = rustix::io::write(self.0.as_fd(), &1_u64.to_ne_bytes());
    }
}

#[derive(Debug, Default)]
struct Registry {
    shards: Vec<Option<Arc<Remote>>>,
    next_serial: u32,
}

static REGISTRY: Mutex<Registry> = Mutex::new(Registry { shards: Vec::new(), next_serial: 0 });

fn registry() -> MutexGuard<'static, Registry> {
    REGISTRY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Enters a new shard, whose ring may be rung by a message if there is one.
///
/// # Errors
///
/// When no descriptor is left, or 65 536 shards live.
pub(super) fn register(ring: Option<OwnedFd>) -> io::Result<(ShardKey, Arc<Remote>)> {
    let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
    let mut registry = registry();
    let serial = registry.next_serial;
    registry.next_serial = serial.wrapping_add(1) & ShardKey::SERIAL_MAX;
    let remote =
        Arc::new(Remote { serial, inbox: Inbox::new(Bell(bell)), ring: Mutex::new(ring.map(Arc::new)) });
    let index = match registry.shards.iter().position(Option::is_none) {
        Some(index) => index,
        None => {
            registry.shards.push(None);
            registry.shards.len() - 1
        }
    };
    let id =
        u16::try_from(index).map_err(|_| io::Error::other("more than 65536 annulet loops in one process"))?;
    registry.shards[index] = Some(Arc::clone(&remote));
    Ok((ShardKey::new(ShardId(id), serial), remote))
}

/// Strikes a shard out.
pub(super) fn unregister(key: ShardKey) {
    let gone = registry().shards[usize::from(key.id().0)].take();
    if let Some(remote) = gone {
        // Its messages name tasks that are no more.
        drop(remote.inbox.close());
        drop(remote.ring.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

fn find(id: ShardId, serial: Option<u32>) -> Option<Arc<Remote>> {
    let registry = registry();
    let remote = registry.shards.get(usize::from(id.0))?.as_ref()?;
    serial.is_none_or(|serial| serial == remote.serial).then(|| Arc::clone(remote))
}

/// Whether the shard has not ended.
pub(super) fn lives(key: ShardKey) -> bool {
    find(key.id(), Some(key.serial())).is_some()
}

/// Puts a message into a shard's inbox and rings if it sleeps.
pub(super) fn send(id: ShardId, serial: Option<u32>, message: Message) {
    if let Some(remote) = find(id, serial) {
        // To a loop that ends just now there is nothing left to say.
        let _ = remote.inbox.push(message);
    }
}

/// Puts a message into every shard's inbox. Gives how many there are.
pub(crate) fn send_to_all(message: Message) -> usize {
    let all: Vec<_> = registry().shards.iter().flatten().map(Arc::clone).collect();
    // To a loop that ends just now there is nothing left to say.
    all.iter().filter(|remote| remote.inbox.push(message).is_ok()).count()
}
