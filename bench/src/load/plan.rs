//! What to send when: pure, `now` is passed in. Times are nanoseconds since the origin of the run.
//!
//! Open loop: a schedule of planned instants that does not look at the server. An instant that passes while every connection is
//! busy is not stored anywhere: the schedule simply has not been advanced beyond it, so a backlog of any length takes no memory.

use clap::ValueEnum;

/// How planned instants are spaced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Arrivals {
    /// Evenly.
    #[default]
    Fixed,
    /// With exponential gaps: as many independent users would.
    Poisson,
}

/// The planned instants of one core.
#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    /// The next planned instant.
    next_ns: u64,
    /// When the first instant could be.
    start_ns: u64,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    /// Instants number `nth`, `nth + step`, … of the common schedule of all cores.
    Fixed { nth: u64, step: u64, rate_milli: u64 },
    /// Gaps with this mean; `exact_ns` keeps the fraction.
    Poisson { mean_ns: f64, exact_ns: f64, rng: fastrand::Rng },
}

impl Schedule {
    /// The share that core `index` of `cores` has in `rate` requests per second.
    ///
    /// Evenly spaced instants are dealt out in turn; independent Poisson processes add up to one.
    pub(crate) fn new(
        start_ns: u64,
        rate: f64,
        arrivals: Arrivals,
        (index, cores): (usize, usize),
        seed: u64,
    ) -> Schedule {
        debug_assert!(rate > 0.0 && index < cores);
        let kind = match arrivals {
            Arrivals::Fixed => Kind::Fixed {
                nth: index as u64,
                step: cores as u64,
                // Thousandths of a request a second: exact after any number of requests.
                rate_milli: ((rate * 1000.0).round() as u64).max(1),
            },
            Arrivals::Poisson => Kind::Poisson {
                mean_ns: 1e9 * cores as f64 / rate,
                exact_ns: 0.0,
                rng: fastrand::Rng::with_seed(seed.wrapping_add(index as u64)),
            },
        };
        let mut schedule = Schedule { next_ns: start_ns, start_ns, kind };
        match schedule.kind {
            Kind::Fixed { .. } => schedule.next_ns = schedule.fixed_ns(),
            Kind::Poisson { .. } => schedule.advance(),
        }
        schedule
    }

    /// The next planned instant.
    #[inline]
    pub(crate) fn peek(&self) -> u64 {
        self.next_ns
    }

    /// Takes the next planned instant.
    #[inline]
    pub(crate) fn pop(&mut self) -> u64 {
        let planned = self.next_ns;
        self.advance();
        planned
    }

    /// How many instants lie before `until_ns`; they are taken.
    pub(crate) fn skip_until(&mut self, until_ns: u64) -> u64 {
        let mut count = 0;
        while self.next_ns < until_ns {
            self.advance();
            count += 1;
        }
        count
    }

    #[inline]
    fn advance(&mut self) {
        match &mut self.kind {
            Kind::Fixed { nth, step, .. } => {
                *nth += *step;
                self.next_ns = self.fixed_ns();
            }
            Kind::Poisson { mean_ns, exact_ns, rng } => {
                // 1 - f64() is in (0, 1], so the logarithm is finite.
                *exact_ns -= (1.0 - rng.f64()).ln() * *mean_ns;
                self.next_ns = self.start_ns + *exact_ns as u64;
            }
        }
    }

    fn fixed_ns(&self) -> u64 {
        match self.kind {
            Kind::Fixed { nth, rate_milli, .. } => {
                self.start_ns + (u128::from(nth) * 1_000_000_000_000 / u128::from(rate_milli)) as u64
            }
            Kind::Poisson { .. } => self.next_ns,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fixed_instants_are_dealt_out_to_the_cores_and_stay_exact() {
        let of = |index| {
            let mut schedule = Schedule::new(100, 3.0, Arrivals::Fixed, (index, 2), 0);
            (0..3).map(|_| schedule.pop()).collect::<Vec<_>>()
        };
        assert_eq!(of(0), [100, 666_666_766, 1_333_333_433]);
        assert_eq!(of(1), [333_333_433, 1_000_000_100, 1_666_666_766]);
        let mut schedule = Schedule::new(0, 3.0, Arrivals::Fixed, (0, 1), 0);
        assert_eq!(schedule.skip_until(1_000_000_000_000), 3000, "no drift in 1000 seconds");
        assert_eq!(schedule.peek(), 1_000_000_000_000);
    }

    #[test]
    fn rates_below_one_a_second() {
        let mut schedule = Schedule::new(0, 0.5, Arrivals::Fixed, (0, 1), 0);
        assert_eq!((schedule.pop(), schedule.pop()), (0, 2_000_000_000));
    }

    #[test]
    fn poisson_gaps_have_the_mean_and_the_spread_of_an_exponential() {
        const COUNT: usize = 100_000;
        let mut schedule = Schedule::new(0, 10_000.0, Arrivals::Poisson, (0, 1), 7);
        let instants: Vec<u64> = (0..COUNT).map(|_| schedule.pop()).collect();
        let gaps: Vec<f64> = instants.windows(2).map(|pair| (pair[1] - pair[0]) as f64).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        // Four standard errors of the mean of 100 000 are 1.3 %.
        assert!((mean / 100_000.0 - 1.0).abs() < 0.015, "mean {mean}");
        assert!((variance.sqrt() / mean - 1.0).abs() < 0.03, "deviation {}", variance.sqrt());
    }

    #[test]
    fn the_seed_decides() {
        let first = |seed| Schedule::new(0, 1000.0, Arrivals::Poisson, (0, 1), seed).pop();
        assert_eq!(first(1), first(1));
        assert_ne!(first(1), first(2));
    }

    #[test]
    fn a_backlog_takes_no_memory_and_loses_no_instant() {
        let mut schedule = Schedule::new(0, 1000.0, Arrivals::Fixed, (0, 1), 0);
        // A second passes without a free connection; then everything is taken, each with its own instant.
        let late: Vec<u64> =
            std::iter::from_fn(|| (schedule.peek() < 1_000_000_000).then(|| schedule.pop())).collect();
        assert_eq!(late.len(), 1000);
        assert_eq!((late[0], late[999]), (0, 999_000_000));
    }
}
