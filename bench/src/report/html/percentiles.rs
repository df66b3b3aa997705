//! The percentile curve: how bad it is for the one request in so many.

use hdrhistogram::Histogram;

use super::axis::{Chart, Scale, time_word};
use crate::report::histogram;
use crate::report::schema::Report;

/// Steps of the curve in each tenfold of "one in so many".
const STEPS: u32 = 12;

/// Response time, and beside it what it is made of. `None` without samples.
pub(super) fn picture(report: &Report) -> Option<String> {
    let of = |text: &str| histogram::decode(text).ok().filter(|histogram| !histogram.is_empty());
    let curves: Vec<(&str, &str, Histogram<u64>)> = [
        ("one", "response time", &report.response_time.histogram),
        ("two", "service time", &report.service_time.histogram),
        ("three", "send lag", &report.send_lag.histogram),
    ]
    .into_iter()
    .filter_map(|(class, word, text)| of(text).map(|histogram| (class, word, histogram)))
    .collect();
    let (first, rest) = curves.split_first()?;
    let largest = curves.iter().map(|(_, _, histogram)| histogram.max()).max()?;
    let smallest = curves.iter().map(|(_, _, histogram)| histogram.min()).min()?;
    // In closed loop response and service time are one.
    let rest = rest.iter().filter(|(_, _, histogram)| *histogram != first.2);

    let x = Scale::Log { low: 1.0, high: (first.2.len() as f64).max(10.0) };
    // Below a microsecond there is nothing to see, and a lag of nothing would take half of the picture.
    let y = Scale::decades((smallest as f64 / 1e3).max(1.0), largest as f64 / 1e3);
    let mut chart = Chart::new("latency by percentile", x, y, time_word);
    for (one_in, word) in TICKS {
        if *one_in <= first.2.len() as f64 {
            chart.x_word(*one_in, word);
        }
    }
    let shown: Vec<_> = std::iter::once(first).chain(rest).collect();
    // The response time last: where curves meet it is the one to see.
    for (nth, (class, word, histogram)) in shown.into_iter().enumerate().rev() {
        chart.curve(class, &points(histogram));
        chart.legend(class, nth, word);
    }
    Some(chart.finish())
}

const TICKS: &[(f64, &str)] = &[
    (1.0, "min"),
    (2.0, "p50"),
    (10.0, "p90"),
    (100.0, "p99"),
    (1e3, "p99.9"),
    (1e4, "p99.99"),
    (1e5, "p99.999"),
    (1e6, "p99.9999"),
];

/// `(one in so many, µs)`, until one in all.
fn points(histogram: &Histogram<u64>) -> Vec<(f64, f64)> {
    let samples = histogram.len() as f64;
    let steps = (samples.log10() * f64::from(STEPS)).ceil() as u32;
    (0..=steps)
        .map(|step| {
            let one_in = 10f64.powf(f64::from(step) / f64::from(STEPS)).min(samples);
            (one_in, histogram.value_at_quantile(1.0 - 1.0 / one_in) as f64 / 1e3)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_curve_ends_at_the_longest() {
        let mut histogram = histogram::empty();
        for us in 1..=1000 {
            histogram.record(us * 1000).unwrap();
        }
        let points = points(&histogram);
        let (one_in, last) = points[points.len() - 1];
        assert_eq!(one_in, 1000.0);
        assert!((last - 999.0).abs() < 2.0, "{last}");
        let at = |wanted: f64| points.iter().find(|(one_in, _)| (one_in - wanted).abs() < 0.01).unwrap().1;
        assert!((at(10.0) - 900.0).abs() < 2.0);
        assert!(points.is_sorted_by(|a, b| a.1 <= b.1));
    }

    #[test]
    fn no_samples_no_picture() {
        assert_eq!(picture(&Report::default()), None);
    }
}
