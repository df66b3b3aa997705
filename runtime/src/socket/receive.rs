//! The receiving side of a socket.
//!
//! ```text
//!            arm                      end of stream, error
//!   Idle ----------> Armed ---------------------------------> Ended
//!    ^                | |  \ ring empty
//!    |  last          | |   '--------> Starved --- a buffer is free ---> Armed
//!    |  completion    | | quota reached, release
//!    '----------------' '---> Stopping --- last completion ---> Idle
//! ```
//!
//! Without buffer rings, and when every buffer of the ring is held, `Armed` is two steps: `Polling` (readiness), then
//! `Reading` (into a buffer that is not in the ring).
//!
//! Back-pressure: a socket that holds [`RECEIVE_QUOTA`] buffers nobody has taken is stopped, and armed again when half
//! of them are taken. When buffers are scarce the quota is one.
//!
//! A multishot receive costs a completion for each small buffer. Who announces much ([`Sockets::expect`]) has its receive
//! stopped and goes on with one request for each large buffer, until little is left of what was announced. Behind that it goes on
//! with one request at a time for a while, asked for when somebody waits: a multishot would take the beginning of the next body
//! into dozens of small buffers before its length is known.

#![allow(unsafe_code)]

use std::io;
use std::task::{Poll, Waker};

use super::table::{Socket, SocketId, Sockets};
use super::{Context, datagram};
use crate::driver::Feature;
use crate::driver::{BufferGroup, Event, Key, Kind, Op};
use crate::op::{BufferPool, NO_BUFFER, Shape};

/// Buffers that may wait in one socket's queue before its receive is stopped: 128 KiB, about a default window. The
/// kernel may deliver up to 33 more before the stop takes effect.
const RECEIVE_QUOTA: u16 = 32;

/// As much in large buffers.
const BULK_QUOTA: u16 = 2;

/// From so many announced bytes on large buffers are used: below it, changing over costs as much as it saves.
const BULK_MIN: u64 = 32 * 1024;

/// What a small buffer holds.
const SMALL_BYTES_MAX: u64 = Shape::STREAM.bytes() as u64;

/// So many arrivals of unknown length behind a large body are received by one request each. Arbitrary: a head may come in a few
/// pieces, and who goes on with small requests soon has a multishot again.
const ONE_BY_ONE: u8 = 4;

/// Bytes in a buffer of the pool, out of the ring and out of the socket's queue.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) buffer: u16,
    /// The bytes are `start..end` of it.
    pub(crate) start: u32,
    pub(crate) end: u32,
}

/// See the diagram above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Receive {
    /// Nothing asked of the kernel.
    Idle,
    /// A receive is with the kernel.
    Armed,
    /// Waiting for readiness.
    Polling,
    /// A receive into `Socket::reading` is with the kernel.
    Reading,
    /// Cancelled; the last completion is still to come.
    Stopping,
    /// The buffer ring was empty.
    Starved,
    /// The end of the stream, or an error.
    Ended,
}

impl Receive {
    /// Whether the kernel still answers.
    pub(super) fn is_in_flight(self) -> bool {
        matches!(self, Receive::Armed | Receive::Polling | Receive::Reading | Receive::Stopping)
    }
}

