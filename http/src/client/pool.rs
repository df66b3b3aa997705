//! Connections that are kept for the next request, and who waits for one. No I/O: what a connection is, only its owner knows.
//!
//! A [`Place`] is the right to one connection, and holds it once there is one. Dropping a place closes its connection and
//! lets the first of the line that it serves have its turn; [`park`](Place::park) keeps the connection.
//!
//! INVARIANT: nobody in the line can be served. So whoever comes anew and can be served overtakes nobody.
use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::time::{Duration, Instant};

use annulet::sync::oneshot;

/// What is pooled.
pub(super) trait Reuse {
    /// Whether nothing has come since the last answer, not even its end.
    fn is_usable(&mut self) -> bool;
    /// It was idle and goes unused: says so to its server, as far as that needs no wait.
    fn end(&mut self);
}

/// The bounds of a pool.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) connections: usize,
    pub(super) connections_per_host: usize,
    pub(super) idle: Duration,
    pub(super) waiting: usize,
}

/// What a client's pool has done, and holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Connections that were made, from the beginning.
    pub opened: u64,
    /// Requests that found a connection kept for them, from the beginning.
    pub reused: u64,
    /// Connections now: in use, being made, and idle.
    pub open: usize,
    /// Of these, kept for the next request.
    pub idle: usize,
    /// Requests that wait for a connection now.
    pub waiting: usize,
}

#[derive(Debug)]
pub(super) struct Pool<C: Reuse> {
    bounds: Bounds,
    state: RefCell<State<C>>,
}

#[derive(Debug)]
struct State<C: Reuse> {
    hosts: HashMap<Rc<str>, Host<C>>,
    /// First come, first served.
    line: VecDeque<Waiter<C>>,
    /// Of the next in the line; never used twice.
    next_id: u64,
    open: usize,
    opened: u64,
    reused: u64,
}

/// Kept as long as it has a connection.
#[derive(Debug)]
struct Host<C: Reuse> {
    /// Places, those of idle connections included.
    open: usize,
    /// The last one parked is the first one taken: the others get the chance to grow old.
    idle: Vec<Idle<C>>,
}

/// Dropped, its connection is ended.
#[derive(Debug)]
struct Idle<C: Reuse> {
    /// Until it is used again.
    connection: Option<C>,
    until: Instant,
}

impl<C: Reuse> Idle<C> {
    /// Not for too long, and not closed by its server.
    fn is_usable(&mut self, now: Instant) -> bool {
        self.until > now && self.connection.as_mut().is_some_and(Reuse::is_usable)
    }
}

impl<C: Reuse> Drop for Idle<C> {
    fn drop(&mut self) {
        if let Some(connection) = &mut self.connection {
            connection.end();
        }
    }
}

#[derive(Debug)]
struct Waiter<C: Reuse> {
    id: u64,
    key: Rc<str>,
    hand: oneshot::Sender<Place<C>>,
}

/// The right to one connection to a host.
#[derive(Debug)]
pub(super) struct Place<C: Reuse> {
    pool: Rc<Pool<C>>,
    key: Rc<str>,
    pub(super) connection: Option<C>,
    /// Whether the pool counts it; not so once it is parked or counted out.
    is_counted: bool,
}

/// So many wait already.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

impl<C: Reuse> Pool<C> {
    pub(super) fn new(bounds: Bounds) -> Rc<Pool<C>> {
        let state =
            State { hosts: HashMap::new(), line: VecDeque::new(), next_id: 0, open: 0, opened: 0, reused: 0 };
        Rc::new(Pool { bounds, state: RefCell::new(state) })
    }

    pub(super) fn stats(&self) -> Stats {
        let state = self.state.borrow();
        Stats {
            opened: state.opened,
            reused: state.reused,
            open: state.open,
            idle: state.hosts.values().map(|host| host.idle.len()).sum(),
            waiting: state.line.len(),
        }
    }

    /// A place, with a connection that was kept if there is one. Dropped at any point it holds nothing.
    ///
    /// # Errors
    ///
    /// When the line is full.
    pub(super) async fn acquire(self: &Rc<Self>, key: &Rc<str>) -> Result<Place<C>, Full> {
        if let Some(place) = self.try_acquire(key) {
            return Ok(place);
        }
        let (hand, place) = oneshot::channel();
        let id = {
            let state = &mut *self.state.borrow_mut();
            if state.line.len() >= self.bounds.waiting {
                return Err(Full);
            }
            state.next_id += 1;
            state.line.push_back(Waiter { id: state.next_id, key: Rc::clone(key), hand });
            state.next_id
        };
        let _in_line = InLine { pool: self, id };
        match place.await {
            Ok(place) => Ok(place),
            Err(_) => unreachable!("only this future takes its waiter out of the line without a place"),
        }
    }

