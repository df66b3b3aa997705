//! A running child.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::process::{ExitStatus, Output};

use rustix::process::Signal;

use super::pipe::{ChildStderr, ChildStdin, ChildStdout};
use super::reaper;
use super::wait::Wait;

/// A child process.
///
/// Dropping it does not end the process unless [`kill_on_drop`](super::Command::kill_on_drop) says so; it is reaped when it
/// ends, either way.
pub struct Child {
    /// The writing end of its standard input, if that is [`Stdio::piped`](std::process::Stdio::piped).
    pub stdin: Option<ChildStdin>,
    /// The reading end of its standard output, likewise.
    pub stdout: Option<ChildStdout>,
    /// The reading end of its standard error, likewise.
    pub stderr: Option<ChildStderr>,
    id: u32,
    /// None only while it is dropped.
    wait: Option<Wait>,
    kill_on_drop: bool,
}

impl Child {
    pub(super) fn new(id: u32, wait: Wait, kill_on_drop: bool) -> Self {
        Child { stdin: None, stdout: None, stderr: None, id, wait: Some(wait), kill_on_drop }
    }

    fn wait_mut(&mut self) -> &mut Wait {
        self.wait.as_mut().expect("a child has its pidfd until it is dropped")
    }

    /// The process id. After the end was seen it may be another's: send signals with [`start_kill`](Self::start_kill).
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Waits for the end. Closes the child's standard input first, so that one that reads until its end can come to its own.
    ///
    /// # Errors
    ///
    /// What waitid(2) says: no child, when somebody else has reaped it or SIGCHLD is ignored.
    ///
    /// # Cancel safety
    ///
    /// A dropped wait loses nothing: the next one tells how the child ended, and so does every one after that.
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.stdin = None;
        poll_fn(|cx| self.wait_mut().poll(cx)).await
    }

    /// How the child ended, if it has. While a dropped [`wait`](Self::wait) is still with the kernel, the answer may come a
    /// turn of the loop late.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait).
    pub fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        self.wait_mut().try_wait()
    }

    /// Sends SIGKILL. To a child that has ended nothing happens.
    ///
    /// # Errors
    ///
    /// What pidfd_send_signal(2) says.
    pub fn start_kill(&mut self) -> io::Result<()> {
        let wait = self.wait_mut();
        if wait.status.is_some() {
            return Ok(());
        }
        match rustix::process::pidfd_send_signal(&wait.pidfd, Signal::KILL) {
            // It is reaped, and the answer is on its way.
            Err(rustix::io::Errno::SRCH) | Ok(()) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Sends SIGKILL and waits for the end.
    ///
    /// # Errors
    ///
    /// As [`start_kill`](Self::start_kill) and [`wait`](Self::wait).
    ///
    /// # Cancel safety
    ///
    /// The signal is sent when the future is first polled.
    pub async fn kill(&mut self) -> io::Result<()> {
        self.start_kill()?;
        self.wait().await.map(drop)
    }

    /// Waits for the end and reads both pipes meanwhile, so that a child that writes much is not held up.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait), and what reading says.
    ///
    /// # Cancel safety
    ///
    /// The child is dropped, with what was read.
    pub async fn wait_with_output(mut self) -> io::Result<Output> {
        self.stdin = None;
        let (stdout, stderr) = (self.stdout.take(), self.stderr.take());
        let reading_out = async {
            let mut bytes = Vec::new();
            if let Some(mut pipe) = stdout {
                pipe.read_to_end(&mut bytes).await?;
            }
            io::Result::Ok(bytes)
        };
        let reading_err = async {
            let mut bytes = Vec::new();
            if let Some(mut pipe) = stderr {
                pipe.read_to_end(&mut bytes).await?;
            }
            io::Result::Ok(bytes)
        };
        let (status, stdout, stderr) = crate::join3(self.wait(), reading_out, reading_err).await;
        Ok(Output { status: status?, stdout: stdout?, stderr: stderr? })
    }
}

impl fmt::Debug for Child {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Child").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.kill_on_drop {
            // It has ended, or it is not ours to kill: nobody is there to be told.
            let _ = self.start_kill();
        }
        if let Some(wait) = self.wait.take().filter(|wait| wait.status.is_none()) {
            reaper::adopt(wait);
        }
    }
}
