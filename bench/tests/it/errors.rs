//! Everything that goes wrong has its line, its count and its exit code, and nothing hangs.

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use rustix::net::sockopt::set_socket_linger;
use rustix::net::{AddressFamily, SocketType};

use crate::support::{HELLO, answering, read_request, run, server};

/// Longer than any test waits.
const FOR_EVER: Duration = Duration::from_secs(600);

/// Runs a short load against a misbehaving server: which error it counts, which words it says, and that it is in time.
fn check(address: impl std::fmt::Display, kind: &str, words: &str) {
    let ran = run(&format!("load -c2 -t1 -d500ms --timeout 300ms --json - http://{address}/"));
    let report = ran.json();
    assert_eq!(ran.code, 4, "{kind}: {}", ran.out);
    assert!(report["error_counts"][kind].as_u64() > Some(0), "{kind}: {}", report["error_counts"]);
    assert_eq!(report["verdict"]["finding"], "invalid", "{kind}");
    let reasons = report["verdict"]["reasons"].to_string();
    assert!(reasons.contains(words), "{kind}: {words:?} in {reasons}");
    // Half a second of load, and no more than the timeout and a second.
    ran.within(Duration::from_millis(500 + 300 + 1000));
}

#[test]
fn an_answer_that_is_cut() {
    let address = server(|mut stream| {
        let _ = read_request(&mut stream);
        let _ = stream.write_all(&HELLO[..HELLO.len() - 2]);
    });
    check(address, "cut", "an answer was due");
}

#[test]
fn a_connection_that_is_closed_without_an_answer() {
    let address = server(|mut stream| drop(read_request(&mut stream)));
    check(address, "cut", "an answer was due");
}

#[test]
fn a_connection_that_is_reset() {
    let address = server(|mut stream| {
        let _ = read_request(&mut stream);
        // A close with this option sends a reset.
        set_socket_linger(&stream, Some(Duration::ZERO)).expect("it is a socket");
    });
    check(address, "reset", "a connection failed");
}

