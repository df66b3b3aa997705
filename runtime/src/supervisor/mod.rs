//! Workers, watched over: threads of this process or processes of their own, restarted when they die, replaced one by one,
//! handed over to a new binary, and ended in good order.
//!
//! ```text
//!   watch     the supervisor: one wait for signals, ends and reports      plan        what to do when; pure
//!   body      a worker as the supervisor has it                           worker      its own side of the link
//!   link      orders and reports, bytes                                   heard       its signals
//!   process   executing this program again, or its successor              inherit     what that process finds
//!   sockets   listening sockets, owned until workers are told to stop     privileges  giving them up
//!   manager   what systemd is told                                        start       a thread or a process for a slot
//!   beside    what runs beside the workers and tells of them              rows        whose counters are where
//! ```
//!
//! In processes mode the supervisor makes no ring and no thread. A worker gets its listening socket by inheritance and runs
//! one pinned loop. A socket pair links the two: by its end each learns that the other is gone.
//!
//! Start with [`Builder::supervise`]. Not done here: limits on what workers use (cgroups), restarting the supervisor itself
//! (a service manager), sharing anything between worker processes but their sockets and counters.

mod beside;
mod body;
mod heard;
mod inherit;
mod link;
mod manager;
mod plan;
mod privileges;
mod process;
mod rows;
mod sockets;
mod start;
mod watch;
mod worker;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::panic::Location;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::metrics::Board;
use crate::net::{AcceptPolicy, Connections, Group};
use crate::readiness::Readiness;
use crate::runtime::{Builder, Core};
use crate::signal::Signal;
pub use beside::Beside;
use beside::BesidePlan;
use heard::Heard;
use inherit::Role;
use rows::Rows;
use sockets::Sockets;
use watch::Watch;
use worker::Makers;

/// What the workers of a [supervised](Builder::supervise) program are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Workers {
    /// Threads of one process. They may share memory, and a crash ends them all.
    #[default]
    Threads,
    /// Processes, executed anew from this program. They share their listening sockets, and the board of their counters.
    Processes,
}

/// What was started, for whoever greets; see [`Builder::supervise`].
#[derive(Clone, Debug)]
pub struct Started {
    /// Where it listens, in the order of [`Builder::listen`]; sockets of a service manager that were not asked for follow.
    pub addresses: Vec<SocketAddr>,
    /// Where what runs [beside](Builder::beside) the workers listens.
    pub beside: Option<SocketAddr>,
    /// The cores, one worker each.
    pub cores: Vec<usize>,
    /// What the workers' rings can do.
    pub capabilities: Option<crate::Capabilities>,
    /// What to tell a load balancer. In processes mode each worker has its own as well ([`Core::readiness`]).
    pub readiness: Readiness,
    /// The counters of all workers. A worker that takes another's place has a row of its own.
    pub board: Board,
    /// How connections are spread over the cores; with [`Workers::Threads`]. An old worker's count there with those of the new
    /// one.
    pub connections: Option<Connections>,
}

/// Why a supervised program has come to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ended {
    /// A signal asked for it.
    Signalled(Signal),
    /// Another process has taken over (SIGUSR2).
    Replaced,
    /// The futures of all workers were done by themselves.
    Finished,
    /// This process is a worker, and its part is done.
    Worker,
}

impl Builder {
    /// What workers are, for [`supervise`](Self::supervise). Threads, if nothing is said.
    pub fn workers(mut self, workers: Workers) -> Self {
        self.supervision.workers = workers;
        self
    }

    /// How long accepting goes on after a signal has asked for the end, so that a load balancer sees it coming
    /// ([`Core::readiness`]). Not at all, if nothing is said.
    pub fn drain_delay(mut self, delay: Duration) -> Self {
        self.supervision.drain_delay = delay;
        self
    }

    /// How long a worker may take to end once it was asked to; 30 s, if nothing is said. The worker's future should keep to it
    /// by itself: five seconds later it is killed. A thread cannot be: at the end the process goes with it, and one that was
    /// replaced is left alone.
    pub fn drain_limit(mut self, limit: Duration) -> Self {
        self.supervision.drain_limit = limit;
        self
    }

