//! What a program tells those who run it: counters, tasks, and whether it is alive and ready.
//!
//! | target | answer |
//! |---|---|
//! | `/metrics` | the counters of all loops, in the text format of Prometheus |
//! | `/tasks` | what every task of this process is doing, as text |
//! | `/livez` | 200 as long as the process answers at all |
//! | `/readyz` | 200 when it should be sent work, 503 while it starts and from the moment when it drains |
//!
//! [`Admin::start`] serves them on an address, a thread and a loop of their own, so that they answer while the other loops are
//! stuck. [`Admin::router`] is for those who serve them elsewhere. Nobody is asked for a password: keep the address to
//! yourself.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::pin::pin;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use annulet::metrics::{Board, CONTENT_TYPE, prometheus};
use annulet::{Builder, Either, Readiness, ReadinessState};

use crate::{HeaderValue, Limits, Request, Response, Router, Server, StatusCode, header};

/// How long the loops have to tell what their tasks do.
const TASKS_TIMEOUT: Duration = Duration::from_secs(1);
/// What is in flight at the end is answered within it.
const DRAIN_MAX: Duration = Duration::from_secs(5);
/// A kept connection may ask once more within it.
const DRAIN_IDLE: Duration = Duration::from_secs(1);
/// Whoever asks is one of few; more connections are told 503.
const CONNECTIONS_MAX: usize = 64;

/// What is told; see the [module](self).
///
/// # Examples
///
/// ```
/// use annulet::Builder;
/// use annulet_http::admin::Admin;
///
/// let loops = Builder::new().start(|core| async move { core.stopped().await }).unwrap();
/// let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
/// let admin = Admin::new(loops.readiness().clone()).start(listener).unwrap();
/// println!("counters at http://{}/metrics", admin.address());
///
/// loops.stop();
/// loops.join().unwrap();
/// drop(admin);
/// ```
#[derive(Clone, Debug)]
pub struct Admin {
    readiness: Readiness,
    board: Board,
}

impl Admin {
    /// Tells of this process, and what `readiness` says.
    #[must_use]
    pub fn new(readiness: Readiness) -> Admin {
        Admin { readiness, board: Board::process() }
    }

    /// The counters are those of `board`, which processes may share.
    #[must_use]
    pub fn with_board(mut self, board: Board) -> Admin {
        self.board = board;
        self
    }

    /// The targets, to be [nested](Router::nest) into a router or to be served by themselves.
    #[must_use]
    pub fn router(&self) -> Router {
        let (board, readiness) = (self.board.clone(), self.readiness.clone());
        Router::new()
            .get("/metrics", move |_: Request| {
                let text = format!("{}{}", prometheus(&board.read()), process::metrics());
                std::future::ready(as_metrics(text))
            })
            .get("/tasks", async |_: Request| tasks().await)
            .get("/livez", async |_: Request| Response::text("alive\n"))
            .get("/readyz", move |_: Request| {
                let state = readiness.state();
                let answer = Response::text(format!("{state}\n"));
                std::future::ready(match state {
                    ReadinessState::Ready => answer,
                    ReadinessState::Starting | ReadinessState::Draining => {
                        answer.with_status(StatusCode::SERVICE_UNAVAILABLE)
                    }
                })
            })
    }

    /// Serves the targets on a thread and a loop of their own, which is not seen among the others in the counters.
    ///
    /// # Errors
    ///
    /// When no thread or no ring can be had.
    pub fn start(self, listener: TcpListener) -> io::Result<Running> {
        let address = listener.local_addr()?;
        let (end, ends) = UnixStream::pair()?;
        let (started, start) = mpsc::channel();
        let thread = thread::Builder::new().name("annulet-admin".to_owned()).spawn(move || {
            let builder = Builder::new()
                .ring_entries(64, 256)
                .receive_buffers_max(256)
                .metrics_board(Board::nobody(), 0)
                .stall_limit(None);
            let told = started.clone();
            let ran = builder.run_local(async move {
                // Fails only when `start` has given up, and then nobody wants to know.
                let _ = told.send(Ok(()));
                self.serve_until(listener, ends).await
            });
            ran.and_then(|served| served).or_else(|error| started.send(Err(error))).unwrap_or(());
        })?;
        let running = Running { address, end: Some(end), thread: Some(thread) };
        match start.recv() {
            Ok(Ok(())) => Ok(running),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(io::Error::other("the admin listener's thread panicked")),
        }
    }

