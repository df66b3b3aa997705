//! What the cores that listen on one address have in common: a seat for each core, with desks for what is handed over.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use super::AcceptPolicy;
use super::counted::Counted;

/// Who has a few more connections than the least loaded keeps what it accepts: one in so many.
const SLACK: usize = 32;

/// Addresses whose connections are handed over: one for each bit of a word. Those of the addresses beyond stay where they were
/// accepted.
const ADDRESSES_MAX: usize = u64::BITS as usize;

pub(super) fn bit_of(address: usize) -> u64 {
    if address < ADDRESSES_MAX { 1 << address } else { 0 }
}

/// One core, on cache lines of its own. With a supervisor its old worker and its new one share it.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Seat {
    /// Connections that live here or are on their way here.
    pub(super) live: AtomicUsize,
    /// Connections that were served here, ever.
    pub(super) served: AtomicU64,
    /// Connections that this core gave away, ever.
    pub(super) handed_over: AtomicU64,
    /// The addresses whose listener here takes connections over, a bit for each: a hint, the desk knows.
    pub(super) open: AtomicU64,
    pub(super) desks: Mutex<Vec<Desk>>,
}

/// What was handed over to the listener of one address on one core.
#[derive(Debug, Default)]
pub(super) struct Desk {
    /// The number of the share that takes what lies here; the last one that came.
    pub(super) owner: Option<u64>,
    pub(super) waker: Option<Waker>,
    pub(super) connections: VecDeque<Connection>,
}

pub(super) type Connection = (OwnedFd, Box<Counted>);

/// What the cores have in common.
#[derive(Debug)]
pub(crate) struct Group {
    pub(super) policy: AcceptPolicy,
    /// Connections of a core at the most.
    pub(super) max: usize,
    pub(super) seats: Box<[Seat]>,
    /// Listeners come and go, because a supervisor watches over their loops; it keeps the sockets.
    pub(super) is_watched: bool,
    /// The number of the next share.
    pub(super) next: AtomicU64,
    /// Those in `waiting`.
    pub(super) waiters: AtomicUsize,
    /// Acceptors that wait for room on any core, by the number of their share.
    pub(super) waiting: Mutex<Vec<(u64, Waker)>>,
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

    pub(super) fn live(&self, core: usize) -> usize {
        self.seats[core].live.load(Ordering::SeqCst)
    }

    /// Whether there is no core for a connection of an address that `here` would accept.
    pub(super) fn is_full(&self, here: usize, address: usize) -> bool {
        let is_choice = |core| core == here || self.is_open(core, address);
        // Without a limit nobody else's counts are looked at.
        self.max != usize::MAX
            && (0..self.seats.len()).all(|core| !is_choice(core) || self.live(core) >= self.max)
    }

    /// Whether `core` takes over connections of an address. SeqCst: see [`wait`](Self::wait).
    pub(super) fn is_open(&self, core: usize, address: usize) -> bool {
        self.seats[core].open.load(Ordering::SeqCst) & bit_of(address) != 0
    }

    /// The core for a connection that `here` has accepted, which is counted there; none if all are full.
    pub(super) fn choose(&self, here: usize, address: usize) -> Option<usize> {
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
    pub(super) fn enter(&self, core: usize) -> bool {
        let live = &self.seats[core].live;
        live.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |count| (count < self.max).then_some(count + 1))
            .is_ok()
    }

    /// A connection that was counted at `core` is not there, or not any more.
    pub(super) fn leave(&self, core: usize) {
        self.seats[core].live.fetch_sub(1, Ordering::SeqCst);
        self.wake_waiting();
    }

    /// The desk of an address on a core.
    pub(super) fn desk<R>(&self, core: usize, address: usize, f: impl FnOnce(&mut Desk) -> R) -> R {
        let mut desks = lock(&self.seats[core].desks);
        if desks.len() <= address {
            desks.resize_with(address + 1, Desk::default);
        }
        f(&mut desks[address])
    }

    /// A share takes connections of an address over on a core from now on, and what lies there.
    pub(super) fn open(&self, core: usize, address: usize, share: u64) {
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
    pub(super) fn close(&self, core: usize, address: usize, share: u64) -> VecDeque<Connection> {
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
    pub(super) fn hand_in(
        &self,
        core: usize,
        address: usize,
        connection: Connection,
    ) -> Result<(), Connection> {
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
    pub(super) fn find_another(self: &Arc<Self>, here: usize, address: usize, fd: OwnedFd) {
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
    pub(super) fn count(self: &Arc<Self>, core: usize) -> Box<Counted> {
        self.seats[core].live.fetch_add(1, Ordering::SeqCst);
        Box::new(Counted { group: Arc::clone(self), core })
    }

    /// There is room on some core.
    pub(super) fn wake_waiting(&self) {
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
    pub(super) fn wait(&self, here: usize, address: usize, share: u64, waker: Waker) -> bool {
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
    pub(super) fn wait_no_more(&self, share: u64) {
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
