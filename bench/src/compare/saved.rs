//! Comparing runs that were kept as JSON: their intervals are the samples.
//!
//! They were not measured in turn, so nothing says that the machine was the same; the output says so. Of the server's CPU a
//! run knows nothing.

use std::fs;
use std::path::Path;

use super::result::Comparison;
use super::threshold::Metric;
use crate::exit::{Exit, Failure};
use crate::report::schema::{Report, SCHEMA, VERSION};

/// Reads a run.
///
/// # Errors
///
/// When the file cannot be read or is none.
pub(crate) fn read(path: &Path) -> Result<Report, Failure> {
    let failed = |why: String| Failure::new(Exit::Usage, format!("{}: {why}", path.display()));
    let text = fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
    let report: Report = serde_json::from_str(&text)
        .map_err(|error| failed(format!("no report of annulet-bench load: {error}")))?;
    if report.schema != SCHEMA {
        return Err(failed(format!("no report of annulet-bench load: its schema is {:?}", report.schema)));
    }
    if report.version > VERSION {
        let version = report.version;
        return Err(failed(format!(
            "version {version} is newer than this program ({VERSION}): use a newer one"
        )));
    }
    Ok(report)
}

/// Compares runs.
pub(crate) fn compare(
    names: Vec<String>,
    sources: Vec<String>,
    reports: &[Report],
    reference: usize,
) -> Comparison {
    let samples =
        reports.iter().map(|report| Metric::ALL.map(|metric| samples(report, metric)).to_vec()).collect();
    let mut setting = vec![
        "Runs that were made at different times: each interval of a run is a sample, and a difference may be one of the \
         machine."
            .to_owned(),
    ];
    for (name, report) in names.iter().zip(reports) {
        let run = &report.run;
        setting.push(format!(
            "{name}: {} requests in {:.1} s, {} errors, Linux {}, {}",
            report.requests, report.duration_s, report.errors, run.kernel, run.cpu
        ));
    }
    Comparison::of_saved(names, sources, setting, reference, samples)
}

fn samples(report: &Report, metric: Metric) -> Vec<f64> {
    let value = |requests: u64, duration: f64, p50: Option<f64>, p99: Option<f64>| match metric {
        Metric::Cpu => None,
        Metric::Rate => (duration > 0.0).then(|| requests as f64 / duration),
        Metric::P50 => p50,
        Metric::P99 => p99,
    };
    let intervals: Vec<f64> = report
        .intervals
        .iter()
        .filter_map(|each| {
            value(each.requests, each.duration_s, each.percentiles.p50_us, each.percentiles.p99_us)
        })
        .collect();
    if !intervals.is_empty() {
        return intervals;
    }
    let percentiles = report.percentiles;
    value(report.requests, report.duration_s, percentiles.p50_us, percentiles.p99_us).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::schema::Interval;

    fn report(rate: u64) -> Report {
        let interval = |add| Interval { duration_s: 1.0, requests: rate + add, ..Interval::default() };
        Report {
            schema: SCHEMA.into(),
            version: VERSION,
            intervals: (0..10).map(interval).collect(),
            ..Report::default()
        }
    }

    #[test]
    fn intervals_are_the_samples() {
        let names = vec!["A".to_owned(), "B".to_owned()];
        let comparison = compare(names.clone(), names, &[report(1000), report(1200)], 0);
        let ratio = comparison.ratios[1][Metric::Rate as usize].unwrap();
        assert!((ratio.estimate - 1.2).abs() < 0.01 && ratio.is_different(), "{ratio:?}");
    }

    #[test]
    fn what_is_no_run() {
        let check = |text: &str, expected: &str| {
            let file = tempfile::NamedTempFile::new().unwrap();
            fs::write(file.path(), text).unwrap();
            let failure = read(file.path()).unwrap_err();
            assert!(failure.to_string().contains(expected), "{failure}");
        };
        check("hello", "no report");
        check("{}", "schema is \"\"");
        check(r#"{"schema": "annulet-bench.load", "version": 99}"#, "newer");
        assert!(read(Path::new("/no/such.json")).unwrap_err().to_string().contains("No such file"));
    }
}
