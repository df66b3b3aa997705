//! Owned bytes that the kernel sends out of the owner's memory: IORING_OP_SEND_ZC (Linux 6.0; used from 6.1 on).
//!
//! Such a send answers twice: how much was taken, and later, when the peer has acknowledged it all, that nobody reads the memory
//! any more. Between the two the bytes belong to this table and to nobody else: the socket may have sent other things meanwhile,
//! or be gone.
//!
//! ```text
//!            push                taken, more to come              let go
//!   (free) --------> Submitted ---------------------> Pinned ---------------> (free)
//!                        |  refused, or taken by a copy: nothing more to come    ^
//!                        '-------------------------------------------------------'
//! ```
//!
//! A closing socket keeps its descriptor until all is let go, for as long as gathered bytes may take to leave. Then it is reset,
//! which throws away what the kernel still had to send.

#![allow(unsafe_code)]

use std::io;
use std::task::{Poll, Waker};

use bytes::Bytes;

use super::Context;
use super::send::{SEND_BYTES_MAX, send_result};
use super::table::{Socket, SocketId, Sockets};
use crate::driver::{Driver, Event, GENERATION_MASK, Key, Kind, Op};

/// What the kernel may read of one socket's owners at a time; what is beyond is copied. As much as a socket buffer grows to by
/// default (`tcp_wmem`, tcp(7)), so that it seldom counts.
const PINNED_BYTES_MAX: usize = 4 * 1024 * 1024;

/// So much leaves with what was written before, copied: a head should not leave in a packet of its own.
pub(super) const COPIED_BYTES: usize = 4096;

/// Bytes that the kernel may read.
#[derive(Debug, Default)]
pub(super) struct Pinned {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Slot {
    generation: u32,
    /// INVARIANT: not dropped before the last completion of the slot's key.
    bytes: Option<Bytes>,
    /// How many of them were given to the kernel.
    len: usize,
    socket: SocketId,
}

impl Pinned {
    pub(super) fn is_empty(&self) -> bool {
        self.slots.len() == self.free.len()
    }

    fn insert(&mut self, bytes: Bytes, len: usize, socket: SocketId) -> Key {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, bytes: None, len: 0, socket });
            u32::try_from(self.slots.len() - 1).expect("bounded by the bytes of each socket")
        });
        let slot = &mut self.slots[index as usize];
        debug_assert!(slot.bytes.is_none());
        (slot.bytes, slot.len, slot.socket) = (Some(bytes), len, socket);
        Key::new(Kind::ZeroCopy, index, slot.generation)
    }

    /// The kernel has said its last word on it.
    fn remove(&mut self, key: Key) -> Option<Bytes> {
        let slot = &mut self.slots[key.slot() as usize];
        debug_assert_eq!(slot.generation, key.generation());
        slot.generation = slot.generation.wrapping_add(1) & GENERATION_MASK;
        self.free.push(key.slot());
        slot.bytes.take()
    }
}

impl Sockets {
    /// Takes a completion of a zero-copy send in: what was taken, or that its bytes were let go.
    pub(crate) fn handle_zero_copy(&mut self, event: Event, cx: &mut Context<'_>) {
        let slot = &self.pinned.slots[event.key.slot() as usize];
        // Sure in all builds: bytes let go for another's event would be read behind their end.
        assert_eq!(
            slot.generation,
            event.key.generation(),
            "a zero-copy send answered behind its last event"
        );
        let (id, len) = (slot.socket, slot.len);
        if !event.more {
            let bytes = self.pinned.remove(event.key);
            cx.wakes.push_sent(bytes);
            // It may be gone, if it was abandoned.
            if let Some(socket) = self.find(id) {
                socket.pinned -= len;
            }
        }
        if !event.is_notification {
            // The socket waits for this: it is there.
            let socket = self.socket(id);
            if let Some(owned) = &mut socket.owned {
                owned.submitted = None;
                // The next bytes may find memory to lock.
                owned.zero_copy &= !is_refusal(event.result);
            }
            let result = if is_refusal(event.result) { 0 } else { event.result };
            return self.handle_send(id, result, cx);
        }
        if let Some(socket) = self.find(id).filter(|socket| socket.pinned == 0) {
            cx.wakes.push(&mut socket.writer);
            if socket.closing {
                self.continue_close(id, cx);
            }
        }
    }

    /// Ready when everything was sent and the kernel reads no memory of owners any more, or with the error that ended sending.
    pub(crate) fn poll_released(
        &mut self,
        id: SocketId,
        waker: Waker,
        old: &mut Option<Waker>,
    ) -> Poll<io::Result<()>> {
        let unsent = self.unsent(id);
        let socket = self.socket(id);
        if (unsent == 0 && socket.pinned == 0) || socket.send_error != 0 {
            *old = Some(waker);
            return Poll::Ready(send_result(socket));
        }
        *old = socket.writer.replace(waker);
        Poll::Pending
    }

    /// Bytes that were sent and that the kernel still reads where they are.
    pub(crate) fn unreleased(&mut self, id: SocketId) -> usize {
        self.socket(id).pinned
    }

    /// Whether the kernel may read memory of any owner.
    pub(crate) fn is_pinned(&self) -> bool {
        !self.pinned.is_empty()
    }
}

/// Of the kind that a copy does without: not of this socket, no memory to lock (RLIMIT_MEMLOCK, `net.core.optmem_max`), or pages that
/// cannot be held. If it is a real fault, the copy says so, too.
fn is_refusal(result: i32) -> bool {
    [libc::EOPNOTSUPP, libc::ENOMEM, libc::ENOBUFS, libc::EFAULT].contains(&-result)
}

impl Socket {
    /// Hands the next part of its owned bytes to the kernel, if they are to leave without a copy. False if they are not, or not
    /// now.
    pub(super) fn submit_zero_copy(
        &mut self,
        id: SocketId,
        pinned: &mut Pinned,
        driver: &mut Driver,
    ) -> bool {
        // What stands before them leaves first, with the first of them.
        let Some(start) = self.sent.checked_sub(self.flying.len()) else { return false };
        let Some(owned) = self.owned.as_mut().filter(|owned| owned.flies && owned.zero_copy) else {
            return false;
        };
        let rest = &owned.bytes[start..];
        let len = rest.len().min(SEND_BYTES_MAX);
        let has_room = self.pinned + len <= PINNED_BYTES_MAX;
        if !has_room {
            return false;
        }
        let op = Op::SendZeroCopy { fd: self.fd, bytes: rest.as_ptr(), len: len as u32 };
        // The memory of `Bytes` stays where it is when they are cloned.
        let key = pinned.insert(owned.bytes.clone(), len, id);
        owned.submitted = Some(key);
        self.pinned += len;
        // SAFETY: the table holds a clone of the bytes until the last event of this key (invariant there), and the shard does not
        // free the table before (`Io::is_quiet`).
        unsafe { driver.push(op, key) };
        true
    }
}
