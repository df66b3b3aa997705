//! Flags of `load` as the server sees them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::support::{HELLO, Ran, read_request, run, server};

/// What a server saw of each connection, in the order in which they came.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<Connection>>>);

#[derive(Default)]
struct Connection {
    peer: Option<SocketAddr>,
    /// Heads of requests.
    heads: Vec<String>,
    answers: usize,
}

impl Seen {
    fn add(&self, peer: Option<SocketAddr>) -> usize {
        let mut all = self.0.lock().unwrap();
        all.push(Connection { peer, ..Connection::default() });
        all.len() - 1
    }

    fn head(&self, connection: usize, head: &[u8]) {
        self.0.lock().unwrap()[connection].heads.push(String::from_utf8_lossy(head).into_owned());
    }

    fn each<T>(&self, f: impl Fn(&Connection) -> T) -> Vec<T> {
        self.0.lock().unwrap().iter().map(f).collect()
    }

    /// How often each request line came.
    fn lines(&self) -> BTreeMap<String, usize> {
        let mut lines = BTreeMap::new();
        for head in self.each(|of| of.heads.clone()).concat() {
            *lines.entry(head.lines().next().unwrap_or_default().to_owned()).or_default() += 1;
        }
        lines
    }
}

/// Loads a server that keeps what it sees.
fn watched(arguments: &str) -> (Ran, Seen) {
    let seen = Seen::default();
    let of_server = seen.clone();
    let address = server(move |mut stream| {
        let number = of_server.add(stream.peer_addr().ok());
        while let Some(head) = read_request(&mut stream) {
            of_server.head(number, &head);
            if stream.write_all(HELLO).is_err() {
                break;
            }
            of_server.0.lock().unwrap()[number].answers += 1;
        }
    });
    let ran = run(&format!("load --json - {}", arguments.replace("URL", &format!("http://{address}"))));
    (ran, seen)
}

fn check_good(ran: &Ran, requests: u64) {
    let report = ran.json();
    assert_eq!(
        (ran.code, &report["requests"], &report["errors"]),
        (0, &requests.into(), &0.into()),
        "{report}"
    );
}

#[test]
fn weights() {
    let (ran, seen) = watched("-t1 -c1 -n40 --weights 3,1 URL/a URL/b");
    check_good(&ran, 40);
    let expected = [("GET /a HTTP/1.1", 30), ("GET /b HTTP/1.1", 10)];
    assert_eq!(seen.lines(), expected.map(|(line, count)| (line.to_owned(), count)).into());
    let (ran, seen) = watched("-t1 -c1 -n9 URL/a URL/b URL/c");
    check_good(&ran, 9);
    assert!(seen.lines().values().all(|&count| count == 3), "without weights each has its turn");
}

#[test]
fn sources() {
    let (ran, seen) = watched("-t1 -c4 -n40 --source 127.0.0.2-127.0.0.4 URL/");
    check_good(&ran, 40);
    let sources: BTreeSet<String> =
        seen.each(|of| of.peer.map(|peer| peer.ip().to_string())).into_iter().flatten().collect();
    assert_eq!(sources, ["127.0.0.2", "127.0.0.3", "127.0.0.4"].map(str::to_owned).into());
}

#[test]
fn connections_are_closed_after_their_share() {
    let (ran, seen) = watched("-t1 -c2 -n30 --close-after 3 URL/");
    check_good(&ran, 30);
    // One more may have been opened when the last answer came.
    let answers: Vec<usize> = seen.each(|of| of.answers).into_iter().filter(|&count| count > 0).collect();
    assert_eq!(answers.iter().sum::<usize>(), 30);
    assert!(answers.iter().all(|&count| count <= 3), "{answers:?}");
}

