//! What the machine looks like: hardware threads, physical cores, NUMA nodes, read from sysfs below a root that tests choose.

use std::fs;
use std::path::Path;

/// A CPU as Linux counts: one hardware thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cpu {
    /// Its number.
    pub number: usize,
    /// The smallest number among the hardware threads of its physical core: what siblings have in common.
    pub physical: usize,
    /// The NUMA node that its memory is near to.
    pub node: usize,
}

/// The CPUs that a program may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topology {
    cpus: Vec<Cpu>,
}

impl Topology {
    /// Reads what is known of the CPUs in `allowed`, below `root` (`/` but in tests). Where sysfs is not mounted each CPU counts
    /// as a physical core, all of one node.
    pub(super) fn read(root: &Path, allowed: &[usize]) -> Self {
        let system = root.join("sys/devices/system");
        let list = |path: &Path| {
            fs::read_to_string(path).ok().and_then(|text| super::parse_online(&text)).unwrap_or_default()
        };
        // Directories are named `node0`, `node1`, …; the list beside them says which there are.
        let nodes: Vec<(usize, Vec<usize>)> = list(&system.join("node/online"))
            .into_iter()
            .map(|node| (node, list(&system.join(format!("node/node{node}/cpulist")))))
            .collect();
        let cpu = |number| {
            let topology = system.join(format!("cpu/cpu{number}/topology"));
            // The new name (5.3) and the old one of the same file.
            let mut siblings = list(&topology.join("core_cpus_list"));
            if siblings.is_empty() {
                siblings = list(&topology.join("thread_siblings_list"));
            }
            let physical = siblings.into_iter().min().unwrap_or(number);
            let node = nodes.iter().find(|(_, cpus)| cpus.contains(&number)).map_or(0, |(node, _)| *node);
            Cpu { number, physical, node }
        };
        Topology { cpus: allowed.iter().copied().map(cpu).collect() }
    }

    /// The CPUs, in ascending order of their numbers.
    pub fn cpus(&self) -> &[Cpu] {
        &self.cpus
    }

    /// Physical cores of which at least one hardware thread may be used.
    pub fn physical_cores(&self) -> usize {
        distinct(self.cpus.iter().map(|cpu| cpu.physical))
    }

    /// NUMA nodes of which at least one CPU may be used.
    pub fn nodes(&self) -> usize {
        distinct(self.cpus.iter().map(|cpu| cpu.node))
    }

    /// The first hardware thread of each physical core, then the second of each, and so on: the order in which a program that
    /// needs fewer than all takes them.
    pub(super) fn spread(&self) -> Vec<Cpu> {
        let rank = |cpu: &Cpu| {
            self.cpus
                .iter()
                .filter(|other| other.physical == cpu.physical && other.number < cpu.number)
                .count()
        };
        let mut spread = self.cpus.clone();
        spread.sort_by_key(|cpu| (rank(cpu), cpu.number));
        spread
    }
}

fn distinct(numbers: impl Iterator<Item = usize>) -> usize {
    numbers.collect::<std::collections::BTreeSet<_>>().len()
}
