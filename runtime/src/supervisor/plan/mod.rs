//! What to do when: the workers of each slot as a state machine. Starts nothing, reads no clock.
//!
//! ```text
//!   one worker:  Starting ── ready ──► Serving ── told to go ──► Leaving ── ended ──► (gone)
//!                    │ ended: a failure     │ ended: another starts, at once or after a pause
//!                    ▼
//!                back-off, or giving up
//!
//!   all of them: Starting ── every slot serves ──► Running ── told to end, given up, or all are finished ──► Ending
//! ```
//!
//! A slot has at most one worker that serves and one that starts; a new one that is ready sends the old one away. The last
//! slot may be beside the others: its worker tells of them, so it goes when they have gone.
//!
//! Who is too late is killed. A thread cannot be: it is told to go and left alone, until the end of all, which has a deadline
//! for it as well.

mod action;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

pub(super) use action::{Action, Late, Order, WorkerId};

/// Exits before READY in a row, of one slot, after which the supervisor gives up. With the pauses between them that is
/// about thirteen seconds.
const FAILURES_MAX: u32 = 8;
/// The pause after the first of them; it doubles with each.
const BACK_OFF: Duration = Duration::from_millis(100);
/// One that has served for less is replaced after a pause as well, or workers that panic at once would be executed without
/// end and at full speed.
const SERVED_MIN: Duration = Duration::from_secs(1);
/// How long a worker may take to be ready. Arbitrary: a loop is made within milliseconds.
const READY_MAX: Duration = Duration::from_secs(60);
/// What a leaving worker gets beyond the drain limit, which it keeps by itself.
const LEAVE_GRACE: Duration = Duration::from_secs(5);
/// Leaving workers of one slot; with so many a roll waits.
const LEAVING_MAX: usize = 4;
/// Workers of one slot: those that leave, one that serves, one that starts.
pub(super) const OF_SLOT_MAX: usize = LEAVING_MAX + 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Starting {
        late_at: Instant,
    },
    Serving {
        since: Instant,
    },
    Leaving {
        late_at: Instant,
    },
    /// A thread that should have left; its end may still come.
    LeftAlone,
    /// It was killed; only its end is waited for.
    Killed {
        was_starting: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Starting,
    Running,
    /// Accepting still goes on until then.
    Draining {
        until: Instant,
    },
    Ending,
}

#[derive(Debug, Default)]
struct Slot {
    /// Exits before READY since the last READY.
    failures: u32,
    /// Ends soon after READY, in a row.
    brief: u32,
    /// When the next worker is to be started.
    start_at: Option<Instant>,
    /// Its worker has done all it had to.
    is_finished: bool,
}

/// The workers of all slots.
#[derive(Debug)]
pub(super) struct Plan {
    slots: Vec<Slot>,
    /// The slot beside the others, if there is one, is this one.
    beside: usize,
    workers: BTreeMap<WorkerId, (usize, State)>,
    next: u64,
    phase: Phase,
    /// A signal has asked for the end.
    is_asked: bool,
    /// Others have the sockets, and serve.
    is_replaced: bool,
    /// Workers are processes.
    can_kill: bool,
    /// The slot whose new worker is started next, or is starting.
    roll: Option<usize>,
    /// Another roll was asked for during this one.
    rolls_again: bool,
    drain_delay: Duration,
    drain_limit: Duration,
}

impl Plan {
    /// For so many slots, and one beside them; of threads, which cannot be killed, or of processes.
    pub(super) fn new(
        slots: usize,
        has_beside: bool,
        can_kill: bool,
        drain_delay: Duration,
        drain_limit: Duration,
    ) -> Plan {
        Plan {
            slots: (0..slots + usize::from(has_beside)).map(|_| Slot::default()).collect(),
            beside: slots,
            workers: BTreeMap::new(),
            next: 0,
            phase: Phase::Starting,
            is_asked: false,
            is_replaced: false,
            can_kill,
            roll: None,
            rolls_again: false,
            drain_delay,
            drain_limit,
        }
    }

