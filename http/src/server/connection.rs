//! The pump between one socket and the protocol: a task that lives as long as its connection.
//!
//! Requests are answered where their bytes lie, in the receive buffer, as many as there are; all their answers leave in one send.
//! Before anything is waited for, the receive buffer goes back to the core's pool and what is left of it is copied into memory of
//! the connection's own, which an idle connection does not have.
//!
//! While a handler works, or content is made as it leaves, the socket is watched: a reset drops both.
mod sending;

use std::cell::{Cell, OnceCell, RefCell};
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::ops::Deref;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;

use self::sending::Sent;
use super::Shared;
use super::admission::{Place, Seat};
use super::drain::Member;
use crate::Error;
use crate::access_log::{AccessLog, Entry};
use crate::body::{Body, Chunk, Piece, Source};
use crate::h1::connection::{Exchange, Stage};
use crate::h1::encode::CONTINUE;
use crate::h1::head::{is_empty_lines, is_head_request};
use crate::h1::outgoing::{Outgoing, Trailers};
use crate::h1::{Limits, Refusal};
use crate::handler::{PendingCall, poll_call};
use crate::proxy::{self, Header, Peer};
use crate::recycle::Buffer;
use crate::response::Response;
use crate::service::{Facts, Leaving, PIECE_BYTES_MAX, Sink, Source as Content, Stop, WithBody, Written};
use crate::stream::{Data, Failed};
use crate::trace;
use crate::transport::{Received, Transport};
use crate::upgrade::{Upgrade, Upgraded};

/// No further answer is made while so many bytes of answers are gathered behind a send. As many as [`TcpStream::write_ready`]
/// waits for, so that it waits when this is reached and there is room again behind it. In bytes.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Less than this of a body is received as heads are. In bytes.
const EXPECT_BYTES_MIN: u64 = 32 * 1024;

/// How late it may be noticed that a client takes nothing any more.
const PROGRESS_STEP_MAX: Duration = Duration::from_secs(1);

/// Content in memory of its own that is as long as this leaves without a copy. In bytes.
const OWNED_BYTES_MIN: usize = 16 * 1024;

/// Longer content is waited for until it has nearly left: it counts among what the connection holds. In bytes.
const OWNED_BYTES_FREE: usize = 128 * 1024;

/// So much is received ahead while an answer is being made; the rest stays with the kernel. In bytes.
const AHEAD_BYTES_MAX: usize = 16 * 1024;

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
    /// What is known of the answer at work, for the access log if there is one.
    entry: Cell<Option<Box<Entry>>>,
    /// Who is at the other end, where that is kept in mind.
    peer: OnceCell<Rc<Peer>>,
}

/// A body that is being read.
struct Reading {
    exchange: Exchange,
    /// Bytes that have come, framing and all.
    received: u64,
    /// Since when more of it is waited for.
    waits_since: Option<Instant>,
    /// What all waits for it may still take.
    wait_left: Duration,
}

/// What is known of the bytes in `rest`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// Nothing: they have not been looked at.
    New,
    /// They are empty lines before a request, a few bytes: for its clocks and its end the connection is idle.
    EmptyLines,
    /// They are the beginning of a head; more is needed.
    HeadBegun,
    /// As `HeadBegun`, and more has come.
    HeadGrown,
}

/// Ready when enough of what was written has left.
type PollWritten<S> = fn(&S, &mut Context<'_>) -> Poll<io::Result<()>>;

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
    /// What waits to leave is waited for before the connection counts as idle.
    Flush,
    End(End),
}

