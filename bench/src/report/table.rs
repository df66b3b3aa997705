//! The report for people: the table at the end of a run, in wrk's order.

use std::fmt::Write as _;

use super::schema::{Finding, Latency, Report};

/// A latency with three digits and its unit.
pub(crate) fn duration(us: f64) -> String {
    let (value, unit) = match us {
        us if us < 999.5 => (us, "µs"),
        us if us < 999_500.0 => (us / 1e3, "ms"),
        us => (us / 1e6, "s"),
    };
    let digits = match value {
        value if value < 9.995 => 2,
        value if value < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.digits$}{unit}")
}

/// A number of bytes.
fn bytes(count: f64) -> String {
    let mut value = count;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value < 1024.0 {
            return if unit == "B" { format!("{value:.0} {unit}") } else { format!("{value:.2} {unit}") };
        }
        value /= 1024.0;
    }
    format!("{value:.2} TiB")
}

/// The whole table. `is_detailed` adds the interval of each percentile.
pub(crate) fn render(report: &Report, is_detailed: bool) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = write(&mut out, report, is_detailed);
    out
}

fn write(out: &mut String, report: &Report, is_detailed: bool) -> std::fmt::Result {
    let settings = &report.settings;
    writeln!(out, "{}", settings.urls.join(" "))?;
    let plural = |count: usize, noun: &str| format!("{count} {noun}{}", if count == 1 { "" } else { "s" });
    write!(out, "  {}, {}", plural(settings.threads, "loop"), plural(settings.connections, "connection"))?;
    if settings.pipeline > 1 {
        write!(out, ", {} deep", settings.pipeline)?;
    }
    match settings.rate {
        Some(rate) => writeln!(
            out,
            ", open loop at {rate:.0}/s ({}), {:.2} s",
            settings.arrivals.as_deref().unwrap_or("fixed"),
            report.duration_s
        )?,
        None => writeln!(out, ", closed loop, {:.2} s", report.duration_s)?,
    }
    writeln!(out)?;
    write_latencies(out, report, is_detailed)?;
    writeln!(out)?;
    writeln!(
        out,
        "  {} requests in {:.2}s, {} read, {} written",
        report.requests,
        report.duration_s,
        bytes(report.bytes_received as f64),
        bytes(report.bytes_sent as f64)
    )?;
    writeln!(out, "  Requests/sec: {:>12.2}", report.rate)?;
    writeln!(
        out,
        "  Transfer/sec: {:>12}",
        bytes(report.bytes_received as f64 / report.duration_s.max(1e-9))
    )?;
    if let Some(tls) = &report.tls {
        let of = &tls.connect_time;
        let median = of.percentiles.iter().find(|p| p.percentile == 50.0).map_or(of.mean_us, |p| p.value_us);
        writeln!(
            out,
            "  TLS: {} handshakes, {} resumed; connecting took {} at p50, {} at most",
            tls.handshakes,
            tls.resumed,
            duration(median),
            duration(of.max_us)
        )?;
    }
    for of in &report.loops {
        writeln!(
            out,
            "  Loop on core {}: {:.0} % busy, {:.0} requests per CPU second, timers {} late at p99",
            of.core,
            of.cpu_share * 100.0,
            of.requests as f64 / of.cpu_s.max(1e-9),
            of.lag_p99_us.map_or_else(|| "?".to_owned(), duration)
        )?;
        if let Some(stalls) = &of.stalls {
            writeln!(
                out,
                "    the machine took {:.2} % of that core, {} at a time at most: an ideal sender is {} late at p99",
                stalls.share * 100.0,
                duration(stalls.longest_us),
                duration(stalls.late_p99_us)
            )?;
        }
    }
    write_errors(out, report)?;
    write_verdict(out, report)
}

