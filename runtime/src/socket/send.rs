//! The sending side of a socket: one send in flight, and a second buffer that gathers behind it.
//!
//! ```text
//!           flush, nobody waits            settled: all taken
//!   Idle ------------------------> Trying ---------------------> Idle
//!    |                                | the socket is full: short count or EAGAIN
//!    |  flush                         v
//!    '--------------------------> Flying -----------------------> Idle
//!                                          completion
//! ```
//!
//! Bytes written during a turn of the loop are gathered and leave in one send at its end. A first try never waits
//! ([`Op::SendNow`]): in the common case the kernel has copied everything when the submission returns, and says
//! nothing, so that the loop sleeps until there is something to do. What did not fit, and what somebody waits for (a
//! flush, a close), is sent with an ordinary [`Op::Send`], whose completion ends the sleep.

#![allow(unsafe_code)]

use std::io;
use std::task::{Poll, Waker};

use super::Context;
use super::table::{Socket, SocketId, SocketList, Sockets};
use crate::driver::Feature;
use crate::driver::{Kind, Op};

/// Gathered bytes above which writers wait.
pub(crate) const SEND_HIGH_WATER: usize = 64 * 1024;
/// A buffer that grew beyond this is freed after use instead of kept.
const SPARE_BYTES_MAX: usize = 16 * 1024;
/// Emptied buffers that are kept: 256 × 16 KiB = 4 MiB at the most.
const SPARE_COUNT_MAX: usize = 256;
/// What one request carries at the most. A request completes when all of its bytes are taken, so this is the step in which
/// [`Sockets::unsent`] shows that a slow reader takes some.
pub(super) const SEND_BYTES_MAX: usize = 256 * 1024;
/// The first allocation of a send buffer.
const SPARE_BYTES_MIN: usize = 2048;

/// Bytes that could not be lent.
pub(crate) enum NotLent {
    /// Other lent bytes are under way.
    Busy(Vec<u8>),
    /// Written bytes must leave first, or an error has ended sending.
    FlushFirst(Vec<u8>),
}

/// See the diagram above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SendState {
    /// The kernel holds nothing.
    Idle,
    /// The kernel holds `flying` while it is being submitted.
    Trying,
    /// The kernel holds `flying` until its completion.
    Flying,
}

impl Sockets {
    /// Takes the gathering buffer out, to be appended to and given back with [`put_gather`](Self::put_gather).
    #[inline]
    pub(crate) fn take_gather(&mut self, id: SocketId) -> Vec<u8> {
        let socket = self.socket(id);
        socket.buffers_out += 1;
        if socket.gather.capacity() > 0 {
            return std::mem::take(&mut socket.gather);
        }
        self.spare.pop().unwrap_or_else(|| Vec::with_capacity(SPARE_BYTES_MIN))
    }

    /// Gives the gathering buffer back; its bytes leave at the end of the turn. After an error they are dropped.
    #[inline]
    pub(crate) fn put_gather(&mut self, id: SocketId, mut gather: Vec<u8>) {
        let socket = self.socket(id);
        socket.buffers_out -= 1;
        if socket.send_error != 0 {
            gather.clear();
        }
        if let Some(owned) = &mut socket.owned {
            // Its writer may have taken back some of what stands before owned bytes.
            owned.behind = owned.behind.min(gather.len());
        }
        if gather.is_empty() {
            return self.keep_spare(gather);
        }
        // What was written to the same stream while the buffer was out follows.
        gather.append(&mut socket.gather);
        socket.gather = gather;
        if socket.send == SendState::Flying {
            self.count_late(id);
        }
        self.mark_dirty(id);
    }

    /// Lends `bytes` to the kernel if nothing is gathered or in flight; gives them back otherwise.
    pub(crate) fn try_lend(
        &mut self,
        id: SocketId,
        bytes: Vec<u8>,
        cx: &mut Context<'_>,
    ) -> Result<(), NotLent> {
        let socket = self.socket(id);
        if socket.lent.is_some() {
            return Err(NotLent::Busy(bytes));
        }
        if socket.send != SendState::Idle || socket.waiting() > 0 || socket.send_error != 0 {
            return Err(NotLent::FlushFirst(bytes));
        }
        debug_assert!(!bytes.is_empty());
        socket.flying = bytes;
        socket.lent = Some(Box::default());
        socket.sent = 0;
        socket.send = SendState::Flying;
        self.submit(id, cx);
        self.count_late(id);
        Ok(())
    }

