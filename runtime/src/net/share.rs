//! How the cores that listen on one address share its connections: the policy, the counts, and the hand-over.
//!
//! Counts are atomic and change once a connection, not once a request. What is handed over is a descriptor that no operation
//! of a ring was armed on. It lies on the desk of the chosen core and address until the listener there takes it; a listener that
//! closes takes what lies there along, and what one leaves behind (its loop has panicked) goes to another core, or waits for the
//! worker that takes its place. So a desk outlives its listeners, and what lies on it is nobody's but the desk's.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::shard::with_current;

/// Which core serves a new connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AcceptPolicy {
    /// The one that the kernel chooses by a hash of the addresses (SO_REUSEPORT, socket(7)): nothing is shared. Few
    /// connections may be spread unevenly.
    #[default]
    Reuseport,
    /// The one on which the connection's first packet was received (SO_ATTACH_REUSEPORT_CBPF): its packets and its work stay in
    /// one cache. Even only if the network card spreads its queues over the same cores.
    Steer,
    /// The one with the fewest connections: who accepts one and has clearly more than another hands it over. For few, long
    /// connections.
    Balance,
}

impl FromStr for AcceptPolicy {
    type Err = String;

    /// Reads `reuseport`, `steer` or `balance`.
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "reuseport" => Ok(AcceptPolicy::Reuseport),
            "steer" => Ok(AcceptPolicy::Steer),
            "balance" => Ok(AcceptPolicy::Balance),
            _ => Err(format!("{text:?} is no policy; write reuseport, steer or balance")),
        }
    }
}

/// Who has a few more connections than the least loaded keeps what it accepts: one in so many.
const SLACK: usize = 32;

/// Addresses whose connections are handed over: one for each bit of a word. Those of the addresses beyond stay where they were
/// accepted.
const ADDRESSES_MAX: usize = u64::BITS as usize;

fn bit_of(address: usize) -> u64 {
    if address < ADDRESSES_MAX { 1 << address } else { 0 }
}

/// One core, on cache lines of its own. With a supervisor its old worker and its new one share it.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Seat {
    /// Connections that live here or are on their way here.
    live: AtomicUsize,
    /// Connections that were served here, ever.
    served: AtomicU64,
    /// Connections that this core gave away, ever.
    handed_over: AtomicU64,
    /// The addresses whose listener here takes connections over, a bit for each: a hint, the desk knows.
    open: AtomicU64,
    desks: Mutex<Vec<Desk>>,
}

/// What was handed over to the listener of one address on one core.
#[derive(Debug, Default)]
struct Desk {
    /// The number of the share that takes what lies here; the last one that came.
    owner: Option<u64>,
    waker: Option<Waker>,
    connections: VecDeque<Connection>,
}

type Connection = (OwnedFd, Box<Counted>);

