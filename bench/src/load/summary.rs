//! From what the loops counted to the report of the run.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::Duration;

use hdrhistogram::Histogram;

use super::cli::Options;
use super::config::{Config, Mode};
use super::handshakes::Handshakes;
use super::latency::{corrected, percentile, percentiles, summary_with};
use super::messages::{Outcome, Part};
use super::verdict::{Evidence, LoopEvidence, judge, rate_is_met};
use crate::exit::Exit;
use crate::report::host;
use crate::report::schema::{Finding, Interval, LoopReport, Report, SCHEMA, Settings, VERSION};
use crate::report::{Slice, histogram};

/// Intervals in a report. At the bound neighbours are merged, so that a run of a day keeps a bounded report.
const INTERVALS_MAX: usize = 600;

/// What has come in.
#[derive(Debug)]
pub(crate) struct Gathered {
    loops: usize,
    started_unix_s: f64,
    started_monotonic_s: f64,
    outcomes: Vec<Outcome>,
    /// Response times of the whole measured time.
    response: Histogram<u64>,
    /// Intervals of which not every loop has reported its part.
    open: BTreeMap<usize, Open>,
    slices: Vec<Slice>,
    /// How many intervals of a second make one of `slices`.
    seconds_each: usize,
    errors_before: u64,
}

#[derive(Debug)]
struct Open {
    parts: usize,
    errors: u64,
    slice: Slice,
}

impl Gathered {
    pub(crate) fn new(config: &Config, started_unix_s: f64, started_monotonic_s: f64) -> Gathered {
        Gathered {
            loops: config.cores.len(),
            started_unix_s,
            started_monotonic_s,
            outcomes: Vec::new(),
            response: histogram::empty(),
            open: BTreeMap::new(),
            slices: Vec::new(),
            seconds_each: 1,
            errors_before: 0,
        }
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.outcomes.len() == self.loops
    }

    pub(crate) fn take_outcome(&mut self, outcome: Outcome) {
        self.outcomes.push(outcome);
    }

    /// What `--samples` asks for.
    pub(crate) fn write_samples(&self, out: &mut impl Write, origin_ns: u64) -> io::Result<()> {
        let samples = self.outcomes.iter().filter_map(|outcome| outcome.samples.as_ref());
        samples.into_iter().try_for_each(|samples| samples.write(out, origin_ns))
    }

    /// Takes a loop's part of an interval, and gives the intervals that are whole now.
    pub(crate) fn take_part(&mut self, part: Part) -> Vec<Slice> {
        let Part { number, start_ns, duration_ns, errors, histogram } = part;
        let seconds = |ns| Duration::from_nanos(ns).as_secs_f64();
        self.add(&histogram);
        let open = self.open.entry(number).or_insert_with(|| Open {
            parts: 0,
            errors: 0,
            slice: Slice {
                start_s: seconds(start_ns),
                duration_s: 0.0,
                errors: 0,
                histogram: histogram::empty(),
            },
        });
        open.parts += 1;
        open.errors += errors;
        open.slice.duration_s = open.slice.duration_s.max(seconds(duration_ns));
        open.slice.histogram.add(&histogram).expect("all histograms are alike");
        let mut whole = Vec::new();
        while let Some(entry) = self.open.first_entry()
            && entry.get().parts == self.loops
        {
            whole.push(self.close_first());
        }
        whole
    }

    fn close_first(&mut self) -> Slice {
        let (_, open) = self.open.pop_first().expect("the caller has looked");
        let mut slice = open.slice;
        slice.errors = open.errors.saturating_sub(self.errors_before);
        self.errors_before = open.errors.max(self.errors_before);
        self.keep(slice.clone());
        slice
    }

    fn add(&mut self, histogram: &Histogram<u64>) {
        self.response.add(histogram).expect("all histograms are alike");
    }

    fn keep(&mut self, slice: Slice) {
        match self.slices.last_mut() {
            Some(last) if last.duration_s + 0.5 < self.seconds_each as f64 => last.append(&slice),
            // What came after the end of the last whole second belongs to that.
            Some(last) if slice.duration_s < 0.01 => last.append(&slice),
            _ => self.slices.push(slice),
        }
        if self.slices.len() > INTERVALS_MAX {
            let pairs = self.slices.chunks(2).map(|pair| match pair {
                [one, other] => {
                    let mut both = one.clone();
                    both.append(other);
                    both
                }
                rest => rest[0].clone(),
            });
            self.slices = pairs.collect();
            self.seconds_each *= 2;
        }
    }

