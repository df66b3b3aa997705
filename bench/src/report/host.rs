//! Where a run took place: what a reader needs in order to trust its figures, or not.

use std::env;
use std::fs;
use std::process::{Command, Stdio};

use super::schema::Run;

/// Describes this machine and this process.
pub(crate) fn describe(started_unix_s: f64, started_monotonic_s: f64) -> Run {
    Run {
        command: env::args().collect(),
        tool_version: env!("CARGO_PKG_VERSION").into(),
        started_unix_s,
        started_monotonic_s,
        kernel: first_line("/proc/sys/kernel/osrelease"),
        cpu: cpu_model(),
        cpus: std::thread::available_parallelism().map_or(0, usize::from),
        git_commit: git_commit(),
    }
}

fn first_line(path: &str) -> String {
    // Only told to people: where it cannot be read, it is left empty.
    fs::read_to_string(path).unwrap_or_default().lines().next().unwrap_or_default().to_owned()
}

fn cpu_model() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text.lines().find(|line| line.starts_with("model name"));
    model.and_then(|line| line.split_once(':')).map_or_else(String::new, |(_, model)| model.trim().to_owned())
}

fn git_commit() -> Option<String> {
    let output = Command::new("git")
        .args(["rev-parse", "HEAD"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let commit = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !commit.is_empty()).then_some(commit)
}
