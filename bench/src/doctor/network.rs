//! Settings of the network stack.

use super::finding::{Finding, Level};
use super::machine::Machine;

/// The kernel's default since 5.4, and what annulet's listeners ask for.
const BACKLOG_WANTED: u64 = 4096;
/// TIME_WAIT of the kernel (TCP_TIMEWAIT_LEN), not to be set.
const TIME_WAIT_S: u64 = 60;

/// All of them.
pub(crate) fn findings(machine: &Machine) -> Vec<Finding> {
    vec![backlog(machine), half_open(machine), ports(machine), congestion(machine)]
}

fn backlog(machine: &Machine) -> Finding {
    let name = "listen backlog";
    match machine.number("/proc/sys/net/core/somaxconn") {
        None => Finding::unknown(name, "net.core.somaxconn cannot be read"),
        Some(value) if value >= BACKLOG_WANTED => Finding::good(name, value.to_string()),
        Some(value) => Finding::new(
            Level::Costs,
            name,
            value.to_string(),
            format!("of more than {value} connections that come at once, the rest is tried again after 1 s"),
            format!("sysctl -w net.core.somaxconn={BACKLOG_WANTED}"),
        ),
    }
}

fn half_open(machine: &Machine) -> Finding {
    let name = "half-open connections";
    match machine.number("/proc/sys/net/ipv4/tcp_max_syn_backlog") {
        None => Finding::unknown(name, "net.ipv4.tcp_max_syn_backlog cannot be read"),
        Some(value) if value >= 1024 => Finding::good(name, value.to_string()),
        Some(value) => Finding::new(
            Level::Costs,
            name,
            value.to_string(),
            "bursts of new connections over a network fall back to SYN cookies, or are dropped",
            format!("sysctl -w net.ipv4.tcp_max_syn_backlog={BACKLOG_WANTED}"),
        ),
    }
}

fn ports(machine: &Machine) -> Finding {
    let name = "ephemeral ports";
    let range = machine.read("/proc/sys/net/ipv4/ip_local_port_range");
    let bounds = range.as_deref().and_then(|text| {
        let mut numbers = text.split_whitespace().map_while(|word| word.parse::<u64>().ok());
        Some((numbers.next()?, numbers.next()?))
    });
    let Some((first, last)) = bounds else {
        return Finding::unknown(name, "net.ipv4.ip_local_port_range cannot be read");
    };
    let count = (last + 1).saturating_sub(first);
    let found = format!("{count} ({first} to {last})");
    if count >= 60_000 {
        return Finding::good(name, found);
    }
    Finding::new(
        if count < 28_000 { Level::Costs } else { Level::Note },
        name,
        found,
        format!(
            "a load from one address holds no more than {count} connections to a server, and opens no more than {} a second \
             for long if it is the side that closes them",
            count / TIME_WAIT_S
        ),
        "sysctl -w net.ipv4.ip_local_port_range='1024 65535', or more source addresses (load --source)",
    )
}

fn congestion(machine: &Machine) -> Finding {
    let name = "congestion control";
    match machine.read("/proc/sys/net/ipv4/tcp_congestion_control") {
        None => Finding::unknown(name, "net.ipv4.tcp_congestion_control cannot be read"),
        Some(value) if value.starts_with("bbr") => Finding::new(
            Level::Note,
            name,
            value,
            "it spaces packets by timers: meant for long lines, some CPU per answer on loopback and in a data centre",
            "sysctl -w net.ipv4.tcp_congestion_control=cubic",
        ),
        Some(value) => Finding::good(name, value),
    }
}

#[cfg(test)]
mod tests {
    use super::super::machine::tests::Fake;
    use super::*;

    #[test]
    fn each() {
        let check = |somaxconn: &str, half_open: &str, ports: &str, control: &str, expected: [Level; 4]| {
            let fake = Fake::new(&[
                ("/proc/sys/net/core/somaxconn", somaxconn),
                ("/proc/sys/net/ipv4/tcp_max_syn_backlog", half_open),
                ("/proc/sys/net/ipv4/ip_local_port_range", ports),
                ("/proc/sys/net/ipv4/tcp_congestion_control", control),
            ]);
            let findings = findings(&fake.machine());
            let found: Vec<Level> = findings.iter().map(|finding| finding.level).collect();
            assert_eq!(found, expected, "{findings:?}");
        };
        use Level::{Costs, Good, Note};
        check("4096", "2048", "1024\t65535", "cubic", [Good, Good, Good, Good]);
        check("128", "512", "32768\t60999", "bbr", [Costs, Costs, Note, Note]);
        check("4096", "2048", "40000 41000", "cubic", [Good, Good, Costs, Good]);
        check("", "", "", "cubic", [Note, Note, Note, Good]);
    }

    #[test]
    fn connections_a_second() {
        let fake = Fake::new(&[("/proc/sys/net/ipv4/ip_local_port_range", "32768 60999")]);
        assert!(findings(&fake.machine())[2].costs.contains("more than 470 a second"));
    }
}