impl Sockets {
    /// The next received bytes; `None` at the end of the stream. Registers `waker` when there is nothing yet; the waker
    /// that was registered before comes back in `old`, to be dropped when nothing is borrowed.
    #[inline]
    pub(crate) fn poll_receive(
        &mut self,
        id: SocketId,
        waker: Waker,
        old: &mut Option<Waker>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<Option<Received>>> {
        let socket = self.socket(id);
        if let Some(received) = socket.pop(cx) {
            *old = Some(waker);
            self.resume(id, cx);
            return Poll::Ready(Ok(Some(received)));
        }
        if socket.timed_out {
            *old = Some(waker);
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        if socket.datagram && socket.receive_error != 0 {
            *old = Some(waker);
            let errno = std::mem::take(&mut socket.receive_error);
            return Poll::Ready(Err(io::Error::from_raw_os_error(errno)));
        }
        match socket.receive {
            Receive::Ended => {
                *old = Some(waker);
                return Poll::Ready(match socket.receive_error {
                    0 => Ok(None),
                    errno => Err(io::Error::from_raw_os_error(errno)),
                });
            }
            Receive::Idle => arm(socket, id, cx),
            _ => {}
        }
        socket.by_hand = false;
        *old = socket.reader.replace(waker);
        Poll::Pending
    }

    /// Bytes that are already here.
    #[inline]
    pub(crate) fn try_receive(&mut self, id: SocketId, cx: &mut Context<'_>) -> Option<Received> {
        let socket = self.socket(id);
        let received = socket.pop(cx);
        if received.is_none() && socket.receive == Receive::Idle && !socket.by_hand {
            arm(socket, id, cx);
        }
        self.resume(id, cx);
        received
    }

    /// Ready when the kernel receives nothing for this socket, and it stays so until the next wait for bytes. Registers
    /// `waker` as [`poll_receive`](Self::poll_receive) does.
    pub(crate) fn poll_stopped(
        &mut self,
        id: SocketId,
        waker: Waker,
        old: &mut Option<Waker>,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        let socket = self.socket(id);
        socket.by_hand = true;
        if socket.receive.is_in_flight() {
            stop(socket, id, cx);
            *old = socket.reader.replace(waker);
            return Poll::Pending;
        }
        if socket.receive == Receive::Starved {
            socket.receive = Receive::Idle;
        }
        *old = Some(waker);
        Poll::Ready(())
    }

    /// Bytes that are already here, without asking for more.
    pub(crate) fn take_queued(&mut self, id: SocketId, cx: &mut Context<'_>) -> Option<Received> {
        self.socket(id).pop(cx)
    }

    /// Puts bytes that were not consumed back to the front of the queue.
    pub(crate) fn put_back(&mut self, id: SocketId, received: &Received, cx: &mut Context<'_>) {
        self.socket(id).put_back(received, cx.pool);
    }

    /// So many bytes are announced, those among them that have come already.
    pub(crate) fn expect(&mut self, id: SocketId, bytes: u64, cx: &mut Context<'_>) {
        let socket = self.socket(id);
        let (mut here, mut buffer) = (0, socket.first);
        for _ in 0..socket.queued {
            let (start, end, next) = cx.pool.noted(buffer);
            here += u64::from(end - start);
            buffer = next;
        }
        socket.expected = bytes.saturating_sub(here);
        if socket.expected >= BULK_MIN {
            socket.one_by_one = ONE_BY_ONE;
        }
        if socket.wants_bulk() && socket.receive == Receive::Armed && !socket.bulk {
            // Armed again with its last completion, or when its queue is short enough.
            stop(socket, id, cx);
        }
    }

    /// Starts receiving before anybody waits, so that the first bytes are there when they are asked for.
    pub(crate) fn start_receive(&mut self, id: SocketId, cx: &mut Context<'_>) {
        let socket = self.socket(id);
        if socket.receive == Receive::Idle {
            arm(socket, id, cx);
        }
    }

    /// Sets when waiting for bytes fails; a store, unless the wheel must fire earlier than it would.
    #[inline]
    pub(crate) fn set_deadline(&mut self, id: SocketId, deadline: u64, cx: &mut Context<'_>) {
        let socket = self.socket(id);
        socket.deadline = deadline;
        socket.timed_out = false;
        if deadline < socket.timer_at {
            socket.rearm_timer(id, deadline, cx);
        }
    }

    /// The wheel fired for this socket.
    pub(crate) fn handle_timer(&mut self, id: SocketId, cx: &mut Context<'_>) {
        let Some(socket) = self.find(id) else { return };
        socket.timer = None;
        socket.timer_at = u64::MAX;
        if socket.closing {
            self.abandon(id, cx);
        } else if socket.deadline <= cx.now {
            socket.timed_out = true;
            cx.wakes.push(&mut socket.reader);
        } else if socket.deadline != u64::MAX {
            socket.rearm_timer(id, socket.deadline, cx);
        }
    }

    /// Arms again what was stopped for its quota, once half of it is taken.
    #[inline]
    fn resume(&mut self, id: SocketId, cx: &mut Context<'_>) {
        let socket = self.socket(id);
        if socket.receive == Receive::Idle
            && socket.queued <= socket.quota() / 2
            && !socket.by_hand
            && !socket.waits_to_be_asked()
        {
            arm(socket, id, cx);
        }
    }

    /// Takes a completion of the receiving side in.
    #[inline]
    pub(super) fn handle_receive(&mut self, id: SocketId, event: Event, cx: &mut Context<'_>) {
        if event.buffer.is_some() {
            self.received_bytes += u64::try_from(event.result).unwrap_or(0);
        }
        let socket = self.socket(id);
        if let Some(buffer) = event.buffer {
            cx.pool.taken_by_kernel(buffer);
            if event.result > 0 && !socket.closing {
                socket.append(buffer, event.result as u32, cx);
            } else {
                cx.pool.give_back(buffer);
            }
        }
        if event.result > 0 && event.more {
            // The common case: a multishot receive delivered and goes on.
            cx.wakes.push(&mut socket.reader);
            let quota = if cx.pool.is_scarce() { 1 } else { socket.quota() };
            if socket.queued >= quota && socket.receive == Receive::Armed {
                stop(socket, id, cx);
            }
            return;
        }
        if !event.more {
            self.handle_receive_end(id, event.result, cx);
        }
    }

    /// The kernel's last word on one receive: why did it stop?
    fn handle_receive_end(&mut self, id: SocketId, result: i32, cx: &mut Context<'_>) {
        let socket = self.socket(id);
        let was = socket.receive;
        if was == Receive::Reading {
            self.received_bytes += u64::try_from(result).unwrap_or(0);
            let socket = self.socket(id);
            let buffer = std::mem::replace(&mut socket.reading, NO_BUFFER);
            if socket.datagram && result >= 0 && !socket.closing {
                let end = datagram::finish(cx.pool, buffer, result as u32);
                socket.append(buffer, end, cx);
            } else if result > 0 && !socket.closing {
                socket.append(buffer, result as u32, cx);
            } else {
                cx.pool.give_back(buffer);
            }
        }
        let socket = self.socket(id);
        socket.receive = Receive::Idle;
        if socket.closing {
            return self.free_if_quiet(id, cx);
        }
        let stopped = [libc::ECANCELED, libc::EAGAIN, libc::EINTR, libc::ENOBUFS].contains(&-result);
        if socket.by_hand && (result > 0 || stopped) {
            cx.wakes.push(&mut socket.reader);
            return;
        }
        match -result {
            _ if was == Receive::Polling && result > 0 => {
                read_into_pool(socket, id, cx);
                if socket.receive == Receive::Starved {
                    self.starved.push_back(id);
                }
                return;
            }
            errno if result < 0 => match errno {
                // No large buffer, and no more of them to be had: small ones do as well.
                libc::ENOBUFS if socket.bulk => {
                    if !cx.pool.grow_bulk() {
                        (socket.expected, socket.one_by_one) = (0, 0);
                    }
                    self.starvations += 1;
                }
                // The buffer ring was empty: wait for a buffer, in turn.
                libc::ENOBUFS => {
                    socket.receive = Receive::Starved;
                    self.starved.push_back(id);
                    self.starvations += 1;
                    return;
                }
                // Our own stop; or nothing there after all.
                libc::ECANCELED | libc::EAGAIN | libc::EINTR => {}
                // An error of one datagram, most often one that was sent and refused: told once, and receiving goes on.
                errno if socket.datagram => {
                    socket.receive_error = errno;
                    cx.wakes.push(&mut socket.reader);
                    return;
                }
                errno => {
                    socket.receive = Receive::Ended;
                    socket.receive_error = errno;
                    cx.wakes.push(&mut socket.reader);
                    return;
                }
            },
            0 if was != Receive::Polling && !socket.datagram => {
                socket.receive = Receive::Ended;
                cx.wakes.push(&mut socket.reader);
                return;
            }
            // Bytes came, and the request ended with them: one-shot receive, or a multishot that the kernel ended.
            _ => cx.wakes.push(&mut socket.reader),
        }
        let socket = self.socket(id);
        let quota = if cx.pool.is_scarce() { 1 } else { socket.quota() };
        let has_room = socket.queued < quota && (was != Receive::Stopping || socket.queued <= quota / 2);
        if has_room && (socket.reader.is_some() || !socket.waits_to_be_asked()) {
            arm(socket, id, cx);
        }
    }

    /// Lets the starved receive again, as many as there are buffers for. Those whose bytes nobody waits for are passed
    /// over: they are armed again when they are asked for.
    pub(crate) fn feed_starved(&mut self, cx: &mut Context<'_>) {
        if self.starved.is_empty() {
            return;
        }
        if cx.pool.available() == 0 {
            cx.pool.grow();
        }
        let mut left = cx.pool.available();
        while left > 0 || cx.pool.has_reserve() {
            let Some(id) = self.starved.pop_front() else { return };
            let Some(socket) = self.find(id).filter(|socket| socket.receive == Receive::Starved) else {
                continue;
            };
            socket.receive = Receive::Idle;
            if socket.reader.is_none() {
                continue;
            }
            if left > 0 {
                arm(socket, id, cx);
                left -= 1;
            } else {
                arm_readiness(socket, id, cx);
            }
        }
    }

    /// Whether there are starved sockets that could be fed now.
    #[inline]
    pub(crate) fn is_hungry(&self, pool: &BufferPool) -> bool {
        !self.starved.is_empty() && (pool.available() > 0 || pool.has_reserve())
    }
}

/// Asks the kernel for bytes.
fn arm(socket: &mut Socket, id: SocketId, cx: &mut Context<'_>) {
    let capabilities = cx.driver.capabilities();
    let op = if socket.datagram {
        if !capabilities.has(Feature::MessageMultishot) || cx.pool.ring().is_none() {
            return arm_readiness(socket, id, cx);
        }
        socket.receive = Receive::Armed;
        Op::ReceiveMessages { fd: socket.fd }
    } else if capabilities.has(Feature::BufferRing) {
        let multishot = capabilities.has(Feature::ReceiveMultishot) && !socket.waits_to_be_asked();
        socket.receive = Receive::Armed;
        socket.bulk = socket.wants_bulk() && has_bulk_ring(cx);
        if socket.bulk {
            Op::ReceiveSelect { fd: socket.fd, group: BufferGroup::Bulk, multishot: false }
        } else {
            Op::ReceiveSelect { fd: socket.fd, group: BufferGroup::Streams, multishot }
        }
    } else {
        return arm_readiness(socket, id, cx);
    };
    // SAFETY: the operation points to no memory of ours; received bytes go into the registered pool.
    unsafe { cx.driver.push(op, socket.receive_key(id)) };
}

/// Whether large buffers can be selected by the kernel. Makes the pool of them when first asked.
fn has_bulk_ring(cx: &mut Context<'_>) -> bool {
    let Context { driver, pool, .. } = cx;
    let bulk = pool.bulk(|| {
        let bulk = BufferPool::new(Shape::BULK, driver.capabilities().has(Feature::BufferRing), usize::MAX);
        let Some((address, entries)) = bulk.ring() else { return bulk };
        // SAFETY: the pool that this one is part of outlives the driver, or the shard leaks both.
        match unsafe { driver.register_buffers(BufferGroup::Bulk, address, entries) } {
            Ok(()) => bulk,
            // No memory to lock, for example.
            Err(_) => BufferPool::new(Shape::BULK, false, usize::MAX),
        }
    });
    bulk.ring().is_some()
}

/// Asks the kernel to say when there are bytes, to be received into a buffer that is not in the ring.
fn arm_readiness(socket: &mut Socket, id: SocketId, cx: &mut Context<'_>) {
    socket.receive = Receive::Polling;
    let op = Op::Poll { fd: socket.fd, events: libc::POLLIN as u32, multishot: false };
    // SAFETY: a poll points to no memory.
    unsafe { cx.driver.push(op, socket.receive_key(id)) };
}

/// Bytes are there: receive them into a buffer of the pool.
fn read_into_pool(socket: &mut Socket, id: SocketId, cx: &mut Context<'_>) {
    let bulk = (socket.wants_bulk() && !has_bulk_ring(cx)).then(|| cx.pool.take_bulk()).flatten();
    let Some(buffer) = bulk.or_else(|| cx.pool.take()) else {
        socket.receive = Receive::Starved;
        return;
    };
    socket.receive = Receive::Reading;
    socket.reading = buffer;
    let op = if socket.datagram {
        let message = datagram::prepare(cx.pool, buffer);
        Op::ReceiveMessage { fd: socket.fd, message, flags: libc::MSG_DONTWAIT as u32 }
    } else {
        let len = cx.pool.bytes_of(buffer) as u32;
        Op::ReceiveInto { fd: socket.fd, buffer: cx.pool.address(buffer).as_ptr(), len }
    };
    // SAFETY: the buffer is out of the pool, recorded in the slot, and the slot is not freed while this is in flight.
    unsafe { cx.driver.push(op, socket.receive_key(id)) };
}

/// Cancels the receive; its last completion is still to come.
pub(super) fn stop(socket: &mut Socket, id: SocketId, cx: &mut Context<'_>) {
    // A `Reading` request has MSG_DONTWAIT and completes by itself.
    if matches!(socket.receive, Receive::Armed | Receive::Polling) {
        // SAFETY: a cancellation points to no memory.
        unsafe { cx.driver.push(Op::Cancel { target: socket.receive_key(id) }, Key::IGNORED) };
        socket.receive = Receive::Stopping;
    }
}

impl Socket {
    #[inline]
    fn receive_key(&self, id: SocketId) -> Key {
        id.key(if self.datagram { Kind::Datagram } else { Kind::Receive })
    }

    /// Whether so much is expected that it is worth a large buffer.
    #[inline]
    fn wants_bulk(&self) -> bool {
        // Where nothing has to be changed over, it is for all that a small one does not hold.
        let bytes_min = if self.one_by_one == 0 { BULK_MIN } else { SMALL_BYTES_MAX + 1 };
        self.expected >= bytes_min
    }

    /// Whether the next receive is asked for when somebody waits for it, and not before: with what is here it may become known
    /// that much follows.
    #[inline]
    fn waits_to_be_asked(&self) -> bool {
        self.one_by_one > 0 && !self.wants_bulk()
    }

    /// Buffers that may wait in the queue.
    #[inline]
    fn quota(&self) -> u16 {
        if self.wants_bulk() { BULK_QUOTA } else { RECEIVE_QUOTA }
    }

    #[inline]
    fn append(&mut self, buffer: u16, len: u32, cx: &Context<'_>) {
        self.one_by_one = self.one_by_one.saturating_sub(u8::from(self.expected == 0));
        self.expected = self.expected.saturating_sub(u64::from(len));
        cx.pool.note(buffer, 0, len, NO_BUFFER);
        if self.queued == 0 {
            self.first = buffer;
        } else {
            cx.pool.link(self.last, buffer);
        }
        self.last = buffer;
        self.queued += 1;
    }

    #[inline]
    pub(super) fn pop(&mut self, cx: &Context<'_>) -> Option<Received> {
        if self.queued == 0 {
            return None;
        }
        let buffer = self.first;
        let (start, end, next) = cx.pool.noted(buffer);
        self.first = next;
        self.queued -= 1;
        Some(Received { buffer, start, end })
    }

    /// Puts bytes that were not consumed back to the front of the queue.
    fn put_back(&mut self, received: &Received, pool: &BufferPool) {
        let next = if self.queued == 0 { NO_BUFFER } else { self.first };
        pool.note(received.buffer, received.start, received.end, next);
        if self.queued == 0 {
            self.last = received.buffer;
        }
        self.first = received.buffer;
        self.queued += 1;
    }

    /// Files the timer anew, earlier or for the first time.
    pub(super) fn rearm_timer(&mut self, id: SocketId, at: u64, cx: &mut Context<'_>) {
        if let Some(timer) = self.timer.take() {
            cx.timers.remove(timer);
        }
        self.timer = Some(cx.timers.insert_socket(at, id));
        self.timer_at = at;
    }
}
