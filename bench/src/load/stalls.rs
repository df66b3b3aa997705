//! What a spinning loop loses to the machine: gaps between two looks at the clock. Pure.
//!
//! A loop that spins looks at the clock several times a microsecond. If nothing was sent and nothing received between two looks
//! and yet much time has passed, somebody else had the core: an interrupt, another thread, the hypervisor. If the loop was at work
//! meanwhile, the time is its own but for what the scheduler says that its thread has waited. (A kernel that does not preempt
//! itself gives a core away at the end of a system call, which is where a busy loop is.) So the load carries its own control: what
//! a sender that does nothing but wait would have been late by, on this core, in this very run.

use hdrhistogram::Histogram;

use super::latency::us;
use crate::report::histogram;
use crate::report::schema::StallReport;

/// Shorter gaps are the loop's own turns: one that finds nothing takes well below a microsecond, one with a single completion some
/// five.
const GAP_NS_MIN: u64 = 20_000;

/// Turns with work in them that are longer are worth asking the scheduler, which costs a system call.
const WORK_NS_MIN: u64 = 100_000;

/// See the module.
#[derive(Debug)]
pub(crate) struct Stalls {
    gaps: Histogram<u64>,
    /// How long the thread had waited for its core when that was last asked.
    waited_ns: u64,
    /// The last look, and what the loop had done until then.
    last: Option<(u64, u64)>,
}

impl Stalls {
    pub(crate) fn new() -> Stalls {
        Stalls { gaps: histogram::empty(), waited_ns: 0, last: None }
    }

    /// A look at the clock; `deeds` is any number that changes when the loop does something, `waited` tells how long the thread
    /// has waited for its core so far. The gap, if there was one: its start and its length.
    #[inline]
    pub(crate) fn look(
        &mut self,
        now_ns: u64,
        deeds: u64,
        waited: impl FnOnce() -> u64,
    ) -> Option<(u64, u64)> {
        let Some((last_ns, before)) = self.last.replace((now_ns, deeds)) else {
            self.waited_ns = waited();
            return None;
        };
        let turn_ns = now_ns.saturating_sub(last_ns);
        let is_idle = before == deeds;
        if turn_ns < if is_idle { GAP_NS_MIN } else { WORK_NS_MIN } {
            return None;
        }
        let waited_ns = waited();
        let since_ns = waited_ns.saturating_sub(std::mem::replace(&mut self.waited_ns, waited_ns));
        let gap_ns = if is_idle { turn_ns } else { since_ns.min(turn_ns) };
        if gap_ns < GAP_NS_MIN {
            return None;
        }
        self.gaps.saturating_record(gap_ns);
        Some((last_ns, gap_ns))
    }

    /// What it came to in so much time.
    pub(crate) fn to_report(&self, time_ns: u64) -> StallReport {
        let sum = |least: u64| -> (f64, f64) {
            let gaps = self.gaps.iter_recorded().filter(|of| of.value_iterated_to() >= least);
            gaps.fold((0.0, 0.0), |(count, sum), of| {
                let here = of.count_at_value() as f64;
                (count + here, sum + here * of.value_iterated_to() as f64)
            })
        };
        let (count, sum_ns) = sum(0);
        let time_ns = time_ns.max(1) as f64;
        StallReport {
            count: count as u64,
            share: sum_ns / time_ns,
            longest_us: if self.gaps.is_empty() { 0.0 } else { us(self.gaps.max()) },
            late_p99_us: self.late_ns(0.01 * time_ns) / 1e3,
            late_p99_9_us: self.late_ns(0.001 * time_ns) / 1e3,
        }
    }

    /// By how much an instant is late that is exceeded for `beyond_ns` of all time. An instant in a gap waits for the gap's end, so a
    /// gap has instants that are late by anything up to its length.
    fn late_ns(&self, beyond_ns: f64) -> f64 {
        let mut gaps: Vec<(f64, f64)> = self
            .gaps
            .iter_recorded()
            .map(|of| (of.value_iterated_to() as f64, of.count_at_value() as f64))
            .collect();
        gaps.reverse();
        let (mut count, mut sum) = (0.0, 0.0);
        for (index, (length, number)) in gaps.iter().enumerate() {
            count += number;
            sum += number * length;
            // Of these gaps and no shorter one, count × x less than their sum lies beyond x.
            let late = (sum - beyond_ns) / count;
            let shorter = gaps.get(index + 1).map_or(0.0, |(length, _)| *length);
            if late >= shorter {
                return late;
            }
        }
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_gap_is() {
        let mut stalls = Stalls::new();
        let mut check = |now_us: u64, deeds, waited_us: u64, expected: Option<(u64, u64)>| {
            let expected = expected.map(|(at, length)| (at * 1000, length * 1000));
            assert_eq!(stalls.look(now_us * 1000, deeds, || waited_us * 1000), expected, "at {now_us}");
        };
        check(100, 0, 70, None);
        check(119, 0, 70, None);
        check(139, 0, 70, Some((119, 20)));
        // At work, and not for long.
        check(230, 1, 130, None);
        // Whoever had the core, the loop had not.
        check(330, 1, 135, Some((230, 100)));
        check(330, 1, 135, None);
        // At work for long, by itself, and then because its thread waited; what it waited before that turn is told already.
        check(630, 2, 135, None);
        check(930, 3, 335, Some((630, 200)));
        check(1230, 4, 340, None);
    }

    #[test]
    fn what_an_ideal_sender_is_late_by() {
        let check = |gaps_us: &[u64], time_us: u64, p99: f64, p99_9: f64| {
            let mut stalls = Stalls::new();
            let mut now = 0;
            stalls.look(now, 0, || 0);
            for gap in gaps_us {
                now += gap * 1000;
                stalls.look(now, 0, || 0);
            }
            let found = stalls.to_report(time_us * 1000);
            // Three digits of the longest gap.
            let spare = gaps_us.iter().max().map_or(0.0, |longest| *longest as f64 * 0.001) + 0.1;
            let near = |found: f64, expected: f64| (found - expected).abs() <= spare;
            assert!(near(found.late_p99_us, p99), "{gaps_us:?}: p99 {}", found.late_p99_us);
            assert!(near(found.late_p99_9_us, p99_9), "{gaps_us:?}: p99.9 {}", found.late_p99_9_us);
            assert_eq!(found.count, gaps_us.len() as u64);
        };
        check(&[], 1_000_000, 0.0, 0.0);
        // One gap of 4 ms in a second: 1 ms of that, the last of it, is beyond 99.9 % of the time.
        check(&[4000], 1_000_000, 0.0, 3000.0);
        check(&[4000; 3], 1_000_000, 666.7, 3666.7);
        check(&[4000; 5], 1_000_000, 2000.0, 3800.0);
        // Short ones count where the long ones do not suffice: 11 + 5 is 6 above 10.
        check(&[11_000, 5000], 1_000_000, 3000.0, 10_000.0);
        check(&[100; 10], 1_000_000, 0.0, 0.0);
    }
}
