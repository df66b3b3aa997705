//! io_uring: can a ring be had, and if not, who forbids it? What can it do?

use std::io;

use annulet::{DriverKind, Feature};
use io_uring::{IoUring, Probe, opcode};

use super::finding::{Finding, Level};
use super::machine::Machine;

/// EPERM, ENOSYS and ENOMEM of errno(3), the same on every architecture of Linux but Alpha, MIPS and SPARC.
const EPERM: i32 = 1;
const ENOMEM: i32 = 12;
const ENOSYS: i32 = 38;

/// What came of asking for a ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Attempt {
    /// Features and opcodes that are missing, by name.
    Made { features_missing: Vec<&'static str>, opcodes_missing: Vec<&'static str>, environment: Environment },
    /// There is a ring, and loops cannot be started all the same: what they say.
    Unstarted(String),
    /// The error number of io_uring_setup(2).
    Refused(i32),
}

/// What the environment has loops do without, whatever the kernel has. Empty where it says nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Environment {
    /// `ANNULET_DRIVER`.
    driver: String,
    /// `ANNULET_RING_MASK`.
    mask: String,
}

impl Environment {
    fn new() -> Environment {
        let value = |name| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned());
        Environment {
            driver: value("ANNULET_DRIVER").unwrap_or_default(),
            mask: value("ANNULET_RING_MASK").unwrap_or_default(),
        }
    }

    fn has_ring(&self) -> bool {
        self.driver.is_empty() || self.driver == DriverKind::IoUring.name()
    }

    fn masks(&self, feature: &str) -> bool {
        self.mask.split(',').any(|name| name.trim() == feature)
    }
}

/// Asks the kernel.
pub(crate) fn attempt() -> Attempt {
    let ring = match IoUring::new(2) {
        Ok(ring) => ring,
        Err(error) => return Attempt::Refused(error.raw_os_error().unwrap_or(0)),
    };
    let mut probe = Probe::new();
    // Where the probe is not known (before 5.6) nothing is supported, which is what it then says.
    let _ = ring.submitter().register_probe(&mut probe);
    let opcodes_missing =
        OPCODES.iter().filter(|(_, code)| !probe.is_supported(*code)).map(|(name, _)| *name).collect();
    let features_missing = match those_in_use() {
        Ok(features) => missing(&features),
        Err(error) => return Attempt::Unstarted(error.to_string()),
    };
    Attempt::Made { features_missing, opcodes_missing, environment: Environment::new() }
}

/// What a server's loops make use of.
fn those_in_use() -> io::Result<Vec<Feature>> {
    let mut cores = annulet::placement::available_cores()?;
    let is_alone = cores.len() == 1;
    // Two are as good as all.
    cores.truncate(2);
    let loops = annulet::Builder::new().cores(cores).start(|_| async {})?;
    let ring = loops.capabilities();
    loops.join()?;
    // A loop without another one has nobody to ring.
    let is_there = |feature: Feature| ring.has(feature) || is_alone && feature == Feature::MsgRing;
    Ok(Feature::ALL.iter().copied().filter(|feature| is_there(*feature)).collect())
}

/// By name. One flag stands in for another, and is not set where that is.
fn missing(has: &[Feature]) -> Vec<&'static str> {
    let replaced = |feature: Feature| feature == Feature::CoopTaskrun && has.contains(&Feature::DeferTaskrun);
    let missing = Feature::ALL.iter().filter(|feature| !has.contains(feature) && !replaced(**feature));
    missing.map(|feature| feature.name()).collect()
}

