//! The document of one run, as JSON: `docs/bench-json.md` says the same for readers.
//!
//! Times have their unit in the name. Additions keep [`VERSION`]; a field that changes its meaning or goes raises it. Readers
//! ignore fields that they do not know.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What stands in [`Report::schema`].
pub(crate) const SCHEMA: &str = "annulet-bench.load";
/// What stands in [`Report::version`].
pub(crate) const VERSION: u32 = 1;

/// One run, or several that were merged.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Report {
    /// [`SCHEMA`].
    pub(crate) schema: String,
    /// [`VERSION`] of the writer.
    pub(crate) version: u32,
    /// Answers received in the measured time, of every status.
    pub(crate) requests: u64,
    /// Everything that went wrong, of every kind: the sum of [`Errors`].
    pub(crate) errors: u64,
    /// The measured time, without warm-up.
    pub(crate) duration_s: f64,
    /// `requests / duration_s`.
    pub(crate) rate: f64,
    /// Percentiles of the response time. `null` where there are too few samples to say.
    #[serde(flatten)]
    pub(crate) percentiles: Percentiles,
    /// Bytes received, heads and bodies.
    pub(crate) bytes_received: u64,
    /// Bytes sent.
    pub(crate) bytes_sent: u64,
    /// What went wrong, by kind.
    pub(crate) error_counts: Errors,
    /// Answers by status code.
    pub(crate) status: BTreeMap<u16, u64>,
    /// Open loop: requests whose planned instant passed without their being sent.
    pub(crate) unsent: u64,
    /// From the planned instant (open loop) or the send (closed loop) to the last byte of the answer.
    pub(crate) response_time: Latency,
    /// From the send to the last byte of the answer.
    pub(crate) service_time: Latency,
    /// Open loop: from the planned instant to the send.
    pub(crate) send_lag: Latency,
    /// Open loop: the send lag of those requests for which a connection was free, which is the generator's own doing.
    pub(crate) own_send_lag: Latency,
    /// Closed loop with `--correct`: the response time as wrk corrects it.
    pub(crate) corrected_time: Option<Latency>,
    /// Of a load over TLS.
    pub(crate) tls: Option<TlsReport>,
    /// Who was the bottleneck, and whether the figures may be used.
    pub(crate) verdict: Verdict,
    /// The measured time in pieces, in order.
    pub(crate) intervals: Vec<Interval>,
    /// The generator's loops.
    pub(crate) loops: Vec<LoopReport>,
    /// What was asked for.
    pub(crate) settings: Settings,
    /// Where and when it ran.
    pub(crate) run: Run,
}

/// Percentiles in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Percentiles {
    /// The median.
    pub(crate) p50_us: Option<f64>,
    pub(crate) p75_us: Option<f64>,
    pub(crate) p90_us: Option<f64>,
    pub(crate) p99_us: Option<f64>,
    pub(crate) p99_9_us: Option<f64>,
    pub(crate) p99_99_us: Option<f64>,
    /// The longest.
    pub(crate) max_us: Option<f64>,
}

/// One of the latencies that are told side by side.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Latency {
    /// Samples.
    pub(crate) count: u64,
    pub(crate) mean_us: f64,
    pub(crate) stdev_us: f64,
    pub(crate) min_us: f64,
    pub(crate) max_us: f64,
    /// In ascending order; those with too few samples are left out.
    pub(crate) percentiles: Vec<Percentile>,
    /// All of it: HdrHistogram V2, deflated, in base64. In nanoseconds.
    pub(crate) histogram: String,
}

/// A percentile and what the number of samples allows to say about it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Percentile {
    /// 99.9 for p99.9.
    pub(crate) percentile: f64,
    pub(crate) value_us: f64,
    /// The true percentile lies between these two with a confidence of 95 %, if the samples are independent.
    pub(crate) low_us: f64,
    pub(crate) high_us: f64,
}

/// The handshakes of a load over TLS, those before the measured time too.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct TlsReport {
    pub(crate) handshakes: u64,
    /// Those of them that resumed a session.
    pub(crate) resumed: u64,
    /// From the begin of the connect to the end of the handshake.
    pub(crate) connect_time: Latency,
}

/// Errors by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Errors {
    /// Connections that could not be made.
    pub(crate) connect: u64,
    /// Connections that were reset, or that failed while an answer was due.
    pub(crate) reset: u64,
    /// Connections that ended before or within an answer.
    pub(crate) cut: u64,
    /// Answers that are not HTTP/1, or whose framing cannot be believed.
    pub(crate) malformed: u64,
    /// Answers that did not come within `--timeout`.
    pub(crate) timeout: u64,
    /// Answers with a status other than 2xx or 3xx. They count as requests, too.
    pub(crate) status: u64,
}

impl Errors {
    /// All of them.
    pub(crate) fn sum(&self) -> u64 {
        self.connect + self.reset + self.cut + self.malformed + self.timeout + self.status
    }

