//! What a loop's thread used of its core, by the scheduler's own books.

use std::fs;

use rustix::time::{ClockId, clock_gettime};

/// A reading; subtract two.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    /// CPU time of the thread.
    pub(crate) cpu_ns: u64,
    /// How long the thread was ready to run and another had its core.
    pub(crate) waited_ns: u64,
}

impl Usage {
    /// Of the calling thread.
    pub(crate) fn of_this_thread() -> Usage {
        let cpu = clock_gettime(ClockId::ThreadCPUTime);
        // The second number of schedstat (Documentation/scheduler/sched-stats.rst). Absent without CONFIG_SCHED_INFO.
        let schedstat = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
        let waited_ns = schedstat.split_whitespace().nth(1).and_then(|text| text.parse().ok()).unwrap_or(0);
        Usage { cpu_ns: cpu.tv_sec as u64 * 1_000_000_000 + cpu.tv_nsec as u64, waited_ns }
    }

    /// What was used since `earlier`.
    pub(crate) fn since(self, earlier: Usage) -> Usage {
        Usage {
            cpu_ns: self.cpu_ns.saturating_sub(earlier.cpu_ns),
            waited_ns: self.waited_ns.saturating_sub(earlier.waited_ns),
        }
    }
}
