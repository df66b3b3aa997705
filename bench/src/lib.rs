//! `annulet-bench`: a load generator and latency instrument.
//!
//! One binary with subcommands. Each has a room of its own with its arguments beside it (`load`, `find`, …); what all of them
//! print and keep is in `report`. Nothing is measured here. It is a library only so that a test can run it within its own
//! process and count what it allocates; the interface is the command line.
#![forbid(unsafe_code)]

mod compare;
mod cores;
mod doctor;
mod exit;
mod find;
mod load;
mod merge;
mod report;
mod target;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Load and latency instrument for HTTP/1.1 servers.
#[derive(Debug, Parser)]
#[command(name = "annulet-bench", version, about, after_help = exit::HELP)]
struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
// Made once per process.
#[allow(clippy::large_enum_variant)]
enum Command {
    /// Load a server and report latency, rate, errors and who was the bottleneck.
    Load(load::Options),
    /// Search for the highest rate at which a server keeps bounds on its latency.
    Find(find::Options),
    /// Compare servers in interleaved rounds: CPU per request, rate, latency, with intervals.
    Compare(compare::Options),
    /// Say what of this machine is in the way, what it costs and what mends it.
    Doctor(doctor::Options),
    /// Add the reports of many machines up: histograms are added, percentiles never averaged.
    Merge(merge::Options),
    /// A server of known behaviour, to measure this instrument against.
    #[command(hide = true)]
    Target(target::Options),
}

/// Does what a command line asks for, the program's name first. Wrong usage ends the process.
pub fn main(line: impl IntoIterator<Item = OsString>) -> ExitCode {
    let done = match Options::parse_from(line).command {
        Command::Load(options) => load::main(&options),
        Command::Find(options) => find::main(&options),
        Command::Compare(options) => compare::main(&options),
        Command::Doctor(options) => doctor::main(&options),
        Command::Merge(options) => merge::main(&options),
        Command::Target(options) => target::main(&options),
    };
    match done {
        Ok(code) => code.into(),
        Err(failure) => {
            eprintln!("annulet-bench: {failure}");
            failure.code.into()
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_commands_are_well_formed() {
        Options::command().debug_assert();
    }
}
