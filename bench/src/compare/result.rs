//! What comes of a comparison: ratios for every metric and server, whether bounds are kept, and the JSON of it all.

use serde::Serialize;

use super::rounds::{Measured, Round};
use super::statistics::{Ratio, median};
use super::threshold::{Metric, Threshold};
use crate::exit::Failure;

/// What stands in the JSON's `schema`.
pub(crate) const SCHEMA: &str = "annulet-bench.compare";
/// What stands in its `version`.
pub(crate) const VERSION: u32 = 1;

/// A comparison that was made.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Comparison {
    schema: &'static str,
    version: u32,
    /// In the order of the samples.
    pub(crate) names: Vec<String>,
    /// The commands or files, as given.
    pub(crate) sources: Vec<String>,
    /// Where and how, a sentence each.
    pub(crate) setting: Vec<String>,
    /// To which the tables relate the others.
    pub(crate) reference: usize,
    /// Values of each server, by metric.
    pub(crate) values: Vec<Vec<f64>>,
    /// Of each server over the reference, by metric; `None` where nothing is known.
    pub(crate) ratios: Vec<Vec<Option<Ratio>>>,
    pub(crate) faults: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) measured: Option<Measured>,
    #[serde(skip)]
    samples: Samples,
}

/// Where ratios come from.
#[derive(Clone, Debug)]
enum Samples {
    Rounds(Measured),
    /// By source and metric, not paired.
    Saved(Vec<Vec<Vec<f64>>>),
}

impl Comparison {
    /// Of rounds.
    pub(crate) fn of_rounds(
        names: Vec<String>,
        sources: Vec<String>,
        setting: Vec<String>,
        reference: usize,
        measured: Measured,
    ) -> Comparison {
        let samples = Samples::Rounds(measured.clone());
        let mut comparison = Comparison::new(names, sources, setting, reference, samples);
        comparison.faults = faults(&comparison.names, &measured);
        comparison.measured = Some(measured);
        comparison
    }

    /// Of samples that were taken at other times.
    pub(crate) fn of_saved(
        names: Vec<String>,
        sources: Vec<String>,
        setting: Vec<String>,
        reference: usize,
        samples: Vec<Vec<Vec<f64>>>,
    ) -> Comparison {
        Comparison::new(names, sources, setting, reference, Samples::Saved(samples))
    }

    fn new(
        names: Vec<String>,
        sources: Vec<String>,
        setting: Vec<String>,
        reference: usize,
        samples: Samples,
    ) -> Comparison {
        let servers = 0..names.len();
        let values = servers
            .clone()
            .map(|server| Metric::ALL.map(|metric| samples.value(server, metric)).to_vec())
            .collect();
        let ratios = servers
            .map(|server| Metric::ALL.map(|metric| samples.ratio(server, reference, metric)).to_vec())
            .collect();
        Comparison {
            schema: SCHEMA,
            version: VERSION,
            names,
            sources,
            setting,
            reference,
            values,
            ratios,
            faults: Vec::new(),
            measured: None,
            samples,
        }
    }

    /// Looks a bound up: the ratio, and whether the bound is broken.
    ///
    /// # Errors
    ///
    /// When there is no such server, or nothing is known of the metric.
    pub(crate) fn check(&self, threshold: &Threshold) -> Result<(Ratio, bool), Failure> {
        let over = position(&self.names, &threshold.over)?;
        let under = position(&self.names, &threshold.under)?;
        let ratio = self.samples.ratio(over, under, threshold.metric).ok_or_else(|| {
            Failure::usage(format!("--fail-if: {} was not measured", threshold.metric.heading()))
        })?;
        Ok((ratio, threshold.is_broken_by(ratio.estimate)))
    }
}

/// Where a name stands.
///
/// # Errors
///
/// When it is none of them.
pub(crate) fn position(names: &[String], name: &str) -> Result<usize, Failure> {
    names.iter().position(|each| each == name).ok_or_else(|| {
        Failure::usage(format!("there is no {name:?} in this comparison; there are {}", names.join(", ")))
    })
}

impl Samples {
    fn value(&self, server: usize, metric: Metric) -> f64 {
        match self {
            Samples::Rounds(measured) => median(column(measured.for_values(), server, metric)),
            Samples::Saved(samples) => median(samples[server][metric as usize].iter().copied()),
        }
    }

