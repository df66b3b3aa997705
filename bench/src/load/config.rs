//! What every loop of a run is told. Made once from the arguments; nothing in it changes while the load runs.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use annulet::placement;
use annulet_tls::TlsConnector;

use super::cli::{Options, SourceRange};
use super::plan::Arrivals;
use super::target::{Url, resolve};
use super::wire::{Message, WEIGHTS_SUM_MAX, Wire};
use crate::exit::{Exit, Failure};

/// Loops without `-t`, as wrk has them.
const THREADS_DEFAULT: usize = 2;

/// Where connections go.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// How connections are encrypted.
#[derive(Clone, Debug)]
pub(crate) struct Tls {
    /// Shared by all loops, and so are the sessions that can be resumed.
    pub(crate) connector: TlsConnector,
    /// The name that the certificate must be for.
    pub(crate) name: String,
}

/// When requests are sent.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Mode {
    /// The next one when an answer has come.
    Closed,
    /// As planned.
    Open { rate: f64, arrivals: Arrivals },
}

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) target: Target,
    pub(crate) tls: Option<Tls>,
    pub(crate) source: Option<SourceRange>,
    pub(crate) wire: Wire,
    pub(crate) mode: Mode,
    pub(crate) cores: Vec<usize>,
    pub(crate) connections: usize,
    pub(crate) pipeline: usize,
    pub(crate) timeout: Duration,
    pub(crate) warmup: Duration,
    pub(crate) duration: Duration,
    pub(crate) requests: Option<u64>,
    pub(crate) connections_per_second: Option<f64>,
    pub(crate) close_after: Option<u64>,
    pub(crate) spin: bool,
    pub(crate) seed: u64,
    /// Whether each request is kept by itself.
    pub(crate) samples: bool,
    /// What the user should know before it starts.
    pub(crate) notes: Vec<String>,
}

impl Config {
    /// Reads files, looks the host up, chooses cores.
    ///
    /// # Errors
    ///
    /// One line for the user.
    pub(crate) fn new(options: &Options) -> Result<Config, Failure> {
        let urls = options.urls.iter().map(|text| Url::parse(text)).collect::<Result<Vec<_>, _>>()?;
        let first = &urls[0];
        if let Some(other) = urls.iter().find(|url| url.authority != first.authority) {
            return Err(Failure::usage(format!(
                "{} and {}: one run loads one server; start a second run beside it and merge the reports",
                first.authority, other.authority
            )));
        }
        if let Some(other) = urls.iter().find(|url| url.is_tls != first.is_tls) {
            return Err(Failure::usage(format!(
                "{} and {}: with TLS and without are two runs",
                first.authority, other.authority
            )));
        }
        let tls = tls(options, first)?;
        let wire = wire(options, &urls)?;
        let target = match &options.uds {
            Some(path) => Target::Unix(path.clone()),
            None => Target::Tcp(resolve(&first.host, first.port, options.timeout)?),
        };
        if let (Some(source), Target::Tcp(address)) = (options.source, &target)
            && source.nth(0).is_ipv4() != address.is_ipv4()
        {
            return Err(Failure::usage(format!(
                "--source {}: the server's address is {address}",
                source.nth(0)
            )));
        }
        if options.duration.is_zero() || options.timeout.is_zero() {
            return Err(Failure::usage("--duration and --timeout must be above zero"));
        }
        let mut notes = Vec::new();
        let mut cores = cores(options, &mut notes)?;
        let connections = usize::try_from(options.connections).unwrap_or(usize::MAX);
        // A loop without a connection would only wait.
        cores.truncate(connections);
        let mode = match options.rate {
            None => Mode::Closed,
            Some(rate) => Mode::Open { rate, arrivals: options.arrivals },
        };
        Ok(Config {
            target,
            tls,
            source: options.source,
            wire,
            mode,
            cores,
            connections,
            pipeline: options.pipeline as usize,
            timeout: options.timeout,
            warmup: options.warmup,
            duration: options.duration,
            requests: options.requests,
            connections_per_second: options.connections_per_second,
            close_after: options.close_after,
            spin: options.spin,
            seed: options.seed,
            samples: options.samples.is_some(),
            notes,
        })
    }

