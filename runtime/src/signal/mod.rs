//! Signals of the process.
//!
//! [`unix::signal`] makes a listener, a stream that any loop may have any number of; [`ctrl_c`] waits for SIGINT once;
//! [`Termination`] blocks a thread that has nothing else to do until the process is to end.
//!
//! ```text
//!   signal ──► handler (any thread): marks each listener, rings its loop's doorbell   (signal-hook-registry)
//!                        └──► the loop ends its wait, finds what is marked, wakes     (shard)
//! ```
//!
//! There is no thread for it and no descriptor, and a listener that is dropped leaves nothing. What it does not do: tell
//! how often a signal came (the kernel collapses them as well, see signal(7)), who sent it, or give a signal's default
//! action back once it was listened for.

mod handler;
mod kind;
mod termination;
pub mod unix;

use std::io;

pub(crate) use handler::{Bell, Mark, Registration};
pub(crate) use termination::ThreadBell;
pub use termination::{Signal, Termination};
pub use unix::SignalKind;

/// Waits for the next SIGINT, which Ctrl-C in a terminal sends.
///
/// From the first call on the process is no longer ended by it, for the rest of its life.
///
/// # Examples
///
/// ```no_run
/// annulet::run(async {
///     annulet::signal::ctrl_c().await.unwrap();
///     println!("ending");
/// });
/// ```
///
/// # Errors
///
/// As [`unix::signal`].
///
/// # Cancel safety
///
/// Only signals that come while it is awaited count. To miss none between two waits keep a listener instead.
pub async fn ctrl_c() -> io::Result<()> {
    unix::signal(SignalKind::interrupt())?.recv().await;
    Ok(())
}

/// Catches a signal and does nothing about it, for the rest of the process's life. Unlike one that is ignored (SIG_IGN), it
/// has its default action in children again, and listeners hear it.
///
/// # Errors
///
/// What sigaction(2) says.
pub(crate) fn disregard(kind: SignalKind) -> io::Result<()> {
    struct Silence;
    impl Bell for Silence {
        fn ring_in_handler(&self) {}
    }
    let registration = Registration::new(kind, Mark::default(), Silence)?;
    // Its drop would only take an action away that does nothing.
    std::mem::forget(registration);
    Ok(())
}

/// Prints the task dump of every loop of the process to stderr whenever `kind` arrives.
///
/// A task of this loop listens for it, named `task dump`, until the loop ends; each loop prints its own tasks in its
/// next turn, so a loop whose task never returns prints nothing. See [`task::print_all`](crate::task::print_all).
///
/// # Examples
///
/// ```no_run
/// use annulet::signal::{SignalKind, dump_tasks_on};
///
/// annulet::run(async {
///     dump_tasks_on(SignalKind::user_defined1()).unwrap();
///     // … kill -USR1 tells what the program waits for …
/// });
/// ```
///
/// # Errors
///
/// As [`unix::signal`].
///
/// # Panics
///
/// Outside of a loop.
#[track_caller]
pub fn dump_tasks_on(kind: SignalKind) -> io::Result<()> {
    let mut signal = unix::signal(kind)?;
    let task = crate::task::Builder::new().name("task dump").spawn(async move {
        loop {
            signal.recv().await;
            crate::task::print_all();
        }
    });
    // Nobody waits for it.
    drop(task);
    Ok(())
}
