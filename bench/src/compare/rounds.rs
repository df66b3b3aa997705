//! The order of measurements, and one measurement.
//!
//! In turn, one server at a time has the core: that gives requests per second and latency as they are. Side by side, all of
//! them share the core at the same time, each under its own load: the machine's moods then hit all alike, and the ratio of
//! their CPU per request scatters by 1–2 % where it scatters by 7 % in turn (docs/measuring.md). So the ratio of CPU comes
//! from the second way, everything else from the first.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::generator::{Generator, faults};
use super::server::Server;
use super::threshold::Metric;
use crate::exit::Failure;
use crate::report::schema::Report;

/// A server that has seen its connections off is quiet, and its CPU time up to date, after this.
const SETTLE_TIME: Duration = Duration::from_millis(30);

/// One server under one load.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Sample {
    pub(crate) requests: u64,
    pub(crate) rate: f64,
    /// CPU time of the server's processes per request.
    pub(crate) cpu_us: f64,
    /// Share of one core that they took.
    pub(crate) busy: f64,
    pub(crate) p50_us: Option<f64>,
    pub(crate) p99_us: Option<f64>,
    pub(crate) faults: Vec<String>,
}

impl Sample {
    /// The value of a metric; 0 where it is not known.
    pub(crate) fn value(&self, metric: Metric) -> f64 {
        match metric {
            Metric::Cpu => self.cpu_us,
            Metric::Rate => self.rate,
            Metric::P50 => self.p50_us.unwrap_or(0.0),
            Metric::P99 => self.p99_us.unwrap_or(0.0),
        }
    }
}

/// All servers once, in the order in which they were given.
pub(crate) type Round = Vec<Sample>;

/// What was measured.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Measured {
    pub(crate) in_turn: Vec<Round>,
    pub(crate) side_by_side: Vec<Round>,
    /// It was ended before all rounds were done.
    pub(crate) interrupted: bool,
}

/// Which ways to measure in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Way {
    /// One server at a time has the core: for requests/s and latency.
    InTurn,
    /// All at the same time, each under its own load: the steadier ratio of CPU per request.
    SideBySide,
    /// Each round both ways.
    Both,
}

/// How much of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) way: Way,
    pub(crate) rounds: usize,
    pub(crate) time: Duration,
    pub(crate) warmup: Duration,
}

/// Measures until all rounds are done or `stop` is set; whole rounds only.
///
/// # Errors
///
/// When a server ends, or a load does not report.
pub(crate) fn measure(
    servers: &mut [Server],
    generator: &Generator,
    plan: Plan,
    stop: &AtomicBool,
) -> Result<Measured, Failure> {
    let mut measured = Measured::default();
    for server in servers.iter() {
        if !plan.warmup.is_zero() && generator.run(server.address, plan.warmup, stop)?.is_none() {
            measured.interrupted = true;
            return Ok(measured);
        }
    }
    for number in 0..plan.rounds {
        if plan.way != Way::SideBySide {
            let Some(round) = in_turn(servers, generator, plan.time, number, stop)? else { break };
            progress("in turn", number, plan.rounds, servers, &round, Metric::Rate);
            measured.in_turn.push(round);
        }
        if plan.way != Way::InTurn {
            let Some(round) = side_by_side(servers, generator, plan.time, number, stop)? else { break };
            progress("side by side", number, plan.rounds, servers, &round, Metric::Cpu);
            measured.side_by_side.push(round);
        }
        if let Some(server) =
            servers.iter_mut().find_map(|server| (!server.is_alive()).then_some(&server.name))
        {
            eprintln!("{server} has ended; what was measured until then is kept");
            measured.interrupted = true;
            return Ok(measured);
        }
    }
    measured.interrupted = stop.load(Ordering::Relaxed);
    Ok(measured)
}