/// What the runtime submits, with the kernel that brought it.
const OPCODES: &[(&str, u8)] = &[
    ("accept (5.5)", opcode::Accept::CODE),
    ("connect (5.5)", opcode::Connect::CODE),
    ("async_cancel (5.5)", opcode::AsyncCancel::CODE),
    ("send (5.6)", opcode::Send::CODE),
    ("recv (5.6)", opcode::Recv::CODE),
    ("close (5.6)", opcode::Close::CODE),
    ("openat (5.6)", opcode::OpenAt::CODE),
    ("statx (5.6)", opcode::Statx::CODE),
    ("read (5.6)", opcode::Read::CODE),
    ("write (5.6)", opcode::Write::CODE),
    ("shutdown (5.11)", opcode::Shutdown::CODE),
    ("timeout (5.4)", opcode::Timeout::CODE),
    ("poll_add (5.1)", opcode::PollAdd::CODE),
    ("msg_ring (5.18)", opcode::MsgRingData::CODE),
    ("socket (5.19)", opcode::Socket::CODE),
    ("send_zc (6.0)", opcode::SendZc::CODE),
];

/// Features without which each request costs markedly more; the others cost a little.
const COSTLY: &[&str] = &["defer_taskrun", "receive_multishot", "buffer_ring", "accept_multishot"];

/// What to tell of it.
pub(crate) fn findings(machine: &Machine, attempt: &Attempt) -> Vec<Finding> {
    match attempt {
        Attempt::Refused(errno) => vec![refused(machine, *errno)],
        Attempt::Unstarted(why) => vec![Finding::new(
            Level::Broken,
            "io_uring",
            format!("a ring can be had, but loops do not start: {why}"),
            "nothing that stands on annulet runs",
            "unset ANNULET_DRIVER and ANNULET_RING_MASK if they are set; else as the message says",
        )],
        Attempt::Made { opcodes_missing, environment, .. } if !environment.has_ring() => {
            let found = format!("a ring can be had, but ANNULET_DRIVER is {}", environment.driver);
            let costs = "no loop stands on it: epoll takes more CPU per request";
            vec![
                Finding::new(Level::Costs, "io_uring", found, costs, "unset ANNULET_DRIVER"),
                opcodes(opcodes_missing),
            ]
        }
        Attempt::Made { features_missing, opcodes_missing, environment } => {
            vec![
                Finding::good("io_uring", "a ring can be had"),
                features(features_missing, environment),
                opcodes(opcodes_missing),
            ]
        }
    }
}

/// EPERM and ENOSYS come from different hands, and so do their cures.
fn refused(machine: &Machine, errno: i32) -> Finding {
    let broken = |found: &str, cure: &str| {
        Finding::new(Level::Broken, "io_uring", found, "no loop on io_uring can be started", cure)
    };
    let disabled = machine.number("/proc/sys/kernel/io_uring_disabled");
    let filtered = machine.has_seccomp_filter();
    let profile = "let the seccomp profile allow io_uring_setup, io_uring_enter and io_uring_register: docker run \
                   --security-opt seccomp=PROFILE.json, in Kubernetes securityContext.seccompProfile of type Localhost";
    match errno {
        EPERM if disabled == Some(2) => broken(
            "refused (EPERM): kernel.io_uring_disabled is 2, off for everybody",
            "sysctl -w kernel.io_uring_disabled=0",
        ),
        EPERM if disabled == Some(1) => broken(
            "refused (EPERM): kernel.io_uring_disabled is 1, and this process is neither in io_uring_group nor has \
             CAP_SYS_ADMIN",
            "sysctl -w kernel.io_uring_disabled=0, or sysctl -w kernel.io_uring_group=GID with a group of this user",
        ),
        EPERM if filtered => broken("refused (EPERM) by a seccomp filter", profile),
        EPERM => broken(
            "refused (EPERM), neither by kernel.io_uring_disabled nor by a seccomp filter: a security module, perhaps",
            "look for io_uring in the audit log (ausearch -m AVC)",
        ),
        // The file is there since 6.6 if the kernel was built with io_uring: then the answer was not the kernel's.
        ENOSYS if filtered && (disabled.is_some() || machine.kernel() >= Some((5, 1))) => {
            broken("hidden (ENOSYS) by a seccomp filter: the kernel has it", profile)
        }
        ENOSYS if machine.kernel().is_some_and(|kernel| kernel < (5, 1)) => {
            broken("not there (ENOSYS): the kernel is older than 5.1", "use Linux 6.1 or newer")
        }
        ENOSYS => broken(
            "not there (ENOSYS): the kernel was built without CONFIG_IO_URING",
            "use a kernel with CONFIG_IO_URING=y",
        ),
        ENOMEM => broken(
            "refused (ENOMEM): the ring does not fit into the memory that may be locked",
            "ulimit -l unlimited",
        ),
        other => broken(&format!("refused with error {other}"), "see io_uring_setup(2)"),
    }
}

