//! Starting a worker of a slot: a thread of this process, or a process.

use std::future::Future;
use std::io;
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::sync::Arc;

use super::body::Body;
use super::sockets::Sockets;
use super::watch::Start;
use super::worker::{self, Common, Makers};
use super::{Started, process};
use crate::net::Group;
use crate::runtime::Core;
use crate::shard::ShardSettings;

/// The core of a slot and its listening sockets; who is beside the workers has no core.
fn of_slot<'a>(sockets: &'a Sockets, cores: &[usize], slot: usize) -> (Option<usize>, Vec<&'a TcpListener>) {
    match cores.get(slot) {
        Some(&core) => (Some(core), sockets.of_slot(slot, cores.len())),
        None => (None, sockets.beside().into_iter().map(|(listener, _)| listener).collect()),
    }
}

/// Starts processes.
pub(super) fn processes(sockets: &Rc<Sockets>, started: &Started) -> Start {
    let (sockets, cores, board) = (Rc::clone(sockets), started.cores.clone(), started.board.clone());
    Box::new(move |slot, row| {
        let (core, listeners) = of_slot(&sockets, &cores, slot);
        let listeners: Vec<_> = listeners.into_iter().map(AsFd::as_fd).collect();
        let (process, link) = process::start_worker(slot, core, board.fd(), row, &listeners)?;
        Ok((Body::Process(process), link))
    })
}

/// Starts threads.
pub(super) fn threads<M, F>(
    sockets: &Rc<Sockets>,
    started: &Started,
    settings: &ShardSettings,
    group: &Arc<Group>,
    makers: Arc<Makers<M>>,
) -> Start
where
    M: Fn(Core) -> F + Send + Sync + 'static,
    F: Future<Output = ()>,
{
    let (sockets, cores, settings) = (Rc::clone(sockets), started.cores.clone(), settings.clone());
    let (board, readiness) = (started.board.clone(), started.readiness.clone());
    let common = Common { board, readiness, group: Arc::clone(group) };
    Box::new(move |slot, row| {
        let (core, listeners) = of_slot(&sockets, &cores, slot);
        let listeners = listeners.into_iter().map(TcpListener::try_clone).collect::<io::Result<_>>()?;
        let (part, settings) = worker::part(slot, core, listeners, &settings, row, common.clone());
        let (thread, link) = worker::start_thread(part, settings, Arc::clone(&makers))?;
        Ok((Body::Thread(thread), link))
    })
}
