//! `compare`: which of two servers is cheaper, and how sure is that?
//!
//! It starts the servers, pins them to one core and the load to another, measures in rounds ([`rounds`] says in which order and
//! why), and relates them with an interval ([`statistics`]). Given two files instead of commands, it relates two saved runs.

mod generator;
mod page;
mod result;
mod rounds;
pub(crate) mod saved;
mod server;
mod statistics;
mod text;
mod threshold;
mod tree;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use clap::Args;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use self::generator::Generator;
use self::result::{Comparison, position};
use self::rounds::{Plan, Way};
use self::server::{Server, Spec};
use self::threshold::Threshold;
use crate::exit::{Exit, Failure};

/// The arguments of `compare`.
#[derive(Clone, Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Options {
    /// Commands that start a server each, or reports that `load --json` wrote.
    ///
    /// {listen} (an address with a port), {port}, {core} and {cores} are filled in. NAME=COMMAND gives it a name (else it is
    /// A, B, …), NAME@ADDRESS=COMMAND says where it listens if the command always listens there.
    #[arg(required = true, num_args = 2.., value_name = "COMMAND|FILE")]
    sources: Vec<String>,

    /// Rounds; every server is measured in each.
    #[arg(long, default_value_t = 10)]
    rounds: usize,

    /// Length of one measurement, in seconds. Short ones in many rounds beat long ones in few.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,

    /// Load before the first round that is not counted, in seconds.
    #[arg(long, default_value_t = 1.0)]
    warmup: f64,

    /// How servers take the core.
    #[arg(long, value_enum, default_value_t = Way::Both)]
    way: Way,

    /// Connections of each load.
    #[arg(short, long, default_value_t = 64)]
    connections: usize,

    /// Requests that a connection sends before it waits for answers.
    #[arg(long, default_value_t = 1)]
    pipeline: usize,

    /// Requests per second, in open loop, for each server. Without it, as many as the server takes.
    #[arg(short = 'R', long)]
    rate: Option<f64>,

    /// What is asked for.
    #[arg(long, default_value = "/")]
    path: String,

    /// A further argument of `load`, such as --load-arg=--method=POST; may be given several times.
    #[arg(long, value_name = "ARGUMENT", allow_hyphen_values = true)]
    load_arg: Vec<String>,

    /// Cores of the servers, such as 0 or 0,2. [the first that this process may use]
    #[arg(long, value_delimiter = ',')]
    server_cores: Vec<usize>,

    /// Cores of the load. [the last that this process may use]
    #[arg(long, value_delimiter = ',')]
    load_cores: Vec<usize>,

    /// To which the others are related. [the first]
    #[arg(long, value_name = "NAME")]
    reference: Option<String>,

    /// A bound such as "B/A cpu > 1.05" (cpu, rate, p50 or p99; > or <) to end with 5 at; may be given several times.
    #[arg(long, value_name = "BOUND")]
    fail_if: Vec<Threshold>,

    /// Write the table there as Markdown, too.
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,

    /// Write a page there that needs nothing else.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,

    /// Write every measurement there.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// What loads a server instead of this program's `load`; takes the same arguments and writes the same JSON.
    #[arg(long, value_name = "COMMAND", hide = true)]
    generator: Option<String>,
}

const EXAMPLES: &str = "Examples:
  annulet-bench compare 'old/serve --listen {listen} --cores {core}' 'new/serve --listen {listen} --cores {core}'
  annulet-bench compare --pipeline 16 --fail-if 'B/A cpu > 1.05' 'old/serve {port}' 'new/serve {port}'
  annulet-bench compare 'ours=serve --port {port}' 'nginx@127.0.0.1:8080=nginx -c /etc/nginx/test.conf'
  annulet-bench compare before.json after.json

Ctrl-C ends it; the rounds that are done are kept and shown.";