#[test]
fn http_1_0() {
    // Without an announced length the end of the connection is the end of the answer.
    let lines = Arc::new(Mutex::new(BTreeSet::new()));
    let of_server = Arc::clone(&lines);
    let address = server(move |mut stream| {
        let head = read_request(&mut stream).unwrap_or_default();
        of_server
            .lock()
            .unwrap()
            .insert(String::from_utf8_lossy(&head).lines().next().unwrap_or("").to_owned());
        let _ = stream.write_all(b"HTTP/1.0 200 OK\r\n\r\nhello");
    });
    let ran = run(&format!("load -t1 -c2 -n20 --http1.0 --json - http://{address}/"));
    check_good(&ran, 20);
    let mut lines = lines.lock().unwrap();
    // A connection that was opened when the last answer came asks for nothing.
    lines.remove("");
    assert_eq!(*lines, ["GET / HTTP/1.0".to_owned()].into());
}

#[test]
fn raw_requests_in_turn() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    fs::write(path("one"), "GET /one HTTP/1.1\r\nHost: x\r\nOdd:  spaces\r\n\r\n").unwrap();
    fs::write(path("two"), "DELETE /{counter} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let files = format!("{} {}", path("one").display(), path("two").display());
    let (ran, seen) = watched(&format!("-t1 -c1 -n4 URL/ --raw {files}"));
    check_good(&ran, 4);
    let heads = seen.each(|of| of.heads.clone()).concat();
    let file = |name: &str| fs::read_to_string(path(name)).unwrap();
    assert_eq!(heads, [file("one"), file("two"), file("one"), file("two")]);
}

#[test]
fn unix_sockets() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let heads = Arc::new(Mutex::new(Vec::new()));
    let of_server = Arc::clone(&heads);
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let heads = Arc::clone(&of_server);
            thread::spawn(move || {
                let (mut head, mut byte) = (Vec::new(), [0]);
                while stream.read(&mut byte).is_ok_and(|count| count == 1) {
                    head.push(byte[0]);
                    if head.ends_with(b"\r\n\r\n") {
                        heads.lock().unwrap().push(std::mem::take(&mut head));
                        let _ = stream.write_all(HELLO);
                    }
                }
            });
        }
    });
    let ran = run(&format!("load -t1 -c3 -n30 --json - --uds {} http://name.example/x", path.display()));
    check_good(&ran, 30);
    let expected = b"GET /x HTTP/1.1\r\nHost: name.example\r\n\r\n";
    assert!(heads.lock().unwrap().iter().all(|head| head == expected), "the name is for the server alone");
    let ran = run(&format!("load --uds {}/nobody http://name.example/", directory.path().display()));
    assert_eq!(ran.code, 3, "{}", ran.err);
}

#[test]
fn connections_a_second() {
    // One request a connection, and the first may be made at once: nine gaps of 20 ms.
    let (ran, seen) = watched("-t1 -c1 -n10 --close-after 1 --connections-per-second 50 URL/");
    check_good(&ran, 10);
    assert!(seen.each(|_| ()).len() >= 10);
    assert!(ran.took >= Duration::from_millis(9 * 20), "{:?}", ran.took);
}

#[test]
fn what_belongs_to_the_warm_up_is_not_counted() {
    let (ran, seen) = watched("-t1 -c2 -d300ms --warmup 300ms URL/");
    let report = ran.json();
    let counted = report["requests"].as_u64().unwrap();
    let answered: usize = seen.each(|of| of.answers).iter().sum();
    assert_eq!((ran.code, &report["errors"]), (0, &0.into()), "{report}");
    assert!(counted > 0 && counted < answered as u64, "{counted} of {answered}");
    assert_eq!(report["response_time"]["count"], counted);
    let open = watched("-t1 -c2 -R 200 -d300ms --warmup 300ms URL/").0.json();
    // Planned after the warm-up: no more than 60, whenever they were answered.
    assert!(open["requests"].as_u64().unwrap() <= 60, "{open}");
}

