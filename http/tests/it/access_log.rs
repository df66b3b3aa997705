//! Lines for answers of every kind.
use std::net::Shutdown;
use std::sync::Arc;
use std::time::Duration;

use annulet::net::{TcpListener, TcpStream};
use annulet_http::{AccessLog, LogFormat, Server};

use crate::client::{connect_narrow, limits, read_all, router, unhurried};

/// The lines for these conversations, one after the other, without their times.
fn check(name: &str, conversations: &[&str], expected: &[&str]) {
    let path = std::env::temp_dir().join(format!("annulet-log-{name}-{}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let file = Arc::new(std::fs::File::options().append(true).create(true).open(&path).unwrap());
    annulet::run(async {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let log = AccessLog::new(file, LogFormat::Combined);
        let server = Server::new(router()).with_limits(limits()).with_access_log(log);
        drop(annulet::spawn(async move { server.serve(listener).await }));
        for conversation in conversations {
            let stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(conversation.as_bytes()).await.unwrap();
            stream.flush().await.unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            read_all(&stream).await;
        }
        for _ in 0..500 {
            if std::fs::read_to_string(&path).unwrap().lines().count() >= expected.len() {
                break;
            }
            annulet::time::sleep(Duration::from_millis(10)).await;
        }
    });
    let said = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let lines: Vec<String> = said
        .lines()
        .map(|line| {
            let rest = line.strip_prefix("127.0.0.1 - - [").expect("the client");
            rest.split_once("] ").expect("a time").1.to_owned()
        })
        .collect();
    assert_eq!(lines, expected);
}

#[test]
fn every_answer_has_a_line() {
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: a\r\nReferer: r\r\nUser-Agent: u\r\n\r\n");
    let pipelined = get("/") + &get("/slow") + &get("/nowhere") + &get("/large") + &get("/");
    let head = "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned();
    let post = |body: &str| {
        let length = body.len();
        format!("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{body}")
    };
    check(
        "lines",
        &[
            &pipelined,
            &(head + &post("hello") + &get("/")),
            "GET / HTTP/1.1\r\n\r\n",
            "GET /\"\x01 HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / HT",
            "",
            &post(&"x".repeat(100_001))[..80],
        ],
        &[
            r#""GET / HTTP/1.1" 200 14 "r" "u""#,
            r#""GET /slow HTTP/1.1" 200 4 "r" "u""#,
            r#""GET /nowhere HTTP/1.1" 404 9 "r" "u""#,
            r#""GET /large HTTP/1.1" 200 40000 "r" "u""#,
            r#""GET / HTTP/1.1" 200 14 "r" "u""#,
            r#""HEAD / HTTP/1.1" 200 0 "-" "-""#,
            r#""POST /echo HTTP/1.1" 200 5 "-" "-""#,
            r#""GET / HTTP/1.1" 200 14 "r" "u""#,
            r#""GET / HTTP/1.1" 400 11 "-" "-""#,
            r#""GET /\"\u0001 HTTP/1.1" 400 11 "-" "-""#,
            r#""GET / HT" 400 11 "-" "-""#,
            r#""POST /echo HTTP/1.1" 413 17 "-" "-""#,
        ],
    );
}

/// Who it was is told of those, too, that are gone when their line is written.
#[test]
fn a_client_that_resets_is_named() {
    let path = std::env::temp_dir().join(format!("annulet-log-reset-{}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let file = Arc::new(std::fs::File::options().append(true).create(true).open(&path).unwrap());
    annulet::run(async {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let log = AccessLog::new(file, LogFormat::Common);
        let server = Server::new(router()).with_limits(unhurried()).with_access_log(log);
        let drain = server.drain_handle();
        drop(annulet::spawn(async move { server.serve(listener).await }));
        for target in ["/forever", "/huge"] {
            let stream = connect_narrow(address);
            let get = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
            // The first answer says that the second is at work.
            stream
                .write_all(("GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned() + &get).as_bytes())
                .await
                .unwrap();
            stream.recv().await.unwrap().expect("the first answer");
            stream.set_zero_linger().unwrap();
            drop(stream);
            while drain.connections() > 0 {
                annulet::time::sleep(Duration::from_millis(1)).await;
            }
        }
    });
    // The end of the loop has written what was left.
    let said = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let of =
        |target: &str| said.lines().find(|line| line.contains(target)).unwrap_or_else(|| panic!("{said}"));
    for target in ["/forever", "/huge"] {
        assert!(of(target).starts_with("127.0.0.1 - - ["), "{said}");
    }
    assert!(of("/forever").ends_with("\"GET /forever HTTP/1.1\" 0 0"), "{said}");
}

/// A line for a request, whatever comes before its answer.
#[test]
fn answers_before_the_answer_have_no_line() {
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
    let post = "POST /hint HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";
    check(
        "hints",
        &[&(get("/hint") + &get("/") + post + &get("/"))],
        &[
            r#""GET /hint HTTP/1.1" 200 4 "-" "-""#,
            r#""GET / HTTP/1.1" 200 14 "-" "-""#,
            r#""POST /hint HTTP/1.1" 200 4 "-" "-""#,
            r#""GET / HTTP/1.1" 200 14 "-" "-""#,
        ],
    );
}

#[test]
fn long_answers_are_counted_whole() {
    let get = "GET /huge HTTP/1.1\r\nHost: a\r\n\r\n";
    check("long", &[get], &[r#""GET /huge HTTP/1.1" 200 16777216 "-" "-""#]);
    let get = "GET /pieces HTTP/1.1\r\nHost: a\r\n\r\n";
    check("pieces", &[get], &[r#""GET /pieces HTTP/1.1" 200 5 "-" "-""#]);
}