fn write_latencies(out: &mut String, report: &Report, is_detailed: bool) -> std::fmt::Result {
    let is_open = report.settings.mode == "open";
    let mut columns: Vec<(&str, &Latency)> = vec![("response", &report.response_time)];
    if is_open {
        columns.push(("service", &report.service_time));
        columns.push(("send lag", &report.send_lag));
    }
    if let Some(corrected) = &report.corrected_time {
        columns.push(("corrected", corrected));
    }
    write!(out, "  {:<10}", "Latency")?;
    for (name, _) in &columns {
        write!(out, "{name:>12}")?;
    }
    if is_detailed {
        write!(out, "   95 % interval of the response")?;
    }
    writeln!(out)?;
    let mut row = |name: &str, value: &dyn Fn(&Latency) -> Option<f64>, tail: &str| {
        write!(out, "  {name:<10}")?;
        for (_, latency) in &columns {
            let shown = value(latency).map_or_else(|| "-".to_owned(), duration);
            write!(out, "{shown:>12}")?;
        }
        writeln!(out, "{tail}")
    };
    let known = |latency: &Latency, us: f64| (latency.count > 0).then_some(us);
    row("mean", &|latency| known(latency, latency.mean_us), "")?;
    row("stdev", &|latency| known(latency, latency.stdev_us), "")?;
    for shown in &report.response_time.percentiles {
        let at = |latency: &Latency| {
            latency.percentiles.iter().find(|p| p.percentile == shown.percentile).map(|p| p.value_us)
        };
        let tail = if is_detailed {
            format!("   {} to {}", duration(shown.low_us), duration(shown.high_us))
        } else {
            String::new()
        };
        row(&format!("p{}", shown.percentile), &at, &tail)?;
    }
    row("max", &|latency| known(latency, latency.max_us), "")
}

fn write_errors(out: &mut String, report: &Report) -> std::fmt::Result {
    if report.unsent > 0 {
        writeln!(out, "  Planned and never sent: {}", report.unsent)?;
    }
    if report.errors == 0 {
        return Ok(());
    }
    let of = &report.error_counts;
    writeln!(
        out,
        "  Errors: connect {}, reset {}, cut {}, malformed {}, timeout {}, status {}",
        of.connect, of.reset, of.cut, of.malformed, of.timeout, of.status
    )?;
    if of.status > 0 {
        let codes = report.status.iter().map(|(status, count)| format!("{status}: {count}"));
        writeln!(out, "  Answers by status: {}", codes.collect::<Vec<_>>().join(", "))?;
    }
    Ok(())
}

fn write_verdict(out: &mut String, report: &Report) -> std::fmt::Result {
    let finding = match report.verdict.finding {
        Finding::RateMet => "rate met",
        Finding::ServerBound => "server-bound",
        Finding::ClientBound => "client-bound: these figures are about the generator",
        Finding::Invalid => "invalid: do not use these figures",
    };
    writeln!(out, "\n  Verdict: {finding}")?;
    for reason in &report.verdict.reasons {
        writeln!(out, "    because {reason}")?;
    }
    for note in &report.verdict.notes {
        writeln!(out, "    note: {note}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::schema::{Percentile, Settings, Verdict};

    #[test]
    fn durations() {
        let check = |us: f64, expected: &str| assert_eq!(duration(us), expected);
        check(0.5, "0.50µs");
        check(12.34, "12.3µs");
        check(999.0, "999µs");
        check(999.6, "1.00ms");
        check(25_000.0, "25.0ms");
        check(1_500_000.0, "1.50s");
    }

    #[test]
    fn sizes() {
        assert_eq!(
            [bytes(12.0), bytes(2048.0), bytes(5.0 * 1024.0 * 1024.0)],
            ["12 B", "2.00 KiB", "5.00 MiB"]
        );
    }

    #[test]
    fn an_open_loop_has_three_latencies_side_by_side() {
        let latency = |us: f64| Latency {
            count: 9,
            mean_us: us,
            stdev_us: us,
            min_us: us,
            max_us: us,
            percentiles: vec![Percentile { percentile: 50.0, value_us: us, low_us: us, high_us: us }],
            histogram: String::new(),
        };
        let report = Report {
            response_time: latency(30.0),
            service_time: latency(20.0),
            send_lag: latency(10.0),
            settings: Settings { mode: "open".into(), rate: Some(5.0), ..Settings::default() },
            verdict: Verdict { finding: Finding::RateMet, reasons: vec!["so".into()], notes: vec![] },
            ..Report::default()
        };
        let text = render(&report, true);
        for expected in [
            "Latency       response     service    send lag",
            "p50             30.0µs      20.0µs      10.0µs   30.0µs to 30.0µs",
            "Verdict: rate met\n    because so\n",
        ] {
            assert!(text.contains(expected), "{expected:?} in\n{text}");
        }
    }
}
