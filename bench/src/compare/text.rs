//! The comparison as Markdown, which is also what the terminal shows.

use std::fmt::Write;

use super::result::Comparison;
use super::statistics::{ROUNDS_MIN, Ratio};
use super::threshold::Metric;

/// What one program started twice differed by, at most, when this was made: no interval over rounds tells of it, since it stays
/// the same in all of them.
const SAME_PERCENT_MAX: f64 = 2.0;

/// The whole of it: how it was measured, the table, what to make of it.
pub(crate) fn markdown(comparison: &Comparison) -> String {
    let mut text = String::new();
    for line in &comparison.setting {
        let _ = writeln!(text, "{line}");
    }
    for (name, source) in comparison.names.iter().zip(&comparison.sources) {
        let _ = writeln!(text, "- {name}: `{source}`");
    }
    let _ = writeln!(text, "\n{}", table(comparison));
    for line in remarks(comparison) {
        let _ = writeln!(text, "{line}");
    }
    text
}

/// Heading and rows.
pub(crate) fn cells(comparison: &Comparison) -> Vec<Vec<String>> {
    let reference = &comparison.names[comparison.reference];
    let shown: Vec<usize> = (0..Metric::ALL.len())
        .filter(|metric| comparison.values.iter().any(|values| values[*metric] > 0.0))
        .collect();
    let mut head = vec!["server".to_owned()];
    head.extend(shown.iter().map(|metric| Metric::ALL[*metric].heading().to_owned()));
    head.extend(shown.iter().map(|metric| format!("{} / {reference}", Metric::ALL[*metric].word())));
    let mut rows = vec![head];
    for (server, name) in comparison.names.iter().enumerate() {
        let mut row = vec![name.clone()];
        row.extend(shown.iter().map(|metric| value_text(comparison.values[server][*metric])));
        row.extend(shown.iter().map(|metric| match comparison.ratios[server][*metric] {
            _ if server == comparison.reference => "1".to_owned(),
            Some(ratio) => ratio_text(&ratio),
            None => "–".to_owned(),
        }));
        rows.push(row);
    }
    rows
}

fn table(comparison: &Comparison) -> String {
    let rows = cells(comparison);
    let widths: Vec<usize> = (0..rows[0].len())
        .map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0))
        .collect();
    let mut text = String::new();
    for (number, row) in rows.iter().enumerate() {
        for (column, cell) in row.iter().enumerate() {
            let width = widths[column];
            let _ = if column == 0 {
                write!(text, "| {cell:<width$} ")
            } else {
                write!(text, "| {cell:>width$} ")
            };
        }
        text.push_str("|\n");
        if number == 0 {
            for (column, width) in widths.iter().enumerate() {
                let _ = write!(text, "|{}{}", "-".repeat(width + 1), if column == 0 { '-' } else { ':' });
            }
            text.push_str("|\n");
        }
    }
    text
}

/// What the reader should know, a sentence each.
pub(crate) fn remarks(comparison: &Comparison) -> Vec<String> {
    let mut lines = Vec::new();
    let reference = &comparison.names[comparison.reference];
    let cpu = Metric::Cpu as usize;
    for (name, ratios) in comparison.names.iter().zip(&comparison.ratios) {
        let Some(ratio) = ratios[cpu].filter(|_| name != reference) else { continue };
        lines.push(if ratio.rounds < ROUNDS_MIN {
            format!("{name}: {} rounds are too few to tell a difference.", ratio.rounds)
        } else if ratio.is_different() {
            let (percent, word) = percent(ratio.estimate);
            let doubt = if percent < SAME_PERCENT_MAX {
                " So much can be seen between two processes of one program, too: their memory lies elsewhere."
            } else {
                ""
            };
            format!("{name} takes {percent:.1} % {word} CPU per request than {reference}.{doubt}")
        } else {
            format!("{name} and {reference}: no difference in CPU per request that these rounds can tell.")
        });
    }
    if comparison.measured.as_ref().is_some_and(|measured| measured.interrupted) {
        lines.push("Ended before all rounds were done.".to_owned());
    }
    lines.extend(comparison.faults.iter().map(|fault| format!("FAULT: {fault}")));
    lines
}

fn percent(ratio: f64) -> (f64, &'static str) {
    if ratio >= 1.0 { ((ratio - 1.0) * 100.0, "more") } else { ((1.0 - ratio) * 100.0, "less") }
}

/// `1.050 (1.043–1.058)`.
pub(crate) fn ratio_text(ratio: &Ratio) -> String {
    format!("{:.3} ({:.3}–{:.3})", ratio.estimate, ratio.low, ratio.high)
}

/// Four digits are enough for any of them.
fn value_text(value: f64) -> String {
    match value {
        0.0 => "–".to_owned(),
        small if small < 100.0 => format!("{small:.3}"),
        large => format!("{large:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table() {
        let text = markdown(&super::super::result::tests::example());
        let expected = "\
5 rounds
- A: `old {port}`
- B: `new {port}`

| server | CPU µs/request | requests/s |             cpu / A |            rate / A |
|--------|---------------:|-----------:|--------------------:|--------------------:|
| A      |          4.000 |        100 |                   1 |                   1 |
| B      |          6.000 |     90.000 | 1.100 (1.100–1.100) | 0.900 (0.900–0.900) |

B takes 10.0 % more CPU per request than A.
";
        assert_eq!(text, expected);
    }
}
