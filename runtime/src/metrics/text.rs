//! Readings as text: the exposition format of Prometheus, version 0.0.4.

use std::fmt::Write;

use super::board::Reading;
use super::counter::{Counter, Distribution, Kind};
use crate::net::skew;

/// The content type of [`prometheus`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Readings in the text format of Prometheus, a line for each value of each loop.
///
/// Every line has the labels `worker`, the place of the loop among those of its board, and `core`, which is `any` for a loop
/// that is not pinned. One value belongs to all loops together and has no label: `annulet_http_connections_skew`, the
/// [skew gauge](crate::net::Connections::skew) of the HTTP connections, which is that of the processes where they share a board.
///
/// # Examples
///
/// ```
/// let text = annulet::run(async { annulet::metrics::prometheus(&annulet::metrics::Board::process().read()) });
/// assert!(text.contains("# TYPE annulet_turns_total counter\n"));
/// ```
pub fn prometheus(readings: &[Reading]) -> String {
    let mut out = String::new();
    // Writing to a string does not fail.
    let _ = write_all(readings, &mut out);
    out
}

fn write_all(readings: &[Reading], out: &mut String) -> std::fmt::Result {
    let labels: Vec<String> = readings.iter().map(labels_of).collect();
    let mut last = "";
    for &counter in Counter::ALL {
        let name = counter.name();
        if name != last {
            let kind = match counter.kind() {
                Kind::Total => "counter",
                Kind::Gauge => "gauge",
            };
            write!(out, "# HELP {name} {}\n# TYPE {name} {kind}\n", counter.help())?;
            last = name;
        }
        for (reading, labels) in readings.iter().zip(&labels) {
            write!(out, "{name}{{{labels}")?;
            if let Some(class) = counter.class() {
                write!(out, ",code=\"{class}\"")?;
            }
            writeln!(out, "}} {}", reading.value(counter))?;
        }
    }
    let skew = "annulet_http_connections_skew";
    write!(
        out,
        "# HELP {skew} How far the listening loop that is farthest from an even share of the open HTTP connections is off, as a \
         part of that share.\n# TYPE {skew} gauge\n{skew} {}\n",
        skew_of(readings)
    )?;
    for &distribution in Distribution::ALL {
        let name = distribution.name();
        write!(out, "# HELP {name} {}\n# TYPE {name} histogram\n", distribution.help())?;
        for (reading, labels) in readings.iter().zip(&labels) {
            let in_units =
                |value: u64| if distribution.is_time() { value as f64 / 1e9 } else { value as f64 };
            let (buckets, sum) = reading.buckets(distribution);
            let mut count = 0;
            for (bucket, values) in buckets.iter().enumerate() {
                count += values;
                match distribution.bound(bucket) {
                    Some(bound) => {
                        writeln!(out, "{name}_bucket{{{labels},le=\"{}\"}} {count}", in_units(bound))?;
                    }
                    None => writeln!(out, "{name}_bucket{{{labels},le=\"+Inf\"}} {count}")?,
                }
            }
            writeln!(out, "{name}_sum{{{labels}}} {}", in_units(sum))?;
            writeln!(out, "{name}_count{{{labels}}} {count}")?;
        }
    }
    Ok(())
}

/// Over the loops that listen, or still serve somebody: others have no share.
fn skew_of(readings: &[Reading]) -> f64 {
    let serves = |reading: &&Reading| {
        reading.value(Counter::Listeners) > 0 || reading.value(Counter::HttpConnectionsOpen) > 0
    };
    let open = |reading: &Reading| reading.value(Counter::HttpConnectionsOpen) as usize;
    skew(&readings.iter().filter(serves).map(open).collect::<Vec<_>>())
}

fn labels_of(reading: &Reading) -> String {
    match reading.core() {
        Some(core) => format!("worker=\"{}\",core=\"{core}\"", reading.worker()),
        None => format!("worker=\"{}\",core=\"any\"", reading.worker()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::super::Board;
    use super::*;

    #[test]
    fn the_skew_is_that_of_the_loops_that_listen() {
        let board = Board::shared(3).unwrap();
        let places = [0, 1, 2].map(|row| board.take(row, None).unwrap());
        let check = |connections: [u64; 3], listeners: [u64; 3], expected: &str| {
            for (place, (connections, listeners)) in places.iter().zip(connections.into_iter().zip(listeners))
            {
                place.row.set(Counter::HttpConnectionsOpen, connections);
                place.row.set(Counter::Listeners, listeners);
            }
            let text = prometheus(&board.read());
            let line = format!("\nannulet_http_connections_skew {expected}\n");
            assert!(text.contains(&line), "{connections:?}, {listeners:?}: {text}");
        };
        check([0, 0, 0], [1, 1, 0], "0");
        check([98, 102, 0], [1, 1, 0], "0.02");
        check([100, 0, 0], [1, 1, 0], "1");
        // One that drains still serves, one that never listened has no share.
        check([50, 150, 0], [1, 0, 0], "0.5");
        check([30, 30, 30], [1, 1, 1], "0");
    }

    #[test]
    fn every_line_is_well_formed() {
        let board = Board::shared(2).unwrap();
        let (one, _two) = (board.take(0, Some(3)).unwrap(), board.take(1, None).unwrap());
        one.row.add(Counter::Http2xx, 7);
        one.row.record(Distribution::PollTime, 1024, 1);
        one.row.record(Distribution::PollTime, 1025, 2);
        let text = prometheus(&board.read());
        let check = |line: &str| assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        check("annulet_http_requests_total{worker=\"0\",core=\"3\",code=\"2xx\"} 7");
        check("annulet_http_requests_total{worker=\"1\",core=\"any\",code=\"2xx\"} 0");
        check("# TYPE annulet_tasks gauge");
        check("annulet_http_connections_skew 0");
        check("annulet_poll_duration_seconds_bucket{worker=\"0\",core=\"3\",le=\"0.000001024\"} 1");
        check("annulet_poll_duration_seconds_bucket{worker=\"0\",core=\"3\",le=\"0.000002048\"} 3");
        check("annulet_poll_duration_seconds_bucket{worker=\"0\",core=\"3\",le=\"+Inf\"} 3");
        check("annulet_poll_duration_seconds_sum{worker=\"0\",core=\"3\"} 0.000003074");
        check("annulet_poll_duration_seconds_count{worker=\"0\",core=\"3\"} 3");
        // A family is announced once, before its samples, and no sample is there twice.
        let (mut announced, mut samples, mut family) = (HashSet::new(), HashSet::new(), "");
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                family = rest.split(' ').next().unwrap();
                assert!(announced.insert(family), "{line}");
            } else if !line.starts_with('#') {
                let (name, value) = line.rsplit_once(' ').unwrap();
                assert!(value.parse::<f64>().is_ok(), "{line}");
                assert!(name.starts_with(family), "{line} among those of {family}");
                assert!(samples.insert(name), "{line}");
            }
        }
    }
}
