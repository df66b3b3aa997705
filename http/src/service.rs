//! From received bytes to answers, without I/O: parse, route, call, encode, request after request until something has to be
//! waited for. This is the hot path; the server's pump and the offline tools both run it.
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::task::Context;
use std::time::{Instant, SystemTime};

use http::{Method, Version};

use crate::date::DateCache;
use crate::h1::encode::{self, Answer, DATE_END_BYTES};
use crate::h1::framing::Framing;
use crate::h1::head::{Parse, Parser, is_head_request};
use crate::h1::{Limits, Refusal};
use crate::handler::{PendingCall, panic_answer};
use crate::request::Request;
use crate::response::{IntoResponse, Response};
use crate::router::{Miss, Router, Target};

/// What one core serves: its routes, its limits, the date.
#[derive(Debug)]
pub(crate) struct Service {
    router: Router,
    parser: RefCell<Parser>,
    date: RefCell<DateCache>,
    /// Answers from now on end their connections.
    drains: Cell<bool>,
}

/// Where answers go.
pub(crate) trait Sink {
    /// Lets `write` append.
    fn append(&mut self, write: impl FnOnce(&mut Vec<u8>));
    /// Whether enough is waiting to leave, so that no further answer should be made.
    fn is_full(&self) -> bool;
}

/// What has to be known about a request to write its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) is_head: bool,
    pub(crate) is_old: bool,
    pub(crate) keep_alive: bool,
}

/// Why [`Service::serve`] came back.
pub(crate) enum Stop {
    /// All whole requests are answered.
    NeedInput,
    /// A handler waits.
    Wait(PendingCall, Facts),
    /// A request with a body begins. Its handler has not been called, its answer not been written.
    Body(Box<WithBody>),
    /// The sink is full.
    Full,
    /// The last answer has been written.
    Close,
}

/// A request whose body follows.
pub(crate) struct WithBody {
    pub(crate) request: Request,
    /// Where it is routed to.
    pub(crate) target: Result<Target, Miss>,
    pub(crate) facts: Facts,
}

/// How far a batch of requests has come, for who goes on behind a handler's panic.
struct Batch {
    /// Bytes of the input.
    used: usize,
    /// Set while a handler is called.
    at_work: Option<Facts>,
    date: [u8; DATE_END_BYTES],
}

impl Service {
    pub(crate) fn new(router: Router, limits: Limits) -> Service {
        Service {
            router,
            parser: RefCell::new(Parser::new(limits)),
            date: RefCell::new(DateCache::new()),
            drains: Cell::new(false),
        }
    }

    pub(crate) fn router(&self) -> &Router {
        &self.router
    }

    /// Calls one handler and polls it once: its answer, or what has to be waited for. A panic becomes the answer 500.
    pub(crate) fn call(
        &self,
        target: Target,
        request: Request,
        cx: &mut Context<'_>,
    ) -> Result<Response, PendingCall> {
        let mut answer = None;
        // See `serve`.
        match catch_unwind(AssertUnwindSafe(|| self.router.call(target, request, cx, &mut answer))) {
            Ok(Some(call)) => Err(call),
            Ok(None) => Ok(answer.expect("who does not wait has answered")),
            Err(_) => Ok(panic_answer()),
        }
    }

    /// From now on every answer is the last of its connection.
    pub(crate) fn drain(&self) {
        self.drains.set(true);
    }

    pub(crate) fn drains(&self) -> bool {
        self.drains.get()
    }

    /// Answers what can be answered of `input`. Comes back with the number of bytes used and the reason to stop.
    #[inline]
    pub(crate) fn serve(
        &self,
        input: &[u8],
        now: Instant,
        cx: &mut Context<'_>,
        sink: &mut impl Sink,
    ) -> (usize, Stop) {
        let date = *self.date.borrow_mut().line(now, SystemTime::now);
        let mut batch = Batch { used: 0, at_work: None, date };
        loop {
            // Once a batch and not once a call: then an answer can be made where it stays.
            let served =
                catch_unwind(AssertUnwindSafe(|| self.serve_until_panic(input, now, cx, sink, &mut batch)));
            match (served, batch.at_work.take()) {
                (Ok(stop), _) => return (batch.used, stop),
                // What the handler was doing is dropped: nothing broken can be seen afterwards.
                (Err(_), Some(facts)) => {
                    if !self.write_dated(&panic_answer(), facts, &batch.date, sink) {
                        return (batch.used, Stop::Close);
                    }
                }
                // Not a handler's panic.
                (Err(panic), None) => resume_unwind(panic),
            }
        }
    }

