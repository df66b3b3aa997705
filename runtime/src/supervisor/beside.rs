//! What runs beside the workers and tells of them: a loop of its own, watched over as they are, for an admin listener.

use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use crate::metrics::Board;
use crate::net::TcpListener;
use crate::readiness::Readiness;
use crate::shard::{LoopPolicy, ShardSettings};
use crate::stop::{Stop, Stopped};

/// What the future of [`Builder::beside`](crate::Builder::beside) is made from.
#[derive(Debug)]
pub struct Beside {
    pub(super) listener: Option<std::net::TcpListener>,
    pub(super) board: Board,
    pub(super) readiness: Readiness,
    pub(super) stop: Stop,
}

impl Beside {
    /// Its listener, once.
    ///
    /// # Panics
    ///
    /// Outside of its loop.
    pub fn take_listener(&mut self) -> Option<TcpListener> {
        let listener = self.listener.take()?;
        Some(TcpListener::from_std(listener).expect("a bound socket can be made blocking"))
    }

    /// The counters of all workers, whatever they are.
    pub fn board(&self) -> &Board {
        &self.board
    }

    /// What to tell a load balancer about all of them.
    pub fn readiness(&self) -> &Readiness {
        &self.readiness
    }

    /// Done when all workers have ended, or another has taken its place. The listener must then be
    /// [emptied](TcpListener::rest) and not just dropped: the kernel wakes one of those that wait at a socket, and a
    /// connection that woke this one is seen by no other.
    pub fn stopped(&self) -> Stopped {
        self.stop.stopped()
    }
}

type Making = dyn Fn(Beside) -> Pin<Box<dyn Future<Output = ()>>> + Send + Sync;

/// Where it listens, and what its future is.
#[derive(Clone)]
pub(super) struct BesidePlan {
    pub(super) address: SocketAddr,
    pub(super) make: Arc<Making>,
}

impl BesidePlan {
    pub(super) fn new<M, F>(address: SocketAddr, make: M) -> Self
    where
        M: Fn(Beside) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + 'static,
    {
        BesidePlan { address, make: Arc::new(move |beside| Box::pin(make(beside))) }
    }
}

impl fmt::Debug for BesidePlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BesidePlan").field("address", &self.address).finish_non_exhaustive()
    }
}

/// The settings of its loop: it is small, sleeps when it has nothing to do, and is not seen among the workers.
pub(super) fn settings(of_workers: &ShardSettings) -> ShardSettings {
    let mut settings = of_workers.clone();
    (settings.ring.sq_entries, settings.ring.cq_entries) = (64, 256);
    settings.buffers_max = Some(256);
    settings.policy = LoopPolicy::default();
    (settings.board, settings.row) = (Board::nobody(), 0);
    settings.stall.limit = None;
    settings
}