    /// Starts the first worker of every slot.
    pub(super) fn begin(&mut self, now: Instant) -> Vec<Action> {
        let mut actions = Vec::new();
        (0..self.slots.len()).for_each(|slot| self.start(slot, now, &mut actions));
        actions
    }

    /// A worker is ready.
    pub(super) fn ready(&mut self, worker: WorkerId, now: Instant) -> Vec<Action> {
        let mut actions = Vec::new();
        let Some((slot, state @ State::Starting { .. })) = self.workers.get_mut(&worker) else {
            return actions;
        };
        let slot = *slot;
        *state = State::Serving { since: now };
        self.slots[slot].failures = 0;
        match self.phase {
            Phase::Starting | Phase::Running => {}
            // It has not heard of the end.
            Phase::Draining { .. } => actions.push(Action::Tell(worker, Order::Drain)),
            Phase::Ending if slot == self.beside => self.send_last_away(now, &mut actions),
            Phase::Ending => self.send_away(worker, Order::Stop, now, &mut actions),
        }
        let old = self.find(slot, |id, state| id != worker && matches!(state, State::Serving { .. }));
        if let Some(old) = old {
            self.send_away(old, Order::Replaced, now, &mut actions);
        }
        if self.phase == Phase::Starting && (0..self.slots.len()).all(|slot| self.is_served(slot)) {
            self.phase = Phase::Running;
            actions.push(Action::Ready);
        }
        if self.roll == Some(slot) {
            self.roll = Some(slot + 1);
            self.go_on_rolling(now, &mut actions);
        }
        actions
    }

    /// A worker said that it has done all it had to, and ends.
    pub(super) fn finished(&mut self, worker: WorkerId) {
        // One that leaves has not heard of it yet; another has its place, which is not finished.
        if let Some((slot, State::Starting { .. } | State::Serving { .. })) = self.workers.get(&worker) {
            self.slots[*slot].is_finished = true;
        }
    }

    /// A worker said that it leaves, because somebody has asked it and nobody else: its slot is not to wait until it has gone.
    pub(super) fn leaving(&mut self, worker: WorkerId, now: Instant) -> Vec<Action> {
        let mut actions = Vec::new();
        let late_at = now + self.drain_limit + LEAVE_GRACE;
        let Some((slot, state @ (State::Starting { .. } | State::Serving { .. }))) =
            self.workers.get_mut(&worker)
        else {
            return actions;
        };
        let slot = *slot;
        *state = State::Leaving { late_at };
        let is_running = matches!(self.phase, Phase::Starting | Phase::Running);
        let has_other = self.starts(slot) || self.is_served(slot);
        if is_running && !has_other && self.slots[slot].start_at.is_none() {
            self.start(slot, now, &mut actions);
        }
        if self.roll == Some(slot) {
            self.go_on_rolling(now, &mut actions);
        }
        actions
    }

    /// A worker is gone.
    pub(super) fn ended(&mut self, worker: WorkerId, now: Instant) -> Vec<Action> {
        let mut actions = Vec::new();
        let Some((slot, state)) = self.workers.remove(&worker) else { return actions };
        let is_running = matches!(self.phase, Phase::Starting | Phase::Running);
        match state {
            _ if !is_running || self.slots[slot].is_finished => {}
            // Its successor is on the way.
            State::Serving { .. } if self.starts(slot) => {}
            State::Serving { since } => self.start_again(slot, since, now, &mut actions),
            State::Starting { .. } | State::Killed { was_starting: true } => {
                self.start_failed(slot, now, &mut actions);
            }
            State::Leaving { .. } | State::LeftAlone | State::Killed { .. } => {}
        }
        if self.roll == Some(slot) {
            self.go_on_rolling(now, &mut actions);
        }
        if is_running && self.slots[..self.beside].iter().all(|slot| slot.is_finished) {
            self.phase = Phase::Ending;
            // They have no deadline, and are waited for from now on.
            for worker in self.left_alone() {
                self.send_away(worker, Order::Stop, now, &mut actions);
            }
        }
        self.send_last_away(now, &mut actions);
        actions
    }

