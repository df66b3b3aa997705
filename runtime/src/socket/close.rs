//! Closing as a protocol: stop receiving, let gathered bytes leave, close the descriptor, wait for the last completion.
//!
//! close(2) under an armed receive sends no FIN until that request ends, so the cancellation goes first; the close may
//! follow at once, because the request holds the open file by itself and releases it when it ends.

#![allow(unsafe_code)]

use std::os::fd::{BorrowedFd, RawFd};
use std::task::Waker;
use std::time::Duration;

use super::Context;
use super::receive::{self, Receive};
use super::send::SendState;
use super::table::{SocketId, Sockets};
use crate::driver::{Key, Kind, Op};

/// How long gathered bytes may take to leave after their stream was dropped.
const CLOSE_DRAIN_NS: u64 = 30_000_000_000;

impl Sockets {
    /// The owner is gone. Returns its wakers, to be dropped when nothing is borrowed.
    pub(crate) fn release(&mut self, id: SocketId, cx: &mut Context<'_>) -> [Option<Waker>; 3] {
        let Some(socket) = self.find(id).filter(|socket| !socket.closing) else { return [None, None, None] };
        socket.closing = true;
        let wakers = [socket.reader.take(), socket.writer.take(), self.forget_lent(id)];
        let socket = self.socket(id);
        while let Some(received) = socket.pop(cx) {
            cx.pool.give_back(received.buffer);
        }
        receive::stop(socket, id, cx);
        if socket.receive == Receive::Starved {
            socket.receive = Receive::Idle;
        }
        if socket.abrupt {
            self.abandon(id, cx);
            return wakers;
        }
        if socket.send != SendState::Idle || socket.waiting() > 0 || socket.pinned > 0 {
            socket.rearm_timer(id, cx.now.saturating_add(CLOSE_DRAIN_NS), cx);
        }
        self.continue_close(id, cx);
        wakers
    }

    /// Closing is not to wait for anything.
    pub(crate) fn set_abrupt(&mut self, id: SocketId) {
        self.socket(id).abrupt = true;
    }

    /// Closes the descriptor once nothing is left to send, and no memory of owners is read any more.
    pub(super) fn continue_close(&mut self, id: SocketId, cx: &mut Context<'_>) {
        let socket = self.socket(id);
        let is_sent = socket.send == SendState::Idle && socket.waiting() == 0;
        if socket.fd != -1 && is_sent && (socket.pinned == 0 || socket.abandoned) {
            if socket.pinned > 0 {
                reset(socket.fd);
            }
            // SAFETY: closing points to no memory; the slot gives its descriptor away here.
            unsafe { cx.driver.push(Op::Close { fd: socket.fd }, Key::IGNORED) };
            socket.fd = -1;
            let spare = std::mem::take(&mut socket.gather);
            self.keep_spare(spare);
            self.closes += 1;
        }
        self.free_if_quiet(id, cx);
    }

    /// The peer did not take the last bytes in time: drop them.
    pub(crate) fn abandon(&mut self, id: SocketId, cx: &mut Context<'_>) {
        let Some(socket) = self.find(id).filter(|socket| socket.closing) else { return };
        socket.gather.clear();
        let unsent = socket.take_owned(false);
        cx.wakes.push_sent(unsent);
        socket.abandoned = true;
        if socket.send != SendState::Idle {
            let zero_copy = socket.owned.as_ref().and_then(|owned| owned.submitted);
            let target = zero_copy.unwrap_or_else(|| id.key(Kind::Send));
            // SAFETY: a cancellation points to no memory.
            unsafe { cx.driver.push(Op::Cancel { target }, Key::IGNORED) };
        }
        self.continue_close(id, cx);
    }
}

/// The close of this descriptor throws away what the kernel has still to send, and so lets go of the memory that it lies in.
fn reset(fd: RawFd) {
    // SAFETY: the slot, which gives it here, has the descriptor open.
    let socket = unsafe { BorrowedFd::borrow_raw(fd) };
    // It fails on nothing that is a TCP socket; others send no memory of owners.
    let _ = rustix::net::sockopt::set_socket_linger(socket, Some(Duration::ZERO));
}
