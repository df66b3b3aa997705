//! From values to places in a picture, and the rules and words beside it. Pure.

use std::fmt::Write;

/// Size of every picture, in its own units.
pub(super) const WIDTH: f64 = 920.0;
pub(super) const HEIGHT: f64 = 320.0;
/// Room for the words beside the drawing.
const LEFT: f64 = 70.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 34.0;

/// A scale of values along one direction.
#[derive(Clone, Copy, Debug)]
pub(super) enum Scale {
    /// From zero or another number on, evenly.
    Linear { low: f64, high: f64 },
    /// Each decade has the same room. Values are positive.
    Log { low: f64, high: f64 },
}

impl Scale {
    /// Linear from zero to a round number that holds the largest value.
    pub(super) fn up_to(largest: f64) -> Scale {
        let step = round_step(largest.max(1e-9) / 4.0);
        Scale::Linear { low: 0.0, high: (largest / step).ceil().max(1.0) * step }
    }

    /// Whole decades around the values.
    pub(super) fn decades(smallest: f64, largest: f64) -> Scale {
        let low = smallest.max(1e-3).log10().floor();
        let high = largest.max(1e-3).log10().ceil().max(low + 1.0);
        Scale::Log { low: 10f64.powf(low), high: 10f64.powf(high) }
    }

    /// Between 0 and 1.
    pub(super) fn part(&self, value: f64) -> f64 {
        let part = match *self {
            Scale::Linear { low, high } => (value - low) / (high - low),
            Scale::Log { low, high } => (value.max(low) / low).ln() / (high / low).ln(),
        };
        part.clamp(0.0, 1.0)
    }

    /// Where rules are drawn.
    pub(super) fn ticks(&self) -> Vec<f64> {
        match *self {
            Scale::Linear { low, high } => {
                let step = round_step((high - low) / 4.0);
                let count = ((high - low) / step).round() as usize;
                (0..=count).map(|tick| low + step * tick as f64).collect()
            }
            Scale::Log { low, high } => {
                let decades = (high / low).log10().round() as i32;
                (0..=decades).map(|decade| low * 10f64.powi(decade)).collect()
            }
        }
    }
}

/// 1, 2 or 5 times a power of ten, not below `step`.
fn round_step(step: f64) -> f64 {
    let power = 10f64.powf(step.log10().floor());
    let digit = step / power;
    power * [1.0, 2.0, 5.0, 10.0].into_iter().find(|each| digit <= each + 1e-9).unwrap_or(10.0)
}

/// A picture with two scales.
#[derive(Debug)]
pub(super) struct Chart {
    pub(super) x: Scale,
    pub(super) y: Scale,
    svg: String,
}

impl Chart {
    /// With the rules of the vertical scale.
    pub(super) fn new(title: &str, x: Scale, y: Scale, y_word: fn(f64) -> String) -> Chart {
        let title = super::page::escape(title);
        let svg = format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{title}\">");
        let mut chart = Chart { x, y, svg };
        for tick in chart.y.ticks() {
            let y = chart.y_at(tick);
            let right = WIDTH - RIGHT;
            chart.push(&format!(
                "<line class=\"grid\" x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{right}\" y2=\"{y:.1}\"/>"
            ));
            chart.push(&format!(
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                LEFT - 8.0,
                y + 4.0,
                y_word(tick)
            ));
        }
        chart
    }

    pub(super) fn x_at(&self, value: f64) -> f64 {
        LEFT + self.x.part(value) * (WIDTH - LEFT - RIGHT)
    }

    pub(super) fn y_at(&self, value: f64) -> f64 {
        HEIGHT - BOTTOM - self.y.part(value) * (HEIGHT - TOP - BOTTOM)
    }

    /// A word below the picture.
    pub(super) fn x_word(&mut self, value: f64, word: &str) {
        let (x, y) = (self.x_at(value), HEIGHT - BOTTOM);
        self.push(&format!(
            "<line class=\"axis\" x1=\"{x:.1}\" y1=\"{y}\" x2=\"{x:.1}\" y2=\"{}\"/>",
            y + 5.0
        ));
        self.push(&format!("<text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{word}</text>", y + 20.0));
    }

    /// A line through points; `class` is `one`, `two` or `three`.
    pub(super) fn curve(&mut self, class: &str, points: &[(f64, f64)]) {
        let mut path = String::new();
        for (x, y) in points {
            let _ = write!(path, "{:.1},{:.1} ", self.x_at(*x), self.y_at(*y));
        }
        self.push(&format!("<polyline class=\"curve {class}\" points=\"{}\"/>", path.trim_end()));
    }

    /// A word in the colour of its curve, at the top left, the `nth` below the first.
    pub(super) fn legend(&mut self, class: &str, nth: usize, word: &str) {
        let y = TOP + 14.0 + 18.0 * nth as f64;
        self.push(&format!("<text class=\"{class}\" x=\"{:.1}\" y=\"{y:.1}\">{word}</text>", LEFT + 10.0));
    }

    /// A rectangle between two values each way, as strong as `strength` (0 to 1), with a word for the mouse.
    pub(super) fn cell(&mut self, x: (f64, f64), y: (f64, f64), strength: f64, word: &str) {
        let (left, right) = (self.x_at(x.0), self.x_at(x.1));
        let (top, bottom) = (self.y_at(y.1), self.y_at(y.0));
        self.push(&format!(
            "<rect class=\"cell\" x=\"{left:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{:.1}\" opacity=\"{strength:.2}\">\
             <title>{word}</title></rect>",
            (right - left).max(0.5),
            (bottom - top).max(0.5)
        ));
    }

    /// A mark at the foot of the picture.
    pub(super) fn fault(&mut self, x: (f64, f64), word: &str) {
        let (left, right) = (self.x_at(x.0), self.x_at(x.1));
        self.push(&format!(
            "<rect class=\"fault\" x=\"{left:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"4\"><title>{word}</title></rect>",
            HEIGHT - BOTTOM - 4.0,
            (right - left).max(2.0)
        ));
    }

    pub(super) fn finish(mut self) -> String {
        self.push("</svg>");
        self.svg
    }

    fn push(&mut self, text: &str) {
        self.svg.push_str(text);
    }
}