/// What the cores have in common.
#[derive(Debug)]
pub(crate) struct Group {
    policy: AcceptPolicy,
    /// Connections of a core at the most.
    max: usize,
    seats: Box<[Seat]>,
    /// Listeners come and go, because a supervisor watches over their loops; it keeps the sockets.
    is_watched: bool,
    /// The number of the next share.
    next: AtomicU64,
    /// Those in `waiting`.
    waiters: AtomicUsize,
    /// Acceptors that wait for room on any core, by the number of their share.
    waiting: Mutex<Vec<(u64, Waker)>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Group {
    pub(crate) fn new(cores: usize, policy: AcceptPolicy, max: usize) -> Arc<Self> {
        Arc::new(Self::of(cores, policy, max, false))
    }

    /// For workers that are threads and come and go.
    pub(crate) fn watched(cores: usize, policy: AcceptPolicy, max: usize) -> Arc<Self> {
        Arc::new(Self::of(cores, policy, max, true))
    }

    fn of(cores: usize, policy: AcceptPolicy, max: usize, is_watched: bool) -> Self {
        let seats = (0..cores).map(|_| Seat::default()).collect();
        let (next, waiters, waiting) = Default::default();
        Group { policy, max: max.max(1), seats, is_watched, next, waiters, waiting }
    }

    fn live(&self, core: usize) -> usize {
        self.seats[core].live.load(Ordering::SeqCst)
    }

    /// Whether there is no core for a connection of an address that `here` would accept.
    fn is_full(&self, here: usize, address: usize) -> bool {
        let is_choice = |core| core == here || self.is_open(core, address);
        // Without a limit nobody else's counts are looked at.
        self.max != usize::MAX
            && (0..self.seats.len()).all(|core| !is_choice(core) || self.live(core) >= self.max)
    }

    /// Whether `core` takes over connections of an address. SeqCst: see [`wait`](Self::wait).
    fn is_open(&self, core: usize, address: usize) -> bool {
        self.seats[core].open.load(Ordering::SeqCst) & bit_of(address) != 0
    }

    /// The core for a connection that `here` has accepted, which is counted there; none if all are full.
    fn choose(&self, here: usize, address: usize) -> Option<usize> {
        let own = self.live(here);
        if own >= self.max || self.policy == AcceptPolicy::Balance {
            let others = (0..self.seats.len())
                .filter(|&core| core != here && self.is_open(core, address))
                .map(|core| (self.live(core), core));
            if let Some((least, core)) = others.min()
                && (own >= self.max || least + own / SLACK < own)
                && self.enter(core)
            {
                return Some(core);
            }
        }
        self.enter(here).then_some(here)
    }

    /// Counts a connection at `core`, unless it is full.
    fn enter(&self, core: usize) -> bool {
        let live = &self.seats[core].live;
        live.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |count| (count < self.max).then_some(count + 1))
            .is_ok()
    }

    /// A connection that was counted at `core` is not there, or not any more.
    fn leave(&self, core: usize) {
        self.seats[core].live.fetch_sub(1, Ordering::SeqCst);
        self.wake_waiting();
    }

    /// The desk of an address on a core.
    fn desk<R>(&self, core: usize, address: usize, f: impl FnOnce(&mut Desk) -> R) -> R {
        let mut desks = lock(&self.seats[core].desks);
        if desks.len() <= address {
            desks.resize_with(address + 1, Desk::default);
        }
        f(&mut desks[address])
    }

    /// A share takes connections of an address over on a core from now on, and what lies there.
    fn open(&self, core: usize, address: usize, share: u64) {
        let old = self.desk(core, address, |desk| {
            desk.owner = Some(share);
            // Under the lock, so that it says what the desk says. SeqCst: see `wait`.
            self.seats[core].open.fetch_or(bit_of(address), Ordering::SeqCst);
            desk.waker.take()
        });
        drop(old);
        self.wake_waiting();
    }

    /// And not any more, unless another has come meanwhile. Gives what lies there.
    fn close(&self, core: usize, address: usize, share: u64) -> VecDeque<Connection> {
        let (old, left) = self.desk(core, address, |desk| {
            if desk.owner != Some(share) {
                return (None, VecDeque::new());
            }
            desk.owner = None;
            self.seats[core].open.fetch_and(!bit_of(address), Ordering::SeqCst);
            (desk.waker.take(), std::mem::take(&mut desk.connections))
        });
        drop(old);
        left
    }

    /// Puts a connection on a desk, which is counted there.
    ///
    /// # Errors
    ///
    /// The connection, when nobody takes it over there.
    fn hand_in(&self, core: usize, address: usize, connection: Connection) -> Result<(), Connection> {
        let waker = self.desk(core, address, |desk| {
            if desk.owner.is_none() {
                return Err(connection);
            }
            desk.connections.push_back(connection);
            Ok(desk.waker.take())
        });
        waker.map(|waker| waker.into_iter().for_each(Waker::wake))
    }

