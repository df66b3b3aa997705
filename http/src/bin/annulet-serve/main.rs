//! The index and hello server: `GET /` and `GET /hello/{name}`, on every core that it is given.
#![forbid(unsafe_code)]

mod cli;
mod limits;
mod log;
mod operations;
mod pages;
#[cfg(feature = "tls")]
mod tls;
mod watched;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use annulet::net::{AcceptPolicy, Connections, TcpListener};
use annulet::placement::Plan;
use annulet::signal::{SignalKind, Termination, unix};
use annulet::{Builder, Capabilities, Core, DriverKind, Either};
use annulet_http::{AccessLog, ServeDir, Server};
use clap::Parser;
use cli::Options;

/// Where it listens if nobody says otherwise.
const DEFAULT_ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8000);

/// For a loop to listen to SIGHUP. It takes no time at all unless that loop has failed, which is told elsewhere.
const HANGUP_TIMEOUT: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    let options = Options::parse();
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("annulet-serve: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What the loops stand on, in a line.
fn stands_on(capabilities: &Capabilities) -> String {
    match capabilities.driver() {
        DriverKind::IoUring => format!("ring {capabilities}"),
        driver => format!("ring none: {driver} instead"),
    }
}

fn run(options: &Options) -> io::Result<()> {
    if let Some(workers) = options.workers {
        return watched::run(options, workers);
    }
    // First of all: from here on neither signal ends the process.
    let termination = Termination::catch()?;
    let descriptors = operations::raise_descriptors();
    let admin = options.operations.bind_admin()?;
    let builder = options.loops();
    let (builder, placed) = place(builder, options)?;
    placed.tell();
    let mut builder = options.operations.apply(builder);
    if options.listen.is_empty() {
        builder = builder.listen(DEFAULT_ADDRESS);
    }
    let drain = options.drain;
    let cut = Arc::new(Cut::default());
    let cut_here = cut.clone();
    let files = options.dir.as_deref().map(open_dir).transpose()?;
    let log = options.access_log.as_deref().map(log::open).transpose()?;
    let format = options.access_log_format;
    let acceptor = options.acceptor()?;
    let (heard, hears) = mpsc::channel();
    let scheme = if acceptor.is_some() { "https" } else { "http" };
    options.operations.check(acceptor.is_some())?;
    let wanted = options.clone();
    let loops = builder.start(move |core| {
        let mut server = wanted.server(files.clone());
        if let Some(file) = &log {
            server = server.with_access_log(AccessLog::new(file.clone(), format));
        }
        let acceptor = acceptor.clone().map(|acceptor| (acceptor, heard.clone()));
        serve(core, server, acceptor, drain, cut_here.clone())
    })?;
    if scheme == "https" {
        // Before anybody is told that it serves, SIGHUP must not end it any more.
        let _ = hears.recv_timeout(HANGUP_TIMEOUT);
    }
    for address in loops.addresses() {
        println!("listening on {scheme}://{address}/");
    }
    let cores: Vec<String> = loops.cores().iter().map(ToString::to_string).collect();
    println!("cores {}", cores.join(","));
    println!("{descriptors}");
    // Until everything has ended: /readyz and /livez answer while it drains.
    let _admin = operations::start_admin(admin, loops.readiness())?;
    println!("{}", stands_on(&loops.capabilities()));
    let signal = termination.wait()?;
    eprintln!("annulet-serve: {signal}: finishing what is in flight; once more: ending at once");
    let connections = loops.connections();
    loops.stop();
    loops.join()?;
    tell_spread(options, &connections);
    let has_hurried = cut.has_hurried.load(Ordering::Relaxed);
    tell_cut(&cut.connections, (!has_hurried).then_some(drain));
    Ok(())
}

/// What was not waited for.
#[derive(Default)]
struct Cut {
    connections: AtomicUsize,
    /// Whether somebody asked for it by a second signal.
    has_hurried: AtomicBool,
}

/// How many connections were not waited for, or not longer than this.
fn tell_cut(cut: &AtomicUsize, after: Option<Duration>) {
    let after = after.map(|after| format!(" after {after:?}")).unwrap_or_default();
    match cut.load(Ordering::Relaxed) {
        0 => {}
        1 => eprintln!("annulet-serve: 1 connection cut{after}"),
        count => eprintln!("annulet-serve: {count} connections cut{after}"),
    }
}

/// How connections were spread, for those who have asked for something special.
fn tell_spread(options: &Options, connections: &Connections) {
    if options.accept != AcceptPolicy::Reuseport || options.connections_max.is_some() {
        let (served, handed_over) = (connections.served(), connections.handed_over());
        eprintln!("annulet-serve: connections per core: served {served:?}, handed over {handed_over:?}");
    }
}

/// The cores, as --cores or --placement have it, and within the CPU quota where neither names them.
fn place(builder: Builder, options: &Options) -> io::Result<(Builder, Placed)> {
    if let Some(cores) = options.cores.chosen() {
        return Ok((builder.cores(cores.iter().copied()), Placed::AsSaid));
    }
    let plan = Plan::new(&options.placement.clone().unwrap_or_default())?;
    let builder = builder.placement(&plan);
    Ok(match options.placement {
        Some(_) => (builder, Placed::ByPolicy(plan)),
        None if plan.is_cut_by_quota() => (builder, Placed::CutByQuota(plan)),
        None => (builder, Placed::AsSaid),
    })
}

/// What is to be said about the cores.
enum Placed {
    AsSaid,
    ByPolicy(Plan),
    CutByQuota(Plan),
}

impl Placed {
    fn tell(&self) {
        match self {
            Placed::AsSaid => {}
            Placed::ByPolicy(plan) => println!("placement {plan}"),
            Placed::CutByQuota(plan) => eprintln!("annulet-serve: {plan}"),
        }
    }
}

fn open_dir(dir: &Path) -> io::Result<ServeDir> {
    ServeDir::new(dir)
        .map_err(|error| io::Error::new(error.kind(), format!("cannot serve {}: {error}", dir.display())))
}

#[cfg(feature = "tls")]
type Acceptor = annulet_http::tls::TlsAcceptor;
/// There is none.
#[cfg(not(feature = "tls"))]
#[derive(Clone, Debug)]
enum Acceptor {}

/// Serves all listeners of a core until the server drains.
fn accept_all(core: &mut Core, server: &Server, acceptor: Option<&Acceptor>) {
    for listener in core.take_listeners() {
        let (server, acceptor) = (server.clone(), acceptor.cloned());
        // Detached: it ends when the server drains.
        drop(annulet::spawn(async move {
            if let Err(error) = accept(&server, listener, acceptor).await {
                eprintln!("annulet-serve: accepting has ended: {error}");
            }
        }));
    }
}

/// With or without TLS.
async fn accept(server: &Server, listener: TcpListener, acceptor: Option<Acceptor>) -> io::Result<()> {
    match acceptor {
        None => server.serve(listener).await,
        #[cfg(feature = "tls")]
        Some(acceptor) => server.serve_tls(listener, &acceptor).await,
    }
}

/// One core: serves until it is asked to stop, then answers what is in flight. Connections that are still open after `at_most`, or when
/// a second signal comes, are added to `cut`.
async fn serve(
    mut core: Core,
    server: Server,
    tls: Option<(Acceptor, mpsc::Sender<()>)>,
    at_most: Duration,
    cut: Arc<Cut>,
) {
    #[cfg(feature = "tls")]
    if let Some((acceptor, heard)) = tls.as_ref().filter(|_| core.index() == 0) {
        // Detached: it ends with the loop.
        drop(annulet::spawn(tls::reload_on_hangup(acceptor.clone(), heard.clone())));
    }
    accept_all(&mut core, &server, tls.map(|(acceptor, _)| acceptor).as_ref());
    core.stopped().await;
    let drain = server.drain_handle();
    drain.start();
    let patience = annulet::time::timeout(at_most, drain.finished());
    let is_done = match annulet::select(signalled_again(), patience).await {
        Either::Left(()) => {
            if !cut.has_hurried.swap(true, Ordering::Relaxed) {
                eprintln!("annulet-serve: ending at once");
            }
            false
        }
        Either::Right(finished) => finished.is_ok(),
    };
    if !is_done {
        cut.connections.fetch_add(drain.connections(), Ordering::Relaxed);
    }
}

/// Waits for a signal behind the one that has ended the server.
async fn signalled_again() {
    let signals = [SignalKind::interrupt(), SignalKind::terminate()].map(unix::signal);
    // Out of descriptors, at the worst: then the first signal alone has to do.
    let [Ok(mut interrupt), Ok(mut terminate)] = signals else { return std::future::pending().await };
    annulet::select(interrupt.recv(), terminate.recv()).await;
}