    /// Without waiting.
    fn try_acquire(self: &Rc<Self>, key: &Rc<str>) -> Option<Place<C>> {
        let mut closed = 0;
        let place = self.take(key, &mut closed);
        // One of those that went made room for this place.
        for _ in 1..closed {
            self.serve_one();
        }
        place
    }

    /// Counts idle connections in `closed` that turned out to be of no use.
    fn take(self: &Rc<Self>, key: &Rc<str>, closed: &mut usize) -> Option<Place<C>> {
        let now = now();
        let place =
            |connection| Place { pool: Rc::clone(self), key: Rc::clone(key), connection, is_counted: true };
        loop {
            let idle = self.state.borrow_mut().hosts.get_mut(key).and_then(|host| host.idle.pop());
            let Some(mut idle) = idle else { break };
            if idle.is_usable(now) {
                self.state.borrow_mut().reused += 1;
                return Some(place(idle.connection.take()));
            }
            *closed += 1;
            drop(idle);
            place(None).count_out();
        }
        let mut state = self.state.borrow_mut();
        if state.hosts.get(key).is_some_and(|host| host.open >= self.bounds.connections_per_host) {
            return None;
        }
        let evicted = if state.open >= self.bounds.connections { Some(state.evict()?) } else { None };
        state.open += 1;
        state.hosts.entry(Rc::clone(key)).or_insert(Host { open: 0, idle: Vec::new() }).open += 1;
        drop(state);
        drop(evicted);
        Some(place(None))
    }

    /// A place has become free, or an idle connection is there: the first in the line that it serves has it. One change serves
    /// one at the most.
    fn serve_one(self: &Rc<Self>) {
        let mut at = 0;
        // Many of one host stand behind each other; if the first cannot be served, they cannot either.
        let mut blocked: Option<Rc<str>> = None;
        loop {
            let (key, id) = {
                let state = self.state.borrow();
                let Some(waiter) = state.line.get(at) else { return };
                (Rc::clone(&waiter.key), waiter.id)
            };
            at += 1;
            if blocked.as_ref() == Some(&key) {
                continue;
            }
            let mut closed = 0;
            let Some(place) = self.take(&key, &mut closed) else {
                blocked = Some(key);
                continue;
            };
            if let Some(waiter) = self.leave_line(id) {
                // Given back if the other side is gone: then its drop serves the next.
                drop(waiter.hand.send(place));
            }
            for _ in 1..closed {
                self.serve_one();
            }
            return;
        }
    }

    fn leave_line(&self, id: u64) -> Option<Waiter<C>> {
        let mut state = self.state.borrow_mut();
        let at = state.line.partition_point(|waiter| waiter.id < id);
        if state.line.get(at).is_some_and(|waiter| waiter.id == id) { state.line.remove(at) } else { None }
    }

    /// Closes what has been idle for too long, or was closed by its server. Tells whether anything is left.
    pub(super) fn sweep(self: &Rc<Self>) -> bool {
        let now = now();
        let all: Vec<(Rc<str>, Vec<Idle<C>>)> = {
            let mut state = self.state.borrow_mut();
            let hosts = state.hosts.iter_mut().filter(|(_, host)| !host.idle.is_empty());
            hosts.map(|(key, host)| (Rc::clone(key), std::mem::take(&mut host.idle))).collect()
        };
        let mut closed = 0;
        for (key, idle) in all {
            for mut idle in idle {
                if idle.is_usable(now) {
                    let mut state = self.state.borrow_mut();
                    if let Some(host) = state.hosts.get_mut(&key) {
                        host.idle.push(idle);
                    }
                    continue;
                }
                closed += 1;
                drop(idle);
                let (pool, key) = (Rc::clone(self), Rc::clone(&key));
                Place { pool, key, connection: None, is_counted: true }.count_out();
            }
        }
        for _ in 0..closed {
            self.serve_one();
        }
        self.state.borrow().open > 0
    }
}

impl<C: Reuse> State<C> {
    /// Takes the idle connection out that would be closed first.
    fn evict(&mut self) -> Option<Idle<C>> {
        let oldest = self.hosts.iter().filter_map(|(key, host)| Some((host.idle.first()?.until, key)));
        let (_, key) = oldest.min_by_key(|(until, _)| *until)?;
        let key = Rc::clone(key);
        let idle = self.hosts.get_mut(&key)?.idle.remove(0);
        self.count_out(&key);
        Some(idle)
    }

    fn count_out(&mut self, key: &Rc<str>) {
        self.open -= 1;
        if let Some(host) = self.hosts.get_mut(key) {
            host.open -= 1;
            if host.open == 0 {
                self.hosts.remove(key);
            }
        }
    }
}

impl<C: Reuse> Place<C> {
    /// A connection was made for it.
    pub(super) fn fill(&mut self, connection: C) -> &mut C {
        self.pool.state.borrow_mut().opened += 1;
        self.connection.insert(connection)
    }

    /// Closes the connection and frees the place, without serving the line.
    fn count_out(mut self) {
        self.is_counted = false;
        drop(self.connection.take());
        self.pool.state.borrow_mut().count_out(&self.key);
    }
}