    fn ratio(&self, over: usize, under: usize, metric: Metric) -> Option<Ratio> {
        match self {
            Samples::Rounds(measured) => {
                let rounds = measured.for_ratio(metric);
                let pairs: Vec<(f64, f64)> =
                    column(rounds, over, metric).zip(column(rounds, under, metric)).collect();
                Ratio::of_pairs(&pairs)
            }
            Samples::Saved(samples) => {
                let of = |server: usize| samples[server][metric as usize].as_slice();
                Ratio::of_samples(of(over), of(under))
            }
        }
    }
}

impl Measured {
    /// Values as they are come from rounds in turn, where one server has the core.
    fn for_values(&self) -> &[Round] {
        if self.in_turn.is_empty() { &self.side_by_side } else { &self.in_turn }
    }

    /// The ratio of CPU comes from rounds side by side, where the noise is the same for all.
    fn for_ratio(&self, metric: Metric) -> &[Round] {
        if metric == Metric::Cpu && !self.side_by_side.is_empty() {
            &self.side_by_side
        } else {
            self.for_values()
        }
    }
}

fn column(rounds: &[Round], server: usize, metric: Metric) -> impl Iterator<Item = f64> {
    rounds.iter().map(move |round| round[server].value(metric))
}

/// Each fault once, with how often it happened.
fn faults(names: &[String], measured: &Measured) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for round in measured.in_turn.iter().chain(&measured.side_by_side) {
        for (name, sample) in names.iter().zip(round) {
            found.extend(sample.faults.iter().map(|fault| format!("{name}: {fault}")));
        }
    }
    found.sort();
    found.dedup();
    found
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::rounds::Sample;
    use super::*;

    fn round(cpu: [f64; 2], rate: [f64; 2]) -> Round {
        (0..2).map(|i| Sample { cpu_us: cpu[i], rate: rate[i], requests: 9, ..Sample::default() }).collect()
    }

    /// B costs a tenth more side by side, and seems to cost a half more in turn.
    pub(in super::super) fn example() -> Comparison {
        let measured = Measured {
            in_turn: vec![round([4.0, 6.0], [100.0, 90.0]); 5],
            side_by_side: vec![round([5.0, 5.5], [50.0, 50.0]); 5],
            interrupted: false,
        };
        let names = vec!["A".to_owned(), "B".to_owned()];
        let sources = vec!["old {port}".to_owned(), "new {port}".to_owned()];
        Comparison::of_rounds(names, sources, vec!["5 rounds".to_owned()], 0, measured)
    }

    #[test]
    fn cpu_is_compared_side_by_side_and_the_rest_in_turn() {
        let comparison = example();
        let near = |ratio: Option<Ratio>, expected: f64| {
            assert!((ratio.unwrap().estimate - expected).abs() < 1e-9, "{ratio:?}");
        };
        near(comparison.ratios[1][Metric::Cpu as usize], 1.1);
        near(comparison.ratios[1][Metric::Rate as usize], 0.9);
        near(comparison.ratios[0][Metric::Cpu as usize], 1.0);
        assert_eq!(comparison.ratios[1][Metric::P50 as usize], None);
        assert_eq!(comparison.values[1][..2], [6.0, 90.0]);
    }

    #[test]
    fn bounds() {
        let check = |text: &str| example().check(&text.parse().unwrap()).map(|(_, broken)| broken);
        assert!(check("B/A cpu > 1.05").unwrap());
        assert!(!check("A/B cpu > 1.05").unwrap());
        assert!(check("B/A rate < 0.95").unwrap());
        assert!(check("C/A rate < 0.95").unwrap_err().to_string().contains("there are A, B"));
        assert!(check("B/A p99 > 1").unwrap_err().to_string().contains("not measured"));
    }

    #[test]
    fn what_is_not_paired() {
        let samples =
            vec![vec![vec![], vec![100.0; 9], vec![], vec![]], vec![vec![], vec![90.0; 9], vec![], vec![]]];
        let names = vec!["a".to_owned(), "b".to_owned()];
        let comparison = Comparison::of_saved(names.clone(), names, vec![], 0, samples);
        assert_eq!(comparison.ratios[1][Metric::Cpu as usize], None);
        assert!((comparison.ratios[1][Metric::Rate as usize].unwrap().estimate - 0.9).abs() < 1e-9);
    }
}
