//! Which kernel interface a loop stands on, and how that is chosen.

#![deny(unsafe_code)]

use std::fmt;
use std::io;

/// The environment variable that chooses for a program that does not.
const VARIABLE: &str = "ANNULET_DRIVER";

/// The kernel interface below a loop; see [`Builder::driver`](crate::Builder::driver).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DriverKind {
    /// io_uring: what annulet is made for.
    IoUring,
    /// epoll(7) and plain system calls: the same programs, slower, where io_uring is forbidden, as it is by the default
    /// seccomp profile of several container runtimes.
    Epoll,
}

impl DriverKind {
    /// The name in `ANNULET_DRIVER` and in what programs print: `io_uring` or `epoll`.
    pub fn name(self) -> &'static str {
        match self {
            DriverKind::IoUring => "io_uring",
            DriverKind::Epoll => "epoll",
        }
    }

    /// What the environment says, if anything.
    pub(super) fn of_environment() -> io::Result<Option<Self>> {
        match std::env::var_os(VARIABLE) {
            Some(name) if !name.is_empty() => name.to_string_lossy().parse().map(Some),
            _ => Ok(None),
        }
    }
}

impl fmt::Display for DriverKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for DriverKind {
    type Err = io::Error;

    fn from_str(name: &str) -> io::Result<Self> {
        match name {
            "io_uring" => Ok(DriverKind::IoUring),
            "epoll" => Ok(DriverKind::Epoll),
            _ => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{name:?} is no driver (--driver, {VARIABLE}); there are io_uring and epoll"),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for kind in [DriverKind::IoUring, DriverKind::Epoll] {
            assert_eq!(kind.to_string().parse::<DriverKind>().unwrap(), kind);
        }
        let error = "kqueue".parse::<DriverKind>().unwrap_err().to_string();
        assert!(error.contains("kqueue") && error.contains("io_uring and epoll"), "{error}");
    }
}
