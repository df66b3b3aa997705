//! The supervisor: one wait for signals, for what workers say and for their ends; the plan decides, this does it.
//!
//! It sleeps in one poll(2) until something happens or the plan's next deadline has come.

mod successor;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::Signal as Raw;

use super::body::{Body, Worker};
use super::heard::Heard;
use super::link::{self, Link, PING, Report};
use super::manager::Manager;
use super::plan::{Action, Late, Order, Plan, WorkerId};
use super::process::{self, Process};
use super::rows::Rows;
use super::sockets::Sockets;
use super::{Ended, Started};
use crate::readiness::ReadinessState;
use crate::signal::{Signal, SignalKind};
use successor::Successor;

/// Starts a worker of a slot with a row on the board; gives it and the supervisor's end of its link.
pub(super) type Start = Box<dyn Fn(usize, Option<usize>) -> io::Result<(Body, UnixStream)>>;

/// The supervisor.
pub(super) struct Watch {
    plan: Plan,
    workers: BTreeMap<WorkerId, Worker>,
    heard: Heard,
    /// With the sockets, until nobody accepts from them any more.
    start: Option<(Start, Rc<Sockets>)>,
    rows: Rows,
    started: Started,
    manager: Manager,
    successor: Option<Successor>,
    /// Who is to be told that this one is ready.
    predecessor: Option<Link>,
    actions: VecDeque<Action>,
    /// SIGCHLD has come.
    has_children_to_reap: bool,
    ended: Option<Ended>,
    failure: Option<io::Error>,
}

impl Watch {
    pub(super) fn new(
        plan: Plan,
        heard: Heard,
        start: Start,
        rows: Rows,
        sockets: Rc<Sockets>,
        started: Started,
        predecessor: Option<UnixStream>,
    ) -> io::Result<Watch> {
        Ok(Watch {
            plan,
            workers: BTreeMap::new(),
            heard,
            start: Some((start, sockets)),
            rows,
            started,
            manager: Manager::from_environment(Instant::now()),
            successor: None,
            predecessor: predecessor.map(Link::new).transpose()?,
            actions: VecDeque::new(),
            has_children_to_reap: false,
            ended: None,
            failure: None,
        })
    }

    /// Watches until all is over.
    ///
    /// # Errors
    ///
    /// When workers cannot be started, and what poll(2) says.
    pub(super) fn run(mut self, on_ready: impl FnOnce(&Started)) -> io::Result<Ended> {
        let mut on_ready = Some(on_ready);
        self.actions.extend(self.plan.begin(Instant::now()));
        loop {
            while let Some(action) = self.actions.pop_front() {
                if action == Action::Ready {
                    self.is_ready();
                    on_ready.take().into_iter().for_each(|on_ready| on_ready(&self.started));
                } else {
                    self.perform(action);
                }
            }
            if self.plan.is_over() {
                break;
            }
            // Workers that finish have copies until they have looked for the last time. Who connects afterwards is refused at
            // once, instead of waiting in a queue that nobody empties.
            if self.plan.has_stopped_accepting() {
                self.start = None;
            }
            self.wait()?;
            self.hear();
            self.look_at_workers();
            self.look_at_successor();
            self.reap_strangers();
            let now = Instant::now();
            self.actions.extend(self.plan.tick(now));
            if self.manager.tick(now, &self.plan.serving()) {
                for id in self.plan.serving() {
                    if let Some(worker) = self.workers.get_mut(&id) {
                        worker.link.send(PING);
                    }
                }
            }
        }
        match self.failure {
            Some(error) => Err(error),
            None => Ok(self.ended.unwrap_or(Ended::Finished)),
        }
    }

