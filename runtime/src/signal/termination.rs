//! Waiting for the signals that end a server, on a thread that has nothing else to do.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;

use super::handler::{Bell, Mark, Registration};
use super::kind::SignalKind;

/// A signal that asks a process to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Signal {
    /// SIGINT: Ctrl-C in a terminal.
    Interrupt,
    /// SIGTERM: what `kill`, systemd and Kubernetes send.
    Terminate,
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Signal::Interrupt => "SIGINT",
            Signal::Terminate => "SIGTERM",
        })
    }
}

/// Catches SIGINT and SIGTERM for the whole process, to be waited for on one thread.
///
/// From [`catch`](Self::catch) on they do not end the process any more. Listeners on loops
/// ([`unix::signal`](super::unix::signal)) hear them as well.
///
/// # Examples
///
/// ```no_run
/// let termination = annulet::signal::Termination::catch().unwrap();
/// // … start loops …
/// println!("ending after {}", termination.wait().unwrap());
/// ```
#[derive(Debug)]
pub struct Termination {
    /// Rung by the handler, read by `wait`.
    bell: Arc<OwnedFd>,
    interrupt: Mark,
    terminate: Mark,
    _registrations: [Registration; 2],
}

impl Termination {
    /// Catches both signals.
    ///
    /// # Errors
    ///
    /// When no descriptor is left, and what sigaction(2) says.
    pub fn catch() -> io::Result<Self> {
        let bell = Arc::new(eventfd(0, EventfdFlags::CLOEXEC)?);
        let (interrupt, terminate) = (Mark::default(), Mark::default());
        let registrations = [
            Registration::new(SignalKind::interrupt(), interrupt.clone(), ThreadBell(Arc::clone(&bell)))?,
            Registration::new(SignalKind::terminate(), terminate.clone(), ThreadBell(Arc::clone(&bell)))?,
        ];
        Ok(Termination { bell, interrupt, terminate, _registrations: registrations })
    }

    /// Blocks this thread until one of the signals comes. May be called again, for a second one.
    ///
    /// # Errors
    ///
    /// What read(2) says of an eventfd.
    pub fn wait(&self) -> io::Result<Signal> {
        loop {
            // Before the bell: of two signals at once only one was returned.
            if self.terminate.take() {
                return Ok(Signal::Terminate);
            }
            if self.interrupt.take() {
                return Ok(Signal::Interrupt);
            }
            let mut count = [0; 8];
            match rustix::io::read(self.bell.as_fd(), &mut count) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

/// Rings an eventfd.
pub(crate) struct ThreadBell(pub(crate) Arc<OwnedFd>);

impl Bell for ThreadBell {
    fn ring_in_handler(&self) {
        // One write(2), made without libc and hence without errno. It would block only after 2^64 - 2 signals that nobody
        // has waited for.
        let _ = rustix::io::write(self.0.as_fd(), &1_u64.to_ne_bytes());
    }
}
