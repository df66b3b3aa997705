//! What is read about the machine: files below /proc and /sys, from a root that tests choose.

use std::fs;
use std::path::{Path, PathBuf};

/// The files of a machine.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    root: PathBuf,
}

/// A limit of the process (getrlimit(2)); `None` is "unlimited".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limit {
    pub(crate) soft: Option<u64>,
    pub(crate) hard: Option<u64>,
}

/// CAP_IPC_LOCK of capabilities(7).
const CAP_IPC_LOCK: u32 = 14;

impl Machine {
    pub(crate) fn new(root: &Path) -> Machine {
        Machine { root: root.to_owned() }
    }

    /// A file's text without the white space around it; `None` if it is not there or not ours to read.
    pub(crate) fn read(&self, path: &str) -> Option<String> {
        let text = fs::read_to_string(self.root.join(path.trim_start_matches('/'))).ok()?;
        Some(text.trim().to_owned())
    }

    /// A file that holds a number.
    pub(crate) fn number(&self, path: &str) -> Option<u64> {
        self.read(path)?.parse().ok()
    }

    /// A line of /proc/self/limits, by its name there.
    pub(crate) fn limit(&self, name: &str) -> Option<Limit> {
        let limits = self.read("/proc/self/limits")?;
        let line = limits.lines().find_map(|line| line.strip_prefix(name))?;
        let mut words = line.split_whitespace();
        let mut value = || -> Option<Option<u64>> {
            match words.next()? {
                "unlimited" => Some(None),
                number => Some(Some(number.parse().ok()?)),
            }
        };
        Some(Limit { soft: value()?, hard: value()? })
    }

    /// A field of /proc/self/status.
    pub(crate) fn status(&self, name: &str) -> Option<String> {
        let status = self.read("/proc/self/status")?;
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        Some(line.trim().to_owned())
    }

    /// Whether memory may be locked without limit.
    pub(crate) fn may_lock_memory(&self) -> bool {
        let capabilities = self.status("CapEff").and_then(|text| u64::from_str_radix(&text, 16).ok());
        capabilities.is_some_and(|set| set & (1 << CAP_IPC_LOCK) != 0)
    }

    /// Whether a seccomp filter stands between us and the kernel.
    pub(crate) fn has_seccomp_filter(&self) -> bool {
        self.status("Seccomp").as_deref() == Some("2")
    }

    /// `(major, minor)` of the kernel.
    pub(crate) fn kernel(&self) -> Option<(u32, u32)> {
        let release = self.read("/proc/sys/kernel/osrelease")?;
        let mut parts = release.split(|c: char| !c.is_ascii_digit());
        Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
    }

    /// The smallest CPU quota on the way to this process's control group, in cores.
    pub(crate) fn cpu_quota(&self) -> Option<f64> {
        let groups = self.read("/proc/self/cgroup")?;
        let quotas = groups.lines().filter_map(|line| {
            let mut fields = line.splitn(3, ':');
            let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
            match controllers {
                "" => self.smallest_quota("/sys/fs/cgroup", path, Machine::quota_v2),
                list if list.split(',').any(|each| each == "cpu") => {
                    self.smallest_quota("/sys/fs/cgroup/cpu", path, Machine::quota_v1)
                }
                _ => None,
            }
        });
        quotas.reduce(f64::min)
    }

    /// Over the group and all those above it.
    fn smallest_quota(
        &self,
        mount: &str,
        path: &str,
        read: fn(&Machine, &str) -> Option<f64>,
    ) -> Option<f64> {
        // Inside of a container the group's own path may not be visible; its top is then the mount.
        let groups = Path::new(path).ancestors().map(|group| format!("{mount}{}", group.display()));
        groups.filter_map(|group| read(self, group.trim_end_matches('/'))).reduce(f64::min)
    }

    fn quota_v2(&self, group: &str) -> Option<f64> {
        let text = self.read(&format!("{group}/cpu.max"))?;
        let (quota, period) = text.split_once(' ')?;
        Some(quota.parse::<f64>().ok()? / period.parse::<f64>().ok()?)
    }

    fn quota_v1(&self, group: &str) -> Option<f64> {
        let quota: f64 = self.read(&format!("{group}/cpu.cfs_quota_us"))?.parse().ok()?;
        let period: f64 = self.read(&format!("{group}/cpu.cfs_period_us"))?.parse().ok()?;
        (quota > 0.0).then_some(quota / period)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A machine made of these files.
    pub(in super::super) struct Fake(tempfile::TempDir);

    impl Fake {
        pub(in super::super) fn new(files: &[(&str, &str)]) -> Fake {
            let fake = Fake(tempfile::tempdir().unwrap());
            for (path, text) in files {
                let path = fake.0.path().join(path.trim_start_matches('/'));
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, format!("{text}\n")).unwrap();
            }
            fake
        }

        pub(in super::super) fn machine(&self) -> Machine {
            Machine::new(self.0.path())
        }
    }

    #[test]
    fn limits() {
        let text = "Limit                     Soft Limit           Hard Limit           Units     \n\
                    Max open files            1024                 524288               files     \n\
                    Max locked memory         unlimited            unlimited            bytes     ";
        let fake = Fake::new(&[("/proc/self/limits", text)]);
        let check = |name, expected| assert_eq!(fake.machine().limit(name), expected);
        check("Max open files", Some(Limit { soft: Some(1024), hard: Some(524_288) }));
        check("Max locked memory", Some(Limit { soft: None, hard: None }));
        check("Max colours", None);
    }

    #[test]
    fn status_and_kernel() {
        let check = |status: &str, locks, filtered| {
            let fake =
                Fake::new(&[("/proc/self/status", status), ("/proc/sys/kernel/osrelease", "6.18.44-x")]);
            let machine = fake.machine();
            assert_eq!(
                (machine.may_lock_memory(), machine.has_seccomp_filter()),
                (locks, filtered),
                "{status}"
            );
            assert_eq!(machine.kernel(), Some((6, 18)));
        };
        check("CapEff:\t000001fffeffffff\nSeccomp:\t0\nSeccomp_filters:\t0", true, false);
        check("CapEff:\t00000000a80425fb\nSeccomp:\t2\nSeccomp_filters:\t1", false, true);
        check("Name: x", false, false);
    }

    #[test]
    fn quotas() {
        let check = |files: &[(&str, &str)], expected| {
            assert_eq!(Fake::new(files).machine().cpu_quota(), expected, "{files:?}");
        };
        check(&[], None);
        check(&[("/proc/self/cgroup", "0::/a/b"), ("/sys/fs/cgroup/a/b/cpu.max", "max 100000")], None);
        check(
            &[
                ("/proc/self/cgroup", "0::/a/b"),
                ("/sys/fs/cgroup/a/b/cpu.max", "400000 100000"),
                ("/sys/fs/cgroup/a/cpu.max", "150000 100000"),
            ],
            Some(1.5),
        );
        // In a container the path leads nowhere and the mount itself has the file.
        check(&[("/proc/self/cgroup", "0::/../x"), ("/sys/fs/cgroup/cpu.max", "50000 100000")], Some(0.5));
        check(
            &[
                ("/proc/self/cgroup", "4:cpuacct,cpu:/d\n1:memory:/d"),
                ("/sys/fs/cgroup/cpu/d/cpu.cfs_quota_us", "200000"),
                ("/sys/fs/cgroup/cpu/d/cpu.cfs_period_us", "100000"),
            ],
            Some(2.0),
        );
    }
}
