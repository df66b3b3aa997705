//! Which rate to try next: up until one is missed, then between the highest that was met and the lowest that was not. Pure: it
//! is told how each came out.
//!
//! ```text
//!   from ──met──► ×2 ──met──► ×2 … ──missed──► between ──► … until the two are close
//!     └──missed──► ÷4 … down to the lowest rate at which a run has samples enough
//! ```
//!
//! A rate counts as missed when it was missed twice in a row, because a neighbour of the machine can spoil one run and makes
//! none look better.

use super::slo::Judged;

/// Where to search, and how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// The first rate.
    pub(crate) from: f64,
    /// No lower one.
    pub(crate) lowest: f64,
    /// No higher one.
    pub(crate) highest: f64,
    /// The rates on both sides of the knee may differ by this share in the end.
    pub(crate) precision: f64,
    /// Runs.
    pub(crate) steps: usize,
}

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Search {
    limits: Limits,
    steps: usize,
    /// The highest rate that was met.
    met: Option<f64>,
    /// The lowest that was not, and whether the generator was why.
    missed: Option<(f64, bool)>,
    /// Missed once.
    doubtful: Option<f64>,
}

/// Why a search is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Both sides of the knee are known.
    Found,
    /// Even the highest rate was met.
    AlwaysMet,
    /// Even the lowest was not.
    NeverMet,
    /// As many runs as were allowed.
    OutOfSteps,
}

impl Search {
    pub(crate) fn new(limits: Limits) -> Search {
        let highest = limits.highest.max(limits.lowest);
        let limits = Limits { highest, from: limits.from.clamp(limits.lowest, highest), ..limits };
        Search { limits, steps: 0, met: None, missed: None, doubtful: None }
    }

    /// The highest rate that was met.
    pub(crate) fn met(&self) -> Option<f64> {
        self.met
    }

    /// The lowest rate that was not, and whether the generator was why.
    pub(crate) fn missed(&self) -> Option<(f64, bool)> {
        self.missed
    }

    /// The rate to try, or why there is none.
    pub(crate) fn next(&self) -> Result<f64, End> {
        let Limits { from, lowest, highest, precision, steps } = self.limits;
        let rate = match (self.met, self.missed) {
            (Some(met), Some((missed, _))) => {
                let between = round((met * missed).sqrt());
                if missed / met <= 1.0 + precision || between <= met || between >= missed {
                    return Err(End::Found);
                }
                between
            }
            (Some(met), None) if met >= highest => return Err(End::AlwaysMet),
            (Some(met), None) => (met * 2.0).min(highest),
            (None, Some((missed, _))) if missed <= lowest => return Err(End::NeverMet),
            (None, Some((missed, _))) => round(missed / 4.0).max(lowest),
            (None, None) => from,
        };
        // A doubtful rate has changed nothing, so it comes again.
        if self.steps >= steps { Err(End::OutOfSteps) } else { Ok(rate) }
    }

    /// Takes in how a rate came out.
    pub(crate) fn take(&mut self, rate: f64, judged: &Judged) {
        self.steps += 1;
        let is_second = self.doubtful.take() == Some(rate);
        match judged {
            Judged::Met => self.met = Some(self.met.map_or(rate, |met| met.max(rate))),
            _ if !is_second => self.doubtful = Some(rate),
            judged => self.missed = Some((rate, matches!(judged, Judged::Unsure(_)))),
        }
    }
}

