//! What happens in a signal handler: a mark is set and a doorbell rung, nothing else.
//!
//! signal-hook-registry installs the handlers and shares them with other crates that use it; a handler that was installed
//! before by other means is called first.

#![allow(unsafe_code)]

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook_registry::SigId;

use super::SignalKind;

/// Set by the handler, taken by the listener.
#[derive(Clone, Debug, Default)]
pub(crate) struct Mark(Arc<AtomicBool>);

impl Mark {
    /// Whether the signal came since this was asked.
    pub(crate) fn take(&self) -> bool {
        // Acquire pairs with the Release in the handler: what the sender's thread did before raising it is seen.
        self.0.swap(false, Ordering::Acquire)
    }

    /// Whether the signal came.
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// Ends the wait of whom a mark is for.
pub(crate) trait Bell: Send + Sync + 'static {
    /// Called in a signal handler: must not allocate, lock, panic, or change errno.
    fn ring_in_handler(&self);
}

/// A mark that is set whenever a signal comes, until this is dropped.
#[derive(Debug)]
pub(crate) struct Registration(SigId);

impl Registration {
    /// # Errors
    ///
    /// For signals that cannot be listened for, and what sigaction(2) says.
    pub(crate) fn new(kind: SignalKind, mark: Mark, bell: impl Bell) -> io::Result<Self> {
        if let Some(why) = cannot_be_listened_for(kind.as_raw_value()) {
            let words = format!("{kind} cannot be listened for: {why}");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, words));
        }
        let action = move || {
            // Release pairs with the Acquire of the listener. Set before ringing, so that who hears it finds the mark.
            mark.0.store(true, Ordering::Release);
            bell.ring_in_handler();
        };
        // SAFETY: the action may run in a signal handler: it stores to an atomic and, by the contract of `Bell`, makes
        // one system call that is async-signal-safe (signal-safety(7)).
        let id = unsafe { signal_hook_registry::register(kind.as_raw_value(), action) };
        id.map(Registration).map_err(|error| match error.raw_os_error() {
            Some(libc::EINVAL) => io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{kind} cannot be listened for: there is no such signal for programs; see signal(7)"),
            ),
            _ => error,
        })
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        // Waits for handlers that run just now, so that mark and bell are not used any more afterwards.
        signal_hook_registry::unregister(self.0);
    }
}

fn cannot_be_listened_for(signal: i32) -> Option<&'static str> {
    match signal {
        libc::SIGKILL | libc::SIGSTOP => Some("the kernel lets no program catch it"),
        libc::SIGSEGV | libc::SIGBUS | libc::SIGILL | libc::SIGFPE => Some(
            "it means that an instruction has failed, which would be repeated for ever if the handler returned; let the \
             process end",
        ),
        _ => None,
    }
}