#[test]
fn framing_that_cannot_be_believed() {
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello";
    check(answering(answer), "malformed", "more than one Content-Length");
    check(
        answering(b"HTTP/1.1 200 OK\r\nContent-Length: five\r\n\r\nhello"),
        "malformed",
        "malformed Content-Length",
    );
    check(answering(b"SSH-2.0-OpenSSH_9.2\r\n"), "malformed", "malformed status line");
    check(
        answering(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhello"),
        "malformed",
        "more than was asked",
    );
    check(
        answering(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n"),
        "malformed",
        "malformed chunk size",
    );
}

#[test]
fn a_server_that_does_not_answer() {
    let address = server(|mut stream| {
        let _ = read_request(&mut stream);
        thread::sleep(FOR_EVER);
    });
    check(address, "timeout", "did not come within 300ms");
}

#[test]
fn an_answer_that_stops_half_way() {
    let address = server(|mut stream| {
        let _ = read_request(&mut stream);
        let _ = stream.write_all(&HELLO[..HELLO.len() - 2]);
        thread::sleep(FOR_EVER);
    });
    check(address, "timeout", "did not come within 300ms");
}

#[test]
fn answers_that_are_refusals() {
    let address = answering(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n");
    check(address, "status", "were not 2xx or 3xx");
}

#[test]
fn a_server_that_is_not_there() {
    // Bound and dropped: nobody listens on it now.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let ran = run(&format!("load -c4 -d1s http://{address}/"));
    assert_eq!((ran.code, ran.out.as_str()), (3, ""));
    assert!(ran.err.contains(&format!("cannot connect to {address}")), "{}", ran.err);
    assert!(ran.err.contains("is the server running?"), "{}", ran.err);
    assert_eq!(ran.err.lines().count(), 1, "{}", ran.err);
    ran.within(Duration::from_secs(1));
}

/// Nobody takes its connections, and its queue is full: the kernel drops what asks for one more.
#[test]
fn a_server_that_does_not_accept() {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    rustix::net::bind(&socket, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    rustix::net::listen(&socket, 0).unwrap();
    let listener = TcpListener::from(socket);
    let address = listener.local_addr().unwrap();
    let short = Duration::from_millis(200);
    // Until one is not taken any more.
    let queued: Vec<TcpStream> =
        std::iter::from_fn(|| TcpStream::connect_timeout(&address, short).ok()).take(16).collect();
    assert!(queued.len() < 16, "the queue is full");
    let ran = run(&format!("load -c2 -t1 -d1s --timeout 300ms http://{address}/"));
    assert_eq!(ran.code, 3, "{}", ran.err);
    assert!(ran.err.contains("no connection within 300ms (--timeout)"), "{}", ran.err);
    ran.within(Duration::from_millis(300 + 1000));
}

/// It accepts, and says nothing to a handshake.
#[test]
fn a_handshake_that_is_not_answered() {
    let address = server(|stream| {
        thread::sleep(FOR_EVER);
        drop(stream);
    });
    let ran = run(&format!("load -c2 -t1 -d1s --timeout 300ms --tls-insecure https://{address}/"));
    assert_eq!(ran.code, 3, "{}", ran.err);
    assert!(ran.err.contains("no connection within 300ms (--timeout)"), "{}", ran.err);
    ran.within(Duration::from_millis(300 + 1000));
}

#[test]
fn a_name_that_is_not_there() {
    // RFC 6761 section 6.4: this name never exists.
    let ran = run("load -d1s --timeout 2s http://nobody.invalid/");
    assert_eq!(ran.code, 3, "{}", ran.err);
    assert!(ran.err.contains("cannot look up nobody.invalid"), "{}", ran.err);
    ran.within(Duration::from_secs(3));
}

#[test]
fn a_full_disk() {
    let address = answering(HELLO);
    for flag in ["--json", "--hgrm", "--hlog"] {
        let ran = run(&format!("load -c1 -t1 -d200ms {flag} /dev/full http://{address}/"));
        assert_eq!(ran.code, 6, "{flag}: {}", ran.err);
        assert!(
            ran.err.contains("cannot write the report to /dev/full: No space left"),
            "{flag}: {}",
            ran.err
        );
        // What was measured is not lost with the file.
        assert!(ran.out.contains("Requests/sec"), "{flag}: {}", ran.out);
    }
}

#[test]
fn a_report_s_place_that_is_not_there_costs_no_measurement() {
    let ran = run("load -d30s --json /nowhere/report.json http://127.0.0.1:1/");
    assert_eq!(ran.code, 6, "{}", ran.err);
    assert!(ran.err.contains("/nowhere/report.json"), "{}", ran.err);
}

#[test]
fn a_rate_that_cannot_be_met() {
    let address = server(|mut stream| {
        while read_request(&mut stream).is_some() {
            thread::sleep(Duration::from_millis(20));
            if stream.write_all(HELLO).is_err() {
                return;
            }
        }
    });
    // Two connections of fifty answers a second at the most.
    let ran = run(&format!("load -c2 -t1 -R 1000 -d500ms --json - http://{address}/"));
    let report = ran.json();
    assert_eq!(ran.code, 5, "{}", report["verdict"]);
    assert!(report["unsent"].as_u64() > Some(100), "{}", report["unsent"]);
    // Where another thread had the load's core, that is the finding, and it says so.
    let words = match report["verdict"]["finding"].as_str() {
        Some("client-bound") => "another thread had its core",
        _ => "of 1000 requests a second",
    };
    assert!(report["verdict"]["reasons"].to_string().contains(words), "{}", report["verdict"]);
}

#[test]
fn wrong_usage() {
    let check = |line: &str, words: &str| {
        let ran = run(line);
        assert_eq!(ran.code, 2, "{line}: {}", ran.err);
        assert!(ran.err.contains(words), "{line}: {}", ran.err);
    };
    check("load ftp://127.0.0.1/", "only http:// and https://");
    check("load http://127.0.0.1/ http://127.0.0.2/", "one run loads one server");
    check("load --weights 1,2 http://127.0.0.1/", "give one each");
    check("load --cores 4096 http://127.0.0.1/", "no core 4096");
    check("load --body-file /nowhere/body http://127.0.0.1/", "/nowhere/body");
    check("load --body {random:5} http://127.0.0.1/", "write a range");
}
