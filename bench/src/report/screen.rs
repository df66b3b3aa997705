//! The full-screen view while a load runs (`--tui`): what the last seconds were like, as lines over time and as a distribution.
//!
//! It only draws: keys are left to the terminal, so that Ctrl-C is a signal as ever. A crate for terminals would be larger than this
//! program's reports together, for a page that nobody types into.
//!
//! The terminal is given back when the view is dropped, when a thread panics, and by [`restore`] for whoever ends the process.

use std::collections::VecDeque;
use std::io::{self, IsTerminal, Write};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

use hdrhistogram::Histogram;
use rustix::termios::tcgetwinsize;

use super::Slice;
use super::live::sparkline;
use super::table::duration;
use crate::load::latency::percentiles;

/// Seconds that are remembered: as wide as terminals are.
const POINTS: usize = 400;
/// Where the terminal does not tell its size.
const SIZE_DEFAULT: (usize, usize) = (80, 24);
/// A title and the lines of rate and latency.
const ROWS_FIXED: usize = 10;
/// Of the lines over time: name and value.
const LEFT: usize = 24;

const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";
const HOME: &str = "\x1b[H";
const REST_OF_LINE: &str = "\x1b[K";
const REST_OF_SCREEN: &str = "\x1b[J";

/// Whether the terminal is ours.
static IS_TAKEN: AtomicBool = AtomicBool::new(false);

/// See the module.
#[derive(Debug)]
pub(crate) struct Screen {
    title: String,
    seconds_planned: f64,
    seconds: f64,
    errors: u64,
    rates: VecDeque<f64>,
    /// Percentiles over time, by their place in [`NAMES`]. NaN is not known.
    latencies: [VecDeque<f64>; NAMES.len()],
    last: Option<Histogram<u64>>,
}

const NAMES: [&str; 5] = ["p50", "p90", "p99", "p99.9", "max"];

impl Screen {
    /// Takes the terminal, if standard output is one.
    pub(crate) fn new(title: String, seconds_planned: f64) -> Option<Screen> {
        if !io::stdout().is_terminal() {
            return None;
        }
        let screen = Screen::off(title, seconds_planned);
        restore_before_panics();
        IS_TAKEN.store(true, Ordering::Relaxed);
        say(ENTER);
        screen.draw();
        Some(screen)
    }

    fn off(title: String, seconds_planned: f64) -> Screen {
        Screen {
            title,
            seconds_planned,
            seconds: 0.0,
            errors: 0,
            rates: VecDeque::new(),
            latencies: Default::default(),
            last: None,
        }
    }

    /// Shows an interval.
    pub(crate) fn show(&mut self, slice: &Slice) {
        // The rest of a second says little about a rate.
        if slice.duration_s >= 0.5 {
            self.take(slice);
        }
        self.draw();
    }

    fn take(&mut self, slice: &Slice) {
        self.seconds = slice.start_s + slice.duration_s;
        self.errors += slice.errors;
        keep(&mut self.rates, slice.histogram.len() as f64 / slice.duration_s.max(1e-9));
        let found = percentiles(&slice.histogram);
        let values = [found.p50_us, found.p90_us, found.p99_us, found.p99_9_us, found.max_us];
        for (line, value) in self.latencies.iter_mut().zip(values) {
            keep(line, value.unwrap_or(f64::NAN));
        }
        self.last = Some(slice.histogram.clone());
    }

    fn draw(&self) {
        let size = tcgetwinsize(io::stdout()).map(|size| (size.ws_col.into(), size.ws_row.into()));
        let (width, height) = match size {
            Ok((width, height)) if width > 0 && height > 0 => (width, height),
            _ => SIZE_DEFAULT,
        };
        let mut text = HOME.to_owned();
        let lines = self.lines(width, height);
        for (number, line) in lines.iter().enumerate() {
            text.push_str(line);
            text.push_str(REST_OF_LINE);
            if number + 1 < lines.len() {
                text.push_str("\r\n");
            }
        }
        say(&(text + REST_OF_SCREEN));
    }

