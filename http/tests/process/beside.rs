//! The admin listener beside workers that are watched over, and the other flags that go with `--workers`.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;

use crate::served::first_core;
use crate::supervised::{Supervised, TIME_MAX, children, has_ring, lives, signal, until};

/// Where the admin listener is, from the greeting.
fn admin(served: &Supervised) -> SocketAddr {
    let rest = served.greeting.split("admin on http://").nth(1).expect("it says where");
    rest.split('/').next().unwrap().parse().unwrap()
}

/// The answer's head and body; none when the connection was lost.
fn get(address: SocketAddr, target: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(TIME_MAX)).unwrap();
    write!(stream, "GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    (!answer.is_empty()).then_some(answer)
}

#[track_caller]
fn ask(address: SocketAddr, target: &str) -> String {
    get(address, target).expect("it answers")
}

/// The workers that there are counters of, by their rows, and how many requests they have answered in all.
fn counted(admin: SocketAddr) -> (Vec<usize>, u64) {
    let metrics = ask(admin, "/metrics");
    let lines = metrics
        .lines()
        .filter(|line| line.starts_with("annulet_http_requests_total{") && line.contains("code=\"2xx\""));
    let parsed = lines.map(|line| {
        let row = line.split("worker=\"").nth(1).unwrap().split('"').next().unwrap();
        (row.parse::<usize>().unwrap(), line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
    });
    let (rows, requests): (Vec<_>, Vec<_>) = parsed.unzip();
    (rows, requests.iter().sum())
}

#[test]
fn the_admin_listener_tells_of_all_workers() {
    let cores = annulet::placement::available_cores().unwrap().len();
    for mode in ["processes", "threads"] {
        let mut served = Supervised::start(&["--workers", mode, "--admin", "127.0.0.1:0"]);
        let admin = admin(&served);
        for _ in 0..10 {
            served.check_serves();
        }
        // Rows are written once a turn.
        until("all are counted", || (counted(admin).1 == 10).then_some(()));
        assert_eq!(counted(admin).0, (0..cores).collect::<Vec<_>>());
        assert!(ask(admin, "/livez").starts_with("HTTP/1.1 200 "));
        assert!(ask(admin, "/readyz").starts_with("HTTP/1.1 200 "));
        if mode == "processes" {
            assert!(!has_ring(served.pid()), "the supervisor has none for it either");
        }
        // Who takes another's place begins at zero, in a row that is not the other's. Who is gone is not counted.
        served.signal("HUP");
        served.hear("every worker was replaced", 1);
        until("only the new ones are there", || {
            let (rows, requests) = counted(admin);
            (rows.len() == cores && requests == 0).then_some(())
        });
        served.check_serves();
        until("it is counted", || (counted(admin).1 == 1).then_some(()));
        served.signal("TERM");
        assert!(served.wait().success());
        assert!(get(admin, "/livez").is_none(), "the address is free");
    }
}

#[test]
fn the_admin_listener_stays_until_the_workers_have_ended() {
    for mode in ["processes", "threads"] {
        let arguments = ["--workers", mode, "--cores", &first_core(), "--admin", "127.0.0.1:0"];
        let hurry = ["--delay", "5m", "--drain", "5m"];
        let mut served = Supervised::start(&[&arguments[..], &hurry].concat());
        let admin = admin(&served);
        // A request that keeps the worker from ending.
        let mut slow = TcpStream::connect(served.address).unwrap();
        slow.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        let has_one = |line: &str| line.starts_with("annulet_http_connections{") && line.ends_with("} 1");
        until("it is there", || ask(admin, "/metrics").lines().any(has_one).then_some(()));
        served.signal("TERM");
        until("readiness is red", || ask(admin, "/readyz").starts_with("HTTP/1.1 503 ").then_some(()));
        assert!(ask(admin, "/livez").starts_with("HTTP/1.1 200 "));
        served.signal("TERM");
        served.wait();
    }
}

#[test]
fn what_is_beside_is_restarted_and_handed_over() {
    let arguments = ["--workers", "processes", "--cores", &first_core(), "--admin", "127.0.0.1:0"];
    let mut served = Supervised::start(&arguments);
    let admin = admin(&served);
    let old = children(served.pid());
    assert_eq!(old.len(), 2, "a worker, and one beside it");
    // Whichever of them it was.
    for (round, pid) in (1..).zip(old) {
        signal(pid, "KILL");
        served.hear("was killed by signal 9; another takes its place", round);
        until("it answers again", || get(admin, "/readyz").filter(|answer| answer.contains(" 200 ")));
        served.check_serves_again();
    }
    served.signal("USR2");
    served.hear("has taken over", 1);
    let said = served.said().clone();
    let successor = said.split("SIGUSR2: pid ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    served.successors.push(successor);
    assert!(served.wait().success());
    assert!(lives(successor));
    assert!(ask(admin, "/readyz").starts_with("HTTP/1.1 200 "));
    served.check_serves();
}

#[test]
fn flags_go_with_workers_or_are_refused_with_a_reason() {
    for flags in ["--accept balance", "--connections-max 5"] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_annulet-serve"));
        command.args(["--listen", "127.0.0.1:0", "--workers", "processes"]).args(flags.split(' '));
        let output = command.output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && said.contains("let the workers be threads"), "{said}");
    }
    for mode in ["processes", "threads"] {
        let flags = ["--workers", mode, "--accept", "steer", "--placement", "core"];
        let mut served = Supervised::start(&flags);
        assert_eq!(served.greeting.matches("placement ").count(), 1, "{}", served.greeting);
        served.check_serves();
        served.signal("TERM");
        assert!(served.wait().success());
    }
}
