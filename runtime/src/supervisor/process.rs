//! Executing a program with descriptors that it inherits by their numbers: workers (this program again) and successors
//! (the program by its name, whatever stands there now).

#![allow(unsafe_code)]

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus};

use rustix::io::{FdFlags, fcntl_setfd};
use rustix::net::sockopt;
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, pidfd_open, pidfd_send_signal, waitpid};

use super::inherit::{SUCCESSOR, SuccessorWords, WORKER, WorkerWords};

/// A child, known by its pidfd: a signal never reaches a stranger that got its number.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    pidfd: OwnedFd,
}

/// This very program, also when its file was replaced or removed meanwhile: workers of one supervisor are all the same.
const SELF: &str = "/proc/self/exe";

/// Variables of the service manager that speak to the supervisor only.
const OF_THE_MANAGER: [&str; 6] =
    ["LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "WATCHDOG_PID", "WATCHDOG_USEC", "NOTIFY_SOCKET"];

/// Executes this program as a worker. Gives the worker and the supervisor's end of their link.
pub(super) fn start_worker(
    slot: usize,
    core: Option<usize>,
    board: Option<BorrowedFd<'_>>,
    row: Option<usize>,
    listeners: &[BorrowedFd<'_>],
) -> io::Result<(Process, UnixStream)> {
    let mut command = Command::new(SELF);
    command.arg0(name_of_program()).env_remove(SUCCESSOR);
    for variable in OF_THE_MANAGER {
        command.env_remove(variable);
    }
    let words = |parent, link| {
        let listeners = listeners.iter().map(AsRawFd::as_raw_fd).collect();
        let board = board.map(|board| board.as_raw_fd());
        (WORKER, WorkerWords { parent, link, slot, core, board, row, listeners }.encode())
    };
    let handed: Vec<BorrowedFd<'_>> = listeners.iter().copied().chain(board).collect();
    start(command, &handed, words).map_err(|error| {
        io::Error::new(error.kind(), format!("cannot execute {SELF} (is /proc mounted?): {error}"))
    })
}

/// Executes the program anew, looked up by the name that this one was started by.
pub(super) fn start_successor(
    sockets: &[(std::net::SocketAddr, bool, Vec<BorrowedFd<'_>>)],
) -> io::Result<(Process, UnixStream)> {
    let name = name_of_program();
    let mut command = Command::new(&name);
    command.env_remove(WORKER);
    // The others hold for it too.
    for variable in &OF_THE_MANAGER[..4] {
        command.env_remove(variable);
    }
    let handed: Vec<BorrowedFd<'_>> =
        sockets.iter().flat_map(|(_, _, sockets)| sockets.iter().copied()).collect();
    let words = |parent, link| {
        let raw = |sockets: &[BorrowedFd<'_>]| sockets.iter().map(AsRawFd::as_raw_fd).collect::<Vec<RawFd>>();
        let sockets =
            sockets.iter().map(|(asked, shared, sockets)| (*asked, *shared, raw(sockets))).collect();
        (SUCCESSOR, SuccessorWords { parent, link, sockets }.encode())
    };
    start(command, &handed, words)
        .map_err(|error| io::Error::new(error.kind(), format!("cannot execute {}: {error}", name.display())))
}

/// The name by which this program was started.
fn name_of_program() -> OsString {
    std::env::args_os().next().unwrap_or_else(|| OsString::from(SELF))
}

/// Starts `command` with the arguments of this process, these descriptors and a link.
fn start(
    mut command: Command,
    handed: &[BorrowedFd<'_>],
    words: impl FnOnce(u32, RawFd) -> (&'static str, String),
) -> io::Result<(Process, UnixStream)> {
    let (link, of_child) = UnixStream::pair()?;
    link.set_nonblocking(true)?;
    // A mark by which the child knows its link: see `inherit::take_link`.
    sockopt::set_socket_passcred(&of_child, true)?;
    let (variable, words) = words(std::process::id(), of_child.as_raw_fd());
    let kept: Vec<RawFd> = handed.iter().map(AsRawFd::as_raw_fd).chain([of_child.as_raw_fd()]).collect();
    command.args(std::env::args_os().skip(1)).env(variable, words);
    let keep = move || {
        for &fd in &kept {
            // SAFETY: whoever calls `start` borrows or owns these descriptors until `spawn` has returned, and the forked
            // child, in which this runs, has copies of them.
            let fd = unsafe { BorrowedFd::borrow_raw(fd) };
            fcntl_setfd(fd, FdFlags::empty())?;
        }
        Ok(())
    };
    // SAFETY: between fork and exec only what is async-signal-safe may be done (signal-safety(7)): the closure makes system
    // calls without libc, allocates nothing and takes no lock. It changes descriptors of the child alone, so other threads
    // of this process that start children meanwhile hand nothing on.
    unsafe { command.pre_exec(keep) };
    let child = command.spawn()?;
    let pid = Pid::from_child(&child);
    // It cannot be gone before it is reaped, because SIGCHLD is not ignored (`heard`); so the number is its own.
    match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(pidfd) => Ok((Process { child, pidfd }, link)),
        Err(errno) => {
            let mut child = child;
            // It must not stay without anybody who knows of it. Neither call fails for a child.
            let _ = child.kill().and_then(|()| child.wait());
            Err(errno.into())
        }
    }
}

impl Process {
    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Readable once it has ended.
    pub(super) fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// How it ended; none while it runs. It is reaped by this.
    pub(super) fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// Sends it a signal; one that has ended is left alone.
    pub(super) fn send(&self, signal: Signal) {
        // Fails only if it has ended, which is seen by itself.
        let _ = pidfd_send_signal(&self.pidfd, signal);
    }
}

/// Reaps children that this process did not start but was given, when it is the first of its container: they have ended, and
/// nobody else can ask how. Those of `own` are left to whoever waits for them; behind one of those that has ended just now the
/// others are found when SIGCHLD tells of it.
pub(super) fn reap_strangers(own: &[u32]) {
    loop {
        // SAFETY: zero bytes are a siginfo_t, which is numbers and addresses that nobody follows.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
        // SAFETY: it writes to `info`, which lives through the call.
        let result = unsafe { libc::waitid(libc::P_ALL, 0, &raw mut info, options) };
        // SAFETY: waitid(2) fills this field in, or leaves it zero when nobody has ended.
        let pid = unsafe { info.si_pid() };
        if result != 0 || pid <= 0 || own.contains(&pid.unsigned_abs()) {
            return;
        }
        if waitpid(Pid::from_raw(pid), WaitOptions::NOHANG).is_err() {
            return;
        }
    }
}

/// In the words of a person.
pub(super) fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with exit code {code}"),
        (_, Some(signal)) => format!("was killed by signal {signal}"),
        _ => "ended".to_owned(),
    }
}
