//! The clock of a connection on which nothing comes: it is idle for as long as it may be from when its client has taken everything.
use std::time::Duration;

/// Between two looks whether a client has taken its answer.
const LOOK_EACH_MIN: Duration = Duration::from_millis(1);

/// What the time that has passed is counted in, rounded up. In milliseconds.
const STEP_MS: u128 = 100;

/// What is known of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Idle {
    /// Nothing: it has not been looked at.
    New,
    /// What was written had not all been taken. Nothing will have come for so many steps when it is looked again; the most stand for
    /// any number. (In 16 bits: each connection has one.)
    Waits(u16),
    /// The client has taken everything.
    Known,
}

/// What the deadline of such a connection means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// It is looked again after this time.
    Look(Duration),
    /// The client has taken nothing for too long.
    Reset,
    /// It has been idle for too long.
    Over,
}

/// How long what may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    /// Between an answer that was taken and the next request.
    pub(super) keep_alive: Duration,
    /// Between two signs that an answer is being taken.
    pub(super) patience: Duration,
    /// From the last answer to the first look.
    pub(super) first_look: Duration,
}

impl Idle {
    /// The deadline has come. `silent` is how long the client has taken nothing of what waits, if something does.
    pub(super) fn look(self, silent: Option<Duration>, times: Times) -> (Idle, Next) {
        let elapsed = match self {
            Idle::New => times.first_look,
            Idle::Waits(u16::MAX) => Duration::MAX,
            Idle::Waits(steps) => Duration::from_millis(u64::from(steps) * STEP_MS as u64),
            Idle::Known => return (Idle::Known, Next::Over),
        };
        let (idle, next) = match silent {
            Some(silent) => {
                // When nothing waited the kernel may have heard of it for the last time long before.
                let left = times.patience.saturating_sub(silent.min(elapsed));
                if left.is_zero() {
                    return (self, Next::Reset);
                }
                let next = left.min(times.keep_alive).max(LOOK_EACH_MIN);
                let due = elapsed.saturating_add(next).as_millis().div_ceil(STEP_MS);
                (Idle::Waits(due.try_into().unwrap_or(u16::MAX)), next)
            }
            // It has been idle since its answer.
            None if self == Idle::New => (Idle::Known, times.keep_alive.saturating_sub(elapsed)),
            // It has become idle some time after the last look.
            None => (Idle::Known, times.keep_alive),
        };
        (idle, if next.is_zero() { Next::Over } else { Next::Look(next) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In seconds: the two limits, and at each look how long the client has taken nothing, if something waits. The last of what comes
    /// of them, and when.
    fn check(keep_alive: u64, patience: u64, looks: &[Option<u64>], last: Next, at: u64) {
        let [keep_alive, patience] = [keep_alive, patience].map(Duration::from_secs);
        let first_look = keep_alive.min(patience);
        let times = Times { keep_alive, patience, first_look };
        let (mut idle, mut next, mut now) = (Idle::New, Next::Look(first_look), Duration::ZERO);
        for silent in looks {
            let Next::Look(after) = next else { panic!("{next:?} before the last of {looks:?}") };
            now += after;
            (idle, next) = idle.look(silent.map(Duration::from_secs), times);
        }
        assert_eq!((next, now.as_secs()), (last, at), "{keep_alive:?} {patience:?} {looks:?}");
    }

    #[test]
    fn who_has_taken_all_is_idle_for_the_keep_alive_time() {
        check(75, 30, &[None], Next::Look(Duration::from_secs(45)), 30);
        check(75, 30, &[None, None], Next::Over, 75);
        check(5, 30, &[None], Next::Over, 5);
        check(30, 30, &[None], Next::Over, 30);
    }

    #[test]
    fn who_takes_nothing_is_reset() {
        check(75, 30, &[Some(30)], Next::Reset, 30);
        // It stopped after ten seconds.
        check(75, 30, &[Some(20), Some(30)], Next::Reset, 40);
        check(5, 30, &[Some(5), Some(10), Some(15), Some(20), Some(25), Some(30)], Next::Reset, 30);
        check(3600, 7200, &[Some(3600), Some(7200)], Next::Reset, 7200);
        check(3600, 36_000, &[Some(3600), Some(7200), Some(36_000)], Next::Reset, 10_800);
        // It takes a little now and then.
        check(75, 30, &[Some(1), Some(2), Some(29), Some(30)], Next::Reset, 88);
    }

    #[test]
    fn time_in_which_nothing_waited_is_not_silence() {
        // Its handler took a minute, and the answer is not acknowledged at once.
        check(5, 30, &[Some(65)], Next::Look(Duration::from_secs(5)), 5);
        check(5, 30, &[Some(65), None], Next::Look(Duration::from_secs(5)), 10);
        // Nor where nothing is known of it.
        check(5, 30, &[Some(u64::MAX)], Next::Look(Duration::from_secs(5)), 5);
    }

    #[test]
    fn who_has_taken_it_late_is_idle_from_then_on() {
        check(5, 30, &[Some(1), None], Next::Look(Duration::from_secs(5)), 10);
        check(5, 30, &[Some(1), None, None], Next::Over, 15);
        check(75, 30, &[Some(1), None, None], Next::Over, 30 + 29 + 75);
    }

    #[test]
    fn no_time_at_all_is_looked_at_all_the_same() {
        check(0, 30, &[Some(1)], Next::Look(LOOK_EACH_MIN), 0);
        check(0, 30, &[None], Next::Over, 0);
        check(75, 0, &[Some(0)], Next::Reset, 0);
    }
}
