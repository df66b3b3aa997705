//! What is known about latency, and how surely. Histograms have constant memory; a record is an addition.

use hdrhistogram::Histogram;

use crate::report::histogram;
use crate::report::schema::{Latency, Percentile, Percentiles};

/// The percentiles of tables and reports.
pub(crate) const SHOWN: [f64; 8] = [50.0, 75.0, 90.0, 95.0, 99.0, 99.9, 99.99, 99.999];

/// Adds a sample; what is beyond the histogram counts as its largest value, so that no sample is lost.
#[inline]
pub(crate) fn record(histogram: &mut Histogram<u64>, ns: u64) {
    histogram.saturating_record(ns.max(1));
}

pub(crate) fn us(ns: u64) -> f64 {
    ns as f64 / 1000.0
}

/// A percentile with its interval of confidence, or `None` if there are too few samples to bound it.
///
/// How many of `n` independent samples lie below the true percentile is binomial, whatever the distribution is. So the samples of
/// rank `np ± 1.96 √(np(1-p))` enclose it in 95 of 100 cases. If the upper rank is beyond the last sample, nothing bounds it from
/// above: p99.9 needs about 3800 samples.
pub(crate) fn percentile(histogram: &Histogram<u64>, percentile: f64) -> Option<Percentile> {
    let n = histogram.len() as f64;
    let p = percentile / 100.0;
    let spread = 1.96 * (n * p * (1.0 - p)).sqrt();
    let (low, high) = ((n * p - spread).floor().max(0.0), (n * p + spread).ceil());
    if n == 0.0 || high > n {
        return None;
    }
    let at = |rank: f64| us(histogram.value_at_quantile((rank / n).clamp(0.0, 1.0)));
    let value_us = us(histogram.value_at_quantile(p));
    Some(Percentile { percentile, value_us, low_us: at(low).min(value_us), high_us: at(high).max(value_us) })
}

/// How many samples a percentile needs, about, until it can be bounded from above.
pub(crate) fn samples_needed(percentile: f64) -> f64 {
    // Where the upper rank meets the last sample: n(1-p) = 1.96 √(np(1-p)).
    3.85 * percentile / (100.0 - percentile)
}

/// The few that stand at the top of a report.
pub(crate) fn percentiles(histogram: &Histogram<u64>) -> Percentiles {
    let at = |p| percentile(histogram, p).map(|percentile| percentile.value_us);
    Percentiles {
        p50_us: at(50.0),
        p75_us: at(75.0),
        p90_us: at(90.0),
        p99_us: at(99.0),
        p99_9_us: at(99.9),
        p99_99_us: at(99.99),
        max_us: (!histogram.is_empty()).then(|| us(histogram.max())),
    }
}

/// All that a report says about one latency.
pub(crate) fn summary(histogram: &Histogram<u64>) -> Latency {
    summary_with(histogram, &[])
}

/// The same with further percentiles.
pub(crate) fn summary_with(histogram: &Histogram<u64>, asked: &[f64]) -> Latency {
    if histogram.is_empty() {
        return Latency::default();
    }
    let mut shown = [&SHOWN, asked].concat();
    shown.sort_by(f64::total_cmp);
    shown.dedup();
    Latency {
        count: histogram.len(),
        mean_us: histogram.mean() / 1000.0,
        stdev_us: histogram.stdev() / 1000.0,
        min_us: us(histogram.min()),
        max_us: us(histogram.max()),
        percentiles: shown.into_iter().filter_map(|p| percentile(histogram, p)).collect(),
        histogram: histogram::encode(histogram),
    }
}

/// What wrk does to a closed loop's latencies: for each one longer than `expected_ns`, the ones that a client with this interval
/// would have seen while it waited.
pub(crate) fn corrected(histogram: &Histogram<u64>, expected_ns: u64) -> Histogram<u64> {
    histogram.clone_correct(expected_ns)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values_us: impl IntoIterator<Item = u64>) -> Histogram<u64> {
        let mut histogram = histogram::empty();
        values_us.into_iter().for_each(|value| record(&mut histogram, value * 1000));
        histogram
    }

    #[test]
    fn a_percentile_needs_samples_above_it() {
        let check = |samples, p, expected| {
            assert_eq!(percentile(&of(1..=samples), p).is_some(), expected, "p{p} of {samples}");
        };
        check(0, 50.0, false);
        check(1, 50.0, false);
        check(10, 50.0, true);
        check(100, 99.0, false);
        check(400, 99.0, true);
        check(3000, 99.9, false);
        check(4000, 99.9, true);
        for p in [90.0, 99.0, 99.9] {
            check((samples_needed(p) * 1.01) as u64 + 2, p, true);
            check((samples_needed(p) * 0.95) as u64, p, false);
        }
    }

    #[test]
    fn the_interval_encloses_the_percentile() {
        let found = percentile(&of(1..=10_000), 99.0).unwrap();
        assert!((found.value_us - 9900.0).abs() < 15.0, "{found:?}");
        // The ranks are 9900 ± 20, and three digits are kept.
        assert!((found.low_us - 9880.0).abs() < 15.0 && (found.high_us - 9920.0).abs() < 15.0, "{found:?}");
    }

    #[test]
    fn nothing_is_lost_at_the_ends() {
        let mut histogram = histogram::empty();
        record(&mut histogram, 0);
        record(&mut histogram, u64::MAX);
        assert_eq!(histogram.len(), 2);
        assert!(histogram.max() >= histogram::NS_MAX);
    }

    #[test]
    fn the_correction_gives_a_stall_its_weight() {
        let mut stalled = of(std::iter::repeat_n(1, 999));
        record(&mut stalled, 1_000_000_000);
        let corrected = corrected(&stalled, 1_000_000);
        // One stall of a second at a request a millisecond hides 999 requests.
        assert_eq!(corrected.len(), 1000 + 999);
        assert!(us(corrected.value_at_quantile(0.75)) > 400_000.0);
    }
}
