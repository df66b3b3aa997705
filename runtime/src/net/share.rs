//! How the cores that listen on one address share its connections: the policy, the counts, and the hand-over.
//!
//! Counts are atomic and change once a connection, not once a request. What is handed over is a descriptor that no operation
//! of a ring was armed on.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::mesh;

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

/// A connection on its way to another core. Whoever takes it out has it: the core that it goes to, or, once it is known that this
/// one does not, the core that sent it.
type Parcel = Arc<Mutex<Option<(OwnedFd, Box<Counted>)>>>;

fn take_out(parcel: &Parcel) -> Option<(OwnedFd, Box<Counted>)> {
    parcel.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// The counts of one core, on cache lines of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Seat {
    /// Connections that live here or are on their way here.
    live: AtomicUsize,
    /// Connections that were served here, ever.
    served: AtomicU64,
    /// Connections that this core gave away, ever.
    handed_over: AtomicU64,
    /// The addresses whose listener here takes connections over, a bit for each.
    open: AtomicU64,
    /// Acceptors that wait for room on any core, by their address.
    waiting: Mutex<Vec<(usize, Waker)>>,
}

/// What the cores have in common.
#[derive(Debug)]
pub(crate) struct Group {
    policy: AcceptPolicy,
    /// Connections of a core at the most.
    max: usize,
    seats: Box<[Seat]>,
    /// Acceptors that wait for room.
    waiting: AtomicUsize,
}

