//! `load`: sends requests to a server and measures.
//!
//! Pure parts first: [`plan`] (what to send when), [`wire`] (the bytes of requests), [`connection`] (what is in flight),
//! [`reader`] (from bytes to answers), [`latency`], [`verdict`]. Around them [`engine`] and [`link`], the loop of one core and
//! its connections. This file starts the loops, listens to them ([`messages`]) and writes the reports.

mod cli;
mod config;
mod connection;
mod engine;
mod handshakes;
pub(crate) mod latency;
mod link;
mod messages;
mod plan;
mod reader;
mod samples;
pub(crate) mod stalls;
mod stats;
mod stream;
mod summary;
mod target;
pub(crate) mod usage;
mod verdict;
mod wire;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use annulet::signal::Termination;
use annulet::{Builder, LoopPolicy};

pub(crate) use cli::{Options, parse_rate, parse_time};
use config::Config;
use messages::{Control, Message};
use summary::Gathered;

use crate::exit::{Exit, Failure};
use crate::report::live::Live;
use crate::report::outputs::Outputs;
use crate::report::schema::Report;
use crate::report::screen;
use crate::target::monotonic_ns;

/// From the word to the first request: every loop has woken up by then.
const HEAD_START: Duration = Duration::from_millis(5);
/// With `--spin`: as long as anybody waits.
const SPIN: Duration = Duration::from_secs(1);

/// Runs the load and writes its reports.
///
/// # Errors
///
/// One line for the user.
pub(crate) fn main(options: &Options) -> Result<Exit, Failure> {
    // First of all: threads inherit that the signals wait for us.
    let termination = Termination::catch().map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
    let config = Config::new(options)?;
    for note in &config.notes {
        eprintln!("annulet-bench: {note}");
    }
    let mut outputs = Outputs::create(options)?;
    let live = match options.tui {
        true => Live::on_screen(options.urls.join(" "), options.duration.as_secs_f64()),
        false => Live::new(options.live),
    };
    let interrupt = Arc::new(AtomicBool::new(false));
    stop_on_signals(termination, Arc::clone(&interrupt));
    let (report, exit) = run(options, config, live, &mut outputs, &interrupt)?;
    outputs.write(&report, options)?;
    Ok(exit)
}

/// Runs the load for another room: the report, and no files. Ends early when `interrupt` is set.
///
/// # Errors
///
/// One line for the user.
pub(crate) fn measure(options: &Options, interrupt: &Arc<AtomicBool>) -> Result<Report, Failure> {
    run(options, Config::new(options)?, Live::off(), &mut Outputs::default(), interrupt)
        .map(|(report, _)| report)
}

/// Runs the load, and nothing else.
fn run(
    options: &Options,
    config: Config,
    live: Live,
    outputs: &mut Outputs,
    interrupt: &Arc<AtomicBool>,
) -> Result<(Report, Exit), Failure> {
    let control = Arc::new(Control {
        start_ns: AtomicU64::new(0),
        stop: AtomicBool::new(false),
        interrupt: Arc::clone(interrupt),
        origin: Instant::now(),
    });
    let origin_ns = monotonic_ns();
    let config = Arc::new(config);
    let (sender, receiver) = mpsc::channel();
    let loops = {
        let (config, control) = (Arc::clone(&config), Arc::clone(&control));
        let spin = if config.spin { SPIN } else { Duration::ZERO };
        // `start` takes what may be called on any thread; the channel's sending end may be cloned there.
        let sender = sender.clone();
        Builder::new()
            .cores(config.cores.clone())
            .policy(LoopPolicy { spin, ..LoopPolicy::default() })
            .start(move |core| engine::run(core, Arc::clone(&config), Arc::clone(&control), sender.clone()))
            .map_err(|error| Failure::new(Exit::Failed, error.to_string()))?
    };
    drop(sender);
    let started = wait_until_connected(&receiver, &config, &control);
    let gathered = match started {
        Ok(()) => gather(&receiver, &config, &control, live, outputs),
        Err(failure) => {
            control.stop.store(true, Ordering::Relaxed);
            Err(failure)
        }
    };
    // A loop that panicked has said so; what the others measured is not the whole.
    let joined = loops.join().map_err(|error| Failure::new(Exit::Failed, error.to_string()));
    let gathered = gathered?;
    joined?;
    outputs.samples(|out| gathered.write_samples(out, origin_ns));
    Ok(gathered.into_report(options, &config))
}

