//! Starting loops: one on this thread, or one pinned thread per core.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::panic::Location;
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use crate::driver::DriverKind;
use crate::mesh::{Call, Lobby, Membership, submit_to};
use crate::metrics::{Board, Stall, Tell};
use crate::net::{AcceptPolicy, Connections, Group, ListenOptions, Share, TcpListener, steer, unsteer};
use crate::placement;
use crate::readiness::{Readiness, ReadinessState};
use crate::shard::{LoopPolicy, Runtime, Shard, ShardSettings, current};
use crate::stop::Stop;
use crate::supervisor::Supervision;
use crate::task::JoinHandle;

/// Runs `future` on a loop of this thread and gives its output.
///
/// Tasks that are still live when it is done are dropped; what they had in flight is cancelled and waited for.
///
/// # Examples
///
/// ```
/// let answer = annulet::run(async { 6 * 7 });
/// assert_eq!(answer, 42);
/// ```
///
/// # Panics
///
/// When neither a ring nor epoll can be had, for want of memory or descriptors (use [`Builder::run_local`] for an error instead), and
/// inside of a loop.
#[track_caller]
pub fn run<F: Future>(future: F) -> F::Output {
    match Builder::new().run_local(future) {
        Ok(output) => output,
        Err(error) => panic!("annulet: {error}"),
    }
}

/// Starts a task on this thread's loop. It runs whether its handle is awaited or not.
///
/// # Examples
///
/// ```
/// annulet::run(async {
///     let task = annulet::spawn(async { "done" });
///     assert_eq!(task.await.unwrap(), "done");
/// });
/// ```
///
/// # Panics
///
/// Outside of a loop, and with 16 777 214 live tasks.
#[track_caller]
pub fn spawn<F: Future + 'static>(future: F) -> JoinHandle<F::Output> {
    crate::task::Builder::new().spawn(future)
}

