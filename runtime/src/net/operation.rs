//! A one-shot operation as a future.

use std::future::Future;
use std::io;
use std::os::fd::RawFd;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use super::stream::ended;
use crate::driver::Op;
use crate::op::{OpId, Outcome, Payload};
use crate::shard::Shard;
use crate::task::{WaitsFor, waits};

/// A one-shot operation as a future; dropping it cancels the operation and leaves its memory to the table.
pub(super) struct Operation {
    shard: Rc<Shard>,
    id: Option<OpId>,
    /// What a task dump says of who awaits it.
    what: WaitsFor,
}

impl Operation {
    pub(super) fn submit(
        shard: Rc<Shard>,
        payload: Payload,
        op: impl FnOnce(&Payload) -> Op,
    ) -> io::Result<Self> {
        if shard.is_closing() {
            return Err(ended());
        }
        let mut io = shard.io.borrow_mut();
        let (ops, driver, _) = io.ops();
        let id = ops.submit(payload, op, driver);
        drop(io);
        Ok(Operation { shard, id: Some(id), what: WaitsFor::Other })
    }

    /// Tells a task dump the operation's name and descriptor.
    pub(super) fn named(mut self, name: &'static str, fd: RawFd) -> Self {
        self.what = WaitsFor::Operation { name, fd };
        self
    }
}

impl Future for Operation {
    type Output = io::Result<Outcome>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.shard.is_closing() {
            return Poll::Ready(Err(ended()));
        }
        let id = self.id.expect("an operation is not polled after it was done");
        let (waker, mut old) = (cx.waker().clone(), None);
        let outcome = self.shard.io.borrow_mut().ops.poll(id, waker, &mut old);
        drop(old);
        if outcome.is_ready() {
            self.id = None;
        } else {
            waits::note(self.what);
        }
        outcome.map(Ok)
    }
}

impl Drop for Operation {
    fn drop(&mut self) {
        if let Some(id) = self.id.take() {
            let mut io = self.shard.io.borrow_mut();
            let (ops, driver, _) = io.ops();
            let waker = ops.forget(id, driver);
            drop(io);
            drop(waker);
        }
    }
}
