//! How much CPU time the control groups of this process leave it: cpu.max of version 2, cpu.cfs_quota_us of version 1, and
//! the cpuset. See Documentation/admin-guide/cgroup-v2.rst and scheduler/sched-bwc.rst of Linux.

use std::fs;
use std::path::{Path, PathBuf};

/// A limit on CPU time.
#[derive(Clone, Debug, PartialEq)]
pub struct Quota {
    /// In CPUs: 1.5 stands for one and a half.
    pub cpus: f64,
    /// The file that says so.
    pub source: PathBuf,
}

impl Quota {
    /// The tightest limit on this process, below `root` (`/` but in tests). None if there is none, or it cannot be read.
    pub(super) fn read(root: &Path) -> Option<Self> {
        let groups = Groups::read(root);
        let quotas = groups.unified.iter().filter_map(|dir| unified_quota(dir)).chain(
            groups.cpu.iter().filter_map(|dir| {
                let period = number(&dir.join("cpu.cfs_period_us"))?;
                let source = dir.join("cpu.cfs_quota_us");
                // -1: no limit.
                let quota = number(&source).filter(|&quota| quota > 0.0)?;
                (period > 0.0).then(|| Quota { cpus: quota / period, source })
            }),
        );
        quotas.min_by(|one, other| one.cpus.total_cmp(&other.cpus))
    }

    /// How many loops make use of it: one for each CPU begun, at least one.
    pub fn loops(&self) -> usize {
        (self.cpus.ceil() as usize).max(1)
    }
}

/// The CPUs that the cpuset of this process's control group holds. None if there is none, or it cannot be read.
pub(super) fn cpuset(root: &Path) -> Option<Vec<usize>> {
    let groups = Groups::read(root);
    let unified = groups.unified.first().map(|dir| dir.join("cpuset.cpus.effective"));
    let old = groups.cpuset.first().map(|dir| dir.join("cpuset.effective_cpus"));
    unified
        .into_iter()
        .chain(old)
        .find_map(|path| super::parse_online(&fs::read_to_string(path).ok()?))
        .filter(|cpus| !cpus.is_empty())
}

/// `max 100000` or `150000 100000`.
fn unified_quota(dir: &Path) -> Option<Quota> {
    let source = dir.join("cpu.max");
    let text = fs::read_to_string(&source).ok()?;
    let (quota, period) = text.trim().split_once(' ')?;
    let (quota, period): (f64, f64) = (quota.parse().ok()?, period.parse().ok()?);
    (quota > 0.0 && period > 0.0).then(|| Quota { cpus: quota / period, source })
}

fn number(path: &Path) -> Option<f64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// The directories of the control groups of this process, each followed by those above it.
#[derive(Debug, Default)]
struct Groups {
    unified: Vec<PathBuf>,
    cpu: Vec<PathBuf>,
    cpuset: Vec<PathBuf>,
}

impl Groups {
    fn read(root: &Path) -> Self {
        let mut groups = Groups::default();
        let Ok(text) = fs::read_to_string(root.join("proc/self/cgroup")) else { return groups };
        // `hierarchy:controllers:path`, see cgroups(7).
        for line in text.lines() {
            let mut parts = line.splitn(3, ':');
            let (Some(hierarchy), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next())
            else {
                continue;
            };
            if hierarchy == "0" && controllers.is_empty() {
                groups.unified = upwards(&root.join("sys/fs/cgroup"), path);
                continue;
            }
            // Mounted under the names of all its controllers; distributions link the single names to it.
            let mount = root.join("sys/fs/cgroup").join(controllers);
            let has = |name| controllers.split(',').any(|controller| controller == name);
            if has("cpu") {
                groups.cpu = upwards(&mount, path);
            }
            if has("cpuset") {
                groups.cpuset = upwards(&mount, path);
            }
        }
        groups
    }
}

/// A group's directory and those above it, up to the mount. In a container that sees its own group as the root, what the kernel
/// calls the path may not be there; its limit stands at the mount then.
fn upwards(mount: &Path, path: &str) -> Vec<PathBuf> {
    let group = mount.join(path.trim_start_matches('/'));
    group
        .ancestors()
        .take_while(|dir| dir.starts_with(mount))
        .filter(|dir| dir.is_dir())
        .map(Path::to_owned)
        .collect()
}