/// What this thread's ring can do.
///
/// # Panics
///
/// Outside of a loop.
#[track_caller]
pub fn capabilities() -> crate::Capabilities {
    *current().io.borrow().driver.capabilities()
}

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
    is_unpinned: bool,
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

    /// Runs `future` on a loop of this thread, which is not pinned.
    ///
    /// # Errors
    ///
    /// When there is no memory or descriptor for a ring, or none can be had and [`driver`](Self::driver) asks for it; the message names
    /// the likely cause and the cure.
    ///
    /// # Panics
    ///
    /// Inside of a loop.
    #[track_caller]
    pub fn run_local<F: Future>(&self, future: F) -> io::Result<F::Output> {
        crate::shard::assert_no_loop();
        let runtime = Runtime::new(Shard::new(&self.settings, None)?);
        let shard = Rc::clone(runtime.shard());
        Ok(shard.block_on(future, Location::caller()))
    }

    /// Starts one pinned thread per core; each runs the future that `make` gives for it.
    ///
    /// Returns when every loop runs. The loops end when their futures do; [`Loops::stop`] asks them to.
    ///
    /// # Errors
    ///
    /// An address that cannot be bound, a core that cannot be used, a ring that cannot be had. Nothing runs then.
    #[track_caller]
    pub fn start<M, F>(&self, make: M) -> io::Result<Loops>
    where
        M: Fn(Core) -> F + Send + Sync + 'static,
        F: Future<Output = ()>,
    {
        let location = Location::caller();
        crate::net::make_room_first();
        let cores = self.chosen_cores()?;
        let mut listeners: Vec<Vec<std::net::TcpListener>> = cores.iter().map(|_| Vec::new()).collect();
        let mut addresses = Vec::new();
        for address in &self.listen {
            let group = self.listen_options.bind_group(*address, cores.len())?;
            addresses.push(group[0].local_addr()?);
            if self.accept == AcceptPolicy::Steer {
                steer(&group, &cores)?;
            }
            group.into_iter().zip(&mut listeners).for_each(|(listener, of_core)| of_core.push(listener));
        }
        let stop = Stop::new();
        let readiness = Readiness::default();
        let lobby = Lobby::new(cores.len());
        let group = Group::new(cores.len(), self.accept, self.connections_max.unwrap_or(usize::MAX));
        let mut memberships = Membership::all(&lobby).into_iter();
        let make = Arc::new(make);
        let mut threads = Vec::new();
        let (started, starts) = mpsc::channel();
        let mut failed = None;
        for (index, (&core, listeners)) in cores.iter().zip(listeners).enumerate() {
            let (make, started, mut settings) = (Arc::clone(&make), started.clone(), self.settings.clone());
            settings.row += index;
            settings.ring.rings_others = cores.len() > 1;
            let alone = Core::new(index, core, listeners, readiness.clone(), Arc::clone(&group));
            let mut core = Core { stop: stop.clone(), red: stop.clone(), ..alone };
            core.listeners.is_steered = self.accept == AcceptPolicy::Steer;
            let pin_to = (!self.is_unpinned).then_some(core.core);
            let membership = memberships.next().expect("one for each core");
            let thread = thread::Builder::new().name(format!("annulet-{}", core.core)).spawn(move || {
                let runtime = match pin_and_make(pin_to, &settings) {
                    Ok(runtime) => runtime,
                    Err(error) => {
                        // The receiver waits for one answer per thread.
                        let _ = started.send(Err(error));
                        return;
                    }
                };
                let shard = Rc::clone(runtime.shard());
                shard.join_mesh(&membership);
                shard.seat.set(Some(core.index));
                let _ = started.send(Ok(*shard.io.borrow().driver.capabilities()));
                drop(started);
                shard.block_on(make(core), location);
            });
            match thread {
                Ok(thread) => threads.push(thread),
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        // Those that do not run count as ended for those that do.
        drop(memberships);
        drop(started);
        let mut capabilities = None;
        let mut running = 0;
        for start in starts {
            match start {
                Ok(has) => {
                    capabilities = Some(has);
                    running += 1;
                }
                Err(error) => failed = Some(error),
            }
        }
        if running < cores.len() && failed.is_none() {
            failed = Some(io::Error::other("a loop panicked while it was being made"));
        }
        let loops = Loops { threads, stop, group, readiness, addresses, cores, capabilities };
        match failed {
            None => {
                loops.readiness.move_to(ReadinessState::Ready);
                Ok(loops)
            }
            Some(error) => {
                loops.stop();
                // The error that is returned is the cause; a loop that panics on its way out adds nothing.
                let _ = loops.join();
                Err(error)
            }
        }
    }
}

pub(crate) fn pin_and_make(core: Option<usize>, settings: &ShardSettings) -> io::Result<Runtime> {
    core.map_or(Ok(()), placement::pin_current_thread)?;
    // Made by the thread that runs it: the memory is local to the core, and the ring is bound to its first user.
    Ok(Runtime::new(Shard::new(settings, core)?))
}

/// What the future of one core is made from.
#[derive(Debug)]
pub struct Core {
    index: usize,
    core: usize,
    listeners: Untaken,
    stop: Stop,
    /// Set before `stop`, or with it: without a supervisor it is the same one.
    red: Stop,
    readiness: Readiness,
    group: Arc<Group>,
}

/// Listeners that nobody has taken.
#[derive(Debug)]
struct Untaken {
    listeners: Vec<std::net::TcpListener>,
    /// They leave a steered group when they are closed. A supervisor's do not: it has them as well.
    is_steered: bool,
}

impl Drop for Untaken {
    fn drop(&mut self) {
        if self.is_steered {
            self.listeners.iter().for_each(|listener| unsteer(listener.as_fd()));
        }
    }
}

impl Core {
    pub(crate) fn new(
        index: usize,
        core: usize,
        listeners: Vec<std::net::TcpListener>,
        readiness: Readiness,
        group: Arc<Group>,
    ) -> Core {
        let listeners = Untaken { listeners, is_steered: false };
        Core { index, core, listeners, stop: Stop::new(), red: Stop::new(), readiness, group }
    }

    /// What its supervisor sets: that the end is near, and that it has come.
    pub(crate) fn told(&self) -> (Stop, Stop) {
        (self.red.clone(), self.stop.clone())
    }

    /// The place of this core among those chosen, from zero.
    pub fn index(&self) -> usize {
        self.index
    }

    /// The number of the core, as the kernel counts.
    pub fn core(&self) -> usize {
        self.core
    }

    /// This core's listeners, in the order of [`Builder::listen`].
    ///
    /// # Panics
    ///
    /// On another thread than the core's.
    pub fn take_listeners(&mut self) -> Vec<TcpListener> {
        let (group, index) = (&self.group, self.index);
        let listeners = std::mem::take(&mut self.listeners.listeners);
        let listeners = listeners.into_iter().enumerate();
        listeners
            .map(|(address, listener)| {
                let listener = TcpListener::from_std(listener).expect("a bound socket can be made blocking");
                listener.with_share(Share::enter(group, index, address))
            })
            .collect()
    }

    /// Runs a closure, and the future that it makes, on the core at place `core`, and brings the result back: see
    /// [`mesh::submit_to`](submit_to), which does the same from any task of a loop.
    ///
    /// # Errors
    ///
    /// As there.
    ///
    /// # Panics
    ///
    /// As there.
    #[track_caller]
    pub fn submit_to<F, Fut>(&self, core: usize, closure: F) -> Call<Fut::Output>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future + 'static,
        Fut::Output: Send + 'static,
    {
        submit_to(core, closure)
    }

    /// How connections are spread over the cores.
    pub fn connections(&self) -> Connections {
        Connections::new(Arc::clone(&self.group))
    }

    /// Done when the loops are asked to stop.
    pub fn stopped(&self) -> crate::stop::Stopped {
        self.stop.stopped()
    }

    /// Done when the end is near: [`stopped`](Self::stopped) follows after the drain delay
    /// ([`Builder::drain_delay`]), or comes with it where there is none. The time to tell clients to go elsewhere, while new
    /// ones are still served.
    pub fn draining(&self) -> crate::stop::Stopped {
        self.red.stopped()
    }

    /// What to tell a load balancer; the same for all cores of the process.
    pub fn readiness(&self) -> &Readiness {
        &self.readiness
    }
}

/// Running loops; made by [`Builder::start`]. Dropping it detaches them.
pub struct Loops {
    threads: Vec<thread::JoinHandle<()>>,
    stop: Stop,
    group: Arc<Group>,
    readiness: Readiness,
    addresses: Vec<SocketAddr>,
    cores: Vec<usize>,
    capabilities: Option<crate::Capabilities>,
}

impl Loops {
    /// Where they listen, in the order of [`Builder::listen`].
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The cores they run on.
    pub fn cores(&self) -> &[usize] {
        &self.cores
    }

    /// What their rings can do.
    pub fn capabilities(&self) -> Option<crate::Capabilities> {
        self.capabilities
    }

    /// What to tell a load balancer: ready from now on, draining once they are asked to stop.
    pub fn readiness(&self) -> &Readiness {
        &self.readiness
    }

    /// How connections are spread over the cores.
    pub fn connections(&self) -> Connections {
        Connections::new(Arc::clone(&self.group))
    }

    /// Asks every loop to stop: [`Core::stopped`] is done from now on.
    pub fn stop(&self) {
        self.readiness.move_to(ReadinessState::Draining);
        self.stop.stop();
    }

    /// Waits until every loop has ended.
    ///
    /// # Errors
    ///
    /// When one panicked.
    pub fn join(self) -> io::Result<()> {
        let mut panicked = false;
        for thread in self.threads {
            panicked |= thread.join().is_err();
        }
        if panicked { Err(io::Error::other("a loop panicked")) } else { Ok(()) }
    }
}

impl fmt::Debug for Loops {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loops")
            .field("cores", &self.cores)
            .field("addresses", &self.addresses)
            .finish_non_exhaustive()
    }
}
