//! Workers as processes and as threads: watched over, replaced, handed over, ended.

use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::operations::{admin, cpu_time, get};
use crate::served::{answer, ask, first_core, read};
use crate::supervised::{Supervised, TIME_MAX, children, has_ring, lives, signal, status, until, workers};

/// Both modes, with one worker.
fn modes(arguments: &[&str], check: impl Fn(Supervised)) {
    for mode in ["processes", "threads"] {
        eprintln!("--- {mode}");
        let core = first_core();
        let mut all = vec!["--workers", mode, "--cores", &core];
        all.extend(arguments);
        check(Supervised::start(&all));
    }
}

fn processes(arguments: &[&str]) -> Supervised {
    let core = first_core();
    let mut all = vec!["--workers", "processes", "--cores", &core];
    all.extend(arguments);
    Supervised::start(&all)
}

fn connect(served: &Supervised) -> TcpStream {
    let stream = TcpStream::connect(served.address).unwrap();
    stream.set_read_timeout(Some(TIME_MAX)).unwrap();
    stream
}

/// Idle connections stay open for longer than any test takes.
const UNHURRIED: [&str; 4] = ["--drain-idle", "5m", "--drain", "5m"];

/// Asks until an answer closes the connection: the order to end may come later than the next request.
#[track_caller]
fn check_told_to_close(mut stream: TcpStream) {
    let start = Instant::now();
    while start.elapsed() < TIME_MAX {
        ask(&mut stream, "/");
        let mut all = String::new();
        while !all.ends_with("<h1>Index</h1>") {
            let mut bytes = [0; 1024];
            let count = read(&mut stream, &mut bytes);
            assert_ne!(count, 0, "closed without an answer, after {all:?}");
            all.push_str(std::str::from_utf8(&bytes[..count]).unwrap());
        }
        if all.contains("connection: close") {
            assert_eq!(read(&mut stream, &mut [0]), 0, "and it is closed");
            return;
        }
    }
    panic!("no answer has said that it is the last");
}

/// The number behind `words` in what was said.
pub(crate) fn number_behind(served: &Supervised, words: &str) -> u32 {
    let said = served.said();
    let digits = said.rsplit(words).next().unwrap().split(|c: char| !c.is_ascii_digit()).next().unwrap();
    digits.parse().unwrap()
}

#[test]
fn a_supervisor_has_neither_ring_nor_thread() {
    let mut served = Supervised::start(&["--workers", "processes"]);
    let cores = annulet::placement::available_cores().unwrap();
    let workers = served.workers(cores.len());
    assert!(!has_ring(served.pid()));
    assert_eq!(status(served.pid(), "Threads").as_deref(), Some("1"));
    let mut bound: Vec<_> = workers.iter().map(|&pid| status(pid, "Cpus_allowed_list").unwrap()).collect();
    bound.sort();
    let mut expected: Vec<_> = cores.iter().map(ToString::to_string).collect();
    expected.sort();
    assert_eq!(bound, expected, "one on each core");
    for &worker in &workers {
        assert_eq!(status(worker, "Name").as_deref(), Some("annulet-serve"));
        assert_eq!(status(worker, "NoNewPrivs").as_deref(), Some("1"));
    }
    served.check_serves();
    served.signal("TERM");
    assert!(served.wait().success());
    assert!(!workers.into_iter().any(lives), "they ended before it");
}

#[test]
fn a_worker_that_is_killed_is_replaced_and_nothing_is_left() {
    let served = processes(&[]);
    let mut old = served.workers(1);
    let descriptors = || std::fs::read_dir(format!("/proc/{}/fd", served.pid())).unwrap().count();
    let before = descriptors();
    // There are pauses between them, because they serve for less than a second each.
    for round in 1..=4 {
        signal(old[0], "KILL");
        served.hear("was killed by signal 9; another takes its place", round);
        // Who connects before there is another waits for it, and is not forgotten.
        served.check_serves();
        let new = served.workers(1);
        assert_ne!(new, old);
        old = new;
    }
    assert_eq!(children(served.pid()), old, "no zombie");
    until("no descriptor is left", || (descriptors() == before).then_some(()));
}