    /// One that served since then is gone.
    fn start_again(&mut self, slot: usize, since: Instant, now: Instant, actions: &mut Vec<Action>) {
        if now.saturating_duration_since(since) >= SERVED_MIN {
            self.slots[slot].brief = 0;
            return self.start(slot, now, actions);
        }
        self.slots[slot].brief = (self.slots[slot].brief + 1).min(FAILURES_MAX - 1);
        self.back_off(slot, self.slots[slot].brief, now, actions);
    }

    fn back_off(&mut self, slot: usize, times: u32, now: Instant, actions: &mut Vec<Action>) {
        let pause = BACK_OFF * (1 << (times - 1));
        self.slots[slot].start_at = Some(now + pause);
        actions.push(Action::BackOff { slot, pause });
    }

    fn start_failed(&mut self, slot: usize, now: Instant, actions: &mut Vec<Action>) {
        if self.is_served(slot) {
            // A roll has failed; the old worker goes on.
            self.roll = None;
            self.rolls_again = false;
            actions.push(Action::Rolled { is_whole: false });
            return;
        }
        self.slots[slot].failures += 1;
        let failures = self.slots[slot].failures;
        // What never worked will not work the second time either: whoever started this is there, and is told.
        if self.phase == Phase::Starting || failures >= FAILURES_MAX {
            actions.push(Action::GiveUp { slot });
            self.stop_all(Order::Stop, now, actions);
            return;
        }
        self.back_off(slot, failures, now, actions);
    }

    /// Everything is to end in good order; asked a second time, at once.
    pub(super) fn end(&mut self, now: Instant) -> Vec<Action> {
        let mut actions = Vec::new();
        if std::mem::replace(&mut self.is_asked, true) {
            self.kill_all(&mut actions);
            return actions;
        }
        match self.phase {
            Phase::Starting | Phase::Running if !self.drain_delay.is_zero() => {
                self.phase = Phase::Draining { until: now + self.drain_delay };
                let serving = self.serving();
                actions.extend(serving.into_iter().map(|worker| Action::Tell(worker, Order::Drain)));
            }
            Phase::Starting | Phase::Running => self.stop_all(Order::Stop, now, &mut actions),
            // It ends already, for another reason.
            Phase::Draining { .. } | Phase::Ending => {}
        }
        actions
    }

