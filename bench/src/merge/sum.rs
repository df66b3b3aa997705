//! Several runs as one. Pure: reports in, a report out.
//!
//! Counts are added and histograms are added; percentiles are read from the sum and never averaged: the mean of two p99 is the
//! p99 of nothing.

use hdrhistogram::Histogram;

use crate::load::latency;
use crate::report::histogram;
use crate::report::schema::{
    Finding, Interval, Latency, Report, SCHEMA, Settings, TlsReport, VERSION, Verdict,
};

/// A histogram in a report that cannot be read, with its place.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unreadable {
    /// Which of the reports.
    pub(super) report: usize,
    pub(super) why: String,
}

/// Adds them up.
///
/// Runs that were made at the same time on several machines are one load: their rates add up, and the time is that of the longest.
/// Runs of one machine after another are not; [`Verdict::notes`] says when that is what they look like.
///
/// # Errors
///
/// When a histogram cannot be read.
pub(super) fn sum(reports: &[Report]) -> Result<Report, Unreadable> {
    let mut total = Report { schema: SCHEMA.to_owned(), version: VERSION, ..Report::default() };
    for report in reports {
        total.requests += report.requests;
        total.bytes_received += report.bytes_received;
        total.bytes_sent += report.bytes_sent;
        total.unsent += report.unsent;
        for (status, count) in &report.status {
            *total.status.entry(*status).or_default() += count;
        }
        total.error_counts.add(&report.error_counts);
        total.errors += report.errors;
        total.loops.extend(report.loops.iter().cloned());
    }
    let response = added(reports, |report| &report.response_time)?;
    total.percentiles = latency::percentiles(&response);
    total.response_time = latency::summary(&response);
    total.service_time = latency::summary(&added(reports, |report| &report.service_time)?);
    total.send_lag = latency::summary(&added(reports, |report| &report.send_lag)?);
    total.own_send_lag = latency::summary(&added(reports, |report| &report.own_send_lag)?);

    total.tls = tls(reports)?;

    let at_once = overlap(reports);
    total.duration_s = if at_once {
        reports.iter().map(|report| report.duration_s).fold(0.0, f64::max)
    } else {
        reports.iter().map(|report| report.duration_s).sum()
    };
    total.rate = if total.duration_s > 0.0 { total.requests as f64 / total.duration_s } else { 0.0 };
    total.intervals = intervals(reports)?;
    total.verdict = verdict(reports, at_once);
    total.settings = settings(reports, at_once);
    if let Some(first) = reports.first() {
        total.run = first.run.clone();
        total.run.started_unix_s = start(reports);
        total.run.cpus = reports.iter().map(|report| report.run.cpus).sum();
    }
    Ok(total)
}

fn read(report: usize, text: &str) -> Result<Histogram<u64>, Unreadable> {
    // A latency that was not measured has no text.
    if text.is_empty() {
        return Ok(histogram::empty());
    }
    histogram::decode(text).map_err(|error| Unreadable { report, why: error.to_string() })
}

fn add(to: &mut Histogram<u64>, report: usize, text: &str) -> Result<(), Unreadable> {
    to.add(read(report, text)?)
        .map_err(|error| Unreadable { report, why: format!("of other bounds: {error}") })
}

fn added(reports: &[Report], of: impl Fn(&Report) -> &Latency) -> Result<Histogram<u64>, Unreadable> {
    let mut sum = histogram::empty();
    for (number, report) in reports.iter().enumerate() {
        add(&mut sum, number, &of(report).histogram)?;
    }
    Ok(sum)
}

fn tls(reports: &[Report]) -> Result<Option<TlsReport>, Unreadable> {
    let mut sum = TlsReport::default();
    let mut connect = histogram::empty();
    for (number, report) in reports.iter().enumerate() {
        if let Some(of) = &report.tls {
            sum.handshakes += of.handshakes;
            sum.resumed += of.resumed;
            add(&mut connect, number, &of.connect_time.histogram)?;
        }
    }
    sum.connect_time = latency::summary(&connect);
    Ok((sum.handshakes > 0).then_some(sum))
}

