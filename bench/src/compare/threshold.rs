//! `--fail-if "A/B cpu > 1.05"`: a bound on a ratio, in words.

use std::fmt;
use std::str::FromStr;

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Metric {
    /// CPU time of the server's processes per request.
    Cpu,
    /// Requests per second.
    Rate,
    /// Median response time.
    P50,
    /// 99th percentile of it.
    P99,
}

impl Metric {
    /// All of them, in the order of the tables.
    pub(crate) const ALL: [Metric; 4] = [Metric::Cpu, Metric::Rate, Metric::P50, Metric::P99];

    /// The word of the expression.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Metric::Cpu => "cpu",
            Metric::Rate => "rate",
            Metric::P50 => "p50",
            Metric::P99 => "p99",
        }
    }

    /// The heading of its column.
    pub(crate) fn heading(self) -> &'static str {
        match self {
            Metric::Cpu => "CPU µs/request",
            Metric::Rate => "requests/s",
            Metric::P50 => "p50 µs",
            Metric::P99 => "p99 µs",
        }
    }
}

/// A ratio that must not be on the wrong side of a number.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Threshold {
    /// The server above the line.
    pub(crate) over: String,
    /// The one below.
    pub(crate) under: String,
    pub(crate) metric: Metric,
    /// `>` or `<`: which side fails.
    fails_above: bool,
    bound: f64,
}

impl Threshold {
    /// Whether a ratio is one to fail at.
    pub(crate) fn is_broken_by(&self, ratio: f64) -> bool {
        if self.fails_above { ratio > self.bound } else { ratio < self.bound }
    }
}

impl FromStr for Threshold {
    type Err = String;

    fn from_str(text: &str) -> Result<Threshold, String> {
        parse(text).ok_or_else(|| {
            format!(
                "{text:?} is no bound; write NAME/NAME METRIC >|< NUMBER, such as \"B/A cpu > 1.05\", with a METRIC of \
                 cpu, rate, p50, p99"
            )
        })
    }
}

fn parse(text: &str) -> Option<Threshold> {
    let at = text.find(['>', '<'])?;
    let (left, right) = text.split_at(at);
    let mut words = left.split_whitespace();
    let (over, under) = words.next()?.split_once('/')?;
    let word = words.next()?;
    let metric = Metric::ALL.into_iter().find(|metric| metric.word() == word)?;
    let bound: f64 = right[1..].trim().parse().ok()?;
    if words.next().is_some() || over.is_empty() || under.is_empty() || !bound.is_finite() {
        return None;
    }
    let fails_above = right.starts_with('>');
    Some(Threshold { over: over.to_owned(), under: under.to_owned(), metric, fails_above, bound })
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.fails_above { '>' } else { '<' };
        write!(f, "{}/{} {} {sign} {}", self.over, self.under, self.metric.word(), self.bound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn read_and_written() {
        let check = |text: &str, ratio: f64, broken: bool| {
            let threshold: Threshold = text.parse().unwrap();
            assert_eq!(threshold.to_string(), text);
            assert_eq!(threshold.is_broken_by(ratio), broken, "{text} with {ratio}");
        };
        check("A/B cpu > 1.05", 1.06, true);
        check("A/B cpu > 1.05", 1.05, false);
        check("new/old rate < 0.95", 0.94, true);
        check("new/old rate < 0.95", 1.2, false);
        assert_eq!("A/B  p99>2".parse::<Threshold>().unwrap().to_string(), "A/B p99 > 2");
    }

    #[test]
    fn what_is_none() {
        for text in
            ["", "A cpu > 1", "A/B cpu", "A/B speed > 1", "A/B cpu > fast", "/B cpu > 1", "A/B cpu x > 1"]
        {
            let error = text.parse::<Threshold>().unwrap_err();
            assert!(error.contains("such as"), "{text}: {error}");
        }
    }
}
