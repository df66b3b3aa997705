//! What loops are made with.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use crate::driver::DriverKind;
use crate::metrics::{Board, Stall, Tell};
use crate::net::{AcceptPolicy, ListenOptions};
use crate::placement;
use crate::shard::{LoopPolicy, ShardSettings};
use crate::supervisor::Supervision;

/// How loops are made.
///
/// # Examples
///
/// A loop on this thread:
///
/// ```
/// annulet::Builder::new().run_local(async {}).unwrap();
/// ```
///
/// One pinned thread per core, each with a listener of its own:
///
/// ```
/// let loops = annulet::Builder::new()
///     .listen("127.0.0.1:0".parse().unwrap())
///     .start(|mut core| async move {
///         let listener = core.take_listeners().pop().unwrap();
///         let stopped = core.stopped();
///         // … serve `listener` until `stopped` …
///         drop(listener);
///         stopped.await;
///     })
///     .unwrap();
/// loops.stop();
/// loops.join().unwrap();
/// ```
#[derive(Clone, Debug, Default)]
pub struct Builder {
    pub(crate) settings: ShardSettings,
    pub(crate) cores: Option<Vec<usize>>,
    pub(crate) listen: Vec<SocketAddr>,
    pub(super) is_unpinned: bool,
    pub(crate) accept: AcceptPolicy,
    pub(crate) connections_max: Option<usize>,
    pub(crate) listen_options: ListenOptions,
    /// Only if nothing else is listened on.
    pub(crate) listen_default: Option<SocketAddr>,
    pub(crate) supervision: Supervision,
}

impl Builder {
    /// The defaults: every core that the process may use.
    pub fn new() -> Self {
        Self::default()
    }

    /// The cores to run on, one loop each, in this order.
    pub fn cores(mut self, cores: impl IntoIterator<Item = usize>) -> Self {
        self.cores = Some(cores.into_iter().collect());
        self
    }

    /// The cores of a plan, which also knows the topology of the machine and its CPU quota. Loops that a quota has made fewer
    /// than the cores are not bound to any: the kernel may then run them wherever another container leaves room.
    ///
    /// # Examples
    ///
    /// ```
    /// use annulet::placement::{Plan, Policy};
    ///
    /// let plan = Plan::new(&Policy::PerPhysicalCore).unwrap();
    /// let loops = annulet::Builder::new().placement(&plan).start(|_core| async {}).unwrap();
    /// assert_eq!(loops.cores(), plan.cores());
    /// loops.join().unwrap();
    /// ```
    pub fn placement(self, plan: &placement::Plan) -> Self {
        self.cores(plan.cores().iter().copied()).pinned(!plan.is_cut_by_quota())
    }

    /// Whether each thread is bound to its core; it is, unless this says otherwise. Without it the kernel moves threads as it
    /// sees fit, and the numbers of the cores are names only.
    pub fn pinned(mut self, is_pinned: bool) -> Self {
        self.is_unpinned = !is_pinned;
        self
    }

    /// Listens on `address` on every core, with SO_REUSEPORT; may be called again for more addresses.
    pub fn listen(mut self, address: SocketAddr) -> Self {
        self.listen.push(address);
        self
    }

    /// Which core serves a new connection of the addresses listened on.
    pub fn accept(mut self, policy: AcceptPolicy) -> Self {
        self.accept = policy;
        self
    }

    /// Connections that one core serves at the most, of the addresses listened on. A core at its limit hands what it accepts to
    /// the one with the fewest; when all are full none accepts, and clients wait in the kernel's queues. There is no limit
    /// unless this sets one.
    pub fn connections_max(mut self, connections: usize) -> Self {
        self.connections_max = Some(connections);
        self
    }

    /// The options of the sockets of [`listen`](Self::listen), of all of them.
    pub fn listen_options(mut self, options: ListenOptions) -> Self {
        self.listen_options = options;
        self
    }

    /// Listens on `address` when there is nothing else to listen on: no other address was given, no service manager has
    /// handed sockets over. Only when [supervised](Self::supervise).
    pub fn listen_default(mut self, address: SocketAddr) -> Self {
        self.listen_default = Some(address);
        self
    }

    /// How the loops wait.
    pub fn policy(mut self, policy: LoopPolicy) -> Self {
        self.settings.policy = policy;
        self
    }