    /// Adds those of another loop or run.
    pub(crate) fn add(&mut self, other: &Errors) {
        self.connect += other.connect;
        self.reset += other.reset;
        self.cut += other.cut;
        self.malformed += other.malformed;
        self.timeout += other.timeout;
        self.status += other.status;
    }
}

/// Who was the bottleneck.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Finding {
    /// Open loop: the rate was met, and neither side was at its limit.
    #[default]
    RateMet,
    /// The server was at its limit; the generator was not.
    ServerBound,
    /// The generator was at its limit: the figures are about it.
    ClientBound,
    /// The figures are no use.
    Invalid,
}

/// See [`Finding`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Verdict {
    pub(crate) finding: Finding,
    /// Why, with the numbers; a sentence each.
    pub(crate) reasons: Vec<String>,
    /// What the reader should know besides.
    pub(crate) notes: Vec<String>,
}

/// A piece of the measured time, one second as a rule.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Interval {
    /// From the start of the measured time.
    pub(crate) start_s: f64,
    pub(crate) duration_s: f64,
    /// Answers received in it.
    pub(crate) requests: u64,
    pub(crate) errors: u64,
    #[serde(flatten)]
    pub(crate) percentiles: Percentiles,
    /// The response times of the interval, as in [`Latency::histogram`].
    pub(crate) histogram: String,
}

/// One loop of the generator.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct LoopReport {
    /// The core it was pinned to.
    pub(crate) core: usize,
    pub(crate) connections: usize,
    pub(crate) requests: u64,
    /// CPU time of its thread in the measured time.
    pub(crate) cpu_s: f64,
    /// `cpu_s` over the time that passed.
    pub(crate) cpu_share: f64,
    /// The share of the time in which it was ready to run and another thread had its core.
    pub(crate) starved_share: f64,
    /// How late a timer of this loop was, at the 99th percentile.
    pub(crate) lag_p99_us: Option<f64>,
    /// Open loop with `--spin`: what the machine took of its core.
    pub(crate) stalls: Option<StallReport>,
}

/// Gaps of 20 µs and more between two looks at the clock, less what the loop did meanwhile: an interrupt, another thread or the
/// hypervisor had its core.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct StallReport {
    pub(crate) count: u64,
    /// Of the time.
    pub(crate) share: f64,
    pub(crate) longest_us: f64,
    /// How late a sender would be that did nothing but wait for its instants on this core.
    pub(crate) late_p99_us: f64,
    pub(crate) late_p99_9_us: f64,
}

/// What was asked for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Settings {
    /// The targets, as given.
    pub(crate) urls: Vec<String>,
    /// `closed` or `open`.
    pub(crate) mode: String,
    /// Open loop: `fixed` or `poisson`.
    pub(crate) arrivals: Option<String>,
    /// Open loop: requests per second that were planned, over all loops.
    pub(crate) rate: Option<f64>,
    pub(crate) connections: usize,
    pub(crate) threads: usize,
    pub(crate) pipeline: usize,
    pub(crate) duration_s: f64,
    pub(crate) warmup_s: f64,
    pub(crate) timeout_s: f64,
    pub(crate) spin: bool,
    pub(crate) seed: u64,
}

/// Where and when it ran.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Run {
    /// The command line.
    pub(crate) command: Vec<String>,
    /// The version of annulet-bench.
    pub(crate) tool_version: String,
    /// Seconds since 1970 at the start of the measured time.
    pub(crate) started_unix_s: f64,
    /// The same instant by CLOCK_MONOTONIC of the machine, for logs of other processes.
    pub(crate) started_monotonic_s: f64,
    /// `uname -r`.
    pub(crate) kernel: String,
    /// The model as /proc/cpuinfo has it.
    pub(crate) cpu: String,
    /// Cores of the machine that are online.
    pub(crate) cpus: usize,
    /// The commit of the working directory it was started in, if that is a git checkout.
    pub(crate) git_commit: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_promised_fields_are_at_the_top() {
        let report = Report {
            schema: SCHEMA.into(),
            version: VERSION,
            requests: 7,
            percentiles: Percentiles { p99_9_us: Some(1.5), ..Percentiles::default() },
            ..Report::default()
        };
        let json = serde_json::to_value(&report).unwrap();
        for name in
            ["schema", "version", "requests", "errors", "duration_s", "rate", "p50_us", "p99_us", "max_us"]
        {
            assert!(json.get(name).is_some(), "{name}");
        }
        assert_eq!(json["p99_9_us"], 1.5);
        assert_eq!(json["p50_us"], serde_json::Value::Null);
        assert_eq!(serde_json::from_value::<Report>(json).unwrap(), report);
    }

    #[test]
    fn fields_that_are_not_known_are_ignored_and_missing_ones_are_empty() {
        let report: Report = serde_json::from_str(r#"{"requests": 3, "colour": "red"}"#).unwrap();
        assert_eq!(report, Report { requests: 3, ..Report::default() });
    }
}