    /// Takes lent bytes back once the kernel is done with them.
    pub(crate) fn poll_returned(
        &mut self,
        id: SocketId,
        waker: Waker,
        old: &mut Option<Waker>,
    ) -> Poll<(io::Result<()>, Vec<u8>)> {
        let socket = self.socket(id);
        let lent = socket.lent.as_mut().expect("only who lent asks");
        if socket.send != SendState::Idle {
            *old = lent.lender.replace(waker);
            return Poll::Pending;
        }
        *old = Some(waker);
        socket.lent = None;
        let bytes = std::mem::take(&mut socket.flying);
        let result = send_result(socket);
        self.mark_dirty(id);
        Poll::Ready((result, bytes))
    }

    /// Who lent the bytes does not want them back: they are freed when the kernel is done with them. Returns its waker.
    pub(crate) fn forget_lent(&mut self, id: SocketId) -> Option<Waker> {
        let socket = self.find(id)?;
        let lent = socket.lent.take()?;
        if socket.send == SendState::Idle {
            socket.flying = Vec::new();
            self.mark_dirty(id);
        }
        lent.lender
    }

    /// Puts a socket with gathered bytes among those that are flushed at the end of the turn.
    #[inline]
    pub(super) fn mark_dirty(&mut self, id: SocketId) {
        let socket = self.socket(id);
        let may_send = socket.send == SendState::Idle && socket.lent.is_none();
        if may_send && socket.waiting() > 0 && !socket.dirty {
            socket.dirty = true;
            self.dirty.push(id);
        }
    }

    /// Bytes written and not yet taken by the kernel.
    #[inline]
    pub(crate) fn unsent(&mut self, id: SocketId) -> usize {
        let socket = self.socket(id);
        let flying = if socket.send == SendState::Idle { 0 } else { socket.flight() - socket.sent };
        socket.waiting() + flying
    }

    /// Ready when fewer than `below` bytes are unsent, or with the error that ended sending.
    #[inline]
    pub(crate) fn poll_unsent_below(
        &mut self,
        id: SocketId,
        below: usize,
        waker: Waker,
        old: &mut Option<Waker>,
    ) -> Poll<io::Result<()>> {
        let unsent = self.unsent(id);
        let socket = self.socket(id);
        if unsent < below || socket.send_error != 0 {
            *old = Some(waker);
            return Poll::Ready(send_result(socket));
        }
        *old = socket.writer.replace(waker);
        Poll::Pending
    }

    /// Turns this turn's dirty sockets into sends.
    #[inline]
    pub(crate) fn flush(&mut self, cx: &mut Context<'_>) {
        if self.dirty.is_empty() {
            return;
        }
        let mut dirty: SocketList = std::mem::take(&mut self.dirty);
        let skip = cx.driver.capabilities().has(Feature::SkipSuccess);
        for id in dirty.drain(..) {
            let Some(socket) = self.find(id) else { continue };
            socket.dirty = false;
            if socket.send != SendState::Idle || socket.lent.is_some() || socket.waiting() == 0 {
                continue;
            }
            std::mem::swap(&mut socket.gather, &mut socket.flying);
            socket.sent = 0;
            let owned = socket.owned.is_some();
            if owned {
                let spare = &mut self.spare;
                let slot = &mut self.slots[id.slot as usize];
                slot.board(spare);
            }
            let socket = self.socket(id);
            // Where somebody waits for the outcome, a completion must end the loop's sleep; silence would not.
            let awaited = socket.closing || socket.writer.is_some();
            let whole = socket.flying.len() <= SEND_BYTES_MAX && !owned;
            let is_try = skip && whole && !awaited;
            socket.send = if is_try { SendState::Trying } else { SendState::Flying };
            self.submit(id, cx);
            if is_try {
                self.trying.push(id);
            } else {
                self.count_late(id);
            }
        }
        self.tried = cx.driver.ticket();
        if self.dirty.is_empty() {
            self.dirty = dirty;
        }
    }

    /// Whether sends that may say nothing were pushed in an earlier turn and not taken by the kernel then, which was out of memory.
    #[inline]
    pub(crate) fn is_unsettled(&self) -> bool {
        !self.trying.is_empty()
    }

    /// All events were taken: tries that the kernel has consumed and that drew no event have succeeded.
    #[inline]
    pub(crate) fn settle(&mut self, cx: &mut Context<'_>) {
        if self.trying.is_empty() || !cx.driver.settled(self.tried) {
            return;
        }
        let mut trying: SocketList = std::mem::take(&mut self.trying);
        for id in trying.drain(..) {
            if let Some(socket) = self.find(id).filter(|socket| socket.send == SendState::Trying) {
                let rest = socket.flying.len() - socket.sent;
                self.sent_bytes += rest as u64;
                self.sent_all(id, cx);
            }
        }
        self.trying = trying;
    }