    /// What a listener leaves behind goes to another core; if none takes it over, it waits for the worker that will come.
    fn find_another(self: &Arc<Self>, here: usize, address: usize, fd: OwnedFd) {
        let others = (0..self.seats.len()).filter(|&core| core != here && self.is_open(core, address));
        // Counted where it goes, also beyond the limit: it was let in.
        let core = others.min_by_key(|&core| self.live(core)).unwrap_or(here);
        let Err((fd, elsewhere)) = self.hand_in(core, address, (fd, self.count(core))) else { return };
        if self.is_watched {
            let connection = (fd, self.count(here));
            drop(elsewhere);
            // Should one have come meanwhile, it takes it like any other.
            let waker = self.desk(here, address, |desk| {
                desk.connections.push_back(connection);
                desk.waker.take()
            });
            waker.into_iter().for_each(Waker::wake);
        }
    }

    /// Closes what lies on the desks when no worker will come any more. Each of them holds on to the group, which holds the desks.
    pub(crate) fn clear(&self) {
        for seat in &self.seats {
            let desks = std::mem::take(&mut *lock(&seat.desks));
            // Without the lock: each connection counts itself off.
            drop(desks);
        }
    }

    /// Counts a connection at a core, whether it is full or not.
    fn count(self: &Arc<Self>, core: usize) -> Box<Counted> {
        self.seats[core].live.fetch_add(1, Ordering::SeqCst);
        Box::new(Counted { group: Arc::clone(self), core })
    }

    /// There is room on some core.
    fn wake_waiting(&self) {
        // SeqCst, as the change before it and both in `wait`: either this sees who waits, or that sees the room.
        if self.waiters.load(Ordering::SeqCst) > 0 {
            let mut waiting = lock(&self.waiting);
            let wakers = std::mem::take(&mut *waiting);
            self.waiters.store(0, Ordering::SeqCst);
            drop(waiting);
            wakers.into_iter().for_each(|(_, waker)| waker.wake());
        }
    }

    /// A share waits for room on any core. True if there is some already.
    fn wait(&self, here: usize, address: usize, share: u64, waker: Waker) -> bool {
        let mut waiting = lock(&self.waiting);
        let old = match waiting.iter_mut().find(|(of, _)| *of == share) {
            Some((_, old)) => Some(std::mem::replace(old, waker)),
            None => {
                waiting.push((share, waker));
                self.waiters.store(waiting.len(), Ordering::SeqCst);
                None
            }
        };
        drop(waiting);
        drop(old);
        !self.is_full(here, address)
    }

    /// It does not wait any more.
    fn wait_no_more(&self, share: u64) {
        if self.waiters.load(Ordering::SeqCst) > 0 {
            let mut waiting = lock(&self.waiting);
            let place = waiting.iter().position(|(of, _)| *of == share);
            let old = place.map(|place| waiting.swap_remove(place));
            self.waiters.store(waiting.len(), Ordering::SeqCst);
            drop(waiting);
            drop(old);
        }
    }
}

/// How connections are spread over the cores; from [`Loops::connections`](crate::Loops::connections). It can be asked on any
/// thread.
///
/// # Examples
///
/// ```
/// let loops = annulet::Builder::new()
///     .listen("127.0.0.1:0".parse().unwrap())
///     .start(|core| async move { core.stopped().await })
///     .unwrap();
/// let connections = loops.connections();
/// assert_eq!(connections.live().iter().sum::<usize>(), 0);
/// println!("{connections}");
/// loops.stop();
/// loops.join().unwrap();
/// ```
#[derive(Clone)]
pub struct Connections(Arc<Group>);

impl Connections {
    pub(crate) fn new(group: Arc<Group>) -> Self {
        Connections(group)
    }

    /// Connections that each core serves now, in the order of the cores.
    pub fn live(&self) -> Vec<usize> {
        (0..self.0.seats.len()).map(|core| self.0.live(core)).collect()
    }

    /// Connections that each core was given, ever.
    pub fn served(&self) -> Vec<u64> {
        self.0.seats.iter().map(|seat| seat.served.load(Ordering::Relaxed)).collect()
    }

    /// Connections that each core accepted and gave to another, ever.
    pub fn handed_over(&self) -> Vec<u64> {
        self.0.seats.iter().map(|seat| seat.handed_over.load(Ordering::Relaxed)).collect()
    }