impl<S: Transport> Connection<S> {
    pub(super) fn new(stream: S, seat: Seat) -> Rc<Self> {
        Rc::new(Connection {
            stream,
            requests_left: Cell::new(seat.limits.requests_per_connection),
            shared: seat,
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
            End::Finished => Box::pin(finish(self)).await,
            End::Upgraded(upgrade) => Box::pin(pass_on(self, upgrade)).await,
            End::Gone => {}
        }
    }

    /// Learns who is at the other end, where that is kept in mind.
    ///
    /// # Errors
    ///
    /// The connection is not let in; it may have been told why.
    async fn meet(&self) -> Result<(), End> {
        let Some(proxies) = &self.shared.proxies else { return Ok(()) };
        // Who is gone already needs no name.
        let mut address = self.stream.peer_addr().map_err(|_| End::Gone)?;
        if let Some(from) = &proxies.header_from {
            if !S::IS_PLAIN {
                // It would have stood before the handshake.
                return Err(End::Gone);
            }
            if !from.iter().any(|network| network.contains(address.ip())) {
                return Err(self.refuse(Refusal::ProxyUntrusted, false));
            }
            address = self.read_header().await?.unwrap_or(address);
        }
        let peer = Rc::new(Peer { address, proxies: proxies.clone() });
        self.peer.set(peer).expect("set once, here");
        if proxies.header_from.is_some() {
            match Place::take_of(self.shared.shared(), address.ip()) {
                Ok(place) => self.shared.take(place),
                Err(why) => return Err(self.refuse(why, false)),
            }
        }
        Ok(())
    }

    /// Takes the PROXY header off the front of what comes. Gives whom it names.
    async fn read_header(&self) -> Result<Option<SocketAddr>, End> {
        self.wait_at_most(self.shared.limits.head_timeout);
        loop {
            let header = proxy::header(&self.rest.borrow());
            match header {
                Header::Partial => {}
                Header::Wrong => return Err(self.refuse(Refusal::ProxyHeader, false)),
                Header::Whole(used, named) => {
                    self.rest.borrow_mut().advance(used);
                    return Ok(named);
                }
            }
            let received = poll_fn(|cx| match self.stream.poll_recv(cx) {
                // What has begun is on its way, request and all.
                Poll::Pending if self.shared.service.drains() && self.rest.borrow().is_empty() => {
                    Poll::Ready(Ok(None))
                }
                polled => polled,
            });
            match received.await {
                Ok(Some(lease)) => self.rest.borrow_mut().push(&lease),
                // The end, or its time is over. A proxy that only looks whether somebody is here is told nothing.
                Ok(None) | Err(_) => return Err(End::Gone),
            }
        }
    }

    async fn pump(self: &Rc<Self>) -> End {
        if self.shared.proxies.is_some() && Box::pin(self.meet()).await.is_err() {
            return self.leave();
        }
        self.wait_at_most(self.shared.limits.keep_alive_timeout);
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
                    if !Box::pin(self.wait_written(S::poll_write_ready)).await {
                        return End::Gone;
                    }
                }
                Turn::Flush => {
                    if !Box::pin(self.wait_written(S::poll_flush)).await {
                        return End::Gone;
                    }
                    self.wait_for_next();
                }
                Turn::End(end) => return end,
            }
        }
    }

    /// An answer is out: what it held is free, and the clock for the next request runs.
    fn wait_for_next(&self) {
        self.log_answer();
        self.shared.hold_anyway(self.rest.borrow().len());
        self.wait_at_most(self.shared.limits.keep_alive_timeout);
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
                    (Ok(lease), Progress::New | Progress::HeadGrown) => self.serve(lease, cx),
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
        Poll::Ready(match self.stream.poll_recv(cx) {
            Poll::Ready(Ok(Some(lease))) => Ok(lease),
            Poll::Pending if self.shared.service.drains() && self.progress.get() != Progress::HeadBegun => {
                Err(Turn::End(End::Finished))
            }
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Ok(None)) => Err(self.end_input(Refusal::HeadCut)),
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::TimedOut => {
                Err(self.end_input(Refusal::Timeout))
            }
            // A reset, most likely: whom could one tell?
            Poll::Ready(Err(_)) => Err(Turn::End(End::Gone)),
        })
    }

    /// Between requests there is nothing to answer (RFC 9112 section 9.5).
    #[cold]
    fn end_input(&self, why: Refusal) -> Turn {
        match self.progress.get() {
            Progress::HeadBegun | Progress::HeadGrown => {
                let is_head = is_head_request(&self.rest.borrow());
                Turn::End(self.refuse(why, is_head))
            }
            // Not idle yet: the client is still being answered.
            Progress::New | Progress::EmptyLines if why == Refusal::Timeout && self.has_unsent() => {
                Turn::Flush
            }
            Progress::New | Progress::EmptyLines => Turn::End(self.leave()),
        }
    }

    /// The end when nothing more is to be read and nothing to be written.
    #[cold]
    fn leave(&self) -> End {
        if self.has_unsent() { End::Finished } else { End::Gone }
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
                let mut requests_left = self.requests_left.get();
                let (bytes_max, room) = (self.answer_bytes_max(), self.room());
                let served = self.stream.with_send_buffer(|out| {
                    let mut sink = Gather { out, bytes_max, room };
                    self.shared.service.serve(&input, now, &mut requests_left, self.peer.get(), cx, &mut sink)
                });
                self.requests_left.set(requests_left);
                served
            }
            Some(log) => self.serve_logged(log, &input, now, cx),
        };
        let is_used_up = used == input.len();
        if !is_used_up {
            self.rest.replace(input.into_rest(used));
        }
        let held = self.rest.borrow().len();
        // Behind a head that is out, or the last answer, there is no place for another.
        if let Stop::Leave(_) | Stop::Close | Stop::Upgrade(_) = stop {
            self.shared.hold_anyway(held);
        } else if let Err(why) = self.shared.hold(held) {
            return Some(Turn::End(self.refuse(why, is_head_request(&self.rest.borrow()))));
        }
        let before = self.progress.replace(Progress::New);
        match stop {
            Stop::NeedInput if is_used_up => self.wait_at_most(self.shared.limits.keep_alive_timeout),
            Stop::NeedInput if is_empty_lines(&self.rest.borrow()) => {
                self.progress.set(Progress::EmptyLines);
                // They do not wind the clock up that the last answer started.
                if used > 0 {
                    self.wait_at_most(self.shared.limits.keep_alive_timeout);
                }
            }
            Stop::NeedInput => {
                self.progress.set(Progress::HeadBegun);
                // The time for a head counts from its first byte.
                if before == Progress::New || used > 0 {
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

    /// How long the send buffer may be for one more answer.
    #[inline]
    fn answer_bytes_max(&self) -> usize {
        ANSWER_BYTES_MAX.saturating_sub(self.stream.unsent_beside())
    }

    /// What the core has memory for.
    #[inline]
    fn room(&self) -> Room {
        match self.shared.admission.held() < self.shared.limits.memory_bytes {
            true => Room::Any,
            // They pass through none of ours.
            false if S::SENDS_FILES => Room::Files,
            false => Room::Nothing,
        }
    }

    /// As the service does it, one request at a time, with a line for each answer.
    #[cold]
    fn serve_logged(
        &self,
        log: &Rc<AccessLog>,
        input: &[u8],
        now: Instant,
        cx: &mut Context<'_>,
    ) -> (usize, Stop) {
        let mut requests_left = self.requests_left.get();
        let mut used = 0;
        loop {
            let mut entry = Entry::new(&input[used..], self.peer.get(), now);
            let (bytes_max, room) = (self.answer_bytes_max(), self.room());
            let (count, stop, has_answer, is_full) = self.stream.with_send_buffer(|out| {
                let before = out.len();
                let mut sink = OneAnswer { out, before, bytes_max, room };
                let (count, stop) = self.shared.service.serve(
                    &input[used..],
                    now,
                    &mut requests_left,
                    self.peer.get(),
                    cx,
                    &mut sink,
                );
                entry.note(&out[before..]);
                (count, stop, out.len() > before, out.len() >= bytes_max)
            });
            used += count;
            self.requests_left.set(requests_left);
            match stop {
                Stop::Wait(..) | Stop::Body(_) | Stop::Leave(_) => {
                    self.entry.replace(Some(Box::new(entry)));
                }
                _ if has_answer => self.log(log, &entry),
                _ => {}
            }
            match stop {
                Stop::Full if !is_full && used < input.len() => {}
                stop => return (used, stop),
            }
        }
    }

    /// Adds to what is known of the answer at work, if that is kept.
    #[inline]
    fn note(&self, add: impl FnOnce(&mut Entry)) {
        if let Some(mut entry) = self.entry.take() {
            add(&mut entry);
            self.entry.set(Some(entry));
        }
    }

    /// Writes the line of the answer that is out now, if it has one.
    fn log_answer(&self) {
        let entry = self.entry.take();
        if let (Some(log), Some(entry)) = (&self.shared.log, entry) {
            self.log(log, &entry);
        }
    }

    fn log(&self, log: &Rc<AccessLog>, entry: &Entry) {
        let client = entry.client.or_else(|| self.stream.peer_addr().ok().map(|address| address.ip()));
        log.push(entry, client, annulet::time::now());
    }

    /// Waits for a handler's answer and writes it. `None` if the connection persists.
    async fn answer_later(&self, mut call: PendingCall, facts: Facts) -> Option<End> {
        match self.wait_for(&mut call).await {
            Some(answer) => self.write(answer, facts).await,
            None => Some(End::Gone),
        }
    }

    /// Calls the handler of a request with a body, writes its answer and clears what it left of the body.
    async fn answer_with_body(self: &Rc<Self>, begun: Box<WithBody>) -> Option<End> {
        let WithBody { mut request, target, facts } = *begun;
        let shared = &self.shared;
        let mut exchange = Exchange::new();
        let of_route = target.ok().and_then(|target| shared.service.router().body_bytes(target));
        let body_bytes = of_route.unwrap_or(shared.limits.body_bytes);
        if let Err(why) = exchange.begin_within(request.head(), body_bytes, &shared.limits) {
            return Some(self.refuse(why, facts.is_head));
        }
        let wait_left = shared.limits.body_total_timeout;
        let reading = Reading { exchange, received: 0, waits_since: None, wait_left };
        self.expect(&reading.exchange, self.rest.borrow().len());
        self.reading.replace(Some(Box::new(reading)));
        self.claim.set(self.claim.get().wrapping_add(1));
        let answer = match target {
            Ok(target) => {
                request.set_body(Body::new(self.clone(), self.claim.get()));
                let mut request = Some(request);
                let called = poll_fn(|cx| {
                    let request = request.take().expect("the closure is polled once: it is ready at once");
                    Poll::Ready(shared.service.call(target, request, cx))
                });
                match called.await {
                    Ok(answer) => Some(answer),
                    Err(mut call) => self.wait_for(&mut call).await,
                }
            }
            Err(miss) => Some(trace::miss(shared.service.router(), miss, &request)),
        };
        let outcome = match answer {
            Some(answer) => {
                let facts = self.facts_behind_body(facts, &answer);
                if answer.is_streamed() {
                    // It may read the body while it leaves, and behind its head nothing may stand but its content.
                    let mut reading = self.reading.borrow_mut();
                    if reading.as_mut().is_some_and(|reading| reading.exchange.take_continue()) {
                        self.stream.with_send_buffer(|out| out.extend_from_slice(CONTINUE));
                    }
                } else {
                    // Who keeps the request does not read any more.
                    self.claim.set(self.claim.get().wrapping_add(1));
                }
                self.write(answer, facts).await
            }
            None => Some(End::Gone),
        };
        self.claim.set(self.claim.get().wrapping_add(1));
        let reading = self.reading.take().expect("it was put there above and is taken here only");
        match outcome {
            None => self.drain_body(reading.exchange).await,
            end => end,
        }
    }

    /// What an answer has to say about persistence, from how far the body has been read. An answer that is made while it leaves may
    /// read the rest of it, so the end is not announced for what is left.
    fn facts_behind_body(&self, facts: Facts, answer: &Response) -> Facts {
        let reading = self.reading.borrow();
        let may_persist = reading.as_ref().is_some_and(|reading| match answer.is_streamed() {
            true => reading.exchange.stage() != Stage::Closing,
            false => reading.exchange.persists(&self.shared.limits),
        });
        Facts { keep_alive: facts.keep_alive && may_persist, ..facts }
    }

    /// Throws away what the handler left of a body. `None` when the next request may begin.
    async fn drain_body(&self, mut exchange: Exchange) -> Option<End> {
        let limits = &self.shared.limits;
        exchange.finish_answer(exchange.persists(limits), limits);
        // Once for all of it.
        self.wait_at_most(limits.body_timeout);
        while exchange.stage() == Stage::Draining {
            let mut rest = self.rest.take();
            if rest.is_empty() {
                let received = poll_fn(|cx| match self.stream.poll_recv(cx) {
                    Poll::Pending if self.shared.service.drains() => Poll::Ready(Ok(None)),
                    polled => polled,
                });
                match received.await {
                    Ok(Some(lease)) => rest.push(&lease),
                    // The answer is made; an error now ends the connection and nothing else.
                    Ok(None) | Err(_) => return Some(self.leave()),
                }
            }
            match exchange.decode(&rest) {
                Ok(decoded) => rest.advance(decoded.used),
                Err(_) => return Some(End::Finished),
            }
            self.rest.replace(rest);
        }
        (exchange.stage() != Stage::Idle).then_some(End::Finished)
    }

    /// Waits for a handler. `None` if the client is gone.
    async fn wait_for(&self, call: &mut PendingCall) -> Option<Response> {
        poll_fn(|cx| match poll_call(call, cx) {
            Poll::Ready(answer) => Poll::Ready(Some(answer)),
            Poll::Pending => self.poll_gone(cx).map(|()| None),
        })
        .await
    }

    /// Ready when the client has reset the connection. What it sends is kept, up to a bound; a client that has only ended its side
    /// is still there to be answered.
    fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<()> {
        let is_reading =
            self.reading.borrow().as_ref().is_some_and(|reading| reading.exchange.stage() == Stage::Reading);
        // Who reads the body watches the socket.
        while !is_reading && self.receives_ahead() {
            match ready!(self.stream.poll_recv(cx)) {
                Ok(Some(lease)) => {
                    self.rest.borrow_mut().push(&lease);
                    self.shared.hold_anyway(self.rest.borrow().len());
                }
                Ok(None) => return Poll::Pending,
                // No deadline runs while an answer is made.
                Err(error) if error.kind() == io::ErrorKind::TimedOut => self.stream.set_recv_deadline(None),
                Err(_) => return Poll::Ready(()),
            }
        }
        Poll::Pending
    }

    /// Who has sent nothing ahead is watched even when no memory is left: or those who hold it could be gone and nobody would know.
    fn receives_ahead(&self) -> bool {
        let ahead = self.rest.borrow().len();
        let Shared { admission, limits, .. } = &*self.shared;
        ahead == 0 || (ahead < AHEAD_BYTES_MAX && admission.held() < limits.memory_bytes)
    }

    /// Writes an answer, all of it. `None` if the connection persists.
    async fn write(&self, mut answer: Response, facts: Facts) -> Option<End> {
        let now = annulet::time::now();
        let written = self.stream.with_send_buffer(|out| {
            let before = out.len();
            let mut sink = Gather { room: self.room(), ..Gather::all(out) };
            let written = self.shared.service.write(&mut answer, facts, now, &mut sink);
            self.note(|entry| entry.note(&out[before..]));
            written
        });
        drop(answer);
        match written {
            Written::Whole(true) => None,
            Written::Whole(false) => Some(End::Finished),
            Written::Begun(leaving) => self.leave_in_pieces(leaving).await,
            Written::Switched(upgrade) => Some(End::Upgraded(upgrade)),
        }
    }

    /// Writes the content of an answer as the client takes it. `None` if the connection persists.
    async fn leave_in_pieces(&self, mut leaving: Box<Leaving>) -> Option<End> {
        let Leaving { source, outgoing, .. } = &mut *leaving;
        if S::SENDS_FILES
            && let Content::Pieces(pieces) = source
            && let Some((file, range)) = pieces.single()
        {
            match self.send_file(file, range, outgoing).await {
                Sent::All => return self.finish_pieces(*leaving),
                Sent::Unsupported => {}
                Sent::Cut => return Some(End::Finished),
                Sent::Gone => return Some(End::Gone),
            }
        }
        // The head is out: this cannot be refused, but what others want can.
        self.shared.hold_anyway(ANSWER_BYTES_MAX + PIECE_BYTES_MAX + leaving.source.held());
        while !leaving.outgoing.is_broken() {
            let next = poll_fn(|cx| match leaving.poll_piece(cx) {
                Poll::Ready(next) => Poll::Ready(Ok(next)),
                Poll::Pending => self.poll_gone(cx).map(Err),
            });
            let mut piece = match next.await {
                Ok(Some(Ok(piece))) => piece,
                Ok(None) => return self.finish_pieces(*leaving),
                // Half an answer; the end says that it is one.
                Ok(Some(Err(Failed))) => return Some(End::Finished),
                Err(()) => return Some(End::Gone),
            };
            while !piece.rest().is_empty() {
                // The first wait is the rule where content comes faster than the client takes it.
                if self.stream.send_buffered() >= ANSWER_BYTES_MAX
                    && !self.wait_written(S::poll_write_ready).await
                {
                    return Some(End::Gone);
                }
                if S::TAKES_OWNED
                    && piece.rest().len() >= OWNED_BYTES_MIN
                    && let Some(bytes) = piece.take_owned()
                {
                    if !self.leave_owned(&mut leaving.outgoing, bytes).await {
                        return Some(End::Gone);
                    }
                    break;
                }
                let count = piece.rest().len().min(PIECE_BYTES_MAX);
                self.stream.with_send_buffer(|out| leaving.outgoing.push(out, &piece.rest()[..count]));
                piece.advance(count);
                self.note(|entry| entry.bytes += count as u64);
            }
        }
        Some(End::Finished)
    }

    /// Lets a large piece leave without a copy. `false` if the client does not take what is before it.
    async fn leave_owned(&self, outgoing: &mut Outgoing, mut bytes: Bytes) -> bool {
        let len = self.stream.with_send_buffer(|out| outgoing.begin_piece(out, bytes.len()));
        bytes.truncate(len);
        while let Err(refused) = self.stream.try_send_bytes(bytes) {
            bytes = refused;
            if !self.wait_written(S::poll_flush).await {
                return false;
            }
        }
        self.stream.with_send_buffer(|out| outgoing.end_piece(out));
        self.note(|entry| entry.bytes += len as u64);
        // What it takes in memory is the connection's as long as it waits.
        len <= OWNED_BYTES_FREE || self.wait_written(S::poll_write_ready).await
    }

    fn finish_pieces(&self, leaving: Leaving) -> Option<End> {
        let Leaving { source, outgoing, persists } = leaving;
        let trailers = match source {
            Content::Streamed(mut streamed) => streamed.take_trailers(),
            Content::Whole(_) | Content::Pieces(_) => Vec::new(),
        };
        let is_whole = self.stream.with_send_buffer(|out| outgoing.finish(out, &trailers));
        (!persists || !is_whole).then_some(End::Finished)
    }

    #[cold]
    fn refuse(&self, why: Refusal, is_head: bool) -> End {
        let now = annulet::time::now();
        if self.shared.log.is_some() {
            let entry = self.entry.take();
            let new = || Box::new(Entry::new(&self.rest.borrow(), self.peer.get(), now));
            self.entry.set(Some(entry.unwrap_or_else(new)));
        }
        self.stream.with_send_buffer(|out| {
            let before = out.len();
            self.shared.service.refuse(why, is_head, now, &mut Gather::all(out));
            self.note(|entry| entry.note(&out[before..]));
        });
        End::Finished
    }

    /// Waits until what was written has left, as far as `poll` says. `false` if the client does not take it: nothing left for the
    /// length of the write timeout, or of the linger time once the server drains.
    async fn wait_written(&self, poll: PollWritten<S>) -> bool {
        let service = &self.shared.service;
        let mut least = usize::MAX;
        let mut since = annulet::time::now();
        loop {
            let drains = service.drains();
            let patience = self.write_patience();
            let written = poll_fn(|cx| match poll(&self.stream, cx) {
                Poll::Ready(written) => Poll::Ready(Some(written.is_ok())),
                Poll::Pending if service.drains() != drains => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
            });
            // Nobody says when the client has taken a little, so it is looked at now and then. The kernel asks for more in large
            // steps: what it has sent and not been thanked for counts too.
            let outcome = annulet::time::timeout((patience / 8).min(PROGRESS_STEP_MAX), written).await;
            let now = annulet::time::now();
            let left = match outcome {
                Ok(Some(is_written)) => return is_written,
                Ok(None) => {
                    since = now;
                    continue;
                }
                Err(_) => self.stream.untaken(),
            };
            match left {
                // Nothing was known before the first look.
                left if least == usize::MAX => least = left,
                left if left < least => (least, since) = (left, now),
                _ if now - since < patience => {}
                _ => {
                    self.give_up();
                    return false;
                }
            }
        }
    }

    /// How long a client may take nothing.
    fn write_patience(&self) -> Duration {
        let Shared { service, limits, .. } = &*self.shared;
        if service.drains() { limits.write_timeout.min(limits.linger) } else { limits.write_timeout }
    }

    /// The connection will be reset when it is dropped. Otherwise what has been written would wait in memory, ours and the kernel's,
    /// for as long as the client likes.
    fn give_up(&self) {
        // Fails only where there is no connection any more.
        let _ = self.stream.set_zero_linger();
    }

    fn wait_at_most(&self, timeout: Duration) {
        self.stream.set_recv_deadline(annulet::time::now().checked_add(timeout));
    }

    /// Tells the socket how much is to come, if it is much; `here` bytes of it have come.
    fn expect(&self, exchange: &Exchange, here: usize) {
        let bytes = exchange.announced().saturating_sub(here as u64);
        if bytes >= EXPECT_BYTES_MIN {
            self.stream.expect_recv(bytes);
        }
    }

    /// The next content out of bytes that are here already. `None` if there is none among them.
    fn take_content(&self, exchange: &mut Exchange) -> Result<Option<Chunk>, Refusal> {
        let mut rest = self.rest.borrow_mut();
        let mut content = Buffer::default();
        while exchange.stage() == Stage::Reading && !rest.is_empty() {
            let decoded = exchange.decode(&rest)?;
            if !decoded.data.is_empty() {
                if content.capacity() == 0 {
                    content = Buffer::take();
                }
                content.extend_from_slice(&rest[decoded.data]);
            }
            rest.advance(decoded.used);
        }
        Ok((!content.is_empty()).then_some(Chunk(Piece::Copied(content))))
    }

    /// As `take_content`, of bytes that have just come. What is content and nothing else is not copied.
    fn take_received(
        &self,
        exchange: &mut Exchange,
        mut lease: S::Received,
    ) -> Result<Option<Chunk>, Refusal> {
        let decoded = exchange.decode(&lease)?;
        if decoded.data.end == lease.len() && !decoded.data.is_empty() {
            lease.advance(decoded.data.start);
            return Ok(Some(lease.into_chunk()));
        }
        let mut content = Buffer::take();
        content.extend_from_slice(&lease[decoded.data]);
        self.rest.borrow_mut().push(&lease[decoded.used..]);
        drop(lease);
        if content.is_empty() {
            return self.take_content(exchange);
        }
        Ok(Some(Chunk(Piece::Copied(content))))
    }

    fn poll_content(
        &self,
        reading: &mut Reading,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Chunk>, Error>> {
        let slow = reading.slowest(&self.shared.limits);
        let Reading { exchange, received, waits_since, wait_left } = reading;
        if let Some(chunk) = self.take_content(exchange)? {
            return Poll::Ready(Ok(Some(chunk)));
        }
        while exchange.stage() == Stage::Reading {
            if exchange.take_continue() {
                self.stream.with_send_buffer(|out| out.extend_from_slice(CONTINUE));
            }
            // Once for each wait, however often it is polled.
            let since = *waits_since.get_or_insert_with(|| {
                self.expect(exchange, 0);
                self.wait_at_most(self.shared.limits.body_timeout.min(*wait_left).min(slow));
                annulet::time::now()
            });
            let Some(lease) = ready!(self.stream.poll_recv(cx))? else {
                return Poll::Ready(Err(Refusal::BodyCut.into()));
            };
            *waits_since = None;
            *wait_left = wait_left.saturating_sub(annulet::time::now() - since);
            *received += lease.len() as u64;
            if let Some(chunk) = self.take_received(exchange, lease)? {
                return Poll::Ready(Ok(Some(chunk)));
            }
        }
        Poll::Ready(match exchange.stage() {
            Stage::Closing => Err(Error::gone()),
            _ => Ok(None),
        })
    }
}

impl Reading {
    /// How long the next bytes may be waited for without the body being too slow.
    fn slowest(&self, limits: &Limits) -> Duration {
        if limits.body_rate_min == 0 {
            return Duration::MAX;
        }
        let due = Duration::from_millis(self.received.saturating_mul(1000) / u64::from(limits.body_rate_min));
        let waited = limits.body_total_timeout.saturating_sub(self.wait_left);
        limits.body_rate_grace.saturating_add(due).saturating_sub(waited)
    }
}

impl<S: Transport> Source for Connection<S> {
    fn trailers(&self, claim: u32) -> Trailers {
        let reading = self.reading.borrow();
        let reading = reading.as_ref().filter(|_| claim == self.claim.get());
        reading.map_or_else(Trailers::new, |reading| reading.exchange.trailers().to_vec())
    }

    fn hold(&self, bytes: usize) -> Result<(), Error> {
        Ok(self.shared.hold(bytes)?)
    }

    fn poll_chunk(&self, claim: u32, cx: &mut Context<'_>) -> Poll<Result<Option<Chunk>, Error>> {
        let mut reading = self.reading.borrow_mut();
        match reading.as_mut() {
            Some(reading) if claim == self.claim.get() => {
                let polled = self.poll_content(reading, cx);
                if let Poll::Ready(Err(_)) = polled {
                    reading.exchange.close();
                }
                polled
            }
            _ => Poll::Ready(Err(Error::gone())),
        }
    }
}

impl Content {
    /// What it keeps in memory, in bytes.
    fn held(&self) -> usize {
        match self {
            Content::Whole(data) => data.rest().len(),
            Content::Streamed(_) | Content::Pieces(_) => 0,
        }
    }
}

impl Leaving {
    /// The next piece of the content, `None` at its end.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Data, Failed>>> {
        match &mut self.source {
            Content::Streamed(streamed) => streamed.poll_piece(cx),
            Content::Pieces(pieces) => pieces.poll_piece(cx),
            Content::Whole(data) if data.rest().is_empty() => Poll::Ready(None),
            Content::Whole(data) => Poll::Ready(Some(Ok(std::mem::replace(data, Data::from(""))))),
        }
    }
}

/// Hands the connection over to whoever answered 101.
async fn pass_on<S: Transport>(connection: Rc<Connection<S>>, upgrade: Box<Upgrade>) {
    // Fails only if a request with a body before this one is kept beyond its answer: then the socket is not ours alone to give.
    let Ok(connection) = Rc::try_unwrap(connection) else { return };
    let Connection { stream, rest, .. } = connection;
    stream.set_recv_deadline(None);
    let buffered = Bytes::copy_from_slice(&rest.into_inner());
    (upgrade.run)(Upgraded { stream: stream.into_socket(), buffered }).await;
}

/// What was written leaves, and the peer gets time to read it.
async fn finish<S: Transport>(connection: Rc<Connection<S>>) {
    // What comes now is thrown away.
    connection.shared.hold_anyway(0);
    let linger = connection.shared.limits.linger;
    if !connection.wait_written(S::poll_flush).await {
        return;
    }
    // Errors end the connection, which is what happens next anyway.
    let _ = match Rc::try_unwrap(connection) {
        Ok(connection) => connection.stream.close(linger).await,
        // Someone keeps a request beyond its answer. The socket closes with the last of them, but the client learns of the end now.
        Err(connection) => poll_fn(|cx| connection.stream.poll_shutdown(cx)).await,
    };
}

/// Bytes to look for requests in, and what becomes of those that are left over.
trait Input: Deref<Target = [u8]> {
    fn into_rest(self, used: usize) -> Rest;
}

impl<R: Received> Input for R {
    fn into_rest(self, used: usize) -> Rest {
        let mut rest = Rest::default();
        rest.push(&self[used..]);
        rest
    }
}

impl Input for Rest {
    fn into_rest(mut self, used: usize) -> Rest {
        self.advance(used);
        self
    }
}

/// Bytes in recycled memory, taken from the front.
#[derive(Default)]
struct Rest {
    bytes: Buffer,
    /// How many of them are gone.
    start: usize,
}

impl Rest {
    fn push(&mut self, more: &[u8]) {
        if self.is_empty() && !more.is_empty() {
            *self = Rest { bytes: Buffer::take(), start: 0 };
        } else if self.start > 0 {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        self.bytes.extend_from_slice(more);
    }

    /// Memory goes back to the free list with the last byte.
    fn advance(&mut self, count: usize) {
        self.start += count;
        if self.is_empty() {
            *self = Rest::default();
        }
    }
}

impl Deref for Rest {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[self.start..]
    }
}

/// Answers go into the stream's send buffer.
pub(super) struct Gather<'a> {
    out: &'a mut Vec<u8>,
    bytes_max: usize,
    room: Room,
}

/// What there is memory for beside answers that leave at once.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Room {
    Any,
    Files,
    Nothing,
}

