//! Everything that annulet-serve can do, on rings that refuse what annulet never asks of them: the default.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;

use crate::operations::{admin, get};
use crate::served::first_core;
use crate::supervised::{Supervised, TIME_MAX, until};

/// Larger than what leaves at once.
const LARGE: usize = 3 << 20;

fn large() -> Vec<u8> {
    (0..LARGE).map(|index| (index % 251) as u8).collect()
}

/// A directory to be served, and room for a log.
fn site(name: &str) -> tempfile::TempDir {
    let folder = tempfile::Builder::new().prefix(name).tempdir().unwrap();
    let files = folder.path().join("files");
    std::fs::create_dir(&files).unwrap();
    std::fs::write(files.join("index.html"), "<h1>Index</h1>").unwrap();
    std::fs::write(files.join("large.bin"), large()).unwrap();
    folder
}

fn arguments<'a>(folder: &'a Path, more: &[&'a str]) -> Vec<String> {
    let (files, log) = (folder.join("files"), folder.join("log"));
    let named = ["--dir", files.to_str().unwrap(), "--access-log", log.to_str().unwrap()];
    // Every flag that changes what is asked of a ring, or of the sockets on it.
    let flags = "--access-log-format json --admin 127.0.0.1:0 --batch --spin 20us --stall-limit 5s --backlog 64 \
                 --no-tcp-nodelay --tcp-keepalive 60s --tcp-user-timeout 20s --dual-stack --requests-per-connection 1000 \
                 --connections-per-address 500 --body-bytes 8388608 --drain-bytes 8388608 --delay 1ms --drain 20s --trusted-proxies 127.0.0.1 --forwarded";
    let all = named.into_iter().chain(flags.split_whitespace()).chain(more.iter().copied());
    all.map(str::to_owned).collect()
}

fn is_restricted(greeting: &str) -> bool {
    let ring = greeting.split("\nring ").nth(1).expect("it says what its rings can do");
    ring.split_whitespace().any(|feature| feature == "restrictions")
}

/// The whole answer to one request, behind a PROXY header.
fn asked(served: &Supervised, request: &str, body: &[u8]) -> (String, Vec<u8>) {
    let mut stream = TcpStream::connect(served.address).unwrap();
    stream.set_read_timeout(Some(TIME_MAX)).unwrap();
    let head = format!(
        "PROXY TCP4 192.0.2.1 127.0.0.1 5 80\r\n{request}\r\nHost: a\r\nConnection: close\r\nForwarded: for=192.0.2.9\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").expect("an answer");
    let head = String::from_utf8(answer[..end].to_vec()).unwrap();
    (head, answer.split_off(end + 4))
}

#[track_caller]
fn check(served: &Supervised, request: &str, status: &str, expected: &[u8]) {
    let (head, body) = asked(served, request, b"");
    assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{request:?}: {head}");
    assert!(body == expected, "{request:?}: {} bytes", body.len());
}

