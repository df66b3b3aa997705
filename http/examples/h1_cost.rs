//! What a request costs between its bytes and its answer's bytes: parse, framing, route, handler, encode.
//!
//! Goal: the instructions and nanoseconds that HTTP adds to a server that would not even parse. Non-goals: the kernel, the sockets,
//! the loop. Run it alone for nanoseconds, or count instructions:
//!
//! ```text
//! cargo run --release --example h1_cost -- 3000000
//! valgrind --tool=callgrind --toggle-collect='h1_cost::measured' target/release/examples/h1_cost 100000 /hello/bob
//! ```
use std::hint::black_box;
use std::time::Instant;

use annulet_http::offline::{Offline, Outcome};
use annulet_http::{IntoResponse, Limits, Page, Request, Response, Router};

/// As many as a client with 16-deep pipelining sends at once.
const REQUESTS_PER_BATCH: usize = 16;

async fn index(_: Request) -> impl IntoResponse {
    Response::html("<h1>Index</h1>")
}

async fn hello(request: Request) -> impl IntoResponse {
    let name = request.param("name").unwrap_or_default();
    let mut page = Page::new();
    page.push("<h1>hello, ").push_escaped(name).push("!</h1>");
    page
}

#[inline(never)]
fn measured(server: &Offline, input: &[u8], batches: usize, answers: &mut Vec<u8>) {
    let now = Instant::now();
    for _ in 0..batches {
        answers.clear();
        let outcome = server.answer(black_box(input), now, answers);
        assert_eq!(outcome, Outcome::Answered { used: input.len() });
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| !argument.starts_with("--"));
    let requests = arguments.next().and_then(|count| count.parse().ok()).unwrap_or(1_000_000);
    let only: Option<String> = arguments.next();
    for path in ["/", "/hello/bob"] {
        if only.as_ref().is_none_or(|only| only == path) {
            let ns = ns_per_request(path, requests);
            println!("{path}: {ns:.1} ns per request, {requests} requests");
        }
    }
}

fn ns_per_request(path: &str, requests: usize) -> f64 {
    let server = Offline::new(Router::new().get("/", index).get("/hello/{name}", hello), Limits::default());
    let input = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1:8000\r\n\r\n").repeat(REQUESTS_PER_BATCH);
    let mut answers = Vec::new();
    let started = Instant::now();
    measured(&server, input.as_bytes(), requests / REQUESTS_PER_BATCH, &mut answers);
    started.elapsed().as_nanos() as f64 / requests as f64
}

#[test]
fn runs_at_a_small_size() {
    assert!(ns_per_request("/", 160) > 0.0);
    assert!(ns_per_request("/hello/bob", 160) > 0.0);
}
