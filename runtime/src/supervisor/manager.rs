//! What a service manager is told (sd_notify(3)): without NOTIFY_SOCKET in the environment, nothing.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use sd_notify::NotifyState;

use super::plan::WorkerId;
use super::watch::say;

/// The service manager, and the watchdog that it may have asked for.
#[derive(Debug)]
pub(super) struct Manager {
    /// Between two signs of life: half of what it allows, as sd_watchdog_enabled(3) advises.
    interval: Option<Duration>,
    next: Option<Instant>,
    /// Workers that have not answered yet.
    silent: BTreeSet<WorkerId>,
    has_complained: bool,
}

impl Manager {
    pub(super) fn from_environment(now: Instant) -> Manager {
        let interval = sd_notify::watchdog_enabled().map(|within| within / 2).filter(|half| !half.is_zero());
        Manager {
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
        self.next
    }

    /// Gives a sign of life if all workers have answered since the last time. True when they are to be asked again.
    pub(super) fn tick(&mut self, now: Instant, serving: &[WorkerId]) -> bool {
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
        if let Err(error) = sd_notify::notify(state) {
            say(format_args!("the service manager cannot be told ({state:?}): {error}"));
        }
    }
}
