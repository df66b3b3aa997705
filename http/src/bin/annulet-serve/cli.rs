//! The command line: what can be asked for, and in which words. Starts nothing.
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use annulet::net::AcceptPolicy;
use annulet::placement::Policy;
use annulet::{Batch, Builder, DriverKind, LoopPolicy, Workers};
use annulet_http::{HeaderValue, LogFormat, ServeDir, Server};
use clap::Parser;

use crate::Acceptor;
use crate::limits::LimitOptions;
use crate::operations::OperationOptions;
use crate::pages;

/// Serves GET / and GET /hello/{name}, or the files of a directory, over HTTP/1.1, with one io_uring loop per core and nothing shared between them.
///
/// Stop it with SIGINT or SIGTERM: requests in flight are answered first, for as long as --drain allows, or until it is sent once more.
#[derive(Clone, Debug, Parser)]
#[command(name = "annulet-serve", version, after_help = EXAMPLES, max_term_width = 100)]
pub(crate) struct Options {
    /// Address to listen on, 127.0.0.1:8000 if nothing is said; may be given several times. Every core listens on all of them,
    /// and on the sockets that systemd hands over.
    #[arg(long, value_name = "ADDR", value_parser = parse_address)]
    pub(crate) listen: Vec<SocketAddr>,

    /// Cores to run on, one pinned worker each: "all" that this process may use, or a list such as "0,2-5".
    #[arg(long, value_name = "LIST|all", default_value = "all")]
    pub(crate) cores: Cores,

    /// Which of the cores get a loop: "core" each hardware thread, "physical" each physical core, "node" each NUMA node, or a list
    /// such as "0,2-5". Prints a map of the machine. Without it, and without --cores: "core", and no more than a CPU quota feeds.
    #[arg(long, value_name = "POLICY", conflicts_with = "cores")]
    pub(crate) placement: Option<Policy>,

    /// Which core serves a new connection: "reuseport" as the kernel spreads them, "steer" the one that received its first packet,
    /// "balance" the one with the fewest; not with --workers processes.
    #[arg(long, value_name = "POLICY", default_value = "reuseport")]
    pub(crate) accept: AcceptPolicy,

    /// What the loops stand on: "io_uring", or "epoll", which is slower and goes where io_uring is forbidden. Without it io_uring if
    /// this machine lets us have it.
    #[arg(long, value_name = "io_uring|epoll")]
    pub(crate) driver: Option<DriverKind>,

    /// Connections that one core serves at the most. Beyond it hands them to others; when all are full, clients wait to be
    /// accepted. Without it only --connections counts, which answers 503. Not with --workers processes.
    #[arg(long, value_name = "COUNT", value_parser = |text: &str| parse_count(text, 1, usize::MAX))]
    pub(crate) connections_max: Option<usize>,

    /// Watch over the workers, which are threads of one process, or processes below a supervisor. One that dies is replaced; SIGHUP
    /// replaces them one by one, SIGUSR2 the program by what its file is now, without refusing a connection. SIGUSR1 prints the tasks.
    #[arg(long, value_name = "threads|processes", value_parser = parse_workers)]
    pub(crate) workers: Option<Workers>,

    /// Become this user once the addresses are bound; for root, with --workers. What worker processes read when they start, such as keys,
    /// this user must be able to read.
    #[arg(long, value_name = "NAME", requires = "workers")]
    pub(crate) user: Option<String>,

    /// Wait so long in the handlers before answering, e.g. 500ms, 2s: stands for work that is awaited.
    #[arg(long, value_name = "TIME", default_value = "0ms", value_parser = parse_duration)]
    pub(crate) delay: Duration,

    /// Under load, let the kernel gather completions for up to 60 µs before it wakes the loop: less CPU per request, some tens of
    /// µs more latency. Off by itself while few connections are busy. Needs Linux 6.12.
    #[arg(long)]
    pub(crate) batch: bool,