/// When the first of them started.
fn start(reports: &[Report]) -> f64 {
    reports.iter().map(|report| report.run.started_unix_s).fold(f64::INFINITY, f64::min)
}

/// Whether they ran at the same time for the most part: less than half of their whole span is time in which some did not run.
fn overlap(reports: &[Report]) -> bool {
    let end = |report: &Report| report.run.started_unix_s + report.duration_s;
    let span = reports.iter().map(end).fold(f64::NEG_INFINITY, f64::max) - start(reports);
    let longest = reports.iter().map(|report| report.duration_s).fold(0.0, f64::max);
    span < 1.5 * longest
}

/// By the second since the first of them started.
fn intervals(reports: &[Report]) -> Result<Vec<Interval>, Unreadable> {
    let first = start(reports);
    let mut sums: std::collections::BTreeMap<u64, (Interval, Histogram<u64>)> =
        std::collections::BTreeMap::new();
    for (number, report) in reports.iter().enumerate() {
        for interval in &report.intervals {
            let start_s = report.run.started_unix_s - first + interval.start_s;
            // To the nearest second: clocks of machines differ, and a run does not start on a full one.
            let (sum, histogram) = sums.entry(start_s.round().max(0.0) as u64).or_insert_with(|| {
                (Interval { start_s: start_s.round(), ..Interval::default() }, histogram::empty())
            });
            sum.requests += interval.requests;
            sum.errors += interval.errors;
            sum.duration_s = sum.duration_s.max(interval.duration_s);
            add(histogram, number, &interval.histogram)?;
        }
    }
    let finished = sums.into_values().map(|(interval, histogram)| Interval {
        percentiles: latency::percentiles(&histogram),
        histogram: histogram::encode(&histogram),
        ..interval
    });
    Ok(finished.collect())
}

/// The worst of them is that of all.
fn verdict(reports: &[Report], at_once: bool) -> Verdict {
    let rank = |finding| match finding {
        Finding::RateMet => 0,
        Finding::ServerBound => 1,
        Finding::ClientBound => 2,
        Finding::Invalid => 3,
    };
    let finding = reports.iter().map(|report| report.verdict.finding).max_by_key(|finding| rank(*finding));
    let finding = finding.unwrap_or_default();
    let mut verdict = Verdict { finding, ..Verdict::default() };
    for (number, report) in reports.iter().enumerate() {
        let of = |text: &String| format!("run {}: {text}", number + 1);
        if report.verdict.finding == finding {
            verdict.reasons.extend(report.verdict.reasons.iter().map(of));
        }
        verdict.notes.extend(report.verdict.notes.iter().map(of));
    }
    verdict.notes.dedup();
    verdict.notes.push(format!(
        "merged from {} runs: histograms were added, no percentile was averaged",
        reports.len()
    ));
    if !at_once && reports.len() > 1 {
        verdict.notes.push(
            "they did not run at the same time: the rate is the mean over all of them, not what the server took at once"
                .to_owned(),
        );
    }
    verdict
}