    /// What stands on a terminal of that size.
    fn lines(&self, width: usize, height: usize) -> Vec<String> {
        let mut lines = vec![
            format!("annulet-bench  {}", self.title),
            format!(
                "{:.0} of {:.0} s, {} errors; Ctrl-C ends the load and reports",
                self.seconds, self.seconds_planned, self.errors
            ),
            String::new(),
        ];
        let points = width.saturating_sub(LEFT).max(1);
        let over_time = |name: &str, values: &VecDeque<f64>, form: &dyn Fn(f64) -> String| {
            let last = values.back().copied().filter(|value| !value.is_nan());
            let shown: Vec<f64> =
                values.iter().skip(values.len().saturating_sub(points)).map(|value| value.max(0.0)).collect();
            let value = last.map_or_else(|| "-".to_owned(), form);
            format!("{name:>10} {value:>11}  {}", sparkline(&shown))
        };
        lines.push(over_time("requests/s", &self.rates, &|rate| format!("{rate:.0}")));
        for (name, values) in NAMES.iter().zip(&self.latencies) {
            lines.push(over_time(name, values, &duration));
        }
        lines.push(String::new());
        if let Some(histogram) = self.last.as_ref().filter(|histogram| !histogram.is_empty()) {
            lines.extend(distribution(histogram, width, height.saturating_sub(ROWS_FIXED)));
        }
        lines.truncate(height);
        lines.iter().map(|line| line.chars().take(width).collect()).collect()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        restore();
    }
}

/// Gives the terminal back. For whoever ends the process without dropping anything.
pub(crate) fn restore() {
    if IS_TAKEN.swap(false, Ordering::Relaxed) {
        say(LEAVE);
    }
}

/// What a panic says is to be seen afterwards.
fn restore_before_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            restore();
            before(info);
        }));
    });
}

fn say(text: &str) {
    let mut out = io::stdout().lock();
    // A terminal that is gone is no reason to stop measuring.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn keep(values: &mut VecDeque<f64>, value: f64) {
    if values.len() == POINTS {
        values.pop_front();
    }
    values.push_back(value);
}

/// The last interval's latencies, in buckets that grow by the same factor, as many as there are rows for.
fn distribution(histogram: &Histogram<u64>, width: usize, rows: usize) -> Vec<String> {
    let (least, most) = (histogram.min().max(1) as f64, histogram.max().max(2) as f64);
    let rows = rows.clamp(1, 16);
    let factor = (most / least).powf(1.0 / rows as f64).max(1.000_1);
    let mut counts = vec![0u64; rows];
    for of in histogram.iter_recorded() {
        let row = ((of.value_iterated_to() as f64 / least).ln() / factor.ln()) as usize;
        counts[row.min(rows - 1)] += of.count_at_value();
    }
    let highest = counts.iter().copied().max().unwrap_or(1).max(1);
    let room = width.saturating_sub(LEFT + 8).max(1);
    let line = |(row, count): (usize, &u64)| {
        let upto = least * factor.powi(row as i32 + 1) / 1000.0;
        let share = *count as f64 / histogram.len() as f64 * 100.0;
        let bar = "█".repeat((*count as f64 / highest as f64 * room as f64).round() as usize);
        format!("{:>10} {:>11}  {share:>6.2}% {bar}", "up to", duration(upto))
    };
    counts.iter().enumerate().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::histogram;

    fn screen(seconds: usize) -> Screen {
        let mut screen = Screen::off("http://a/".into(), 30.0);
        let mut histogram = histogram::empty();
        histogram.record_n(100_000, 900).unwrap();
        histogram.record_n(9_000_000, 100).unwrap();
        for second in 0..seconds {
            let histogram = histogram.clone();
            screen.take(&Slice { start_s: second as f64, duration_s: 1.0, errors: 1, histogram });
        }
        screen
    }

    #[test]
    fn a_page() {
        let lines = screen(3).lines(80, 24);
        assert_eq!(lines[0], "annulet-bench  http://a/");
        assert_eq!(lines[1], "3 of 30 s, 3 errors; Ctrl-C ends the load and reports");
        assert_eq!(lines[3], "requests/s        1000  ███");
        assert_eq!(lines[4], "       p50       100µs  ███");
        assert_eq!(lines[7], "     p99.9           -  ▁▁▁", "1000 samples are too few");
        assert!(lines[10].contains("90.00% ████"), "{}", lines[10]);
        assert!(lines.last().unwrap().contains("9.00ms   10.00% ███"), "{lines:#?}");
    }

    #[test]
    fn it_fits_every_terminal() {
        for (width, height) in [(1, 1), (10, 5), (80, 24), (30, 12), (300, 100)] {
            let lines = screen(2 * POINTS).lines(width, height);
            assert!(lines.len() <= height, "{width}x{height}: {}", lines.len());
            assert!(lines.iter().all(|line| line.chars().count() <= width), "{width}x{height}");
        }
        assert!(Screen::off(String::new(), 1.0).lines(80, 24).len() > 5, "nothing measured yet");
    }

    #[test]
    fn it_remembers_so_much() {
        assert_eq!(screen(2 * POINTS).rates.len(), POINTS);
    }
}
