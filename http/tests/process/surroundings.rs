//! What a supervisor finds around it: who started it, a container, a service manager, a user that it becomes, files.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::served::first_core;
use crate::supervised::{Supervised, TIME_MAX, children, signal, status, until, workers};
use crate::workers::{number_behind, told};

const SERVE: &str = env!("CARGO_BIN_EXE_annulet-serve");

fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("annulet-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

fn lines(path: &Path) -> usize {
    std::fs::read_to_string(path).map_or(0, |text| text.lines().count())
}

#[test]
fn children_are_its_own_also_where_sigchld_is_ignored() {
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' CHLD; exec \"$@\"", "sh", SERVE, "--listen", "127.0.0.1:0"]);
    let served = Supervised::of(command.args(["--workers", "processes", "--cores", &first_core()]));
    let ignored = status(served.workers(1)[0], "SigIgn").unwrap();
    let sigchld = 1 << (17 - 1);
    assert_eq!(u64::from_str_radix(&ignored, 16).unwrap() & sigchld, 0, "nor is it in workers");
    signal(served.workers(1)[0], "KILL");
    served.hear("was killed by signal 9; another takes its place", 1);
    served.check_serves_again();
}

#[test]
fn the_first_process_of_a_container_reaps_what_others_leave() {
    let container = ["--fork", "--pid", "--mount-proc", "--kill-child"];
    let may = Command::new("unshare").args(container).arg("true").output();
    if !may.as_ref().is_ok_and(|output| output.status.success()) {
        println!("the_first_process_of_a_container_reaps_what_others_leave: skipped, {may:?}");
        return;
    }
    let mut command = Command::new("unshare");
    command.args(container).args([SERVE, "--listen", "127.0.0.1:0", "--workers", "processes"]);
    let served = Supervised::of(command.args(["--cores", &first_core()]));
    let supervisor = children(served.pid())[0];
    let target = supervisor.to_string();
    for _ in 0..2 {
        // Its parent ends at once.
        let nsenter = ["-t", &target, "--pid", "--mount", "sh", "-c", "sleep 1000 >/dev/null 2>&1 &"];
        assert!(Command::new("nsenter").args(nsenter).status().unwrap().success());
        let stranger = until("it has a stranger", || {
            let mut children = children(supervisor).into_iter();
            children.find(|&child| status(child, "Name").as_deref() == Some("sleep"))
        });
        signal(stranger, "KILL");
        until("it is reaped", || (!children(supervisor).contains(&stranger)).then_some(()));
    }
    // Its own are looked after as ever.
    let worker = workers(supervisor, 1)[0];
    signal(worker, "KILL");
    served.hear("was killed by signal 9; another takes its place", 1);
    served.check_serves_again();
    signal(supervisor, "USR2");
    served.hear("SIGUSR2: refused: this is process 1", 1);
}

#[test]
fn a_service_manager_hears_of_a_reload_that_is_refused() {
    let folder = folder("refused-reload");
    let manager = UnixDatagram::bind(folder.join("notify")).unwrap();
    manager.set_read_timeout(Some(TIME_MAX)).unwrap();
    // Who opens it waits as long as nobody reads: so the successor does not become ready.
    let log = folder.join("log");
    assert!(Command::new("mkfifo").arg(&log).status().unwrap().success());
    let reader = OpenOptions::new().read(true).write(true).open(&log).unwrap();
    let mut command = Command::new(SERVE);
    command.args(["--listen", "127.0.0.1:0", "--workers", "threads", "--cores", &first_core()]);
    command.arg("--access-log").arg(&log).env("NOTIFY_SOCKET", folder.join("notify"));
    let mut served = Supervised::of(&mut command);
    assert_eq!(told(&manager).trim(), "READY=1");
    drop(reader);
    served.signal("USR2");
    assert!(told(&manager).starts_with("RELOADING=1"));
    served.hear("is to take over", 1);
    let successor = number_behind(&served, "SIGUSR2: pid ");
    served.successors.push(successor);
    served.signal("HUP");
    served.hear("SIGHUP: not now", 1);
    assert!(told(&manager).starts_with("RELOADING=1\nMONOTONIC_USEC="));
    signal(successor, "KILL");
    served.hear("this one goes on serving", 1);
    assert_eq!(told(&manager).trim(), "READY=1");
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn the_access_log_is_opened_again_when_workers_are_replaced() {
    for mode in ["processes", "threads"] {
        let folder = folder("rotated");
        let (log, rotated) = (folder.join("log"), folder.join("log.1"));
        let mut command = Command::new(SERVE);
        command.args(["--listen", "127.0.0.1:0", "--workers", mode, "--cores", &first_core()]);
        let served = Supervised::of(command.arg("--access-log").arg(&log));
        served.check_serves();
        until("it is written", || (lines(&log) == 1).then_some(()));
        std::fs::rename(&log, &rotated).unwrap();
        served.signal("HUP");
        served.hear("every worker was replaced", 1);
        served.check_serves();
        until("the new one is written", || (lines(&log) == 1).then_some(()));
        assert_eq!(lines(&rotated), 1);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}

#[test]
fn the_access_log_belongs_to_whom_root_becomes() {
    if !rustix::process::geteuid().is_root() {
        println!("the_access_log_belongs_to_whom_root_becomes: skipped, because this is not root");
        return;
    }
    for mode in ["processes", "threads"] {
        let folder = folder("log-of-nobody");
        let log = folder.join("log");
        let mut command = Command::new(SERVE);
        command.args(["--listen", "127.0.0.1:0", "--workers", mode, "--cores", &first_core()]);
        let served = Supervised::of(command.args(["--user", "nobody", "--access-log"]).arg(&log));
        served.check_serves();
        until("it is written", || (lines(&log) == 1).then_some(()));
        let uid = status(served.pid(), "Uid").unwrap().split_whitespace().next().unwrap().to_owned();
        assert_eq!(std::fs::metadata(&log).unwrap().uid().to_string(), uid);
        // Who comes later opens it as that user.
        served.signal("HUP");
        served.hear("every worker was replaced", 1);
        served.check_serves();
        until("it goes on being written", || (lines(&log) == 2).then_some(()));
        assert!(!served.said().contains("stays"), "{}", served.said());
        std::fs::remove_dir_all(&folder).unwrap();
    }
    // One that was there keeps its owner, whatever it is: the workers cannot write it, and it says so.
    let folder = folder("log-of-root");
    let log = folder.join("log");
    drop(File::create(&log).unwrap());
    let mut command = Command::new(SERVE);
    command.args(["--listen", "127.0.0.1:0", "--workers", "processes", "--cores", &first_core()]);
    let output = command.args(["--user", "nobody", "--access-log"]).arg(&log).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && said.contains("must be able to write it"), "{said}");
    assert_eq!(std::fs::metadata(&log).unwrap().uid(), 0);
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn too_little_memory_that_may_be_locked_is_named_with_its_cure() {
    if !rustix::process::geteuid().is_root() {
        println!(
            "too_little_memory_that_may_be_locked_is_named_with_its_cure: skipped, because this is not root"
        );
        return;
    }
    // Root itself may lock what it likes; whom it becomes may not.
    for mode in ["processes", "threads"] {
        let script = "ulimit -l 0; exec timeout 10 \"$0\" \"$@\"";
        let mut command = Command::new("sh");
        command.args(["-c", script, SERVE, "--listen", "127.0.0.1:0", "--user", "nobody", "--workers", mode]);
        let output = command.args(["--cores", &first_core()]).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        if String::from_utf8_lossy(&output.stdout).contains("listening on") {
            println!("{mode}: skipped, this kernel does not count rings: {said}");
            continue;
        }
        assert!(!output.status.success() && said.contains("LimitMEMLOCK="), "{said}");
    }
}