/// Three digits: rates that people can read.
fn round(rate: f64) -> f64 {
    let unit = 10f64.powf(rate.max(1.0).log10().floor() - 2.0);
    (rate / unit).round() * unit
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { from: 1000.0, lowest: 10.0, highest: 1e6, precision: 0.05, steps: 40 };

    /// Runs a search against a model server: how it ended, what it found, how many runs it took.
    fn search(limits: Limits, mut model: impl FnMut(f64, usize) -> Judged) -> (End, Search, usize) {
        let mut search = Search::new(limits);
        for step in 0.. {
            match search.next() {
                Err(end) => return (end, search, step),
                Ok(rate) => {
                    assert!((limits.lowest..=limits.highest).contains(&rate), "{rate}");
                    search.take(rate, &model(rate, step));
                }
            }
            assert!(step < 1000, "it ends");
        }
        unreachable!()
    }

    fn missed() -> Judged {
        Judged::Missed(String::new())
    }

    /// A server with one queue: p99 in milliseconds is 4.6 over what is left of its capacity.
    fn queue(capacity: f64, limit_ms: f64) -> impl Fn(f64) -> Judged {
        move |rate| {
            let p99_ms = if rate < capacity { 4605.0 / (capacity - rate) } else { f64::INFINITY };
            if p99_ms < limit_ms { Judged::Met } else { missed() }
        }
    }

    #[test]
    fn the_knee_of_a_queue() {
        for capacity in [60.0, 999.0, 1001.0, 8123.0, 54_321.0, 700_000.0] {
            for limit_ms in [100.0, 1000.0] {
                let knee = capacity - 4605.0 / limit_ms;
                let model = queue(capacity, limit_ms);
                let (end, found, steps) = search(LIMITS, |rate, _| model(rate));
                if knee < LIMITS.lowest {
                    assert_eq!(end, End::NeverMet, "{capacity} {limit_ms}");
                    continue;
                }
                let (met, (missed, _)) = (found.met().unwrap(), found.missed().unwrap());
                assert_eq!(end, End::Found);
                assert!(met <= knee && knee <= missed, "{met} {knee} {missed}");
                assert!(missed / met < 1.06, "{met} {missed}");
                assert!(steps <= 24, "{steps} steps for {knee}");
            }
        }
    }

    #[test]
    fn one_spoiled_run_changes_nothing() {
        let model = queue(54_321.0, 100.0);
        let (_, calm, _) = search(LIMITS, |rate, _| model(rate));
        for spoiled in 0..12 {
            let (end, found, _) =
                search(LIMITS, |rate, step| if step == spoiled { missed() } else { model(rate) });
            assert_eq!(
                (end, found.met(), found.missed()),
                (End::Found, calm.met(), calm.missed()),
                "{spoiled}"
            );
        }
    }

    #[test]
    fn ends() {
        let check =
            |limits: Limits, model: fn(f64) -> Judged, expected: End, met: Option<f64>, steps: usize| {
                let (end, found, took) = search(limits, |rate, _| model(rate));
                assert_eq!((end, found.met(), took), (expected, met, steps));
            };
        check(LIMITS, |_| missed(), End::NeverMet, None, 10);
        check(Limits { highest: 3000.0, ..LIMITS }, |_| Judged::Met, End::AlwaysMet, Some(3000.0), 3);
        check(Limits { highest: 500.0, ..LIMITS }, |_| Judged::Met, End::AlwaysMet, Some(500.0), 1);
        check(Limits { steps: 3, ..LIMITS }, |_| Judged::Met, End::OutOfSteps, Some(4000.0), 3);
        check(Limits { lowest: 5000.0, ..LIMITS }, |_| missed(), End::NeverMet, None, 2);
    }

    #[test]
    fn a_generator_at_its_limit_is_remembered() {
        let (end, found, _) =
            search(
                LIMITS,
                |rate, _| {
                    if rate < 30_000.0 { Judged::Met } else { Judged::Unsure("busy".into()) }
                },
            );
        assert_eq!((end, found.missed().unwrap().1), (End::Found, true));
    }

    #[test]
    fn rates_for_people() {
        for (rate, expected) in [(1234.5, 1230.0), (0.4, 0.4), (7.126, 7.13), (99_960.0, 100_000.0)] {
            assert!((round(rate) - expected).abs() < 1e-6, "{rate}: {}", round(rate));
        }
    }
}
