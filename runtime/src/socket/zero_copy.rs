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
        let Some((op, key)) = self.pin(id, pinned) else { return false };
        // SAFETY: the table holds a clone of the bytes until the last event of this key (invariant there), and the shard does not
        // free the table before (`Io::is_quiet`).
        unsafe { driver.push(op, key) };
        true
    }

    /// Keeps the owner of what is sent next in the table.
    fn pin(&mut self, id: SocketId, pinned: &mut Pinned) -> Option<(Op, Key)> {
        // What stands before them leaves first, with the first of them.
        let start = self.sent.checked_sub(self.flying.len())?;
        let owned = self.owned.as_mut().filter(|owned| owned.flies && owned.zero_copy)?;
        let rest = &owned.bytes[start..];
        let len = rest.len().min(SEND_BYTES_MAX);
        let has_room = self.pinned + len <= PINNED_BYTES_MAX;
        if !has_room {
            return None;
        }
        let op = Op::SendZeroCopy { fd: self.fd, bytes: rest.as_ptr(), len: len as u32 };
        // The memory of `Bytes` stays where it is when they are cloned.
        let key = pinned.insert(owned.bytes.clone(), len, id);
        owned.submitted = Some(key);
        self.pinned += len;
        Some((op, key))
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream as StdStream};

    use super::*;
    use crate::net::TcpStream;
    use crate::shard::current;
    use crate::socket::send::SendState;

    /// A socket of the table, and its peer.
    fn pair() -> (SocketId, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let ours = StdStream::connect(listener.local_addr().unwrap()).unwrap();
        let (peer, _) = listener.accept().unwrap();
        let id = with_sockets(|sockets, _| sockets.insert(ours.into()));
        (id, TcpStream::from_std(peer).unwrap())
    }

    fn with_sockets<R>(f: impl FnOnce(&mut Sockets, &mut Context<'_>) -> R) -> R {
        let shard = current();
        let mut io = shard.io.borrow_mut();
        let (sockets, mut cx) = io.sockets(shard.clock.now());
        f(sockets, &mut cx)
    }

    /// Bytes that are with the kernel, as far as the table knows. `None` if they would be copied: then nothing is left of them.
    fn try_fly(id: SocketId, bytes: &'static [u8]) -> Option<Key> {
        with_sockets(|sockets, _| {
            assert!(sockets.try_own(id, Bytes::from_static(bytes), true).is_ok());
            let Sockets { slots, pinned, .. } = sockets;
            let socket = &mut slots[id.slot as usize];
            socket.owned.as_mut().unwrap().flies = true;
            socket.send = SendState::Flying;
            let key = socket.pin(id, pinned).map(|(_, key)| key);
            if key.is_none() {
                (socket.send, socket.owned) = (SendState::Idle, None);
            }
            key
        })
    }

    fn fly(id: SocketId, bytes: &'static [u8]) -> Key {
        try_fly(id, bytes).expect("there is room")
    }

    fn handle(key: Key, result: i32, more: bool, is_notification: bool) {
        with_sockets(|sockets, cx| {
            let event = Event { key, result, buffer: None, more, is_notification };
            sockets.handle_zero_copy(event, cx);
        });
    }

    fn unreleased(id: SocketId) -> usize {
        with_sockets(|sockets, _| sockets.unreleased(id))
    }

    fn close(id: SocketId, abruptly: bool) {
        let wakers = with_sockets(|sockets, cx| {
            if abruptly {
                sockets.set_abrupt(id);
            }
            sockets.release(id, cx)
        });
        drop(wakers);
    }

    #[test]
    fn what_a_copy_can_do_without_is_sent_as_a_copy() {
        let check = |errno: i32, is_copied: bool| {
            crate::run(async move {
                let (id, peer) = pair();
                let key = fly(id, b"owned");
                assert_eq!(unreleased(id), 5);
                handle(key, -errno, false, false);
                assert_eq!(unreleased(id), 0);
                let error = with_sockets(|sockets, _| sockets.socket(id).send_error);
                assert_eq!(error, if is_copied { 0 } else { errno });
                close(id, false);
                let mut all = Vec::new();
                while let Some(lease) = peer.recv().await.unwrap() {
                    all.extend_from_slice(&lease);
                }
                assert_eq!(all, if is_copied { b"owned" } else { &b""[..] }, "errno {errno}");
            });
        };
        for errno in [libc::EOPNOTSUPP, libc::ENOMEM, libc::ENOBUFS, libc::EFAULT] {
            check(errno, true);
        }
        for errno in [libc::ECONNRESET, libc::EPIPE, libc::EINVAL] {
            check(errno, false);
        }
    }

    #[test]
    fn after_a_part_the_next_one_begins_behind_it() {
        crate::run(async {
            if !crate::capabilities().has(crate::Feature::SendZeroCopy) {
                println!("skipped after_a_part_the_next_one_begins_behind_it: the ring has no send_zc here");
                return;
            }
            let (id, peer) = pair();
            let first = fly(id, b"owned");
            // As if the kernel had taken two of them, and reads them still. The next part leaves in truth.
            handle(first, 2, true, false);
            assert_eq!(unreleased(id), 5 + 3);
            let lease = peer.recv().await.unwrap().expect("the rest");
            assert_eq!(&lease[..], b"ned");
            handle(first, 0, false, true);
            close(id, false);
            assert!(peer.recv().await.unwrap().is_none());
        });
    }

    #[test]
    fn a_notification_finds_the_slot_of_its_socket_reused() {
        crate::run(async {
            let (id, _peer) = pair();
            let key = fly(id, b"owned");
            handle(key, 5, true, false);
            assert_eq!(unreleased(id), 5);
            // Nothing of it is with the kernel but the memory of its owner.
            close(id, true);
            let (next, _next_peer) = pair();
            assert_eq!(next.slot, id.slot);
            assert_ne!(next.generation, id.generation);
            let next_key = fly(next, b"next");
            assert_eq!(unreleased(next), 4);
            handle(key, 0, false, true);
            assert_eq!(unreleased(next), 4, "the bytes of the next socket are still read");
            handle(next_key, 4, true, false);
            handle(next_key, 0, false, true);
            assert_eq!(unreleased(next), 0);
            with_sockets(|sockets, _| assert!(!sockets.is_pinned()));
            close(next, true);
        });
    }

    #[test]
    fn an_event_behind_the_last_one_lets_go_of_nothing() {
        crate::run(async {
            let (id, _peer) = pair();
            let key = fly(id, b"owned");
            handle(key, 5, true, false);
            handle(key, 0, false, true);
            // In the same place of the table.
            let (next, _next_peer) = pair();
            let next_key = fly(next, b"next");
            assert_eq!(next_key.slot(), key.slot());
            let late = std::panic::catch_unwind(|| handle(key, 0, false, true)).expect_err("it is late");
            let said = late.downcast_ref::<String>().expect("a formatted message");
            assert!(said.contains("answered behind its last event"), "{said}");
            assert_eq!(unreleased(next), 4, "the next bytes are still read");
            handle(next_key, 4, true, false);
            handle(next_key, 0, false, true);
            assert_eq!(unreleased(next), 0);
            close(id, true);
            close(next, true);
        });
    }

    #[test]
    fn what_is_beyond_the_bound_of_a_socket_is_copied() {
        crate::run(async {
            for (pinned, is_copied) in [(PINNED_BYTES_MAX - 5, false), (PINNED_BYTES_MAX - 4, true)] {
                let (id, _peer) = pair();
                // As if the kernel read so much already.
                with_sockets(|sockets, _| sockets.socket(id).pinned = pinned);
                let key = try_fly(id, b"owned");
                assert_eq!(key.is_none(), is_copied, "{pinned}");
                if let Some(key) = key {
                    assert_eq!(unreleased(id), PINNED_BYTES_MAX);
                    handle(key, 5, true, false);
                    handle(key, 0, false, true);
                }
                assert_eq!(unreleased(id), pinned);
                with_sockets(|sockets, _| sockets.socket(id).pinned = 0);
                close(id, true);
            }
        });
    }
}