    /// Look for completions so long before sleeping, e.g. 50us: a fraction of the latency for a busy core.
    #[arg(long, value_name = "TIME", default_value = "0us", value_parser = parse_duration)]
    pub(crate) spin: Duration,

    /// With --workers: when asked to stop, tell a load balancer at once but go on accepting for so long, e.g. 5s.
    #[arg(long, value_name = "TIME", default_value = "0ms", value_parser = parse_duration, requires = "workers")]
    pub(crate) drain_delay: Duration,

    /// With --workers: then let idle connections send one more request for so long; its answer closes them. 0s: close them at once, as
    /// without --workers.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_duration, requires = "workers")]
    pub(crate) drain_idle: Duration,

    /// When asked to stop, give requests in flight so long in all, e.g. 5s. Connections still open then are cut. 0s: all of them, at
    /// once.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_duration)]
    pub(crate) drain: Duration,

    /// Serve the files of this directory too, with its index.html in place of the index page (404 if there is none). Nothing outside of
    /// it, and nothing hidden. It is opened once: another directory of the same name later is seen after a restart only.
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,

    /// Append a line for each answer to this file.
    #[arg(long, value_name = "FILE")]
    pub(crate) access_log: Option<PathBuf>,

    /// How these lines look: common, combined or json.
    #[arg(long, value_name = "FORMAT", default_value = "combined", value_parser = parse_log_format)]
    pub(crate) access_log_format: LogFormat,

    /// Say who answers in the field Server of every answer: "annulet", or NAME. Without it there is no such field.
    #[arg(long, value_name = "NAME", num_args = 0..=1, require_equals = true, default_missing_value = "annulet", value_parser = parse_field_value)]
    pub(crate) server_header: Option<String>,

    #[command(flatten)]
    pub(crate) operations: OperationOptions,

    #[command(flatten)]
    pub(crate) limits: LimitOptions,

    #[cfg(feature = "tls")]
    #[command(flatten)]
    pub(crate) tls: crate::tls::TlsOptions,
}

const EXAMPLES: &str = "Examples:
  annulet-serve                                   on 127.0.0.1:8000, on all cores
  annulet-serve --listen 0.0.0.0:80 --listen [::]:80
  annulet-serve --cores 0-3 --spin 50us           four cores, lowest latency
  annulet-serve --workers processes --user www    as processes, not as root
  annulet-serve --dir site                        the files below ./site, its index.html as /
  annulet-serve --tls-cert chain.pem --tls-key key.pem
  annulet-serve --delay 500ms                     as if every answer had to be fetched";

impl Options {
    /// How the loops are to wait.
    pub(crate) fn policy(&self) -> LoopPolicy {
        LoopPolicy { spin: self.spin, batch: self.batch.then(Batch::default) }
    }

    /// The server of one core, as all of these want it, without its access log.
    pub(crate) fn server(&self, files: Option<ServeDir>) -> Server {
        let server = Server::new(pages::site(self.delay, files)).with_limits(self.limits.limits());
        let server = self.operations.with_clients(server);
        match &self.server_header {
            Some(name) => server.with_server_field(name),
            None => server,
        }
    }

    /// The loops, with the addresses that were named and without cores.
    pub(crate) fn loops(&self) -> Builder {
        let mut builder = Builder::new().policy(self.policy()).accept(self.accept);
        if let Some(driver) = self.driver {
            builder = builder.driver(driver);
        }
        if let Some(connections) = self.connections_max {
            builder = builder.connections_max(connections);
        }
        self.listen.iter().fold(builder, |builder, address| builder.listen(*address))
    }

    /// TLS, if it is asked for.
    pub(crate) fn acceptor(&self) -> io::Result<Option<Acceptor>> {
        #[cfg(feature = "tls")]
        return self.tls.acceptor();
        #[cfg(not(feature = "tls"))]
        return Ok(None);
    }
}

/// Which cores to run on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Cores {
    /// Those of the process's affinity mask.
    All,
    /// These, in this order.
    List(Vec<usize>),
}