    /// Serves the targets on this loop, for one that is there for nothing else
    /// ([`Builder::beside`](annulet::Builder::beside)), until `end` is done. Then what is in flight is answered, within a few
    /// seconds, and who waits in the listener's queue is left to whoever else has it.
    ///
    /// # Errors
    ///
    /// As [`Server::serve`].
    ///
    /// # Cancel safety
    ///
    /// Dropped, it goes on until the loop ends.
    pub async fn serve(
        self,
        listener: annulet::net::TcpListener,
        end: impl Future<Output = ()>,
    ) -> io::Result<()> {
        let server = self.server();
        let drain = server.drain_handle();
        let serving = annulet::spawn(async move { server.serve(listener).await });
        match annulet::select(serving, pin!(end)).await {
            Either::Left(Ok(served)) => served,
            Either::Left(Err(error)) => Err(io::Error::other(error.to_string())),
            Either::Right(()) => {
                // Whoever is still there then has had its time.
                let _ = annulet::time::timeout(DRAIN_MAX, drain.gently(DRAIN_IDLE)).await;
                Ok(())
            }
        }
    }

    fn server(&self) -> Server {
        let limits = Limits { connections: CONNECTIONS_MAX, ..Limits::default() };
        Server::new(self.router()).with_limits(limits).uncounted()
    }

    /// Serves until the other end of `ends` is closed.
    async fn serve_until(self, listener: TcpListener, ends: UnixStream) -> io::Result<()> {
        let listener = annulet::net::TcpListener::from_std(listener)?;
        let ends = annulet::net::UnixStream::from_std(ends)?;
        let server = self.server();
        let serving = annulet::spawn(async move { server.serve(listener).await });
        // An end or an error: both mean that it is over.
        let _ = ends.recv().await;
        serving.abort();
        Ok(())
    }
}

/// An admin listener that serves; made by [`Admin::start`]. It ends when this is dropped.
#[derive(Debug)]
pub struct Running {
    address: SocketAddr,
    /// Closing it ends the loop.
    end: Option<UnixStream>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Running {
    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            // It has said on stderr why it panicked, if it did.
            let _ = thread.join();
        }
    }
}

fn as_metrics(text: String) -> Response {
    Response::text(text).with_header(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE))
}

async fn tasks() -> Response {
    let dumps = annulet::task::dump_all(TASKS_TIMEOUT).await;
    let mut text: String = dumps.loops.iter().map(ToString::to_string).collect();
    if dumps.silent > 0 {
        text.push_str(&format!("{} loops did not answer within {TASKS_TIMEOUT:?}\n", dumps.silent));
    }
    Response::text(text)
}

/// The process's own numbers, by the names that Prometheus's client libraries give them.
mod process {
    use std::fmt::Write;
    use std::fs;

    use rustix::param::{clock_ticks_per_second, page_size};

    /// What can be read of it; nothing where there is no /proc.
    pub(super) fn metrics() -> String {
        let mut out = String::new();
        let mut put = |name: &str, kind: &str, help: &str, value: Option<f64>| {
            if let Some(value) = value {
                // Writing to a string does not fail.
                let _ = write!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n");
            }
        };
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        // The name of the program may hold anything; behind its bracket come fields 3 and following (proc_pid_stat(5)).
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
        let cpu =
            field(14).zip(field(15)).map(|(user, system)| (user + system) / clock_ticks_per_second() as f64);
        put("process_cpu_seconds_total", "counter", "User and system CPU time spent, in seconds.", cpu);
        let resident = field(24).map(|pages| pages * page_size() as f64);
        put("process_resident_memory_bytes", "gauge", "Resident memory in bytes.", resident);
        put("process_threads", "gauge", "Threads.", field(20));
        put(
            "process_open_fds",
            "gauge",
            "Open file descriptors.",
            open_descriptors().map(|count| count as f64),
        );
        let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
        let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
        let most = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        put("process_max_fds", "gauge", "The most open file descriptors.", most);
        out
    }

    /// How many descriptors this process has open.
    fn open_descriptors() -> Option<u64> {
        let directory = "/proc/self/fd";
        // From Linux 6.2 on the size of the directory says so. To list ten thousand of them keeps a core in the kernel for milliseconds.
        match fs::metadata(directory).ok()?.len() {
            0 => fs::read_dir(directory).ok().map(|entries| entries.count() as u64),
            count => Some(count),
        }
    }
}