    /// The skew gauge: by how much the core that is farthest from an even share of the live connections is off, as a part of that
    /// share. Zero is even; one is a core with twice its share, or with none.
    pub fn skew(&self) -> f64 {
        skew(&self.live())
    }
}

/// See [`Connections::skew`].
pub(crate) fn skew(live: &[usize]) -> f64 {
    let even = live.iter().sum::<usize>() as f64 / live.len().max(1) as f64;
    if even == 0.0 {
        return 0.0;
    }
    live.iter().map(|&count| (count as f64 - even).abs() / even).fold(0.0, f64::max)
}

impl fmt::Display for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let live = self.live();
        let counts: Vec<String> = live.iter().map(ToString::to_string).collect();
        write!(f, "connections per core: {}; skew {:.1} %", counts.join(" "), skew(&live) * 100.0)
    }
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One connection's count, given up when it is dropped.
pub(crate) struct Counted {
    group: Arc<Group>,
    core: usize,
}

impl Counted {
    /// For a connection that has moved here: counted anew, at this core.
    pub(super) fn moved(group: &Arc<Group>) -> Option<Box<Self>> {
        let seat = with_current(|shard| shard.and_then(|shard| shard.seat.get()));
        let core = seat.filter(|&core| core < group.seats.len())?;
        group.seats[core].served.fetch_add(1, Ordering::Relaxed);
        Some(group.count(core))
    }

    pub(super) fn group(&self) -> Arc<Group> {
        Arc::clone(&self.group)
    }
}

impl fmt::Debug for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Counted").field("core", &self.core).finish_non_exhaustive()
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.group.leave(self.core);
    }
}

/// A listener's share in the group: what other cores have handed to it, and what it hands over.
pub(crate) struct Share {
    group: Arc<Group>,
    /// Distinguishes it from others of its core and address, which were there before it or come after it.
    number: u64,
    core: usize,
    /// Which of the addresses it is: a connection is handed to the listener of the same one.
    address: usize,
    /// Whether it takes connections over.
    is_open: Cell<bool>,
    /// What lay on its desk when it closed.
    left: RefCell<VecDeque<Connection>>,
    /// One that was accepted here when the last place had just been taken.
    parked: Cell<Option<OwnedFd>>,
}

/// What becomes of a connection that was accepted here.
pub(super) enum Placed {
    Here(OwnedFd, Box<Counted>),
    Elsewhere,
    /// All cores are full; it is kept until there is room.
    Parked,
}

impl Share {
    /// Enters a listener of this core. It takes over what another one of the same core and address was given and did not take.
    pub(crate) fn enter(group: &Arc<Group>, core: usize, address: usize) -> Rc<Self> {
        let share = Rc::new(Share {
            group: Arc::clone(group),
            number: group.next.fetch_add(1, Ordering::Relaxed),
            core,
            address,
            is_open: Cell::new(false),
            left: RefCell::default(),
            parked: Cell::new(None),
        });
        share.open();
        share
    }

    /// Takes connections over from now on.
    pub(super) fn open(&self) {
        if !self.is_open.replace(true) {
            self.group.open(self.core, self.address, self.number);
        }
    }

    /// The connection for which there was no room, to be placed anew.
    pub(super) fn unpark(&self) -> Option<OwnedFd> {
        self.parked.take()
    }

    /// A connection that is served here without a choice.
    pub(super) fn keep(&self) -> Box<Counted> {
        self.served(self.group.count(self.core))
    }

    /// Takes no more over; what has come is still to be taken.
    pub(super) fn close(&self) {
        if self.is_open.replace(false) {
            self.left.borrow_mut().extend(self.group.close(self.core, self.address, self.number));
            self.group.wait_no_more(self.number);
        }
    }

    /// Whether its listener is one of those that the kernel chooses from by the receiving core, and leaves them with its socket.
    pub(super) fn is_steered(&self) -> bool {
        self.group.policy == AcceptPolicy::Steer && !self.group.is_watched
    }