    /// The report, and what the process is to end with.
    pub(crate) fn into_report(mut self, options: &Options, config: &Config) -> (Report, Exit) {
        while !self.open.is_empty() {
            self.close_first();
        }
        self.outcomes.sort_by_key(|outcome| outcome.core);
        let mut report = Report { schema: SCHEMA.into(), version: VERSION, ..Report::default() };
        let (mut service, mut lag, mut own_lag) =
            (histogram::empty(), histogram::empty(), histogram::empty());
        let mut evidence = Evidence { spins: config.spin, ..Evidence::default() };
        let mut handshakes = Handshakes::new();
        for Outcome {
            core,
            connections,
            stats,
            handshakes: of_loop,
            usage,
            used_in_ns,
            measured_ns,
            unsent,
            stalls,
            ..
        } in &self.outcomes
        {
            report.requests += stats.requests;
            handshakes.add(of_loop);
            report.bytes_received += stats.bytes_received;
            report.bytes_sent += stats.bytes_sent;
            report.error_counts.add(&stats.errors);
            report.unsent += unsent;
            report.duration_s = report.duration_s.max(*measured_ns as f64 / 1e9);
            for (status, &count) in stats.status.iter().enumerate().filter(|(_, count)| **count > 0) {
                *report.status.entry(status as u16).or_default() += count;
            }
            for (sum, one) in
                [(&mut service, &stats.service), (&mut lag, &stats.lag), (&mut own_lag, &stats.own_lag)]
            {
                sum.add(one).expect("all histograms are alike");
            }
            let stalls = stalls.as_ref().map(|stalls| stalls.to_report(*used_in_ns));
            let share = |ns: u64| ns as f64 / (*used_in_ns).max(1) as f64;
            report.loops.push(LoopReport {
                core: *core,
                connections: *connections,
                requests: stats.requests,
                cpu_s: usage.cpu_ns as f64 / 1e9,
                cpu_share: share(usage.cpu_ns),
                starved_share: share(usage.waited_ns),
                lag_p99_us: percentile(&stats.loop_lag, 99.0).map(|lag| lag.value_us),
                stalls,
            });
            evidence.loops.push(LoopEvidence {
                core: *core,
                cpu_share: share(usage.cpu_ns),
                starved_share: share(usage.waited_ns),
                stalls_p99_us: stalls.map_or(0.0, |of| of.late_p99_us),
            });
        }
        report.errors = report.error_counts.sum();
        report.tls = handshakes.to_report();
        report.rate = report.requests as f64 / report.duration_s.max(1e-9);
        report.percentiles = percentiles(&self.response);
        let summary = |histogram: &Histogram<u64>| summary_with(histogram, &options.percentiles);
        report.response_time = summary(&self.response);
        report.settings = settings(options, config);
        report.run = host::describe(self.started_unix_s, self.started_monotonic_s);
        report.intervals = self.slices.iter().map(Slice::to_interval).collect();
        if let Mode::Open { rate, .. } = config.mode {
            report.service_time = summary(&service);
            report.send_lag = summary(&lag);
            report.own_send_lag = summary(&own_lag);
            evidence.is_open = true;
            evidence.rate_planned = rate;
            evidence.own_lag_p99_us = percentile(&own_lag, 99.0).map(|lag| lag.value_us);
            evidence.service_p99_us = percentile(&service, 99.0).map(|of| of.value_us);
        } else {
            report.service_time = report.response_time.clone();
            if options.correct && report.requests >= config.connections as u64 {
                // As wrk does: what one connection needed for a request, on average.
                let each = report.requests / config.connections as u64;
                let expected_ns = (report.duration_s * 1e9) as u64 / each;
                report.corrected_time = Some(summary(&corrected(&self.response, expected_ns.max(1))));
            }
        }
        evidence.rate = report.rate;
        if config.requests.is_some() && report.unsent == 0 {
            // A run that ends with its last request has met any rate that it sent.
            evidence.rate_planned = evidence.rate_planned.min(evidence.rate);
        }
        evidence.requests = report.requests;
        evidence.unsent = report.unsent;
        evidence.bad_status = report.error_counts.status;
        evidence.faults = report.errors - report.error_counts.status;
        evidence.first_error = self.outcomes.iter().find_map(|outcome| outcome.stats.first_error.clone());
        evidence.abandoned = self.outcomes.iter().map(|outcome| outcome.abandoned).sum();
        let oldest_ns = self.outcomes.iter().map(|outcome| outcome.abandoned_age_ns).max();
        evidence.abandoned_age_s = oldest_ns.unwrap_or(0) as f64 / 1e9;
        let asked = options.percentiles.iter().copied();
        evidence.unknown_percentiles = asked.filter(|&p| percentile(&self.response, p).is_none()).collect();
        report.verdict = judge(&evidence);
        let exit = match report.verdict.finding {
            Finding::Invalid => Exit::Invalid,
            _ if !rate_is_met(&evidence) => Exit::NotMet,
            _ => Exit::Good,
        };
        (report, exit)
    }
}

