//! What is counted, and how it is called outside.

/// What the value of a [`Counter`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It only grows.
    Total,
    /// As it is now.
    Gauge,
}

macro_rules! counters {
    ($($(#[$doc:meta])* $variant:ident = $kind:ident $name:literal $help:literal,)*) => {
        /// One number of a loop's [`Row`](super::Row).
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        #[repr(usize)]
        pub enum Counter {
            $($(#[$doc])* $variant,)*
        }

        impl Counter {
            /// All of them.
            pub const ALL: &[Counter] = &[$(Counter::$variant,)*];

            /// The name in the text format of Prometheus.
            pub fn name(self) -> &'static str {
                match self {
                    $(Counter::$variant => concat!("annulet_", $name),)*
                }
            }

            /// What it means, in a sentence.
            pub fn help(self) -> &'static str {
                match self {
                    $(Counter::$variant => $help,)*
                }
            }

            /// What its value is.
            pub fn kind(self) -> Kind {
                match self {
                    $(Counter::$variant => Kind::$kind,)*
                }
            }
        }
    };
}

counters! {
    /// Turns of the loop.
    Turns = Total "turns_total" "Turns of the loop.",
    /// Entries into the kernel.
    Enters = Total "ring_enters_total" "Calls of io_uring_enter.",
    /// Operations handed to the kernel.
    Submissions = Total "ring_submissions_total" "Submission entries (SQEs) handed to the kernel.",
    /// Answers of the kernel.
    Completions = Total "ring_completions_total" "Completion entries (CQEs) taken.",
    /// How often the completion queue was seen full.
    Overflows = Total "ring_overflows_total" "Sightings of completions that wait in the kernel because the completion queue was full.",
    /// Polls of tasks.
    Polls = Total "polls_total" "Polls of tasks.",
    /// Turns or polls that took longer than the limit.
    Stalls = Total "stalls_total" "Turns or polls that took longer than the stall limit.",
    /// Messages of other threads.
    InboxMessages = Total "inbox_messages_total" "Messages of other threads that were taken from the inbox.",
    /// Connections accepted.
    Accepts = Total "accepts_total" "Connections accepted.",
    /// Pauses of accepting.
    AcceptPauses = Total "accept_pauses_total" "Pauses of accepting for want of descriptors or memory.",
    /// Bytes received by stream sockets.
    ReceivedBytes = Total "received_bytes_total" "Bytes received by stream sockets.",
    /// Bytes sent by stream sockets.
    SentBytes = Total "sent_bytes_total" "Bytes of stream sockets that the kernel has taken.",
    /// How often a receive found no buffer.
    BuffersMissing = Total "receive_buffers_missing_total" "Receives that found no free buffer (ENOBUFS).",
    /// Live tasks.
    Tasks = Gauge "tasks" "Tasks that are live, and finished ones whose result nobody took yet.",
    /// Connected sockets.
    Sockets = Gauge "sockets" "Connected stream sockets and UDP sockets, closing ones included.",
    /// Listening sockets.
    Listeners = Gauge "listeners" "Listening sockets.",
    /// One-shot operations.
    Operations = Gauge "operations" "One-shot operations that the kernel holds, or whose result nobody took yet.",
    /// Timers in the wheel.
    Timers = Gauge "timers" "Timers in the wheel.",
    /// Free receive buffers.
    BuffersFree = Gauge "receive_buffers_free" "Receive buffers of streams that the kernel may take.",
    /// Receive buffers in use.
    BuffersHeld = Gauge "receive_buffers_held" "Receive buffers that are queued at a socket, or leased.",
    /// Messages in the inbox.
    InboxDepth = Gauge "inbox_depth" "Messages that the last look into the inbox found.",
    /// HTTP: connections begun.
    HttpConnections = Total "http_connections_total" "HTTP connections that were let in.",
    /// HTTP: connections now.
    HttpConnectionsOpen = Gauge "http_connections" "HTTP connections that are open.",
    /// HTTP: answers 1xx.
    Http1xx = Total "http_requests_total" "Requests answered, by class of the status code.",
    /// HTTP: answers 2xx.
    Http2xx = Total "http_requests_total" "Requests answered, by class of the status code.",
    /// HTTP: answers 3xx.
    Http3xx = Total "http_requests_total" "Requests answered, by class of the status code.",
    /// HTTP: answers 4xx.
    Http4xx = Total "http_requests_total" "Requests answered, by class of the status code.",
    /// HTTP: answers 5xx.
    Http5xx = Total "http_requests_total" "Requests answered, by class of the status code.",
}

impl Counter {
    /// The counter of an HTTP status code's class.
    ///
    /// # Examples
    ///
    /// ```
    /// use annulet::metrics::Counter;
    ///
    /// assert_eq!(Counter::of_status(404), Counter::Http4xx);
    /// ```
    #[inline]
    pub fn of_status(code: u16) -> Counter {
        match code {
            200..300 => Counter::Http2xx,
            ..200 => Counter::Http1xx,
            300..400 => Counter::Http3xx,
            400..500 => Counter::Http4xx,
            500.. => Counter::Http5xx,
        }
    }

    /// The label beside the loop's, for counters that share a name.
    pub(super) fn class(self) -> Option<&'static str> {
        match self {
            Counter::Http1xx => Some("1xx"),
            Counter::Http2xx => Some("2xx"),
            Counter::Http3xx => Some("3xx"),
            Counter::Http4xx => Some("4xx"),
            Counter::Http5xx => Some("5xx"),
            _ => None,
        }
    }
}

/// A distribution of a loop's [`Row`](super::Row), in buckets that double.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[repr(usize)]
pub enum Distribution {
    /// Nanoseconds that a poll of a task took. See [`Board`](super::Board) for how it is measured.
    PollTime,
    /// Nanoseconds from the end of a wait until the loop enters the kernel again: so long whatever happened meanwhile
    /// has waited at most.
    LoopLag,
    /// Completions that an entry into the kernel brought.
    CompletionsPerEnter,
}

/// Buckets of a distribution: 20 that double, and one for what is beyond.
pub(super) const BUCKETS: usize = 21;

impl Distribution {
    /// All of them.
    pub const ALL: &[Distribution] =
        &[Distribution::PollTime, Distribution::LoopLag, Distribution::CompletionsPerEnter];

    /// The name in the text format of Prometheus.
    pub fn name(self) -> &'static str {
        match self {
            Distribution::PollTime => "annulet_poll_duration_seconds",
            Distribution::LoopLag => "annulet_loop_lag_seconds",
            Distribution::CompletionsPerEnter => "annulet_ring_completions_per_enter",
        }
    }

    /// What it means, in a sentence.
    pub fn help(self) -> &'static str {
        match self {
            Distribution::PollTime => {
                "Time of a poll of a task: a turn's time by its polls, or each by itself after a stall."
            }
            Distribution::LoopLag => "Time from the end of a wait until the loop enters the kernel again.",
            Distribution::CompletionsPerEnter => "Completions that an entry into the kernel brought.",
        }
    }

    /// The exponent of the first bucket's bound: 1024 ns, or 1.
    const fn first(self) -> u32 {
        match self {
            Distribution::PollTime | Distribution::LoopLag => 10,
            Distribution::CompletionsPerEnter => 0,
        }
    }

    /// The bucket that a value is counted in: the first whose bound is not below it.
    #[inline]
    pub(super) fn bucket(self, value: u64) -> usize {
        // 2^n itself belongs to the bucket with the bound 2^n: `le` means less than or equal.
        let log = 64 - value.saturating_sub(1).leading_zeros();
        (log.saturating_sub(self.first()) as usize).min(BUCKETS - 1)
    }

    /// The bound of a bucket; none of the last one.
    pub(super) fn bound(self, bucket: usize) -> Option<u64> {
        (bucket + 1 < BUCKETS).then(|| 1 << (bucket as u32 + self.first()))
    }

    /// Whether its values are nanoseconds.
    pub(super) fn is_time(self) -> bool {
        self.first() != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_in_the_first_bucket_that_reaches_it() {
        for &distribution in Distribution::ALL {
            for value in (0..5000).chain((0..64).flat_map(|log| [(1 << log) - 1, 1 << log, (1 << log) + 1])) {
                let bucket = distribution.bucket(value);
                assert!(distribution.bound(bucket).is_none_or(|bound| value <= bound), "{value}");
                assert!(
                    bucket == 0 || distribution.bound(bucket - 1).is_some_and(|bound| value > bound),
                    "{value}"
                );
            }
        }
    }

    #[test]
    fn classes_of_status_codes() {
        let check = |code, expected| assert_eq!(Counter::of_status(code).class(), Some(expected), "{code}");
        check(101, "1xx");
        check(200, "2xx");
        check(299, "2xx");
        check(304, "3xx");
        check(404, "4xx");
        check(503, "5xx");
    }

    #[test]
    fn names_follow_the_conventions() {
        for counter in Counter::ALL {
            assert_eq!(counter.name().ends_with("_total"), counter.kind() == Kind::Total, "{counter:?}");
            assert!(counter.help().ends_with('.'), "{counter:?}");
        }
    }
}
