//! How a loop waits: what it trades between latency, throughput and CPU.

#![deny(unsafe_code)]

use std::time::Duration;

/// How a loop waits when nothing is ready. The default sleeps at once and wakes for the first completion.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use annulet::LoopPolicy;
///
/// // A latency server on a core of its own: look for 50 µs before sleeping.
/// let policy = LoopPolicy { spin: Duration::from_micros(50), ..LoopPolicy::default() };
/// annulet::Builder::new().policy(policy).run_local(async {}).unwrap();
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoopPolicy {
    /// How long to look for completions in shared memory before sleeping in the kernel. Waking a sleeping core costs
    /// tens of microseconds; spinning costs the CPU time it says, whenever the loop is idle. Zero: off.
    pub spin: Duration,
    /// Take completions in batches while many connections are busy. `None`: off.
    pub batch: Option<Batch>,
}

/// Waiting a little longer than for the first completion, so that one wake-up serves several: less CPU per request, more
/// latency. Adaptive: it acts only while turns of the loop bring at least [`threshold`](Self::threshold) completions,
/// and never past the next deadline. Needs Linux 6.12; without effect before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The longest time to wait for `count` completions once there is one.
    pub wait: Duration,
    /// Completions that end the wait.
    pub count: u32,
    /// Completions per turn, on average, from which on it acts.
    pub threshold: u32,
}

impl Default for Batch {
    /// 60 µs for 16 completions, from 4 on: with 64 busy connections about 5 % less CPU per request for a tenth more of
    /// latency, median and tail. 64 completions instead save about 9 % and cost half of it more (docs/measuring.md).
    fn default() -> Self {
        Batch { wait: Duration::from_micros(60), count: 16, threshold: 4 }
    }
}