impl Slice {
    /// Adds what follows this slice in time.
    fn append(&mut self, later: &Slice) {
        self.duration_s += later.duration_s;
        self.errors += later.errors;
        self.histogram.add(&later.histogram).expect("all histograms are alike");
    }

    fn to_interval(&self) -> Interval {
        Interval {
            start_s: self.start_s,
            duration_s: self.duration_s,
            requests: self.histogram.len(),
            errors: self.errors,
            percentiles: percentiles(&self.histogram),
            histogram: histogram::encode(&self.histogram),
        }
    }
}

fn settings(options: &Options, config: &Config) -> Settings {
    let (mode, arrivals, rate) = match config.mode {
        Mode::Closed => ("closed", None, None),
        Mode::Open { rate, arrivals } => ("open", Some(format!("{arrivals:?}").to_lowercase()), Some(rate)),
    };
    Settings {
        urls: options.urls.clone(),
        mode: mode.into(),
        arrivals,
        rate,
        connections: config.connections,
        threads: config.cores.len(),
        pipeline: config.pipeline,
        duration_s: config.duration.as_secs_f64(),
        warmup_s: config.warmup.as_secs_f64(),
        timeout_s: config.timeout.as_secs_f64(),
        spin: config.spin,
        seed: config.seed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gathered() -> Gathered {
        Gathered {
            loops: 1,
            started_unix_s: 0.0,
            started_monotonic_s: 0.0,
            outcomes: Vec::new(),
            response: histogram::empty(),
            open: BTreeMap::new(),
            slices: Vec::new(),
            seconds_each: 1,
            errors_before: 0,
        }
    }

    fn slice(start: usize) -> Slice {
        let mut histogram = histogram::empty();
        histogram.record(1000).unwrap();
        Slice { start_s: start as f64, duration_s: 1.0, errors: 1, histogram }
    }

    #[test]
    fn a_late_tick_tells_how_long_it_was() {
        let mut gathered = gathered();
        let part = |number, start_ms: u64, duration_ms: u64| Part {
            number,
            start_ns: start_ms * 1_000_000,
            duration_ns: duration_ms * 1_000_000,
            errors: 0,
            histogram: histogram::empty(),
        };
        // The loop stood still from 1.2 to 3.5 s: two ticks follow at once, without length.
        for of in [part(0, 0, 1000), part(1, 1000, 2500), part(2, 3500, 0), part(3, 3500, 500)] {
            gathered.take_part(of);
        }
        let found: Vec<_> = gathered.slices.iter().map(|of| (of.start_s, of.duration_s)).collect();
        assert_eq!(found, [(0.0, 1.0), (1.0, 2.5), (3.5, 0.5)]);
    }

    #[test]
    fn a_long_run_keeps_a_bounded_number_of_intervals() {
        let mut gathered = gathered();
        const SECONDS: usize = 5000;
        (0..SECONDS).for_each(|second| gathered.keep(slice(second)));
        let slices = &gathered.slices;
        assert!(slices.len() <= INTERVALS_MAX && slices.len() > INTERVALS_MAX / 4, "{}", slices.len());
        assert_eq!(slices.iter().map(|slice| slice.histogram.len()).sum::<u64>(), SECONDS as u64);
        assert_eq!(slices.iter().map(|slice| slice.errors).sum::<u64>(), SECONDS as u64);
        for pair in slices.windows(2) {
            assert_eq!(pair[0].start_s + pair[0].duration_s, pair[1].start_s);
        }
    }
}
