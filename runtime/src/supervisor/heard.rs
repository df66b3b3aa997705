//! The signals that a supervisor hears, as one descriptor that becomes readable.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{EventfdFlags, eventfd};

use crate::signal::{Mark, Registration, SignalKind, ThreadBell};

/// Signals that have come, in the order in which they are obeyed.
#[derive(Debug)]
pub(super) struct Heard {
    bell: Arc<OwnedFd>,
    signals: Vec<(SignalKind, Mark, Registration)>,
}

impl Heard {
    /// Catches them for the whole process.
    ///
    /// # Errors
    ///
    /// When no descriptor is left, and what sigaction(2) says.
    pub(super) fn catch() -> io::Result<Heard> {
        let bell = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let kinds = [
            SignalKind::terminate(),
            SignalKind::interrupt(),
            SignalKind::hangup(),
            SignalKind::user_defined2(),
            SignalKind::user_defined1(),
            // Of whoever started this process it may be ignored, and then the kernel would reap children by itself (wait(2)):
            // nobody would know how they ended, and their numbers could be somebody else's.
            SignalKind::child(),
        ];
        let signals = kinds.into_iter().map(|kind| {
            let mark = Mark::default();
            let registration = Registration::new(kind, mark.clone(), ThreadBell(Arc::clone(&bell)))?;
            Ok((kind, mark, registration))
        });
        Ok(Heard { signals: signals.collect::<io::Result<_>>()?, bell })
    }

    /// Readable when one has come.
    pub(super) fn bell(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }

    /// Those that have come since this was asked.
    pub(super) fn take(&self) -> Vec<SignalKind> {
        // Emptied before the marks are taken: one that comes between rings again. Nothing there is no error.
        let _ = rustix::io::read(self.bell.as_fd(), &mut [0; 8]);
        self.signals.iter().filter(|(_, mark, _)| mark.take()).map(|(kind, ..)| *kind).collect()
    }
}
