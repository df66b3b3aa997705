//! Which loops run where: a policy applied to a machine, as a value that can be printed.

use std::fmt;
use std::io;
use std::path::Path;
use std::str::FromStr;

use super::quota::{self, Quota};
use super::topology::{Cpu, Topology};
use super::{available_cores, parse_cores};

/// How loops are placed on cores.
///
/// # Examples
///
/// ```
/// use annulet::placement::Policy;
///
/// assert_eq!("physical".parse(), Ok(Policy::PerPhysicalCore));
/// assert_eq!("0,2-3".parse(), Ok(Policy::List("0,2-3".to_owned())));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Policy {
    /// One on each core, that is, on each hardware thread: `core`.
    #[default]
    PerCore,
    /// One on each physical core, on its first hardware thread: `physical`.
    PerPhysicalCore,
    /// One on each NUMA node, on its first core: `node`. For programs that keep a large state and are not short of CPU.
    PerNode,
    /// On these, in this order: a list as [`parse_cores`] reads it. A CPU quota does not shorten it.
    List(String),
}

impl FromStr for Policy {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "core" => Policy::PerCore,
            "physical" => Policy::PerPhysicalCore,
            "node" => Policy::PerNode,
            list => Policy::List(list.to_owned()),
        })
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Policy::PerCore => "one per core",
            Policy::PerPhysicalCore => "one per physical core",
            Policy::PerNode => "one per node",
            Policy::List(_) => "as listed",
        })
    }
}

/// Where each loop runs, and why. [`Builder::placement`](crate::Builder::placement) takes it; its text is a map.
///
/// # Examples
///
/// ```
/// use annulet::placement::{Plan, Policy};
///
/// let plan = Plan::new(&Policy::PerPhysicalCore).unwrap();
/// assert!(!plan.cores().is_empty());
/// println!("{plan}");
/// ```
#[derive(Clone, Debug)]
pub struct Plan {
    policy: Policy,
    topology: Topology,
    quota: Option<Quota>,
    /// How many loops there would be without the quota.
    wanted: usize,
    cores: Vec<usize>,
}

impl Plan {
    /// Applies a policy to this machine: the cores of the affinity mask and of the control group's cpuset, and no more loops than
    /// its CPU quota can feed.
    ///
    /// # Errors
    ///
    /// As [`parse_cores`] and [`available_cores`].
    pub fn new(policy: &Policy) -> io::Result<Self> {
        let mut listed = Vec::new();
        if let Policy::List(list) = policy {
            listed = parse_cores(list)?;
        }
        Ok(Self::of(Path::new("/"), policy, &listed, &available_cores()?))
    }

    /// The same for the machine below `root`, whose mask is `allowed`.
    fn of(root: &Path, policy: &Policy, listed: &[usize], allowed: &[usize]) -> Self {
        // The kernel keeps the mask within the cpuset. Should it be read differently here, the mask is what counts.
        let in_cpuset: Vec<usize> = match quota::cpuset(root) {
            Some(cpuset) => allowed.iter().copied().filter(|cpu| cpuset.contains(cpu)).collect(),
            None => Vec::new(),
        };
        let allowed = if in_cpuset.is_empty() { allowed } else { &in_cpuset };
        let topology = Topology::read(root, allowed);
        let quota = Quota::read(root);
        let mut cores: Vec<usize> = match policy {
            Policy::List(_) => listed.to_vec(),
            Policy::PerCore => numbers(&topology.spread()),
            Policy::PerPhysicalCore => numbers(&firsts(topology.cpus(), |cpu| cpu.physical)),
            Policy::PerNode => numbers(&firsts(topology.cpus(), |cpu| cpu.node)),
        };
        let wanted = cores.len();
        if let (Some(quota), false) = (&quota, matches!(policy, Policy::List(_))) {
            cores.truncate(quota.loops());
        }
        if *policy == Policy::PerCore {
            cores.sort_unstable();
        }
        Plan { policy: policy.clone(), topology, quota, wanted, cores }
    }

    /// The cores, one loop each, in the order of the loops.
    pub fn cores(&self) -> &[usize] {
        &self.cores
    }

    /// What the machine looks like.
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// The limit on CPU time, if there is one.
    pub fn quota(&self) -> Option<&Quota> {
        self.quota.as_ref()
    }