    /// Others serve from the same sockets: everything ends without hurry.
    pub(super) fn replaced(&mut self, now: Instant) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.phase != Phase::Ending {
            self.is_replaced = true;
            self.stop_all(Order::Replaced, now, &mut actions);
        }
        actions
    }

    /// Every slot gets a new worker, one after the other.
    pub(super) fn roll(&mut self, now: Instant) -> Vec<Action> {
        let mut actions = Vec::new();
        match (self.phase, self.roll) {
            (Phase::Running, None) => {
                self.roll = Some(0);
                self.go_on_rolling(now, &mut actions);
            }
            (Phase::Running, Some(_)) => self.rolls_again = true,
            // What starts is new, what ends stays so.
            _ => {}
        }
        actions
    }

    /// Time has passed.
    pub(super) fn tick(&mut self, now: Instant) -> Vec<Action> {
        let mut actions = Vec::new();
        if let Phase::Draining { until } = self.phase
            && until <= now
        {
            self.stop_all(Order::Stop, now, &mut actions);
        }
        for slot in 0..self.slots.len() {
            if self.slots[slot].start_at.is_some_and(|at| at <= now) {
                self.slots[slot].start_at = None;
                self.start(slot, now, &mut actions);
            }
        }
        let late = self.workers.iter().filter_map(|(&worker, (_, state))| match *state {
            State::Starting { late_at } if late_at <= now => Some((worker, Late::Starting)),
            State::Leaving { late_at } if late_at <= now => Some((worker, Late::Leaving)),
            _ => None,
        });
        let late: Vec<_> = late.collect();
        for (worker, late) in late {
            self.is_late(worker, late, now, &mut actions);
        }
        actions
    }

    fn is_late(&mut self, worker: WorkerId, late: Late, now: Instant, actions: &mut Vec<Action>) {
        let Some((slot, state)) = self.workers.get_mut(&worker) else { return };
        let slot = *slot;
        // In the end threads go with their process.
        if self.can_kill || self.phase == Phase::Ending {
            *state = State::Killed { was_starting: late == Late::Starting };
            return actions.push(Action::Kill(worker, late));
        }
        actions.push(Action::LeaveAlone(worker, late));
        if late == Late::Leaving {
            *state = State::LeftAlone;
            return;
        }
        // It may come to itself, and finds its order then.
        self.send_away(worker, Order::Stop, now, actions);
        if matches!(self.phase, Phase::Starting | Phase::Running) {
            self.start_failed(slot, now, actions);
        }
        if self.roll == Some(slot) {
            self.go_on_rolling(now, actions);
        }
    }

    /// When `tick` has something to do.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let draining = match self.phase {
            Phase::Draining { until } => Some(until),
            _ => None,
        };
        let starts = self.slots.iter().filter_map(|slot| slot.start_at);
        let late = self.workers.values().filter_map(|(_, state)| match state {
            State::Starting { late_at } | State::Leaving { late_at } => Some(*late_at),
            State::Serving { .. } | State::LeftAlone | State::Killed { .. } => None,
        });
        draining.into_iter().chain(starts).chain(late).min()
    }

    /// Nobody is left, and nobody will come.
    pub(super) fn is_over(&self) -> bool {
        self.phase == Phase::Ending && self.workers.is_empty()
    }

    /// Whether it is about to end.
    pub(super) fn is_ending(&self) -> bool {
        matches!(self.phase, Phase::Ending | Phase::Draining { .. })
    }

    /// Whether a signal has asked for the end.
    pub(super) fn is_asked(&self) -> bool {
        self.is_asked
    }

    /// Whether nobody will be started any more, nor accept from these sockets but those that finish.
    pub(super) fn has_stopped_accepting(&self) -> bool {
        self.phase == Phase::Ending && !self.is_replaced
    }

    /// Whether every slot was served at some time, and no end is in sight.
    pub(super) fn is_running(&self) -> bool {
        self.phase == Phase::Running
    }

    /// Whether it runs, and no roll is under way.
    pub(super) fn may_change(&self) -> bool {
        self.phase == Phase::Running && self.roll.is_none()
    }

    /// Whether not every slot has been served yet.
    pub(super) fn is_starting(&self) -> bool {
        self.phase == Phase::Starting
    }

    /// Whether nobody need wonder at this worker's end.
    pub(super) fn may_end(&self, worker: WorkerId) -> bool {
        let Some((slot, state)) = self.workers.get(&worker) else { return true };
        self.is_ending()
            || self.slots[*slot].is_finished
            || matches!(state, State::Leaving { .. } | State::LeftAlone | State::Killed { .. })
    }

    /// Whether another takes its place, should it have ended.
    pub(super) fn is_restarted(&self, worker: WorkerId) -> bool {
        let Some((slot, state)) = self.workers.get(&worker) else { return false };
        matches!(state, State::Serving { .. }) && !self.is_ending() && !self.slots[*slot].is_finished
    }

    /// Workers that serve.
    pub(super) fn serving(&self) -> Vec<WorkerId> {
        let serving = self.workers.iter().filter(|(_, (_, state))| matches!(state, State::Serving { .. }));
        serving.map(|(&worker, _)| worker).collect()
    }

    fn find(&self, slot: usize, is_it: impl Fn(WorkerId, State) -> bool) -> Option<WorkerId> {
        let mut workers = self.workers.iter();
        workers.find(|(id, (of, state))| *of == slot && is_it(**id, *state)).map(|(&id, _)| id)
    }

    fn is_served(&self, slot: usize) -> bool {
        self.slots[slot].is_finished
            || self.find(slot, |_, state| matches!(state, State::Serving { .. })).is_some()
    }

    fn starts(&self, slot: usize) -> bool {
        self.find(slot, |_, state| matches!(state, State::Starting { .. })).is_some()
    }

    fn start(&mut self, slot: usize, now: Instant, actions: &mut Vec<Action>) {
        let worker = WorkerId(self.next);
        self.next += 1;
        self.workers.insert(worker, (slot, State::Starting { late_at: now + READY_MAX }));
        actions.push(Action::Start { worker, slot });
    }

    fn send_away(&mut self, worker: WorkerId, order: Order, now: Instant, actions: &mut Vec<Action>) {
        let late_at = now + self.drain_limit + LEAVE_GRACE;
        if let Some((_, state)) = self.workers.get_mut(&worker) {
            *state = State::Leaving { late_at };
            actions.push(Action::Tell(worker, order));
        }
    }

    fn stop_all(&mut self, order: Order, now: Instant, actions: &mut Vec<Action>) {
        self.phase = Phase::Ending;
        self.roll = None;
        self.slots.iter_mut().for_each(|slot| slot.start_at = None);
        for (worker, slot) in self.staying() {
            if slot == self.beside && order == Order::Stop {
                actions.push(Action::Tell(worker, Order::Drain));
            } else {
                self.send_away(worker, order, now, actions);
            }
        }
        self.send_last_away(now, actions);
    }

    /// Sends the worker beside the others away once they are gone.
    fn send_last_away(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if self.phase == Phase::Ending && self.workers.values().all(|(slot, _)| *slot == self.beside) {
            for (worker, _) in self.staying() {
                self.send_away(worker, Order::Stop, now, actions);
            }
        }
    }

    /// Threads that should have left.
    fn left_alone(&self) -> Vec<WorkerId> {
        let workers = self.workers.iter();
        workers.filter(|(_, (_, state))| *state == State::LeftAlone).map(|(&worker, _)| worker).collect()
    }

    /// Those that were not sent away yet, or to no avail, and their slots. One that starts finds its orders when it is ready.
    fn staying(&self) -> Vec<(WorkerId, usize)> {
        let staying = self.workers.iter().filter_map(|(&worker, (slot, state))| match state {
            State::Starting { .. } | State::Serving { .. } | State::LeftAlone => Some((worker, *slot)),
            State::Leaving { .. } | State::Killed { .. } => None,
        });
        staying.collect()
    }

    fn kill_all(&mut self, actions: &mut Vec<Action>) {
        self.phase = Phase::Ending;
        for (&worker, (_, state)) in &mut self.workers {
            if !matches!(state, State::Killed { .. }) {
                *state = State::Killed { was_starting: false };
                actions.push(Action::Kill(worker, Late::AtOnce));
            }
        }
    }

    /// Starts the next new worker of a roll, unless one is starting already.
    fn go_on_rolling(&mut self, now: Instant, actions: &mut Vec<Action>) {
        while let Some(slot) = self.roll {
            if slot == self.slots.len() {
                self.roll = None;
                actions.push(Action::Rolled { is_whole: true });
                if std::mem::take(&mut self.rolls_again) {
                    self.roll = Some(0);
                }
                continue;
            }
            let leaving = self.workers.values().filter(|(of, state)| {
                *of == slot
                    && matches!(state, State::Leaving { .. } | State::LeftAlone | State::Killed { .. })
            });
            if self.starts(slot) || leaving.count() >= LEAVING_MAX {
                return;
            }
            if self.is_served(slot) && !self.slots[slot].is_finished {
                return self.start(slot, now, actions);
            }
            // It waits for its next attempt, which will be a new one.
            self.roll = Some(slot + 1);
        }
    }
}
