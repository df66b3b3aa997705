//! What to do when: the workers of each slot as a state machine. Starts nothing, reads no clock.
//!
//! ```text
//!   one worker:  Starting ── ready ──► Serving ── told to go ──► Leaving ── ended ──► (gone)
//!                    │ ended: a failure     │ ended: another starts at once
//!                    ▼
//!                back-off, or giving up
//!
//!   all of them: Starting ── every slot serves ──► Running ── told to end, given up, or all are finished ──► Ending
//! ```
//!
//! A slot has at most one worker that serves and one that starts; a new one that is ready sends the old one away.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Exits before READY in a row, of one slot, after which the supervisor gives up. With the pauses between them that is
/// about thirteen seconds.
const FAILURES_MAX: u32 = 8;
/// The pause after the first of them; it doubles with each.
const BACK_OFF: Duration = Duration::from_millis(100);
/// How long a worker may take to be ready. Arbitrary: a loop is made within milliseconds.
const READY_MAX: Duration = Duration::from_secs(60);
/// What a leaving worker gets beyond the drain limit, which it keeps by itself.
const LEAVE_GRACE: Duration = Duration::from_secs(5);
/// Leaving workers of one slot; with so many a roll waits.
const LEAVING_MAX: usize = 4;

/// Which worker, among all that ever were.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct WorkerId(pub(super) u64);

/// What a worker is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// The end is near: say so to who asks, and go on.
    TurnRed,
    /// Accept no more, finish.
    Stop,
    /// The same, and another has taken the place.
    Replaced,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Start {
        worker: WorkerId,
        slot: usize,
    },
    Tell(WorkerId, Order),
    Kill(WorkerId, Late),
    /// Every slot serves, for the first time.
    Ready,
    /// The roll is over; not every slot has a new worker if it failed.
    Rolled {
        is_whole: bool,
    },
    /// A slot starts again after this pause.
    BackOff {
        slot: usize,
        pause: Duration,
    },
    /// A slot's workers fail to start; everything ends.
    GiveUp {
        slot: usize,
    },
}

/// What a worker was too late with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Late {
    Starting,
    Leaving,
    /// There is no more patience: a second signal, or an end in failure.
    AtOnce,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Starting {
        late_at: Instant,
    },
    Serving,
    Leaving {
        late_at: Instant,
    },
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
    Red {
        until: Instant,
    },
    Ending,
}

#[derive(Debug, Default)]
struct Slot {
    /// Exits before READY since the last READY.
    failures: u32,
    /// When the next worker is to be started.
    start_at: Option<Instant>,
    /// Its worker has done all it had to.
    is_finished: bool,
}

/// The workers of all slots.
#[derive(Debug)]
pub(super) struct Plan {
    slots: Vec<Slot>,
    workers: BTreeMap<WorkerId, (usize, State)>,
    next: u64,
    phase: Phase,
    /// The slot whose new worker is started next, or is starting.
    roll: Option<usize>,
    /// Another roll was asked for during this one.
    rolls_again: bool,
    drain_delay: Duration,
    drain_limit: Duration,
}

impl Plan {
    pub(super) fn new(slots: usize, drain_delay: Duration, drain_limit: Duration) -> Plan {
        Plan {
            slots: (0..slots).map(|_| Slot::default()).collect(),
            workers: BTreeMap::new(),
            next: 0,
            phase: Phase::Starting,
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
        *state = State::Serving;
        self.slots[slot].failures = 0;
        match self.phase {
            Phase::Starting | Phase::Running => {}
            // It has not heard of the end.
            Phase::Red { .. } => actions.push(Action::Tell(worker, Order::TurnRed)),
            Phase::Ending => self.send_away(worker, Order::Stop, now, &mut actions),
        }
        let old = self.find(slot, |id, state| id != worker && state == State::Serving);
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
        if let Some((slot, _)) = self.workers.get(&worker) {
            self.slots[*slot].is_finished = true;
        }
    }

    /// A worker is gone.
    pub(super) fn ended(&mut self, worker: WorkerId, now: Instant) -> Vec<Action> {
        let mut actions = Vec::new();
        let Some((slot, state)) = self.workers.remove(&worker) else { return actions };
        let is_running = matches!(self.phase, Phase::Starting | Phase::Running);
        match state {
            _ if !is_running || self.slots[slot].is_finished => {}
            // Its successor is on the way.
            State::Serving if self.starts(slot) => {}
            State::Serving => self.start(slot, now, &mut actions),
            State::Starting { .. } | State::Killed { was_starting: true } => {
                self.start_failed(slot, now, &mut actions);
            }
            State::Leaving { .. } | State::Killed { .. } => {}
        }
        if self.roll == Some(slot) {
            self.go_on_rolling(now, &mut actions);
        }
        if is_running && self.slots.iter().all(|slot| slot.is_finished) {
            self.phase = Phase::Ending;
        }
        actions
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
            self.end_now(now, actions);
            return;
        }
        let pause = BACK_OFF * (1 << (failures - 1));
        self.slots[slot].start_at = Some(now + pause);
        actions.push(Action::BackOff { slot, pause });
    }

