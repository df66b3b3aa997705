//! Answers per second over time, and beside them the rate that was planned.

use super::axis::{Chart, Scale, count_word};
use crate::report::schema::Report;

/// `None` with fewer than two intervals: a line needs two ends.
pub(super) fn picture(report: &Report) -> Option<String> {
    let points: Vec<(f64, f64)> = report
        .intervals
        .iter()
        .filter(|interval| interval.duration_s > 0.0)
        .map(|each| (each.start_s + each.duration_s / 2.0, each.requests as f64 / each.duration_s))
        .collect();
    if points.len() < 2 {
        return None;
    }
    let end = report.intervals.iter().map(|each| each.start_s + each.duration_s).fold(0.0, f64::max);
    let planned = report.settings.rate;
    let largest = points.iter().map(|(_, rate)| *rate).chain(planned).fold(0.0, f64::max);
    let mut chart = Chart::new(
        "requests per second over time",
        Scale::Linear { low: 0.0, high: end },
        Scale::up_to(largest),
        count_word,
    );
    for tick in Scale::up_to(end).ticks().into_iter().filter(|tick| *tick <= end) {
        chart.x_word(tick, &format!("{tick} s"));
    }
    if let Some(rate) = planned {
        chart.curve("two", &[(0.0, rate), (end, rate)]);
        chart.legend("two", 1, "planned");
    }
    chart.curve("one", &points);
    chart.legend("one", 0, "answered");
    for interval in report.intervals.iter().filter(|interval| interval.errors > 0) {
        let until = interval.start_s + interval.duration_s;
        chart.fault((interval.start_s, until), &format!("{} errors", interval.errors));
    }
    Some(chart.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::schema::{Interval, Settings};

    #[test]
    fn a_line_and_the_plan() {
        let interval =
            |start_s| Interval { start_s, duration_s: 1.0, requests: 100, errors: 1, ..Interval::default() };
        let mut report = Report { intervals: vec![interval(0.0), interval(1.0)], ..Report::default() };
        let lines = |report: &Report| picture(report).map(|svg| svg.matches("<polyline").count());
        assert_eq!(lines(&report), Some(1));
        report.settings = Settings { rate: Some(120.0), ..Settings::default() };
        assert_eq!(lines(&report), Some(2));
        assert_eq!(picture(&report).unwrap().matches("class=\"fault\"").count(), 2);
        report.intervals.pop();
        assert_eq!(lines(&report), None);
    }
}