    /// The most receive buffers of 4 KiB that one core may have, up to 8192, which is the default.
    pub fn receive_buffers_max(mut self, buffers: usize) -> Self {
        self.settings.buffers_max = Some(buffers);
        self
    }

    /// The entries of submission and completion queue; rounded up to powers of two. The default is 256 and 8192.
    pub fn ring_entries(mut self, submission: u32, completion: u32) -> Self {
        self.settings.ring.sq_entries = submission.clamp(1, 32_768);
        self.settings.ring.cq_entries = completion.clamp(submission.max(2), 65_536);
        self
    }

    /// The kernel interface below the loops, instead of the ring, or epoll on a machine that forbids rings. `ANNULET_DRIVER`
    /// chooses for programs that do not. [`Capabilities::driver`](crate::Capabilities::driver) says which it is.
    ///
    /// The same program runs on both. With epoll it needs about four system calls for a request instead of a fraction of one;
    /// [`LoopPolicy`]'s ways to wait have no effect; file operations are carried out by four threads, and one that has begun is not
    /// cancelled: whoever opens FIFOs that nobody answers takes the threads from all others.
    ///
    /// # Examples
    ///
    /// ```
    /// use annulet::DriverKind;
    ///
    /// let driver = annulet::Builder::new()
    ///     .driver(DriverKind::Epoll)
    ///     .run_local(async { annulet::capabilities().driver() })
    ///     .unwrap();
    /// assert_eq!(driver, DriverKind::Epoll);
    /// ```
    pub fn driver(mut self, driver: DriverKind) -> Self {
        self.settings.ring.driver = Some(driver);
        self
    }

    /// Features that the ring is not to use although the kernel has them, as in `ANNULET_RING_MASK`: names separated by
    /// commas.
    pub fn ring_mask(mut self, mask: &'static str) -> Self {
        self.settings.ring.mask = Some(mask);
        self
    }

    /// Where the counters of the loops are; the default is the board of the process. The first loop has row `first`, the next one
    /// the row behind it.
    ///
    /// # Examples
    ///
    /// ```
    /// use annulet::metrics::Board;
    ///
    /// let board = Board::shared(4).unwrap();
    /// annulet::Builder::new().metrics_board(board.clone(), 2).run_local(async move {
    ///     assert_eq!(board.read()[0].worker(), 2);
    /// }).unwrap();
    /// ```
    pub fn metrics_board(mut self, board: Board, first: usize) -> Self {
        self.settings.board = board;
        self.settings.row = first;
        self
    }

    /// How long a turn of a loop may take before somebody is told ([`on_stall`](Self::on_stall)); the default is 100 ms. `None`:
    /// nobody is told.
    pub fn stall_limit(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.settings.stall.limit = limit.into();
        self
    }

    /// Who is told of a turn or a poll that took longer than the [limit](Self::stall_limit), at most once a second for each loop;
    /// the default is a line on stderr. It is called on the loop's thread.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let builder = annulet::Builder::new().stall_limit(Duration::from_millis(5)).on_stall(|stall| println!("{stall}"));
    /// builder.run_local(async {
    ///     std::thread::sleep(Duration::from_millis(20));
    ///     annulet::yield_now().await;
    /// }).unwrap();
    /// ```
    pub fn on_stall(mut self, tell: impl Fn(&Stall) + Send + Sync + 'static) -> Self {
        self.settings.stall.tell = Tell::new(tell);
        self
    }

    /// Whether the rings refuse what annulet never asks of them (the default): opcodes, flags and calls that are on no list of ours
    /// are answered with EACCES, so that a bug which reaches the ring's memory reaches less beyond it. Needs Linux 5.10.
    pub fn ring_restrictions(mut self, restricted: bool) -> Self {
        self.settings.ring.restricted = restricted;
        self
    }

    /// Whether time stands still until everything waits and then jumps to the next deadline: for tests.
    pub fn virtual_clock(mut self, is_virtual: bool) -> Self {
        self.settings.virtual_clock = is_virtual;
        self
    }

    pub(crate) fn chosen_cores(&self) -> io::Result<Vec<usize>> {
        match &self.cores {
            Some(cores) if cores.is_empty() => {
                Err(io::Error::new(io::ErrorKind::InvalidInput, "no core to run on was given"))
            }
            Some(cores) => Ok(cores.clone()),
            None => placement::available_cores(),
        }
    }
}
