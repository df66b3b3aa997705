//! Every request by itself, for `--samples`: for programs that set the instrument beside another record of the same requests. A list
//! whose memory is there before the load begins.

use std::io::{self, Write};
use std::time::Duration;

use super::connection::Sent;

/// Requests of a loop; what comes after them is in the report and not in the list. 16 million are 384 MiB.
const SAMPLES_MAX: u64 = 16 << 20;
/// Gaps of a spinning loop. Arbitrary.
const GAPS_MAX: usize = 1 << 16;
/// Without a plan, this many a second are expected at most: more than a loop has reached.
const RATE_MAX: f64 = 1e6;

/// One answered request.
#[derive(Clone, Copy, Debug)]
struct Sample {
    planned_ns: u64,
    sent_ns: u64,
    answered_ns: u64,
}

/// See the module. Times count from the origin of the run.
#[derive(Debug, Default)]
pub(crate) struct Samples {
    requests: Vec<Sample>,
    gaps: Vec<(u64, u64)>,
}

impl Samples {
    /// For the share of one loop in a load.
    pub(crate) fn new(rate: Option<f64>, time: Duration) -> Samples {
        // A planned load cannot answer more than was planned.
        let most = (rate.unwrap_or(RATE_MAX) * time.as_secs_f64() * 1.01) as u64 + 1000;
        let most = most.min(SAMPLES_MAX) as usize;
        // Written once, so that no page is missing when it counts.
        let mut requests = vec![Sample { planned_ns: 1, sent_ns: 1, answered_ns: 1 }; most];
        requests.clear();
        let mut gaps = vec![(1, 1); GAPS_MAX];
        gaps.clear();
        Samples { requests, gaps }
    }

    #[inline]
    pub(crate) fn take_answer(&mut self, sent: Sent, answered_ns: u64) {
        if self.requests.len() < self.requests.capacity() {
            let Sent { planned_ns, sent_ns, .. } = sent;
            self.requests.push(Sample { planned_ns, sent_ns, answered_ns });
        }
    }

    pub(crate) fn take_gap(&mut self, gap: (u64, u64)) {
        if self.gaps.len() < self.gaps.capacity() {
            self.gaps.push(gap);
        }
    }

    /// A line each, in nanoseconds of a clock that shows `origin_ns` at the origin: `planned sent answered` in the order of
    /// answers, then `# gap start length`.
    pub(crate) fn write(&self, out: &mut impl Write, origin_ns: u64) -> io::Result<()> {
        for Sample { planned_ns, sent_ns, answered_ns } in &self.requests {
            writeln!(out, "{} {} {}", origin_ns + planned_ns, origin_ns + sent_ns, origin_ns + answered_ns)?;
        }
        for (start_ns, length_ns) in &self.gaps {
            writeln!(out, "# gap {} {length_ns}", origin_ns + start_ns)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_does_not_grow() {
        let mut samples = Samples::new(Some(10.0), Duration::from_secs(1));
        let room = samples.requests.capacity();
        for nth in 0..room as u64 + 5 {
            samples.take_answer(Sent { planned_ns: nth, sent_ns: nth + 1, is_head: false }, nth + 2);
        }
        assert_eq!((samples.requests.len(), samples.requests.capacity()), (room, room));
    }

    #[test]
    fn lines() {
        let mut samples = Samples::new(Some(1.0), Duration::from_secs(1));
        samples.take_answer(Sent { planned_ns: 1, sent_ns: 2, is_head: false }, 3);
        samples.take_gap((7, 50));
        let mut out = Vec::new();
        samples.write(&mut out, 1000).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "1001 1002 1003\n# gap 1007 50\n");
    }
}