#[test]
fn workers_end_when_their_supervisor_dies() {
    let served = processes(&[]);
    let worker = served.workers(1)[0];
    signal(served.pid(), "KILL");
    served.hear("the supervisor is gone", 1);
    until("the worker ends", || (!lives(worker)).then_some(()));
}

#[test]
fn a_worker_that_is_asked_to_end_is_replaced() {
    let served = processes(&[]);
    let old = served.workers(1);
    // Those of a terminal are none of its business.
    for name in ["INT", "HUP", "USR1", "USR2"] {
        signal(old[0], name);
    }
    served.check_serves();
    assert_eq!(served.workers(1), old);
    signal(old[0], "TERM");
    served.hear("was asked to end; another takes its place", 1);
    served.check_serves();
    // It is said before the other is started.
    until("the other is alone", || (served.workers(1) != old).then_some(()));
}

#[test]
fn sigusr1_prints_the_tasks_of_every_worker() {
    for mode in ["processes", "threads"] {
        let served = Supervised::start(&["--workers", mode]);
        let cores = annulet::placement::available_cores().unwrap().len();
        served.signal("USR1");
        // Each loop has one that hears its supervisor.
        served.hear("\"supervisor\" (", cores);
        served.check_serves();
    }
}

#[test]
fn sighup_replaces_the_workers_and_kept_connections_are_told() {
    modes(&UNHURRIED, |mut served| {
        for round in 1..=3 {
            let mut kept = connect(&served);
            ask(&mut kept, "/");
            answer(&mut kept);
            served.signal("HUP");
            served.hear("every worker was replaced", round);
            // It is served by the old one, which says that this was the last time.
            check_told_to_close(kept);
            served.check_serves();
        }
        served.signal("TERM");
        assert!(served.wait().success());
        assert!(!served.said().contains("cut"));
    });
}

