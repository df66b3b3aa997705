//! Which cores a program may run on, which of them its loops take, and how a thread is bound to one.
//!
//! "Core" is what Linux calls a CPU: a hardware thread, by its number. What may be used is the affinity mask the
//! program was started with, so that `taskset`, `systemd` and cgroup cpusets are respected; this module never goes
//! around it. [`Plan`] applies a [`Policy`] to the machine, its topology and its CPU quota.
//!
//! Memory of a loop is local to its core because its own thread, already bound, is the first to touch it: ring, buffers, tasks
//! and timers are made after the binding (`runtime`).

mod plan;
mod quota;
mod topology;

use std::cell::Cell;
use std::error::Error;
use std::fmt;
use std::fs;
use std::io;

use rustix::io::Errno;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

pub use plan::{Plan, Policy};
pub use quota::Quota;
pub use topology::{Cpu, Topology};

/// The cores this thread may run on, in ascending order; never empty.
///
/// Threads inherit the mask of the thread that starts them. Ask before binding the thread that asks.
///
/// # Errors
///
/// When the kernel refuses to tell, which it does on a machine with more than 1024 possible cores.
pub fn available_cores() -> io::Result<Vec<usize>> {
    let mask = sched_getaffinity(None).map_err(|errno| match errno {
        // The kernel's mask is longer than glibc's fixed cpu_set_t, see sched_getaffinity(2).
        Errno::INVAL => io::Error::new(
            io::ErrorKind::Unsupported,
            format!(
                "this machine can have more than {} cores, which annulet cannot place threads on",
                CpuSet::MAX_CPU
            ),
        ),
        errno => errno.into(),
    })?;
    Ok((0..CpuSet::MAX_CPU).filter(|&core| mask.is_set(core)).collect())
}

/// Reads a list of cores as a command line names them: `all`, or numbers and ranges as in `0,2-3`. The order is kept.
///
/// # Errors
///
/// `InvalidInput` with a message for the person who wrote the list: what is wrong with it, and which cores could be
/// named. Or as [`available_cores`].
///
/// # Examples
///
/// ```
/// use annulet::placement::{available_cores, parse_cores};
///
/// # fn main() -> std::io::Result<()> {
/// assert_eq!(parse_cores("all")?, available_cores()?);
/// let error = parse_cores("3-1").unwrap_err();
/// assert_eq!(error.to_string(), "the range `3-1` ends before it starts; write the smaller number first");
/// # Ok(())
/// # }
/// ```
pub fn parse_cores(list: &str) -> io::Result<Vec<usize>> {
    let allowed = available_cores()?;
    // Only for the wording of an error. Absent where /sys is not mounted.
    let online =
        fs::read_to_string("/sys/devices/system/cpu/online").ok().and_then(|text| parse_online(&text));
    parse(list, &allowed, online.as_deref())
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))
}

/// Binds the calling thread to one core. Threads that it starts from now on are bound to it as well.
///
/// # Errors
///
/// When the core does not exist, is offline, or is outside of the cgroup's cpuset.
pub(crate) fn pin_current_thread(core: usize) -> io::Result<()> {
    // `CpuSet::set` panics beyond its end; the kernel answers EINVAL for any core it does not have.
    let result = if core < CpuSet::MAX_CPU {
        let mut mask = CpuSet::new();
        mask.set(core);
        sched_setaffinity(None, &mask)
    } else {
        Err(Errno::INVAL)
    };
    PINNED.set(PINNED.get() || result.is_ok());
    result.map_err(|errno| match errno {
        Errno::INVAL => io::Error::new(
            io::ErrorKind::InvalidInput,
            format!(
                "cannot bind a thread to core {core}: it does not exist, is offline or outside of the cpuset"
            ),
        ),
        errno => io::Error::new(
            io::Error::from(errno).kind(),
            format!("cannot bind a thread to core {core}: {}", io::Error::from(errno)),
        ),
    })
}

/// Calls `f` while this thread, if a loop has bound it to its core, may run on every core of the process: what `f` starts
/// inherits that. A binding that is not a loop's stays.
pub(crate) fn unpinned<R>(f: impl FnOnce() -> R) -> R {
    if !PINNED.get() {
        return f();
    }
    let own = sched_getaffinity(None);
    unpin_current_thread();
    let result = f();
    if let Ok(own) = own {
        // As in `unpin_current_thread`.
        let _ = sched_setaffinity(None, &own);
    }
    result
}

thread_local! {
    /// Whether a loop has bound this thread to its core.
    static PINNED: Cell<bool> = const { Cell::new(false) };
}

