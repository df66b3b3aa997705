//! Request after request: parse, route, call and have the answer written, until something has to be waited for.
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::task::Context;
use std::time::{Instant, SystemTime};

use http::{Method, Version};

use super::write::{Leaving, Sink, Written};
use super::{Facts, Service};
use crate::h1::encode::DATE_END_BYTES;
use crate::h1::head::Parse;
use crate::h1::{Refusal, is_head_request};
use crate::handler::{PendingCall, panic_answer};
use crate::proxy::{Peer, is_header_begun};
use crate::request::Request;
use crate::response::Response;
use crate::router::{Miss, Target};
use crate::trace;
use crate::upgrade::Upgrade;

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
}

fn stop_for_body(request: Request, target: Result<Target, Miss>, facts: Facts) -> Stop {
    Stop::Body(Box::new(WithBody { request, target, facts }))
}
