//! The comparison as one HTML file, with a picture of every round's ratio.

use std::fmt::Write;

use super::result::Comparison;
use super::text::{cells, remarks};
use super::threshold::Metric;
use crate::report::html::page::{Page, escape};

const WIDTH: f64 = 640.0;
const ROW: f64 = 34.0;
const LEFT: f64 = 120.0;

/// The whole file.
pub(crate) fn html(comparison: &Comparison) -> String {
    let mut page = Page::new("annulet-bench compare");
    for line in &comparison.setting {
        page.paragraph(line);
    }
    page.definitions(
        comparison.names.iter().map(String::as_str).zip(comparison.sources.iter().map(String::as_str)),
    );
    page.table(&cells(comparison));
    for line in remarks(comparison) {
        page.paragraph(&line);
    }
    for metric in [Metric::Cpu, Metric::Rate] {
        if let Some(picture) = picture(comparison, metric) {
            let reference = &comparison.names[comparison.reference];
            page.figure(
                &format!("{}, over {reference}: estimate and 95 % interval", metric.heading()),
                &picture,
            );
        }
    }
    page.finish()
}

/// A line per server: its interval, and a dot for the estimate; a rule at 1.
fn picture(comparison: &Comparison, metric: Metric) -> Option<String> {
    let rows: Vec<_> = comparison
        .names
        .iter()
        .zip(&comparison.ratios)
        .enumerate()
        .filter(|(server, _)| *server != comparison.reference)
        .filter_map(|(_, (name, ratios))| ratios[metric as usize].map(|ratio| (name, ratio)))
        .collect();
    let spread = rows.iter().flat_map(|(_, ratio)| [ratio.low, ratio.high]).map(|at| (at - 1.0).abs());
    let reach = spread.fold(0.02, f64::max) * 1.15;
    if rows.is_empty() {
        return None;
    }
    let x = |ratio: f64| LEFT + (ratio - 1.0 + reach) / (2.0 * reach) * (WIDTH - LEFT - 20.0);
    let height = ROW * (rows.len() as f64 + 1.0);
    let mut svg = format!("<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\">");
    let one = x(1.0);
    let _ = write!(
        svg,
        "<line class=\"axis\" x1=\"{one:.1}\" y1=\"4\" x2=\"{one:.1}\" y2=\"{:.1}\"/>",
        height - 24.0
    );
    for tick in [1.0 - reach * 0.8, 1.0, 1.0 + reach * 0.8] {
        let _ = write!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{tick:.3}</text>",
            x(tick),
            height - 6.0
        );
    }
    for (row, (name, ratio)) in rows.iter().enumerate() {
        let y = ROW * (row as f64 + 0.5);
        let _ = write!(
            svg,
            "<text x=\"0\" y=\"{:.1}\">{}</text><line class=\"range\" x1=\"{:.1}\" y1=\"{y}\" x2=\"{:.1}\" y2=\"{y}\"/>\
             <circle class=\"mark\" cx=\"{:.1}\" cy=\"{y}\" r=\"5\"/>",
            y + 4.0,
            escape(name),
            x(ratio.low),
            x(ratio.high),
            x(ratio.estimate)
        );
    }
    svg.push_str("</svg>");
    Some(svg)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_file_that_asks_for_nothing() {
        let text = html(&super::super::result::tests::example());
        assert!(text.starts_with("<!doctype html>") && text.ends_with("</html>\n"));
        assert!(text.contains("1.100 (1.100–1.100)") && text.contains("<svg"));
        for word in ["http://", "https://", "<link", "@import", "url("] {
            assert!(!text.contains(word), "{word}");
        }
    }
}