/// Lets the calling thread run on every core of the process again: those of its first thread, which no loop binds.
pub(crate) fn unpin_current_thread() {
    // Best effort: a thread that stays bound is slower, not wrong.
    if let Ok(mask) = sched_getaffinity(Some(rustix::process::getpid())) {
        let _ = sched_setaffinity(None, &mask);
    }
}

/// What is wrong with a list of cores.
#[derive(PartialEq, Eq, Debug)]
enum CoreListError {
    /// No core named at all.
    Empty,
    /// Not a number, a range or `all`.
    NotACore { part: String },
    /// A range that ends before it starts.
    Backwards { part: String },
    /// Two loops on one core would take turns instead of running.
    Twice { core: usize },
    /// The machine has no such core, or it is offline.
    NotThere { core: usize, allowed: String },
    /// The core exists, but this process was started without it.
    NotAllowed { core: usize, allowed: String },
}

impl fmt::Display for CoreListError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CoreListError::Empty => {
                write!(f, "the list of cores is empty; name some, as in `0,2-3`, or `all`")
            }
            CoreListError::NotACore { part } => {
                write!(f, "`{part}` is no core; write numbers and ranges, as in `0,2-3`, or `all`")
            }
            CoreListError::Backwards { part } => {
                write!(f, "the range `{part}` ends before it starts; write the smaller number first")
            }
            CoreListError::Twice { core } => {
                write!(f, "core {core} is named twice; one loop runs on each core, so name it once")
            }
            CoreListError::NotThere { core, allowed } => {
                write!(f, "this machine has no core {core} that is online; this process may use {allowed}")
            }
            CoreListError::NotAllowed { core, allowed } => write!(
                f,
                "core {core} is not in the affinity mask of this process, which may use {allowed}; choose among these, \
                 or widen the mask (taskset, the cpuset of the cgroup or container)"
            ),
        }
    }
}

impl Error for CoreListError {}

fn parse(list: &str, allowed: &[usize], online: Option<&[usize]>) -> Result<Vec<usize>, CoreListError> {
    let list = list.trim();
    if list == "all" {
        return Ok(allowed.to_vec());
    }
    if list.is_empty() {
        return Err(CoreListError::Empty);
    }
    let mut cores = Vec::new();
    for part in list.split(',') {
        let (first, last) =
            parse_range(part).ok_or_else(|| CoreListError::NotACore { part: part.to_owned() })?;
        if first > last {
            return Err(CoreListError::Backwards { part: part.to_owned() });
        }
        // However long the range: it ends at the first core that may not be used.
        for core in first..=last {
            if !allowed.contains(&core) {
                let allowed = describe(allowed);
                // Where it is not known which cores there are, the mask is the better guess.
                return Err(if online.is_none_or(|online| online.contains(&core)) {
                    CoreListError::NotAllowed { core, allowed }
                } else {
                    CoreListError::NotThere { core, allowed }
                });
            }
            if cores.contains(&core) {
                return Err(CoreListError::Twice { core });
            }
            cores.push(core);
        }
    }
    Ok(cores)
}

/// The kernel's own format of `/sys/devices/system/cpu/online`: `0-3,8`.
fn parse_online(text: &str) -> Option<Vec<usize>> {
    let ranges: Option<Vec<_>> = text.trim().split(',').map(parse_range).collect();
    Some(ranges?.into_iter().flat_map(|(first, last)| first..=last.min(CpuSet::MAX_CPU)).collect())
}

/// `3` or `2-3`.
fn parse_range(part: &str) -> Option<(usize, usize)> {
    let (first, last) = part.split_once('-').unwrap_or((part, part));
    Some((parse_number(first)?, parse_number(last)?))
}

