//! What the future of one core is made from.

use std::future::Future;
use std::os::fd::AsFd;
use std::sync::Arc;

use crate::mesh::{Call, submit_to};
use crate::net::{Connections, Group, Share, TcpListener, unsteer};
use crate::readiness::Readiness;
use crate::stop::Stop;

/// What the future of one core is made from.
#[derive(Debug)]
pub struct Core {
    index: usize,
    core: usize,
    listeners: Untaken,
    stop: Stop,
    /// Set before `stop`, or with it: without a supervisor it is the same one.
    draining: Stop,
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
        Core { index, core, listeners, stop: Stop::new(), draining: Stop::new(), readiness, group }
    }

    /// With the end that all loops have in common.
    pub(super) fn stopping_with(self, stop: &Stop) -> Core {
        Core { stop: stop.clone(), draining: stop.clone(), ..self }
    }

    /// Whether its listeners are in a steered group, which they leave.
    pub(super) fn steered(mut self, is_steered: bool) -> Core {
        self.listeners.is_steered = is_steered;
        self
    }

    /// What its supervisor sets: that the end is near, and that it has come.
    pub(crate) fn told(&self) -> (Stop, Stop) {
        (self.draining.clone(), self.stop.clone())
    }

    /// The place of this core among those chosen, from zero.
    pub fn index(&self) -> usize {
        self.index
    }

    /// The number of the core, as the kernel counts.
    pub fn core(&self) -> usize {
        self.core
    }

    /// This core's listeners, in the order of [`Builder::listen`](crate::Builder::listen).
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
    /// ([`Builder::drain_delay`](crate::Builder::drain_delay)), or comes with it where there is none. The time to tell clients to go elsewhere, while new
    /// ones are still served.
    pub fn draining(&self) -> crate::stop::Stopped {
        self.draining.stopped()
    }

    /// What to tell a load balancer; the same for all cores of the process.
    pub fn readiness(&self) -> &Readiness {
        &self.readiness
    }
}