    /// Sleeps until something happens.
    fn wait(&self) -> io::Result<()> {
        let bell = self.heard.bell();
        let mut entries = vec![PollFd::new(&bell, PollFlags::IN)];
        let successor = self.successor.iter().map(|it| (it.link.as_ref(), Some(&it.process)));
        let workers = self.workers.values().map(|worker| (Some(&worker.link), worker.process()));
        let pidfds_and_links: Vec<_> = workers
            .chain(successor)
            .map(|(link, process)| {
                let link = link.filter(|link| link.is_open()).map(|link| link.stream().as_fd());
                (link, process.map(Process::pidfd))
            })
            .collect();
        for (link, pidfd) in &pidfds_and_links {
            entries.extend([link, pidfd].into_iter().flatten().map(|fd| PollFd::new(fd, PollFlags::IN)));
        }
        let late = self.successor.iter().filter(|it| !it.has_taken_over()).map(|it| it.late_at);
        let deadlines = [self.plan.next_deadline(), self.manager.next_deadline()];
        let deadline = deadlines.into_iter().flatten().chain(late).min();
        let timeout = deadline.map(|deadline| {
            let left = deadline.saturating_duration_since(Instant::now());
            Timespec {
                tv_sec: left.as_secs().min(i32::MAX as u64) as i64,
                tv_nsec: left.subsec_nanos().into(),
            }
        });
        match poll(&mut entries, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    fn hear(&mut self) {
        for kind in self.heard.take() {
            let now = Instant::now();
            if kind == SignalKind::terminate() || kind == SignalKind::interrupt() {
                let signal =
                    if kind == SignalKind::terminate() { Signal::Terminate } else { Signal::Interrupt };
                let is_first = !self.plan.is_asked();
                say(format_args!(
                    "{signal}: {}",
                    if is_first { "finishing what is in flight" } else { "ending at once" }
                ));
                // Whoever has taken over speaks for the service.
                if is_first && self.ended != Some(Ended::Replaced) {
                    self.ended = Some(Ended::Signalled(signal));
                    self.manager.stopping();
                    // Not ready yet, it would go on alone, unknown to whoever ends this one.
                    let coming = self.successor.iter().filter(|successor| !successor.has_taken_over());
                    coming.for_each(|successor| successor.process.send(Raw::TERM));
                }
                self.started.readiness.move_to(ReadinessState::Draining);
                self.actions.extend(self.plan.end(now));
            } else if kind == SignalKind::hangup() {
                if self.plan.is_running() && self.successor.is_none() {
                    say("SIGHUP: replacing the workers one by one");
                    self.manager.reloading();
                    self.actions.extend(self.plan.roll(now));
                } else {
                    say("SIGHUP: not now: there is a change under way");
                    // The manager waits for both words; the second one comes at the end of that change.
                    if !self.plan.is_ending() {
                        self.manager.reloading();
                    }
                }
            } else if kind == SignalKind::user_defined2() {
                self.start_successor(now);
            } else if kind == SignalKind::child() {
                self.has_children_to_reap = true;
            } else {
                let ready = self.workers.values().filter(|worker| worker.is_ready);
                ready.filter_map(Worker::process).for_each(|process| process.send(Raw::USR1));
            }
        }
    }

    fn perform(&mut self, action: Action) {
        let now = Instant::now();
        match action {
            Action::Start { worker, slot } => self.start(worker, slot, now),
            Action::Tell(worker, order) => {
                if let Some(worker) = self.workers.get_mut(&worker) {
                    worker.link.send(order.byte());
                }
            }
            Action::Kill(worker, late) => self.kill(worker, late),
            Action::LeaveAlone(worker, late) => {
                self.say_late(worker, late, "it is left alone, because a thread cannot be killed");
            }
            Action::Ready => unreachable!("the run takes it"),
            Action::Rolled { is_whole } => {
                say(if is_whole {
                    "every worker was replaced"
                } else {
                    "a new worker has failed to start; the old ones go on"
                });
                self.manager.ready();
            }
            Action::BackOff { slot, pause } => {
                say(format_args!("worker {slot}: the next attempt in {pause:?}"));
            }
            Action::GiveUp { slot } => {
                let words = match self.started.cores.get(slot) {
                    Some(core) => format!("worker {slot} (core {core}) does not start; giving up"),
                    None => "what runs beside the workers does not start; giving up".to_owned(),
                };
                let error = self.failure.take().unwrap_or_else(|| io::Error::other(words));
                self.failure = Some(error);
                self.started.readiness.move_to(ReadinessState::Draining);
                self.manager.stopping();
            }
        }
    }

    fn start(&mut self, id: WorkerId, slot: usize, now: Instant) {
        // Who is beside the workers is not counted among them.
        let row = (slot < self.started.cores.len()).then(|| self.rows.take()).flatten();
        let started = match &self.start {
            Some((start, _)) => start(slot, row).and_then(|(body, link)| Ok((body, Link::new(link)?))),
            None => Err(io::Error::other("the listening sockets are closed")),
        };
        match started {
            Ok((body, link)) => {
                self.workers.insert(id, Worker { slot, body, link, row, is_ready: false });
            }
            Err(error) => {
                row.into_iter().for_each(|row| self.rows.give_back(row));
                say(format_args!("worker {slot} cannot be started: {error}"));
                self.actions.extend(self.plan.ended(id, now));
            }
        }
    }

    fn kill(&mut self, id: WorkerId, late: Late) {
        match self.workers.get(&id).map(|worker| &worker.body) {
            Some(Body::Process(process)) => {
                process.send(Raw::KILL);
                self.say_late(id, late, "it is killed");
            }
            // A thread cannot be ended by force, only all of them together.
            Some(Body::Thread(_)) => {
                self.say_late(id, late, "the process ends, because a thread cannot be killed");
                std::process::exit(1)
            }
            Some(Body::Gone) | None => {}
        }
    }

    fn say_late(&self, id: WorkerId, late: Late, what: &str) {
        let Some(worker) = self.workers.get(&id) else { return };
        match late {
            Late::Starting => say(format_args!("{worker} is not ready in time; {what}")),
            Late::Leaving => say(format_args!("{worker} does not end in time; {what}")),
            Late::AtOnce => {}
        }
    }

    fn is_ready(&mut self) {
        self.started.readiness.move_to(ReadinessState::Ready);
        self.workers.values_mut().for_each(|worker| tell_that_all_serve(worker, &self.started));
        match self.predecessor.take() {
            // The predecessor tells the manager, to whom this process is a stranger yet.
            Some(mut link) => link.send(link::READY),
            None => self.manager.ready(),
        }
    }

    fn look_at_workers(&mut self) {
        let ids: Vec<_> = self.workers.keys().copied().collect();
        for id in ids {
            let Some(worker) = self.workers.get_mut(&id) else { continue };
            // A thread's end is the end of its link; the last reports of a process may come until it has ended.
            let mut reports = worker.link.receive();
            let end = worker.take_end();
            reports.extend(worker.link.receive());
            let now = Instant::now();
            for report in reports {
                match report {
                    Report::Ready(capabilities) => {
                        worker.is_ready = true;
                        tell_that_all_serve(worker, &self.started);
                        // The ring of who is beside them is another one.
                        if worker.slot < self.started.cores.len() {
                            self.started.capabilities = Some(capabilities);
                        }
                        self.actions.extend(self.plan.ready(id, now));
                    }
                    Report::Pong => self.manager.pong(id),
                    Report::Finished => self.plan.finished(id),
                    Report::Leaving => {
                        if self.plan.is_restarted(id) {
                            say(format_args!("{worker} was asked to end; another takes its place"));
                        }
                        self.actions.extend(self.plan.leaving(id, now));
                    }
                }
            }
            let Some(end) = end else { continue };
            // A thread's failure at the very start is what `supervise` returns.
            let is_returned = end.failure.is_some() && self.plan.is_starting();
            let is_expected = end.is_clean && self.plan.may_end(id);
            if !is_returned && !is_expected {
                let what = if self.plan.is_restarted(id) { "; another takes its place" } else { "" };
                say(format_args!("{} {}{what}", end.who, end.how));
            }
            worker.row.take().into_iter().for_each(|row| self.rows.give_back(row));
            self.workers.remove(&id);
            if self.plan.is_starting() && self.failure.is_none() {
                self.failure = end.failure;
            }
            self.actions.extend(self.plan.ended(id, now));
        }
    }

    /// The first process of a container inherits children whose parents have ended, and must reap them. Any other one, and in threads
    /// mode that one, too, has children that may be those of the program, which wants to know how they ended itself.
    fn reap_strangers(&mut self) {
        let inherits = std::process::id() == 1 && self.started.connections.is_none();
        if std::mem::take(&mut self.has_children_to_reap) && inherits {
            // Those of its own have been looked at since the signal came: who has ended later sends another one.
            let workers = self.workers.values().filter_map(Worker::process);
            let own: Vec<u32> =
                workers.chain(self.successor.iter().map(|it| &it.process)).map(Process::id).collect();
            process::reap_strangers(&own);
        }
    }
}

/// To who is beside the workers, in a process of its own; threads share the value.
fn tell_that_all_serve(worker: &mut Worker, started: &Started) {
    if worker.slot >= started.cores.len() && worker.is_ready && started.readiness.is_ready() {
        worker.link.send(Order::AllServe.byte());
    }
}

/// One line for one event, in one write: several processes share stderr.
pub(super) fn say(what: impl fmt::Display) {
    // Nobody may be listening any more, which is no reason to end.
    let _ = io::stderr().write_all(format!("annulet: {what}\n").as_bytes());
}
