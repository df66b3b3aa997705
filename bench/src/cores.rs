//! The cores that this process may use.

use rustix::thread::{CpuSet, sched_getaffinity};

/// By the affinity mask, in ascending order; at least one.
pub(crate) fn own() -> Vec<usize> {
    let set = sched_getaffinity(None).unwrap_or_default();
    let cores: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect();
    if cores.is_empty() { vec![0] } else { cores }
}
