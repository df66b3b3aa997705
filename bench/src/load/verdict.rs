//! Who was the bottleneck, and whether the figures may be used: a pure function of what was counted.

use super::latency::samples_needed;
use crate::report::schema::{Finding, Verdict};

/// Errors and answers other than 2xx and 3xx, of all requests: beyond this share the figures are about failing.
const ERROR_SHARE_MAX: f64 = 0.001;
/// A loop that ran for this share of the time was at its limit.
const CPU_SHARE_MAX: f64 = 0.95;
/// A loop that was kept from running for this share of the time measured its neighbours.
const STARVED_SHARE_MAX: f64 = 0.10;
/// Open loop: what is sent late by the generator's fault is in the response time. Beyond this share of the time kept from running
/// the reported p99 is about that.
const OPEN_STARVED_SHARE_MAX: f64 = 0.01;
/// Open loop: the generator's own send lag at p99 may be this share of the service time at p99 …
const OWN_LAG_SHARE_MAX: f64 = 0.1;
/// … or so long: what a timer of a sleeping loop is late, with a margin.
const OWN_LAG_US_FREE: f64 = 100.0;
/// However long answers take: a generator that sends later than this, once in a hundred, does not keep its plan.
const OWN_LAG_US_MAX: f64 = 1000.0;
/// An open loop has met its rate with this share of the planned requests sent and answered.
const RATE_SHARE_MIN: f64 = 0.99;

/// What the verdict rests on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Evidence {
    pub(crate) is_open: bool,
    /// Open loop: what was asked for, per second.
    pub(crate) rate_planned: f64,
    pub(crate) rate: f64,
    pub(crate) requests: u64,
    pub(crate) unsent: u64,
    /// Errors other than by status.
    pub(crate) faults: u64,
    /// Answers other than 2xx and 3xx.
    pub(crate) bad_status: u64,
    pub(crate) first_error: Option<String>,
    pub(crate) spins: bool,
    pub(crate) loops: Vec<LoopEvidence>,
    /// Open loop: from the planned instant to the send where a connection was free, at the 99th percentile.
    pub(crate) own_lag_p99_us: Option<f64>,
    /// Open loop: from the send to the answer, at the 99th percentile.
    pub(crate) service_p99_us: Option<f64>,
    /// Percentiles that the user asked for and for which there are too few samples.
    pub(crate) unknown_percentiles: Vec<f64>,
    /// Closed loop: requests that were in flight at the end, and the age of the oldest.
    pub(crate) abandoned: usize,
    pub(crate) abandoned_age_s: f64,
}

/// One loop of the generator.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LoopEvidence {
    pub(crate) core: usize,
    pub(crate) cpu_share: f64,
    /// How long it was ready and another thread had its core.
    pub(crate) starved_share: f64,
    /// Spinning in open loop: by how much the machine would have made an ideal sender late, at p99.
    pub(crate) stalls_p99_us: f64,
}

/// Judges a run.
pub(crate) fn judge(evidence: &Evidence) -> Verdict {
    let mut notes = notes(evidence);
    let invalid = reasons_for_invalid(evidence);
    let client = reasons_for_client(evidence);
    let met = evidence.is_open && evidence.rate >= evidence.rate_planned * RATE_SHARE_MIN;
    let (finding, reasons) = if !invalid.is_empty() {
        notes.extend(client);
        (Finding::Invalid, invalid)
    } else if !client.is_empty() {
        (Finding::ClientBound, client)
    } else if met {
        let reason =
            format!("{:.0} of {:.0} requests a second were answered", evidence.rate, evidence.rate_planned);
        (Finding::RateMet, vec![reason])
    } else {
        (Finding::ServerBound, reasons_for_server(evidence))
    };
    Verdict { finding, reasons, notes }
}

/// Whether an open loop's rate was met, whatever else is the matter.
pub(crate) fn rate_is_met(evidence: &Evidence) -> bool {
    !evidence.is_open || evidence.rate >= evidence.rate_planned * RATE_SHARE_MIN
}

fn reasons_for_invalid(evidence: &Evidence) -> Vec<String> {
    let mut reasons = Vec::new();
    if evidence.requests == 0 {
        reasons.push("no request was answered".to_owned());
    }
    let attempts = (evidence.requests + evidence.faults) as f64;
    let share = |count: u64| count as f64 / attempts.max(1.0);
    if share(evidence.faults) > ERROR_SHARE_MAX {
        reasons.push(format!(
            "{} of {attempts} requests failed ({:.2} %; {:.1} % is the bound)",
            evidence.faults,
            share(evidence.faults) * 100.0,
            ERROR_SHARE_MAX * 100.0
        ));
    }
    if share(evidence.bad_status) > ERROR_SHARE_MAX {
        reasons.push(format!(
            "{} of {attempts} answers were not 2xx or 3xx ({:.2} %; {:.1} % is the bound)",
            evidence.bad_status,
            share(evidence.bad_status) * 100.0,
            ERROR_SHARE_MAX * 100.0
        ));
    }
    if let Some(error) = &evidence.first_error
        && evidence.faults > 0
        && let Some(reason) = reasons.last_mut()
    {
        *reason += &format!("; the first: {error}");
    }
    for percentile in &evidence.unknown_percentiles {
        let needed = samples_needed(*percentile);
        reasons.push(format!(
            "{} samples are too few for p{percentile}, which needs about {needed:.0}",
            evidence.requests
        ));
    }
    reasons
}