    #[inline]
    fn serve_until_panic(
        &self,
        input: &[u8],
        now: Instant,
        cx: &mut Context<'_>,
        sink: &mut impl Sink,
        batch: &mut Batch,
    ) -> Stop {
        while batch.used < input.len() {
            if sink.is_full() {
                return Stop::Full;
            }
            let mut request = Request::take();
            let rest = &input[batch.used..];
            match request.parse(&mut self.parser.borrow_mut(), rest) {
                Parse::Complete(()) => {}
                Parse::Partial => break,
                Parse::Error(why) => {
                    self.refuse(why, is_head_request(rest), now, sink);
                    batch.used = input.len();
                    return Stop::Close;
                }
            }
            let head = request.head();
            batch.used += head.used();
            let facts = Facts {
                is_head: !head.is_get && *request.method() == Method::HEAD,
                is_old: head.version == Version::HTTP_10,
                keep_alive: head.keep_alive,
            };
            let has_body = head.framing != Framing::None;
            let target = self.router.find(rest, &mut request);
            if has_body {
                return stop_for_body(request, target, facts);
            }
            let mut answer = None;
            match target {
                Ok(target) => {
                    batch.at_work = Some(facts);
                    let waits = self.router.call(target, request, cx, &mut answer);
                    batch.at_work = None;
                    if let Some(call) = waits {
                        return Stop::Wait(call, facts);
                    }
                }
                Err(miss) => answer = Some(self.router.answer(miss)),
            }
            let answer = answer.as_ref().expect("who does not wait has answered");
            if !self.write_dated(answer, facts, &batch.date, sink) {
                return Stop::Close;
            }
        }
        Stop::NeedInput
    }

    /// Writes an answer; says whether the connection persists.
    #[inline]
    pub(crate) fn write(&self, answer: &Response, facts: Facts, now: Instant, sink: &mut impl Sink) -> bool {
        let date = *self.date.borrow_mut().line(now, SystemTime::now);
        self.write_dated(answer, facts, &date, sink)
    }

    #[inline]
    fn write_dated(
        &self,
        answer: &Response,
        facts: Facts,
        date: &[u8; DATE_END_BYTES],
        sink: &mut impl Sink,
    ) -> bool {
        let persists = facts.keep_alive && !answer.closes && !self.drains.get();
        let answer = Answer {
            status: answer.status,
            content_type: answer.content_type,
            headers: answer.headers(),
            body: answer.body(),
            is_head: facts.is_head,
            version: if facts.is_old { Version::HTTP_10 } else { Version::HTTP_11 },
            persists,
            date,
        };
        sink.append(|out| encode::response(out, &answer));
        persists
    }

    /// Writes the answer to a message that cannot be answered otherwise, without content if it is HEAD (RFC 9110 section 9.3.2). The connection is to be closed.
    #[cold]
    pub(crate) fn refuse(&self, why: Refusal, is_head: bool, now: Instant, sink: &mut impl Sink) {
        let facts = Facts { is_head, is_old: false, keep_alive: false };
        self.write(&why.status().into_response(), facts, now, sink);
    }
}

fn stop_for_body(request: Request, target: Result<Target, Miss>, facts: Facts) -> Stop {
    Stop::Body(Box::new(WithBody { request, target, facts }))
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::task::Waker;

    use super::*;

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
        let (used, stop) = service.serve(input.as_bytes(), Instant::now(), &mut cx, &mut out);
        let text = String::from_utf8(out.bytes).unwrap();
        let mut trace: Vec<String> =
            text.split("HTTP/1.1 ").skip(1).map(|answer| answer[..3].to_owned()).collect();
        trace.push(match stop {
            Stop::NeedInput => "need input".into(),
            Stop::Wait(..) => "wait".into(),
            Stop::Body(begun) => format!("body {:?}", begun.request.head().framing),
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
        check("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", "body Chunked +0");
    }

    #[test]
    fn the_last_answers() {
        let service = Service::new(Router::new(), Limits::default());
        service.drain();
        let mut out = Out { bytes: Vec::new(), bytes_max: 400 };
        let facts = Facts { is_head: false, is_old: false, keep_alive: true };
        assert!(!service.write(&().into_response(), facts, Instant::now(), &mut out));
        assert!(String::from_utf8(out.bytes).unwrap().contains("connection: close\r\n"));
    }
}
