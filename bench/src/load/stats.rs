//! What one core counts. Constant memory: histograms and counters, no list of samples.

use hdrhistogram::Histogram;

use super::connection::Sent;
use super::latency::record;
use crate::report::histogram;
use crate::report::schema::Errors;

/// Three digits of status.
const STATUS_CODES: usize = 1000;

/// The counts of one core.
#[derive(Debug)]
pub(crate) struct Stats {
    /// Nothing that belongs to an earlier instant is counted: warm-up.
    pub(crate) from_ns: u64,
    pub(crate) is_open: bool,
    pub(crate) requests: u64,
    pub(crate) bytes_received: u64,
    pub(crate) bytes_sent: u64,
    pub(crate) errors: Errors,
    /// Answers by status code.
    pub(crate) status: Box<[u64]>,
    /// The first thing that went wrong, for people.
    pub(crate) first_error: Option<String>,
    /// Response times of the interval at hand.
    pub(crate) interval: Histogram<u64>,
    /// Open loop only: in closed loop it is the same as the response time.
    pub(crate) service: Histogram<u64>,
    /// Open loop: from the planned instant to the send.
    pub(crate) lag: Histogram<u64>,
    /// The part of it that is the generator's own: requests for which a connection was free.
    pub(crate) own_lag: Histogram<u64>,
    /// How late the loop's timer was.
    pub(crate) loop_lag: Histogram<u64>,
    /// When the last answer came.
    pub(crate) last_answer_ns: u64,
}

impl Stats {
    pub(crate) fn new(is_open: bool) -> Stats {
        Stats {
            // Nothing counts before the measured time is known.
            from_ns: u64::MAX,
            is_open,
            requests: 0,
            bytes_received: 0,
            bytes_sent: 0,
            errors: Errors::default(),
            status: vec![0; STATUS_CODES].into_boxed_slice(),
            first_error: None,
            interval: histogram::empty(),
            service: histogram::empty(),
            lag: histogram::empty(),
            own_lag: histogram::empty(),
            loop_lag: histogram::empty(),
            last_answer_ns: 0,
        }
    }

    /// Forgets the warm-up; what belongs to `from_ns` or later counts from now on.
    pub(crate) fn start(&mut self, from_ns: u64) {
        *self = Stats { from_ns, first_error: self.first_error.take(), ..Stats::new(self.is_open) };
    }

    /// Takes an answer in that ended at `now_ns`.
    ///
    /// In open loop a sample belongs to its planned instant, in closed loop to its answer.
    #[inline]
    pub(crate) fn take_answer(&mut self, sent: Sent, now_ns: u64, status: u16) {
        let belongs_ns = if self.is_open { sent.planned_ns } else { now_ns };
        if belongs_ns < self.from_ns {
            return;
        }
        self.requests += 1;
        self.last_answer_ns = now_ns;
        self.status[usize::from(status) % STATUS_CODES] += 1;
        if !(200..400).contains(&status) {
            self.errors.status += 1;
        }
        record(&mut self.interval, now_ns.saturating_sub(sent.planned_ns));
        if self.is_open {
            record(&mut self.service, now_ns.saturating_sub(sent.sent_ns));
            record(&mut self.lag, sent.sent_ns.saturating_sub(sent.planned_ns));
        }
    }

    /// Adds to a kind of error, and remembers the first.
    #[cold]
    pub(crate) fn take_error(
        &mut self,
        count: u64,
        kind: fn(&mut Errors) -> &mut u64,
        text: impl FnOnce() -> String,
    ) {
        if self.first_error.is_none() {
            self.first_error = Some(text());
        }
        if self.from_ns != u64::MAX {
            *kind(&mut self.errors) += count;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_loop_counts_from_the_planned_instant() {
        let mut stats = Stats::new(true);
        stats.start(1_000);
        let sent = Sent { planned_ns: 2_000, sent_ns: 5_000, is_head: false };
        stats.take_answer(sent, 9_000, 200);
        for (found, expected) in [(&stats.interval, 7_000), (&stats.service, 4_000), (&stats.lag, 3_000)] {
            assert!(found.equivalent(found.max(), expected), "{} is not {expected}", found.max());
        }
        stats.take_answer(Sent { planned_ns: 999, ..sent }, 9_000, 200);
        assert_eq!(stats.requests, 1, "planned in the warm-up");
    }

    #[test]
    fn closed_loop_counts_by_the_answer() {
        let mut stats = Stats::new(false);
        stats.take_answer(Sent::default(), 500, 200);
        assert_eq!(stats.requests, 0, "nothing counts before the start");
        stats.start(1_000);
        stats.take_answer(Sent::default(), 999, 200);
        stats.take_answer(Sent::default(), 1_000, 404);
        assert_eq!((stats.requests, stats.errors.status, stats.status[404]), (1, 1, 1));
        assert!(stats.service.is_empty());
    }
}
