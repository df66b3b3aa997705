//! The page of one run: `load --html`, `merge --html`.

use super::axis::{count_word, time_word};
use super::page::Page;
use super::{heat, percentiles, rate};
use crate::report::schema::{Finding, Latency, Report};

/// The whole file.
pub(crate) fn html(report: &Report) -> String {
    let mut page = Page::new(&title(report));
    verdict(&mut page, report);
    page.figures(&figures(report));
    let pictures = [
        (
            "Latency by percentile",
            "The further right, the rarer; both scales are logarithmic",
            percentiles::picture(report),
        ),
        (
            "Latency over time",
            "A column for each interval, stronger where there were more requests; errors are marked below",
            heat::picture(report),
        ),
        ("Rate over time", "Requests answered per second", rate::picture(report)),
    ];
    for (heading, caption, picture) in pictures {
        if let Some(picture) = picture {
            page.heading(heading);
            page.figure(caption, &picture);
        }
    }
    page.heading("Percentiles");
    page.paragraph("With the interval in which the true percentile lies, with a confidence of 95 %, if samples are independent.");
    page.table(&percentile_rows(report));
    page.heading("The run");
    let facts = facts(report);
    page.definitions(facts.iter().map(|(word, meaning)| (*word, meaning.as_str())));
    page.finish()
}

fn title(report: &Report) -> String {
    match report.settings.urls.as_slice() {
        [] => "annulet-bench load".to_owned(),
        [url] => format!("Load on {url}"),
        [first, rest @ ..] => format!("Load on {first} and {} more", rest.len()),
    }
}

fn verdict(page: &mut Page, report: &Report) {
    let (class, word) = match report.verdict.finding {
        Finding::RateMet => ("good", "The rate was met"),
        Finding::ServerBound => ("good", "The server was at its limit"),
        Finding::ClientBound => ("warn", "The generator was at its limit: these figures are about it"),
        Finding::Invalid => ("bad", "These figures are no use"),
    };
    let lines: Vec<String> = report.verdict.reasons.iter().chain(&report.verdict.notes).cloned().collect();
    page.notice(class, word, &lines);
}

fn figures(report: &Report) -> Vec<(String, String)> {
    let mut figures = vec![
        ("requests/s".to_owned(), count_word(report.rate)),
        ("requests".to_owned(), count_word(report.requests as f64)),
        ("errors".to_owned(), count_word(report.errors as f64)),
    ];
    let percentiles = report.percentiles;
    let known = [
        ("p50", percentiles.p50_us),
        ("p99", percentiles.p99_us),
        ("p99.9", percentiles.p99_9_us),
        ("p99.99", percentiles.p99_99_us),
        ("longest", percentiles.max_us),
    ];
    figures.extend(known.into_iter().filter_map(|(name, us)| Some((name.to_owned(), time_word(us?)))));
    figures
}

fn percentile_rows(report: &Report) -> Vec<Vec<String>> {
    let mut columns: Vec<(&str, &Latency)> = vec![("response time", &report.response_time)];
    // In closed loop they say nothing more.
    if report.settings.mode == "open" {
        columns.push(("service time", &report.service_time));
        columns.push(("send lag", &report.send_lag));
    }
    let mut rows = vec![vec!["percentile".to_owned()]];
    for (name, latency) in &columns {
        rows[0].push(format!("{name} ({} samples)", count_word(latency.count as f64)));
    }
    for known in &report.response_time.percentiles {
        let mut row = vec![format!("p{}", known.percentile)];
        for (_, latency) in &columns {
            let found = latency.percentiles.iter().find(|each| each.percentile == known.percentile);
            row.push(found.map_or_else(
                || "–".to_owned(),
                |each| {
                    format!(
                        "{} ({}–{})",
                        time_word(each.value_us),
                        time_word(each.low_us),
                        time_word(each.high_us)
                    )
                },
            ));
        }
        rows.push(row);
    }
    let mut longest = vec!["longest".to_owned()];
    longest.extend(columns.iter().map(|(_, latency)| time_word(latency.max_us)));
    rows.push(longest);
    rows
}

fn facts(report: &Report) -> Vec<(&'static str, String)> {
    let (run, settings) = (&report.run, &report.settings);
    let mut facts = vec![
        ("command", run.command.join(" ")),
        ("targets", settings.urls.join(" ")),
        (
            "loop",
            match settings.rate {
                Some(rate) => format!(
                    "open, {} requests/s planned, {} arrivals",
                    count_word(rate),
                    settings.arrivals.as_deref().unwrap_or("fixed")
                ),
                None => "closed: a connection asks again when it has its answer".to_owned(),
            },
        ),
        (
            "connections",
            format!("{} over {} loops, {} deep", settings.connections, settings.threads, settings.pipeline),
        ),
        ("measured", format!("{:.1} s after {:.1} s of warm-up", report.duration_s, settings.warmup_s)),
        ("kernel", format!("Linux {}", run.kernel)),
        ("CPU", format!("{}, {} cores", run.cpu, run.cpus)),
        ("started", format!("{:.0} (seconds since 1970, UTC)", run.started_unix_s)),
        ("annulet-bench", run.tool_version.clone()),
        ("git commit", run.git_commit.clone().unwrap_or_else(|| "none".to_owned())),
        ("received", format!("{} bytes", count_word(report.bytes_received as f64))),
    ];
    let status: Vec<String> = report.status.iter().map(|(code, count)| format!("{code}: {count}")).collect();
    facts.push(("status", status.join(", ")));
    for each in &report.loops {
        let lag = each
            .lag_p99_us
            .map_or_else(String::new, |us| format!(", timers late by {} at p99", time_word(us)));
        let busy = each.cpu_share * 100.0;
        facts.push((
            "generator",
            format!("core {}: {busy:.0} % busy, {} requests{lag}", each.core, each.requests),
        ));
    }
    facts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::histogram;
    use crate::report::schema::{Interval, Percentile, Settings};

    fn example() -> Report {
        let mut samples = histogram::empty();
        (1..=1000).for_each(|us| samples.record(us * 1000).unwrap());
        let latency = Latency {
            count: 1000,
            max_us: 1000.0,
            percentiles: vec![Percentile {
                percentile: 50.0,
                value_us: 500.0,
                low_us: 470.0,
                high_us: 530.0,
            }],
            histogram: histogram::encode(&samples),
            ..Latency::default()
        };
        let interval = |start_s| Interval {
            start_s,
            duration_s: 1.0,
            requests: 500,
            histogram: histogram::encode(&samples),
            ..Interval::default()
        };
        Report {
            requests: 1000,
            response_time: latency,
            intervals: vec![interval(0.0), interval(1.0)],
            settings: Settings { urls: vec!["http://a/<i>".into()], ..Settings::default() },
            ..Report::default()
        }
    }

    #[test]
    fn everything_is_in_one_file() {
        let text = html(&example());
        assert_eq!(text.matches("<svg").count(), 3);
        assert!(text.contains("prefers-color-scheme: dark") && text.contains("500 µs (470 µs–530 µs)"));
        for word in ["<script", "<link", "@import", "url(", "src=", "href="] {
            assert!(!text.contains(word), "{word}");
        }
        assert!(text.contains("http://a/&lt;i&gt;") && !text.contains("<i>"));
    }

    #[test]
    fn an_empty_run_is_a_page_as_well() {
        let text = html(&Report::default());
        assert!(text.ends_with("</html>\n") && !text.contains("<svg") && !text.contains("NaN"));
    }
}
