//! `--workers`: the same server with its workers watched over, see [`annulet::Builder::supervise`].
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use annulet::signal::{SignalKind, dump_tasks_on};
use annulet::{Core, Started, Workers};
use annulet_http::{AccessLog, Server};

use crate::cli::Options;
use crate::log::Log;
use crate::{
    Acceptor, DEFAULT_ADDRESS, accept_all, open_dir, operations, place, stands_on, tell_cut, tell_spread,
};

/// Serves until a signal ends it. In a worker process: until the supervisor does.
pub(crate) fn run(options: &Options, workers: Workers) -> io::Result<()> {
    // Workers and successors inherit it.
    let descriptors = operations::raise_descriptors();
    let builder = options.loops();
    let (builder, placed) = place(builder, options)?;
    let mut builder = options
        .operations
        .admin_beside(options.operations.apply(builder))
        .workers(workers)
        .listen_default(DEFAULT_ADDRESS)
        .drain_delay(options.drain_delay)
        .drain_limit(options.drain);
    if let Some(user) = &options.user {
        builder = builder.user(user);
    }
    let patience = Patience { idle: options.drain_idle, all: options.drain };
    let cut = Arc::new(AtomicUsize::new(0));
    let cut_here = cut.clone();
    let files = options.dir.as_deref().map(open_dir).transpose()?;
    let user = options.user.as_deref();
    let log = options.access_log.as_deref().map(|path| Log::open_for(path, user)).transpose()?;
    let format = options.access_log_format;
    let acceptor = options.acceptor()?;
    let scheme = if acceptor.is_some() { "https" } else { "http" };
    options.operations.check(acceptor.is_some())?;
    let wanted = options.clone();
    let has_served = AtomicBool::new(false);
    let make = move |core: Core| {
        // Of threads that share them the first of a new generation. A process has read and opened them when it began.
        if core.index() == 0 && has_served.swap(true, Ordering::Relaxed) {
            log.as_ref().into_iter().for_each(Log::reopen);
            #[cfg(feature = "tls")]
            acceptor.as_ref().into_iter().for_each(crate::tls::reload);
        }
        let mut server = wanted.server(files.clone());
        if let Some(log) = &log {
            server = server.with_access_log(AccessLog::new(log.file(), format));
        }
        // One dump prints the tasks of all loops of its process.
        let dumps = workers == Workers::Processes || core.index() == 0;
        serve(core, server, acceptor.clone(), patience, dumps, cut_here.clone())
    };
    let mut connections = None;
    let greet = |started: &Started| {
        options.operations.warn_of_admin();
        placed.tell();
        greet(started, scheme, &descriptors);
        connections.clone_from(&started.connections);
    };
    builder.supervise(greet, make)?;
    if let Some(connections) = connections {
        tell_spread(options, &connections);
    }
    // Of all threads, or of the one worker that this process is.
    tell_cut(&cut, Some(patience.all));
    Ok(())
}

/// Once, when every worker runs.
fn greet(started: &Started, scheme: &str, descriptors: &str) {
    let mut words = String::new();
    for address in &started.addresses {
        words += &format!("listening on {scheme}://{address}/\n");
    }
    let cores: Vec<String> = started.cores.iter().map(ToString::to_string).collect();
    words += &format!("cores {}\n{descriptors}\n", cores.join(","));
    if let Some(address) = started.beside {
        words += &format!("admin on http://{address}/\n");
    }
    if let Some(capabilities) = started.capabilities {
        words += &format!("{}\n", stands_on(&capabilities));
    }
    // Whoever has started the first of several successors may be gone, and with it the pipe.
    let _ = io::stdout().write_all(words.as_bytes());
}

/// How long connections are waited for at the end.
#[derive(Clone, Copy)]
struct Patience {
    /// Idle ones, for one more request.
    idle: Duration,
    /// All of them.
    all: Duration,
}

/// One core: serves until it is asked to stop, then answers what is in flight. Connections that are still open after that are
/// added to `cut`.
async fn serve(
    mut core: Core,
    server: Server,
    acceptor: Option<Acceptor>,
    patience: Patience,
    dumps: bool,
    cut: Arc<AtomicUsize>,
) {
    if dumps && let Err(error) = dump_tasks_on(SignalKind::user_defined1()) {
        eprintln!("annulet-serve: SIGUSR1 will not tell of tasks: {error}");
    }
    accept_all(&mut core, &server, acceptor.as_ref());
    let drain = server.drain_handle();
    core.draining().await;
    drain.announce();
    core.stopped().await;
    if annulet::time::timeout(patience.all, drain.gently(patience.idle)).await.is_err() {
        cut.fetch_add(drain.connections(), Ordering::Relaxed);
    }
}
