//! What other threads know of a shard: its inbox and its doorbell.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::event::{EventfdFlags, eventfd};

use super::{ShardId, ShardKey};
use crate::executor::inbox::Inbox;
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
}

/// The side of a shard that is shared.
#[derive(Debug)]
pub(crate) struct Remote {
    serial: u32,
    pub(crate) inbox: Inbox<Message>,
    /// An eventfd that the shard's ring polls.
    bell: OwnedFd,
}

impl Remote {
    pub(crate) fn doorbell(&self) -> RawFd {
        self.bell.as_raw_fd()
    }

    /// Makes a sleeping shard return from the kernel.
    fn ring(&self) {
        // Fails only when 2^64 - 2 rings were not heard (EAGAIN): then it is ringing already.
        let _ = rustix::io::write(self.bell.as_fd(), &1_u64.to_ne_bytes());
    }

    /// Stops the bell, for a poll that would see it ring for ever.
    pub(crate) fn silence(&self) {
        let mut count = [0; 8];
        // EAGAIN: it was not ringing.
        let _ = rustix::io::read(self.bell.as_fd(), &mut count);
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

/// Enters a new shard.
///
/// # Errors
///
/// When no descriptor is left, or 65 536 shards live.
pub(super) fn register() -> io::Result<(ShardKey, Arc<Remote>)> {
    let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
    let mut registry = registry();
    let serial = registry.next_serial;
    registry.next_serial = serial.wrapping_add(1);
    let remote = Arc::new(Remote { serial, inbox: Inbox::new(), bell });
    let index = match registry.shards.iter().position(Option::is_none) {
        Some(index) => index,
        None => {
            registry.shards.push(None);
            registry.shards.len() - 1
        }
    };
    let id = u16::try_from(index).map_err(|_| io::Error::other("more than 65536 annulet loops in one process"))?;
    registry.shards[index] = Some(Arc::clone(&remote));
    Ok((ShardKey { id: ShardId(id), serial }, remote))
}

/// Strikes a shard out.
pub(super) fn unregister(key: ShardKey) {
    let gone = registry().shards[usize::from(key.id.0)].take();
    drop(gone);
}

fn find(id: ShardId, serial: Option<u32>) -> Option<Arc<Remote>> {
    let registry = registry();
    let remote = registry.shards.get(usize::from(id.0))?.as_ref()?;
    serial.is_none_or(|serial| serial == remote.serial).then(|| Arc::clone(remote))
}

/// Whether the shard has not ended.
pub(super) fn lives(key: ShardKey) -> bool {
    find(key.id, Some(key.serial)).is_some()
}

/// Puts a message into a shard's inbox and rings if it sleeps.
pub(super) fn send(id: ShardId, serial: Option<u32>, message: Message) {
    if let Some(remote) = find(id, serial) {
        remote.inbox.push(message, || remote.ring());
    }
}
