//! The arguments of `load`: wrk's and wrk2's letters where they have one.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::plan::Arrivals;

/// Send requests and measure.
#[derive(Clone, Debug, Args)]
pub(crate) struct Options {
    /// What to ask for: URLs of http or https, all of one host; {counter} and {random:A-B} are filled in
    #[arg(required = true, value_name = "URL")]
    pub(crate) urls: Vec<String>,

    /// Loops, each on a core of its own [default: 2, or 1 where there is one core only]
    #[arg(short, long, value_name = "N")]
    pub(crate) threads: Option<usize>,
    /// Connections, over all loops
    #[arg(short, long, value_name = "N", default_value = "10", value_parser = parse_count)]
    pub(crate) connections: u64,
    /// How long to measure
    #[arg(short, long, value_name = "TIME", default_value = "10s", value_parser = parse_time)]
    pub(crate) duration: Duration,
    /// Open loop: requests a second, planned without regard to answers [default: closed loop]
    #[arg(short = 'R', long, value_name = "N", value_parser = parse_rate)]
    pub(crate) rate: Option<f64>,
    /// A header field, `name: value`; may be repeated
    #[arg(short = 'H', long = "header", value_name = "FIELD", value_parser = parse_header)]
    pub(crate) headers: Vec<(String, String)>,
    /// Print the whole distribution
    #[arg(long)]
    pub(crate) latency: bool,
    /// An answer or a connection that takes longer is an error
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = parse_time)]
    pub(crate) timeout: Duration,

    /// The method [default: GET, or POST with a body]
    #[arg(short, long, value_parser = parse_method)]
    pub(crate) method: Option<String>,
    /// The body of each request; placeholders are filled in
    #[arg(long, value_name = "TEXT", conflicts_with = "body_file")]
    pub(crate) body: Option<String>,
    /// A file with the body of each request
    #[arg(long, value_name = "FILE")]
    pub(crate) body_file: Option<PathBuf>,
    /// How often each URL comes, in the order of the URLs, such as 9,1
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) weights: Vec<u32>,
    /// Files with requests that are sent byte for byte, in turn
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with_all = ["method", "body", "body_file", "headers", "weights"])]
    pub(crate) raw: Vec<PathBuf>,
    /// HTTP/1.0 requests
    #[arg(long = "http1.0")]
    pub(crate) http_1_0: bool,

    /// Requests in flight on one connection
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) pipeline: u32,
    /// How planned instants are spaced
    #[arg(long, default_value = "fixed", requires = "rate")]
    pub(crate) arrivals: Arrivals,
    /// End after so many requests, if that is before the duration is over
    #[arg(short = 'n', long, value_name = "N", value_parser = parse_count)]
    pub(crate) requests: Option<u64>,
    /// Load for so long before measuring
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = parse_time)]
    pub(crate) warmup: Duration,
    /// Open no more connections a second than that
    #[arg(long, value_name = "N", value_parser = parse_rate)]
    pub(crate) connections_per_second: Option<f64>,
    /// Close a connection after so many answers and open another
    #[arg(long, value_name = "N", value_parser = parse_count)]
    pub(crate) close_after: Option<u64>,

    /// Source addresses, in turn: 127.0.0.1-127.0.0.9 (one has about 28 000 ports)
    #[arg(long, value_name = "RANGE", value_parser = parse_source)]
    pub(crate) source: Option<SourceRange>,
    /// Connect to a Unix socket instead of the URL's host
    #[arg(long, value_name = "PATH")]
    pub(crate) uds: Option<PathBuf>,
    /// TLS, as an https:// URL asks for by itself
    #[arg(long)]
    pub(crate) tls: bool,
    /// TLS: believe the server whatever its certificate says
    #[arg(long, conflicts_with = "tls_root")]
    pub(crate) tls_insecure: bool,
    /// TLS: believe the authorities in this PEM file, and not those of the system
    #[arg(long, value_name = "FILE")]
    pub(crate) tls_root: Option<PathBuf>,
    /// TLS: resume no session, so that each connection costs a full handshake
    #[arg(long)]
    pub(crate) tls_no_resume: bool,
    /// Never sleep: planned instants are met to the microsecond, and the cores are busy
    #[arg(long)]
    pub(crate) spin: bool,
    /// The cores to run on, such as 1,3-5 [default: the last of those that may be used]
    #[arg(long, value_name = "LIST")]
    pub(crate) cores: Option<String>,
    /// Closed loop: add what wrk adds for requests that a waiting connection did not send
    #[arg(long, conflicts_with = "rate")]
    pub(crate) correct: bool,
    /// Where Poisson arrivals and random numbers start
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,

    /// Percentiles that must be known, such as 99,99.9: without enough samples the run is invalid
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = parse_percentile)]
    pub(crate) percentiles: Vec<f64>,
    /// A line every second on stderr [default: if that is a terminal]
    #[arg(long)]
    pub(crate) live: bool,
    /// A full screen instead of that line
    #[arg(long, conflicts_with = "live")]
    pub(crate) tui: bool,
    /// Write the report as JSON; - for stdout, instead of the table
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Write the percentile distribution as HdrHistogram plots it
    #[arg(long, value_name = "FILE")]
    pub(crate) hgrm: Option<PathBuf>,
    /// Write a histogram a second, as an HdrHistogram log
    #[arg(long, value_name = "FILE")]
    pub(crate) hlog: Option<PathBuf>,
    /// Write a line for each answered request: when it was planned, sent, answered (nanoseconds of CLOCK_MONOTONIC)
    #[arg(long, value_name = "FILE")]
    pub(crate) samples: Option<PathBuf>,
    /// Write a page with pictures that a browser shows without a network
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
}

