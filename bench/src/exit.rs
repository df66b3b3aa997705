//! What the process says when it ends: the exit codes, and the failure that is printed as one line.

use std::fmt;
use std::process::ExitCode;

/// Shown below `--help`, so that scripts need not look further.
pub(crate) const HELP: &str = "\
Exit codes:
  0  measured, and the figures may be used
  1  the measurement could not be made (no ring, no memory, no descriptors)
  2  wrong usage
  3  the server could not be reached: refused, no route, no such name
  4  measured, but the figures are no use: errors, answers other than 2xx, too few samples
  5  the rate that was asked for could not be met, or a threshold was not kept
  6  a report could not be written";

/// How a run ended, for scripts. The numbers are part of the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Measured, and the figures may be used.
    Good = 0,
    /// The measurement could not be made.
    Failed = 1,
    /// Wrong usage; clap has the same number.
    Usage = 2,
    /// Nobody answers at the address.
    Unreachable = 3,
    /// Measured, but the verdict is that the figures are invalid.
    Invalid = 4,
    /// The asked rate or a threshold was not met.
    NotMet = 5,
    /// A report could not be written.
    ReportLost = 6,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

/// One line for the user, and the exit code that goes with it.
#[derive(Debug)]
pub(crate) struct Failure {
    /// What the process ends with.
    pub(crate) code: Exit,
    /// The cause and, where there is one, the cure.
    text: String,
}

impl Failure {
    pub(crate) fn new(code: Exit, text: impl Into<String>) -> Failure {
        Failure { code, text: text.into() }
    }

    /// The user asked for what cannot be.
    pub(crate) fn usage(text: impl Into<String>) -> Failure {
        Failure::new(Exit::Usage, text)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Failure {}