    /// Takes a completion of the sending side in.
    pub(super) fn handle_send(&mut self, id: SocketId, result: i32, cx: &mut Context<'_>) {
        let socket = self.socket(id);
        debug_assert_ne!(socket.send, SendState::Idle);
        match result {
            count if count >= 0 => {
                socket.sent += count as usize;
                debug_assert!(socket.sent <= socket.flight());
                let is_all = socket.sent == socket.flight();
                self.sent_bytes += count as u64;
                if is_all {
                    return self.sent_all(id, cx);
                }
            }
            errno if errno == -libc::EAGAIN || errno == -libc::EINTR => {}
            errno => {
                socket.send_error = -errno;
                socket.gather.clear();
                let unsent = socket.take_owned(false);
                cx.wakes.push_sent(unsent);
                return self.sent_all(id, cx);
            }
        }
        let socket = self.socket(id);
        if socket.abandoned {
            return self.sent_all(id, cx);
        }
        socket.send = SendState::Flying;
        self.submit(id, cx);
        self.count_late(id);
    }

    /// Counts what is in memory for a peer that does not take it at once. Buffers that are out to be written to count when they
    /// come back.
    fn count_late(&mut self, id: SocketId) {
        let socket = self.socket(id);
        let late = match socket.send {
            SendState::Flying => socket.gather.len() + socket.flying.len(),
            SendState::Idle | SendState::Trying => 0,
        };
        let before = std::mem::replace(&mut socket.late, late);
        self.late_bytes = self.late_bytes - before + late;
    }

    /// The kernel is done with `flying`, for better or worse.
    #[inline]
    fn sent_all(&mut self, id: SocketId, cx: &mut Context<'_>) {
        let socket = self.socket(id);
        socket.send = SendState::Idle;
        let mut emptied = Vec::new();
        match &mut socket.lent {
            Some(lent) => cx.wakes.push(&mut lent.lender),
            None => {
                emptied = std::mem::take(&mut socket.flying);
                emptied.clear();
            }
        }
        if socket.owned.is_some() {
            let sent = socket.take_owned(true);
            cx.wakes.push_sent(sent);
        }
        // Half of the high-water mark, so that a writer is not woken for every few bytes; a flush waits for zero.
        if socket.waiting() < SEND_HIGH_WATER / 2 {
            cx.wakes.push(&mut socket.writer);
        }
        let closing = socket.closing;
        if socket.late > 0 {
            self.count_late(id);
        }
        self.keep_spare(emptied);
        self.mark_dirty(id);
        if closing {
            self.continue_close(id, cx);
        }
    }

    #[inline]
    pub(super) fn keep_spare(&mut self, buffer: Vec<u8>) {
        debug_assert!(buffer.is_empty());
        if buffer.capacity() != 0
            && buffer.capacity() <= SPARE_BYTES_MAX
            && self.spare.len() < SPARE_COUNT_MAX
        {
            self.spare.push(buffer);
        }
    }
}

#[inline]
pub(super) fn send_result(socket: &Socket) -> io::Result<()> {
    match socket.send_error {
        0 => Ok(()),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}

impl Sockets {
    /// Hands the unsent part of `flying` to the kernel, or of owned bytes behind it.
    #[inline]
    fn submit(&mut self, id: SocketId, cx: &mut Context<'_>) {
        let Sockets { slots, pinned, .. } = self;
        let socket = &mut slots[id.slot as usize];
        if socket.owned.is_some() {
            if socket.submit_zero_copy(id, pinned, cx.driver) {
                return;
            }
            if let Some(op) = socket.owned_op() {
                // SAFETY: as below for `flying`, and the same holds of the owned bytes and the message (invariants there), whose
                // box is not freed while `send` is not Idle.
                return unsafe { cx.driver.push(op, id.key(Kind::Send)) };
            }
        }
        let rest = &socket.flying[socket.sent..];
        // The rest of more than that follows on the completion.
        let (fd, bytes, len) = (socket.fd, rest.as_ptr(), rest.len().min(SEND_BYTES_MAX) as u32);
        let op = if socket.send == SendState::Trying {
            Op::SendNow { fd, bytes, len }
        } else {
            Op::Send { fd, bytes, len }
        };
        // SAFETY: `flying` is neither moved, changed nor freed while `send` is not Idle (invariant on the field), and the
        // slot is not freed before.
        unsafe { cx.driver.push(op, id.key(Kind::Send)) };
    }
}