fn features(missing: &[&str], environment: &Environment) -> Finding {
    if missing.is_empty() {
        return Finding::good("ring features", "all that annulet uses");
    }
    let list = missing.join(" ");
    let (masked, others): (Vec<&str>, Vec<&str>) = missing.iter().partition(|name| environment.masks(name));
    let cure = |newer: &str| match (masked.is_empty(), others.is_empty()) {
        (true, _) => newer.to_owned(),
        (false, true) => format!("take {} out of ANNULET_RING_MASK", masked.join(" and ")),
        // A feature that stands on a masked one is missing with it.
        (false, false) => {
            format!("take {} out of ANNULET_RING_MASK; if that is not all, {newer}", masked.join(" and "))
        }
    };
    let costly: Vec<&str> = missing.iter().copied().filter(|name| COSTLY.contains(name)).collect();
    if costly.is_empty() {
        return Finding::new(
            Level::Note,
            "ring features",
            format!("without {list}"),
            "a little CPU per request",
            cure("use a newer kernel (6.15 has all)"),
        );
    }
    Finding::new(
        Level::Costs,
        "ring features",
        format!("without {list}"),
        format!("fallbacks are used; {} cost most: up to twice the CPU per request", costly.join(" and ")),
        cure("use Linux 6.1 or newer (6.15 has all)"),
    )
}

fn opcodes(missing: &[&str]) -> Finding {
    if missing.is_empty() {
        return Finding::good("ring opcodes", format!("all {} that are looked for", OPCODES.len()));
    }
    Finding::new(
        Level::Costs,
        "ring opcodes",
        format!("without {}", missing.join(", ")),
        "what they do is done in other ways, with more system calls, or not offered",
        "use a newer kernel",
    )
}

#[cfg(test)]
mod tests {
    use super::super::machine::tests::Fake;
    use super::*;

