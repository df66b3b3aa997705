//! Latency over time as a heat map: a column for every interval, a row for every step of latency, darker where there were more.
//!
//! The average of a second hides its outliers and a percentile hides its shape; here a stall is a spot above the band.

use super::axis::{Chart, Scale, count_word, time_word};
use crate::report::histogram;
use crate::report::schema::Report;

/// Rows for each tenfold of latency.
const ROWS: u32 = 8;
/// What is drawn for a single request: it must not vanish beside thousands.
const STRENGTH_MIN: f64 = 0.12;
/// Columns; neighbouring intervals share one beyond that.
const COLUMNS_MAX: usize = 240;

/// `None` without intervals that keep their histogram.
pub(super) fn picture(report: &Report) -> Option<String> {
    let columns = columns(report);
    let end = columns.iter().map(|column| column.end_s).fold(0.0, f64::max);
    let most = columns.iter().flat_map(|column| &column.rows).map(|row| row.count).max()?;
    let lowest =
        columns.iter().flat_map(|column| &column.rows).map(|row| row.low_us).fold(f64::INFINITY, f64::min);
    let highest = columns.iter().flat_map(|column| &column.rows).map(|row| row.high_us).fold(0.0, f64::max);

    let x = Scale::Linear { low: 0.0, high: end };
    let mut chart = Chart::new("latency over time", x, Scale::decades(lowest, highest), time_word);
    for tick in Scale::up_to(end).ticks().into_iter().filter(|tick| *tick <= end) {
        chart.x_word(tick, &format!("{tick} s"));
    }
    for column in &columns {
        for row in &column.rows {
            // By the logarithm: one among thousands is still seen.
            let strength = (row.count as f64 + 1.0).ln() / (most as f64 + 1.0).ln();
            let word = format!(
                "{:.1} s: {} requests between {} and {}",
                column.start_s,
                count_word(row.count as f64),
                time_word(row.low_us),
                time_word(row.high_us)
            );
            let strength = STRENGTH_MIN + (1.0 - STRENGTH_MIN) * strength;
            chart.cell((column.start_s, column.end_s), (row.low_us, row.high_us), strength, &word);
        }
        if column.errors > 0 {
            chart.fault((column.start_s, column.end_s), &format!("{} errors", column.errors));
        }
    }
    Some(chart.finish())
}

#[derive(Debug, PartialEq)]
struct Column {
    start_s: f64,
    end_s: f64,
    errors: u64,
    rows: Vec<Row>,
}

#[derive(Debug, PartialEq)]
struct Row {
    low_us: f64,
    high_us: f64,
    count: u64,
}

fn columns(report: &Report) -> Vec<Column> {
    let share = report.intervals.len().div_ceil(COLUMNS_MAX).max(1);
    report
        .intervals
        .chunks(share)
        .map(|intervals| {
            let mut sum = histogram::empty();
            for interval in intervals {
                // One that cannot be read leaves a gap, as one without requests does.
                if let Ok(histogram) = histogram::decode(&interval.histogram) {
                    sum += histogram;
                }
            }
            let last = &intervals[intervals.len() - 1];
            Column {
                start_s: intervals[0].start_s,
                end_s: last.start_s + last.duration_s,
                errors: intervals.iter().map(|interval| interval.errors).sum(),
                rows: rows(&sum),
            }
        })
        .collect()
}

fn rows(histogram: &hdrhistogram::Histogram<u64>) -> Vec<Row> {
    let step = |ns: u64| ((ns.max(1) as f64).log10() * f64::from(ROWS)).floor() as i32;
    let edge_us = |step: i32| 10f64.powf(f64::from(step) / f64::from(ROWS)) / 1e3;
    let mut rows: Vec<(i32, u64)> = Vec::new();
    for value in histogram.iter_recorded() {
        let at = step(value.value_iterated_to());
        match rows.last_mut() {
            Some((row, count)) if *row == at => *count += value.count_since_last_iteration(),
            _ => rows.push((at, value.count_since_last_iteration())),
        }
    }
    rows.into_iter().map(|(at, count)| Row { low_us: edge_us(at), high_us: edge_us(at + 1), count }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::schema::Interval;

    fn interval(start_s: f64, values_us: &[u64]) -> Interval {
        let mut histogram = histogram::empty();
        values_us.iter().for_each(|us| histogram.record(us * 1000).unwrap());
        Interval { start_s, duration_s: 1.0, histogram: histogram::encode(&histogram), ..Interval::default() }
    }

    #[test]
    fn a_stall_has_a_row_of_its_own() {
        let report = Report { intervals: vec![interval(0.0, &[50, 51, 52, 900_000])], ..Report::default() };
        let columns = columns(&report);
        let counts: Vec<u64> = columns[0].rows.iter().map(|row| row.count).collect();
        assert_eq!(counts, [3, 1]);
        let stall = &columns[0].rows[1];
        assert!(stall.low_us <= 900_000.0 && 900_000.0 <= stall.high_us, "{stall:?}");
    }

    #[test]
    fn many_intervals_share_columns() {
        let intervals = (0..1000).map(|at| interval(f64::from(at), &[10])).collect();
        let columns = columns(&Report { intervals, ..Report::default() });
        assert_eq!(columns.len(), 200);
        assert_eq!((columns[0].end_s, columns[0].rows[0].count), (5.0, 5));
    }

    #[test]
    fn nothing_measured() {
        assert_eq!(picture(&Report::default()), None);
        assert_eq!(picture(&Report { intervals: vec![interval(0.0, &[])], ..Report::default() }), None);
    }
}