#[test]
fn a_roll_whose_new_worker_fails_leaves_the_old_ones() {
    // What the new worker reads is gone: it cannot start.
    let folder = std::env::temp_dir().join(format!("annulet-roll-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("index.html"), "<h1>Index</h1>").unwrap();
    let served = processes(&["--dir", folder.to_str().unwrap()]);
    let old = served.workers(1);
    let moved = folder.with_extension("moved");
    std::fs::rename(&folder, &moved).unwrap();
    served.signal("HUP");
    served.hear("a new worker has failed to start; the old ones go on", 1);
    assert_eq!(served.workers(1), old);
    std::fs::rename(&moved, &folder).unwrap();
    served.check_serves();
    // One that dies now is started again and again, until it works.
    std::fs::rename(&folder, &moved).unwrap();
    signal(old[0], "KILL");
    served.hear("the next attempt in 100ms", 1);
    std::fs::rename(&moved, &folder).unwrap();
    served.check_serves_again();
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn sigusr2_hands_over_to_a_new_process() {
    modes(&UNHURRIED, |mut served| {
        let mut kept = connect(&served);
        ask(&mut kept, "/");
        answer(&mut kept);
        served.signal("USR2");
        served.hear("has taken over", 1);
        let successor = number_behind(&served, "SIGUSR2: pid ");
        served.successors.push(successor);
        check_told_to_close(kept);
        assert!(served.wait().success());
        assert!(lives(successor));
        served.check_serves();
        // And once more, of the second by a third.
        signal(successor, "USR2");
        served.hear("has taken over", 2);
        let third = number_behind(&served, "SIGUSR2: pid ");
        served.successors.push(third);
        until("the second ends", || (!lives(successor)).then_some(()));
        served.check_serves();
        signal(third, "TERM");
        until("the third ends", || (!lives(third)).then_some(()));
        assert!(TcpStream::connect(served.address).is_err(), "the address is free");
    });
}

/// The old supervisor has nothing more to hear of its successor, not even its end.
#[test]
fn a_supervisor_that_was_replaced_is_idle() {
    modes(&UNHURRIED, |mut served| {
        let mut kept = connect(&served);
        ask(&mut kept, "/");
        answer(&mut kept);
        served.signal("USR2");
        served.hear("has taken over", 1);
        let successor = number_behind(&served, "SIGUSR2: pid ");
        served.successors.push(successor);
        let check_idle = || {
            let (before, start) = (cpu_time(served.pid()), Instant::now());
            std::thread::sleep(Duration::from_millis(500));
            let used = cpu_time(served.pid()) - before;
            // Around and around it would use most of what the machine has left.
            assert!(used < Duration::from_millis(50), "{used:?} of CPU in {:?}", start.elapsed());
        };
        check_idle();
        signal(successor, "TERM");
        served.hear("which has taken over, ended", 1);
        check_idle();
        check_told_to_close(kept);
    });
}

#[test]
fn who_comes_after_the_end_has_begun_is_refused_at_once() {
    modes(&["--delay", "5m", "--drain", "5m", "--admin", "127.0.0.1:0"], |mut served| {
        // A request that keeps the worker from ending.
        let mut slow = connect(&served);
        ask(&mut slow, "/");
        let is_in = |line: &str| line.starts_with("annulet_http_connections{") && line.ends_with("} 1");
        let metrics = || get(admin(&served.greeting), "/metrics");
        until("it is in", || metrics().lines().any(is_in).then_some(()));
        served.signal("TERM");
        // Those that come before the worker has looked for the last time are let in.
        until("a client is refused", || {
            let error = TcpStream::connect(served.address).err()?;
            (error.kind() == std::io::ErrorKind::ConnectionRefused).then_some(())
        });
        assert!(lives(served.pid()), "it still works for the first one");
        served.signal("TERM");
        served.wait();
    });
}

/// A name of its own for annulet-serve, so that another program can take its place. No copy: a child of another test could
/// have it open for writing, and it could not be executed.
fn name_of_its_own(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("annulet-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let link = folder.join("annulet-serve");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_annulet-serve"), &link).unwrap();
    link
}

#[test]
fn a_new_binary_that_fails_leaves_the_old_one_serving() {
    let program = name_of_its_own("broken");
    for mode in ["processes", "threads"] {
        std::fs::remove_file(&program).unwrap();
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_annulet-serve"), &program).unwrap();
        let mut command = Command::new(&program);
        let arguments = ["--listen", "127.0.0.1:0", "--workers", mode, "--cores", &first_core()];
        let mut served = Supervised::of(command.args(arguments));
        // Not there; not a program; one that ends at once.
        std::fs::remove_file(&program).unwrap();
        served.signal("USR2");
        served.hear("this one goes on serving", 1);
        served.hear("cannot execute", 1);
        std::os::unix::fs::symlink("/dev/null", &program).unwrap();
        served.signal("USR2");
        served.hear("this one goes on serving", 2);
        std::fs::remove_file(&program).unwrap();
        std::os::unix::fs::symlink("/bin/false", &program).unwrap();
        served.signal("USR2");
        served.hear("ended with exit code 1 before it was ready; this one goes on serving", 1);
        served.check_serves();
        // The workers' program is the one that runs, whatever its file is now.
        if mode == "processes" {
            let old = served.workers(1);
            signal(old[0], "KILL");
            served.check_serves_again();
        }
        served.signal("TERM");
        assert!(served.wait().success());
    }
    std::fs::remove_dir_all(program.parent().unwrap()).unwrap();
}

/// A program that is never ready, and says so; it ends when it is asked to, and by itself after a while.
const NEVER_READY: &str = "#!/bin/sh
trap 'echo never ready, and asked to end >&2; exit 0' TERM
echo it waits >&2
for _ in $(seq 2000); do sleep 0.1; done
";

#[test]
fn a_new_binary_that_is_not_ready_ends_with_the_old_one() {
    for mode in ["processes", "threads"] {
        let program = name_of_its_own(&format!("coming-{mode}"));
        let mut command = Command::new(&program);
        let arguments = ["--listen", "127.0.0.1:0", "--workers", mode, "--cores", &first_core()];
        let mut served = Supervised::of(command.args(arguments));
        std::fs::remove_file(&program).unwrap();
        // Written by a process of its own, see `name_of_its_own`.
        let write = "printf %s \"$1\" >\"$2\" && chmod +x \"$2\"";
        let wrote = Command::new("sh").args(["-c", write, "sh", NEVER_READY]).arg(&program).status().unwrap();
        assert!(wrote.success());
        served.signal("USR2");
        served.hear("it waits", 1);
        served.signal("TERM");
        assert!(served.wait().success());
        served.hear("never ready, and asked to end", 1);
        std::fs::remove_dir_all(program.parent().unwrap()).unwrap();
    }
}

#[test]
fn accepting_goes_on_for_the_drain_delay() {
    // Longer than any test takes: nothing here depends on who is first.
    modes(&["--drain-delay", "5m"], |mut served| {
        let mut kept = connect(&served);
        ask(&mut kept, "/");
        answer(&mut kept);
        served.signal("TERM");
        check_told_to_close(kept);
        // It has turned red, and whoever comes now is served once.
        check_told_to_close(connect(&served));
        served.signal("TERM");
        served.wait();
        served.hear("ending at once", 1);
    });
}

#[test]
fn the_drain_delay_ends_by_itself() {
    modes(&["--drain-delay", "1s"], |mut served| {
        let start = Instant::now();
        served.signal("TERM");
        assert!(served.wait().success());
        assert!(start.elapsed() >= Duration::from_secs(1), "{:?}", start.elapsed());
    });
}

#[test]
fn a_second_signal_ends_at_once() {
    modes(&["--delay", "5m", "--drain", "5m"], |mut served| {
        let mut stream = connect(&served);
        ask(&mut stream, "/");
        served.signal("TERM");
        served.hear("finishing what is in flight", 1);
        served.signal("TERM");
        served.wait();
        served.hear("ending at once", 1);
    });
}

#[test]
fn a_core_that_does_not_exist_is_refused() {
    let command = |mode| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_annulet-serve"));
        command.args(["--listen", "127.0.0.1:0", "--workers", mode, "--cores", "1000"]);
        let output = command.output().unwrap();
        assert!(!output.status.success() && output.stdout.is_empty());
        String::from_utf8(output.stderr).unwrap()
    };
    let said = command("threads");
    assert_eq!(said.lines().count(), 1, "{said}");
    let said = command("processes");
    assert!(said.contains("core 1000: it does not exist") && said.contains("giving up"), "{said}");
}

/// annulet-serve as systemd would start it, with this socket as descriptor 3.
fn activated(listener: &std::net::TcpListener, arguments: &[&str]) -> Command {
    let mut command = Command::new("sh");
    // By way of standard input: a shell need not know numbers above 9.
    command.stdin(OwnedFd::from(listener.try_clone().unwrap()));
    let script = "exec 3<&0 0</dev/null; exec env LISTEN_PID=$$ LISTEN_FDS=1 \"$@\"";
    command.args(["-c", script, "sh", env!("CARGO_BIN_EXE_annulet-serve")]).args(arguments);
    command
}

#[test]
fn sockets_of_a_service_manager_are_served_by_one_after_the_other() {
    for mode in ["processes", "threads"] {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        // All cores share it.
        let mut first = Supervised::of(&mut activated(&listener, &["--workers", mode]));
        assert_eq!(first.address, address);
        first.check_serves();
        let second = Supervised::of(&mut activated(&listener, &["--workers", mode]));
        first.signal("TERM");
        assert!(first.wait().success());
        for _ in 0..10 {
            second.check_serves();
        }
    }
}

/// The next message that the service manager gets.
pub(crate) fn told(manager: &UnixDatagram) -> String {
    let mut bytes = [0; 1024];
    let count = manager.recv(&mut bytes).expect("it is told something in time");
    String::from_utf8(bytes[..count].to_vec()).unwrap()
}

#[test]
fn a_service_manager_is_told() {
    let path = std::env::temp_dir().join(format!("annulet-notify-{}", std::process::id()));
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(TIME_MAX)).unwrap();
    for mode in ["processes", "threads"] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_annulet-serve"));
        command.args(["--listen", "127.0.0.1:0", "--workers", mode, "--cores", &first_core()]);
        let mut served = Supervised::of(command.env("NOTIFY_SOCKET", &path));
        assert_eq!(told(&manager).trim(), "READY=1");
        served.signal("HUP");
        let reloading = told(&manager);
        assert!(reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{reloading:?}");
        assert_eq!(told(&manager).trim(), "READY=1");
        served.signal("USR2");
        assert!(told(&manager).starts_with("RELOADING=1"));
        served.hear("has taken over", 1);
        let successor = number_behind(&served, "SIGUSR2: pid ");
        served.successors.push(successor);
        assert_eq!(told(&manager).trim(), format!("MAINPID={successor}\nREADY=1"));
        assert!(served.wait().success());
        signal(successor, "TERM");
        assert_eq!(told(&manager).trim(), "STOPPING=1");
        until("it ends", || (!lives(successor)).then_some(()));
    }
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn the_watchdog_sees_a_worker_that_hangs() {
    let path = std::env::temp_dir().join(format!("annulet-watchdog-{}", std::process::id()));
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(TIME_MAX)).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_annulet-serve"));
    command.args(["--listen", "127.0.0.1:0", "--workers", "processes", "--cores", &first_core()]);
    let served = Supervised::of(command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "200000"));
    let next = || until("another message", || Some(told(&manager)).filter(|told| !told.starts_with("READY")));
    for _ in 0..3 {
        assert_eq!(next().trim(), "WATCHDOG=1");
    }
    let worker = served.workers(1)[0];
    signal(worker, "STOP");
    served.hear("do not answer; the watchdog is left waiting", 1);
    signal(worker, "CONT");
    manager.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    // What was sent before it hung.
    while manager.recv(&mut [0; 1024]).is_ok() {}
    manager.set_read_timeout(Some(TIME_MAX)).unwrap();
    assert_eq!(told(&manager).trim(), "WATCHDOG=1");
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn root_becomes_somebody_else_once_the_address_is_bound() {
    if !rustix::process::geteuid().is_root() {
        println!("root_becomes_somebody_else: skipped, because this is not root");
        return;
    }
    for mode in ["processes", "threads"] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_annulet-serve"));
        // A directory that the user may enter, so that /proc/self/exe is all that must be executable.
        command.args([
            "--listen",
            "127.0.0.1:0",
            "--workers",
            mode,
            "--user",
            "nobody",
            "--cores",
            &first_core(),
        ]);
        let served = Supervised::of(&mut command);
        let uid = status(served.pid(), "Uid").unwrap();
        assert!(!uid.split_whitespace().any(|id| id == "0"), "{uid}");
        assert_eq!(status(served.pid(), "NoNewPrivs").as_deref(), Some("1"));
        served.check_serves();
        if mode == "processes" {
            let worker = served.workers(1)[0];
            assert_eq!(status(worker, "Uid"), Some(uid));
            signal(worker, "KILL");
            served.check_serves_again();
            assert_eq!(workers(served.pid(), 1).len(), 1);
        }
    }
}