/// Compares.
///
/// # Errors
///
/// One line for the user.
pub(crate) fn main(options: &Options) -> Result<Exit, Failure> {
    let is_file = |source: &String| source.ends_with(".json") && !source.contains(' ');
    let comparison = match options.sources.iter().filter(|source| is_file(source)).count() {
        0 => measured(options)?,
        count if count == options.sources.len() => saved_runs(options)?,
        _ => {
            return Err(Failure::usage(
                "saved runs can be compared with saved runs only, commands with commands",
            ));
        }
    };
    let text = text::markdown(&comparison);
    print!("{text}");
    let write = |path: &Option<PathBuf>, content: &dyn Fn() -> String| match path {
        Some(path) => write_file(path, &content()),
        None => Ok(()),
    };
    write(&options.markdown, &|| text.clone())?;
    write(&options.html, &|| page::html(&comparison))?;
    write(&options.json, &|| serde_json::to_string_pretty(&comparison).expect("numbers and strings only"))?;
    judge(options, &comparison)
}

/// Looks the bounds up and says how each came out.
fn judge(options: &Options, comparison: &Comparison) -> Result<Exit, Failure> {
    let mut exit = Exit::Good;
    for threshold in &options.fail_if {
        let (ratio, broken) = comparison.check(threshold)?;
        let word = if broken { "BROKEN" } else { "kept" };
        println!("{word}: fail if {threshold}: {}", text::ratio_text(&ratio));
        if broken {
            exit = Exit::NotMet;
        }
    }
    Ok(if comparison.faults.is_empty() { exit } else { Exit::Invalid })
}

fn saved_runs(options: &Options) -> Result<Comparison, Failure> {
    let names: Vec<String> = options
        .sources
        .iter()
        .map(|source| {
            Path::new(source).file_stem().map_or(source.clone(), |stem| stem.to_string_lossy().into())
        })
        .collect();
    unique(&names)?;
    let reports: Vec<_> =
        options.sources.iter().map(|source| saved::read(Path::new(source))).collect::<Result<_, _>>()?;
    let reference = reference(options, &names)?;
    check_bounds(options, &names)?;
    Ok(saved::compare(names, options.sources.clone(), &reports, reference))
}

fn measured(options: &Options) -> Result<Comparison, Failure> {
    let specs: Vec<Spec> = options
        .sources
        .iter()
        .enumerate()
        .map(|(position, source)| Spec::parse(source, position).map_err(Failure::usage))
        .collect::<Result<_, _>>()?;
    let names: Vec<String> = specs.iter().map(|spec| spec.name.clone()).collect();
    unique(&names)?;
    let reference = reference(options, &names)?;
    check_bounds(options, &names)?;
    let own = crate::cores::own();
    let server_cores = cores(&options.server_cores, &own, own[0])?;
    let load_cores = cores(&options.load_cores, &own, own[own.len() - 1])?;
    if server_cores.iter().any(|core| load_cores.contains(core)) {
        eprintln!("server and load share a core: no figure of this run means much");
    }
    let generator = Generator {
        command: generator_command(options)?,
        cores: load_cores.clone(),
        path: options.path.clone(),
        connections: options.connections,
        pipeline: options.pipeline,
        rate: options.rate,
        more: options.load_arg.clone(),
    };
    let plan = Plan {
        way: options.way,
        rounds: options.rounds,
        time: seconds(options.seconds)?,
        warmup: seconds(options.warmup)?,
    };
    let stop = catch_signals()?;
    // All of them are up during the whole comparison, so that no start-up is measured; only those under load run.
    let mut servers =
        specs.iter().map(|spec| Server::start(spec, &server_cores)).collect::<Result<Vec<_>, _>>()?;
    let measured = rounds::measure(&mut servers, &generator, plan, &stop)?;
    drop(servers);
    if measured.in_turn.is_empty() && measured.side_by_side.is_empty() {
        return Err(Failure::new(Exit::Failed, "ended before the first round was done"));
    }
    let sources = specs.into_iter().map(|spec| spec.command).collect();
    let setting = setting(options, &measured, &server_cores, &load_cores);
    Ok(Comparison::of_rounds(names, sources, setting, reference, measured))
}

