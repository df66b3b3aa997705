//! `compare` as a process: real rounds, with servers that only listen and a generator that only reports.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Longer than any of it takes.
const TIME_MAX: Duration = Duration::from_secs(20);

/// A comparison of two servers that listen when their command has started.
struct Staged {
    directory: tempfile::TempDir,
    addresses: [SocketAddr; 2],
}

impl Staged {
    fn new() -> Staged {
        // Both are held until both are known, or they could be the same.
        let held = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let addresses = held.map(|listener| listener.local_addr().unwrap());
        Staged { directory: tempfile::tempdir().unwrap(), addresses }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    /// Starts it; `generator` is a shell script that finds the URL as its first argument.
    fn start(&self, generator: &str, arguments: &[&str]) -> Child {
        let script = self.path("generator");
        fs::write(&script, generator).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_annulet-bench"));
        command.args(["compare", "--warmup", "0", "--seconds", "0.01", "--generator"]);
        command.arg(format!("sh {}", script.display())).args(arguments);
        for (name, address) in ["A", "B"].into_iter().zip(self.addresses) {
            let up = self.path(name);
            command.arg(format!("{name}@{address}=sh -c 'touch {}; exec sleep 60'", up.display()));
            thread::spawn(move || {
                wait_for(&up);
                let listener = TcpListener::bind(address).unwrap();
                listener.incoming().for_each(drop);
            });
        }
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }
}

fn wait_for(path: &Path) {
    let deadline = Instant::now() + TIME_MAX;
    while !path.exists() && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(5));
    }
}

/// Reports 1000 requests at a rate that depends on the server.
fn report(staged: &Staged) -> String {
    let json = |rate| {
        format!(
            r#"{{"schema":"annulet-bench.load","version":1,"requests":1000,"duration_s":1.0,"rate":{rate},"p50_us":50.0}}"#
        )
    };
    format!(
        "case $1 in *:{}/*) echo '{}';; *) echo '{}';; esac\n",
        staged.addresses[0].port(),
        json(1000),
        json(900)
    )
}

fn outcome(child: Child) -> (Option<i32>, String, String) {
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn a_comparison_from_start_to_end() {
    let staged = Staged::new();
    let (page, json) = (staged.path("page.html"), staged.path("all.json"));
    let files = ["--html", page.to_str().unwrap(), "--json", json.to_str().unwrap(), "--rounds", "4"];
    let (code, out, err) = outcome(staged.start(&report(&staged), &files));
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("0.900 (0.900–0.900)"), "{out}");
    assert!(err.contains("in turn 4/4") && err.contains("side by side 4/4"), "progress: {err}");
    assert!(fs::read_to_string(page).unwrap().starts_with("<!doctype html>"));
    let json: serde_json::Value = serde_json::from_str(&fs::read_to_string(json).unwrap()).unwrap();
    assert_eq!(json["measured"]["side_by_side"].as_array().unwrap().len(), 4);
}

#[test]
fn a_bound_that_is_broken_ends_with_five() {
    let check = |bound: &str, expected: i32, word: &str| {
        let staged = Staged::new();
        let arguments = ["--rounds", "2", "--way", "in-turn", "--fail-if", bound];
        let (code, out, err) = outcome(staged.start(&report(&staged), &arguments));
        assert_eq!(code, Some(expected), "{bound}: {err}");
        assert!(out.contains(word), "{out}");
    };
    check("B/A rate < 0.95", 5, "BROKEN");
    check("B/A rate < 0.85", 0, "kept");
}

#[test]
fn faults_of_the_load_make_it_no_use() {
    let staged = Staged::new();
    let generator = "echo '{\"schema\":\"annulet-bench.load\",\"version\":1,\"requests\":5,\"errors\":2,\
                     \"error_counts\":{\"reset\":2}}'\n";
    let (code, out, err) = outcome(staged.start(generator, &["--rounds", "1", "--way", "in-turn"]));
    assert_eq!(code, Some(4), "{err}");
    assert!(out.contains("FAULT: A: 2 errors (reset 2)"), "{out}");
}

#[test]
fn an_interrupt_keeps_what_was_measured() {
    let staged = Staged::new();
    let once = staged.path("once");
    // The second measurement of A never ends by itself.
    let generator = format!(
        "case $1 in *:{}/*) test -e {once} && exec sleep 60; touch {once};; esac\n{}",
        staged.addresses[0].port(),
        report(&staged),
        once = once.display()
    );
    let mut child = staged.start(&generator, &["--rounds", "9", "--way", "in-turn"]);
    let mut lines = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("in turn 1/9") {
        line.clear();
        assert_ne!(lines.read_line(&mut line).unwrap(), 0, "it ended before the first round");
    }
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let start = Instant::now();
    let mut rest = String::new();
    lines.read_to_string(&mut rest).unwrap();
    let (code, out, _) = outcome(child);
    assert_eq!(code, Some(0), "{rest}");
    assert!(out.contains("1 rounds in turn") && out.contains("Ended before all rounds were done"), "{out}");
    assert!(start.elapsed() < TIME_MAX / 2, "servers and load are ended, not waited for");
}
