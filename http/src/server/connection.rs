//! The pump between one socket and the protocol: a task that lives as long as its connection.
//!
//! Requests are answered where their bytes lie, in the receive buffer, as many as there are; all their answers leave in one send.
//! Before anything is waited for, the receive buffer goes back to the core's pool and what is left of it is copied into memory of
//! the connection's own, which an idle connection does not have.
//!
//! While a handler works, or content is made as it leaves, the socket is watched: a reset drops both.
//!
//! Here is what every request passes through. `answering` has handlers that wait and requests with a body, whose bytes `content`
//! gives, `leaving` and `sending` content that follows its head, `written` the patience with who does not read, `idle` the
//! clock between requests, `ending` the end.
mod answering;
mod content;
mod ending;
mod gather;
mod idle;
mod leaving;
mod logged;
mod meet;
mod rest;
mod sending;
mod tiny_window;
mod written;

use std::cell::{Cell, OnceCell, RefCell};
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use self::content::Reading;
pub(super) use self::gather::Gather;
use self::gather::Memory;
use self::idle::Idle;
use self::rest::{Input, Rest};
use super::Shared;
use super::admission::{Place, Seat};
use super::drain::Member;
use crate::access_log::Entry;
use crate::h1::{Refusal, is_empty_lines, is_head_request};
use crate::handler::PendingCall;
use crate::proxy::Peer;
use crate::service::{Course, Facts, Leaving, SMALL_BYTES_MAX, Stop, WithBody};
use crate::transport::Transport;
use crate::upgrade::Upgrade;

/// No further answer is made while so many bytes of answers are gathered behind a send. As many as [`TcpStream::write_ready`]
/// waits for, so that it waits when this is reached and there is room again behind it. In bytes.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// One connection. Shared between its task and the request at work, for its body.
pub(super) struct Connection<S> {
    stream: S,
    shared: Seat,
    /// Received bytes that outlived their receive buffer.
    rest: RefCell<Rest>,
    progress: Cell<Progress>,
    /// The request whose body is being read. Most have none.
    reading: RefCell<Option<Box<Reading>>>,
    /// Counts requests with bodies and their answers: a claim on a body is good while this stands still.
    claim: Cell<u32>,
    requests_left: Cell<u32>,
    idle: Cell<Idle>,
    /// What is known of the answer at work, for the access log if there is one.
    entry: Cell<Option<Box<Entry>>>,
    /// Who is at the other end, where that is kept in mind.
    peer: OnceCell<Rc<Peer>>,
}

/// What is known of the bytes in `rest`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// Nothing: they have not been looked at.
    New,
    /// There are none, and the next come in another turn of the loop than the last answer was made in.
    Awaited,
    /// They are empty lines before a request, a few bytes: for its clocks and its end the connection is idle.
    EmptyLines,
    /// They are the beginning of a head; more is needed.
    HeadBegun,
    /// As `HeadBegun`, and more has come.
    HeadGrown,
}

/// Why a connection is over.
enum End {
    /// The last answer has been written, or the connection was idle when it had to end: FIN, and read on a while.
    Finished,
    /// Nobody is there any more.
    Gone,
    /// It goes on, but not with HTTP.
    Upgraded(Box<Upgrade>),
}

/// What the pump has to do, other than to wait for input.
enum Turn {
    Call(PendingCall, Facts),
    Body(Box<WithBody>),
    /// The content of an answer follows its head.
    Leave(Box<Leaving>),
    /// So much waits to leave that no further answer is made.
    Full,
    End(End),
}

impl<S: Transport> Connection<S> {
    pub(super) fn new(stream: S, seat: Seat) -> Rc<Self> {
        Rc::new(Connection {
            stream,
            requests_left: Cell::new(seat.limits.requests_per_connection),
            shared: seat,
            idle: Cell::new(Idle::New),
            entry: Cell::default(),
            peer: OnceCell::new(),
            rest: RefCell::default(),
            progress: Cell::new(Progress::New),
            reading: RefCell::default(),
            claim: Cell::new(0),
        })
    }

    /// The connection's task.
    pub(super) fn run(stream: S, shared: Rc<Shared>, place: Option<Box<Place>>) -> impl Future<Output = ()> {
        // Outside of the future, which would keep room for the arguments all its life.
        let connection = Connection::new(stream, Seat::new(shared, place));
        async move {
            let _member = poll_fn(|cx| Poll::Ready(Member::join(connection.shared.shared(), true, cx))).await;
            connection.serve_all().await;
        }
    }

    /// From the first request to the end.
    pub(super) async fn serve_all(self: Rc<Self>) {
        let end = self.pump().await;
        self.log_answer();
        // In memory of their own, as bodies are: the idle connection does not make room for them.
        match end {
            End::Finished => Box::pin(ending::finish(self)).await,
            End::Upgraded(upgrade) => Box::pin(ending::pass_on(self, upgrade)).await,
            End::Gone => {}
        }
    }

