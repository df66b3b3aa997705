//! From a [`Builder`] to loops that run: addresses are bound, threads are started and pinned, and waited for.

use std::future::Future;
use std::io;
use std::net::{self, SocketAddr};
use std::panic::Location;
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::thread;

use super::{Builder, Core, Loops};
use crate::Capabilities;
use crate::mesh::{Lobby, Membership};
use crate::net::{AcceptPolicy, Group, steer};
use crate::placement;
use crate::readiness::{Readiness, ReadinessState};
use crate::shard::{LoopGuard, Shard, ShardSettings};
use crate::stop::Stop;

impl Builder {
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
        let guard = LoopGuard::new(Shard::new(&self.settings, None)?);
        let shard = Rc::clone(guard.shard());
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
        let (addresses, listeners) = self.bind_all(&cores)?;
        let stop = Stop::new();
        let readiness = Readiness::default();
        let group = Group::new(cores.len(), self.accept, self.connections_max.unwrap_or(usize::MAX));
        let memberships = Membership::all(&Lobby::new(cores.len()));
        let make = Arc::new(make);
        let (started, starts) = mpsc::channel();
        let mut threads = Vec::new();
        let mut result = Ok(());
        for (index, (listeners, membership)) in listeners.into_iter().zip(memberships).enumerate() {
            let core = Core::new(index, cores[index], listeners, readiness.clone(), Arc::clone(&group))
                .stopping_with(&stop)
                .steered(self.accept == AcceptPolicy::Steer);
            let mut settings = self.settings.clone();
            settings.row += index;
            settings.ring.rings_others = cores.len() > 1;
            let pin_to = (!self.is_unpinned).then_some(cores[index]);
            let seed = Seed { core, membership, settings, pin_to, started: started.clone() };
            let make = Arc::clone(&make);
            let thread = thread::Builder::new()
                .name(format!("annulet-{}", cores[index]))
                .spawn(move || seed.grow(|core| make(core), location));
            match thread {
                Ok(thread) => threads.push(thread),
                Err(error) => {
                    // Those that do not run count as ended for those that do.
                    result = Err(error);
                    break;
                }
            }
        }
        drop(started);
        match result.and(all_started(&starts, cores.len())) {
            Ok(capabilities) => {
                readiness.move_to(ReadinessState::Ready);
                Ok(Loops { threads, stop, group, readiness, addresses, cores, capabilities })
            }
            Err(error) => {
                readiness.move_to(ReadinessState::Draining);
                stop.stop();
                // The error that is returned is the cause; a loop that panics on its way out adds nothing.
                threads.into_iter().for_each(|thread| drop(thread.join()));
                Err(error)
            }
        }
    }

    /// Binds every address once for each core: where they listen, and the listeners of each core.
    fn bind_all(&self, cores: &[usize]) -> io::Result<(Vec<SocketAddr>, Vec<Vec<net::TcpListener>>)> {
        let mut listeners: Vec<Vec<net::TcpListener>> = cores.iter().map(|_| Vec::new()).collect();
        let mut addresses = Vec::new();
        for address in &self.listen {
            let group = self.listen_options.bind_group(*address, cores.len())?;
            addresses.push(group[0].local_addr()?);
            if self.accept == AcceptPolicy::Steer {
                steer(&group, cores)?;
            }
            group.into_iter().zip(&mut listeners).for_each(|(listener, of_core)| of_core.push(listener));
        }
        Ok((addresses, listeners))
    }
}

/// All that a thread needs to become a loop.
struct Seed {
    core: Core,
    /// Its end says that the loop has ended, so it lives as long.
    membership: Membership,
    settings: ShardSettings,
    pin_to: Option<usize>,
    started: mpsc::Sender<io::Result<Capabilities>>,
}

impl Seed {
    /// Runs the loop, on its own thread, until the future of its core is done.
    fn grow<F: Future<Output = ()>>(
        self,
        make: impl FnOnce(Core) -> F,
        location: &'static Location<'static>,
    ) {
        let Seed { core, membership, settings, pin_to, started } = self;
        let guard = match pin_and_make(pin_to, &settings) {
            Ok(guard) => guard,
            Err(error) => {
                // Who starts the loops waits for each of them.
                let _ = started.send(Err(error));
                return;
            }
        };
        let shard = Rc::clone(guard.shard());
        shard.join_mesh(&membership);
        shard.seat.set(Some(core.index()));
        let _ = started.send(Ok(*shard.io.borrow().driver.capabilities()));
        drop(started);
        shard.block_on(make(core), location);
    }
}

/// Waits until each loop runs or has failed: what their rings can do, or why one failed.
fn all_started(
    starts: &mpsc::Receiver<io::Result<Capabilities>>,
    expected: usize,
) -> io::Result<Capabilities> {
    let mut running = Vec::with_capacity(expected);
    let mut failed = None;
    for start in starts {
        match start {
            Ok(capabilities) => running.push(capabilities),
            Err(error) => failed = Some(error),
        }
    }
    match (failed, running.first()) {
        (Some(error), _) => Err(error),
        (None, Some(&capabilities)) if running.len() == expected => Ok(capabilities),
        (None, _) => Err(io::Error::other("a loop panicked while it was being made")),
    }
}

/// Makes the loop of this thread, bound to `core` if there is one.
pub(crate) fn pin_and_make(core: Option<usize>, settings: &ShardSettings) -> io::Result<LoopGuard> {
    core.map_or(Ok(()), placement::pin_current_thread)?;
    // Made by the thread that runs it: the memory is local to the core, and the ring is bound to its first user.
    Ok(LoopGuard::new(Shard::new(settings, core)?))
}