/// The first signal ends the load early and reports; the second ends the process.
pub(crate) fn stop_on_signals(termination: Termination, interrupt: Arc<AtomicBool>) {
    thread::spawn(move || {
        if termination.wait().is_ok() {
            interrupt.store(true, Ordering::Relaxed);
        }
        if termination.wait().is_ok() {
            screen::restore();
            // As the shell counts SIGINT.
            std::process::exit(130);
        }
    });
}

/// Waits until every loop has tried its connections, then says when to start.
fn wait_until_connected(
    receiver: &Receiver<Message>,
    config: &Config,
    control: &Control,
) -> Result<(), Failure> {
    let mut connected_in_all = 0;
    let mut failure_of_all = None;
    for _ in &config.cores {
        match receiver.recv() {
            Ok(Message::Ready { connected, failure }) => {
                connected_in_all += connected;
                failure_of_all = failure_of_all.or(failure);
            }
            Ok(Message::Interval(_) | Message::Done(_)) => unreachable!("the load has not started"),
            Err(mpsc::RecvError) => {
                return Err(Failure::new(Exit::Failed, "a loop ended before the load began"));
            }
        }
    }
    if connected_in_all == 0 && config.connections_per_second.is_none() {
        let why = failure_of_all.unwrap_or_else(|| "interrupted before a connection was made".to_owned());
        // What a certificate is refused for says enough.
        let cure = if why.starts_with("TLS: ") { "" } else { "; is the server running?" };
        return Err(Failure::new(Exit::Unreachable, format!("{why}{cure}")));
    }
    let start = control.origin.elapsed() + HEAD_START;
    control.start_ns.store(start.as_nanos() as u64, Ordering::Release);
    Ok(())
}

/// Listens to the loops until all have ended.
fn gather(
    receiver: &Receiver<Message>,
    config: &Config,
    control: &Control,
    mut live: Live,
    outputs: &mut Outputs,
) -> Result<Gathered, Failure> {
    let from = Duration::from_nanos(control.start_ns.load(Ordering::Relaxed)) + config.warmup;
    // The measured time is told by two other clocks, too. How long until it begins is known by ours.
    let until_then = from.saturating_sub(control.origin.elapsed()).as_secs_f64();
    let started_monotonic_s = monotonic_ns() as f64 / 1e9 + until_then;
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
    let started_unix_s = unix + until_then;
    let mut gathered = Gathered::new(config, started_unix_s, started_monotonic_s);
    outputs.begin(started_unix_s)?;
    // Loops end by themselves; this is for the case that one does not.
    let patience = Duration::from_secs(5);
    let mut latest =
        Instant::now() + HEAD_START + config.warmup + config.duration + config.timeout + patience;
    while !gathered.is_complete() {
        match receiver.recv_timeout(latest.saturating_duration_since(Instant::now())) {
            Ok(Message::Interval(part)) => {
                for interval in gathered.take_part(part) {
                    live.show(&interval);
                    outputs.interval(&interval)?;
                }
            }
            Ok(Message::Done(outcome)) => gathered.take_outcome(*outcome),
            Ok(Message::Ready { .. }) => unreachable!("every loop says so once"),
            Err(RecvTimeoutError::Timeout) if !control.stop.swap(true, Ordering::Relaxed) => {
                latest = Instant::now() + patience;
            }
            Err(RecvTimeoutError::Timeout) => {
                return Err(Failure::new(Exit::Failed, "a loop of the generator does not end"));
            }
            Err(RecvTimeoutError::Disconnected) => {
                return Err(Failure::new(Exit::Failed, "a loop of the generator ended without a result"));
            }
        }
    }
    live.end();
    Ok(gathered)
}