#[test]
fn every_feature_is_served_by_restricted_rings() {
    let core = first_core();
    for (mode, more) in [
        ("threads", &["--accept", "balance", "--connections-max", "500"][..]),
        ("processes", &["--accept", "steer"]),
    ] {
        let folder = site("annulet-restricted");
        let all = ["--workers", mode, "--cores", &core, "--proxy-protocol", "127.0.0.0/8"];
        let arguments = arguments(folder.path(), &[&all, more].concat());
        let mut served = Supervised::start(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
        if !is_restricted(&served.greeting) {
            println!(
                "every_feature_is_served_by_restricted_rings: skipped, no restrictions here: {}",
                served.greeting
            );
            return;
        }
        let large = large();
        for round in 1..=2 {
            check(&served, "GET / HTTP/1.1", "200", b"<h1>Index</h1>");
            check(&served, "GET /hello/you HTTP/1.1", "200", b"<h1>hello, you!</h1>");
            check(&served, "GET /large.bin HTTP/1.1", "200", &large);
            check(&served, "GET /large.bin HTTP/1.1\r\nRange: bytes=5-1000004", "206", &large[5..1_000_005]);
            check(&served, "HEAD /large.bin HTTP/1.1", "200", b"");
            check(&served, "GET /none HTTP/1.1", "404", b"Not Found");
            // A large body, of which more comes than a buffer holds, and less than is thrown away of one that nobody reads.
            let posted = &large[..LARGE / 5];
            let post = format!("POST /hello/you HTTP/1.1\r\nContent-Length: {}", posted.len());
            assert!(asked(&served, &post, posted).0.starts_with("HTTP/1.1 405"), "{post:?}");
            let admin = admin(&served.greeting);
            assert!(get(admin, "/readyz").starts_with("HTTP/1.1 200 "));
            assert!(get(admin, "/livez").starts_with("HTTP/1.1 200 "));
            assert!(get(admin, "/tasks").contains("loop \""));
            assert!(get(admin, "/metrics").contains("annulet_http_requests_total"));
            let log = folder.path().join("log");
            until("each answer has its line", || {
                let text = std::fs::read_to_string(&log).unwrap();
                let mut lines = text.lines();
                (lines.clone().count() == 7 * round && lines.all(|line| line.contains("192.0.2.")))
                    .then_some(())
            });
            served.signal("HUP");
            served.hear("every worker was replaced", round);
        }
        served.signal("USR1");
        served.hear("\"supervisor\" (", 1);
        // A client that waits for its answer when the end begins.
        let mut slow = TcpStream::connect(served.address).unwrap();
        slow.set_read_timeout(Some(TIME_MAX)).unwrap();
        slow.write_all(b"PROXY TCP4 192.0.2.1 127.0.0.1 5 80\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        let mut first = [0];
        slow.read_exact(&mut first).unwrap();
        served.signal("TERM");
        let mut rest = String::new();
        slow.read_to_string(&mut rest).unwrap();
        assert!(rest.ends_with("<h1>Index</h1>"), "{rest:?}");
        assert!(served.wait().success());
        let said = served.said().clone();
        for words in ["EACCES", "ermission denied", "panicked", "cut"] {
            assert!(!said.contains(words), "{words:?}: {said}");
        }
    }
}

#[cfg(feature = "tls")]
#[test]
fn tls_is_served_by_restricted_rings() {
    use annulet_http::Client;

    use crate::authority::Authority;
    use crate::served::Served;

    let (folder, authority) = (site("annulet-restricted-tls"), Authority::new("restricted"));
    let identity = authority.sign(&["localhost"]);
    let (cert, key) = (folder.path().join("a.pem"), folder.path().join("a.key"));
    std::fs::write(&cert, identity.chain).unwrap();
    std::fs::write(&key, identity.key).unwrap();
    let tls =
        ["--cores", &first_core(), "--tls-cert", cert.to_str().unwrap(), "--tls-key", key.to_str().unwrap()];
    let arguments = arguments(folder.path(), &tls);
    let mut served = Served::start(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    if !is_restricted(&served.greeting) {
        println!("tls_is_served_by_restricted_rings: skipped, no restrictions here: {}", served.greeting);
        return;
    }
    let base = format!("https://localhost:{}", served.address.port());
    // The client's ring is restricted as well: names are looked up, connections are made and kept.
    let root = authority.root;
    let (page, file) = annulet::run(async move {
        let client = Client::builder().add_root_pem(root.as_bytes()).build();
        let page = client.get(format!("{base}/hello/you")).send().await.unwrap().text().await.unwrap();
        let file = client.get(format!("{base}/large.bin")).send().await.unwrap().bytes().await.unwrap();
        (page, file)
    });
    assert_eq!(page, "<h1>hello, you!</h1>");
    assert!(file == large(), "{} bytes", file.len());
    served.signal("HUP");
    served.wait_for_line("the certificates were read again");
    served.signal("TERM");
    assert!(served.wait(TIME_MAX).success());
}