impl Cores {
    /// The list, unless it is all.
    pub(crate) fn chosen(&self) -> Option<&[usize]> {
        match self {
            Cores::All => None,
            Cores::List(cores) => Some(cores),
        }
    }
}

/// More than any kernel is built for; keeps "0-99999999999" from filling memory.
const CORE_NUMBER_MAX: usize = 8191;

impl FromStr for Cores {
    type Err = String;

    fn from_str(text: &str) -> Result<Cores, String> {
        if text == "all" {
            return Ok(Cores::All);
        }
        let mut cores = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let range = parse_core(first)?..=parse_core(last)?;
            if range.is_empty() {
                return Err(format!("the range {part:?} runs backwards"));
            }
            for core in range {
                if cores.contains(&core) {
                    return Err(format!("core {core} is named twice"));
                }
                cores.push(core);
            }
        }
        Ok(Cores::List(cores))
    }
}

fn parse_core(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(core) if core <= CORE_NUMBER_MAX && text.bytes().all(|b| b.is_ascii_digit()) => Ok(core),
        _ => Err(format!("{text:?} is no core; write \"all\" or a list such as \"0,2-5\"")),
    }
}

/// An address with a port; a host name stands for the first of its addresses.
pub(crate) fn parse_address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let mut addresses = text
        .to_socket_addrs()
        .map_err(|error| format!("{error}; write an address with a port, such as 127.0.0.1:8000"))?;
    addresses.next().ok_or_else(|| "the name has no address".to_owned())
}

/// A number within bounds. Below them everybody would be refused, above them there is no room.
pub(crate) fn parse_count(text: &str, min: usize, max: usize) -> Result<usize, String> {
    let count: usize = text.parse().map_err(|_| format!("{text:?} is no whole number that fits"))?;
    if count < min {
        return Err(format!("everybody would be refused; give at least {min}, or leave the flag out"));
    }
    if count > max {
        return Err(format!("there is no room for that; give at most {max}"));
    }
    Ok(count)
}

fn parse_workers(text: &str) -> Result<Workers, String> {
    match text {
        "threads" => Ok(Workers::Threads),
        "processes" => Ok(Workers::Processes),
        _ => Err(format!("{text:?} is neither; write threads or processes")),
    }
}

fn parse_field_value(text: &str) -> Result<String, String> {
    match HeaderValue::try_from(text) {
        Ok(_) if !text.trim().is_empty() => Ok(text.to_owned()),
        Ok(_) => Err("an empty name says nothing; leave the flag out".to_owned()),
        Err(_) => Err("control characters cannot be sent in a header field".to_owned()),
    }
}

fn parse_log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "common" => Ok(LogFormat::Common),
        "combined" => Ok(LogFormat::Combined),
        "json" => Ok(LogFormat::Json),
        _ => Err(format!("{text:?} is no format; write common, combined or json")),
    }
}

/// A time that is not zero: `why` not, and what to do instead.
pub(crate) fn parse_time(text: &str, why: &str, instead: &str) -> Result<Duration, String> {
    let time = parse_duration(text)?;
    if time.is_zero() { Err(format!("{why}; {instead}")) } else { Ok(time) }
}

/// A time that the kernel takes.
pub(crate) fn parse_at_most(text: &str, max: Duration) -> Result<Duration, String> {
    let time = parse_duration(text)?;
    if time > max {
        return Err(format!("the kernel takes no longer time; give at most {}s", max.as_secs()));
    }
    Ok(time)
}

