//! Children whose owner is gone: a task waits for each, and what is left when its loop ends is looked at when the next
//! child is started.

use std::future::poll_fn;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};

use super::wait::{Wait, reap};

/// Children of ended loops that are kept in mind. Beyond it they stay zombies until this process ends.
const LEFT_MAX: usize = 1024;

/// Children whose loop has ended. Starting a process crosses the kernel: a lock is nothing beside it.
static LEFT: Mutex<Vec<OwnedFd>> = Mutex::new(Vec::new());

/// Sees to it that a child is reaped when it ends.
pub(super) fn adopt(mut wait: Wait) {
    // Errors: it was reaped by somebody else, who has it then.
    if wait.shard.is_closing() {
        return leave(&wait);
    }
    if !matches!(wait.try_wait(), Ok(None)) {
        return;
    }
    let mut left = Left(wait);
    crate::task::Builder::new().name("reaper").spawn(async move {
        let _ = poll_fn(|cx| left.0.poll(cx)).await;
    });
}

/// A child that a task waits for; the task is dropped if its loop ends first.
struct Left(Wait);

impl Drop for Left {
    fn drop(&mut self) {
        if self.0.status.is_none() {
            leave(&self.0);
        }
    }
}

fn leave(wait: &Wait) {
    if matches!(reap(&wait.pidfd), Ok(None))
        && let Ok(pidfd) = wait.pidfd.try_clone()
    {
        let mut left = LEFT.lock().unwrap_or_else(PoisonError::into_inner);
        if left.len() < LEFT_MAX {
            left.push(pidfd);
        }
    }
}

/// Reaps those of ended loops that have ended by now.
pub(super) fn sweep() {
    let mut left = LEFT.lock().unwrap_or_else(PoisonError::into_inner);
    left.retain(|pidfd| matches!(reap(pidfd), Ok(None)));
}