    /// The share of core `index` in `total`.
    pub(crate) fn share(&self, total: u64, index: usize) -> u64 {
        let cores = self.cores.len() as u64;
        total / cores + u64::from((index as u64) < total % cores)
    }
}

fn tls(options: &Options, url: &Url) -> Result<Option<Tls>, Failure> {
    if !(options.tls || url.is_tls) {
        if options.tls_insecure || options.tls_root.is_some() || options.tls_no_resume {
            return Err(Failure::usage("--tls-… without TLS: write https:// or --tls"));
        }
        return Ok(None);
    }
    let builder = match &options.tls_root {
        _ if options.tls_insecure => TlsConnector::danger_accept_invalid(),
        Some(path) => TlsConnector::builder().root_file(path),
        None => TlsConnector::builder().native_roots(),
    };
    // What the requests are written in; a server that has ALPN may want to hear it.
    let builder = builder.alpn(["http/1.1"]);
    let builder = if options.tls_no_resume { builder.sessions(0) } else { builder };
    let connector = builder.build().map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
    Ok(Some(Tls { connector, name: url.host.clone() }))
}

fn wire(options: &Options, urls: &[Url]) -> Result<Wire, Failure> {
    if !options.raw.is_empty() {
        return Ok(Wire::raw(options.raw.iter().map(|path| read(path)).collect::<Result<_, _>>()?));
    }
    let body = match (&options.body, &options.body_file) {
        (Some(text), _) => Some(text.clone().into_bytes()),
        (None, Some(path)) => Some(read(path)?),
        (None, None) => None,
    };
    let method = options.method.as_deref().unwrap_or(if body.is_some() { "POST" } else { "GET" });
    let messages: Vec<Message<'_>> = urls
        .iter()
        .map(|url| Message {
            method,
            target: &url.target,
            host: &url.authority,
            headers: &options.headers,
            body: body.as_deref(),
            is_http_1_0: options.http_1_0,
        })
        .collect();
    let weights = if options.weights.is_empty() { vec![1; urls.len()] } else { options.weights.clone() };
    if weights.len() != urls.len() {
        return Err(Failure::usage(format!(
            "{} weights for {} URLs; give one each",
            weights.len(),
            urls.len()
        )));
    }
    if weights.iter().sum::<u32>() > WEIGHTS_SUM_MAX {
        return Err(Failure::usage(format!(
            "--weights: their sum may be {WEIGHTS_SUM_MAX}; percents will do"
        )));
    }
    Wire::new(&messages, &weights)
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    fs::read(path).map_err(|error| Failure::usage(format!("{}: {error}", path.display())))
}

/// The cores to run on: those named, else the last ones, because servers take the first.
fn cores(options: &Options, notes: &mut Vec<String>) -> Result<Vec<usize>, Failure> {
    let broken = |error: io::Error| Failure::usage(error.to_string());
    if let Some(list) = &options.cores {
        let mut cores = placement::parse_cores(list).map_err(broken)?;
        if let Some(threads) = options.threads {
            if threads > cores.len() {
                return Err(Failure::usage(format!(
                    "-t {threads} on {} cores: a loop has a core of its own",
                    cores.len()
                )));
            }
            cores.truncate(threads.max(1));
        }
        return Ok(cores);
    }
    let cores = placement::available_cores().map_err(broken)?;
    let asked = options.threads.unwrap_or(THREADS_DEFAULT.min(cores.len())).max(1);
    if asked > cores.len() {
        notes.push(format!("-t {asked}: {} loops, because a loop has a core of its own", cores.len()));
    }
    Ok(cores[cores.len() - asked.min(cores.len())..].to_vec())
}