    /// The next connection that another core has handed over; registers the task if there is none.
    pub(super) fn poll_take(&self, cx: &Context<'_>) -> Poll<Connection> {
        if let Some(left) = self.take_left() {
            return Poll::Ready(left);
        }
        let new = cx.waker().clone();
        let mut reopened = false;
        let (taken, old) = self.group.desk(self.core, self.address, |desk| {
            if desk.owner.is_none() {
                // Who came after this one has left before it.
                desk.owner = Some(self.number);
                self.group.seats[self.core].open.fetch_or(bit_of(self.address), Ordering::SeqCst);
                reopened = true;
            }
            if desk.owner != Some(self.number) {
                return (None, Some(new));
            }
            match desk.connections.pop_front() {
                Some(connection) => (Some(connection), Some(new)),
                None => (None, desk.waker.replace(new)),
            }
        });
        // Without the lock: a waker may be anybody's.
        drop(old);
        if reopened {
            self.group.wake_waiting();
        }
        match taken {
            Some((fd, counted)) => Poll::Ready((fd, self.served(counted))),
            None => Poll::Pending,
        }
    }

    /// The next of those that lay there when it closed.
    pub(super) fn take_left(&self) -> Option<Connection> {
        let (fd, counted) = self.left.borrow_mut().pop_front()?;
        Some((fd, self.served(counted)))
    }

    fn served(&self, counted: Box<Counted>) -> Box<Counted> {
        self.group.seats[self.core].served.fetch_add(1, Ordering::Relaxed);
        counted
    }

    /// Ready while there is room on some core; registers the task otherwise.
    pub(super) fn poll_room(&self, cx: &Context<'_>) -> Poll<()> {
        let Share { group, core, address, number, .. } = self;
        if !group.is_full(*core, *address) || group.wait(*core, *address, *number, cx.waker().clone()) {
            return Poll::Ready(());
        }
        Poll::Pending
    }

