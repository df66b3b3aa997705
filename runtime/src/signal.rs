//! Waiting for the signals that end a server, on a thread that has nothing else to do.

use std::fmt;
use std::io;

use crate::sys;

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
/// Make it on the main thread before any other thread is started: threads inherit the mask that keeps the signals from
/// ending the process.
///
/// # Examples
///
/// ```no_run
/// let termination = annulet::signal::Termination::catch().unwrap();
/// // … start loops …
/// println!("ending after {}", termination.wait().unwrap());
/// ```
#[derive(Debug)]
pub struct Termination(());

impl Termination {
    /// Blocks both signals for this thread and those that it starts.
    ///
    /// # Errors
    ///
    /// What pthread_sigmask(3) says.
    pub fn catch() -> io::Result<Self> {
        sys::block_termination_signals()?;
        Ok(Termination(()))
    }

    /// Blocks this thread until one of the signals comes. May be called again, for a second one.
    ///
    /// # Errors
    ///
    /// What sigwait(3) says.
    pub fn wait(&self) -> io::Result<Signal> {
        Ok(match sys::wait_for_termination_signal()? {
            libc::SIGINT => Signal::Interrupt,
            _ => Signal::Terminate,
        })
    }
}