/// A number and its unit: `us`, `ms`, `s`, `m`.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no time; write a number and its unit, such as 500ms, 50us, 2s");
    let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let (number, unit) = text.split_at(digits);
    let number: u32 = number.parse().map_err(|_| wrong())?;
    match unit {
        "us" | "µs" => Ok(Duration::from_micros(number.into())),
        "ms" => Ok(Duration::from_millis(number.into())),
        "s" => Ok(Duration::from_secs(number.into())),
        "m" => Ok(Duration::from_secs(60 * u64::from(number))),
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Result<Options, String> {
        let words = std::iter::once("annulet-serve").chain(line.split_whitespace());
        Options::try_parse_from(words).map_err(|error| error.to_string())
    }

    #[test]
    fn defaults() {
        let options = parse("").unwrap();
        assert!(options.listen.is_empty() && options.server_header.is_none());
        assert_eq!((options.workers, options.user), (None, None));
        assert_eq!((options.drain_delay, options.drain_idle), (Duration::ZERO, Duration::from_secs(1)));
        assert_eq!((options.cores, options.delay), (Cores::All, Duration::ZERO));
        assert_eq!(options.drain, Duration::from_secs(30));
        assert_eq!(parse("").unwrap().policy(), LoopPolicy::default());
    }

    #[test]
    fn limits_that_would_refuse_everybody_are_refused() {
        let check = |line: &str, expected: &str| {
            let said = parse(line).expect_err(line);
            assert!(said.contains(expected), "{line}: {said}");
        };
        for flag in ["--target-bytes", "--line-bytes", "--headers", "--connections", "--connections-max"] {
            check(&format!("{flag} 0"), "everybody would be refused; give at least 1, or leave the flag out");
            parse(&format!("{flag} 1")).unwrap();
        }
        check("--head-bytes 0", "give at least 64");
        check("--head-bytes 63", "give at least 64");
        check("--head-bytes 65536", "give at most 65535");
        check("--headers 129", "give at most 128");
        check("--headers many", "no whole number");
        // None of these.
        for line in [
            "--connections-per-address 0",
            "--requests-per-connection 0",
            "--body-bytes 0",
            "--head-bytes 64",
        ] {
            parse(line).unwrap();
        }
    }

    #[test]
    fn times_of_zero_are_refused_where_nobody_could_be_served() {
        let some = "give some time, such as 1s, or leave the flag out";
        for (flag, why, instead) in [
            ("--head-timeout", "whose head comes in two pieces would be refused", some),
            ("--body-timeout", "whose body comes behind its head would be refused", some),
            ("--body-total-timeout", "whose body comes behind its head would be refused", some),
            ("--body-grace", "every body would be too slow", "or no rate: --body-rate 0"),
            ("--keep-alive", "closed before their first request", "use --requests-per-connection 1"),
            ("--write-timeout", "a moment later would be reset", some),
            ("--linger", "the last answer would be lost to a reset", some),
        ] {
            for zero in ["0s", "0us", "00m"] {
                let line = format!("{flag} {zero}");
                let said = parse(&line).expect_err(&line);
                assert!(said.contains(why) && said.contains(instead), "{line}: {said}");
            }
            parse(&format!("{flag} 1us")).unwrap();
        }
        // Not at all, never, or at once.
        for flag in [
            "--delay",
            "--spin",
            "--drain",
            "--workers threads --drain-delay",
            "--workers threads --drain-idle",
            "--stall-limit",
            "--tcp-keepalive",
            "--tcp-user-timeout",
        ] {
            parse(&format!("{flag} 0s")).unwrap();
        }
    }

    #[test]
    fn limits() {
        let check = |line: &str, expected: annulet_http::Limits| {
            assert_eq!(parse(line).unwrap().limits.limits(), expected, "{line}");
        };
        let all = annulet_http::Limits::default;
        check("", all());
        check("--line-bytes 12", annulet_http::Limits { line_bytes: 12, ..all() });
        check("--head-bytes 100 --headers 3", annulet_http::Limits { head_bytes: 100, headers: 3, ..all() });
        check(
            "--requests-per-connection 5 --connections-per-address 6 --memory 2 --body-rate 0",
            annulet_http::Limits {
                requests_per_connection: 5,
                connections_per_address: 6,
                memory_bytes: 2 << 20,
                body_rate_min: 0,
                ..all()
            },
        );
        check(
            "--target-bytes 7 --body-bytes 8 --body-timeout 9s --body-total-timeout 10s --connections 11",
            annulet_http::Limits {
                target_bytes: 7,
                body_bytes: 8,
                body_timeout: Duration::from_secs(9),
                body_total_timeout: Duration::from_secs(10),
                connections: 11,
                ..all()
            },
        );
        check(
            "--keep-alive 1s --head-timeout 2s --write-timeout 3ms --unsent-bytes 4",
            annulet_http::Limits {
                keep_alive_timeout: Duration::from_secs(1),
                head_timeout: Duration::from_secs(2),
                write_timeout: Duration::from_millis(3),
                unsent_bytes: 4,
                ..all()
            },
        );
        check(
            "--chunk-extension-bytes 1 --trailer-bytes 2 --drain-bytes 3 --body-grace 4s --linger 5s",
            annulet_http::Limits {
                chunk_extension_bytes: 1,
                trailer_bytes: 2,
                drain_bytes: 3,
                body_rate_grace: Duration::from_secs(4),
                linger: Duration::from_secs(5),
                ..all()
            },
        );
    }

    #[test]
    fn everything_at_once() {
        let options = parse(
            "--listen 0.0.0.0:1 --listen [::1]:2 --cores 3,0-1 --delay 500ms --batch --spin 50us --drain 5s \
             --workers processes --drain-delay 3s",
        )
        .unwrap();
        assert_eq!(options.listen, ["0.0.0.0:1".parse().unwrap(), "[::1]:2".parse().unwrap()]);
        assert_eq!(options.cores.chosen(), Some(&[3, 0, 1][..]));
        assert_eq!(options.delay, Duration::from_millis(500));
        assert_eq!(options.drain, Duration::from_secs(5));
        assert_eq!(
            (options.workers, options.drain_delay),
            (Some(Workers::Processes), Duration::from_secs(3))
        );
        let policy = LoopPolicy { spin: Duration::from_micros(50), batch: Some(Batch::default()) };
        assert_eq!(options.policy(), policy);
    }

    #[test]
    fn who_answers() {
        let check = |line: &str, expected: Option<&str>| {
            assert_eq!(parse(line).unwrap().server_header.as_deref(), expected, "{line}");
        };
        check("", None);
        check("--server-header", Some("annulet"));
        check("--server-header --cores 0", Some("annulet"));
        check("--server-header=shop/7", Some("shop/7"));
    }

    #[test]
    fn durations() {
        let check = |text, expected| assert_eq!(parse_duration(text).ok(), expected, "{text}");
        check("500ms", Some(Duration::from_millis(500)));
        check("7us", Some(Duration::from_micros(7)));
        check("2s", Some(Duration::from_secs(2)));
        check("1m", Some(Duration::from_secs(60)));
        check("0s", Some(Duration::ZERO));
        check("", None);
        check("5", None);
        check("ms", None);
        check("-5ms", None);
        check("1.5s", None);
        check("5 ms", None);
        check("99999999999s", None);
    }

    #[test]
    fn mistakes() {
        let check = |line: &str, expected: &str| {
            let error = parse(line).unwrap_err();
            assert!(error.contains(expected), "{line}: {error}");
        };
        check("--cores x", "is no core");
        check("--cores 1,", "is no core");
        check("--cores 3-1", "runs backwards");
        check("--cores 1,0-2", "named twice");
        check("--cores 0-99999999999", "is no core");
        check("--listen 8000", "such as 127.0.0.1:8000");
        check("--delay 5", "is no time");
        check("--drain soon", "is no time");
        check("--workers fibres", "threads or processes");
        check("--access-log x --access-log-format xml", "common, combined or json");
        check("--server-header=", "says nothing");
        check("--server-header=\u{1}", "control characters");
        check("--speed", "unexpected argument");
    }

    #[test]
    fn the_command_is_well_formed() {
        Options::command().debug_assert();
    }
}