    async fn pump(self: &Rc<Self>) -> End {
        if (!S::IS_PLAIN || self.shared.proxies.is_some()) && Box::pin(self.meet()).await.is_err() {
            return self.leave();
        }
        self.wait_idle();
        loop {
            match poll_fn(|cx| self.poll_turn(cx)).await {
                Turn::Call(call, facts) => match Box::pin(self.answer_later(call, facts)).await {
                    None => self.wait_for_next(),
                    Some(end) => return end,
                },
                Turn::Leave(leaving) => match Box::pin(self.leave_in_pieces(leaving)).await {
                    None => self.wait_for_next(),
                    Some(end) => return end,
                },
                Turn::Body(begun) => match Box::pin(self.answer_with_body(begun)).await {
                    None => self.wait_for_next(),
                    Some(end) => return end,
                },
                Turn::Full => {
                    // For want of memory it is less than who writes would wait for: that has to leave first.
                    let is_short = self.stream.send_buffered() < ANSWER_BYTES_MAX;
                    let written = if is_short { S::poll_flush } else { S::poll_write_ready };
                    if !Box::pin(self.wait_written(written)).await {
                        return End::Gone;
                    }
                }
                Turn::End(end) => return end,
            }
        }
    }

    /// An answer is out: what it held is free, and the clock for the next request runs.
    fn wait_for_next(&self) {
        self.log_answer();
        self.shared.hold_anyway(self.rest.borrow().len());
        self.wait_idle();
    }

    /// Starts the clock of an idle connection. When an answer would have waited for too long, it is looked whether one has.
    #[inline]
    fn wait_idle(&self) {
        self.idle.set(Idle::New);
        self.wait_at_most(self.first_look());
    }

    /// How long nothing has come when it is looked for the first time.
    pub(super) fn first_look(&self) -> Duration {
        self.shared.limits.keep_alive_timeout.min(self.shared.limits.write_timeout)
    }

    /// Answers requests as they come in, until something else has to be done.
    fn poll_turn(&self, cx: &mut Context<'_>) -> Poll<Turn> {
        loop {
            let rest = self.rest.take();
            let progress = self.progress.get();
            let turn = if rest.is_empty() || matches!(progress, Progress::HeadBegun | Progress::EmptyLines) {
                self.rest.replace(rest);
                match (ready!(self.poll_input(cx)), progress) {
                    (Err(turn), _) => Some(turn),
                    (Ok(lease), Progress::HeadBegun) => {
                        self.rest.borrow_mut().push(&lease);
                        self.progress.set(Progress::HeadGrown);
                        None
                    }
                    (Ok(lease), Progress::EmptyLines) => {
                        self.rest.borrow_mut().push(&lease);
                        self.progress.set(Progress::New);
                        None
                    }
                    (Ok(lease), Progress::New | Progress::Awaited | Progress::HeadGrown) => {
                        self.serve(lease, cx)
                    }
                }
            } else {
                self.serve(rest, cx)
            };
            if let Some(turn) = turn {
                return Poll::Ready(turn);
            }
        }
    }

    /// Waits for bytes between requests or in a head.
    #[inline]
    fn poll_input(&self, cx: &mut Context<'_>) -> Poll<Result<S::Received, Turn>> {
        loop {
            return Poll::Ready(match self.stream.poll_recv(cx) {
                Poll::Ready(Ok(Some(lease))) => Ok(lease),
                Poll::Pending
                    if self.shared.service.drains() && self.progress.get() != Progress::HeadBegun =>
                {
                    Err(Turn::End(End::Finished))
                }
                // A part of a record, which nobody else sees.
                Poll::Pending
                    if !S::IS_PLAIN
                        && self.stream.undecrypted() > SMALL_BYTES_MAX
                        && self.shared.admission.is_over(&self.shared.limits) =>
                {
                    let is_head = is_head_request(&self.rest.borrow());
                    Err(Turn::End(self.refuse(Refusal::Memory, is_head)))
                }
                Poll::Pending => {
                    // Without a share left there may be bytes all the same.
                    let waits = S::ARRIVES_BETWEEN_TURNS && annulet::future::has_share();
                    if waits && self.progress.get() == Progress::New {
                        self.progress.set(Progress::Awaited);
                    }
                    return Poll::Pending;
                }
                Poll::Ready(Ok(None)) => Err(self.end_input(Refusal::HeadCut)),
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::TimedOut => match self.time_out() {
                    Some(turn) => Err(turn),
                    None => continue,
                },
                // A reset, most likely: whom could one tell?
                Poll::Ready(Err(_)) => Err(Turn::End(End::Gone)),
            });
        }
    }

    fn has_unsent(&self) -> bool {
        self.stream.send_buffered() > 0
    }

