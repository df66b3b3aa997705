//! `doctor`: what of this machine is in the way of a fast server and of a measurement that can be trusted.
//!
//! It reads and tries; it changes nothing. Each finding says what it costs and which line mends it.

mod cpu;
mod finding;
mod limits;
mod machine;
mod network;
mod ring;

use std::fmt::Write;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use self::finding::{Finding, Level};
use self::machine::Machine;
use crate::exit::{Exit, Failure};

/// What stands in the JSON's `schema`.
const SCHEMA: &str = "annulet-bench.doctor";
/// What stands in its `version`.
const VERSION: u32 = 1;

/// The arguments of `doctor`.
#[derive(Clone, Debug, Args)]
#[command(after_help = CODES)]
pub(crate) struct Options {
    /// Print the findings as JSON.
    #[arg(long)]
    json: bool,

    /// Print only what costs something.
    #[arg(short, long)]
    quiet: bool,

    /// Read /proc and /sys below this directory. The ring is tried on this machine all the same.
    #[arg(long, value_name = "DIRECTORY", default_value = "/")]
    root: PathBuf,
}

const CODES: &str = "Exit codes of doctor:
  0  nothing found that costs anything
  1  io_uring cannot be used
  5  something costs speed, connections or the truth of a measurement";

/// The diagnosis.
#[derive(Debug, Serialize)]
struct Diagnosis {
    schema: &'static str,
    version: u32,
    kernel: String,
    findings: Vec<Finding>,
}

/// Looks and tells.
///
/// # Errors
///
/// None so far; the shape is that of all commands.
pub(crate) fn main(options: &Options) -> Result<Exit, Failure> {
    let machine = Machine::new(&options.root);
    let mut diagnosis = diagnose(&machine, &ring::attempt(), crate::cores::own().len());
    let exit = exit(&diagnosis.findings);
    if options.quiet {
        diagnosis.findings.retain(|finding| finding.level >= Level::Costs);
    }
    if options.json {
        println!("{}", serde_json::to_string_pretty(&diagnosis).expect("strings and numbers only"));
    } else {
        print!("{}", text(&diagnosis));
    }
    Ok(exit)
}

fn diagnose(machine: &Machine, attempt: &ring::Attempt, cores: usize) -> Diagnosis {
    let mut findings = ring::findings(machine, attempt);
    findings.extend(limits::findings(machine, cores));
    findings.extend(network::findings(machine));
    findings.extend(cpu::findings(machine, cores));
    let kernel = machine.read("/proc/sys/kernel/osrelease").unwrap_or_else(|| "unknown".to_owned());
    Diagnosis { schema: SCHEMA, version: VERSION, kernel, findings }
}

fn exit(findings: &[Finding]) -> Exit {
    match findings.iter().map(|finding| finding.level).max() {
        Some(Level::Broken) => Exit::Failed,
        Some(Level::Costs) => Exit::NotMet,
        _ => Exit::Good,
    }
}

fn text(diagnosis: &Diagnosis) -> String {
    let mut text = format!("Linux {}\n", diagnosis.kernel);
    for finding in &diagnosis.findings {
        let _ = writeln!(text, "{:>6}  {:<23} {}", finding.level.word(), finding.name, finding.found);
        if !finding.costs.is_empty() {
            let _ = writeln!(text, "{:>31} costs: {}", "", finding.costs);
        }
        if let Some(cure) = &finding.cure {
            let _ = writeln!(text, "{:>31} cure:  {cure}", "");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::machine::tests::Fake;
    use super::*;

    fn made() -> ring::Attempt {
        ring::Attempt::Made {
            features_missing: vec![],
            opcodes_missing: vec![],
            environment: ring::Environment::default(),
        }
    }

    #[test]
    fn a_machine_that_is_well() {
        let fake = Fake::new(&[
            ("/proc/sys/kernel/osrelease", "6.18.0"),
            (
                "/proc/self/limits",
                "Max open files 65536 65536 files\nMax locked memory unlimited unlimited bytes",
            ),
            ("/proc/sys/net/core/somaxconn", "4096"),
            ("/proc/sys/net/ipv4/tcp_max_syn_backlog", "2048"),
            ("/proc/sys/net/ipv4/ip_local_port_range", "1024 65535"),
            ("/proc/sys/net/ipv4/tcp_congestion_control", "cubic"),
            ("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "performance"),
            ("/sys/devices/system/cpu/isolated", "2-3"),
            ("/sys/devices/system/clocksource/clocksource0/current_clocksource", "tsc"),
            ("/sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never"),
        ]);
        let diagnosis = diagnose(&fake.machine(), &made(), 4);
        assert!(
            diagnosis.findings.iter().all(|finding| finding.level == Level::Good),
            "{}",
            text(&diagnosis)
        );
        assert_eq!(exit(&diagnosis.findings), Exit::Good);
        let json = serde_json::to_value(&diagnosis).unwrap();
        assert_eq!((&json["version"], &json["findings"][0]["level"]), (&1.into(), &"good".into()));
    }

    #[test]
    fn exit_codes() {
        let fake = Fake::new(&[("/proc/sys/net/core/somaxconn", "128")]);
        let code = |attempt: &ring::Attempt| exit(&diagnose(&fake.machine(), attempt, 4).findings);
        assert_eq!(code(&made()), Exit::NotMet);
        assert_eq!(code(&ring::Attempt::Refused(1)), Exit::Failed);
    }

    #[test]
    fn what_costs_something_says_what_and_names_a_cure() {
        let fake = Fake::new(&[("/proc/sys/net/core/somaxconn", "128")]);
        for attempt in [made(), ring::Attempt::Refused(38)] {
            for finding in diagnose(&fake.machine(), &attempt, 1).findings {
                if finding.level >= Level::Costs {
                    assert!(!finding.costs.is_empty() && finding.cure.is_some(), "{finding:?}");
                }
            }
        }
    }
}
