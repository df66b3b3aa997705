//! What a service manager is told (sd_notify(3)): without NOTIFY_SOCKET in the environment, nothing.
//!
//! It is never waited for. What its socket does not take (it is stuck, or has much to do) is offered again until it does, and the
//! supervisor goes on with its work.

use std::collections::{BTreeSet, VecDeque};
use std::ffi::OsStr;
use std::fmt::Write;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

use sd_notify::NotifyState;

use super::plan::WorkerId;
use super::watch::say;

/// Between two attempts to tell a manager that does not listen. Arbitrary.
const AGAIN: Duration = Duration::from_millis(100);
/// Words for a manager that does not listen: enough for some changes of state. Then the oldest is forgotten.
const UNSAID_MAX: usize = 16;

/// The service manager, and the watchdog that it may have asked for.
#[derive(Debug)]
pub(super) struct Manager {
    /// Where it listens, if there is one.
    socket: Option<(UnixDatagram, SocketAddr)>,
    /// What it has not taken yet.
    unsaid: VecDeque<String>,
    again_at: Option<Instant>,
    /// Between two signs of life: half of what it allows, as sd_watchdog_enabled(3) advises.
    interval: Option<Duration>,
    next: Option<Instant>,
    /// Workers that have not answered yet.
    silent: BTreeSet<WorkerId>,
    has_complained: bool,
}

impl Manager {
    pub(super) fn from_environment(now: Instant) -> Manager {
        let socket = std::env::var_os("NOTIFY_SOCKET").and_then(|path| {
            socket_to(path.as_bytes())
                .map_err(|error| say(format_args!("the service manager at {path:?} cannot be told: {error}")))
                .ok()
        });
        let interval = sd_notify::watchdog_enabled().map(|within| within / 2).filter(|half| !half.is_zero());
        Manager::new(socket, interval, now)
    }

    fn new(socket: Option<(UnixDatagram, SocketAddr)>, interval: Option<Duration>, now: Instant) -> Manager {
        Manager {
            socket,
            unsaid: VecDeque::new(),
            again_at: None,
            interval,
            next: interval.map(|interval| now + interval),
            silent: BTreeSet::new(),
            has_complained: false,
        }
    }

    pub(super) fn ready(&mut self) {
        self.tell(&[NotifyState::Ready]);
    }

    pub(super) fn stopping(&mut self) {
        self.tell(&[NotifyState::Stopping]);
    }

    /// Must be followed by `ready`, also if the reload fails.
    pub(super) fn reloading(&mut self) {
        // The manager sorts the answers of several reloads by it (sd_notify(3), Type=notify-reload).
        match NotifyState::monotonic_usec_now() {
            Ok(now) => self.tell(&[NotifyState::Reloading, now]),
            Err(_) => self.tell(&[NotifyState::Reloading]),
        }
    }

    /// Another process is the service from now on, and it is ready.
    pub(super) fn handed_over(&mut self, pid: u32) {
        self.tell(&[NotifyState::MainPid(pid), NotifyState::Ready]);
        // Signs of life are its affair.
        self.next = None;
    }

    /// When `tick` has something to do.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.next.into_iter().chain(self.again_at).min()
    }

    /// Gives a sign of life if all workers have answered since the last time. True when they are to be asked again.
    pub(super) fn tick(&mut self, now: Instant, serving: &[WorkerId]) -> bool {
        if self.again_at.is_some_and(|at| at <= now) {
            self.again_at = None;
            self.say_all(now);
        }
        let (Some(interval), Some(next)) = (self.interval, self.next) else { return false };
        if now < next {
            return false;
        }
        self.next = Some(now + interval);
        // Who has been sent away or has ended is not waited for.
        self.silent.retain(|worker| serving.contains(worker));
        if self.silent.is_empty() {
            self.tell(&[NotifyState::Watchdog]);
            self.silent.extend(serving);
            return true;
        }
        if !self.has_complained {
            self.has_complained = true;
            say(format_args!(
                "{} of the workers do not answer; the watchdog is left waiting",
                self.silent.len()
            ));
        }
        false
    }

    /// A worker has answered.
    pub(super) fn pong(&mut self, worker: WorkerId) {
        self.silent.remove(&worker);
        self.has_complained &= !self.silent.is_empty();
    }

    fn tell(&mut self, state: &[NotifyState<'_>]) {
        if self.socket.is_none() {
            return;
        }
        let mut words = String::new();
        for state in state {
            writeln!(words, "{state}").expect("a string takes everything");
        }
        // A sign of life that comes late is none.
        if matches!(state, [NotifyState::Watchdog]) && !self.unsaid.is_empty() {
            return;
        }
        if self.unsaid.len() == UNSAID_MAX {
            self.unsaid.pop_front();
        }
        self.unsaid.push_back(words);
        self.say_all(Instant::now());
    }

    fn say_all(&mut self, now: Instant) {
        let Some((socket, address)) = &self.socket else { return };
        while let Some(words) = self.unsaid.front() {
            match socket.send_to_addr(words.as_bytes(), address) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                // Its queue is full.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.again_at = Some(now + AGAIN);
                    return;
                }
                Err(error) => {
                    say(format_args!("the service manager cannot be told {:?}: {error}", words.trim_end()));
                }
            }
            self.unsaid.pop_front();
        }
    }
}

/// A socket that never waits, and the address: a path, or an abstract name behind `@`.
fn socket_to(path: &[u8]) -> io::Result<(UnixDatagram, SocketAddr)> {
    let address = match path {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        path => SocketAddr::from_pathname(OsStr::from_bytes(path))?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    Ok((socket, address))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(manager: &UnixDatagram) -> String {
        let mut bytes = [0; 256];
        let count = manager.recv(&mut bytes).expect("it is told something in time");
        String::from_utf8(bytes[..count].to_vec()).unwrap()
    }

    #[test]
    fn a_manager_that_is_stuck_holds_nobody_up_and_hears_everything_later() {
        let name = format!("annulet-stuck-{}", std::process::id());
        let listening = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        listening.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let now = Instant::now();
        let stuck = format!("@{name}");
        let mut told = Manager::new(Some(socket_to(stuck.as_bytes()).unwrap()), None, now);
        // One may have reached its own bound: until a fresh one cannot say anything either.
        let (mut fillers, mut filled) = (Vec::new(), 0);
        loop {
            let (filler, address) = socket_to(stuck.as_bytes()).unwrap();
            let sent = (0..10_000).take_while(|_| filler.send_to_addr(b"x", &address).is_ok()).count();
            fillers.push(filler);
            filled += sent;
            if sent == 0 {
                break;
            }
        }
        // It returns.
        told.ready();
        told.tell(&[NotifyState::Watchdog]);
        told.stopping();
        let again = told.next_deadline().expect("it tries again");
        assert!(!told.tick(again, &[]));
        assert!(told.next_deadline().is_some(), "nobody has listened");
        (0..filled).for_each(|_| assert_eq!(heard(&listening), "x"));
        told.tick(told.next_deadline().unwrap(), &[]);
        assert_eq!([heard(&listening), heard(&listening)], ["READY=1\n", "STOPPING=1\n"]);
        assert_eq!(told.next_deadline(), None);
        for _ in 0..2 * UNSAID_MAX {
            told.tell(&[NotifyState::Ready]);
        }
        assert!(told.unsaid.len() <= UNSAID_MAX);
    }

    #[test]
    fn without_a_manager_nothing_is_kept() {
        let mut manager = Manager::new(None, None, Instant::now());
        manager.ready();
        manager.stopping();
        assert_eq!((manager.unsaid.len(), manager.next_deadline()), (0, None));
    }
}
