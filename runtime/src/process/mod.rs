//! Child processes: started by the standard library, waited for and talked to through the ring.
//!
//! [`Command`] is the standard library's with async ends. A [`Child`] is known by its pidfd (pidfd_open(2)), so a signal
//! can never reach a stranger that got its number later. Its end is a waitid(2) of the ring where the kernel has it (6.7),
//! and a poll of the pidfd where not; no signal handler and no thread is used. A child that is dropped goes on running and
//! is reaped when it ends, so that it does not stay as a zombie.
//!
//! What it does not do: start children without blocking the loop for the fork (vfork(2) returns within a millisecond), or
//! reap children that were started elsewhere.
//!
//! # Examples
//!
//! ```
//! # annulet::run(async {
//! use annulet::process::Command;
//! let output = Command::new("echo").arg("hello").output().await.unwrap();
//! assert_eq!((output.status.success(), &output.stdout[..]), (true, &b"hello\n"[..]));
//! # });
//! ```

mod child;
mod command;
mod pipe;
mod reaper;
mod wait;

pub use child::Child;
pub use command::Command;
pub use pipe::{ChildStderr, ChildStdin, ChildStdout};
pub use std::process::{ExitStatus, Output, Stdio};