/// Addresses to connect from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SourceRange {
    first: u128,
    count: u128,
    is_v6: bool,
}

impl SourceRange {
    /// The `nth` address, round and round.
    pub(crate) fn nth(&self, nth: usize) -> IpAddr {
        let address = self.first + nth as u128 % self.count;
        if self.is_v6 { IpAddr::V6(address.into()) } else { IpAddr::V4(Ipv4Addr::from(address as u32)) }
    }
}

fn parse_source(text: &str) -> Result<SourceRange, String> {
    let wrong = || format!("{text:?} is no range; write 127.0.0.1-127.0.0.9, or one address");
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let first: IpAddr = first.parse().map_err(|_| wrong())?;
    let last: IpAddr = last.parse().map_err(|_| wrong())?;
    let number = |address| match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    };
    if first.is_ipv4() != last.is_ipv4() || number(last) < number(first) {
        return Err(wrong());
    }
    let count = (number(last) - number(first)).saturating_add(1);
    Ok(SourceRange { first: number(first), count, is_v6: first.is_ipv6() })
}

/// A number, with k, M or G for thousands, as wrk takes them.
fn parse_scaled(text: &str) -> Option<f64> {
    let (number, factor) = match text.as_bytes().last()? {
        b'k' | b'K' => (&text[..text.len() - 1], 1e3),
        b'm' | b'M' => (&text[..text.len() - 1], 1e6),
        b'g' | b'G' => (&text[..text.len() - 1], 1e9),
        _ => (text, 1.0),
    };
    let number: f64 = number.parse().ok()?;
    (number.is_finite() && number >= 0.0).then_some(number * factor)
}

fn parse_count(text: &str) -> Result<u64, String> {
    match parse_scaled(text) {
        Some(count) if count >= 1.0 && count.fract() == 0.0 && count <= 1e15 => Ok(count as u64),
        _ => Err(format!("{text:?} is no count; write a whole number above zero, such as 64 or 10k")),
    }
}

pub(crate) fn parse_rate(text: &str) -> Result<f64, String> {
    match parse_scaled(text) {
        Some(rate) if (0.001..=1e9).contains(&rate) => Ok(rate),
        _ => Err(format!("{text:?} is no rate; write a number per second above zero, such as 500 or 10k")),
    }
}

