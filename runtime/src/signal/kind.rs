//! Which signal.

use std::fmt;

/// Which signal to listen for, see signal(7).
///
/// # Examples
///
/// ```
/// use annulet::signal::SignalKind;
///
/// assert_eq!(SignalKind::terminate().to_string(), "SIGTERM");
/// assert_eq!(SignalKind::from_raw(2), SignalKind::interrupt());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SignalKind(i32);

impl SignalKind {
    /// The signal with this number.
    pub const fn from_raw(signal: i32) -> Self {
        SignalKind(signal)
    }

    /// The signal's number.
    pub const fn as_raw_value(&self) -> i32 {
        self.0
    }

    /// SIGALRM: a timer of alarm(2) or setitimer(2).
    pub const fn alarm() -> Self {
        SignalKind(libc::SIGALRM)
    }

    /// SIGCHLD: a child ended, stopped or goes on.
    pub const fn child() -> Self {
        SignalKind(libc::SIGCHLD)
    }

    /// SIGHUP: the terminal is gone; to servers by custom: read your configuration again.
    pub const fn hangup() -> Self {
        SignalKind(libc::SIGHUP)
    }

    /// SIGINT: Ctrl-C in a terminal.
    pub const fn interrupt() -> Self {
        SignalKind(libc::SIGINT)
    }

    /// SIGIO: a descriptor with O_ASYNC is ready.
    pub const fn io() -> Self {
        SignalKind(libc::SIGIO)
    }

    /// SIGPIPE: a write to a pipe or socket without a reader. Rust programs ignore it from the start.
    pub const fn pipe() -> Self {
        SignalKind(libc::SIGPIPE)
    }

    /// SIGQUIT: Ctrl-\ in a terminal.
    pub const fn quit() -> Self {
        SignalKind(libc::SIGQUIT)
    }

    /// SIGTERM: what `kill`, systemd and Kubernetes send.
    pub const fn terminate() -> Self {
        SignalKind(libc::SIGTERM)
    }

    /// SIGUSR1: free for use.
    pub const fn user_defined1() -> Self {
        SignalKind(libc::SIGUSR1)
    }

    /// SIGUSR2: free for use.
    pub const fn user_defined2() -> Self {
        SignalKind(libc::SIGUSR2)
    }

    /// SIGWINCH: the terminal's window has another size.
    pub const fn window_change() -> Self {
        SignalKind(libc::SIGWINCH)
    }

    /// The signal's name, if it has one.
    pub(super) const fn name(self) -> Option<&'static str> {
        Some(match self.0 {
            libc::SIGABRT => "SIGABRT",
            libc::SIGALRM => "SIGALRM",
            libc::SIGBUS => "SIGBUS",
            libc::SIGCHLD => "SIGCHLD",
            libc::SIGCONT => "SIGCONT",
            libc::SIGFPE => "SIGFPE",
            libc::SIGHUP => "SIGHUP",
            libc::SIGILL => "SIGILL",
            libc::SIGINT => "SIGINT",
            libc::SIGIO => "SIGIO",
            libc::SIGKILL => "SIGKILL",
            libc::SIGPIPE => "SIGPIPE",
            libc::SIGPROF => "SIGPROF",
            libc::SIGPWR => "SIGPWR",
            libc::SIGQUIT => "SIGQUIT",
            libc::SIGSEGV => "SIGSEGV",
            libc::SIGSTOP => "SIGSTOP",
            libc::SIGSYS => "SIGSYS",
            libc::SIGTERM => "SIGTERM",
            libc::SIGTRAP => "SIGTRAP",
            libc::SIGTSTP => "SIGTSTP",
            libc::SIGTTIN => "SIGTTIN",
            libc::SIGTTOU => "SIGTTOU",
            libc::SIGURG => "SIGURG",
            libc::SIGUSR1 => "SIGUSR1",
            libc::SIGUSR2 => "SIGUSR2",
            libc::SIGVTALRM => "SIGVTALRM",
            libc::SIGWINCH => "SIGWINCH",
            libc::SIGXCPU => "SIGXCPU",
            libc::SIGXFSZ => "SIGXFSZ",
            _ => return None,
        })
    }
}

impl fmt::Display for SignalKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "signal {}", self.0),
        }
    }
}