fn reasons_for_client(evidence: &Evidence) -> Vec<String> {
    let mut reasons = Vec::new();
    // The narrow bounds are about latency. They do not explain a rate that was missed.
    let is_met = evidence.is_open && rate_is_met(evidence);
    for &LoopEvidence { core, cpu_share, starved_share, .. } in &evidence.loops {
        let starved_max = if is_met { OPEN_STARVED_SHARE_MAX } else { STARVED_SHARE_MAX };
        if starved_share > starved_max {
            reasons.push(format!(
                "the loop on core {core} was ready to run and another thread had its core for {:.1} % of the time ({:.0} % is the bound)",
                starved_share * 100.0,
                starved_max * 100.0
            ));
        } else if cpu_share >= CPU_SHARE_MAX && !evidence.spins {
            reasons.push(format!(
                "the loop on core {core} used {:.0} % of it; give the load more cores (-t, --cores)",
                cpu_share * 100.0
            ));
        }
    }
    let lag_max_us = evidence.service_p99_us.filter(|_| is_met).map_or(OWN_LAG_US_MAX, |service_us| {
        (service_us * OWN_LAG_SHARE_MAX).clamp(OWN_LAG_US_FREE, OWN_LAG_US_MAX)
    });
    if let Some(lag_us) = evidence.own_lag_p99_us.filter(|&lag_us| lag_us > lag_max_us) {
        reasons.push(format!(
            "one in a hundred requests left {lag_us:.0} µs late although a connection was free ({lag_max_us:.0} is the bound{})",
            if evidence.spins { "" } else { "; --spin meets planned instants" }
        ));
    }
    reasons
}

fn reasons_for_server(evidence: &Evidence) -> Vec<String> {
    let busiest = evidence.loops.iter().map(|of| of.cpu_share).fold(0.0, f64::max);
    let idle = if evidence.spins {
        "the generator met its own instants".to_owned()
    } else {
        format!("the generator's busiest loop used {:.0} % of its core", busiest * 100.0)
    };
    if !evidence.is_open {
        return vec![format!("answers set the pace: {idle}")];
    }
    let mut reasons = vec![format!(
        "{:.0} of {:.0} requests a second were answered, and {idle}",
        evidence.rate, evidence.rate_planned
    )];
    if evidence.unsent > 0 {
        reasons.push(format!(
            "{} planned requests were never sent, because every connection was busy: they are in no latency, which would be worse",
            evidence.unsent
        ));
    }
    reasons
}

