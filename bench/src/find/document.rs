//! What a search found, as JSON and as a table. `docs/bench-json.md` says the same for readers.

use std::fmt::Write as _;

use serde::Serialize;

use super::slo::{Bound, Judged};
use crate::report::schema::{Percentiles, Report, Run};
use crate::report::table::duration;

/// What stands in `schema`.
const SCHEMA: &str = "annulet-bench.find";
const VERSION: u32 = 1;
/// The longest bar of the curve.
const BAR_MAX: f64 = 30.0;

/// One search.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Document {
    schema: &'static str,
    version: u32,
    /// The bounds, as they were understood.
    pub(crate) slo: Vec<String>,
    /// Why the search is over: `found`, `always-met`, `never-met`, `out-of-steps`, `out-of-time`, `interrupted`.
    pub(crate) ended: &'static str,
    /// The highest rate that was met.
    pub(crate) rate: Option<f64>,
    /// The lowest that was not.
    pub(crate) rate_missed: Option<f64>,
    /// Who was at the limit there: `server` or `client`.
    pub(crate) bound_by: Option<&'static str>,
    /// The runs, in their order.
    pub(crate) steps: Vec<Step>,
    pub(crate) urls: Vec<String>,
    pub(crate) connections: u64,
    pub(crate) run: Run,
}

/// One run.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Step {
    /// Planned requests a second.
    pub(crate) rate: f64,
    /// Answered ones.
    pub(crate) answered: f64,
    pub(crate) duration_s: f64,
    pub(crate) errors: u64,
    /// `met`, `missed`, or `unsure`: missed while the generator was at its limit.
    pub(crate) outcome: &'static str,
    /// Why it was not met.
    pub(crate) why: Option<String>,
    #[serde(flatten)]
    pub(crate) percentiles: Percentiles,
    /// The percentiles of the bounds, in their order.
    pub(crate) bounds_us: Vec<Option<f64>>,
}

impl Step {
    pub(crate) fn new(rate: f64, report: &Report, judged: &Judged, bounds: &[Bound]) -> Step {
        let (outcome, why) = match judged {
            Judged::Met => ("met", None),
            Judged::Missed(why) => ("missed", Some(why.clone())),
            Judged::Unsure(why) => ("unsure", Some(why.clone())),
        };
        Step {
            rate,
            answered: report.rate,
            duration_s: report.duration_s,
            errors: report.errors,
            outcome,
            why,
            percentiles: report.percentiles,
            bounds_us: bounds.iter().map(|bound| bound.value_us(report)).collect(),
        }
    }

    /// For the user who waits.
    pub(crate) fn line(&self) -> String {
        let why = self.why.as_deref().map_or_else(String::new, |why| format!(": {why}"));
        format!("{:>10.0}/s {}{why}", self.rate, self.outcome)
    }
}

impl Document {
    pub(crate) fn new(bounds: &[Bound], urls: Vec<String>, connections: u64, run: Run) -> Document {
        Document {
            schema: SCHEMA,
            version: VERSION,
            slo: bounds.iter().map(ToString::to_string).collect(),
            ended: "interrupted",
            rate: None,
            rate_missed: None,
            bound_by: None,
            steps: Vec::new(),
            urls,
            connections,
            run,
        }
    }

    /// The curve, slowest first, and what follows from it.
    pub(crate) fn text(&self, bounds: &[Bound]) -> String {
        let mut steps: Vec<&Step> = self.steps.iter().collect();
        steps.sort_by(|one, other| one.rate.total_cmp(&other.rate));
        let first = |step: &Step| step.bounds_us.first().copied().flatten();
        let known = || steps.iter().filter_map(|step| first(step)).filter(|us| *us > 0.0);
        let (least, most) = (known().fold(f64::INFINITY, f64::min), known().fold(0.0, f64::max));
        let mut out = format!(
            "{}\n  {} over {} connections\n\n",
            self.urls.join(" "),
            self.slo.join(", "),
            self.connections
        );
        let names: Vec<String> = bounds.iter().map(Bound::name).collect();
        let _ = write!(out, "  {:>10} {:>10}", "planned/s", "answered/s");
        for name in ["p50"].into_iter().chain(names.iter().map(String::as_str)) {
            let _ = write!(out, " {name:>9}");
        }
        out.push('\n');
        for step in steps {
            let _ = write!(out, "  {:>10.0} {:>10.0}", step.rate, step.answered);
            for us in [step.percentiles.p50_us].iter().chain(&step.bounds_us) {
                let _ = write!(out, " {:>9}", us.map_or_else(|| "-".to_owned(), duration));
            }
            let _ = writeln!(out, "  {:<6} {}", step.outcome, bar(first(step), least, most));
        }
        out.push('\n');
        out.push_str(&self.conclusion());
        out.push('\n');
        out
    }

    fn conclusion(&self) -> String {
        let slo = self.slo.join(", ");
        let by = if self.bound_by == Some("client") {
            "; there the generator was at its limit, so the server may do better: give the load more cores"
        } else {
            ""
        };
        let early = match self.ended {
            "out-of-steps" => " (ended by --max-steps)",
            "out-of-time" => " (ended by --max-time)",
            "interrupted" => " (interrupted)",
            _ => "",
        };
        match (self.rate, self.rate_missed) {
            (Some(met), Some(missed)) => {
                format!("  {slo} is kept up to {met:.0}/s and missed at {missed:.0}/s{by}{early}")
            }
            (Some(met), None) => format!("  {slo} is kept at {met:.0}/s; no higher rate was tried{early}"),
            (None, Some(missed)) => format!("  {slo} is not even kept at {missed:.0}/s{by}{early}"),
            (None, None) => format!("  nothing is known about {slo}{early}"),
        }
    }
}

/// On a logarithmic scale: beyond the knee latency grows by orders of magnitude.
fn bar(us: Option<f64>, least: f64, most: f64) -> String {
    let Some(us) = us.filter(|us| *us > 0.0) else { return String::new() };
    let share = if most > least { (us / least).ln() / (most / least).ln() } else { 0.0 };
    "█".repeat(1 + (share * (BAR_MAX - 1.0)).round() as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_curve() {
        let bounds: [Bound; 1] = ["p99<5ms".parse().unwrap()];
        let mut document = Document::new(&bounds, vec!["http://a/".into()], 64, Run::default());
        let step = |rate, us, judged: &Judged| {
            let mut step = Step::new(rate, &Report { rate, ..Report::default() }, judged, &bounds);
            step.bounds_us = vec![us];
            step
        };
        document.steps = vec![
            step(1000.0, Some(100.0), &Judged::Met),
            step(4000.0, Some(10_000.0), &Judged::Missed("p99 was 10.0ms".into())),
            step(2000.0, Some(1000.0), &Judged::Met),
        ];
        (document.rate, document.rate_missed, document.ended) = (Some(2000.0), Some(4000.0), "found");
        let text = document.text(&bounds);
        let rows: Vec<&str> = text.lines().filter(|line| line.contains('█')).collect();
        assert_eq!(rows[1], "        2000       2000         -    1.00ms  met    ████████████████");
        assert!(rows[0].ends_with(" █") && rows[2].contains("missed"), "{text}");
        assert!(text.contains("kept up to 2000/s and missed at 4000/s\n"), "{text}");
        assert_eq!(document.steps[1].line(), "      4000/s missed: p99 was 10.0ms");
        document.bound_by = Some("client");
        assert!(document.text(&bounds).contains("more cores"));
    }
}
