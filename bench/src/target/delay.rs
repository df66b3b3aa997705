//! Delays drawn from a known distribution.

use std::f64::consts::TAU;
use std::str::FromStr;
use std::time::Duration;

use crate::load::parse_time;

/// How long to wait with an answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Delay {
    Fixed(Duration),
    /// The logarithm is normally distributed: a median and a long tail, as real servers have.
    LogNormal {
        median: Duration,
        sigma: f64,
    },
}

/// No drawn delay is longer: the tail of the distribution is cut here.
const DELAY_MAX: Duration = Duration::from_secs(10);

impl Delay {
    pub(super) fn draw(self, rng: &mut fastrand::Rng) -> Duration {
        match self {
            Delay::Fixed(delay) => delay,
            Delay::LogNormal { median, sigma } => {
                // Box and Muller. 1 - f64() is in (0, 1], so the logarithm is finite.
                let normal = (-2.0 * (1.0 - rng.f64()).ln()).sqrt() * (TAU * rng.f64()).cos();
                let seconds = median.as_secs_f64() * (sigma * normal).exp();
                Duration::from_secs_f64(seconds.min(DELAY_MAX.as_secs_f64()))
            }
        }
    }
}

impl FromStr for Delay {
    type Err = String;

    fn from_str(text: &str) -> Result<Delay, String> {
        if let Some(rest) = text.strip_prefix("lognormal:") {
            let (median, sigma) =
                rest.split_once(',').ok_or("write lognormal:MEDIAN,SIGMA, such as lognormal:5ms,0.5")?;
            let sigma: f64 = sigma
                .parse()
                .map_err(|_| format!("{sigma:?} is no sigma; write a number between 0 and 5"))?;
            if !(0.0..=5.0).contains(&sigma) {
                return Err(format!("a sigma of {sigma} makes no sense; write a number between 0 and 5"));
            }
            return Ok(Delay::LogNormal { median: parse_time(median)?, sigma });
        }
        Ok(Delay::Fixed(parse_time(text.strip_prefix("fixed:").unwrap_or(text))?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        assert_eq!("5ms".parse(), Ok(Delay::Fixed(Duration::from_millis(5))));
        assert_eq!("fixed:0us".parse(), Ok(Delay::Fixed(Duration::ZERO)));
        let expected = Delay::LogNormal { median: Duration::from_micros(500), sigma: 0.8 };
        assert_eq!("lognormal:500us,0.8".parse(), Ok(expected));
        assert!("lognormal:500us".parse::<Delay>().is_err());
        assert!("lognormal:500us,9".parse::<Delay>().is_err());
        assert!("soon".parse::<Delay>().is_err());
    }

    #[test]
    fn the_distribution_is_the_one_that_was_asked_for() {
        let delay = Delay::LogNormal { median: Duration::from_micros(500), sigma: 0.8 };
        let mut rng = fastrand::Rng::with_seed(3);
        let mut drawn: Vec<f64> = (0..100_000).map(|_| delay.draw(&mut rng).as_secs_f64() * 1e6).collect();
        drawn.sort_by(f64::total_cmp);
        // exp(2.326 × 0.8) is 6.43; three standard errors of a p99 of 100 000 are about 3 %.
        assert!((drawn[50_000] / 500.0 - 1.0).abs() < 0.015, "{}", drawn[50_000]);
        assert!((drawn[99_000] / 3215.0 - 1.0).abs() < 0.04, "{}", drawn[99_000]);
    }
}
