//! The clock of a connection on which nothing comes: it is idle for as long as it may be from when its client has taken everything.
use std::time::Duration;

use super::written::Taken;

/// What time between looks is counted in.
const STEP: Duration = Duration::from_millis(100);

/// What is known of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Idle {
    /// Nothing: it has not been looked at.
    New,
    /// What was written had not all been taken.
    Waits(Look),
    /// The client has taken everything.
    Known,
}

/// A look at a client that had not taken everything. (Packed: each connection has room for one.)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(Rust, packed)]
pub(super) struct Look {
    /// What it had taken.
    taken: u32,
    /// For so many steps it will have taken nothing when it is looked again, unless it has taken more by then. The most stand for any
    /// number.
    steps: u16,
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
    /// The deadline has come. `taken` is how far the client has come with what waits, if something does.
    pub(super) fn look(self, taken: Option<Taken>, times: Times) -> (Idle, Next) {
        // What it had taken, and for how long it has taken nothing if it has taken no more.
        let (before, known) = match self {
            // When nothing waited the kernel may have heard of it for the last time long before.
            Idle::New => (None, times.first_look),
            Idle::Waits(Look { steps: u16::MAX, .. }) => (None, Duration::MAX),
            Idle::Waits(Look { taken, steps }) => (Some(taken), STEP * steps.into()),
            Idle::Known => return (Idle::Known, Next::Over),
        };
        let (idle, next) = match taken {
            Some(taken) => {
                let silence = taken.silence(before, known);
                let left = times.patience.saturating_sub(silence);
                if left.is_zero() {
                    return (self, Next::Reset);
                }
                let next = whole_steps(left.min(times.keep_alive));
                let steps = silence.saturating_add(next).as_millis() / STEP.as_millis();
                let steps = steps.try_into().unwrap_or(u16::MAX);
                (Idle::Waits(Look { taken: taken.bytes, steps }), next)
            }
            // It has been idle since its answer.
            None if self == Idle::New => (Idle::Known, times.keep_alive.saturating_sub(times.first_look)),
            // It has become idle some time after the last look.
            None => (Idle::Known, times.keep_alive),
        };
        (idle, if next.is_zero() { Next::Over } else { Next::Look(next) })
    }
}

/// Rounded up, so that steps are counted exactly; one at the least.
fn whole_steps(time: Duration) -> Duration {
    let steps = time.as_millis().div_ceil(STEP.as_millis()).max(1);
    steps.try_into().map_or(Duration::MAX, |steps| STEP.saturating_mul(steps))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In seconds: the two limits, and at each look what the client has taken, and how long nothing, if something waits. The last of
    /// what comes of them, and when.
    fn check(keep_alive: u64, patience: u64, looks: &[Option<(u32, u64)>], last: Next, at: u64) {
        let [keep_alive, patience] = [keep_alive, patience].map(Duration::from_secs);
        let first_look = keep_alive.min(patience);
        let times = Times { keep_alive, patience, first_look };
        let (mut idle, mut next, mut now) = (Idle::New, Next::Look(first_look), Duration::ZERO);
        for taken in looks {
            let Next::Look(after) = next else { panic!("{next:?} before the last of {looks:?}") };
            now += after;
            let taken = taken.map(|(bytes, idle)| Taken { bytes, idle: Duration::from_secs(idle) });
            (idle, next) = idle.look(taken, times);
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
        check(75, 30, &[Some((1, 30))], Next::Reset, 30);
        // It stopped after ten seconds.
        check(75, 30, &[Some((1, 20)), Some((1, 30))], Next::Reset, 40);
        let each_five = [5, 10, 15, 20, 25, 30].map(|idle| Some((1, idle)));
        check(5, 30, &each_five, Next::Reset, 30);
        check(3600, 7200, &[Some((1, 3600)), Some((1, 7200))], Next::Reset, 7200);
        check(3600, 36_000, &[Some((1, 3600)), Some((1, 7200)), Some((1, 36_000))], Next::Reset, 10_800);
        // It takes a little now and then.
        check(75, 30, &[Some((1, 1)), Some((2, 2)), Some((3, 29)), Some((3, 30))], Next::Reset, 88);
    }

    #[test]
    fn who_thanks_again_for_what_it_took_before_takes_nothing() {
        check(75, 30, &[Some((1, 0)), Some((1, 0))], Next::Reset, 60);
        check(5, 30, &[Some((1, 0)); 7], Next::Reset, 35);
        check(5, 30, &[Some((1, 0)), Some((2, 0)), Some((2, 0))], Next::Look(Duration::from_secs(5)), 15);
    }

    #[test]
    fn time_in_which_nothing_waited_is_not_silence() {
        // Its handler took a minute, and the answer is not acknowledged at once.
        check(5, 30, &[Some((1, 65))], Next::Look(Duration::from_secs(5)), 5);
        check(5, 30, &[Some((1, 65)), None], Next::Look(Duration::from_secs(5)), 10);
    }

    #[test]
    fn who_has_taken_it_late_is_idle_from_then_on() {
        check(5, 30, &[Some((1, 1)), None], Next::Look(Duration::from_secs(5)), 10);
        check(5, 30, &[Some((1, 1)), None, None], Next::Over, 15);
        check(75, 30, &[Some((1, 1)), None, None], Next::Over, 30 + 29 + 75);
    }

    #[test]
    fn no_time_at_all_is_looked_at_all_the_same() {
        check(0, 30, &[Some((1, 1))], Next::Look(STEP), 0);
        check(0, 30, &[None], Next::Over, 0);
        check(75, 0, &[Some((1, 0))], Next::Reset, 0);
    }

    #[test]
    fn parts_of_a_step_count_in_the_end() {
        let [keep_alive, patience] = [150, 950].map(Duration::from_millis);
        let times = Times { keep_alive, patience, first_look: keep_alive };
        let (mut idle, mut next, mut now) = (Idle::New, Next::Look(keep_alive), Duration::ZERO);
        while let Next::Look(after) = next {
            now += after;
            (idle, next) = idle.look(Some(Taken { bytes: 1, idle: now }), times);
        }
        assert_eq!(next, Next::Reset);
        assert!(now >= patience && now < patience + 2 * STEP, "{now:?}");
    }
}