impl Group {
    pub(crate) fn new(cores: usize, policy: AcceptPolicy, max: usize) -> Arc<Self> {
        let seats = (0..cores).map(|_| Seat::default()).collect();
        Arc::new(Group { policy, max: max.max(1), seats, waiting: AtomicUsize::new(0) })
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

    /// A core takes connections of an address over from now on.
    fn open(&self, core: usize, address: usize) {
        self.seats[core].open.fetch_or(bit_of(address), Ordering::SeqCst);
        self.wake_waiting();
    }

    /// And not any more.
    fn close(&self, core: usize, address: usize) {
        self.seats[core].open.fetch_and(!bit_of(address), Ordering::SeqCst);
    }

    /// There is room on some core.
    fn wake_waiting(&self) {
        // SeqCst, as the change before it and both in `wait`: either this sees who waits, or that sees the room.
        if self.waiting.load(Ordering::SeqCst) > 0 {
            for seat in &self.seats {
                let wakers =
                    std::mem::take(&mut *seat.waiting.lock().unwrap_or_else(PoisonError::into_inner));
                self.waiting.fetch_sub(wakers.len(), Ordering::SeqCst);
                wakers.into_iter().for_each(|(_, waker)| waker.wake());
            }
        }
    }

    /// The listener of an address waits for room on any core. True if there is some already.
    fn wait(&self, here: usize, address: usize, waker: Waker) -> bool {
        let mut waiting = self.seats[here].waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let old = match waiting.iter_mut().find(|(of, _)| *of == address) {
            Some((_, old)) => Some(std::mem::replace(old, waker)),
            None => {
                // Under the lock, so that who takes it away has seen it counted.
                self.waiting.fetch_add(1, Ordering::SeqCst);
                waiting.push((address, waker));
                None
            }
        };
        drop(waiting);
        drop(old);
        !self.is_full(here, address)
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
    pub(super) fn moved(group: Arc<Group>) -> Option<Box<Self>> {
        let core = mesh::try_port().map(|port| port.index()).filter(|&core| core < group.seats.len())?;
        group.seats[core].live.fetch_add(1, Ordering::SeqCst);
        group.seats[core].served.fetch_add(1, Ordering::Relaxed);
        Some(Box::new(Counted { group, core }))
    }

    pub(super) fn group(&self) -> Arc<Group> {
        Arc::clone(&self.group)
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
    core: usize,
    /// Which of the addresses it is: a connection is handed to the listener of the same one.
    address: usize,
    /// Whether it takes connections over.
    is_open: Cell<bool>,
    handed: RefCell<VecDeque<(OwnedFd, Box<Counted>)>>,
    /// One that was accepted here when the last place had just been taken.
    parked: Cell<Option<OwnedFd>>,
    waker: Cell<Option<Waker>>,
    /// Connections on their way to another core, which may come back.
    travelling: Cell<usize>,
}

/// What becomes of a connection that was accepted here.
pub(super) enum Placed {
    Here(OwnedFd, Box<Counted>),
    Elsewhere,
    /// All cores are full; it is kept until there is room.
    Parked,
}

impl Share {
    /// Enters a listener of this core. Its mesh must be the one that the group was made for.
    pub(crate) fn enter(group: &Arc<Group>, core: usize, address: usize) -> Rc<Self> {
        let share = Rc::new(Share {
            group: Arc::clone(group),
            core,
            address,
            is_open: Cell::new(false),
            handed: RefCell::default(),
            parked: Cell::new(None),
            waker: Cell::new(None),
            travelling: Cell::new(0),
        });
        if let Some(port) = mesh::try_port() {
            port.shards.borrow_mut().insert(name(address), Rc::new(Rc::downgrade(&share)));
        }
        share.open();
        share
    }

    /// Takes connections over from now on.
    pub(super) fn open(&self) {
        if !self.is_open.replace(true) {
            self.group.open(self.core, self.address);
        }
    }

    /// The connection for which there was no room, to be placed anew.
    pub(super) fn unpark(&self) -> Option<OwnedFd> {
        self.parked.take()
    }

    /// A connection that is served here without a choice.
    pub(super) fn keep(&self) -> Box<Counted> {
        self.group.seats[self.core].live.fetch_add(1, Ordering::SeqCst);
        self.served(self.counted(self.core))
    }

    /// Takes no more over. What is on its way goes back.
    pub(super) fn close(&self) {
        if self.is_open.replace(false) {
            self.group.close(self.core, self.address);
        }
    }

    /// Whether the kernel chooses the listener by the receiving core.
    pub(super) fn is_steered(&self) -> bool {
        self.group.policy == AcceptPolicy::Steer
    }

    /// The next connection that another core has handed over, or that came back.
    pub(super) fn take(&self) -> Option<(OwnedFd, Box<Counted>)> {
        let (fd, counted) = self.handed.borrow_mut().pop_front()?;
        Some((fd, self.served(counted)))
    }

    /// For a connection that was entered at `core`.
    fn counted(&self, core: usize) -> Box<Counted> {
        Box::new(Counted { group: Arc::clone(&self.group), core })
    }

    fn served(&self, counted: Box<Counted>) -> Box<Counted> {
        self.group.seats[self.core].served.fetch_add(1, Ordering::Relaxed);
        counted
    }

    /// Ready while there is room on some core; registers the task otherwise.
    pub(super) fn poll_room(&self, cx: &Context<'_>) -> Poll<()> {
        let Share { group, core, address, .. } = self;
        if !group.is_full(*core, *address) || group.wait(*core, *address, cx.waker().clone()) {
            return Poll::Ready(());
        }
        Poll::Pending
    }

    /// The task to be woken when something is handed over, or comes back.
    pub(super) fn register(&self, waker: &Waker) {
        let old = self.waker.replace(Some(waker.clone()));
        drop(old);
    }

    /// Whether connections may still come back.
    pub(super) fn is_travelling(&self) -> bool {
        self.travelling.get() > 0
    }

    /// Finds a core for a connection that was accepted here.
    pub(super) fn place(self: &Rc<Self>, fd: OwnedFd) -> Placed {
        let Some(core) = self.group.choose(self.core, self.address) else {
            self.parked.set(Some(fd));
            return Placed::Parked;
        };
        let counted = self.counted(core);
        if core == self.core {
            return Placed::Here(fd, self.served(counted));
        }
        self.group.seats[self.core].handed_over.fetch_add(1, Ordering::Relaxed);
        self.travelling.set(self.travelling.get() + 1);
        let (share, address) = (Rc::clone(self), self.address);
        // The count travels along: wherever the connection is lost, by the end of this loop, it is given up.
        let parcel: Parcel = Arc::new(Mutex::new(Some((fd, counted))));
        let arriving = Arc::clone(&parcel);
        // Sent before there is a task that could be dropped.
        let sent =
            LetGo(Some(mesh::submit_to(core, move || async move { Self::hand_in(address, &arriving) })));
        // Detached: it ends with the answer.
        drop(crate::spawn(async move {
            // Whatever the outcome is, what was not taken out is still there.
            let _ = sent.await;
            share.travelling.set(share.travelling.get() - 1);
            if let Some((fd, elsewhere)) = take_out(&parcel) {
                // It has stopped listening meanwhile, or its loop has ended: served where it was accepted.
                drop(elsewhere);
                share.group.seats[share.core].live.fetch_add(1, Ordering::SeqCst);
                let counted = share.counted(share.core);
                share.handed.borrow_mut().push_back((fd, counted));
            }
            share.waker.take().into_iter().for_each(Waker::wake);
        }));
        Placed::Elsewhere
    }

    /// On the chosen core: into the hands of the listener of the same address, if there is one that takes it.
    fn hand_in(address: usize, parcel: &Parcel) {
        let entry = mesh::try_port().and_then(|port| port.shards.borrow().get(&name(address)).cloned());
        let share = entry.and_then(|entry| entry.downcast_ref::<Weak<Share>>().and_then(Weak::upgrade));
        let Some(share) = share.filter(|share| share.is_open.get()) else { return };
        let Some(connection) = take_out(parcel) else { return };
        share.handed.borrow_mut().push_back(connection);
        share.waker.take().into_iter().for_each(Waker::wake);
    }
}

/// A call that goes on when nobody waits for it any more: if this loop ends, the other one still has the connection.
struct LetGo(Option<mesh::Call<()>>);

impl Future for LetGo {
    type Output = Result<(), crate::JoinError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let call = self.0.as_mut().expect("there until it is dropped");
        let outcome = std::task::ready!(Pin::new(call).poll(cx));
        self.0 = None;
        Poll::Ready(outcome)
    }
}

impl Drop for LetGo {
    fn drop(&mut self) {
        if let Some(call) = self.0.take() {
            call.detach();
        }
    }
}

/// Where a core keeps its listener of an address, beside the sharded values, which are counted from zero.
fn name(address: usize) -> u64 {
    u64::MAX - address as u64
}

impl Drop for Share {
    fn drop(&mut self) {
        // What nobody took is closed, and not counted any more.
        self.close();
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
        group.open(1, 1);
        group.open(1, 2);
        group.close(1, 1);
        assert_eq!([0, 1, 2, 63, 64].map(|address| group.choose(0, address).unwrap()), [0, 0, 1, 0, 0]);
        group.open(1, 63);
        group.open(1, 64);
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
        assert!(!group.wait(0, 0, Waker::from(Arc::clone(&count))));
        group.open(1, 0);
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
                assert!(!group.wait(0, address, Waker::from(Arc::clone(count))));
            }
        }
        group.leave(0);
        assert_eq!(counts.map(|count| count.0.load(Ordering::Relaxed)), [1, 1]);
        assert_eq!(group.waiting.load(Ordering::SeqCst), 0);
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
