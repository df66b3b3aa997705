//! Batches of requests, in one line what becomes of each; last answers.
use std::future::pending;
use std::task::{Context, Waker};
use std::time::Instant;

use super::*;
use crate::request::Request;
use crate::response::{IntoResponse, Response};

struct Out {
    bytes: Vec<u8>,
    bytes_max: usize,
}

impl Sink for Out {
    fn append(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.bytes);
    }

    fn is_full(&self) -> bool {
        self.bytes.len() >= self.bytes_max
    }

    fn has_room(&self, _: bool) -> bool {
        true
    }
}

/// Status codes of the answers, why it stopped, and how many bytes were left.
fn check(input: &str, expected: &str) {
    let router = Router::new()
        .get("/", async |_: Request| Response::html("<h1>Index</h1>"))
        .get("/close", async |_: Request| Response::html("").with_close())
        .get("/panic", async |request: Request| assert!(request.query().is_some(), "on purpose"))
        .get("/wait", |_| pending::<()>());
    let service = Service::new(router, Limits { body_bytes: 100, ..Limits::default() });
    let mut out = Out { bytes: Vec::new(), bytes_max: 400 };
    let mut cx = Context::from_waker(Waker::noop());
    let mut course = Course { requests_left: u32::MAX, is_first: false };
    let (used, stop) = service.serve(input.as_bytes(), Instant::now(), &mut course, None, &mut cx, &mut out);
    let text = String::from_utf8(out.bytes).unwrap();
    let mut trace: Vec<String> =
        text.split("HTTP/1.1 ").skip(1).map(|answer| answer[..3].to_owned()).collect();
    trace.push(match stop {
        Stop::NeedInput => "need input".into(),
        Stop::Wait(..) => "wait".into(),
        Stop::Body(begun) => format!("body {:?}", begun.request.head().framing),
        Stop::Leave(_) => "leave".into(),
        Stop::Upgrade(_) => "upgrade".into(),
        Stop::Full => "full".into(),
        Stop::Close => "close".into(),
    });
    trace.push(format!("+{}", input.len() - used));
    assert_eq!(trace.join(" "), expected, "{input:?}");
}

#[test]
fn batches() {
    const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    check("", "need input +0");
    check(GET, "200 need input +0");
    check(&GET[..10], "need input +10");
    check(&format!("{GET}{GET}GET"), "200 200 need input +3");
    check(&GET.repeat(9), "200 200 200 200 full +135");
    check(&format!("{GET}GET /wait HTTP/1.1\r\nHost: a\r\n\r\n{GET}"), "200 wait +27");
    check(&format!("{GET}GET /close HTTP/1.1\r\nHost: a\r\n\r\n{GET}"), "200 200 close +27");
    const PANIC: &str = "GET /panic HTTP/1.1\r\nHost: a\r\n\r\n";
    check(&format!("{PANIC}{PANIC}{GET}"), "500 500 200 need input +0");
    check(&format!("{GET}{PANIC}{GET}"), "200 500 200 need input +0");
    check("GET /panic HTTP/1.0\r\n\r\n", "500 close +0");
    check(&format!("{GET}GET /none HTTP/1.1\r\nHost: a\r\n\r\n{GET}"), "200 404 200 need input +0");
    check(&format!("GET / HTTP/1.1\r\n\r\n{GET}"), "400 close +0");
    check(&format!("GET / HTTP/1.0\r\n\r\n{GET}"), "200 close +27");
    check("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", "body Length(3) +3");
    check("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\nPOST", "405 need input +4");
    check("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", "body Chunked +0");
}

#[test]
fn the_last_answers() {
    let service = Service::new(Router::new(), Limits::default());
    service.drain();
    let mut out = Out { bytes: Vec::new(), bytes_max: 400 };
    let facts = Facts { is_head: false, is_old: false, keep_alive: true };
    let written = service.write(&mut ().into_response(), facts, Instant::now(), &mut out);
    assert!(matches!(written, Written::Whole(false)));
    assert!(String::from_utf8(out.bytes).unwrap().contains("connection: close\r\n"));
}