    /// Whether there are fewer loops than the policy asks for, because of the quota.
    pub fn is_cut_by_quota(&self) -> bool {
        self.cores.len() < self.wanted
    }
}

fn numbers(cpus: &[Cpu]) -> Vec<usize> {
    cpus.iter().map(|cpu| cpu.number).collect()
}

/// The first of all that have `key` in common.
fn firsts(cpus: &[Cpu], key: impl Fn(&Cpu) -> usize) -> Vec<Cpu> {
    let mut firsts: Vec<Cpu> = Vec::new();
    for cpu in cpus {
        if firsts.iter().all(|first| key(first) != key(cpu)) {
            firsts.push(*cpu);
        }
    }
    firsts
}

impl fmt::Display for Plan {
    /// A line for the whole, one for each physical core, and one for the quota.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
        let topology = &self.topology;
        write!(
            f,
            "{} {}: {} on {} of {}",
            count(self.cores.len(), "loop"),
            self.policy,
            count(topology.cpus().len(), "core"),
            count(topology.physical_cores(), "physical core"),
            count(topology.nodes(), "node"),
        )?;
        for physical in firsts(topology.cpus(), |cpu| cpu.physical) {
            write!(f, "\n  node {}, physical core {}:", physical.node, physical.physical)?;
            for cpu in topology.cpus().iter().filter(|cpu| cpu.physical == physical.physical) {
                write!(f, " core {}", cpu.number)?;
                if let Some(place) = self.cores.iter().position(|&core| core == cpu.number) {
                    write!(f, " = loop {place}")?;
                }
                f.write_str(";")?;
            }
        }
        if let Some(quota) = &self.quota {
            write!(f, "\n  CPU quota of {:.2} ({})", quota.cpus, quota.source.display())?;
            if self.is_cut_by_quota() {
                write!(f, ": {} instead of {}", count(self.cores.len(), "loop"), self.wanted)?;
            } else if self.cores.len() > quota.loops() {
                write!(
                    f,
                    ": the loops listed are more than it feeds, and will be stopped together in every period"
                )?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A machine below a directory: `files` are `path: text` a line.
    fn machine(files: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for line in files.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let (path, text) = line.split_once(" = ").unwrap();
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, format!("{text}\n")).unwrap();
        }
        root
    }

    /// Two nodes of two physical cores with two hardware threads each, numbered as Intel's firmware does: 0 and 4 are siblings.
    const TWO_NODES: &str = "
        sys/devices/system/node/online = 0-1
        sys/devices/system/node/node0/cpulist = 0-1,4-5
        sys/devices/system/node/node1/cpulist = 2-3,6-7
        sys/devices/system/cpu/cpu0/topology/core_cpus_list = 0,4
        sys/devices/system/cpu/cpu1/topology/core_cpus_list = 1,5
        sys/devices/system/cpu/cpu2/topology/core_cpus_list = 2,6
        sys/devices/system/cpu/cpu3/topology/core_cpus_list = 3,7
        sys/devices/system/cpu/cpu4/topology/core_cpus_list = 0,4
        sys/devices/system/cpu/cpu5/topology/core_cpus_list = 1,5
        sys/devices/system/cpu/cpu6/topology/thread_siblings_list = 2,6
        sys/devices/system/cpu/cpu7/topology/thread_siblings_list = 3,7
    ";

    fn check(files: &str, policy: &str, allowed: &[usize], expected: &[usize]) -> Plan {
        let root = machine(files);
        let policy: Policy = policy.parse().unwrap();
        let plan = Plan::of(root.path(), &policy, &[3, 1], allowed);
        assert_eq!(plan.cores(), expected, "{plan}");
        plan
    }

    const ALL: &[usize] = &[0, 1, 2, 3, 4, 5, 6, 7];

    #[test]
    fn policies() {
        check(TWO_NODES, "core", ALL, ALL);
        check(TWO_NODES, "physical", ALL, &[0, 1, 2, 3]);
        check(TWO_NODES, "node", ALL, &[0, 2]);
        check(TWO_NODES, "3,1", ALL, &[3, 1]);
        // The mask hides the first thread of a physical core, and all of a node.
        check(TWO_NODES, "physical", &[1, 4, 5], &[1, 4]);
        check(TWO_NODES, "node", &[1, 4, 5], &[1]);
        // Without sysfs every core is one.
        check("", "physical", &[0, 1], &[0, 1]);
        check("", "node", &[0, 1], &[0]);
    }