fn notes(evidence: &Evidence) -> Vec<String> {
    let mut notes = Vec::new();
    if !evidence.is_open {
        notes.push(
            "closed loop: every connection waits for its answer before it asks again, so this is the latency of a saturated \
             server, not one that users would see; measure that with -R at a rate below the limit"
                .to_owned(),
        );
    }
    for &LoopEvidence { core, stalls_p99_us, .. } in &evidence.loops {
        if evidence.own_lag_p99_us.is_some_and(|lag_us| lag_us > OWN_LAG_US_FREE) && stalls_p99_us > 0.0 {
            notes.push(format!(
                "core {core} was taken from the loop while that had nothing to do but look at the clock: an ideal sender would have \
                 been {stalls_p99_us:.0} µs late at p99 on it"
            ));
        }
    }
    // What is in flight when the time is over was sent a moment ago, as a rule.
    if evidence.abandoned > 0 && evidence.abandoned_age_s > 0.1 {
        notes.push(format!(
            "{} requests were in flight at the end, the oldest for {:.1} s: they are in no latency",
            evidence.abandoned, evidence.abandoned_age_s
        ));
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Evidence {
        let idle = LoopEvidence { core: 1, cpu_share: 0.5, ..LoopEvidence::default() };
        Evidence {
            is_open: true,
            rate_planned: 1000.0,
            rate: 1000.0,
            requests: 10_000,
            loops: vec![idle],
            own_lag_p99_us: Some(60.0),
            ..Evidence::default()
        }
    }

    fn check(evidence: &Evidence, finding: Finding, expected: &str) {
        let verdict = judge(evidence);
        assert_eq!(verdict.finding, finding, "{verdict:?}");
        let text = verdict.reasons.join("\n");
        assert!(text.contains(expected), "{expected:?} in {text}");
    }

    #[test]
    fn open_loop() {
        check(&good(), Finding::RateMet, "1000 of 1000");
        check(&Evidence { rate: 985.0, unsent: 150, ..good() }, Finding::ServerBound, "150 planned");
        check(&Evidence { own_lag_p99_us: Some(1001.0), ..good() }, Finding::ClientBound, "1001 µs late");
        let lag = |lag_us, service_us| Evidence {
            own_lag_p99_us: Some(lag_us),
            service_p99_us: Some(service_us),
            ..good()
        };
        check(&lag(101.0, 300.0), Finding::ClientBound, "101 µs late");
        check(&lag(99.0, 300.0), Finding::RateMet, "");
        check(&lag(400.0, 5000.0), Finding::RateMet, "");
        check(&lag(1001.0, 1e6), Finding::ClientBound, "1000 is the bound");
        let starved = LoopEvidence { core: 3, cpu_share: 0.5, starved_share: 0.011, stalls_p99_us: 0.0 };
        check(&Evidence { loops: vec![starved], rate: 500.0, ..good() }, Finding::ServerBound, "500 of 1000");
        check(&Evidence { loops: vec![starved], ..good() }, Finding::ClientBound, "1.1 %");
    }

    #[test]
    fn closed_loop() {
        let closed = Evidence { is_open: false, ..good() };
        check(&closed, Finding::ServerBound, "50 %");
        assert!(judge(&closed).notes[0].contains("not one that users would see"));
        let busy = LoopEvidence { core: 3, cpu_share: 0.96, ..LoopEvidence::default() };
        check(&Evidence { loops: vec![busy], ..closed.clone() }, Finding::ClientBound, "core 3 used 96 %");
        check(
            &Evidence { loops: vec![busy], spins: true, ..closed.clone() },
            Finding::ServerBound,
            "own instants",
        );
        let starved = LoopEvidence { core: 3, cpu_share: 0.5, starved_share: 0.49, stalls_p99_us: 0.0 };
        check(
            &Evidence { loops: vec![starved], spins: true, ..closed },
            Finding::ClientBound,
            "another thread",
        );
    }

    /// What `scripts/verdicts` stages with processes, with the numbers that it saw.
    #[test]
    fn the_three_staged_cases() {
        let alone = LoopEvidence { core: 1, cpu_share: 0.26, starved_share: 0.004, stalls_p99_us: 0.0 };
        let closed = Evidence {
            is_open: false,
            rate: 19_000.0,
            requests: 57_000,
            loops: vec![alone],
            ..Evidence::default()
        };
        check(&closed, Finding::ServerBound, "answers set the pace: the generator's busiest loop used 26 %");
        let open = Evidence {
            is_open: true,
            rate_planned: 40_000.0,
            unsent: 60_000,
            // What waited for a connection is the server's doing.
            own_lag_p99_us: Some(45.0),
            service_p99_us: Some(3600.0),
            ..closed.clone()
        };
        check(&open, Finding::ServerBound, "19000 of 40000 requests a second were answered");

        let beside = LoopEvidence { core: 1, cpu_share: 0.5, starved_share: 0.499, stalls_p99_us: 3900.0 };
        let busy_loop = Evidence { rate: 80_000.0, loops: vec![beside], ..closed.clone() };
        check(&busy_loop, Finding::ClientBound, "another thread had its core for 49.9 % of the time");
        let at_a_rate = Evidence {
            is_open: true,
            spins: true,
            rate_planned: 1000.0,
            rate: 1000.0,
            own_lag_p99_us: Some(3900.0),
            service_p99_us: Some(4000.0),
            ..busy_loop.clone()
        };
        check(&at_a_rate, Finding::ClientBound, "left 3900 µs late although a connection was free");

        let failing = Evidence { bad_status: 570, ..closed };
        check(&failing, Finding::Invalid, "570 of 57000 answers were not 2xx or 3xx (1.00 %");
        // Whatever else is the matter: figures about failing are no use.
        check(&Evidence { bad_status: 800, ..busy_loop }, Finding::Invalid, "(1.40 %");
    }

    #[test]
    fn invalid() {
        check(&Evidence { requests: 0, ..good() }, Finding::Invalid, "no request");
        check(&Evidence { bad_status: 100, ..good() }, Finding::Invalid, "1.00 %");
        check(&Evidence { bad_status: 10, ..good() }, Finding::RateMet, "");
        let failing = Evidence { faults: 100, first_error: Some("reset".into()), ..good() };
        check(&failing, Finding::Invalid, "the first: reset");
        check(&Evidence { unknown_percentiles: vec![99.99], ..good() }, Finding::Invalid, "about 38496");
    }

    #[test]
    fn what_the_machine_took() {
        let stalled = LoopEvidence { core: 1, cpu_share: 1.0, starved_share: 0.0, stalls_p99_us: 1500.0 };
        let notes = |lag_us| {
            let evidence =
                Evidence { own_lag_p99_us: Some(lag_us), spins: true, loops: vec![stalled], ..good() };
            judge(&evidence).notes
        };
        assert!(notes(90.0).is_empty());
        assert!(notes(1700.0)[0].contains("1500 µs late at p99"));
    }

    #[test]
    fn what_was_in_flight_at_the_end() {
        let notes = |age_s| judge(&Evidence { abandoned: 3, abandoned_age_s: age_s, ..good() }).notes;
        assert!(notes(0.01).is_empty());
        assert!(notes(0.5)[0].contains("0.5 s"));
    }
}
