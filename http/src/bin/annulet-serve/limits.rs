//! The limits as flags: each with its unit, its default and what a client gets beyond it.
use std::time::Duration;

use annulet_http::Limits;
use clap::Args;

use crate::cli::{parse_count, parse_time};

/// No request is shorter.
const HEAD_BYTES_MIN: usize = 64;
/// Why a time for bodies is not zero.
const LATE_BODY: &str = "whose body comes behind its head would be refused";
/// What is done about a zero.
const SOME_TIME: &str = "give some time, such as 1s, or leave the flag out";

/// What a client may ask of the server.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
#[command(next_help_heading = "Limits")]
pub(crate) struct LimitOptions {
    /// Request line and header fields together, in bytes, 64 to 65535. Beyond: 431, of a method alone 400.
    #[arg(long, value_name = "BYTES", default_value_t = Limits::default().head_bytes,
          value_parser = |text: &str| parse_count(text, HEAD_BYTES_MIN, Limits::HEAD_BYTES_MAX))]
    head_bytes: usize,

    /// The request target, in bytes. Beyond: 414.
    #[arg(long, value_name = "BYTES", default_value_t = Limits::default().target_bytes,
          value_parser = |text: &str| parse_count(text, 1, usize::MAX))]
    target_bytes: usize,

    /// A header field line without its end, in bytes. Beyond: 431.
    #[arg(long, value_name = "BYTES", default_value_t = Limits::default().line_bytes,
          value_parser = |text: &str| parse_count(text, 1, usize::MAX))]
    line_bytes: usize,

    /// Header field lines of a request, at most 128. Beyond: 431.
    #[arg(long, value_name = "COUNT", default_value_t = Limits::default().headers,
          value_parser = |text: &str| parse_count(text, 1, Limits::HEADERS_MAX))]
    headers: usize,

    /// The content of a request, in bytes. Beyond: 413.
    #[arg(long, value_name = "BYTES", default_value_t = Limits::default().body_bytes)]
    body_bytes: u64,

    /// All chunk extensions of a body, in bytes. Beyond: 400.
    #[arg(long, value_name = "BYTES", default_value_t = Limits::default().chunk_extension_bytes)]
    chunk_extension_bytes: u32,

    /// The trailer section of a body, in bytes. Beyond: 431.
    #[arg(long, value_name = "BYTES", default_value_t = Limits::default().trailer_bytes)]
    trailer_bytes: u32,

    /// What is read and thrown away of a body that nobody wanted, in bytes. Beyond: closed behind the answer.
    #[arg(long, value_name = "BYTES", default_value_t = Limits::default().drain_bytes)]
    drain_bytes: u64,

    /// From the first byte of a head to its last. Beyond: 408.
    #[arg(long, value_name = "TIME", default_value = "10s",
          value_parser = |text: &str| parse_time(text, "whose head comes in two pieces would be refused", SOME_TIME))]
    head_timeout: Duration,

    /// Between two arrivals of bytes of a body. Beyond: 408.
    #[arg(long, value_name = "TIME", default_value = "30s",
          value_parser = |text: &str| parse_time(text, LATE_BODY, SOME_TIME))]
    body_timeout: Duration,

    /// All waits for one body together. Beyond: 408.
    #[arg(long, value_name = "TIME", default_value = "5m",
          value_parser = |text: &str| parse_time(text, LATE_BODY, SOME_TIME))]
    body_total_timeout: Duration,

    /// What a body has to come to, in bytes a second of waiting for it, after --body-grace. Slower: 408. 0: no such limit.
    #[arg(long, value_name = "BYTES", default_value_t = Limits::default().body_rate_min)]
    body_rate: u32,

    /// How long a body may be waited for before --body-rate counts.
    #[arg(long, value_name = "TIME", default_value = "5s",
          value_parser = |text: &str| parse_time(text, "every body would be too slow before its first byte",
              "give some time, such as 1s, or no rate: --body-rate 0"))]
    body_grace: Duration,

    /// Between an answer and the next request. Beyond: closed without a word.
    #[arg(long, value_name = "TIME", default_value = "75s",
          value_parser = |text: &str| parse_time(text, "connections would be closed before their first request",
              "to close them behind its answer, use --requests-per-connection 1"))]
    keep_alive: Duration,

    /// How long answers wait for a client that takes none of them. Beyond: reset.
    #[arg(long, value_name = "TIME", default_value = "30s",
          value_parser = |text: &str| parse_time(text, "who takes an answer a moment later would be reset", SOME_TIME))]
    write_timeout: Duration,

    /// What the kernel takes of answers for a client that is not ready for them, in bytes. Beyond: they wait. 0: the system's default.
    #[arg(long, value_name = "BYTES", default_value_t = Limits::default().unsent_bytes)]
    unsent_bytes: u32,

    /// How long a closing connection is read from, so that the last answer is not lost to a reset. Beyond: closed.
    #[arg(long, value_name = "TIME", default_value = "2s",
          value_parser = |text: &str| parse_time(text, "the last answer would be lost to a reset, and a draining server would wait for no reader",
              SOME_TIME))]
    linger: Duration,

    /// Requests on one connection; the last answer closes it. 0: no such limit.
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    requests_per_connection: u32,

    /// Connections of each core. Beyond: 503, for which a descriptor is held too. Where clients hold all that there are (`ulimit -n`),
    /// nobody else is accepted, and the files of --dir are answered with 503: a lower --connections-max keeps some for these.
    #[arg(long, value_name = "COUNT", default_value_t = Limits::default().connections,
          value_parser = |text: &str| parse_count(text, 1, usize::MAX))]
    connections: usize,

    /// Connections of each core from one client address, or one /64 of IPv6. Beyond: 429. 0: no such limit.
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    connections_per_address: u32,

    /// What the connections of each core may hold in memory together, in MiB: heads and bodies that have come in part, answers that
    /// wait for slow clients, records of TLS that are not whole. Beyond: 503 to whoever needs more than 4 KiB (handshakes are closed);
    /// smaller heads and answers go on. 0: nobody gets more than that.
    #[arg(long, value_name = "MIB", default_value_t = Limits::default().memory_bytes >> 20)]
    memory: usize,
}

impl LimitOptions {
    /// As the server takes them.
    pub(crate) fn limits(&self) -> Limits {
        // Every one by name: a limit without a flag does not compile.
        let or_none = |count| if count == 0 { u32::MAX } else { count };
        Limits {
            head_bytes: self.head_bytes,
            target_bytes: self.target_bytes,
            line_bytes: self.line_bytes,
            headers: self.headers,
            body_bytes: self.body_bytes,
            chunk_extension_bytes: self.chunk_extension_bytes,
            trailer_bytes: self.trailer_bytes,
            drain_bytes: self.drain_bytes,
            head_timeout: self.head_timeout,
            body_timeout: self.body_timeout,
            body_total_timeout: self.body_total_timeout,
            body_rate_min: self.body_rate,
            body_rate_grace: self.body_grace,
            keep_alive_timeout: self.keep_alive,
            write_timeout: self.write_timeout,
            unsent_bytes: self.unsent_bytes,
            linger: self.linger,
            requests_per_connection: or_none(self.requests_per_connection),
            connections: self.connections,
            connections_per_address: or_none(self.connections_per_address),
            memory_bytes: self.memory.saturating_mul(1 << 20),
        }
    }
}