/// What all of them asked for together, or the first alone if they came one after the other.
fn settings(reports: &[Report], at_once: bool) -> Settings {
    let Some(first) = reports.first() else { return Settings::default() };
    let mut settings = first.settings.clone();
    if at_once {
        settings.connections = reports.iter().map(|report| report.settings.connections).sum();
        settings.threads = reports.iter().map(|report| report.settings.threads).sum();
        settings.rate = reports.iter().map(|report| report.settings.rate).sum();
    }
    for report in &reports[1..] {
        for url in &report.settings.urls {
            if !settings.urls.contains(url) {
                settings.urls.push(url.clone());
            }
        }
    }
    settings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::schema::{Errors, Run};

    /// A run with these response times in µs, started then.
    fn run(started_unix_s: f64, values_us: impl IntoIterator<Item = u64>) -> Report {
        let mut samples = histogram::empty();
        values_us.into_iter().for_each(|us| samples.record(us * 1000).unwrap());
        let text = histogram::encode(&samples);
        let requests = samples.len();
        let interval = Interval { duration_s: 1.0, requests, histogram: text, ..Interval::default() };
        Report {
            requests,
            errors: 1,
            error_counts: Errors { reset: 1, ..Errors::default() },
            status: [(200, requests)].into(),
            duration_s: 10.0,
            percentiles: latency::percentiles(&samples),
            response_time: latency::summary(&samples),
            tls: Some(TlsReport { handshakes: 3, resumed: 1, connect_time: latency::summary(&samples) }),
            intervals: vec![interval],
            settings: Settings { rate: Some(500.0), connections: 8, ..Settings::default() },
            run: Run { started_unix_s, ..Run::default() },
            ..Report::default()
        }
    }

    #[test]
    fn percentiles_are_those_of_the_sum() {
        // Nine tenths of all requests take 1 ms, the rest, all on one machine, 100 ms.
        let fast = run(100.0, std::iter::repeat_n(1_000, 9_000));
        let slow = run(100.2, std::iter::repeat_n(100_000, 1_000));
        let sum = sum(&[fast, slow]).unwrap();
        let near =
            |found: Option<f64>, expected: f64| assert!((found.unwrap() / expected - 1.0).abs() < 0.002);
        near(sum.percentiles.p50_us, 1_000.0);
        near(sum.percentiles.p99_us, 100_000.0);
        assert_eq!((sum.requests, sum.response_time.count, sum.errors), (10_000, 10_000, 2));
        assert_eq!((sum.status[&200], sum.error_counts.reset), (10_000, 2));
        let tls = sum.tls.unwrap();
        assert_eq!((tls.handshakes, tls.resumed, tls.connect_time.count), (6, 2, 10_000));
        assert_eq!((sum.duration_s, sum.rate), (10.0, 1000.0));
        assert_eq!((sum.settings.rate, sum.settings.connections), (Some(1000.0), 16));
    }

    #[test]
    fn one_run_stays_what_it_is() {
        let one = run(5.0, 1..=5_000);
        let same = sum(std::slice::from_ref(&one)).unwrap();
        assert_eq!(same.percentiles, one.percentiles);
        assert_eq!(same.response_time, one.response_time);
        assert_eq!((same.requests, same.rate), (one.requests, 500.0));
    }

    #[test]
    fn intervals_meet_by_the_clock() {
        let sum = sum(&[run(100.0, [1]), run(100.3, [1, 2]), run(103.1, [1])]).unwrap();
        let found: Vec<(f64, u64)> = sum.intervals.iter().map(|each| (each.start_s, each.requests)).collect();
        assert_eq!(found, [(0.0, 3), (3.0, 1)]);
    }

    #[test]
    fn one_after_the_other_is_said() {
        let check = |second: f64, seconds: f64, said: bool| {
            let sum = sum(&[run(100.0, [1]), run(second, [1])]).unwrap();
            assert_eq!(sum.duration_s, seconds);
            assert_eq!(sum.settings.rate, Some(if said { 500.0 } else { 1000.0 }));
            let notes = sum.verdict.notes.join("\n");
            assert_eq!(notes.contains("not run at the same time"), said, "{notes}");
        };
        check(101.0, 10.0, false);
        check(110.0, 20.0, true);
    }

    #[test]
    fn the_worst_verdict_counts() {
        let of = |finding, reason: &str| {
            let verdict = Verdict { finding, reasons: vec![reason.to_owned()], notes: vec![] };
            Report { verdict, ..run(0.0, [1]) }
        };
        let reports =
            [of(Finding::ServerBound, "slow"), of(Finding::Invalid, "broken"), of(Finding::RateMet, "fine")];
        let verdict = sum(&reports).unwrap().verdict;
        assert_eq!((verdict.finding, verdict.reasons), (Finding::Invalid, vec!["run 2: broken".to_owned()]));
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let mut broken = run(0.0, [1]);
        broken.response_time.histogram = "HISTFxyz".to_owned();
        assert_eq!(sum(&[run(0.0, [1]), broken]).unwrap_err().report, 1);
    }
}
