//! Events, one by one, and what each leads to.

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
        Played::of(Plan::new(slots, false, true, drain_delay, LIMIT))
    }

    fn of(plan: Plan) -> Played {
        let mut played = Played { plan, now: Instant::now(), done: Vec::new() };
        let actions = played.plan.begin(played.now);
        played.note(actions);
        played
    }

    fn note(&mut self, actions: Vec<Action>) {
        self.done.extend(actions.into_iter().map(|action| match action {
            Action::Start { worker, slot } => format!("start {} in {slot}", worker.0),
            Action::Tell(worker, order) => format!("{order:?} {}", worker.0),
            Action::Kill(worker, late) => format!("kill {} {late:?}", worker.0),
            Action::LeaveAlone(worker, late) => format!("leave {} alone {late:?}", worker.0),
            Action::Ready => "all ready".to_owned(),
            Action::Rolled { is_whole } => format!("rolled {is_whole}"),
            Action::BackOff { slot, pause } => format!("pause {slot} {pause:?}"),
            Action::GiveUp { slot } => format!("give up {slot}"),
        }));
    }

    /// One event: `ready N`, `ended N`, `finished N`, `leaving N`, `end`, `roll`, `replaced`, or `after SECONDS`; and what it leads to.
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
            "leaving" => self.plan.leaving(worker, now),
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

/// Two slots, served by workers 0 and 1 for a while.
fn running() -> Played {
    serving(Played::new(2, Duration::ZERO))
}

/// The same, of threads.
fn running_threads() -> Played {
    serving(Played::of(Plan::new(2, false, false, Duration::ZERO, LIMIT)))
}

fn serving(mut played: Played) -> Played {
    played.check("after 0", "start 0 in 0, start 1 in 1");
    played.check("ready 0", "");
    played.check("ready 1", "all ready");
    played.check("after 1", "");
    played
}

#[test]
fn one_that_dies_is_replaced_at_once() {
    let mut played = running();
    for dead in 1..100 {
        assert!(played.plan.is_restarted(WorkerId(dead)) && !played.plan.may_end(WorkerId(dead)));
        played.check(&format!("ended {dead}"), &format!("start {} in 1", dead + 1));
        played.check(&format!("ready {}", dead + 1), "");
        played.check("after 1", "");
    }
    assert_eq!(played.plan.next_deadline(), None);
}

#[test]
fn one_that_dies_soon_after_it_is_ready_is_replaced_after_pauses_for_ever() {
    let mut played = running();
    played.check("ended 1", "start 2 in 1");
    let mut now = 2;
    let pauses = ["100ms", "200ms", "400ms", "800ms", "1.6s", "3.2s"];
    for pause in pauses.into_iter().chain(["6.4s"; 20]) {
        played.check(&format!("ready {now}"), "");
        played.check(&format!("ended {now}"), &format!("pause 1 {pause}"));
        now += 1;
        played.check("after 7", &format!("start {now} in 1"));
    }
    // One that has served makes them forgotten.
    played.check(&format!("ready {now}"), "");
    played.check("after 1", "");
    played.check(&format!("ended {now}"), &format!("start {} in 1", now + 1));
    played.check(&format!("ready {}", now + 1), "");
    played.check(&format!("ended {}", now + 1), "pause 1 100ms");
}

#[test]
fn one_that_was_asked_to_leave_is_replaced_before_it_has_gone() {
    let mut played = running();
    played.check("leaving 1", "start 2 in 1");
    assert!(played.plan.may_end(WorkerId(1)));
    assert_eq!(played.plan.serving(), [WorkerId(0)]);
    played.check("leaving 1", "");
    // Asked before it was ready, too.
    played.check("leaving 2", "start 3 in 1");
    played.check("ready 2", "");
    played.check("ready 3", "");
    for gone in [1, 2] {
        played.check(&format!("ended {gone}"), "");
    }
    // Its successor is on the way already.
    played.check("roll", "start 4 in 0");
    played.check("leaving 0", "");
    played.check("ready 4", "start 5 in 1");
    // It has the time that others have.
    played.check("after 35", "kill 0 Leaving");
    played.check("end", "Stop 3, Stop 4, Stop 5");
    played.check("leaving 3", "");
}

