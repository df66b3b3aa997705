//! Loops that run: where they listen, and their end.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;

use crate::Capabilities;
use crate::net::{Connections, Group};
use crate::readiness::{Readiness, ReadinessState};
use crate::stop::Stop;

/// Running loops; made by [`Builder::start`](crate::Builder::start). Dropping it detaches them.
pub struct Loops {
    pub(super) threads: Vec<thread::JoinHandle<()>>,
    pub(super) stop: Stop,
    pub(super) group: Arc<Group>,
    pub(super) readiness: Readiness,
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) cores: Vec<usize>,
    pub(super) capabilities: Capabilities,
}

impl Loops {
    /// Where they listen, in the order of [`Builder::listen`](crate::Builder::listen).
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The cores they run on.
    pub fn cores(&self) -> &[usize] {
        &self.cores
    }

    /// What their rings can do.
    pub fn capabilities(&self) -> Capabilities {
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

    /// Asks every loop to stop: [`Core::stopped`](crate::Core::stopped) is done from now on.
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
