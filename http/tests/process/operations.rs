//! annulet-serve as those who run it see it: the admin listener, and what happens when descriptors run out.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::served::{Served, answer, ask, command, first_core};

/// Where the admin listener is, from the greeting.
pub(crate) fn admin(greeting: &str) -> SocketAddr {
    let rest = greeting.split("admin on http://").nth(1).expect("it says where");
    rest.split('/').next().unwrap().parse().unwrap()
}

pub(crate) fn get(address: SocketAddr, target: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn the_admin_listener_tells_of_the_server() {
    let mut served = Served::start(&["--admin", "127.0.0.1:0", "--cores", &first_core()]);
    let admin = admin(&served.greeting);
    let mut client = TcpStream::connect(served.address).unwrap();
    ask(&mut client, "/");
    assert_eq!(answer(&mut client).1, "<h1>Index</h1>");
    let metrics = get(admin, "/metrics");
    let line =
        format!("annulet_http_requests_total{{worker=\"0\",core=\"{}\",code=\"2xx\"}} 1\n", first_core());
    assert!(metrics.contains(&line), "{metrics}");
    assert!(get(admin, "/tasks").contains("loop \"annulet-"));
    assert!(get(admin, "/readyz").starts_with("HTTP/1.1 200 "));
    drop(client);
    served.signal("TERM");
    assert!(served.wait(Duration::from_secs(30)).success());
    let said = served.said();
    assert!(!said.contains("loopback"), "{said}");
}

#[test]
fn an_admin_listener_that_others_reach_draws_a_warning() {
    let mut served = Served::start(&["--admin", "0.0.0.0:0", "--cores", &first_core()]);
    served.signal("TERM");
    assert!(served.wait(Duration::from_secs(30)).success());
    let said = served.said();
    assert!(said.contains("--admin 0.0.0.0:0 is no loopback address"), "{said}");
}

#[test]
fn descriptors_are_raised_to_the_hard_limit() {
    let script = "ulimit -Sn 64; ulimit -Hn 100; exec \"$0\" \"$@\"";
    let served = Served::start_by(std::process::Command::new("sh").args([
        "-c",
        script,
        command(&[]).get_program().to_str().unwrap(),
        "--cores",
        &first_core(),
    ]));
    assert!(served.greeting.contains("descriptors 100, raised from 64\n"), "{}", served.greeting);
}

/// CPU time of all threads of a process so far, to the nanosecond.
pub(crate) fn cpu_time(pid: u32) -> Duration {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let of_thread = |thread: std::io::Result<std::fs::DirEntry>| {
        // One that has ended meanwhile has no file any more.
        let stat = std::fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        stat.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
    };
    threads.filter_map(of_thread).sum()
}

/// Reads what is there. True when there was an answer.
fn has_answer(stream: &mut TcpStream) -> bool {
    match stream.read(&mut [0; 4096]) {
        Ok(count) => {
            assert_ne!(count, 0, "no connection is closed");
            true
        }
        Err(error) if error.kind() == ErrorKind::WouldBlock => false,
        Err(error) => panic!("{error}"),
    }
}

/// Waits until a waiting client has its answer, and moves those that have one to `served`.
fn next_answers(waiting: &mut Vec<TcpStream>, served: &mut Vec<TcpStream>, at_most: Duration) -> bool {
    let start = Instant::now();
    let before = waiting.len();
    while waiting.len() == before {
        if start.elapsed() > at_most {
            return false;
        }
        for mut stream in std::mem::take(waiting) {
            if has_answer(&mut stream) { served.push(stream) } else { waiting.push(stream) }
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    true
}

#[test]
fn two_hundred_clients_and_sixty_four_descriptors() {
    const CLIENTS: usize = 200;
    let is_strict = std::env::var_os("ANNULET_STRICT").is_some();
    let mut served = Served::start_by(std::process::Command::new("sh").args([
        "-c",
        "ulimit -n 64; exec \"$0\" \"$@\"",
        command(&[]).get_program().to_str().unwrap(),
        "--cores",
        &first_core(),
    ]));
    let connect = |_| {
        let mut stream = TcpStream::connect(served.address).unwrap();
        ask(&mut stream, "/");
        stream.set_nonblocking(true).unwrap();
        stream
    };
    let mut waiting: Vec<TcpStream> = (0..CLIENTS).map(connect).collect();
    let mut answered = Vec::new();
    while answered.len() < 8 {
        assert!(next_answers(&mut waiting, &mut answered, Duration::from_secs(30)), "nobody was answered");
    }
    // Those that were let in are answered; then nobody is for a while.
    while next_answers(&mut waiting, &mut answered, Duration::from_secs(1)) {}
    assert!((8..64).contains(&answered.len()), "{} of {CLIENTS} were let in", answered.len());

    // It is at rest while it can accept nobody.
    let before = cpu_time(served.pid());
    std::thread::sleep(Duration::from_secs(2));
    let used = cpu_time(served.pid()) - before;
    assert!(used < Duration::from_millis(100), "{used:?} of CPU in 2 s");

    // Who is in is served as ever.
    for _ in 0..3 {
        for stream in &mut answered {
            stream.set_nonblocking(false).unwrap();
            ask(stream, "/hello/you");
            assert_eq!(answer(stream).1, "<h1>hello, you!</h1>");
            stream.set_nonblocking(true).unwrap();
        }
    }

    // A place that becomes free is taken.
    let bound = if is_strict { Duration::from_millis(100) } else { Duration::from_secs(20) };
    let (mut all, in_at_first) = (answered.len(), answered.len());
    let mut longest = Duration::ZERO;
    while !waiting.is_empty() {
        drop(answered.pop().expect("somebody is in as long as somebody waits"));
        let (before, since) = (answered.len(), Instant::now());
        assert!(next_answers(&mut waiting, &mut answered, bound), "{} wait on", waiting.len());
        longest = longest.max(since.elapsed());
        all += answered.len() - before;
    }
    assert_eq!(all, CLIENTS);
    println!(
        "{in_at_first} of {CLIENTS} clients in; {:.3} % of a core while exhausted; at most {longest:?} from a free \
         descriptor to an answer",
        used.as_secs_f64() / 2.0 * 100.0
    );
    drop(answered);
    served.signal("TERM");
    assert!(served.wait(Duration::from_secs(30)).success());
    let said = served.said();
    assert_eq!(said.matches("accepting pauses").count(), 1, "said once: {said}");
}

#[test]
fn flags_of_proxies() {
    let header = "PROXY TCP4 192.0.2.1 198.51.100.1 5 80\r\n";
    let check = |flags: &[&str], header: &str, expected: &str| {
        let core = first_core();
        let served = Served::start(&[&["--cores", &core], flags].concat());
        let mut stream = TcpStream::connect(served.address).unwrap();
        write!(stream, "{header}GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert_eq!(answer.get(9..12), Some(expected), "{flags:?} {header:?}: {answer}");
    };
    for workers in [&[][..], &["--workers", "threads"], &["--workers", "processes"]] {
        let with = |flags: &[&'static str]| [flags, workers].concat();
        check(&with(&["--proxy-protocol", "10.0.0.0/8,127.0.0.0/8"]), header, "200");
        check(&with(&["--proxy-protocol", "127.0.0.1"]), "", "400");
    }
    check(&["--proxy-protocol", "10.0.0.0/8"], header, "403");
    check(&[], header, "400");
    check(&["--trusted-proxies", "127.0.0.1", "--forwarded"], "", "200");
    let refused = |flags: &[&str], expected: &str| {
        let output = command(flags).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(expected), "{flags:?}: {said}");
    };
    refused(&["--proxy-protocol", "10.0.0.1/8"], "bits beyond its prefix");
    refused(&["--forwarded"], "--trusted-proxies");
}

/// Sends this and reads to the end of the connection.
fn converse(served: &Served, request: &str) -> String {
    let mut stream = TcpStream::connect(served.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answers = Vec::new();
    match stream.read_to_end(&mut answers) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
    String::from_utf8(answers).unwrap()
}

/// Those that other tests do not set. The server would go on with its defaults otherwise, and nobody would notice.
#[test]
fn limits_are_what_their_flags_say() {
    let core = first_core();
    let start = |flags: &[&str]| Served::start(&[&["--cores", &core], flags].concat());
    let served = start(&["--connections", "1", "--target-bytes", "20"]);
    let mut only = TcpStream::connect(served.address).unwrap();
    ask(&mut only, "/hello/1234567890123");
    assert_eq!(answer(&mut only).0, "HTTP/1.1 200 OK");
    assert!(converse(&served, "").starts_with("HTTP/1.1 503 "), "one connection is enough");
    ask(&mut only, "/hello/12345678901234");
    assert_eq!(answer(&mut only).0, "HTTP/1.1 414 URI Too Long");
    for flag in ["--body-timeout", "--body-total-timeout"] {
        let served = start(&[flag, "100ms", "--body-rate", "0"]);
        let begun = Instant::now();
        let half = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello";
        let answers = converse(&served, half);
        assert!(answers.starts_with("HTTP/1.1 405 "), "{flag}: {answers}");
        assert!(begun.elapsed() < Duration::from_secs(20), "{flag}: {:?}", begun.elapsed());
    }
}
