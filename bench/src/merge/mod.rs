//! `merge`: the runs of many machines as one.

mod sum;

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::compare::saved;
use crate::exit::{Exit, Failure};
use crate::report::schema::{Finding, Report};
use crate::report::{html, table};

/// The arguments of `merge`.
#[derive(Clone, Debug, Args)]
pub(crate) struct Options {
    /// Reports that `load --json` wrote.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,

    /// Write the sum as JSON; - for stdout, instead of the table.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Write the sum as a page that needs nothing else.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// Merges.
///
/// # Errors
///
/// One line for the user.
pub(crate) fn main(options: &Options) -> Result<Exit, Failure> {
    let reports: Vec<Report> =
        options.files.iter().map(|path| saved::read(path)).collect::<Result<_, _>>()?;
    let sum = sum::sum(&reports).map_err(|unreadable| {
        let file = options.files[unreadable.report].display();
        Failure::usage(format!("{file}: a histogram cannot be read: {}", unreadable.why))
    })?;
    let json = || serde_json::to_string_pretty(&sum).expect("numbers and strings only") + "\n";
    match options.json.as_deref() {
        Some(path) if path == Path::new("-") => print!("{}", json()),
        path => {
            print!("{}", table::render(&sum, true));
            path.map_or(Ok(()), |path| write(path, &json()))?;
        }
    }
    if let Some(path) = &options.html {
        write(path, &html::run::html(&sum))?;
    }
    Ok(if sum.verdict.finding == Finding::Invalid { Exit::Invalid } else { Exit::Good })
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    fs::write(path, text).map_err(|error| {
        Failure::new(Exit::ReportLost, format!("{} is not written: {error}", path.display()))
    })
}
