//! `find`: the highest rate at which a server keeps its bounds.
//!
//! Each step is a `load` in open loop at one rate, so that latency counts from the planned instant and a server that falls behind
//! cannot hide it. [`search`] says which rate is next, [`slo`] whether a run kept the bounds, [`document`] is what is left.

mod document;
mod search;
mod slo;

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use annulet::signal::Termination;
use clap::Args;

use crate::exit::{Exit, Failure};
use crate::load::{self, parse_rate, parse_time};
use crate::report::host;
use crate::target::monotonic_ns;
use document::{Document, Step};
use search::{End, Limits, Search};
use slo::{Bound, judge};

/// Samples beyond the least that a percentile needs, so that one answer more or less does not decide.
const SAMPLES_MARGIN: f64 = 1.2;

/// Search for the highest rate that keeps the bounds.
#[derive(Clone, Debug, Args)]
#[command(after_help = EXAMPLES)]
#[group(skip)]
#[command(mut_arg("duration", |arg| arg.default_value("2s").help("How long to measure each rate")))]
#[command(mut_arg("json", |arg| arg.help("Write the search as JSON; - for stdout, instead of the table")))]
pub(crate) struct Options {
    /// What is to be kept, such as p99<5ms; several with commas, or repeated
    #[arg(long, required = true, value_name = "BOUND", value_delimiter = ',')]
    slo: Vec<Bound>,
    /// The first rate; the next ones double it
    #[arg(long, value_name = "N", default_value = "1k", value_parser = parse_rate)]
    from: f64,
    /// No higher rate
    #[arg(long, value_name = "N", default_value = "10M", value_parser = parse_rate)]
    to: f64,
    /// End when the rates on both sides of the knee differ by no more than this, in percent
    #[arg(long, value_name = "PERCENT", default_value_t = 5.0, value_parser = parse_precision)]
    precision: f64,
    /// End after so many runs
    #[arg(long, value_name = "N", default_value_t = 40)]
    max_steps: usize,
    /// Begin no run that would end later than this
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = parse_time)]
    max_time: Duration,
    #[command(flatten)]
    load: load::Options,
}

const EXAMPLES: &str = "Examples:
  annulet-bench find --slo 'p99<5ms' -c 64 http://127.0.0.1:8000/
  annulet-bench find --slo 'p99<5ms,p99.9<20ms' -d 10s --from 20k --precision 2 http://127.0.0.1:8000/

A rate counts as missed when two runs in a row missed it. Ctrl-C ends the search; what is known is shown.

Exit codes: 0 a rate was found, 4 the generator was at its limit before the server was, 5 no rate keeps the bounds.";

fn parse_precision(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(percent) if (0.1..=100.0).contains(&percent) => Ok(percent),
        _ => Err(format!("{text:?} is no precision; write a number of percent from 0.1 to 100")),
    }
}

/// Searches, and writes what was found.
///
/// # Errors
///
/// One line for the user.
pub(crate) fn main(options: &Options) -> Result<Exit, Failure> {
    // First of all: threads inherit that the signals wait for us.
    let termination = Termination::catch().map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
    let limits = limits(options)?;
    let json = create(options.load.json.as_deref())?;
    let stop = Arc::new(AtomicBool::new(false));
    load::stop_on_signals(termination, Arc::clone(&stop));
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
    let run = host::describe(unix, monotonic_ns() as f64 / 1e9);
    let document = Document::new(&options.slo, options.load.urls.clone(), options.load.connections, run);
    let document = search(options, limits, document, &stop)?;
    write(&document, options, json)?;
    Ok(match (document.ended, document.rate, document.bound_by) {
        ("interrupted", ..) => Exit::Failed,
        (_, None, Some("client")) | ("found", _, Some("client")) => Exit::Invalid,
        (_, None, _) => Exit::NotMet,
        _ => Exit::Good,
    })
}