    /// Runs one more loop beside the workers, which tells of them: an admin listener on `address`. It is watched over and
    /// replaced as they are, but not bound to a core, not counted, and in the end it goes last. With
    /// [`Workers::Processes`] it is a process as well, for the supervisor has no loop. Only when
    /// [supervised](Self::supervise).
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use annulet::{Builder, Workers};
    ///
    /// let builder = Builder::new().workers(Workers::Processes).beside(
    ///     "127.0.0.1:9100".parse().unwrap(),
    ///     |mut beside| async move {
    ///         let listener = beside.take_listener().unwrap();
    ///         while let Ok(stream) = listener.accept().await {
    ///             let text = annulet::metrics::prometheus(&beside.board().read());
    ///             // … answer with `text` …
    /// #           drop((stream, text));
    ///         }
    ///     },
    /// );
    /// ```
    pub fn beside<M, F>(mut self, address: SocketAddr, make: M) -> Self
    where
        M: Fn(Beside) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + 'static,
    {
        self.supervision.beside = Some(BesidePlan::new(address, make));
        self
    }

    /// Becomes this user once the addresses are bound, before there is a thread or a ring. For programs that root starts.
    pub fn user(mut self, name: impl Into<String>) -> Self {
        self.supervision.user = Some(name.into());
        self
    }

    /// Whether what is executed from here on may gain privileges, by a set-user-ID program for example. Not, if nothing is
    /// said: see PR_SET_NO_NEW_PRIVS in prctl(2).
    pub fn new_privileges(mut self, allowed: bool) -> Self {
        self.supervision.new_privileges = allowed;
        self
    }

