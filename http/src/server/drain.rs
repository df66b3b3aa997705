//! Ending in good order: no new connection, every request at work answered, idle connections closed.
//!
//! ```text
//!   announce        every answer says `Connection: close`; clients come back on new connections, which are welcome
//!   stop_accepting  listeners give out what they have accepted and end; somebody else accepts from their sockets
//!   start           both, and idle connections are closed
//! ```
//!
//! A client may send a request at the very moment at which its idle connection is closed, and cannot know whether it was
//! read. So whoever wants to lose none waits between the second step and the third: [`Drain::gently`].
//!
//! Connections leave their waker here once, when they begin; waking all of them is how an idle one learns of the end.
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use annulet::metrics::{Counter, Row};

use super::Shared;

/// Ends a [`Server`](super::Server) in good order. Clones end the same server; all of them stay on its core.
///
/// # Examples
///
/// ```no_run
/// # async fn example(server: annulet_http::Server, listener: annulet::net::TcpListener) {
/// let drain = server.drain_handle();
/// let serving = annulet::spawn(async move { server.serve(listener).await });
/// // ... and when it is time:
/// drain.start();
/// drain.finished().await;
/// serving.await.unwrap().unwrap();
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Drain {
    shared: Rc<Shared>,
}

impl Drain {
    pub(super) fn new(shared: Rc<Shared>) -> Drain {
        Drain { shared }
    }

    /// From now on every answer is the last of its connection and says so. Accepting goes on: clients that come back are
    /// served, once each.
    pub fn announce(&self) {
        self.shared.service.announce_end();
    }

    /// Accepting ends: [`Server::serve`](super::Server::serve) serves what its listener has accepted already, and
    /// returns. What comes now waits in the socket's queue for whoever else has it, or is reset with its last descriptor.
    pub fn stop_accepting(&self) {
        self.shared.registry.accepting_ends.set(true);
        self.shared.registry.wake_all();
    }

    /// Begins the end: no more connections, idle ones close, each of the others after its next answer.
    pub fn start(&self) {
        self.shared.service.drain();
        self.stop_accepting();
    }

    /// The end in which no client is cut off in the middle: accepting ends, every answer is the last of its connection,
    /// and idle connections may send one more request for as long as `idle`. Done when no connection is open; put a time
    /// limit around this as around [`finished`](Self::finished).
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn example(server: annulet_http::Server) {
    /// use std::time::Duration;
    ///
    /// let drain = server.drain_handle();
    /// let drained = drain.gently(Duration::from_secs(1));
    /// if annulet::time::timeout(Duration::from_secs(30), drained).await.is_err() {
    ///     println!("{} connections are cut", drain.connections());
    /// }
    /// # }
    /// ```
    ///
    /// # Cancel safety
    ///
    /// What has begun goes on; only the waiting ends.
    pub async fn gently(&self, idle: Duration) {
        self.announce();
        self.stop_accepting();
        // Either is what is waited for.
        let _ = annulet::time::timeout(idle, self.finished()).await;
        self.start();
        self.finished().await;
    }

    /// Whether the end has begun.
    #[must_use]
    pub fn is_started(&self) -> bool {
        self.shared.service.drains()
    }

    /// Connections that are still open.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.registry.connections.get()
    }

    /// Waits until no connection is open and, once accepting has ended, until none can come any more. A handler that never answers is waited for; put a time limit around this.
    ///
    /// # Cancel safety
    ///
    /// Safe. Only the task that waited last is woken.
    pub async fn finished(&self) {
        poll_fn(|cx| self.shared.registry.poll_empty(cx)).await;
    }
}

/// Who is to be woken when the server drains: a connection or an accepting loop each.
#[derive(Debug, Default)]
pub(super) struct Registry {
    members: RefCell<Members>,
    connections: Cell<usize>,
    /// Tasks that accept.
    acceptors: Cell<usize>,
    /// These are to end.
    pub(super) accepting_ends: Cell<bool>,
    waits_for_empty: RefCell<Option<Waker>>,
}

#[derive(Debug, Default)]
struct Members {
    wakers: Vec<Option<Waker>>,
    free: Vec<u32>,
}

/// A place in the registry, given up on drop.
#[derive(Debug)]
pub(super) struct Member {
    shared: Rc<Shared>,
    place: u32,
    is_connection: bool,
}

impl Member {
    /// Registers the task of `cx`, which must stay the one that runs this member.
    pub(super) fn join(shared: &Rc<Shared>, is_connection: bool, cx: &Context<'_>) -> Member {
        let registry = &shared.registry;
        let mut members = registry.members.borrow_mut();
        let waker = Some(cx.waker().clone());
        if !is_connection {
            registry.acceptors.set(registry.acceptors.get() + 1);
        }
        let place = match members.free.pop() {
            Some(place) => {
                members.wakers[place as usize] = waker;
                place
            }
            None => {
                members.wakers.push(waker);
                (members.wakers.len() - 1) as u32
            }
        };
        Member { shared: shared.clone(), place, is_connection }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let registry = &self.shared.registry;
        let mut members = registry.members.borrow_mut();
        let waker = members.wakers[self.place as usize].take();
        members.free.push(self.place);
        drop(members);
        drop(waker);
        let count = if self.is_connection { &registry.connections } else { &registry.acceptors };
        count.set(count.get() - 1);
        if self.is_connection {
            self.shared.service.row().subtract(Counter::HttpConnectionsOpen, 1);
        }
        let waiting = if registry.is_empty() { registry.waits_for_empty.take() } else { None };
        waiting.into_iter().for_each(Waker::wake);
    }
}

impl Registry {
    /// One more connection, which will join in its own task and leave with it.
    pub(super) fn count_connection(&self, row: &Row) {
        self.connections.set(self.connections.get() + 1);
        row.add(Counter::HttpConnections, 1);
        row.add(Counter::HttpConnectionsOpen, 1);
    }

    /// Connections that are open.
    pub(super) fn connections(&self) -> usize {
        self.connections.get()
    }

    fn wake_all(&self) {
        // Cloned first: waking may run anything.
        let wakers: Vec<Waker> = self.members.borrow().wakers.iter().flatten().cloned().collect();
        wakers.into_iter().for_each(Waker::wake);
    }

    /// No connection, and none to come.
    fn is_empty(&self) -> bool {
        self.connections.get() == 0 && (!self.accepting_ends.get() || self.acceptors.get() == 0)
    }

    fn poll_empty(&self, cx: &Context<'_>) -> Poll<()> {
        if self.is_empty() {
            return Poll::Ready(());
        }
        self.waits_for_empty.replace(Some(cx.waker().clone()));
        Poll::Pending
    }
}
