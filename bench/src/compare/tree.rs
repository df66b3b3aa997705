//! The processes that a server consists of, and the CPU time that they have used.
//!
//! Read from /proc: the children of children by their parent's number, the time of every thread from its schedstat file,
//! which is the scheduler's own sum in nanoseconds (proc_pid_stat's counts are in hundredths of a second). It is brought up
//! to date whenever the thread is put off its core, so it is exact for a server that has nothing to do, and at most a timer
//! tick short otherwise. Threads that have ended are not in it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// A process and its descendants, at one instant: CPU time in nanoseconds by thread.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Tree {
    threads: BTreeMap<u32, u64>,
}

impl Tree {
    /// Reads the tree below a process, itself included. Processes that end meanwhile are left out.
    pub(crate) fn read(proc: &Path, root: u32) -> Tree {
        let mut members = vec![root];
        let parents = parents(proc);
        let mut next = 0;
        while next < members.len() {
            let parent = members[next];
            members.extend(parents.iter().filter(|(_, of)| **of == parent).map(|(pid, _)| *pid));
            next += 1;
        }
        let mut threads = BTreeMap::new();
        for pid in members {
            let Ok(tasks) = fs::read_dir(proc.join(pid.to_string()).join("task")) else { continue };
            for task in tasks.flatten() {
                let Some(number) = number(&task.file_name()) else { continue };
                let Some(time) = run_time_ns(&task.path()) else { continue };
                threads.insert(number, time);
            }
        }
        Tree { threads }
    }

    /// CPU seconds since an earlier reading; the second value says whether a thread has ended in between, whose last part
    /// is then missing.
    pub(crate) fn seconds_since(&self, earlier: &Tree) -> (f64, bool) {
        let now: u64 = self.threads.values().sum();
        let mut before = 0;
        let mut ended = false;
        for (thread, time) in &earlier.threads {
            if self.threads.contains_key(thread) {
                before += time;
            } else {
                ended = true;
            }
        }
        (now.saturating_sub(before) as f64 / 1e9, ended)
    }
}

/// The parent of every process.
fn parents(proc: &Path) -> BTreeMap<u32, u32> {
    let Ok(entries) = fs::read_dir(proc) else { return BTreeMap::new() };
    entries
        .flatten()
        .filter_map(|entry| {
            let pid = number(&entry.file_name())?;
            // proc_pid_stat(5): the name stands in parentheses and may hold anything; state and parent follow it.
            let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
            let parent = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?;
            Some((pid, parent))
        })
        .collect()
}

fn number(name: &std::ffi::OsStr) -> Option<u32> {
    name.to_str()?.parse().ok()
}

/// The first number of schedstat: nanoseconds on a core (Documentation/scheduler/sched-stats.rst).
fn run_time_ns(task: &Path) -> Option<u64> {
    fs::read_to_string(task.join("schedstat")).ok()?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(proc: &Path, pid: u32, parent: u32, threads: &[(u32, u64)]) {
        let directory = proc.join(pid.to_string());
        fs::create_dir_all(&directory).unwrap();
        // A name that would lead a careless reader astray.
        fs::write(directory.join("stat"), format!("{pid} (a) R 1 b) S {parent} 0 0")).unwrap();
        for (thread, time) in threads {
            let task = directory.join("task").join(thread.to_string());
            fs::create_dir_all(&task).unwrap();
            fs::write(task.join("schedstat"), format!("{time} 5 6\n")).unwrap();
        }
    }

    #[test]
    fn children_and_threads_count_others_do_not() {
        let proc = tempfile::tempdir().unwrap();
        let proc = proc.path();
        process(proc, 10, 1, &[(10, 100), (11, 20)]);
        process(proc, 12, 10, &[(12, 3)]);
        process(proc, 13, 12, &[(13, 1_000_000_000)]);
        process(proc, 14, 1, &[(14, 5_000)]);
        let before = Tree::read(proc, 10);
        assert_eq!(before.threads, BTreeMap::from([(10, 100), (11, 20), (12, 3), (13, 1_000_000_000)]));

        process(proc, 13, 12, &[(13, 3_000_000_000)]);
        process(proc, 15, 10, &[(15, 1_000_000_000)]);
        assert_eq!(Tree::read(proc, 10).seconds_since(&before), (3.0, false));

        fs::remove_dir_all(proc.join("12")).unwrap();
        // 13 is its child and nobody's now.
        let (_, ended) = Tree::read(proc, 10).seconds_since(&before);
        assert!(ended);
    }

    #[test]
    fn this_very_process() {
        let proc = Path::new("/proc");
        let before = Tree::read(proc, std::process::id());
        if before.threads.values().all(|time| *time == 0) {
            eprintln!("skipped: this kernel keeps no schedstat");
            return;
        }
        let start = std::time::Instant::now();
        while start.elapsed().as_millis() < 60 {
            std::hint::spin_loop();
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
        let (seconds, _) = Tree::read(proc, std::process::id()).seconds_since(&before);
        // Other tests run at the same time, in this process and beside it.
        assert!(seconds > 0.01, "{seconds}");
    }
}
