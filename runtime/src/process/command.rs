//! How a child is to be started.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{ExitStatus, Output, Stdio};

use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::child::Child;
use super::pipe::{ChildStderr, ChildStdin, ChildStdout};
use super::reaper;
use super::wait::Wait;
use crate::placement;
use crate::shard::current;

/// How a child is to be started: [`std::process::Command`] with async ends.
///
/// # Examples
///
/// ```
/// # annulet::run(async {
/// use annulet::process::{Command, Stdio};
/// let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
/// let mut stdin = child.stdin.take().unwrap();
/// stdin.write_all(b"through a cat").await.unwrap();
/// drop(stdin);
/// let output = child.wait_with_output().await.unwrap();
/// assert_eq!(output.stdout, b"through a cat");
/// # });
/// ```
#[derive(Debug)]
pub struct Command {
    std: std::process::Command,
    kill_on_drop: bool,
}

impl Command {
    /// The program, by its path or by a name that is looked for in PATH.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        std::process::Command::new(program).into()
    }

    /// Adds an argument.
    pub fn arg(&mut self, argument: impl AsRef<OsStr>) -> &mut Self {
        self.std.arg(argument);
        self
    }

    /// Adds arguments.
    pub fn args(&mut self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> &mut Self {
        self.std.args(arguments);
        self
    }

    /// Sets an environment variable.
    pub fn env(&mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> &mut Self {
        self.std.env(name, value);
        self
    }

    /// Takes an environment variable away.
    pub fn env_remove(&mut self, name: impl AsRef<OsStr>) -> &mut Self {
        self.std.env_remove(name);
        self
    }

    /// Takes all environment variables away.
    pub fn env_clear(&mut self) -> &mut Self {
        self.std.env_clear();
        self
    }

    /// Sets the working directory.
    pub fn current_dir(&mut self, directory: impl AsRef<Path>) -> &mut Self {
        self.std.current_dir(directory);
        self
    }

    /// The child's standard input; inherited if nothing is said, nothing for [`output`](Self::output).
    pub fn stdin(&mut self, stdin: impl Into<Stdio>) -> &mut Self {
        self.std.stdin(stdin);
        self
    }

    /// The child's standard output; inherited if nothing is said, piped for [`output`](Self::output).
    pub fn stdout(&mut self, stdout: impl Into<Stdio>) -> &mut Self {
        self.std.stdout(stdout);
        self
    }

    /// The child's standard error; inherited if nothing is said, piped for [`output`](Self::output).
    pub fn stderr(&mut self, stderr: impl Into<Stdio>) -> &mut Self {
        self.std.stderr(stderr);
        self
    }

    /// Whether a dropped [`Child`] is killed. Not, if nothing is said.
    pub fn kill_on_drop(&mut self, kill: bool) -> &mut Self {
        self.kill_on_drop = kill;
        self
    }

    /// Starts the child. It may run on every core of the process, also when this loop is bound to one; the signals that
    /// this thread blocks are blocked in it (sigprocmask(2)).
    ///
    /// # Errors
    ///
    /// What fork(2) and execve(2) say, with the program in the message.
    ///
    /// # Panics
    ///
    /// Outside of a loop.
    #[track_caller]
    pub fn spawn(&mut self) -> io::Result<Child> {
        let shard = current();
        reaper::sweep();
        let mut std = placement::unpinned(|| self.std.spawn()).map_err(|error| self.explain(&error))?;
        let id = std.id();
        // It is not reaped yet, so the number is still its own.
        let pidfd = pidfd_open(Pid::from_child(&std), PidfdFlags::empty());
        let pidfd = match pidfd {
            Ok(pidfd) => pidfd,
            Err(error) => {
                // Nobody could wait for it: take it back.
                let _ = std.kill();
                let _ = std.wait();
                return Err(self.explain(&error.into()));
            }
        };
        let mut child = Child::new(id, Wait::new(shard, pidfd), self.kill_on_drop);
        child.stdin = std.stdin.take().map(|end| ChildStdin::new(OwnedFd::from(end))).transpose()?;
        child.stdout = std.stdout.take().map(|end| ChildStdout::new(OwnedFd::from(end))).transpose()?;
        child.stderr = std.stderr.take().map(|end| ChildStderr::new(OwnedFd::from(end))).transpose()?;
        Ok(child)
    }

    /// Starts the child and waits for its end.
    ///
    /// # Errors
    ///
    /// As [`spawn`](Self::spawn) and [`Child::wait`].
    ///
    /// # Cancel safety
    ///
    /// The child is dropped: it goes on, or is killed if [`kill_on_drop`](Self::kill_on_drop) says so.
    ///
    /// # Panics
    ///
    /// Outside of a loop.
    pub async fn status(&mut self) -> io::Result<ExitStatus> {
        self.spawn()?.wait().await
    }

    /// Starts the child without input, collects both its outputs, and waits for its end. What was said of its streams
    /// before does not count.
    ///
    /// # Errors
    ///
    /// As [`spawn`](Self::spawn) and [`Child::wait_with_output`].
    ///
    /// # Cancel safety
    ///
    /// As [`status`](Self::status).
    ///
    /// # Panics
    ///
    /// Outside of a loop.
    pub async fn output(&mut self) -> io::Result<Output> {
        self.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        self.spawn()?.wait_with_output().await
    }

    fn explain(&self, error: &io::Error) -> io::Error {
        let program = self.std.get_program().display();
        let cure = match error.kind() {
            io::ErrorKind::NotFound => "; is it installed and in PATH, and is the working directory there?",
            io::ErrorKind::PermissionDenied => "; is it executable?",
            _ => "",
        };
        io::Error::new(error.kind(), format!("cannot start {program}: {error}{cure}"))
    }
}

impl From<std::process::Command> for Command {
    fn from(std: std::process::Command) -> Self {
        Command { std, kill_on_drop: false }
    }
}
