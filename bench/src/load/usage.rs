//! What a loop's thread used of its core, by the scheduler's own books.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;

use rustix::time::{ClockId, clock_gettime};

/// A reading; subtract two.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    /// CPU time of the thread.
    pub(crate) cpu_ns: u64,
    /// How long the thread was ready to run and another had its core.
    pub(crate) waited_ns: u64,
}

/// How long a thread waited for its core so far, read often: the file stays open.
#[derive(Debug)]
pub(crate) struct RunQueue(Option<File>);

impl RunQueue {
    /// Of the calling thread, whoever reads it later.
    pub(crate) fn of_this_thread() -> RunQueue {
        RunQueue(File::open("/proc/thread-self/schedstat").ok())
    }

    /// Zero where the kernel does not tell.
    pub(crate) fn waited_ns(&self) -> u64 {
        let mut bytes = [0; 64];
        let read = self.0.as_ref().and_then(|file| file.read_at(&mut bytes, 0).ok());
        let text = str::from_utf8(&bytes[..read.unwrap_or(0)]).unwrap_or_default();
        waited_in(text)
    }
}

/// The second number of schedstat (Documentation/scheduler/sched-stats.rst). Absent without CONFIG_SCHED_INFO.
fn waited_in(text: &str) -> u64 {
    text.split_whitespace().nth(1).and_then(|text| text.parse().ok()).unwrap_or(0)
}

impl Usage {
    /// Of the calling thread.
    pub(crate) fn of_this_thread() -> Usage {
        let cpu = clock_gettime(ClockId::ThreadCPUTime);
        let schedstat = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
        Usage {
            cpu_ns: cpu.tv_sec as u64 * 1_000_000_000 + cpu.tv_nsec as u64,
            waited_ns: waited_in(&schedstat),
        }
    }

    /// What was used since `earlier`.
    pub(crate) fn since(self, earlier: Usage) -> Usage {
        Usage {
            cpu_ns: self.cpu_ns.saturating_sub(earlier.cpu_ns),
            waited_ns: self.waited_ns.saturating_sub(earlier.waited_ns),
        }
    }
}