/// What may be asked for, and where the search goes.
fn limits(options: &Options) -> Result<Limits, Failure> {
    let load = &options.load;
    let no_use = [
        ("--rate", load.rate.is_some()),
        ("--requests", load.requests.is_some()),
        ("--correct", load.correct),
        ("--percentiles", !load.percentiles.is_empty()),
        ("--hgrm", load.hgrm.is_some()),
        ("--hlog", load.hlog.is_some()),
        ("--tui", load.tui),
        ("--html", load.html.is_some()),
        ("--samples", load.samples.is_some()),
    ];
    if let Some((flag, _)) = no_use.iter().find(|(_, is_there)| *is_there) {
        return Err(Failure::usage(format!(
            "{flag} is for `load`: find runs many loads, each at its own rate"
        )));
    }
    if load.duration.is_zero() {
        return Err(Failure::usage("--duration must be above zero"));
    }
    let samples = options.slo.iter().map(Bound::samples_needed).fold(1.0, f64::max);
    let lowest = (samples * SAMPLES_MARGIN / load.duration.as_secs_f64()).ceil().max(1.0);
    if lowest > options.to {
        return Err(Failure::usage(format!(
            "--to {}: {} needs {:.0} requests in a run; measure longer (-d)",
            options.to,
            options.slo.iter().map(Bound::name).collect::<Vec<_>>().join(", "),
            samples * SAMPLES_MARGIN
        )));
    }
    Ok(Limits {
        from: options.from,
        lowest,
        highest: options.to,
        precision: options.precision / 100.0,
        steps: options.max_steps,
    })
}

fn search(
    options: &Options,
    limits: Limits,
    mut document: Document,
    stop: &Arc<AtomicBool>,
) -> Result<Document, Failure> {
    let begun = Instant::now();
    let step_time = options.load.warmup + options.load.duration;
    let mut search = Search::new(limits);
    document.ended = loop {
        let rate = match search.next() {
            Ok(rate) => rate,
            Err(End::Found) => break "found",
            Err(End::AlwaysMet) => break "always-met",
            Err(End::NeverMet) => break "never-met",
            Err(End::OutOfSteps) => break "out-of-steps",
        };
        if begun.elapsed() + step_time > options.max_time {
            break "out-of-time";
        }
        let percentiles = options.slo.iter().map(|bound| bound.percentile).filter(|p| *p < 100.0).collect();
        let load = load::Options { rate: Some(rate), percentiles, ..options.load.clone() };
        let report = load::measure(&load, stop);
        if stop.load(Ordering::Relaxed) {
            break "interrupted";
        }
        let report = report?;
        let judged = judge(&report, rate, &options.slo);
        let step = Step::new(rate, &report, &judged, &options.slo);
        eprintln!("{}", step.line());
        search.take(rate, &judged);
        document.steps.push(step);
    };
    document.rate = search.met();
    document.rate_missed = search.missed().map(|(rate, _)| rate);
    document.bound_by = search.missed().map(|(_, is_client)| if is_client { "client" } else { "server" });
    Ok(document)
}

fn lost(path: &Path, error: &io::Error) -> Failure {
    Failure::new(Exit::ReportLost, format!("cannot write the report to {}: {error}", path.display()))
}

/// The file is made before the search, so that a wrong path costs no measurement.
fn create(path: Option<&Path>) -> Result<Option<File>, Failure> {
    match path.filter(|path| path.as_os_str() != "-") {
        Some(path) => File::create(path).map(Some).map_err(|error| lost(path, &error)),
        None => Ok(None),
    }
}

fn write(document: &Document, options: &Options, file: Option<File>) -> Result<(), Failure> {
    let to_json = |out: &mut dyn Write| -> io::Result<()> {
        serde_json::to_writer_pretty(&mut *out, document)?;
        writeln!(out)
    };
    let mut stdout = io::stdout().lock();
    let said = match &options.load.json {
        Some(path) if path.as_os_str() == "-" => to_json(&mut stdout),
        _ => stdout.write_all(document.text(&options.slo).as_bytes()),
    };
    let said = said.and_then(|()| stdout.flush()).map_err(|error| lost(Path::new("standard output"), &error));
    let path = options.load.json.as_deref().unwrap_or(Path::new("-"));
    let filed = file.map_or(Ok(()), |mut file| to_json(&mut file).map_err(|error| lost(path, &error)));
    said.and(filed)
}