/// A number and its unit; seconds without one, as wrk takes them.
pub(crate) fn parse_time(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no time; write a number and its unit, such as 500ms, 10s, 2m, 1h");
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: f64 = number.parse().map_err(|_| wrong())?;
    let unit_s = match unit {
        "us" | "µs" => 1e-6,
        "ms" => 1e-3,
        "s" | "" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(wrong()),
    };
    // A year: longer is a slip of the keyboard, and nanoseconds stay far from their bound.
    match number * unit_s {
        seconds if seconds <= 31_536_000.0 => Ok(Duration::from_secs_f64(seconds)),
        _ => Err(wrong()),
    }
}

fn parse_header(text: &str) -> Result<(String, String), String> {
    let wrong = || format!("{text:?} is no header field; write it as in \"Accept: */*\"");
    let (name, value) = text.split_once(':').ok_or_else(wrong)?;
    let name = annulet_http::HeaderName::from_bytes(name.as_bytes()).map(|_| name).map_err(|_| wrong())?;
    let value = value.trim();
    annulet_http::HeaderValue::from_str(value).map_err(|_| wrong())?;
    Ok((name.to_owned(), value.to_owned()))
}

fn parse_method(text: &str) -> Result<String, String> {
    match annulet_http::Method::from_bytes(text.as_bytes()) {
        Ok(method) if method == annulet_http::Method::CONNECT => {
            Err("CONNECT turns the connection into a tunnel, which cannot be measured".to_owned())
        }
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err(format!("{text:?} is no method; write a token such as GET or POST")),
    }
}

fn parse_percentile(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(percentile) if (0.0..100.0).contains(&percentile) && percentile > 0.0 => Ok(percentile),
        _ => Err(format!("{text:?} is no percentile; write a number between 0 and 100, such as 99.9")),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn parse(line: &str) -> Result<Options, String> {
        let words = std::iter::once("load").chain(line.split_whitespace());
        Line::try_parse_from(words).map(|line| line.options).map_err(|error| error.to_string())
    }

    #[test]
    fn wrk_s_command_lines() {
        let options = parse("-t2 -c64 -d5s --latency --timeout 3 -H Accept:*/* http://a/").unwrap();
        assert_eq!((options.threads, options.connections, options.latency), (Some(2), 64, true));
        assert_eq!((options.duration, options.timeout), (Duration::from_secs(5), Duration::from_secs(3)));
        assert_eq!(options.headers, [("Accept".to_owned(), "*/*".to_owned())]);
        assert_eq!(parse("-R10k http://a/").unwrap().rate, Some(10_000.0));
        assert_eq!(parse("http://a/").unwrap().rate, None);
        assert_eq!(parse("-n 1M http://a/").unwrap().requests, Some(1_000_000));
    }

    #[test]
    fn sources() {
        let check = |text, nth, expected: &str| {
            assert_eq!(parse_source(text).unwrap().nth(nth), expected.parse::<IpAddr>().unwrap(), "{text}");
        };
        check("127.0.0.1", 5, "127.0.0.1");
        check("127.0.0.254-127.0.1.1", 0, "127.0.0.254");
        check("127.0.0.254-127.0.1.1", 2, "127.0.1.0");
        check("127.0.0.254-127.0.1.1", 4, "127.0.0.254");
        check("fe80::1-fe80::2", 1, "fe80::2");
    }

    #[test]
    fn mistakes() {
        let check = |line: &str, expected: &str| {
            let error = parse(line).unwrap_err();
            assert!(error.contains(expected), "{line}: {error}");
        };
        check("", "URL");
        check("-c0 http://a/", "above zero");
        check("-c1.5 http://a/", "whole number");
        check("-d5x http://a/", "is no time");
        check("-R0 http://a/", "is no rate");
        check("-HAccept http://a/", "is no header field");
        check("--method CONNECT http://a/", "tunnel");
        check("--method a@b http://a/", "is no method");
        check("--source 127.0.0.2-127.0.0.1 http://a/", "is no range");
        check("--percentiles 100 http://a/", "is no percentile");
        check("--arrivals poisson http://a/", "--rate");
        check("--correct -R5 http://a/", "cannot be used");
    }
}