#[test]
fn a_late_thread_does_not_keep_the_others_from_ending() {
    let late = || {
        let mut played = running_threads();
        played.check("roll", "start 2 in 0");
        played.check("ready 2", "Replaced 0, start 3 in 1");
        played.check("ready 3", "Replaced 1, rolled true");
        played.check("ended 1", "");
        played.check("after 35", "leave 0 alone Leaving");
        assert!(played.plan.may_end(WorkerId(0)));
        assert_eq!(played.plan.next_deadline(), None);
        played
    };
    let mut played = late();
    played.check("end", "Stop 0, Stop 2, Stop 3");
    for gone in [2, 3] {
        played.check(&format!("ended {gone}"), "");
    }
    assert!(!played.plan.is_over());
    assert_eq!(played.plan.next_deadline(), Some(played.now + LIMIT + LEAVE_GRACE));
    played.check("end", "kill 0 AtOnce");

    let mut played = late();
    played.check("replaced", "Replaced 0, Replaced 2, Replaced 3");
    for gone in [2, 3] {
        played.check(&format!("ended {gone}"), "");
    }
    played.check("after 35", "kill 0 Leaving");

    let mut played = late();
    for (gone, expected) in [(2, ""), (3, "Stop 0")] {
        played.check(&format!("finished {gone}"), "");
        played.check(&format!("ended {gone}"), expected);
    }
    // It came to itself.
    played.check("ended 0", "");
    assert!(played.plan.is_over());
}

#[test]
fn threads_that_were_left_alone_count_among_the_leaving_ones() {
    let mut played = Played::of(Plan::new(1, false, false, Duration::ZERO, LIMIT));
    played.check("ready 0", "start 0 in 0, all ready");
    for old in 0..LEAVING_MAX {
        let new = old + 1;
        played.check("roll", &format!("start {new} in 0"));
        played.check(&format!("ready {new}"), &format!("Replaced {old}, rolled true"));
        played.check("after 35", &format!("leave {old} alone Leaving"));
    }
    played.check("roll", "");
    played.check("ended 0", "start 5 in 0");
}

#[test]
fn a_roll_goes_on_when_its_new_worker_is_asked_to_leave() {
    let mut played = running();
    played.check("roll", "start 2 in 0");
    played.check("leaving 2", "start 3 in 0");
    played.check("ready 3", "Replaced 0, start 4 in 1");
}

#[test]
fn a_thread_that_is_late_to_start_is_sent_away_and_counts_as_failed() {
    let mut played = running_threads();
    played.check("ended 1", "start 2 in 1");
    played.check("after 60", "leave 2 alone Starting, Stop 2, pause 1 100ms");
    played.check("after 1", "start 3 in 1");
    played.check("ready 2", "");
    played.check("ready 3", "");
    played.check("ended 2", "");
    played.check("roll", "start 4 in 0");
    played.check("after 60", "leave 4 alone Starting, Stop 4, rolled false");
    played.check("end", "Stop 0, Stop 3");
    for gone in [0, 3] {
        played.check(&format!("ended {gone}"), "");
    }
    played.check("after 35", "kill 4 Leaving");

    let mut played = Played::of(Plan::new(2, false, false, Duration::ZERO, LIMIT));
    played.check("ready 0", "start 0 in 0, start 1 in 1");
    played.check("after 60", "leave 1 alone Starting, Stop 1, give up 1, Stop 0");
    for gone in [0, 1] {
        played.check(&format!("ended {gone}"), "");
    }
    assert!(played.plan.is_over());
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
    played.check("after 1", "");
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
    played.check("end", "Drain 0");
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
    played.check("end", "Drain 0");
    played.check("ready 1", "Drain 1");
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
    played.check("end", "Drain 0");
    assert!(!played.plan.is_restarted(WorkerId(0)) && played.plan.may_end(WorkerId(0)));
    played.check("end", "kill 0 AtOnce");
    played.check("ended 0", "");
    assert!(played.plan.is_over());
}

