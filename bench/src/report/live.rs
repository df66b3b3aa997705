//! The line a second while the load runs: rate, errors, percentiles, and a sparkline of the rate. Or the full screen, if asked for.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};

use super::Slice;
use super::screen::Screen;
use super::table::duration;
use crate::load::latency::percentiles;

/// Points of the sparkline.
const POINTS: usize = 30;
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// See the module.
#[derive(Debug)]
pub(crate) struct Live {
    is_on: bool,
    /// On a terminal the line is written over.
    is_terminal: bool,
    rates: VecDeque<f64>,
    /// Instead of the line.
    screen: Option<Screen>,
}

impl Live {
    /// Shown on a terminal, or where it is asked for.
    pub(crate) fn new(is_asked: bool) -> Live {
        let is_terminal = io::stderr().is_terminal();
        Live { is_on: is_asked || is_terminal, is_terminal, rates: VecDeque::new(), screen: None }
    }

    /// Shows nothing.
    pub(crate) fn off() -> Live {
        Live { is_on: false, is_terminal: false, rates: VecDeque::new(), screen: None }
    }

    /// The full screen, or the line where there is none.
    pub(crate) fn on_screen(title: String, seconds_planned: f64) -> Live {
        let screen = Screen::new(title, seconds_planned);
        if screen.is_none() {
            eprintln!("annulet-bench: --tui: standard output is no terminal; a line a second instead");
        }
        Live { screen, ..Live::new(true) }
    }

    /// Shows an interval.
    pub(crate) fn show(&mut self, slice: &Slice) {
        if let Some(screen) = &mut self.screen {
            screen.show(slice);
            return;
        }
        // The rest of a second says little about a rate.
        if !self.is_on || slice.duration_s < 0.5 {
            return;
        }
        let line = self.line(slice);
        let (before, after) = if self.is_terminal { ("\r\x1b[K", "") } else { ("", "\n") };
        // A terminal that is gone is no reason to stop measuring.
        let _ = write!(io::stderr(), "{before}{line}{after}");
    }

    /// Makes room for what follows.
    pub(crate) fn end(&mut self) {
        if self.screen.take().is_some() {
            return;
        }
        if self.is_on && self.is_terminal {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }

    fn line(&mut self, slice: &Slice) -> String {
        let rate = slice.histogram.len() as f64 / slice.duration_s;
        if self.rates.len() == POINTS {
            self.rates.pop_front();
        }
        self.rates.push_back(rate);
        let mut line =
            format!("{:>5.0} s {rate:>10.0}/s {:>5} errors", slice.start_s + slice.duration_s, slice.errors);
        let found = percentiles(&slice.histogram);
        for (name, value) in [("p50", found.p50_us), ("p99", found.p99_us), ("p99.9", found.p99_9_us)] {
            let value = value.map_or_else(|| "-".to_owned(), duration);
            write!(line, "  {name} {value:>7}").expect("a string takes every character");
        }
        format!("{line}  {}", sparkline(self.rates.make_contiguous()))
    }
}

/// One bar each, from zero to the highest.
pub(super) fn sparkline(values: &[f64]) -> String {
    let highest = values.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
    values.iter().map(|value| BARS[((value / highest * 7.0).round() as usize).min(7)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::histogram;

    #[test]
    fn bars() {
        assert_eq!(sparkline(&[0.0, 50.0, 100.0]), "▁▅█");
        assert_eq!(sparkline(&[0.0]), "▁");
        assert_eq!(sparkline(&[]), "");
    }

    #[test]
    fn a_line() {
        let mut histogram = histogram::empty();
        histogram.record_n(25_000, 1000).unwrap();
        let slice = Slice { start_s: 2.0, duration_s: 1.0, errors: 3, histogram };
        let mut live = Live { is_on: true, is_terminal: false, rates: VecDeque::new(), screen: None };
        let line = live.line(&slice);
        assert_eq!(line, "    3 s       1000/s     3 errors  p50  25.0µs  p99  25.0µs  p99.9       -  █");
        (0..100).for_each(|_| drop(live.line(&slice)));
        assert_eq!(live.rates.len(), POINTS);
    }
}