/// How it was measured, for the reader of the table.
fn setting(
    options: &Options,
    measured: &rounds::Measured,
    server_cores: &[usize],
    load_cores: &[usize],
) -> Vec<String> {
    let speed = match options.rate {
        Some(rate) => format!("{rate} requests/s each"),
        None => "at full speed".to_owned(),
    };
    let ways = match (measured.in_turn.is_empty(), measured.side_by_side.is_empty()) {
        (false, false) => {
            "Values are medians of the rounds in turn, the ratio of CPU comes from those side by side."
        }
        (false, true) => "All of it comes from rounds in turn: the ratio of CPU is steadier side by side.",
        (true, _) => {
            "All of it comes from rounds side by side: rate and latency are those of servers that share the core."
        }
    };
    let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
    vec![format!(
        "Linux {kernel}, servers on core {}, load on core {}; GET {} over {} connections, {} deep, {speed}; {} rounds in \
         turn and {} side by side of {} s. {ways} Ratios are trimmed means with their 95 % interval (paired bootstrap).",
        list(server_cores),
        list(load_cores),
        options.path,
        options.connections,
        options.pipeline,
        measured.in_turn.len(),
        measured.side_by_side.len(),
        options.seconds,
    )]
}

fn list(cores: &[usize]) -> String {
    cores.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// Set by SIGINT or SIGTERM. Everything that waits looks at it every few milliseconds, so one is enough.
fn catch_signals() -> Result<Arc<AtomicBool>, Failure> {
    let failed =
        |error: std::io::Error| Failure::new(Exit::Failed, format!("cannot watch for Ctrl-C: {error}"));
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        flag::register(signal, stop.clone()).map_err(failed)?;
    }
    Ok(stop)
}

fn generator_command(options: &Options) -> Result<Vec<String>, Failure> {
    match &options.generator {
        Some(command) => shlex::split(command)
            .filter(|words| !words.is_empty())
            .ok_or_else(|| Failure::usage("--generator: the quotes do not match")),
        None => {
            let own = std::env::current_exe()
                .map_err(|error| Failure::new(Exit::Failed, format!("where is this program? {error}")))?;
            Ok(vec![own.to_string_lossy().into_owned(), "load".to_owned()])
        }
    }
}

fn seconds(value: f64) -> Result<Duration, Failure> {
    Duration::try_from_secs_f64(value).map_err(|_| Failure::usage(format!("{value} is no time")))
}

fn cores(asked: &[usize], own: &[usize], default: usize) -> Result<Vec<usize>, Failure> {
    if asked.is_empty() {
        return Ok(vec![default]);
    }
    match asked.iter().find(|core| !own.contains(core)) {
        Some(core) => Err(Failure::usage(format!("core {core} is not one of {}", list(own)))),
        None => Ok(asked.to_vec()),
    }
}

fn unique(names: &[String]) -> Result<(), Failure> {
    for (position, name) in names.iter().enumerate() {
        if names[..position].contains(name) {
            return Err(Failure::usage(format!(
                "there are two called {name}: write OTHER=… before one of them"
            )));
        }
    }
    Ok(())
}

fn reference(options: &Options, names: &[String]) -> Result<usize, Failure> {
    options.reference.as_ref().map_or(Ok(0), |name| position(names, name))
}

/// A bound about nobody is found before the measurement, not after it.
fn check_bounds(options: &Options, names: &[String]) -> Result<(), Failure> {
    for threshold in &options.fail_if {
        position(names, &threshold.over)?;
        position(names, &threshold.under)?;
    }
    Ok(())
}

fn write_file(path: &Path, content: &str) -> Result<(), Failure> {
    fs::write(path, content).map_err(|error| {
        Failure::new(Exit::ReportLost, format!("{} is not written: {error}", path.display()))
    })
}