    /// Runs one worker per core, watched over, until a signal ends them. Returns when all is over.
    ///
    /// `make` gives the future of a worker, as for [`start`](Self::start). `on_ready` is called once, when all workers run.
    ///
    /// | signal | what happens |
    /// |---|---|
    /// | SIGTERM, SIGINT | readiness says draining; after the drain delay [`Core::stopped`] is done, and workers end. A second one: at once |
    /// | SIGHUP | each worker is replaced: a new one is started on the same socket, and the old one ends once it is ready |
    /// | SIGUSR2 | the program is executed anew (looked up by the name it was started by) with the same sockets; once it is ready, this one ends |
    /// | SIGUSR1 | handed on to worker processes that are ready, where it does nothing unless they listen for it |
    ///
    /// As the first process of a container (pid 1) it refuses SIGUSR2: the container would end with it.
    ///
    /// A worker that dies is replaced: at once, or, if it has served for less than a second, after pauses that double from
    /// 100 ms. If it had not been ready, the eighth time in a row everything ends with an error. Listening sockets stay open
    /// all the while: who connects, waits. They are closed when the end has begun and the drain delay is over. A worker process
    /// that somebody sends SIGTERM leaves, and another is started at once.
    ///
    /// With [`Workers::Processes`] this program is executed again for each worker, with the same arguments. So `main` runs
    /// in the workers as well, up to this call, which runs the worker's loop there and returns [`Ended::Worker`]. In the
    /// first process, the supervisor, there should be no thread by then, and no loop.
    ///
    /// Under systemd it accepts sockets (LISTEN_FDS; those that were not asked for by [`listen`](Self::listen) are served
    /// as well), and tells of its state with sd_notify(3), the watchdog included: a sign of life means that every worker's loop
    /// has turned since the last one.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use annulet::{Builder, Workers};
    ///
    /// Builder::new()
    ///     .workers(Workers::Processes)
    ///     .listen("127.0.0.1:8000".parse().unwrap())
    ///     .supervise(
    ///         |started| println!("listening on {:?}", started.addresses),
    ///         |mut core| async move {
    ///             let listener = core.take_listeners().pop().unwrap();
    ///             annulet::spawn(async move {
    ///                 while let Ok(stream) = listener.accept().await {
    ///                     // … serve `stream` …
    /// #                   drop(stream);
    ///                 }
    ///             });
    ///             core.stopped().await;
    ///         },
    ///     )
    ///     .unwrap();
    /// ```
    ///
    /// Workers have no mesh ([`submit_to`](crate::mesh::submit_to)): its places are taken once, and workers come and go. Threads
    /// hand connections to each other all the same ([balance](AcceptPolicy::Balance),
    /// [`connections_max`](Self::connections_max), [`Started::connections`]): what is on its way to one that ends or panics goes to
    /// another, and a worker's successor is counted together with it. Processes do not; there both are refused. Counters of all
    /// workers are on one board ([`Started::board`]).
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start); and when workers fail to start again and again.
    ///
    /// # Panics
    ///
    /// Inside of a loop.
    #[track_caller]
    pub fn supervise<M, F>(&self, on_ready: impl FnOnce(&Started), make: M) -> io::Result<Ended>
    where
        M: Fn(Core) -> F + Send + Sync + 'static,
        F: Future<Output = ()>,
    {
        crate::shard::assert_no_loop();
        let makers = Makers { make, beside: self.supervision.beside.clone(), location: Location::caller() };
        let (activated, inherited, predecessor) = match Role::find()? {
            Role::Worker(worker) => {
                crate::net::make_room_first();
                worker::run_process(worker, &self.settings, &makers)?;
                return Ok(Ended::Worker);
            }
            Role::First { activated } => (activated, Vec::new(), None),
            Role::Successor { link, sockets } => (Vec::new(), sockets, Some(link)),
        };
        self.refuse_what_processes_cannot()?;
        // First of all: from here on no signal ends the process by itself.
        let heard = Heard::catch()?;
        let cores = self.chosen_cores()?;
        let slots = cores.len();
        let is_given = !self.listen.is_empty() || !activated.is_empty() || !inherited.is_empty();
        let default = self.listen_default.filter(|_| !is_given);
        let asked: Vec<SocketAddr> = self.listen.iter().copied().chain(default).collect();
        let beside = self.supervision.beside.as_ref().map(|beside| beside.address);
        let sockets = Sockets::new(&self.listen_options, &asked, beside, activated, inherited, slots)?;
        if self.accept == AcceptPolicy::Steer {
            sockets.steer(&cores)?;
        }
        let sockets = Rc::new(sockets);
        if let Some(user) = &self.supervision.user {
            privileges::become_user(user)?;
        }
        if !self.supervision.new_privileges {
            privileges::gain_no_more()?;
        }
        let mode = self.supervision.workers;
        let board = match (mode, &self.settings.board) {
            (Workers::Processes, board) if board.rows().is_none() => Board::shared(rows::needed(slots))?,
            (_, board) => board.clone(),
        };
        let group = Group::watched(slots, self.accept, self.connections_max.unwrap_or(usize::MAX));
        let started = Started {
            addresses: sockets.addresses(),
            beside: sockets.beside().map(|(_, bound)| bound),
            cores,
            capabilities: None,
            readiness: Readiness::default(),
            board: board.clone(),
            connections: (mode == Workers::Threads).then(|| Connections::new(Arc::clone(&group))),
        };
        let start = match mode {
            Workers::Processes => start::processes(&sockets, &started),
            Workers::Threads => start::threads(&sockets, &started, &self.settings, &group, Arc::new(makers)),
        };
        let (delay, limit) = (self.supervision.drain_delay, self.supervision.drain_limit);
        let plan = plan::Plan::new(slots, beside.is_some(), mode == Workers::Processes, delay, limit);
        let rows = Rows::new(board, self.settings.row);
        let ended = Watch::new(plan, heard, start, rows, sockets, started, predecessor)
            .and_then(|watch| watch.run(on_ready));
        group.clear();
        ended
    }

    /// Connections are handed from core to core within one process.
    fn refuse_what_processes_cannot(&self) -> io::Result<()> {
        let refuse = |what: &str| {
            let text = format!(
                "{what} needs cores that hand connections to each other, which processes do not, because one that is killed \
                 would take along what is on its way to it: let the workers be threads, or leave it out"
            );
            Err(io::Error::new(io::ErrorKind::InvalidInput, text))
        };
        match (self.supervision.workers, self.accept, self.connections_max) {
            (Workers::Processes, AcceptPolicy::Balance, _) => refuse("accepting by balance"),
            (Workers::Processes, _, Some(_)) => refuse("a limit of connections for each core"),
            _ => Ok(()),
        }
    }
}

/// What a builder knows about supervision.
#[derive(Clone, Debug)]
pub(crate) struct Supervision {
    workers: Workers,
    drain_delay: Duration,
    drain_limit: Duration,
    user: Option<String>,
    new_privileges: bool,
    beside: Option<BesidePlan>,
}

impl Default for Supervision {
    fn default() -> Self {
        Supervision {
            workers: Workers::default(),
            drain_delay: Duration::ZERO,
            drain_limit: Duration::from_secs(30),
            user: None,
            new_privileges: false,
            beside: None,
        }
    }
}
