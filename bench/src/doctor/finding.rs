//! One line of the diagnosis.

use serde::Serialize;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    /// As it should be.
    Good,
    /// Worth knowing; nothing is lost by it as a rule.
    Note,
    /// It costs speed, connections or the truth of a measurement.
    Costs,
    /// annulet cannot run like this.
    Broken,
}

impl Level {
    /// The word at the start of its line.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Level::Good => "good",
            Level::Note => "note",
            Level::Costs => "COSTS",
            Level::Broken => "BROKEN",
        }
    }
}

/// What was looked at, what was found, what it costs, what mends it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Finding {
    pub(crate) name: &'static str,
    pub(crate) level: Level,
    /// The reading.
    pub(crate) found: String,
    /// What it costs; empty where it costs nothing.
    pub(crate) costs: String,
    /// The line that mends it.
    pub(crate) cure: Option<String>,
}

impl Finding {
    pub(crate) fn good(name: &'static str, found: impl Into<String>) -> Finding {
        Finding { name, level: Level::Good, found: found.into(), costs: String::new(), cure: None }
    }

    pub(crate) fn new(
        level: Level,
        name: &'static str,
        found: impl Into<String>,
        costs: impl Into<String>,
        cure: impl Into<String>,
    ) -> Finding {
        Finding { name, level, found: found.into(), costs: costs.into(), cure: Some(cure.into()) }
    }

    /// What could not be read, and why that may be.
    pub(crate) fn unknown(name: &'static str, why: &str) -> Finding {
        Finding { name, level: Level::Note, found: why.to_owned(), costs: String::new(), cure: None }
    }
}