    /// Answers what is whole in `input` and keeps the rest. `None` when more input is all that is needed.
    #[inline]
    fn serve(&self, input: impl Input, cx: &mut Context<'_>) -> Option<Turn> {
        let now = annulet::time::now();
        let (used, stop) = match &self.shared.log {
            None => {
                let mut course = self.course();
                let beside = self.stream.unsent_beside();
                let served = self.stream.with_send_buffer(|out| {
                    let mut sink = Gather::some(out, beside, self.memory());
                    self.shared.service.serve(&input, now, &mut course, self.peer.get(), cx, &mut sink)
                });
                self.note_course(course);
                served
            }
            Some(log) => self.serve_logged(log, &input, now, cx),
        };
        let is_used_up = used == input.len();
        if !is_used_up {
            self.rest.replace(input.into_rest(used));
        }
        let held = self.rest.borrow().len();
        // Behind a head that is out, or the last answer, there is no place for another; and nothing more is received before the
        // answers that fill the send buffer have left. A little is kept in any case: a request is answered alike in one piece and
        // in two, and small answers are made in any case.
        let cannot_be_refused = matches!(stop, Stop::Leave(_) | Stop::Close | Stop::Upgrade(_) | Stop::Full);
        if cannot_be_refused || held <= SMALL_BYTES_MAX {
            self.shared.hold_anyway(held);
        } else if let Err(why) = self.shared.hold(held) {
            let is_head = match &stop {
                Stop::Wait(_, facts) => facts.is_head,
                Stop::Body(begun) => begun.facts.is_head,
                _ => is_head_request(&self.rest.borrow()),
            };
            return Some(Turn::End(self.refuse(why, is_head)));
        }
        let before = self.progress.replace(Progress::New);
        match stop {
            Stop::NeedInput if is_used_up => self.wait_idle(),
            Stop::NeedInput if is_empty_lines(&self.rest.borrow()) => {
                self.progress.set(Progress::EmptyLines);
                // They do not wind the clock up that the last answer started.
                if used > 0 {
                    self.wait_idle();
                }
            }
            Stop::NeedInput => {
                self.progress.set(Progress::HeadBegun);
                // The time for a head counts from its first byte.
                if matches!(before, Progress::New | Progress::Awaited) || used > 0 {
                    self.wait_at_most(self.shared.limits.head_timeout);
                }
            }
            Stop::Wait(call, facts) => return Some(Turn::Call(call, facts)),
            Stop::Body(begun) => return Some(Turn::Body(begun)),
            Stop::Leave(leaving) => return Some(Turn::Leave(leaving)),
            Stop::Upgrade(upgrade) => return Some(Turn::End(End::Upgraded(upgrade))),
            Stop::Full => return Some(Turn::Full),
            Stop::Close => return Some(Turn::End(End::Finished)),
        }
        None
    }

    #[inline]
    fn course(&self) -> Course {
        Course { requests_left: self.requests_left.get(), is_first: self.progress.get() == Progress::Awaited }
    }

    /// Where there is no limit requests are not counted: a connection may have more than there are numbers.
    #[inline]
    fn note_course(&self, Course { requests_left, .. }: Course) {
        if self.shared.limits.requests_per_connection != u32::MAX {
            self.requests_left.set(requests_left);
        }
    }

    /// What has to suffice for answers.
    #[inline]
    fn memory(&self) -> Memory<'_> {
        Memory { shared: &self.shared, sends_files: S::SENDS_FILES }
    }

    fn wait_at_most(&self, timeout: Duration) {
        self.stream.set_recv_deadline(annulet::time::now().checked_add(timeout));
    }
}

#[cfg(test)]
mod tests {
    use annulet::net::{TcpListener, TcpStream};

    use super::*;
    use crate::h1::Limits;
    use crate::router::Router;
    use crate::server::Server;

    #[test]
    fn an_idle_connection_is_small() {
        fn future_size<F: Future>(_: impl FnOnce(TcpStream, Rc<Shared>, Option<Box<Place>>) -> F) -> usize {
            size_of::<F>()
        }
        assert!(future_size(Connection::run) <= 136, "{} bytes", future_size(Connection::run));
        assert!(size_of::<Connection<TcpStream>>() <= 136, "{} bytes", size_of::<Connection<TcpStream>>());
    }

    #[annulet::test]
    async fn requests_without_a_limit_are_not_counted() {
        for (limit, left) in [(u32::MAX, u32::MAX), (5, 3)] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let limits = Limits { requests_per_connection: limit, ..Limits::default() };
            let server = Server::new(Router::new()).with_limits(limits);
            let connection = Connection::new(stream, Seat::new(server.shared, None));
            let mut rest = Rest::default();
            rest.push(&b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(2));
            let mut rest = Some(rest);
            let turn = poll_fn(|cx| Poll::Ready(connection.serve(rest.take().unwrap(), cx))).await;
            assert!(turn.is_none());
            assert_eq!(connection.requests_left.get(), left);
        }
    }
}