impl Room {
    fn has(self, is_file: bool) -> bool {
        match self {
            Room::Any => true,
            Room::Files => is_file,
            Room::Nothing => false,
        }
    }
}

impl<'a> Gather<'a> {
    /// For one answer, which is written in any case.
    pub(super) fn all(out: &'a mut Vec<u8>) -> Gather<'a> {
        Gather { out, bytes_max: usize::MAX, room: Room::Any }
    }
}

impl Sink for Gather<'_> {
    #[inline]
    fn append(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(self.out);
    }

    #[inline]
    fn is_full(&self) -> bool {
        self.out.len() >= self.bytes_max
    }

    fn has_room(&self, is_file: bool) -> bool {
        self.room.has(is_file)
    }
}

/// As `Gather`, full behind the first answer.
struct OneAnswer<'a> {
    out: &'a mut Vec<u8>,
    before: usize,
    bytes_max: usize,
    room: Room,
}

impl Sink for OneAnswer<'_> {
    fn append(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(self.out);
    }

    fn is_full(&self) -> bool {
        self.out.len() > self.before || self.out.len() >= self.bytes_max
    }

    fn has_room(&self, is_file: bool) -> bool {
        self.room.has(is_file)
    }
}

#[cfg(test)]
mod tests {
    use annulet::net::TcpStream;

    use super::*;

    #[test]
    fn an_idle_connection_is_small() {
        fn future_size<F: Future>(_: impl FnOnce(TcpStream, Rc<Shared>, Option<Box<Place>>) -> F) -> usize {
            size_of::<F>()
        }
        assert!(future_size(Connection::run) <= 136, "{} bytes", future_size(Connection::run));
        assert!(size_of::<Connection<TcpStream>>() <= 136, "{} bytes", size_of::<Connection<TcpStream>>());
    }

    #[test]
    fn rest_is_taken_from_the_front() {
        let mut rest = Rest::default();
        rest.push(b"abc");
        rest.advance(1);
        rest.push(b"d");
        assert_eq!(&*rest, b"bcd");
        rest.advance(3);
        assert_eq!((rest.len(), rest.bytes.capacity()), (0, 0));
    }
}
