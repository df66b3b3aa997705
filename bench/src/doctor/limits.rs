//! Limits of the process: descriptors, locked memory, CPU quota.

use super::finding::{Finding, Level};
use super::machine::Machine;

/// Ten thousand clients and what else a process opens.
const DESCRIPTORS_WANTED: u64 = 10_240;
/// Queues and buffer ring of one loop take less than half of it.
const LOCKED_BYTES_PER_LOOP: u64 = 1 << 20;

/// All of them.
pub(crate) fn findings(machine: &Machine, cores: usize) -> Vec<Finding> {
    vec![descriptors(machine), locked_memory(machine, cores), quota(machine, cores)]
}

fn descriptors(machine: &Machine) -> Finding {
    let name = "open files";
    let Some(limit) = machine.limit("Max open files") else {
        return Finding::unknown(name, "/proc/self/limits cannot be read");
    };
    let (Some(soft), hard) = (limit.soft, limit.hard) else { return Finding::good(name, "unlimited") };
    let found = format!("{soft}");
    if soft >= DESCRIPTORS_WANTED {
        return Finding::good(name, found);
    }
    let costs = format!("no more than {soft} connections; further ones wait until one is closed");
    let cure = match hard {
        Some(hard) if hard < DESCRIPTORS_WANTED => {
            format!(
                "LimitNOFILE=65536 in the unit, or nofile in /etc/security/limits.conf (the hard limit is {hard})"
            )
        }
        _ => "ulimit -n 65536".to_owned(),
    };
    Finding::new(Level::Costs, name, found, costs, cure)
}

fn locked_memory(machine: &Machine, cores: usize) -> Finding {
    let name = "locked memory";
    if machine.may_lock_memory() {
        return Finding::good(name, "no limit for this process (CAP_IPC_LOCK)");
    }
    let Some(limit) = machine.limit("Max locked memory") else {
        return Finding::unknown(name, "/proc/self/limits cannot be read");
    };
    let wanted = LOCKED_BYTES_PER_LOOP * cores as u64;
    match limit.soft {
        None => Finding::good(name, "unlimited"),
        Some(soft) if soft >= wanted => Finding::good(name, format!("{} KiB", soft / 1024)),
        Some(soft) => Finding::new(
            Level::Costs,
            name,
            format!("{} KiB for {cores} cores", soft / 1024),
            "rings are made smaller or not at all when it is used up",
            "ulimit -l unlimited, or LimitMEMLOCK=infinity in the unit",
        ),
    }
}

fn quota(machine: &Machine, cores: usize) -> Finding {
    let name = "CPU quota";
    match machine.cpu_quota() {
        None => Finding::good(name, "none"),
        Some(quota) if quota >= cores as f64 => Finding::good(name, format!("{quota} of {cores} cores")),
        Some(quota) => Finding::new(
            Level::Costs,
            name,
            format!("{quota} cores, on a machine where {cores} may be used"),
            "loops on all cores use the quota up early in each period and then stand still for the rest of it (tens of ms)",
            format!(
                "run on {} cores (--cores), or raise the limit (cpu.max; resources.limits.cpu)",
                quota.floor().max(1.0)
            ),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::machine::tests::Fake;
    use super::*;

    fn limits(files: &str, locked: &str) -> String {
        format!("Max open files            {files}   files\nMax locked memory         {locked}   bytes")
    }

    #[test]
    fn each() {
        let check = |limits: &str, more: &[(&str, &str)], expected: [Level; 3]| {
            let mut files = vec![("/proc/self/limits", limits)];
            files.extend_from_slice(more);
            let findings = findings(&Fake::new(&files).machine(), 4);
            let found: Vec<Level> = findings.iter().map(|finding| finding.level).collect();
            assert_eq!(found, expected, "{findings:?}");
        };
        use Level::{Costs, Good};
        let group = ("/proc/self/cgroup", "0::/");
        check(&limits("65536 65536", "unlimited unlimited"), &[], [Good, Good, Good]);
        check(&limits("1024 524288", "8388608 8388608"), &[], [Costs, Good, Good]);
        check(&limits("unlimited unlimited", "65536 65536"), &[], [Good, Costs, Good]);
        check(
            &limits("65536 65536", "65536 65536"),
            &[
                ("/proc/self/status", "CapEff:\t0000000000004000"),
                group,
                ("/sys/fs/cgroup/cpu.max", "250000 100000"),
            ],
            [Good, Good, Costs],
        );
    }

    #[test]
    fn cures_fit() {
        let cure = |limits: &str| {
            let fake = Fake::new(&[("/proc/self/limits", limits)]);
            findings(&fake.machine(), 1)[0].cure.clone().unwrap()
        };
        assert_eq!(cure(&limits("1024 524288", "1 1")), "ulimit -n 65536");
        assert!(cure(&limits("1024 4096", "1 1")).contains("LimitNOFILE"));
    }
}
