//! The load on a server: our own `load`, as a child on its own cores, whose JSON is read.
//!
//! A child rather than a call, so that its loops, its memory and its faults are its own, and so that two can run at once.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::server::{end, pinned};
use crate::exit::{Exit, Failure};
use crate::report::schema::{Finding, Report};

/// How long after its planned end a load may take to report, before it is ended.
const LATE_TIME_MAX: Duration = Duration::from_secs(15);
const POLL_TIME: Duration = Duration::from_millis(5);

/// How to load a server.
#[derive(Clone, Debug)]
pub(crate) struct Generator {
    /// The program and its first arguments.
    pub(crate) command: Vec<String>,
    pub(crate) cores: Vec<usize>,
    pub(crate) path: String,
    pub(crate) connections: usize,
    pub(crate) pipeline: usize,
    /// Requests per second, in open loop.
    pub(crate) rate: Option<f64>,
    /// Further arguments of `load`.
    pub(crate) more: Vec<String>,
}

impl Generator {
    /// Loads the server at `address` for so long. `None` if `stop` was set meanwhile.
    ///
    /// # Errors
    ///
    /// When the generator does not report.
    pub(crate) fn run(
        &self,
        address: std::net::SocketAddr,
        time: Duration,
        stop: &AtomicBool,
    ) -> Result<Option<Report>, Failure> {
        let failed = |why: String| Failure::new(Exit::Failed, format!("the load on {address}: {why}"));
        let url = format!("http://{address}{}", self.path);
        let mut command = Command::new(&self.command[0]);
        command.args(&self.command[1..]).arg(url).args(["-t", "1", "--warmup", "0s", "--json", "-"]);
        command.arg("-c").arg(self.connections.to_string());
        command.arg("-d").arg(format!("{}ms", time.as_millis()));
        if self.pipeline > 1 {
            command.arg("--pipeline").arg(self.pipeline.to_string());
        }
        if let Some(rate) = self.rate {
            command.arg("-R").arg(rate.to_string());
        }
        command.args(&self.more);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child =
            Running(pinned(&self.cores, || command.spawn()).map_err(|error| failed(error.to_string()))?);
        let stdout = drain(child.0.stdout.take());
        let stderr = drain(child.0.stderr.take());
        let deadline = Instant::now() + time + LATE_TIME_MAX;
        while child.0.try_wait().map_err(|error| failed(error.to_string()))?.is_none() {
            if stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            if Instant::now() > deadline {
                return Err(failed(format!("no report {} s after its end", LATE_TIME_MAX.as_secs())));
            }
            thread::sleep(POLL_TIME);
        }
        let text = stdout.join().unwrap_or_default();
        match serde_json::from_str(&text) {
            Ok(report) => Ok(Some(report)),
            Err(error) => {
                let said = stderr.join().unwrap_or_default();
                Err(failed(said.lines().last().map_or_else(|| error.to_string(), str::to_owned)))
            }
        }
    }
}

/// What makes a report unfit for a comparison, in words.
pub(crate) fn faults(report: &Report) -> Vec<String> {
    let mut faults = Vec::new();
    if report.errors > 0 {
        let counts = report.error_counts;
        let kinds = [
            ("connect", counts.connect),
            ("reset", counts.reset),
            ("cut", counts.cut),
            ("malformed", counts.malformed),
            ("timeout", counts.timeout),
            ("status", counts.status),
        ];
        let kinds: Vec<String> = kinds
            .iter()
            .filter(|(_, count)| *count > 0)
            .map(|(kind, count)| format!("{kind} {count}"))
            .collect();
        faults.push(format!("{} errors ({})", report.errors, kinds.join(", ")));
    }
    if report.requests == 0 {
        faults.push("no request was answered".to_owned());
    } else if report.verdict.finding == Finding::Invalid && report.errors == 0 {
        faults.push(format!("invalid: {}", report.verdict.reasons.join("; ")));
    }
    faults
}

/// Ended when it is let go of, however that happens.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        end(&mut self.0, Duration::from_millis(500));
    }
}

/// Reads a pipe to its end on a thread of its own, so that the child never waits for us.
fn drain(pipe: Option<impl Read + Send + 'static>) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut text = String::new();
        if let Some(mut pipe) = pipe {
            // What could be read until then is kept.
            let _ = pipe.read_to_string(&mut text);
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::schema::{Errors, Verdict};

    #[test]
    fn faults_are_named() {
        let check = |report: Report, expected: &[&str]| assert_eq!(faults(&report), expected);
        check(Report { requests: 5, ..Report::default() }, &[]);
        check(Report::default(), &["no request was answered"]);
        let error_counts = Errors { reset: 1, status: 2, ..Errors::default() };
        check(
            Report { requests: 5, errors: 3, error_counts, ..Report::default() },
            &["3 errors (reset 1, status 2)"],
        );
        let verdict = Verdict { finding: Finding::Invalid, reasons: vec!["odd".into()], notes: vec![] };
        check(Report { requests: 5, verdict, ..Report::default() }, &["invalid: odd"]);
    }

    #[test]
    fn a_generator_that_says_nothing_is_quoted() {
        let generator = Generator {
            command: ["sh", "-c", "echo out of luck >&2", "sh"].map(str::to_owned).to_vec(),
            cores: vec![0],
            path: "/".into(),
            connections: 1,
            pipeline: 1,
            rate: None,
            more: vec![],
        };
        let address = "127.0.0.1:1".parse().unwrap();
        let run = |stop| generator.run(address, Duration::from_millis(1), &AtomicBool::new(stop));
        assert!(run(false).unwrap_err().to_string().contains("out of luck"));
    }
}