/// Digits with white space around them; `str::parse` alone would take a `+` as well.
fn parse_number(text: &str) -> Option<usize> {
    let text = text.trim();
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

/// Ascending cores, for a message: `core 1`, `cores 0,2-3`.
fn describe(cores: &[usize]) -> String {
    let runs = cores.chunk_by(|a, b| a + 1 == *b).map(|run| match run {
        [core] => core.to_string(),
        [first, .., last] => format!("{first}-{last}"),
        [] => unreachable!("chunk_by gives no empty chunks"),
    });
    let noun = if cores.len() == 1 { "core" } else { "cores" };
    format!("{noun} {}", runs.collect::<Vec<_>>().join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cores 0 to 7 online, 8 to 11 absent, this process on 0 and 2 to 5.
    fn check(list: &str, expected: Result<&[usize], &str>) {
        let parsed = parse(list, &[0, 2, 3, 4, 5], Some(&[0, 1, 2, 3, 4, 5, 6, 7]));
        assert_eq!(
            parsed.as_deref().map_err(ToString::to_string),
            expected.map_err(str::to_owned),
            "{list:?}"
        );
    }

    #[test]
    fn lists() {
        check("0", Ok(&[0]));
        check("2-4", Ok(&[2, 3, 4]));
        check("3-3", Ok(&[3]));
        check("0,2-3", Ok(&[0, 2, 3]));
        check("5,0,2-3", Ok(&[5, 0, 2, 3]));
        check(" 0 , 2 - 3 ", Ok(&[0, 2, 3]));
        check("all", Ok(&[0, 2, 3, 4, 5]));
    }

    #[test]
    fn errors_name_cause_and_cure() {
        let empty = "the list of cores is empty; name some, as in `0,2-3`, or `all`";
        check("", Err(empty));
        check("  ", Err(empty));
        for part in ["x", "-1", "+1", "1.5", "0x2", "2-", "-", "2-3-4", "ALL", "99999999999999999999999"] {
            let message = format!("`{part}` is no core; write numbers and ranges, as in `0,2-3`, or `all`");
            check(part, Err(&message));
        }
        check("0,,2", Err("`` is no core; write numbers and ranges, as in `0,2-3`, or `all`"));
        check("0,all", Err("`all` is no core; write numbers and ranges, as in `0,2-3`, or `all`"));
        check("4-2", Err("the range `4-2` ends before it starts; write the smaller number first"));
        check("0,2,0", Err("core 0 is named twice; one loop runs on each core, so name it once"));
        check("2-4,3", Err("core 3 is named twice; one loop runs on each core, so name it once"));
        check("8", Err("this machine has no core 8 that is online; this process may use cores 0,2-5"));
        let not_allowed = |core| {
            format!(
                "core {core} is not in the affinity mask of this process, which may use cores 0,2-5; choose among \
                 these, or widen the mask (taskset, the cpuset of the cgroup or container)"
            )
        };
        check("1", Err(&not_allowed(1)));
        check("5-18446744073709551615", Err(&not_allowed(6)));
    }

    #[test]
    fn without_sys_the_mask_is_blamed() {
        let error = parse("9", &[3], None).unwrap_err();
        assert_eq!(error, CoreListError::NotAllowed { core: 9, allowed: "core 3".to_owned() });
    }

    #[test]
    fn the_kernels_own_format() {
        assert_eq!(parse_online("0\n"), Some(vec![0]));
        assert_eq!(parse_online("0-3,8\n"), Some(vec![0, 1, 2, 3, 8]));
        assert_eq!(parse_online("\n"), None);
    }

    #[test]
    fn a_thread_runs_where_it_is_bound() {
        let cores = available_cores().unwrap();
        assert!(!cores.is_empty() && cores.is_sorted());
        for core in cores {
            // A thread of its own: the binding ends with it.
            let bound = std::thread::spawn(move || {
                pin_current_thread(core).unwrap();
                (available_cores().unwrap(), rustix::thread::sched_getcpu())
            });
            assert_eq!(bound.join().unwrap(), (vec![core], core));
        }
    }

    #[test]
    fn a_thread_of_a_bound_one_is_free_again() {
        let cores = available_cores().unwrap();
        let first = cores[0];
        let free = std::thread::spawn(move || {
            pin_current_thread(first).unwrap();
            std::thread::spawn(|| {
                let inherited = available_cores().unwrap();
                unpin_current_thread();
                (inherited, available_cores().unwrap())
            })
            .join()
            .unwrap()
        });
        assert_eq!(free.join().unwrap(), (vec![first], cores));
    }

    #[test]
    fn a_core_that_is_not_there() {
        for core in [CpuSet::MAX_CPU - 1, CpuSet::MAX_CPU, usize::MAX] {
            if available_cores().unwrap().contains(&core) {
                println!("a_core_that_is_not_there: skipped for core {core}, which this machine has");
                continue;
            }
            let error = pin_current_thread(core).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
            let message = format!("cannot bind a thread to core {core}: it does not exist");
            assert!(error.to_string().starts_with(&message), "{error}");
        }
    }

    #[test]
    fn the_machines_own_list() {
        assert_eq!(parse_cores("all").unwrap(), available_cores().unwrap());
        let error = parse_cores("1000000").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
}