    /// Everything is to end in good order; asked a second time, at once.
    pub(super) fn end(&mut self, now: Instant) -> Vec<Action> {
        let mut actions = Vec::new();
        match self.phase {
            Phase::Starting | Phase::Running if !self.drain_delay.is_zero() => {
                self.phase = Phase::Red { until: now + self.drain_delay };
                let serving = self.serving();
                actions.extend(serving.into_iter().map(|worker| Action::Tell(worker, Order::TurnRed)));
            }
            Phase::Starting | Phase::Running => self.stop_all(Order::Stop, now, &mut actions),
            Phase::Red { .. } | Phase::Ending => self.kill_all(&mut actions),
        }
        actions
    }

    /// Others serve from the same sockets: everything ends without hurry.
    pub(super) fn replaced(&mut self, now: Instant) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.phase != Phase::Ending {
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
        if let Phase::Red { until } = self.phase
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
        for (&worker, (_, state)) in &mut self.workers {
            let late = match *state {
                State::Starting { late_at } if late_at <= now => Late::Starting,
                State::Leaving { late_at } if late_at <= now => Late::Leaving,
                _ => continue,
            };
            *state = State::Killed { was_starting: late == Late::Starting };
            actions.push(Action::Kill(worker, late));
        }
        actions
    }

    /// When `tick` has something to do.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let red = match self.phase {
            Phase::Red { until } => Some(until),
            _ => None,
        };
        let starts = self.slots.iter().filter_map(|slot| slot.start_at);
        let late = self.workers.values().filter_map(|(_, state)| match state {
            State::Starting { late_at } | State::Leaving { late_at } => Some(*late_at),
            State::Serving | State::Killed { .. } => None,
        });
        red.into_iter().chain(starts).chain(late).min()
    }

    /// Nobody is left, and nobody will come.
    pub(super) fn is_over(&self) -> bool {
        self.phase == Phase::Ending && self.workers.is_empty()
    }

    /// Whether it is about to end.
    pub(super) fn is_ending(&self) -> bool {
        matches!(self.phase, Phase::Ending | Phase::Red { .. })
    }

    /// Whether every slot was served at some time, and no end is in sight.
    pub(super) fn is_running(&self) -> bool {
        self.phase == Phase::Running
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
            || matches!(state, State::Leaving { .. } | State::Killed { .. })
    }

    /// Whether another takes its place at once, should it have ended.
    pub(super) fn is_restarted(&self, worker: WorkerId) -> bool {
        let Some((slot, state)) = self.workers.get(&worker) else { return false };
        *state == State::Serving && !self.is_ending() && !self.slots[*slot].is_finished
    }

    /// Workers that serve.
    pub(super) fn serving(&self) -> Vec<WorkerId> {
        let serving = self.workers.iter().filter(|(_, (_, state))| *state == State::Serving);
        serving.map(|(&worker, _)| worker).collect()
    }

    fn find(&self, slot: usize, is_it: impl Fn(WorkerId, State) -> bool) -> Option<WorkerId> {
        let mut workers = self.workers.iter();
        workers.find(|(id, (of, state))| *of == slot && is_it(**id, *state)).map(|(&id, _)| id)
    }

    fn is_served(&self, slot: usize) -> bool {
        self.slots[slot].is_finished || self.find(slot, |_, state| state == State::Serving).is_some()
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
        let staying = self.workers.iter().filter_map(|(&worker, (_, state))| match state {
            // One that starts finds the order when it is ready.
            State::Starting { .. } | State::Serving => Some(worker),
            State::Leaving { .. } | State::Killed { .. } => None,
        });
        let staying: Vec<_> = staying.collect();
        staying.into_iter().for_each(|worker| self.send_away(worker, order, now, actions));
    }

    fn end_now(&mut self, now: Instant, actions: &mut Vec<Action>) {
        self.stop_all(Order::Stop, now, actions);
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
                *of == slot && matches!(state, State::Leaving { .. } | State::Killed { .. })
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

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(30);

    /// A plan, its clock, and all it wants done since it was asked, in short.
    struct Played {
        plan: Plan,
        now: Instant,
        done: Vec<String>,
    }

    impl Played {
        fn new(slots: usize, drain_delay: Duration) -> Played {
            let mut played =
                Played { plan: Plan::new(slots, drain_delay, LIMIT), now: Instant::now(), done: Vec::new() };
            let actions = played.plan.begin(played.now);
            played.note(actions);
            played
        }

        fn note(&mut self, actions: Vec<Action>) {
            self.done.extend(actions.into_iter().map(|action| match action {
                Action::Start { worker, slot } => format!("start {} in {slot}", worker.0),
                Action::Tell(worker, order) => format!("{order:?} {}", worker.0),
                Action::Kill(worker, late) => format!("kill {} {late:?}", worker.0),
                Action::Ready => "all ready".to_owned(),
                Action::Rolled { is_whole } => format!("rolled {is_whole}"),
                Action::BackOff { slot, pause } => format!("pause {slot} {pause:?}"),
                Action::GiveUp { slot } => format!("give up {slot}"),
            }));
        }

        /// One event: `ready N`, `ended N`, `finished N`, `end`, `roll`, `replaced`, or `after SECONDS`; and what it leads to.
        #[track_caller]
        fn check(&mut self, event: &str, expected: &str) {
            let (what, number) = event.split_once(' ').unwrap_or((event, "0"));
            let number: u64 = number.parse().unwrap();
            let (worker, now) = (WorkerId(number), self.now);
            let actions = match what {
                "ready" => self.plan.ready(worker, now),
                "ended" => self.plan.ended(worker, now),
                "finished" => {
                    self.plan.finished(worker);
                    Vec::new()
                }
                "end" => self.plan.end(now),
                "roll" => self.plan.roll(now),
                "replaced" => self.plan.replaced(now),
                "after" => {
                    self.now += Duration::from_secs(number);
                    self.plan.tick(self.now)
                }
                _ => unreachable!("{event}"),
            };
            self.note(actions);
            assert_eq!(self.done.join(", "), expected, "{event}");
            self.done.clear();
        }
    }

    /// Two slots, served by workers 0 and 1.
    fn running() -> Played {
        let mut played = Played::new(2, Duration::ZERO);
        played.check("after 0", "start 0 in 0, start 1 in 1");
        played.check("ready 0", "");
        played.check("ready 1", "all ready");
        played
    }

    #[test]
    fn one_that_dies_is_replaced_at_once() {
        let mut played = running();
        for dead in 1..100 {
            assert!(played.plan.is_restarted(WorkerId(dead)) && !played.plan.may_end(WorkerId(dead)));
            played.check(&format!("ended {dead}"), &format!("start {} in 1", dead + 1));
            played.check(&format!("ready {}", dead + 1), "");
        }
        assert_eq!(played.plan.next_deadline(), None);
    }

    #[test]
    fn one_that_dies_before_it_is_ready_is_replaced_after_pauses_and_not_for_ever() {
        let mut played = running();
        played.check("ended 1", "start 2 in 1");
        let mut now = 2;
        for pause in ["100ms", "200ms", "400ms", "800ms", "1.6s", "3.2s", "6.4s"] {
            played.check(&format!("ended {now}"), &format!("pause 1 {pause}"));
            now += 1;
            played.check("after 7", &format!("start {now} in 1"));
        }
        played.check("ended 9", "give up 1, Stop 0");
        assert!(!played.plan.is_over());
        played.check("ended 0", "");
        assert!(played.plan.is_over());
    }

    #[test]
    fn a_ready_one_makes_its_slots_failures_forgotten() {
        let mut played = running();
        played.check("ended 1", "start 2 in 1");
        played.check("ended 2", "pause 1 100ms");
        played.check("after 1", "start 3 in 1");
        played.check("ready 3", "");
        played.check("ended 3", "start 4 in 1");
        played.check("ended 4", "pause 1 100ms");
    }

    #[test]
    fn what_never_worked_ends_everything_at_once() {
        let mut played = Played::new(2, Duration::ZERO);
        played.check("ready 0", "start 0 in 0, start 1 in 1");
        played.check("ended 1", "give up 1, Stop 0");
        played.check("ended 0", "");
        assert!(played.plan.is_over());
    }

    #[test]
    fn a_roll_goes_from_slot_to_slot() {
        let mut played = running();
        played.check("roll", "start 2 in 0");
        played.check("ready 2", "Replaced 0, start 3 in 1");
        assert!(played.plan.may_end(WorkerId(0)));
        played.check("roll", "");
        played.check("ended 0", "");
        played.check("ready 3", "Replaced 1, rolled true, start 4 in 0");
        played.check("ready 4", "Replaced 2, start 5 in 1");
        played.check("ready 5", "Replaced 3, rolled true");
        for gone in [1, 2, 3] {
            played.check(&format!("ended {gone}"), "");
        }
        assert_eq!(played.plan.serving(), [WorkerId(4), WorkerId(5)]);
    }

    #[test]
    fn a_roll_that_fails_leaves_the_old_ones_and_can_be_tried_again() {
        let mut played = running();
        played.check("roll", "start 2 in 0");
        played.check("ended 2", "rolled false");
        played.check("roll", "start 3 in 0");
        // The old one dies meanwhile: then the new one is a restart like others.
        played.check("ended 0", "");
        played.check("ready 3", "start 4 in 1");
        played.check("ready 4", "Replaced 1, rolled true");
    }

    #[test]
    fn a_roll_waits_while_too_many_old_ones_are_there() {
        let mut played = running();
        let mut next = 2;
        let mut old = [0, 1];
        for _ in 0..LEAVING_MAX {
            played.check("roll", &format!("start {next} in 0"));
            played.check(&format!("ready {next}"), &format!("Replaced {}, start {} in 1", old[0], next + 1));
            played.check(&format!("ready {}", next + 1), &format!("Replaced {}, rolled true", old[1]));
            old = [next, next + 1];
            next += 2;
        }
        played.check("roll", "");
        played.check("ended 1", "");
        played.check("ended 0", &format!("start {next} in 0"));
    }

    #[test]
    fn the_end_in_good_order_and_at_once() {
        let mut played = running();
        played.check("end", "Stop 0, Stop 1");
        assert!(played.plan.is_ending());
        played.check("ended 0", "");
        played.check("roll", "");
        played.check("end", "kill 1 AtOnce");
        played.check("end", "");
        assert!(!played.plan.is_over());
        played.check("ended 1", "");
        assert!(played.plan.is_over());
    }

    #[test]
    fn accepting_goes_on_for_the_delay() {
        let mut played = Played::new(1, Duration::from_secs(5));
        played.check("ready 0", "start 0 in 0, all ready");
        played.check("end", "TurnRed 0");
        assert_eq!(played.plan.next_deadline(), Some(played.now + Duration::from_secs(5)));
        played.check("after 4", "");
        played.check("after 1", "Stop 0");
        assert_eq!(played.plan.next_deadline(), Some(played.now + LIMIT + LEAVE_GRACE));
        played.check("after 34", "");
        played.check("after 1", "kill 0 Leaving");
        played.check("ended 0", "");
        assert!(played.plan.is_over());
    }

    #[test]
    fn one_that_starts_hears_of_the_end() {
        let mut played = Played::new(2, Duration::from_secs(5));
        played.check("ready 0", "start 0 in 0, start 1 in 1");
        played.check("end", "TurnRed 0");
        played.check("ready 1", "TurnRed 1");
        played.check("after 5", "Stop 0, Stop 1");
        // And one that nobody waits for any more is not restarted.
        played.check("ended 1", "");
        assert!(!played.plan.is_over());
    }

    #[test]
    fn one_that_is_never_ready_is_killed_and_counts_as_failed() {
        let mut played = running();
        played.check("roll", "start 2 in 0");
        played.check("after 60", "kill 2 Starting");
        played.check("ended 2", "rolled false");
    }

    #[test]
    fn one_that_is_killed_is_killed_once() {
        let mut played = running();
        played.check("roll", "start 2 in 0");
        played.check("after 60", "kill 2 Starting");
        assert_eq!(played.plan.next_deadline(), None);
        played.check("after 60", "");
    }

    #[test]
    fn a_pause_has_a_deadline_and_ends_once() {
        let mut played = running();
        played.check("ended 1", "start 2 in 1");
        played.check("ended 2", "pause 1 100ms");
        assert_eq!(played.plan.next_deadline(), Some(played.now + Duration::from_millis(100)));
        played.check("after 1", "start 3 in 1");
        played.check("after 1", "");
    }

    #[test]
    fn nobody_starts_after_the_end() {
        let mut played = running();
        played.check("ended 1", "start 2 in 1");
        played.check("ended 2", "pause 1 100ms");
        played.check("end", "Stop 0");
        played.check("after 1", "");
        played.check("ended 0", "");
        assert!(played.plan.is_over());
    }

    #[test]
    fn the_end_in_the_middle_of_a_roll() {
        let mut played = running();
        played.check("roll", "start 2 in 0");
        played.check("ready 2", "Replaced 0, start 3 in 1");
        // The old one of slot 0 goes already; the new one of slot 1 hears of it too.
        played.check("end", "Stop 1, Stop 2, Stop 3");
        played.check("ready 3", "");
        for gone in [3, 1, 0] {
            played.check(&format!("ended {gone}"), "");
        }
        assert!(!played.plan.is_over());
        played.check("ended 2", "");
        assert!(played.plan.is_over());
    }

    #[test]
    fn a_second_signal_during_the_delay_ends_at_once() {
        let mut played = Played::new(1, Duration::from_secs(5));
        played.check("ready 0", "start 0 in 0, all ready");
        played.check("end", "TurnRed 0");
        assert!(!played.plan.is_restarted(WorkerId(0)) && played.plan.may_end(WorkerId(0)));
        played.check("end", "kill 0 AtOnce");
        played.check("ended 0", "");
        assert!(played.plan.is_over());
    }

    #[test]
    fn one_that_dies_during_the_delay_is_not_replaced() {
        let mut played = Played::new(1, Duration::from_secs(5));
        played.check("ready 0", "start 0 in 0, all ready");
        played.check("end", "TurnRed 0");
        played.check("ended 0", "");
        assert!(!played.plan.is_over(), "others may wait in the socket's queue");
        played.check("after 5", "");
        assert!(played.plan.is_over());
    }

    #[test]
    fn a_roll_that_fails_takes_the_next_one_with_it() {
        let mut played = running();
        played.check("roll", "start 2 in 0");
        played.check("roll", "");
        played.check("ended 2", "rolled false");
        played.check("roll", "start 3 in 0");
        played.check("ready 3", "Replaced 0, start 4 in 1");
        assert!(!played.plan.is_restarted(WorkerId(0)));
        played.check("ready 4", "Replaced 1, rolled true");
    }

    #[test]
    fn a_roll_passes_a_slot_that_waits_for_its_next_attempt() {
        let mut played = running();
        played.check("ended 0", "start 2 in 0");
        played.check("ended 2", "pause 0 100ms");
        played.check("roll", "start 3 in 1");
        played.check("ready 3", "Replaced 1, rolled true");
        played.check("after 1", "start 4 in 0");
    }

    #[test]
    fn others_have_taken_over() {
        let mut played = running();
        played.check("replaced", "Replaced 0, Replaced 1");
        played.check("ended 0", "");
        played.check("ended 1", "");
        assert!(played.plan.is_over());
    }

    #[test]
    fn one_that_is_done_before_the_others_are_ready_counts_as_ready() {
        let mut played = Played::new(2, Duration::ZERO);
        played.check("ready 0", "start 0 in 0, start 1 in 1");
        played.check("finished 0", "");
        played.check("ended 0", "");
        played.check("ready 1", "all ready");
    }

    #[test]
    fn workers_that_have_done_all_are_not_replaced() {
        let mut played = running();
        played.check("finished 0", "");
        assert!(played.plan.may_end(WorkerId(0)) && !played.plan.is_restarted(WorkerId(0)));
        played.check("ended 0", "");
        assert!(!played.plan.is_over());
        played.check("roll", "start 2 in 1");
        played.check("ready 2", "Replaced 1, rolled true");
        played.check("ended 1", "");
        played.check("finished 2", "");
        played.check("ended 2", "");
        assert!(played.plan.is_over());
    }
}
