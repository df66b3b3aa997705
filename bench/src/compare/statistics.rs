//! Ratios of paired measurements, with an interval for what the ratio really is. Pure: numbers in, numbers out.
//!
//! Rounds come in pairs: A and B were measured next to each other, so that the machine's moods hit both. What is estimated is
//! the ratio of a pair. The estimate is a trimmed mean of the logarithms: like the mean it uses all that it can, like the
//! median it is not moved by one bad round. The interval is the percentile bootstrap: rounds are drawn again with replacement,
//! pairs kept together, and the estimate is made from each draw.

/// A ratio and the interval in which it lies with a confidence of 95 %.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub(crate) struct Ratio {
    /// The best guess.
    pub(crate) estimate: f64,
    /// The 2.5th percentile of what it may be.
    pub(crate) low: f64,
    /// The 97.5th percentile.
    pub(crate) high: f64,
    /// Rounds behind it.
    pub(crate) rounds: usize,
}

/// How often rounds are drawn again. Enough for the second digit of an interval's ends.
const DRAWS: usize = 10_000;
/// The part cut off each end before the mean is taken.
const TRIM: f64 = 0.2;
/// Below this an interval is a guess about a guess.
pub(crate) const ROUNDS_MIN: usize = 4;

impl Ratio {
    /// The ratio of paired values; `None` without a pair of two positive numbers.
    pub(crate) fn of_pairs(pairs: &[(f64, f64)]) -> Option<Ratio> {
        let logs: Vec<f64> =
            pairs.iter().filter(|(a, b)| *a > 0.0 && *b > 0.0).map(|(a, b)| (a / b).ln()).collect();
        let mut random = Random::new();
        bootstrap(logs.len(), |draw| {
            let mut drawn: Vec<f64> = draw.map_or_else(|| logs.clone(), |_| random.draw(&logs));
            trimmed_mean(&mut drawn)
        })
    }

    /// The ratio of values that were not measured side by side: each sample is drawn on its own.
    pub(crate) fn of_samples(a: &[f64], b: &[f64]) -> Option<Ratio> {
        let logs = |values: &[f64]| -> Vec<f64> {
            values.iter().filter(|value| **value > 0.0).map(|value| value.ln()).collect()
        };
        let (a, b) = (logs(a), logs(b));
        let mut random = Random::new();
        bootstrap(a.len().min(b.len()), |draw| {
            let (mut a, mut b) = match draw {
                None => (a.clone(), b.clone()),
                Some(_) => (random.draw(&a), random.draw(&b)),
            };
            trimmed_mean(&mut a) - trimmed_mean(&mut b)
        })
    }

    /// Whether 1 lies outside of the interval.
    pub(crate) fn is_different(&self) -> bool {
        self.rounds >= ROUNDS_MIN && (self.low > 1.0 || self.high < 1.0)
    }
}

/// `of(None)` is the estimate's logarithm, `of(Some(n))` that of the n-th draw.
fn bootstrap(rounds: usize, mut of: impl FnMut(Option<usize>) -> f64) -> Option<Ratio> {
    if rounds == 0 {
        return None;
    }
    let estimate = of(None).exp();
    if rounds == 1 {
        return Some(Ratio { estimate, low: estimate, high: estimate, rounds });
    }
    let mut draws: Vec<f64> = (0..DRAWS).map(|draw| of(Some(draw))).collect();
    draws.sort_unstable_by(f64::total_cmp);
    let at = |part: f64| draws[((DRAWS - 1) as f64 * part).round() as usize].exp();
    Some(Ratio { estimate, low: at(0.025), high: at(0.975), rounds })
}

fn trimmed_mean(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let cut = (values.len() as f64 * TRIM) as usize;
    let kept = &values[cut..values.len() - cut];
    kept.iter().sum::<f64>() / kept.len() as f64
}

/// The middle of some values; the mean of the two middle ones if their number is even. 0 for none.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_unstable_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        count if count % 2 == 1 => values[count / 2],
        count => (values[count / 2 - 1] + values[count / 2]) / 2.0,
    }
}

/// splitmix64 with a fixed seed: the same rounds give the same interval.
struct Random(u64);

impl Random {
    fn new() -> Random {
        Random(1)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// As many values as there are, each any of them.
    fn draw(&mut self, values: &[f64]) -> Vec<f64> {
        (0..values.len()).map(|_| values[(self.next() % values.len() as u64) as usize]).collect()
    }

    /// Normal with mean 0 and standard deviation 1, near enough: the sum of twelve uniform numbers.
    #[cfg(test)]
    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.next() as f64 / u64::MAX as f64).sum::<f64>() - 6.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_without_noise_is_exact() {
        let ratio = Ratio::of_pairs(&[(2.0, 1.0), (4.0, 2.0), (3.0, 1.5)]).unwrap();
        assert!((ratio.estimate - 2.0).abs() < 1e-9 && (ratio.high - ratio.low).abs() < 1e-9);
        assert_eq!(ratio.rounds, 3);
        assert_eq!(Ratio::of_pairs(&[]), None);
        assert_eq!(Ratio::of_pairs(&[(0.0, 1.0)]), None);
    }

    #[test]
    fn one_bad_round_does_not_move_it() {
        let mut pairs = vec![(1.0, 1.0); 9];
        pairs.push((3.0, 1.0));
        assert!((Ratio::of_pairs(&pairs).unwrap().estimate - 1.0).abs() < 1e-9);
    }

    /// In how many of 200 experiments the interval holds the truth; a mood of 10 % hits both of a pair.
    fn coverage(truth: f64, rounds: usize) -> (usize, f64) {
        let mut random = Random(7);
        let mut hits = 0;
        let mut width = 0.0;
        for _ in 0..200 {
            let pairs: Vec<(f64, f64)> = (0..rounds)
                .map(|_| {
                    let mood = 1.0 + 0.1 * random.normal();
                    (truth * mood * (1.0 + 0.01 * random.normal()), mood * (1.0 + 0.01 * random.normal()))
                })
                .collect();
            let ratio = Ratio::of_pairs(&pairs).unwrap();
            hits += usize::from(ratio.low <= truth && truth <= ratio.high);
            width += (ratio.high - ratio.low) / 200.0;
        }
        (hits, width)
    }

    #[test]
    fn the_interval_holds_the_truth() {
        for truth in [1.0, 1.05] {
            let (hits, width) = coverage(truth, 12);
            // The percentile bootstrap is a little narrow for few rounds: some 90 % instead of 95 %.
            assert!((170..=198).contains(&hits), "{hits} of 200");
            assert!(width < 0.025, "{width}");
        }
    }

    #[test]
    fn samples_that_are_not_paired() {
        let mut random = Random(3);
        let mut samples =
            |mean: f64| -> Vec<f64> { (0..30).map(|_| mean * (1.0 + 0.02 * random.normal())).collect() };
        let ratio = Ratio::of_samples(&samples(110.0), &samples(100.0)).unwrap();
        assert!(ratio.low < 1.1 && 1.1 < ratio.high && ratio.is_different(), "{ratio:?}");
    }

    #[test]
    fn medians() {
        assert_eq!(median([3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median([]), 0.0);
    }
}
