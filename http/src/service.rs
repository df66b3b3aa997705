//! From received bytes to answers, without I/O: parse, route, call, encode, request after request until something has to be
//! waited for. This is the hot path; the server's pump and the offline tools both run it.
use std::cell::{Cell, OnceCell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::task::Context;
use std::time::{Instant, SystemTime};

use annulet::metrics::{Counter, Row};
use http::{HeaderValue, Method, Version, header};

use crate::date::DateCache;
use crate::files::Pieces;
use crate::h1::encode::{self, Answer, DATE_END_BYTES, Length};
use crate::h1::head::{Parse, Parser};
use crate::h1::outgoing::Outgoing;
use crate::h1::{Limits, Refusal, is_head_request};
use crate::handler::{PendingCall, panic_answer};
use crate::proxy::{Peer, is_header_begun};
use crate::request::Request;
use crate::response::{Body, IntoResponse, Response, Special};
use crate::router::{Miss, Router, Target};
use crate::stream::{Data, Streamed};
use crate::trace;
use crate::upgrade::Upgrade;

/// Longer content is not copied into the send buffer at once but in pieces of this length, as the client takes them. In bytes.
pub(crate) const PIECE_BYTES_MAX: usize = 64 * 1024;

/// An answer of at most so many bytes is made whatever memory there is: what tells a client that there is none is no shorter. As much
/// of a request that has not come whole is kept. In bytes.
pub(crate) const SMALL_BYTES_MAX: usize = 4 * 1024;

/// What one core serves: its routes, its limits, the date.
#[derive(Debug)]
pub(crate) struct Service {
    router: Router,
    parser: RefCell<Parser>,
    date: RefCell<DateCache>,
    /// Answers from now on end their connections.
    last_answers: Cell<bool>,
    /// Idle connections are closed too.
    drains: Cell<bool>,
    /// The counters of the loop, once it has begun to serve.
    row: OnceCell<Row>,
    /// The field `Server` of all answers, as the encoder wants it.
    server: Vec<u8>,
}

/// Where answers go.
pub(crate) trait Sink {
    /// Lets `write` append.
    fn append(&mut self, write: impl FnOnce(&mut Vec<u8>));
    /// Whether enough is waiting to leave, so that no further answer should be made.
    fn is_full(&self) -> bool;
    /// Whether there is memory for an answer that has to wait for its client, or that is a file.
    fn has_room(&self, is_file: bool) -> bool;
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
    /// The head of an answer has been written, its content is to follow.
    Leave(Box<Leaving>),
    /// The head of a 101 has been written.
    Upgrade(Box<Upgrade>),
    /// The sink is full.
    Full,
    /// The last answer has been written.
    Close,
}

/// What became of an answer.
pub(crate) enum Written {
    /// All of it is written; whether the connection persists.
    Whole(bool),
    /// Its content is to follow.
    Begun(Box<Leaving>),
    /// HTTP is over.
    Switched(Box<Upgrade>),
    /// An interim answer is written; the next one has to be waited for.
    Waits(PendingCall),
}

/// An answer whose content is to follow.
pub(crate) struct Leaving {
    pub(crate) source: Source,
    pub(crate) outgoing: Outgoing,
    /// Whether the connection persists behind it, if it comes to what was announced.
    pub(crate) persists: bool,
}

/// Where the content of an answer comes from.
pub(crate) enum Source {
    Whole(Data),
    Streamed(Streamed),
    Pieces(Box<Pieces>),
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
    course: Course,
}

/// Where a connection is in the succession of its requests.
#[derive(Clone, Copy)]
pub(crate) struct Course {
    /// Requests that may still come.
    pub(crate) requests_left: u32,
    /// Whether the next request is the first since the connection waited for bytes: then its earlier ones were over before this turn of
    /// the loop.
    pub(crate) is_first: bool,
}

impl Service {
    pub(crate) fn new(router: Router, limits: Limits) -> Service {
        Service {
            router: router.seal(),
            parser: RefCell::new(Parser::new(limits)),
            date: RefCell::new(DateCache::new()),
            last_answers: Cell::new(false),
            drains: Cell::new(false),
            row: OnceCell::new(),
            server: Vec::new(),
        }
    }

    /// What heads may hold.
    pub(crate) fn set_limits(&mut self, limits: Limits) {
        self.parser = RefCell::new(Parser::new(limits));
    }

    /// What answers say of who made them.
    pub(crate) fn set_server(&mut self, value: &HeaderValue) {
        self.server.clear();
        encode::push_field(&mut self.server, &header::SERVER, value);
    }

    /// Where this service counts.
    #[inline]
    pub(crate) fn row(&self) -> &Row {
        self.row.get_or_init(Row::current)
    }

    /// Counts into `row`, whatever loop it serves on. Without effect once it has served.
    pub(crate) fn count_into(&self, row: Row) {
        let _ = self.row.set(row);
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
        let called = AssertUnwindSafe(|| trace::call(&self.router, target, request, cx, &mut answer));
        match catch_unwind(called) {
            Ok(Some(call)) => Err(call),
            Ok(None) => Ok(answer.expect("who does not wait has answered")),
            Err(_) => Ok(panic_answer()),
        }
    }

    /// From now on every answer is the last of its connection.
    pub(crate) fn announce_end(&self) {
        self.last_answers.set(true);
    }

    /// From now on idle connections are not kept either.
    pub(crate) fn drain(&self) {
        self.announce_end();
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
        course: &mut Course,
        peer: Option<&Rc<Peer>>,
        cx: &mut Context<'_>,
        sink: &mut impl Sink,
    ) -> (usize, Stop) {
        let date = *self.date.borrow_mut().line(now, SystemTime::now);
        let mut batch = Batch { used: 0, at_work: None, date, course: *course };
        let stop = self.serve_batch(input, now, peer, cx, sink, &mut batch);
        *course = batch.course;
        (batch.used, stop)
    }

    #[inline]
    fn serve_batch(
        &self,
        input: &[u8],
        now: Instant,
        peer: Option<&Rc<Peer>>,
        cx: &mut Context<'_>,
        sink: &mut impl Sink,
        batch: &mut Batch,
    ) -> Stop {
        loop {
            // Once a batch and not once a call: then an answer can be made where it stays.
            let served =
                catch_unwind(AssertUnwindSafe(|| self.serve_until_panic(input, now, peer, cx, sink, batch)));
            match (served, batch.at_work.take()) {
                (Ok(stop), _) => return stop,
                // What the handler was doing is dropped: nothing broken can be seen afterwards.
                (Err(_), Some(facts)) => {
                    if let Written::Whole(false) =
                        self.write_dated(&mut panic_answer(), facts, &batch.date, sink)
                    {
                        return Stop::Close;
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
        peer: Option<&Rc<Peer>>,
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
                Parse::Complete(()) => peer.into_iter().for_each(|peer| request.set_peer(peer)),
                Parse::Partial => break,
                Parse::Error(why) => {
                    let why = if is_header_begun(rest) { Refusal::ProxyUnexpected } else { why };
                    self.refuse(why, is_head_request(rest), now, sink);
                    batch.used = input.len();
                    return Stop::Close;
                }
            }
            if std::mem::take(&mut batch.course.is_first) {
                request.set_first();
            }
            let head = request.head();
            batch.used += head.used();
            let facts = Facts {
                is_head: !head.is_get && *request.method() == Method::HEAD,
                is_old: head.version == Version::HTTP_10,
                keep_alive: head.keep_alive && batch.course.requests_left != 1,
            };
            // The one after the last is not read.
            batch.course.requests_left = batch.course.requests_left.wrapping_sub(1);
            let has_body = head.framing.has_content();
            let is_misdirected = head.is_https && !peer.is_some_and(|peer| peer.takes_https());
            let target =
                if is_misdirected { Err(Miss::misdirected()) } else { self.router.find(rest, &mut request) };
            if has_body {
                return stop_for_body(request, target, facts);
            }
            let mut answer = None;
            match target {
                Ok(target) => {
                    batch.at_work = Some(facts);
                    let waits = trace::call(&self.router, target, request, cx, &mut answer);
                    batch.at_work = None;
                    if let Some(call) = waits {
                        return Stop::Wait(call, facts);
                    }
                }
                Err(miss) => answer = Some(trace::miss(&self.router, miss, &request)),
            }
            let answer = answer.as_mut().expect("who does not wait has answered");
            match self.write_dated(answer, facts, &batch.date, sink) {
                Written::Whole(true) => {}
                Written::Whole(false) => return Stop::Close,
                Written::Begun(leaving) => return Stop::Leave(leaving),
                Written::Switched(upgrade) => return Stop::Upgrade(upgrade),
                Written::Waits(call) => return Stop::Wait(call, facts),
            }
        }
        Stop::NeedInput
    }

    /// Writes an answer, or its head if its content is to follow.
    pub(crate) fn write(
        &self,
        answer: &mut Response,
        facts: Facts,
        now: Instant,
        sink: &mut impl Sink,
    ) -> Written {
        let date = *self.date.borrow_mut().line(now, SystemTime::now);
        self.write_dated(answer, facts, &date, sink)
    }

    #[inline]
    fn write_dated(
        &self,
        answer: &mut Response,
        facts: Facts,
        date: &[u8; DATE_END_BYTES],
        sink: &mut impl Sink,
    ) -> Written {
        if answer.is_plain() && self.server.is_empty() && answer.body().len() <= SMALL_BYTES_MAX {
            self.count(answer);
            // Without fields of its own, as the compiler can see.
            let persists = self.persists(answer, facts);
            let answer =
                Answer { body: answer.body(), persists, headers: &[], ..in_short(answer, facts, b"", date) };
            sink.append(|out| encode::response(out, &answer));
            return Written::Whole(persists);
        }
        self.write_any(answer, facts, date, sink)
    }

    #[inline(never)]
    fn write_any(
        &self,
        answer: &mut Response,
        facts: Facts,
        date: &[u8; DATE_END_BYTES],
        sink: &mut impl Sink,
    ) -> Written {
        if !answer.is_whole() || answer.body().len() > PIECE_BYTES_MAX {
            return self.begin(answer, facts, date, sink);
        }
        if answer.body().len() > SMALL_BYTES_MAX && !facts.is_head && !sink.has_room(false) {
            return self.refuse_for_memory(facts, date, sink);
        }
        self.count(answer);
        let persists = self.persists(answer, facts);
        let answer = Answer { body: answer.body(), persists, ..in_short(answer, facts, &self.server, date) };
        sink.append(|out| encode::response(out, &answer));
        Written::Whole(persists)
    }

    #[inline]
    fn count(&self, answer: &Response) {
        self.row().add(Counter::of_status(answer.status.as_u16()), 1);
    }

    #[inline]
    fn persists(&self, answer: &Response, facts: Facts) -> bool {
        facts.keep_alive && !answer.closes && !self.last_answers.get()
    }

    /// Writes the head of an answer whose content is not in memory, or too long.
    #[cold]
    fn begin(
        &self,
        answer: &mut Response,
        facts: Facts,
        date: &[u8; DATE_END_BYTES],
        sink: &mut impl Sink,
    ) -> Written {
        if !facts.is_head && answer.leaves_slowly().is_some_and(|is_file| !sink.has_room(is_file)) {
            return self.refuse_for_memory(facts, date, sink);
        }
        if let Some(call) = answer.take_interim() {
            // RFC 9110 section 15.2: not to a client of HTTP/1.0.
            if !facts.is_old {
                sink.append(|out| encode::interim(out, answer.status, answer.headers()));
            }
            return Written::Waits(call);
        }
        self.count(answer);
        let whole = |data: Data| (Some(data.rest().len() as u64), Source::Whole(data));
        let (length, source) = match answer.take_body() {
            (_, Some(Special::Upgrade(upgrade))) => {
                let headers = answer.headers();
                sink.append(|out| encode::switching(out, &upgrade.protocol, headers, date));
                return Written::Switched(Box::new(upgrade));
            }
            (_, Some(Special::Interim(_))) => unreachable!("taken out above"),
            (_, Some(Special::Streamed(streamed))) => (streamed.length, Source::Streamed(streamed)),
            (_, Some(Special::Pieces(pieces))) => (Some(pieces.len()), Source::Pieces(pieces)),
            (Body::Static(bytes), None) => whole(bytes.into()),
            (Body::Bytes(bytes), None) => whole(bytes.into()),
            (Body::Recycled(buffer), None) => whole(buffer.into_vec().into()),
        };
        let length = match length {
            Some(length) => Length::Known(length),
            None if facts.is_old => Length::UntilClose,
            None => Length::Chunked,
        };
        let persists = self.persists(answer, facts) && length != Length::UntilClose;
        let answer = Answer { persists, ..in_short(answer, facts, &self.server, date) };
        let mut follows = false;
        sink.append(|out| follows = encode::head(out, &answer, length));
        if !follows {
            return Written::Whole(persists);
        }
        Written::Begun(Box::new(Leaving { source, outgoing: Outgoing::new(length), persists }))
    }

    /// In place of an answer whose head is not out.
    #[cold]
    fn refuse_for_memory(&self, facts: Facts, date: &[u8; DATE_END_BYTES], sink: &mut impl Sink) -> Written {
        let facts = Facts { keep_alive: false, ..facts };
        self.write_dated(&mut Refusal::Memory.status().into_response(), facts, date, sink)
    }

    /// Writes the answer to a message that cannot be answered otherwise, without content if it is HEAD (RFC 9110 section 9.3.2). The connection is to be closed.
    #[cold]
    pub(crate) fn refuse(&self, why: Refusal, is_head: bool, now: Instant, sink: &mut impl Sink) {
        let facts = Facts { is_head, is_old: false, keep_alive: false };
        // Short, and the last.
        let mut answer = match why.told() {
            Some(text) => Response::text(format!("{text}\n")).with_status(why.status()),
            None => why.status().into_response(),
        };
        let _ = self.write(&mut answer, facts, now, sink);
    }
}

/// An answer as the encoder wants it, without content.
#[inline]
fn in_short<'a>(
    answer: &'a Response,
    facts: Facts,
    server: &'a [u8],
    date: &'a [u8; DATE_END_BYTES],
) -> Answer<'a> {
    Answer {
        status: answer.status,
        content_type: answer.content_type,
        headers: answer.headers(),
        body: b"",
        is_head: facts.is_head,
        version: if facts.is_old { Version::HTTP_10 } else { Version::HTTP_11 },
        persists: false,
        server,
        date,
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
        let (used, stop) =
            service.serve(input.as_bytes(), Instant::now(), &mut course, None, &mut cx, &mut out);
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
}
