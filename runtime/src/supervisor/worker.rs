//! The worker's side: one pinned loop, and a task on it that hears the supervisor's orders.

use std::future::Future;
use std::io;
use std::panic::Location;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use super::beside::{self, Beside, BesidePlan};
use super::inherit;
use super::link::{self, FINISHED, LEAVING, PING, PONG};
use super::plan::Order;
use super::watch::say;
use crate::metrics::Board;
use crate::net::{AcceptPolicy, Group, UnixStream};
use crate::readiness::{Readiness, ReadinessState};
use crate::runtime::{Core, pin_and_make};
use crate::shard::ShardSettings;
use crate::signal::unix::signal;
use crate::signal::{SignalKind, disregard};
use crate::stop::Stop;

/// When a new worker looks for connections that nobody was woken for, each time after the last. The kernel takes the ring of a
/// killed process down after the process has ended, usually within milliseconds; a connection that comes in between may wake
/// that ring only, and would wait until the next one comes (`scripts/stranded`). What came before the new worker's first
/// accept is found by that; this is for a ring that outlives the start of the new worker, as it may where a virtual processor
/// stands still, and for an old worker that drops its listener without emptying it (`TcpListener::rest`), which was seen. The client would wait for as long as nobody else comes; four looks in the
/// life of a worker cost nothing.
const LOOKS: [Duration; 4] =
    [Duration::from_millis(50), Duration::from_millis(200), Duration::from_secs(1), Duration::from_secs(5)];

/// What a worker's loop hears.
#[derive(Clone, Debug)]
struct Told {
    draining: Stop,
    stop: Stop,
    readiness: Readiness,
}

impl Told {
    fn obey(&self, order: Order) {
        match order {
            Order::AllServe => return self.readiness.move_to(ReadinessState::Ready),
            Order::Drain | Order::Stop => self.readiness.move_to(ReadinessState::Draining),
            // Who is replaced goes without a word: the others are ready.
            Order::Replaced => {}
        }
        self.draining.stop();
        if order != Order::Drain {
            self.stop.stop();
        }
    }
}

/// Whose future a loop runs.
pub(super) enum Part {
    /// One of the workers.
    Core(Core),
    /// Who is beside them.
    Beside(Beside),
}

impl Part {
    fn told(&self) -> Told {
        match self {
            Part::Core(core) => {
                let (draining, stop) = core.told();
                Told { draining, stop, readiness: core.readiness().clone() }
            }
            Part::Beside(Beside { readiness, stop, .. }) => {
                Told { draining: Stop::new(), stop: stop.clone(), readiness: readiness.clone() }
            }
        }
    }

    fn core(&self) -> Option<usize> {
        match self {
            Part::Core(core) => Some(core.core()),
            Part::Beside(_) => None,
        }
    }
}

/// What the futures are made by, and where that was said.
pub(super) struct Makers<M> {
    pub(super) make: M,
    pub(super) beside: Option<BesidePlan>,
    pub(super) location: &'static Location<'static>,
}