    fn check(files: &[(&str, &str)], errno: i32, found: &str, cure: &str) {
        let findings = findings(&Fake::new(files).machine(), &Attempt::Refused(errno));
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].level, Level::Broken);
        assert!(findings[0].found.contains(found), "{:?}", findings[0]);
        assert!(findings[0].cure.as_ref().unwrap().contains(cure), "{:?}", findings[0]);
    }

    const DISABLED: &str = "/proc/sys/kernel/io_uring_disabled";
    const FILTERED: (&str, &str) = ("/proc/self/status", "Seccomp:\t2");
    const RELEASE: &str = "/proc/sys/kernel/osrelease";

    #[test]
    fn who_refused() {
        check(&[(DISABLED, "2")], EPERM, "off for everybody", "io_uring_disabled=0");
        check(&[(DISABLED, "1")], EPERM, "CAP_SYS_ADMIN", "io_uring_group");
        check(&[(DISABLED, "0"), FILTERED], EPERM, "seccomp", "io_uring_setup");
        check(&[FILTERED], EPERM, "seccomp", "io_uring_setup");
        check(&[(DISABLED, "0")], EPERM, "security module", "audit");
        check(&[(DISABLED, "0"), FILTERED], ENOSYS, "the kernel has it", "seccomp=");
        check(&[(RELEASE, "5.15.0"), FILTERED], ENOSYS, "the kernel has it", "seccomp=");
        check(&[(RELEASE, "4.19.0")], ENOSYS, "older than 5.1", "6.1");
        check(&[(RELEASE, "6.1.0")], ENOSYS, "CONFIG_IO_URING", "CONFIG_IO_URING=y");
        check(&[], ENOMEM, "locked", "ulimit -l");
        check(&[], 24, "error 24", "io_uring_setup(2)");
    }

    #[test]
    fn loops_that_do_not_start() {
        let attempt = Attempt::Unstarted("no such feature".to_owned());
        let findings = findings(&Fake::new(&[]).machine(), &attempt);
        let [finding] = &findings[..] else { panic!("{findings:?}") };
        assert_eq!(finding.level, Level::Broken);
        assert!(finding.found.ends_with("no such feature"), "{finding:?}");
    }

    #[test]
    fn what_is_missing() {
        let check = |features_missing: &[&'static str],
                     opcodes_missing: &[&'static str],
                     levels: [Level; 2]| {
            let attempt = Attempt::Made {
                features_missing: features_missing.to_vec(),
                opcodes_missing: opcodes_missing.to_vec(),
                environment: Environment::default(),
            };
            let found: Vec<Level> =
                findings(&Fake::new(&[]).machine(), &attempt).iter().map(|finding| finding.level).collect();
            assert_eq!(found, [Level::Good, levels[0], levels[1]]);
        };
        check(&[], &[], [Level::Good, Level::Good]);
        check(&["no_iowait"], &[], [Level::Note, Level::Good]);
        check(&["defer_taskrun", "no_iowait"], &["send_zc (6.0)"], [Level::Costs, Level::Costs]);
    }

    #[test]
    fn the_environment_is_named_where_it_is_the_cause() {
        let check = |driver: &str, mask: &str, features_missing: &[&'static str], name: &str, cure: &str| {
            let attempt = Attempt::Made {
                features_missing: features_missing.to_vec(),
                opcodes_missing: vec![],
                environment: Environment { driver: driver.to_owned(), mask: mask.to_owned() },
            };
            let findings = findings(&Fake::new(&[]).machine(), &attempt);
            let worse: Vec<&Finding> = findings.iter().filter(|finding| finding.cure.is_some()).collect();
            let [finding] = worse[..] else { panic!("{findings:?}") };
            assert_eq!((finding.name, finding.cure.as_deref()), (name, Some(cure)), "{driver} {mask}");
        };
        // What loops on epoll do without is no fault of the kernel's.
        check("epoll", "", &["msg_ring", "defer_taskrun"], "io_uring", "unset ANNULET_DRIVER");
        let features = "ring features";
        check("io_uring", "msg_ring", &["msg_ring"], features, "take msg_ring out of ANNULET_RING_MASK");
        check(
            "",
            "ring_fd, defer_taskrun",
            &["defer_taskrun", "ring_fd"],
            features,
            "take defer_taskrun and ring_fd out of ANNULET_RING_MASK",
        );
        check(
            "",
            "msg_ring",
            &["no_iowait", "msg_ring"],
            features,
            "take msg_ring out of ANNULET_RING_MASK; if that is not all, use a newer kernel (6.15 has all)",
        );
        check("", "ring_fd", &["no_iowait"], features, "use a newer kernel (6.15 has all)");
    }

    #[test]
    fn a_flag_that_another_replaces_is_not_missing() {
        let all_but = |names: &[Feature]| -> Vec<Feature> {
            Feature::ALL.iter().copied().filter(|feature| !names.contains(feature)).collect()
        };
        let check = |names: &[Feature], expected: &[&str]| assert_eq!(missing(&all_but(names)), expected);
        check(&[], &[]);
        check(&[Feature::CoopTaskrun], &[]);
        check(&[Feature::DeferTaskrun], &["defer_taskrun"]);
        check(&[Feature::DeferTaskrun, Feature::CoopTaskrun], &["defer_taskrun", "coop_taskrun"]);
    }

    #[test]
    fn costly_features_are_features() {
        for name in COSTLY {
            assert!(Feature::ALL.iter().any(|feature| feature.name() == *name), "{name}");
        }
    }
}