    /// Finds a core for a connection that was accepted here.
    pub(super) fn place(&self, fd: OwnedFd) -> Placed {
        let Some(core) = self.group.choose(self.core, self.address) else {
            self.parked.set(Some(fd));
            return Placed::Parked;
        };
        let counted = Box::new(Counted { group: Arc::clone(&self.group), core });
        if core == self.core {
            return Placed::Here(fd, self.served(counted));
        }
        match self.group.hand_in(core, self.address, (fd, counted)) {
            Ok(()) => {
                self.group.seats[self.core].handed_over.fetch_add(1, Ordering::Relaxed);
                Placed::Elsewhere
            }
            Err((fd, elsewhere)) => {
                // It has stopped listening meanwhile.
                let here = self.keep();
                drop(elsewhere);
                Placed::Here(fd, here)
            }
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.close();
        let left = self.left.take().into_iter().map(|(fd, _counted)| fd);
        for fd in left.chain(self.parked.take()) {
            self.group.find_another(self.core, self.address, fd);
        }
    }
}

impl fmt::Debug for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Share").field("core", &self.core).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(policy: AcceptPolicy, max: usize, live: &[usize], here: usize, expected: Option<usize>) {
        let group = Group::new(live.len(), policy, max);
        for (seat, &count) in group.seats.iter().zip(live) {
            seat.live.store(count, Ordering::SeqCst);
            seat.open.store(1, Ordering::SeqCst);
        }
        assert_eq!(group.choose(here, 0), expected, "{policy:?}, at most {max}, {live:?} at {here}");
        if let Some(chosen) = expected {
            assert_eq!(group.live(chosen), live[chosen] + 1);
        }
    }

    #[test]
    fn who_is_chosen() {
        use AcceptPolicy::{Balance, Reuseport, Steer};
        check(Reuseport, 100, &[50, 0], 0, Some(0));
        check(Steer, 100, &[50, 0], 0, Some(0));
        check(Balance, 100, &[0, 0], 1, Some(1));
        check(Balance, 100, &[1, 0], 0, Some(1));
        check(Balance, 100, &[1, 0], 1, Some(1));
        check(Balance, 1000, &[7, 5, 6], 2, Some(1));
        // A little more is no reason to move.
        check(Balance, 1000, &[100, 97], 0, Some(0));
        check(Balance, 1000, &[100, 96], 0, Some(1));
        // At the limit everybody hands over.
        check(Reuseport, 50, &[50, 49, 48], 0, Some(2));
        check(Reuseport, 50, &[50, 50, 50], 0, None);
        check(Balance, 50, &[50, 50, 50], 0, None);
    }

    #[test]
    fn who_has_closed_is_not_chosen() {
        let group = Group::new(2, AcceptPolicy::Balance, 1000);
        group.seats[0].live.store(500, Ordering::SeqCst);
        assert_eq!(group.choose(0, 0), Some(0));
        // Nor who has closed this address and listens on others.
        group.open(1, 1, 0);
        group.open(1, 2, 1);
        group.close(1, 1, 0);
        assert_eq!([0, 1, 2, 63, 64].map(|address| group.choose(0, address).unwrap()), [0, 0, 1, 0, 0]);
        group.open(1, 63, 2);
        group.open(1, 64, 3);
        assert_eq!([63, 64].map(|address| group.choose(0, address).unwrap()), [1, 0]);
    }

    /// Who is woken, and how often.
    #[derive(Default)]
    struct Count(AtomicUsize);

    impl std::task::Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn room_on_a_core_that_takes_nothing_over_is_none() {
        let group = Group::new(2, AcceptPolicy::Reuseport, 1);
        assert_eq!((group.is_full(0, 0), group.choose(0, 0)), (false, Some(0)));
        // The other one has room and does not listen: to say that there is room would be asked forever.
        assert_eq!((group.is_full(0, 0), group.choose(0, 0)), (true, None));
        let count = Arc::new(Count::default());
        assert!(!group.wait(0, 0, 7, Waker::from(Arc::clone(&count))));
        group.open(1, 0, 8);
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        assert_eq!((group.is_full(0, 0), group.choose(0, 0)), (false, Some(1)));
    }

    #[test]
    fn room_wakes_the_listeners_of_all_addresses() {
        let group = Group::new(1, AcceptPolicy::Reuseport, 1);
        assert!(group.enter(0));
        let counts = [(); 2].map(|()| Arc::new(Count::default()));
        for _ in 0..3 {
            for (address, count) in counts.iter().enumerate() {
                assert!(!group.wait(0, address, address as u64, Waker::from(Arc::clone(count))));
            }
        }
        group.leave(0);
        assert_eq!(counts.map(|count| count.0.load(Ordering::Relaxed)), [1, 1]);
        assert_eq!(group.waiters.load(Ordering::SeqCst), 0);
    }

    fn connection() -> OwnedFd {
        std::os::unix::net::UnixStream::pair().unwrap().0.into()
    }

    /// Hands one connection over from core 0.
    fn hand_over(group: &Arc<Group>) {
        assert!(group.enter(1));
        let counted = Box::new(Counted { group: Arc::clone(group), core: 1 });
        group.hand_in(1, 0, (connection(), counted)).expect("core 1 is open");
    }

    fn taken(share: &Share, count: &Arc<Count>) -> usize {
        let waker = Waker::from(Arc::clone(count));
        let cx = Context::from_waker(&waker);
        std::iter::from_fn(|| match share.poll_take(&cx) {
            Poll::Ready((_, counted)) => Some(counted),
            Poll::Pending => None,
        })
        .collect::<Vec<_>>()
        .len()
    }

    #[test]
    fn who_comes_later_takes_what_lies_there_and_who_was_there_before_nothing_more() {
        let group = Group::watched(2, AcceptPolicy::Balance, 100);
        let [old_woken, new_woken] = [(); 2].map(|()| Arc::new(Count::default()));
        let old = Share::enter(&group, 1, 0);
        assert_eq!(taken(&old, &old_woken), 0);
        hand_over(&group);
        assert_eq!(old_woken.0.load(Ordering::Relaxed), 1);
        let new = Share::enter(&group, 1, 0);
        assert_eq!((taken(&old, &old_woken), taken(&new, &new_woken)), (0, 1));
        // The old one goes, and the new one is still found.
        old.close();
        assert!(old.take_left().is_none());
        drop(old);
        hand_over(&group);
        assert_eq!(new_woken.0.load(Ordering::Relaxed), 1);
        assert_eq!(taken(&new, &new_woken), 1);
        assert_eq!(group.live(1), 0);
    }

    #[test]
    fn a_worker_that_was_there_before_comes_back_into_its_rights() {
        let group = Group::watched(2, AcceptPolicy::Balance, 100);
        let woken = Arc::new(Count::default());
        let old = Share::enter(&group, 1, 0);
        // The new one dies at once.
        drop(Share::enter(&group, 1, 0));
        assert!(!group.is_open(1, 0));
        // Somebody else waits for room meanwhile.
        let room = Arc::new(Count::default());
        group.waiting.lock().unwrap().push((u64::MAX, Waker::from(Arc::clone(&room))));
        group.waiters.store(1, Ordering::SeqCst);
        assert_eq!(taken(&old, &woken), 0);
        assert_eq!(room.0.load(Ordering::Relaxed), 1, "who waits for room is told that there is some again");
        hand_over(&group);
        assert_eq!((woken.0.load(Ordering::Relaxed), taken(&old, &woken)), (1, 1));
    }

    #[test]
    fn what_waits_for_a_worker_that_never_comes_is_closed_with_the_supervisor() {
        let group = Group::watched(2, AcceptPolicy::Balance, 100);
        let share = Share::enter(&group, 1, 0);
        hand_over(&group);
        drop(share);
        assert_eq!(group.live(1), 1);
        group.clear();
        assert_eq!((group.live(1), Arc::strong_count(&group)), (0, 1));
    }

    #[test]
    fn what_a_listener_leaves_behind_finds_another_or_waits() {
        let group = Group::watched(2, AcceptPolicy::Balance, 2);
        let [first_woken, second_woken] = [(); 2].map(|()| Arc::new(Count::default()));
        let first = Share::enter(&group, 0, 0);
        assert_eq!(taken(&first, &first_woken), 0);
        let second = Share::enter(&group, 1, 0);
        hand_over(&group);
        second.parked.set(Some(connection()));
        drop(second);
        assert_eq!((group.live(0), group.live(1), first_woken.0.load(Ordering::Relaxed)), (2, 0, 1));
        assert_eq!(taken(&first, &first_woken), 2);
        // Nobody is there: it waits, and is counted where it does.
        drop(first);
        let second = Share::enter(&group, 1, 0);
        hand_over(&group);
        drop(second);
        assert_eq!((group.live(0), group.live(1)), (0, 1));
        assert_eq!(taken(&Share::enter(&group, 1, 0), &second_woken), 1);
        // Without a supervisor nobody will come.
        let group = Group::new(2, AcceptPolicy::Balance, 2);
        let second = Share::enter(&group, 1, 0);
        hand_over(&group);
        drop(second);
        assert_eq!((group.live(1), Arc::strong_count(&group)), (0, 1));
    }

    #[test]
    fn who_has_closed_waits_for_no_room() {
        let group = Group::new(1, AcceptPolicy::Reuseport, 1);
        let share = Share::enter(&group, 0, 0);
        assert!(group.enter(0));
        let waker = Waker::from(Arc::new(Count::default()));
        assert!(share.poll_room(&Context::from_waker(&waker)).is_pending());
        share.close();
        assert_eq!(group.waiters.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn what_lay_there_when_it_closed_is_the_rest() {
        let group = Group::new(2, AcceptPolicy::Balance, 2);
        let share = Share::enter(&group, 1, 0);
        hand_over(&group);
        share.close();
        assert!(group.hand_in(1, 0, (connection(), group.count(1))).is_err());
        assert!(share.take_left().is_some());
        assert!(share.take_left().is_none());
    }

    #[test]
    fn skews() {
        for (live, expected) in
            [(&[][..], 0.0), (&[0, 0], 0.0), (&[100, 100], 0.0), (&[105, 95], 0.05), (&[3, 0, 0], 2.0)]
        {
            assert!((skew(live) - expected).abs() < 1e-9, "{live:?}: {}", skew(live));
        }
    }
}
