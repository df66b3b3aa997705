//! What a server has to keep: bounds on percentiles of the response time, and whether a run kept them. Pure.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::load::latency::samples_needed;
use crate::load::parse_time;
use crate::report::schema::{Finding, Report};
use crate::report::table::duration;

/// An open loop has met its rate with this share of the planned requests answered.
const RATE_SHARE_MIN: f64 = 0.99;

/// One bound, such as `p99<5ms`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Bound {
    /// 100 is the longest of all.
    pub(crate) percentile: f64,
    limit: Duration,
}

/// What a run says about a rate.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Judged {
    /// It is kept, and so are all lower ones.
    Met,
    /// It is not, and the server is why.
    Missed(String),
    /// It was not kept, and the generator was at its limit.
    Unsure(String),
}

impl FromStr for Bound {
    type Err = String;

    fn from_str(text: &str) -> Result<Bound, String> {
        let wrong = || format!("{text:?} is no bound; write p99<5ms, p99.9<20ms or max<1s");
        let (name, limit) = text.split_once('<').ok_or_else(wrong)?;
        let limit = parse_time(limit.trim_start_matches('=').trim())?;
        let percentile = match name.trim() {
            "max" => 100.0,
            name => {
                let number = name.strip_prefix(['p', 'P']).and_then(|text| text.parse().ok());
                number.filter(|p| *p > 0.0 && *p < 100.0).ok_or_else(wrong)?
            }
        };
        Ok(Bound { percentile, limit })
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}<{}", self.name(), duration(self.limit_us()))
    }
}

impl Bound {
    pub(crate) fn name(&self) -> String {
        if self.percentile == 100.0 { "max".to_owned() } else { format!("p{}", self.percentile) }
    }

    fn limit_us(&self) -> f64 {
        self.limit.as_secs_f64() * 1e6
    }

    /// What a run found, if it has samples enough to say.
    pub(crate) fn value_us(&self, report: &Report) -> Option<f64> {
        if self.percentile == 100.0 {
            return report.percentiles.max_us;
        }
        let percentiles = &report.response_time.percentiles;
        percentiles.iter().find(|of| of.percentile == self.percentile).map(|of| of.value_us)
    }

    /// Requests that a run must have.
    pub(crate) fn samples_needed(&self) -> f64 {
        if self.percentile == 100.0 { 1.0 } else { samples_needed(self.percentile) }
    }
}

/// Judges a run at `rate` planned requests a second.
pub(crate) fn judge(report: &Report, rate: f64, bounds: &[Bound]) -> Judged {
    let is_client = report.verdict.finding == Finding::ClientBound;
    let missed = |why: String| {
        if is_client {
            Judged::Unsure(format!("{why}; {}", report.verdict.reasons.join("; ")))
        } else {
            Judged::Missed(why)
        }
    };
    if report.verdict.finding == Finding::Invalid {
        return missed(report.verdict.reasons.join("; "));
    }
    if report.rate < rate * RATE_SHARE_MIN {
        return missed(format!("{:.0} of {rate:.0} requests a second were answered", report.rate));
    }
    for bound in bounds {
        match bound.value_us(report) {
            None => return Judged::Unsure(format!("too few samples for {}", bound.name())),
            Some(us) if us >= bound.limit_us() => {
                return missed(format!("{} was {}", bound.name(), duration(us)));
            }
            Some(_) => {}
        }
    }
    // A generator that was disturbed makes latencies longer, never shorter.
    Judged::Met
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::schema::{Latency, Percentile, Verdict};

    #[test]
    fn bounds() {
        let check = |text: &str, expected: &str| {
            assert_eq!(text.parse::<Bound>().map(|of| of.to_string()), Ok(expected.to_owned()), "{text}");
        };
        check("p99<5ms", "p99<5.00ms");
        check("P99.9 <= 20ms", "p99.9<20.0ms");
        check("max<1s", "max<1.00s");
        for text in ["p99", "p99>5ms", "p0<1ms", "p100<1ms", "q99<1ms", "p99<5", "p99<5x"] {
            let found = text.parse::<Bound>();
            assert_eq!(found.is_err(), text != "p99<5", "{text}: {found:?}");
        }
    }

    fn report(finding: Finding, rate: f64, p99_us: Option<f64>) -> Report {
        let of = |value_us| Percentile { percentile: 99.0, value_us, low_us: value_us, high_us: value_us };
        Report {
            rate,
            response_time: Latency {
                percentiles: p99_us.map(of).into_iter().collect(),
                ..Latency::default()
            },
            verdict: Verdict { finding, reasons: vec!["so it is".into()], notes: vec![] },
            ..Report::default()
        }
    }

    #[test]
    fn verdicts() {
        let bounds = ["p99<5ms".parse().unwrap()];
        let check = |report: &Report, expected: &str| {
            let found = format!("{:?}", judge(report, 1000.0, &bounds));
            assert!(found.starts_with(expected), "{expected}: {found}");
        };
        check(&report(Finding::RateMet, 1000.0, Some(4999.0)), "Met");
        check(&report(Finding::RateMet, 1000.0, Some(5000.0)), "Missed(\"p99 was 5.00ms");
        check(&report(Finding::ServerBound, 900.0, Some(1.0)), "Missed(\"900 of 1000");
        check(&report(Finding::Invalid, 1000.0, Some(1.0)), "Missed(\"so it is");
        check(&report(Finding::ClientBound, 1000.0, Some(1.0)), "Met");
        check(&report(Finding::ClientBound, 1000.0, Some(9000.0)), "Unsure(\"p99 was 9.00ms; so it is");
        check(&report(Finding::ClientBound, 900.0, Some(1.0)), "Unsure");
        check(&report(Finding::RateMet, 1000.0, None), "Unsure(\"too few samples");
    }
}