#[test]
fn one_that_dies_during_the_delay_is_not_replaced() {
    let mut played = Played::new(1, Duration::from_secs(5));
    played.check("ready 0", "start 0 in 0, all ready");
    played.check("end", "Drain 0");
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
    assert!(!played.plan.has_stopped_accepting());
    played.check("ended 0", "");
    played.check("ended 1", "");
    assert!(played.plan.is_over());
}

#[test]
fn the_first_signal_after_a_hand_over_is_the_first() {
    let mut played = running();
    played.check("replaced", "Replaced 0, Replaced 1");
    assert!(!played.plan.is_asked());
    played.check("end", "");
    assert!(played.plan.is_asked());
    played.check("end", "kill 0 AtOnce, kill 1 AtOnce");
}

#[test]
fn sockets_are_needed_until_the_delay_is_over() {
    let mut played = Played::new(1, Duration::from_secs(5));
    played.check("ready 0", "start 0 in 0, all ready");
    played.check("end", "Drain 0");
    assert!(!played.plan.has_stopped_accepting());
    played.check("after 5", "Stop 0");
    assert!(played.plan.has_stopped_accepting());
}

#[test]
fn there_is_one_change_at_a_time() {
    let mut played = running();
    assert!(played.plan.may_change());
    played.check("roll", "start 2 in 0");
    assert!(!played.plan.may_change());
    played.check("ended 2", "rolled false");
    assert!(played.plan.may_change());
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
fn one_that_is_done_when_another_has_its_place_ends_nothing() {
    let mut played = running();
    played.check("roll", "start 2 in 0");
    played.check("ready 2", "Replaced 0, start 3 in 1");
    // It had not read that it is replaced.
    played.check("finished 0", "");
    played.check("ended 0", "");
    played.check("after 1", "");
    played.check("ended 2", "start 4 in 0");
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

/// One slot, served by worker 0, and worker 1 beside it.
fn with_one_beside(drain_delay: Duration) -> Played {
    let mut played = Played::of(Plan::new(1, true, true, drain_delay, LIMIT));
    played.check("ready 0", "start 0 in 0, start 1 in 1");
    played.check("ready 1", "all ready");
    played.check("after 1", "");
    played
}

#[test]
fn who_is_beside_goes_last() {
    let mut played = with_one_beside(Duration::ZERO);
    played.check("end", "Stop 0, Drain 1");
    played.check("ended 0", "Stop 1");
    assert!(!played.plan.is_over());
    played.check("ended 1", "");
    assert!(played.plan.is_over());
    // After a delay, and also when all others have died in it.
    let mut played = with_one_beside(Duration::from_secs(5));
    played.check("end", "Drain 0, Drain 1");
    played.check("ended 0", "");
    played.check("after 5", "Drain 1, Stop 1");
    played.check("ended 1", "");
    assert!(played.plan.is_over());
}

#[test]
fn who_is_beside_is_restarted_and_rolled_as_the_others() {
    let mut played = with_one_beside(Duration::ZERO);
    played.check("ended 1", "start 2 in 1");
    played.check("ready 2", "");
    played.check("roll", "start 3 in 0");
    played.check("ready 3", "Replaced 0, start 4 in 1");
    played.check("ready 4", "Replaced 2, rolled true");
    for gone in [0, 2] {
        played.check(&format!("ended {gone}"), "");
    }
    // Its successor tells of the others.
    played.check("replaced", "Replaced 3, Replaced 4");
    played.check("ended 4", "");
    played.check("ended 3", "");
    assert!(played.plan.is_over());
}

#[test]
fn who_is_beside_is_not_waited_for() {
    let mut played = with_one_beside(Duration::ZERO);
    played.check("finished 0", "");
    played.check("ended 0", "Stop 1");
    played.check("ended 1", "");
    assert!(played.plan.is_over());
    // It may be late to start, too.
    let mut played = with_one_beside(Duration::ZERO);
    played.check("ended 1", "start 2 in 1");
    played.check("end", "Stop 0, Drain 2");
    played.check("ready 2", "");
    played.check("ended 0", "Stop 2");
    played.check("end", "kill 2 AtOnce");
}