/// A latency in the unit that fits it.
pub(super) fn time_word(us: f64) -> String {
    let (value, unit) = match us {
        us if us < 1e3 => (us, "µs"),
        us if us < 1e6 => (us / 1e3, "ms"),
        us => (us / 1e6, "s"),
    };
    format!("{} {unit}", number_word(value))
}

/// A count or a rate, with k and M for thousands.
pub(super) fn count_word(value: f64) -> String {
    match value {
        value if value < 1e4 => number_word(value),
        value if value < 1e6 => format!("{}k", number_word(value / 1e3)),
        value => format!("{}M", number_word(value / 1e6)),
    }
}

/// Three digits, and no zeros behind the point.
fn number_word(value: f64) -> String {
    let digits = match value.abs() {
        0.0 => 0,
        value if value < 1.0 => 3,
        value if value < 10.0 => 2,
        value if value < 100.0 => 1,
        _ => 0,
    };
    let text = format!("{value:.digits$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        let check = |us, expected: &str| assert_eq!(time_word(us), expected);
        check(0.5, "0.5 µs");
        check(25.0, "25 µs");
        check(999.0, "999 µs");
        check(1_234.0, "1.23 ms");
        check(2_000_000.0, "2 s");
        let check = |count, expected: &str| assert_eq!(count_word(count), expected);
        check(0.0, "0");
        check(9_999.0, "9999");
        check(150_000.0, "150k");
        check(1_250_000.0, "1.25M");
    }

    #[test]
    fn scales() {
        let linear = Scale::up_to(137.0);
        assert_eq!(linear.ticks(), [0.0, 50.0, 100.0, 150.0]);
        assert!((linear.part(75.0) - 0.5).abs() < 1e-9);
        let log = Scale::decades(30.0, 5_000.0);
        let near = |found: &[f64], expected: &[f64]| {
            assert_eq!(found.len(), expected.len(), "{found:?}");
            assert!(found.iter().zip(expected).all(|(a, b)| (a / b - 1.0).abs() < 1e-9), "{found:?}");
        };
        near(&log.ticks(), &[10.0, 100.0, 1_000.0, 10_000.0]);
        assert!((log.part(100.0) - 1.0 / 3.0).abs() < 1e-9);
        // What is outside stays inside of the picture.
        assert_eq!((log.part(0.0), log.part(1e9)), (0.0, 1.0));
    }

    #[test]
    fn nothing_to_show_is_no_division_by_zero() {
        for scale in [Scale::up_to(0.0), Scale::decades(0.0, 0.0)] {
            assert!(
                scale.part(0.0).is_finite() && scale.ticks().iter().all(|tick| tick.is_finite()),
                "{scale:?}"
            );
            assert!(scale.ticks().len() < 20);
        }
    }
}