/// Runs the loop of one worker until its future is done.
///
/// # Errors
///
/// As [`Builder::start`](crate::Builder::start) for one core, and what sigaction(2) says.
fn run<M, F>(
    part: Part,
    link: std::os::unix::net::UnixStream,
    settings: &ShardSettings,
    is_process: bool,
    makers: &Makers<M>,
) -> io::Result<()>
where
    M: Fn(Core) -> F,
    F: Future<Output = ()>,
{
    let runtime = pin_and_make(part.core(), settings)?;
    let shard = Rc::clone(runtime.shard());
    let capabilities = *shard.io.borrow().driver.capabilities();
    let told = part.told();
    if let Part::Core(core) = &part {
        shard.seat.set(Some(core.index()));
    }
    let main = async move {
        let link = Rc::new(UnixStream::from_std(link)?);
        if is_process {
            // Who is beside the others speaks for all of them, and is told when they are.
            if part.core().is_some() {
                told.readiness.move_to(ReadinessState::Ready);
            }
            let mut terminate = signal(SignalKind::terminate())?;
            let (told, link) = (told.clone(), Rc::clone(&link));
            // Whoever sends it to one worker wants this one to go; the supervisor starts another at once.
            drop(crate::task::Builder::new().name("SIGTERM").spawn(async move {
                terminate.recv().await;
                // An error is seen by the supervisor as well.
                let _ = link.write_all(&[LEAVING]).await;
                told.obey(Order::Stop);
            }));
        }
        drop(crate::task::Builder::new().name("look again").spawn(look_again()));
        // Its first poll comes after the first of the main future: by then that listens, if it is going to.
        let obeying = obey_all(Rc::clone(&link), link::ready(&capabilities), told.clone());
        drop(crate::task::Builder::new().name("supervisor").spawn(obeying));
        match part {
            Part::Core(core) => (makers.make)(core).await,
            Part::Beside(beside) => {
                let plan = makers.beside.as_ref().expect("only who was asked for is started");
                (plan.make)(beside).await;
            }
        }
        if !told.stop.is_set() {
            // The supervisor may be gone before the last word; that is no failure of this worker. An error is kept by the flush.
            let _ = link.write_all(&[FINISHED]).await;
        }
        let _ = link.flush().await;
        Ok(())
    };
    shard.block_on(main, makers.location)
}

/// See [`LOOKS`].
async fn look_again() {
    for pause in LOOKS {
        crate::time::sleep(pause).await;
        let shard = crate::shard::current();
        let mut io = shard.io.borrow_mut();
        let (listeners, mut cx) = io.listeners(shard.clock.now());
        listeners.look_again(&mut cx);
    }
}

/// Says that it is ready, then does what the supervisor says until one of them ends.
async fn obey_all(link: Rc<UnixStream>, ready: Vec<u8>, told: Told) {
    // An error is seen by `recv` as well.
    let _ = link.write_all(&ready).await;
    while let Ok(Some(bytes)) = link.recv().await {
        for &byte in bytes.iter() {
            match Order::from_byte(byte) {
                Some(order) => told.obey(order),
                None if byte == PING => {
                    let _ = link.write_all(&[PONG]).await;
                }
                // Of a later version.
                None => {}
            }
        }
    }
    if !told.stop.is_set() {
        say(format_args!("worker of pid {}: the supervisor is gone; finishing", std::process::id()));
        told.obey(Order::Stop);
    }
}

/// This process is a worker: runs its loop on this thread.
///
/// # Errors
///
/// As [`run`].
pub(super) fn run_process<M, F>(
    worker: inherit::Worker,
    settings: &ShardSettings,
    makers: &Makers<M>,
) -> io::Result<()>
where
    M: Fn(Core) -> F,
    F: Future<Output = ()>,
{
    // Those of a terminal and of `kill -SIGNAL -GROUP` reach the workers too, but are the supervisor's affair.
    for kind in [
        SignalKind::interrupt(),
        SignalKind::hangup(),
        SignalKind::user_defined1(),
        SignalKind::user_defined2(),
    ] {
        disregard(kind)?;
    }
    // Executed by way of /proc it is called `exe`; only a name.
    let name = std::env::args_os().next().unwrap_or_default();
    let name = std::path::Path::new(&name).file_name().unwrap_or_default();
    if let Ok(name) = std::ffi::CString::new(name.as_encoded_bytes()) {
        let _ = rustix::thread::set_name(&name);
    }
    let inherit::Worker { link, slot, core, board, row, listeners } = worker;
    let board = board.unwrap_or_else(Board::nobody);
    // Alone: connections cannot be handed to another process.
    let group = Group::new(slot + 1, AcceptPolicy::default(), usize::MAX);
    let common = Common { board, readiness: Readiness::default(), group };
    let (part, settings) = part(slot, core, listeners, settings, row, common);
    run(part, link, &settings, true, makers)
}

/// What the workers of a process have in common.
#[derive(Clone, Debug)]
pub(super) struct Common {
    pub(super) board: Board,
    pub(super) readiness: Readiness,
    pub(super) group: Arc<Group>,
}

