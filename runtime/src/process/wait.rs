//! The end of one child, seen through its pidfd.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::pin::Pin;
use std::process::ExitStatus;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use rustix::io::Errno;
use rustix::process::{WaitId, WaitIdOptions, WaitIdStatus};

use crate::driver::Feature;
use crate::op::{Memory, Operation, ended, request};
use crate::shard::Shard;

/// A child that is not reaped yet, or how it ended.
#[derive(Debug)]
pub(super) struct Wait {
    pub(super) shard: Rc<Shard>,
    pub(super) pidfd: Rc<OwnedFd>,
    /// The wait under way. It belongs to the child: a waitid that a dropped future had begun may reap all the same.
    operation: Option<Operation>,
    pub(super) status: Option<ExitStatus>,
}

impl Wait {
    pub(super) fn new(shard: Rc<Shard>, pidfd: OwnedFd) -> Self {
        Wait { shard, pidfd: Rc::new(pidfd), operation: None, status: None }
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<ExitStatus>> {
        loop {
            if let Some(status) = self.status {
                return Poll::Ready(Ok(status));
            }
            if self.operation.is_none() {
                let pidfd = Rc::clone(&self.pidfd);
                let waits = self.shard.io.borrow().driver.capabilities().has(Feature::WaitId);
                self.operation = Some(if waits {
                    request::wait_child(&self.shard, pidfd)
                } else {
                    request::poll(&self.shard, pidfd, libc::POLLIN as u32)
                });
            }
            let operation = self.operation.as_mut().expect("made above");
            let outcome = ready!(Pin::new(operation).poll(cx));
            self.operation = None;
            outcome.result?;
            self.status = match outcome.payload.memory {
                Memory::Child(info) => Some(request::child_end(&info)),
                _ => reap(&self.pidfd)?,
            };
        }
    }

    /// How it ended, if it has.
    pub(super) fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        if self.shard.is_closing() {
            return Err(ended());
        }
        if self.status.is_none() {
            if self.operation.is_some() {
                // What is under way reaps; a second one beside it would find no child.
                return match self.poll(&mut Context::from_waker(Waker::noop())) {
                    Poll::Ready(status) => status.map(Some),
                    Poll::Pending => Ok(None),
                };
            }
            self.status = reap(&self.pidfd)?;
        }
        Ok(self.status)
    }
}

/// Reaps the child if it has ended.
pub(super) fn reap(pidfd: &OwnedFd) -> io::Result<Option<ExitStatus>> {
    use std::os::fd::AsFd;
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
    loop {
        match rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), options) {
            Ok(status) => return Ok(status.as_ref().map(status_of)),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// As wait(2) packs it.
fn status_of(status: &WaitIdStatus) -> ExitStatus {
    let core = if status.dumped() { 0x80 } else { 0 };
    let code = status.exit_status().map_or(0, |code| (code & 0xff) << 8);
    ExitStatus::from_raw(code | status.terminating_signal().map_or(0, |signal| signal | core))
}