impl<C: Reuse> Place<C> {
    /// Keeps the connection for the next request.
    pub(super) fn park(mut self) {
        let Some(connection) = self.connection.take() else { return };
        self.is_counted = false;
        let idle = Idle { connection: Some(connection), until: now() + self.pool.bounds.idle };
        if let Some(host) = self.pool.state.borrow_mut().hosts.get_mut(&self.key) {
            host.idle.push(idle);
        }
        self.pool.serve_one();
    }
}

impl<C: Reuse> Drop for Place<C> {
    fn drop(&mut self) {
        if !self.is_counted {
            return;
        }
        drop(self.connection.take());
        self.pool.state.borrow_mut().count_out(&self.key);
        self.pool.serve_one();
    }
}

/// The loop's time. A place may also be dropped where no loop is: then nothing is kept, and any clock does.
fn now() -> Instant {
    if annulet::task::try_current().is_some() { annulet::time::now() } else { Instant::now() }
}

/// Takes a waiter out of the line when its future is dropped.
struct InLine<'a, C: Reuse> {
    pool: &'a Rc<Pool<C>>,
    id: u64,
}

impl<C: Reuse> Drop for InLine<'_, C> {
    fn drop(&mut self) {
        drop(self.pool.leave_line(self.id));
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    const IDLE: Duration = Duration::from_secs(10);

    /// A connection with a number, of use until it is told otherwise.
    #[derive(Debug)]
    struct Numbered(u32, Rc<Cell<bool>>);

    impl Reuse for Numbered {
        fn is_usable(&mut self) -> bool {
            self.1.get()
        }

        fn end(&mut self) {}
    }

    fn numbered(number: u32) -> Numbered {
        Numbered(number, Rc::new(Cell::new(true)))
    }

    fn pool(connections: usize) -> Rc<Pool<Numbered>> {
        Pool::new(Bounds { connections, connections_per_host: connections, idle: IDLE, waiting: 8 })
    }

    /// The number of the connection that a request to `host` finds.
    async fn kept(pool: &Rc<Pool<Numbered>>, host: &str) -> Option<u32> {
        pool.acquire(&host.into()).await.unwrap().connection.take().map(|connection| connection.0)
    }

    async fn park(pool: &Rc<Pool<Numbered>>, host: &str, connection: Numbered) {
        let mut place = pool.acquire(&host.into()).await.unwrap();
        place.fill(connection);
        place.park();
    }

    #[annulet::test(start_paused = true)]
    async fn one_that_was_idle_for_too_long_is_not_used() {
        let pool = pool(4);
        park(&pool, "a", numbered(1)).await;
        annulet::time::sleep(IDLE - Duration::from_millis(100)).await;
        assert_eq!(kept(&pool, "a").await, Some(1), "not yet too long");
        // Nobody has swept.
        park(&pool, "a", numbered(2)).await;
        annulet::time::sleep(IDLE + Duration::from_millis(100)).await;
        assert_eq!(pool.stats().idle, 1);
        assert_eq!(kept(&pool, "a").await, None);
        assert_eq!((pool.stats().open, pool.stats().reused), (0, 1));
    }

    #[annulet::test(start_paused = true)]
    async fn the_last_one_used_is_used_next_and_the_oldest_makes_room() {
        let pool = pool(3);
        let places: Vec<_> = [pool.acquire(&"a".into()).await, pool.acquire(&"a".into()).await].into();
        for (number, place) in places.into_iter().enumerate() {
            let mut place = place.unwrap();
            place.fill(numbered(number as u32));
            place.park();
            annulet::time::sleep(Duration::from_secs(1)).await;
        }
        assert_eq!(kept(&pool, "a").await, Some(1));
        park(&pool, "b", numbered(2)).await;
        park(&pool, "c", numbered(3)).await;
        // Full. That of `a` is the oldest, then `b`.
        let fourth = pool.acquire(&"d".into()).await.unwrap();
        assert_eq!(kept(&pool, "c").await, Some(3));
        assert_eq!(kept(&pool, "b").await, Some(2));
        assert_eq!(kept(&pool, "a").await, None);
        drop(fourth);
        assert_eq!((pool.stats().open, pool.stats().idle), (0, 0));
    }

    #[annulet::test(start_paused = true)]
    async fn one_of_no_use_is_closed_and_counted_out() {
        let pool = pool(2);
        let (first, second) = (numbered(1), numbered(2));
        let is_usable = second.1.clone();
        park(&pool, "a", first).await;
        park(&pool, "b", second).await;
        is_usable.set(false);
        assert_eq!(kept(&pool, "b").await, None);
        assert!(pool.sweep());
        annulet::time::sleep(IDLE * 2).await;
        assert!(!pool.sweep(), "nothing is left");
        assert_eq!(pool.stats().open, 0);
    }
}