/// The part of a slot, and the settings of its loop.
pub(super) fn part(
    slot: usize,
    core: Option<usize>,
    listeners: Vec<std::net::TcpListener>,
    settings: &ShardSettings,
    row: Option<usize>,
    Common { board, readiness, group }: Common,
) -> (Part, ShardSettings) {
    let Some(core) = core else {
        let listener = listeners.into_iter().next();
        let beside = Beside { listener, board, readiness, stop: Stop::new() };
        return (Part::Beside(beside), beside::settings(settings));
    };
    let mut settings = settings.clone();
    settings.row = row.unwrap_or(0);
    // A process's own board has no rows to be given out: it makes them.
    settings.board = if row.is_some() || board.rows().is_none() { board } else { Board::nobody() };
    (Part::Core(Core::new(slot, core, listeners, readiness, group)), settings)
}

/// A worker that is a thread of this process.
#[derive(Debug)]
pub(super) struct Thread {
    thread: thread::JoinHandle<()>,
    /// Why it could not start.
    failure: Arc<Mutex<Option<io::Error>>>,
}

/// Starts the loop of a core on a thread of its own. Gives the supervisor's end of the link, which ends with the thread.
pub(super) fn start_thread<M, F>(
    part: Part,
    settings: ShardSettings,
    makers: Arc<Makers<M>>,
) -> io::Result<(Thread, std::os::unix::net::UnixStream)>
where
    M: Fn(Core) -> F + Send + Sync + 'static,
    F: Future<Output = ()>,
{
    let (link, of_worker) = std::os::unix::net::UnixStream::pair()?;
    // Closed when everything of the thread has been dropped, also by a panic.
    let alive = of_worker.try_clone()?;
    let failure = Arc::new(Mutex::new(None));
    let failed = Arc::clone(&failure);
    let name = part.core().map_or_else(|| "annulet-beside".to_owned(), |core| format!("annulet-{core}"));
    let thread = thread::Builder::new().name(name).spawn(move || {
        let _alive = alive;
        if let Err(error) = run(part, of_worker, &settings, false, &makers) {
            *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        }
    })?;
    Ok((Thread { thread, failure }, link))
}

impl Thread {
    /// Waits for its end: whether it panicked, and why it could not start.
    pub(super) fn join(self) -> (bool, Option<io::Error>) {
        let panicked = self.thread.join().is_err();
        (panicked, self.failure.lock().unwrap_or_else(PoisonError::into_inner).take())
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;
    use std::sync::mpsc;

    use super::*;
    use crate::net::TcpListener;

    /// More than enough for a loop of a thread to begin, and for all looks.
    const TIME_MAX: Duration = Duration::from_secs(60);

    #[test]
    fn a_look_finds_a_connection_that_another_ring_was_woken_for() {
        if !crate::run(async { crate::capabilities() }).has(crate::Feature::DeferTaskrun) {
            println!("skipped: without DEFER_TASKRUN no ring can be woken and do nothing");
            return;
        }
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let same = listener.try_clone().unwrap();
        let (waits, waiting) = mpsc::channel();
        let (end, ends) = mpsc::channel::<()>();
        // The first in the socket's queue of those to be woken. It is woken, and never enters its ring: as good as dead.
        let first = thread::spawn(move || {
            crate::run(async move {
                let listener = TcpListener::from_std(same).unwrap();
                drop(crate::spawn(async move { listener.accept().await }));
                // The loop has slept, so the accept is with the kernel.
                crate::time::sleep(Duration::from_millis(1)).await;
                waits.send(()).unwrap();
                let _ = ends.recv();
            });
        });
        waiting.recv_timeout(TIME_MAX).unwrap();
        crate::run(async move {
            let listener = TcpListener::from_std(listener).unwrap();
            let accepting = crate::spawn(async move { listener.accept().await.map(drop) });
            crate::time::sleep(Duration::from_millis(1)).await;
            let _client = TcpStream::connect(address).unwrap();
            drop(crate::spawn(look_again()));
            let found = crate::time::timeout(TIME_MAX, accepting).await;
            found.expect("it is found").expect("no panic").expect("no error");
        });
        drop(end);
        first.join().unwrap();
    }
}
