//! A worker as its supervisor has it, a thread or a process: how it is reached, and how it has ended.

use std::fmt;
use std::io;

use super::link::Link;
use super::process::{Process, describe};
use super::worker::Thread;

/// What a worker is.
#[derive(Debug)]
pub(super) enum Body {
    Process(Process),
    Thread(Thread),
    /// Its end is being dealt with.
    Gone,
}

/// A worker that has not ended.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) slot: usize,
    pub(super) body: Body,
    pub(super) link: Link,
    /// Its row on the board.
    pub(super) row: Option<usize>,
    /// It has said so. Before that a signal may end it: its handlers are not there yet.
    pub(super) is_ready: bool,
}

/// The end of a worker.
pub(super) struct End {
    pub(super) who: String,
    pub(super) how: String,
    pub(super) is_clean: bool,
    /// Why a thread could not start.
    pub(super) failure: Option<io::Error>,
}

impl Worker {
    pub(super) fn process(&self) -> Option<&Process> {
        match &self.body {
            Body::Process(process) => Some(process),
            Body::Thread(_) | Body::Gone => None,
        }
    }

    /// Its end, once; a process is reaped, a thread joined.
    pub(super) fn take_end(&mut self) -> Option<End> {
        let who = self.to_string();
        match &mut self.body {
            Body::Process(process) => match process.try_wait() {
                Ok(None) => None,
                Ok(Some(status)) => {
                    Some(End { who, how: describe(status), is_clean: status.success(), failure: None })
                }
                Err(error) => {
                    let how = format!("cannot be waited for: {error}");
                    Some(End { who, how, is_clean: false, failure: None })
                }
            },
            // The link ends behind everything else of the thread.
            Body::Thread(_) if !self.link.is_open() => {
                let Body::Thread(thread) = std::mem::replace(&mut self.body, Body::Gone) else {
                    unreachable!("matched just now")
                };
                let (panicked, failure) = thread.join();
                let how = match &failure {
                    Some(error) => error.to_string(),
                    None if panicked => "panicked".to_owned(),
                    None => "ended".to_owned(),
                };
                Some(End { who, how, is_clean: !panicked && failure.is_none(), failure })
            }
            Body::Thread(_) | Body::Gone => None,
        }
    }
}

impl fmt::Display for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.body {
            Body::Process(process) => write!(f, "worker {} (pid {})", self.slot, process.id()),
            Body::Thread(_) | Body::Gone => write!(f, "worker {}", self.slot),
        }
    }
}