/// The order turns around every round, so that none always comes after the same.
fn order(count: usize, number: usize) -> Vec<usize> {
    if number.is_multiple_of(2) { (0..count).collect() } else { (0..count).rev().collect() }
}

fn in_turn(
    servers: &[Server],
    generator: &Generator,
    time: Duration,
    number: usize,
    stop: &AtomicBool,
) -> Result<Option<Round>, Failure> {
    let mut round = vec![Sample::default(); servers.len()];
    for index in order(servers.len(), number) {
        let Some(sample) = one(&servers[index], generator, time, stop)? else { return Ok(None) };
        round[index] = sample;
    }
    Ok(Some(round))
}

fn side_by_side(
    servers: &[Server],
    generator: &Generator,
    time: Duration,
    number: usize,
    stop: &AtomicBool,
) -> Result<Option<Round>, Failure> {
    thread::scope(|scope| {
        let running: Vec<_> = order(servers.len(), number)
            .into_iter()
            .map(|index| (index, scope.spawn(move || one(&servers[index], generator, time, stop))))
            .collect();
        let mut round = vec![Sample::default(); servers.len()];
        let mut whole = true;
        for (index, thread) in running {
            match thread.join().expect("a measurement does not panic")? {
                Some(sample) => round[index] = sample,
                None => whole = false,
            }
        }
        Ok(whole.then_some(round))
    })
}

fn one(
    server: &Server,
    generator: &Generator,
    time: Duration,
    stop: &AtomicBool,
) -> Result<Option<Sample>, Failure> {
    let before = server.tree();
    let start = Instant::now();
    let Some(report) = generator.run(server.address, time, stop)? else { return Ok(None) };
    let wall = start.elapsed().as_secs_f64();
    thread::sleep(SETTLE_TIME);
    let (cpu, ended) = server.tree().seconds_since(&before);
    Ok(Some(sample(&report, cpu, wall, ended)))
}

fn sample(report: &Report, cpu_s: f64, wall_s: f64, ended: bool) -> Sample {
    let mut faults = faults(report);
    if ended {
        faults.push("a thread of the server ended, its CPU time is not in the sum".to_owned());
    }
    Sample {
        requests: report.requests,
        rate: report.rate,
        cpu_us: cpu_s / report.requests.max(1) as f64 * 1e6,
        busy: cpu_s / if report.duration_s > 0.0 { report.duration_s } else { wall_s },
        p50_us: report.percentiles.p50_us,
        p99_us: report.percentiles.p99_us,
        faults,
    }
}

fn progress(way: &str, number: usize, rounds: usize, servers: &[Server], round: &Round, metric: Metric) {
    let values: Vec<String> = servers
        .iter()
        .zip(round)
        .map(|(server, sample)| match metric {
            Metric::Cpu => format!("{} {:.3} µs", server.name, sample.cpu_us),
            _ => format!("{} {:.0}/s", server.name, sample.rate),
        })
        .collect();
    eprintln!("{way:>12} {}/{rounds}  {}", number + 1, values.join("  "));
    for (server, sample) in servers.iter().zip(round) {
        for fault in &sample.faults {
            eprintln!("{:>12} {}: {fault}", "FAULT", server.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::schema::Percentiles;

    #[test]
    fn the_order_turns_around() {
        assert_eq!(order(3, 0), [0, 1, 2]);
        assert_eq!(order(3, 1), [2, 1, 0]);
    }

    #[test]
    fn cpu_is_per_request() {
        let percentiles = Percentiles { p50_us: Some(5.0), ..Percentiles::default() };
        let report =
            Report { requests: 1000, rate: 500.0, duration_s: 2.0, percentiles, ..Report::default() };
        let sample = sample(&report, 0.004, 3.0, true);
        assert_eq!((sample.cpu_us, sample.busy, sample.value(Metric::P50)), (4.0, 0.002, 5.0));
        assert_eq!(sample.faults.len(), 1);
        assert_eq!(sample.value(Metric::P99), 0.0);
    }
}
