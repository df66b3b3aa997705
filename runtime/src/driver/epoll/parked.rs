//! Operations that wait for a descriptor, and what epoll was told of it.
//!
//! Interest is level-triggered and ends with one event (EPOLLONESHOT of epoll_ctl(2)), so that nothing is lost between the try of
//! an operation and the wait, and a descriptor that nobody waits for is reported once more at the most. What the kernel has
//! registered is not relied upon: a number whose file was closed behind our back is registered anew, and an event that is another
//! file's makes an operation try in vain.

#![allow(unsafe_code)]

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use crate::driver::{Key, Op};

/// Events that are reported whether asked for or not.
pub(super) const ALWAYS: u32 = (libc::EPOLLERR | libc::EPOLLHUP) as u32;
const ONESHOT: u32 = libc::EPOLLONESHOT as u32;
/// For a poll that answers again and again: each event once, as the ring's does.
const EDGE: u32 = libc::EPOLLET as u32;

/// An operation that could not go on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parked {
    pub(super) key: Key,
    pub(super) op: Op,
    /// How far it came; see [`attempt`](super::attempt::attempt).
    pub(super) done: u32,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct ParkedOps {
    /// By descriptor.
    descriptors: Vec<Descriptor>,
    /// Where each operation is.
    places: HashMap<Key, RawFd>,
    /// An empty list, for its memory.
    spare: Vec<Parked>,
}

#[derive(Debug, Default)]
struct Descriptor {
    waiting: Vec<Parked>,
    /// The interest that the kernel has while somebody waits; 0 if it has none, or is not known.
    armed: u32,
    /// Whether it was registered before, and so probably is.
    known: bool,
}

impl ParkedOps {
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// Waits for what the operation needs.
    ///
    /// # Errors
    ///
    /// Those of epoll_ctl(2): EPERM for what cannot be watched. The operation is not here then.
    pub(super) fn insert(&mut self, epoll: &OwnedFd, parked: Parked) -> io::Result<()> {
        let fd = descriptor_of(&parked.op).ok_or_else(|| io::Error::from_raw_os_error(libc::EPERM))?;
        let Ok(at) = usize::try_from(fd) else { return Err(io::Error::from_raw_os_error(libc::EBADF)) };
        if at >= self.descriptors.len() {
            self.descriptors.resize_with(at + 1, Descriptor::default);
        }
        self.descriptors[at].arm(epoll, fd, &parked.op)?;
        self.descriptors[at].waiting.push(parked);
        self.places.insert(parked.key, fd);
        Ok(())
    }

    /// A multishot poll was taken by [`disarm`](Self::disarm) and goes on: the kernel reports what comes next by itself.
    pub(super) fn go_on(&mut self, parked: Parked) {
        let fd = descriptor_of(&parked.op).expect("a poll has one");
        self.descriptors[fd as usize].waiting.push(parked);
        self.places.insert(parked.key, fd);
    }

    /// Takes one operation out. An event that comes for it nevertheless finds nobody.
    pub(super) fn remove(&mut self, key: Key) -> Option<Parked> {
        let fd = self.places.remove(&key)?;
        let descriptor = &mut self.descriptors[fd as usize];
        let at = descriptor.waiting.iter().position(|parked| parked.key == key)?;
        let parked = descriptor.waiting.swap_remove(at);
        if descriptor.waiting.is_empty() {
            descriptor.armed = 0;
        }
        Some(parked)
    }

    /// A descriptor is about to be closed: takes all that waits for it.
    pub(super) fn close(&mut self, epoll: &OwnedFd, fd: RawFd) -> Vec<Parked> {
        let Some(descriptor) = usize::try_from(fd).ok().and_then(|at| self.descriptors.get_mut(at)) else {
            return Vec::new();
        };
        if descriptor.known {
            // The kernel forgets a file when its last descriptor is closed, and there may be others: of a connection that moves to
            // another core, for example. An event of it would be taken for one of the number's next file.
            let _ = control(epoll, libc::EPOLL_CTL_DEL, fd, 0, 0);
        }
        (descriptor.armed, descriptor.known) = (0, false);
        if descriptor.waiting.is_empty() {
            return Vec::new();
        }
        let waiting = std::mem::take(&mut descriptor.waiting);
        for parked in &waiting {
            self.places.remove(&parked.key);
        }
        waiting
    }

    /// The kernel has reported a descriptor: takes all that waits for it. Give the list back, empty.
    pub(super) fn disarm(&mut self, fd: RawFd) -> Vec<Parked> {
        let mut waiting = std::mem::take(&mut self.spare);
        if let Some(descriptor) = self.descriptors.get_mut(fd as usize) {
            if descriptor.armed & ONESHOT != 0 {
                descriptor.armed = 0;
            }
            std::mem::swap(&mut waiting, &mut descriptor.waiting);
            for parked in &waiting {
                self.places.remove(&parked.key);
            }
        }
        waiting
    }

    pub(super) fn give_back(&mut self, list: Vec<Parked>) {
        debug_assert!(list.is_empty());
        self.spare = list;
    }
}

impl Descriptor {
    /// Tells the kernel what is waited for, now with `op`. Even if it should know: whose number was closed behind our back and
    /// is another file's now is found out here.
    fn arm(&mut self, epoll: &OwnedFd, fd: RawFd, op: &Op) -> io::Result<()> {
        let how = if is_multishot(op) || self.armed & EDGE != 0 { EDGE } else { ONESHOT };
        let wanted = (self.armed & !ONESHOT) | interest(op) | how;
        let calls = match self.known {
            true => [libc::EPOLL_CTL_MOD, libc::EPOLL_CTL_ADD],
            false => [libc::EPOLL_CTL_ADD, libc::EPOLL_CTL_MOD],
        };
        match control(epoll, calls[0], fd, wanted, fd as u64) {
            // The guess was wrong: the number was closed and reused, or never closed.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EEXIST)) => {
                control(epoll, calls[1], fd, wanted, fd as u64)?;
            }
            result => result?,
        }
        (self.armed, self.known) = (wanted, true);
        Ok(())
    }
}

fn is_multishot(op: &Op) -> bool {
    matches!(op, Op::Poll { multishot: true, .. })
}

/// The events that an operation waits for.
pub(super) fn interest(op: &Op) -> u32 {
    let events = match op {
        Op::Poll { events, .. } => return *events,
        Op::Connect { .. }
        | Op::Send { .. }
        | Op::SendZeroCopy { .. }
        | Op::SendMessage { .. }
        | Op::Write { .. } => libc::EPOLLOUT,
        _ => libc::EPOLLIN,
    };
    events as u32
}

/// The descriptor that an operation may have to wait for.
fn descriptor_of(op: &Op) -> Option<RawFd> {
    match *op {
        Op::Accept { fd, .. }
        | Op::Connect { fd, .. }
        | Op::Send { fd, .. }
        | Op::SendZeroCopy { fd, .. }
        | Op::SendMessage { fd, .. }
        | Op::ReceiveMessage { fd, .. }
        | Op::Read { fd, .. }
        | Op::Write { fd, .. }
        | Op::Poll { fd, .. }
        | Op::WaitChild { pidfd: fd, .. } => Some(fd),
        _ => None,
    }
}

/// epoll_ctl(2).
pub(super) fn control(epoll: &OwnedFd, call: i32, fd: RawFd, events: u32, data: u64) -> io::Result<()> {
    let mut event = libc::epoll_event { events, u64: data };
    // SAFETY: the event lives on this stack until the call returns.
    match unsafe { libc::epoll_ctl(epoll.as_raw_fd(), call, fd, &raw mut event) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