    #[test]
    fn a_quota_cuts() {
        let with = |files: &str| format!("{TWO_NODES}\n{files}");
        let two = with("proc/self/cgroup = 0::/a/b\nsys/fs/cgroup/a/b/cpu.max = 200000 100000");
        check(&two, "core", ALL, &[0, 1]);
        // Of the physical cores first.
        let six = with("proc/self/cgroup = 0::/\nsys/fs/cgroup/cpu.max = 600000 100000");
        check(&six, "core", ALL, &[0, 1, 2, 3, 4, 5]);
        check(&six, "core", &[0, 4, 1, 5], &[0, 1, 4, 5]);
        let one_and_a_half = with("proc/self/cgroup = 0::/\nsys/fs/cgroup/cpu.max = 150000 100000");
        check(&one_and_a_half, "core", &[0, 4, 5], &[0, 5]);
        check(&one_and_a_half, "physical", ALL, &[0, 1]);
        let a_tenth = with("proc/self/cgroup = 0::/\nsys/fs/cgroup/cpu.max = 10000 100000");
        check(&a_tenth, "core", ALL, &[0]);
        // The tightest on the way up counts, `max` is none.
        let above = with(
            "proc/self/cgroup = 0::/a/b\nsys/fs/cgroup/a/b/cpu.max = max 100000\nsys/fs/cgroup/a/cpu.max = 300000 100000",
        );
        check(&above, "core", ALL, &[0, 1, 2]);
        // A container that sees its own group as the root.
        let unseen = with("proc/self/cgroup = 0::/docker/0a1b\nsys/fs/cgroup/cpu.max = 200000 100000");
        check(&unseen, "core", ALL, &[0, 1]);
        // Version 1, in either order of its controllers' names.
        let old = with(
            "proc/self/cgroup = 4:cpu,cpuacct:/x\nsys/fs/cgroup/cpu,cpuacct/x/cpu.cfs_quota_us = 50000
             sys/fs/cgroup/cpu,cpuacct/x/cpu.cfs_period_us = 50000",
        );
        check(&old, "core", ALL, &[0]);
        let unlimited = with(
            "proc/self/cgroup = 4:cpu:/\nsys/fs/cgroup/cpu/cpu.cfs_quota_us = -1
             sys/fs/cgroup/cpu/cpu.cfs_period_us = 100000",
        );
        check(&unlimited, "core", ALL, ALL);
        // What was asked for by name is not cut.
        let plan = check(&a_tenth, "3,1", ALL, &[3, 1]);
        assert!(plan.to_string().contains("more than it feeds"), "{plan}");
    }

    #[test]
    fn a_cpuset_counts() {
        let set =
            format!("{TWO_NODES}\nproc/self/cgroup = 0::/s\nsys/fs/cgroup/s/cpuset.cpus.effective = 2-3,6");
        check(&set, "core", ALL, &[2, 3, 6]);
        check(&set, "physical", ALL, &[2, 3]);
        // One that has nothing in common with the mask is not believed.
        check(&set, "core", &[0, 1], &[0, 1]);
    }

    #[test]
    fn the_map() {
        let files = format!("{TWO_NODES}\nproc/self/cgroup = 0::/\nsys/fs/cgroup/cpu.max = 250000 100000");
        let root = machine(&files);
        let plan = Plan::of(root.path(), &Policy::PerCore, &[], &[0, 1, 2, 4]);
        let source = root.path().join("sys/fs/cgroup/cpu.max");
        assert_eq!(
            plan.to_string(),
            format!(
                "3 loops one per core: 4 cores on 3 physical cores of 2 nodes
  node 0, physical core 0: core 0 = loop 0; core 4;
  node 0, physical core 1: core 1 = loop 1;
  node 1, physical core 2: core 2 = loop 2;
  CPU quota of 2.50 ({}): 3 loops instead of 4",
                source.display()
            )
        );
    }

    #[test]
    fn this_machine() {
        let plan = Plan::new(&Policy::PerCore).unwrap();
        let allowed = available_cores().unwrap();
        assert!(plan.cores().iter().all(|core| allowed.contains(core)), "{plan}");
        assert!(!plan.cores().is_empty() && plan.cores().is_sorted());
        let error = Plan::new(&"0,x".parse().unwrap()).unwrap_err();
        assert!(error.to_string().starts_with("`x` is no core"), "{error}");
    }
}
