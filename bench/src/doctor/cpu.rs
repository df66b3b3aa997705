//! Cores, their clock and their memory: what makes the same work take longer at one time than at another.

use super::finding::{Finding, Level};
use super::machine::Machine;

/// All of them.
pub(crate) fn findings(machine: &Machine, cores: usize) -> Vec<Finding> {
    vec![count(cores), governor(machine), isolation(machine), clock(machine), huge_pages(machine)]
}

fn count(cores: usize) -> Finding {
    let name = "cores";
    if cores >= 2 {
        return Finding::good(name, format!("{cores} may be used"));
    }
    Finding::new(
        Level::Costs,
        name,
        "1 may be used",
        "server and load share it: no latency and no rate measured like this means much",
        "measure with two cores or more (taskset, cpuset.cpus)",
    )
}

fn governor(machine: &Machine) -> Finding {
    let name = "CPU governor";
    match machine.read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor") {
        None => Finding::unknown(name, "not to be seen from here (a virtual machine, as a rule)"),
        Some(value) if value == "performance" => Finding::good(name, value),
        Some(value) => Finding::new(
            Level::Costs,
            name,
            value,
            "cores run slower when there is little to do: latency at low load is that of a slow core, and rounds differ",
            "cpupower frequency-set -g performance",
        ),
    }
}

fn isolation(machine: &Machine) -> Finding {
    let name = "isolated cores";
    match machine.read("/sys/devices/system/cpu/isolated") {
        Some(list) if !list.is_empty() => Finding::good(name, list),
        _ => Finding::new(
            Level::Note,
            name,
            "none",
            "other processes and interrupts take their time from the loops: the tail of the latency shows it",
            "isolcpus=2-3 nohz_full=2-3 on the kernel's command line, and --cores 2,3",
        ),
    }
}

fn clock(machine: &Machine) -> Finding {
    let name = "clock source";
    match machine.read("/sys/devices/system/clocksource/clocksource0/current_clocksource") {
        None => Finding::unknown(name, "cannot be read"),
        // Those that the vDSO reads without a system call.
        Some(value)
            if ["tsc", "kvm-clock", "hyperv_clocksource_tsc_page", "arch_sys_counter"]
                .contains(&value.as_str()) =>
        {
            Finding::good(name, value)
        }
        Some(value) => Finding::new(
            Level::Costs,
            name,
            value,
            "every look at the clock is a system call, or slower: a microsecond instead of some 25 ns",
            "clocksource=tsc on the kernel's command line, if dmesg does not call it unstable",
        ),
    }
}

fn huge_pages(machine: &Machine) -> Finding {
    let name = "transparent huge pages";
    let Some(text) = machine.read("/sys/kernel/mm/transparent_hugepage/enabled") else {
        return Finding::good(name, "not in this kernel");
    };
    let chosen = text.split_once('[').and_then(|(_, rest)| rest.split_once(']')).map_or("", |(word, _)| word);
    if chosen != "always" {
        return Finding::good(name, chosen.to_owned());
    }
    Finding::new(
        Level::Costs,
        name,
        "always",
        "a page fault may clear or gather 2 MiB before it returns, which the tail of the latency shows; memory per idle \
         connection grows",
        "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled",
    )
}

#[cfg(test)]
mod tests {
    use super::super::machine::tests::Fake;
    use super::*;

    #[test]
    fn each() {
        let check = |cores, files: &[(&str, &str)], expected: [Level; 5]| {
            let findings = findings(&Fake::new(files).machine(), cores);
            let found: Vec<Level> = findings.iter().map(|finding| finding.level).collect();
            assert_eq!(found, expected, "{findings:?}");
        };
        use Level::{Costs, Good, Note};
        let governor = "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor";
        let isolated = "/sys/devices/system/cpu/isolated";
        let clock = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
        let pages = "/sys/kernel/mm/transparent_hugepage/enabled";
        check(
            4,
            &[
                (governor, "performance"),
                (isolated, "2-3"),
                (clock, "tsc"),
                (pages, "always [madvise] never"),
            ],
            [Good; 5],
        );
        check(
            1,
            &[(governor, "powersave"), (isolated, ""), (clock, "hpet"), (pages, "[always] madvise never")],
            [Costs, Costs, Note, Costs, Costs],
        );
        check(2, &[], [Good, Note, Note, Note, Good]);
    }
}
