//! The admin listener: counters, tasks, life and readiness.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use annulet::metrics::Board;
use annulet::{Builder, Loops};
use annulet_http::admin::{Admin, Running};
use annulet_http::{Request, Response, Router, Server};

/// The whole answer, its head and its content.
fn get(address: SocketAddr, target: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    write!(stream, "GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, content) = answer.split_once("\r\n\r\n").expect("an answer has a head");
    (head.to_owned(), content.to_owned())
}

/// A server on two loops, and its admin listener.
fn served() -> (Loops, Running) {
    let core = annulet::placement::available_cores().unwrap()[0];
    let board = Board::shared(2).unwrap();
    let loops = Builder::new()
        .cores([core, core])
        .listen("127.0.0.1:0".parse().unwrap())
        .metrics_board(board.clone(), 0)
        .start(|mut core| async move {
            let router = Router::new().get("/", async |_: Request| Response::html("<h1>Index</h1>"));
            let server = Server::new(router);
            for listener in core.take_listeners() {
                let server = server.clone();
                let name = format!("serving {}", core.index());
                drop(
                    annulet::task::Builder::new()
                        .name(&name)
                        .spawn(async move { server.serve(listener).await }),
                );
            }
            core.stopped().await;
        })
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let admin = Admin::new(loops.readiness().clone()).with_board(board).start(listener).unwrap();
    (loops, admin)
}

#[test]
fn it_tells_of_all_loops() {
    let (loops, admin) = served();
    for _ in 0..10 {
        assert!(get(loops.addresses()[0], "/").0.starts_with("HTTP/1.1 200 "));
    }
    assert!(get(loops.addresses()[0], "/none").0.starts_with("HTTP/1.1 404 "));
    let sum = |text: &str, begin: &str, label: &str| -> u64 {
        let lines = text.lines().filter(|line| line.starts_with(begin) && line.contains(label));
        lines.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
    };
    // A connection is closed a moment after its last answer.
    let until = Instant::now() + Duration::from_secs(20);
    let (head, text) = loop {
        let (head, text) = get(admin.address(), "/metrics");
        if sum(&text, "annulet_http_connections{", "") == 0 || Instant::now() > until {
            break (head, text);
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    assert!(head.contains("content-type: text/plain; version=0.0.4; charset=utf-8"), "{head}");
    assert_eq!(sum(&text, "annulet_http_requests_total{", "code=\"2xx\""), 10, "{text}");
    assert_eq!(sum(&text, "annulet_http_requests_total{", "code=\"4xx\""), 1, "{text}");
    assert_eq!(sum(&text, "annulet_http_connections_total{", ""), 11, "{text}");
    assert_eq!(sum(&text, "annulet_http_connections{", ""), 0, "{text}");
    assert_eq!(sum(&text, "annulet_accepts_total{", ""), 11, "{text}");
    assert_eq!(text.lines().filter(|line| line.starts_with("annulet_turns_total{")).count(), 2);
    for name in ["process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds"] {
        assert!(text.lines().any(|line| line.starts_with(&format!("{name} "))), "{name} in {text}");
    }

    let names = ["\"serving 0\"", "\"serving 1\"", "loop \"annulet-admin\""];
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        let (_, tasks) = get(admin.address(), "/tasks");
        if names.iter().all(|name| tasks.contains(name)) {
            break;
        }
        // A loop that the machine does not let run in time is left out.
        assert!(tasks.contains("did not answer") && Instant::now() < until, "{tasks}");
    }

    // Both are asked while the process drains, too.
    assert_eq!(get(admin.address(), "/livez").1, "alive\n");
    assert_eq!(get(admin.address(), "/readyz").1, "ready\n");
    loops.stop();
    let (head, state) = get(admin.address(), "/readyz");
    assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
    assert_eq!(state, "draining\n");
    assert!(get(admin.address(), "/livez").0.starts_with("HTTP/1.1 200 "));
    loops.join().unwrap();
    assert!(get(admin.address(), "/metrics").0.starts_with("HTTP/1.1 200 "));
    let address = admin.address();
    drop(admin);
    let until = Instant::now() + Duration::from_secs(20);
    while TcpStream::connect(address).is_ok() {
        assert!(Instant::now() < until, "it ends when it is dropped");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Words of a text that could be names of metrics.
fn names(text: &str) -> BTreeSet<&str> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .filter(|word| word.starts_with("annulet_") || word.starts_with("process_"))
        .collect()
}

#[test]
fn the_dashboard_asks_for_what_there_is() {
    let (loops, admin) = served();
    let (_, text) = get(admin.address(), "/metrics");
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/deploy/grafana.json");
    let dashboard: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let samples: BTreeSet<&str> = text.lines().filter_map(|line| line.split(['{', ' ']).next()).collect();
    let mut asked = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().unwrap() {
            asked.extend(names(target["expr"].as_str().unwrap()));
        }
    }
    let missing: Vec<_> = asked.difference(&samples).collect();
    assert!(missing.is_empty(), "not in /metrics: {missing:?}");
    assert!(asked.len() > 20, "{asked:?}");
    loops.stop();
    loops.join().unwrap();
}