#[test]
fn what_wrk_would_add() {
    let count = Arc::new(AtomicU64::new(0));
    let address = server(move |mut stream| {
        while read_request(&mut stream).is_some() {
            if count.fetch_add(1, Ordering::Relaxed) == 100 {
                thread::sleep(Duration::from_millis(500));
            }
            if stream.write_all(HELLO).is_err() {
                break;
            }
        }
    });
    let ran = run(&format!("load -t1 -c1 -n200 --correct --json - http://{address}/"));
    check_good(&ran, 200);
    let report = ran.json();
    // Half a second at a request every 2.5 ms or more.
    let corrected = report["corrected_time"]["count"].as_u64().unwrap();
    assert!(corrected > 200, "{corrected}");
    assert_eq!(report["response_time"]["count"], 200, "what was measured stays as it is");
}

#[test]
fn every_request_by_itself() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("samples");
    let (ran, _) = watched(&format!("-t1 -c2 -n50 -R 1000 --samples {} URL/", path.display()));
    assert_eq!(ran.json()["requests"], 50);
    let text = fs::read_to_string(&path).unwrap();
    let lines: Vec<Vec<u64>> =
        text.lines().map(|line| line.split(' ').map(|word| word.parse().unwrap()).collect()).collect();
    assert_eq!(lines.len(), 50, "{text}");
    assert!(lines.iter().all(|of| of.len() == 3 && of[0] <= of[1] && of[1] <= of[2]), "{text}");
    let planned: BTreeSet<u64> = lines.iter().map(|of| of[0]).collect();
    let gaps = planned.iter().zip(planned.iter().skip(1)).map(|(one, next)| next - one);
    assert!(gaps.into_iter().all(|gap| gap == 1_000_000), "{planned:?}");
}

/// What a load writes to a terminal of its own until it ends, and its exit code. `during` is told its process when something is on
/// the screen.
fn on_a_terminal(arguments: &str, during: impl FnOnce(rustix::process::Pid)) -> (String, i32) {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap();
    let slave = fs::OpenOptions::new().read(true).write(true).open(name.to_str().unwrap()).unwrap();
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_annulet-bench"))
        .args(arguments.split_whitespace())
        .stdin(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .stdout(slave)
        .spawn()
        .unwrap();
    let pid = rustix::process::Pid::from_child(&child);
    let mut master = fs::File::from(master);
    let (mut text, mut bytes, mut during) = (String::new(), [0; 4096], Some(during));
    // The end of the last holder of the other side is an error here.
    while let Ok(count @ 1..) = master.read(&mut bytes) {
        text.push_str(&String::from_utf8_lossy(&bytes[..count]));
        // The page is there before the load is; its second picture has an interval in it.
        if text.matches("Ctrl-C ends").count() > 1
            && let Some(during) = during.take()
        {
            during(pid);
        }
    }
    (text, child.wait().unwrap().code().unwrap_or(-1))
}

const ENTER: &str = "\x1b[?1049h";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";

#[test]
fn the_full_screen_gives_the_terminal_back() {
    let address = crate::support::answering(HELLO);
    let check = |arguments: &str, during: fn(rustix::process::Pid), code: i32| {
        let (text, found) =
            on_a_terminal(&format!("load -t1 -c2 --tui {arguments} http://{address}/"), during);
        assert_eq!(found, code, "{text}");
        assert!(text.starts_with(ENTER) && text.matches(LEAVE).count() == 1, "{text:?}");
        text
    };
    let text = check("-d1500ms", |_| {}, 0);
    let (screen, table) = text.split_once(LEAVE).unwrap();
    assert!(screen.contains(" of 2 s, 0 errors"), "{screen:?}");
    assert!(table.contains("Requests/sec"), "the report follows: {table:?}");
    // Ctrl-C ends the load early and reports.
    let interrupt = |pid| rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let text = check("-d600s", interrupt, 0);
    assert!(text.split_once(LEAVE).unwrap().1.contains("Requests/sec"), "{text:?}");
}

#[test]
fn no_full_screen_without_a_terminal() {
    let (ran, _) = watched("-t1 -c1 -n5 --tui URL/");
    check_good(&ran, 5);
    assert!(
        ran.err.contains("--tui: standard output is no terminal; a line a second instead"),
        "{}",
        ran.err
    );
}
