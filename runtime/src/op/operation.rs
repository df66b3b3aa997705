//! A one-shot operation as a future. `request` makes them; this file knows nothing of what they do.

#![allow(unsafe_code)]

use std::future::Future;
use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use super::payload::{Descriptor, Memory, Payload};
use super::table::OpId;
use crate::driver::{Key, Op};
use crate::shard::Shard;
use crate::task::{WaitsFor, waits};

/// A one-shot operation as a future; dropping it cancels the operation and leaves its memory to the table.
#[derive(Debug)]
pub(crate) struct Operation {
    shard: Rc<Shard>,
    /// What a task dump says of who awaits it.
    what: WaitsFor,
    state: State,
}

#[derive(Debug)]
enum State {
    /// The table has it.
    Submitted(OpId),
    /// The loop had ended before it was submitted; the payload goes back.
    Refused(Payload),
    Done,
}

/// The end of an operation: what the kernel said, and what it had to work with.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// The result, a count or a descriptor; or the errno.
    pub(crate) result: io::Result<u32>,
    /// The descriptor that the result is, of an operation that opens one.
    pub(crate) opened: Option<OwnedFd>,
    /// Empty if the loop ended while the operation was under way: the kernel may still use it then.
    pub(crate) payload: Payload,
}

impl Outcome {
    fn ended(payload: Payload) -> Self {
        Outcome { result: Err(ended()), opened: None, payload }
    }

    /// The result of an operation that opens a descriptor.
    pub(crate) fn into_descriptor(self) -> io::Result<OwnedFd> {
        self.result?;
        Ok(self.opened.expect("asked of operations that open a descriptor only"))
    }
}

/// What every operation answers once its loop has ended.
pub(crate) fn ended() -> io::Error {
    io::Error::other("the annulet loop of this descriptor has ended; use it inside the run that made it")
}

/// Closes a descriptor in the background if nobody else has it; if an operation has, its end closes it.
pub(crate) fn close_shared(shard: &Shard, descriptor: Rc<OwnedFd>) {
    if shard.is_closing() {
        // No turn follows that would hand a close over.
        return;
    }
    if let Some(fd) = Descriptor::Shared(descriptor).into_last() {
        let mut io = shard.io.borrow_mut();
        // SAFETY: a close points to no memory; the number was given away here.
        unsafe { io.driver.push(Op::Close { fd }, Key::IGNORED) };
    }
}

impl Operation {
    /// Submits an operation on `payload`, called `name` in a task dump; `op` describes it, given the descriptor's number and the memory where it will
    /// stay.
    ///
    /// # Safety
    ///
    /// Every pointer in the operation points to memory that the payload owns on the heap, with its true length.
    #[inline]
    pub(crate) unsafe fn submit(
        shard: Rc<Shard>,
        name: &'static str,
        payload: Payload,
        op: impl FnOnce(RawFd, &mut Memory) -> Op,
    ) -> Self {
        let what = WaitsFor::Operation { name, fd: payload.descriptor.number() };
        if shard.is_closing() {
            return Operation { shard, what, state: State::Refused(payload) };
        }
        let mut io = shard.io.borrow_mut();
        let (ops, driver, _) = io.ops();
        // SAFETY: the caller's promise is passed on unchanged.
        let id = unsafe { ops.submit(payload, op, driver) };
        drop(io);
        Operation { shard, what, state: State::Submitted(id) }
    }

    /// Tells a task dump that `fd` is waited for.
    pub(crate) fn waits_for_readiness(mut self, fd: RawFd) -> Self {
        self.what = WaitsFor::Readiness { fd };
        self
    }

    /// Lets the operation go on without anybody who waits for it.
    pub(crate) fn detach(mut self) {
        if let State::Submitted(id) = std::mem::replace(&mut self.state, State::Done) {
            let mut io = self.shard.io.borrow_mut();
            let (ops, driver, _) = io.ops();
            let waker = ops.leave(id, driver);
            drop(io);
            drop(waker);
        }
    }
}

impl Future for Operation {
    type Output = Outcome;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        let id = match std::mem::replace(&mut self.state, State::Done) {
            State::Submitted(id) => id,
            State::Refused(payload) => return Poll::Ready(Outcome::ended(payload)),
            State::Done => unreachable!("an operation is not polled after it was done"),
        };
        if self.shard.is_closing() {
            self.state = State::Submitted(id);
            return Poll::Ready(Outcome::ended(Payload::default()));
        }
        let (waker, mut old) = (cx.waker().clone(), None);
        let outcome = self.shard.io.borrow_mut().ops.poll(id, waker, &mut old);
        drop(old);
        if outcome.is_pending() {
            waits::note(self.what);
            self.state = State::Submitted(id);
        }
        outcome
    }
}

impl Drop for Operation {
    #[inline]
    fn drop(&mut self) {
        if let State::Submitted(id) = self.state {
            let mut io = self.shard.io.borrow_mut();
            let (ops, driver, _) = io.ops();
            let waker = ops.forget(id, driver);
            drop(io);
            drop(waker);
        }
    }
}
