//! The new binary that is to take over: started by SIGUSR2, watched until it is ready, and until it ends.

use std::time::{Duration, Instant};

use rustix::process::Signal as Raw;

use super::{Watch, say};
use crate::supervisor::Ended;
use crate::supervisor::link::Link;
use crate::supervisor::process::{self, Process, describe};

/// How long a new binary may take to be ready. Arbitrary, and the same as for a worker.
const SUCCESSOR_READY_MAX: Duration = Duration::from_secs(60);

/// A new binary that is to take over.
#[derive(Debug)]
pub(super) struct Successor {
    pub(super) process: Process,
    /// Until it has taken over; there is nothing to hear afterwards, and its end would wake for ever.
    pub(super) link: Option<Link>,
    pub(super) late_at: Instant,
}

impl Successor {
    pub(super) fn has_taken_over(&self) -> bool {
        self.link.is_none()
    }
}

impl Watch {
    /// Starts it, if there is to be one now.
    pub(super) fn start_successor(&mut self, now: Instant) {
        if let Some(why) = refuses_successor(std::process::id()) {
            return say(why);
        }
        let Some((_, sockets)) =
            self.start.as_ref().filter(|_| self.plan.may_change() && self.successor.is_none())
        else {
            return say("SIGUSR2: not now: there is a change under way");
        };
        self.manager.reloading();
        let started = process::start_successor(&sockets.handed_on())
            .and_then(|(process, link)| Ok((process, Link::new(link)?)));
        match started {
            Ok((process, link)) => {
                say(format_args!("SIGUSR2: pid {} is to take over", process.id()));
                let late_at = now + SUCCESSOR_READY_MAX;
                self.successor = Some(Successor { process, link: Some(link), late_at });
            }
            Err(error) => {
                say(format_args!("SIGUSR2: {error}; this one goes on serving"));
                self.manager.ready();
            }
        }
    }

    /// Whether it is ready, late, or gone.
    pub(super) fn look_at_successor(&mut self) {
        let Some(successor) = &mut self.successor else { return };
        let now = Instant::now();
        if successor.link.as_mut().is_some_and(Link::receive_any) {
            successor.link = None;
            let pid = successor.process.id();
            say(format_args!("pid {pid} has taken over; finishing what is in flight"));
            self.ended = self.ended.or(Some(Ended::Replaced));
            self.manager.handed_over(pid);
            self.actions.extend(self.plan.replaced(now));
        }
        let (pid, took_over) = (successor.process.id(), successor.has_taken_over());
        let why = match successor.process.try_wait() {
            Ok(Some(status)) if took_over => {
                say(format_args!("pid {pid}, which has taken over, {}", describe(status)));
                self.successor = None;
                return;
            }
            Ok(Some(status)) => format!("{} before it was ready", describe(status)),
            Ok(None) if !took_over && successor.late_at <= now => {
                successor.process.send(Raw::KILL);
                // Its end is seen next.
                successor.late_at = now + SUCCESSOR_READY_MAX;
                return say(format_args!("pid {pid} is not ready in time and is killed"));
            }
            Ok(None) => return,
            Err(error) => format!("cannot be waited for: {error}"),
        };
        self.successor = None;
        if self.plan.is_ending() {
            return say(format_args!("pid {pid} {why}"));
        }
        say(format_args!("pid {pid} {why}; this one goes on serving"));
        self.manager.ready();
    }
}

/// Whoever has this number ends everything below it: the kernel would kill the successor with it (pid_namespaces(7)).
fn refuses_successor(pid: u32) -> Option<&'static str> {
    (pid == 1).then_some(
        "SIGUSR2: refused: this is process 1 of its container, which ends with it and would take the successor along; \
         start a new container instead, or this program below an init (docker run --init)",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn process_1_has_no_successor() {
        assert!(refuses_successor(1).unwrap().contains("--init"));
        assert_eq!(refuses_successor(2), None);
    }
}
