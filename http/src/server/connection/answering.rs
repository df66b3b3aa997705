//! Handlers that wait, or whose request has a body: their answer, and what is left of the body behind it.
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use super::content::Reading;
use super::gather::Gather;
use super::written::Patience;
use super::{ANSWER_BYTES_MAX, Connection, End};
use crate::body::Body;
use crate::h1::connection::{Exchange, Stage};
use crate::h1::encode::CONTINUE;
use crate::handler::{PendingCall, poll_call};
use crate::response::Response;
use crate::server::Shared;
use crate::service::{Facts, WithBody, Written};
use crate::trace;
use crate::transport::Transport;

/// So much is received ahead while an answer is being made; the rest stays with the kernel. In bytes.
const AHEAD_BYTES_MAX: usize = 16 * 1024;

impl<S: Transport> Connection<S> {
    /// Waits for a handler's answer and writes it. `None` if the connection persists.
    pub(super) async fn answer_later(&self, mut call: PendingCall, facts: Facts) -> Option<End> {
        let Some(answer) = self.wait_for(&mut call).await else { return Some(End::Gone) };
        match self.last_of(answer, facts).await {
            Some(answer) => self.write(answer, facts).await,
            None => Some(End::Gone),
        }
    }

    /// Writes answers that come before the answer, and waits for that. `None` if the client is gone.
    async fn last_of(&self, mut answer: Response, facts: Facts) -> Option<Response> {
        while answer.is_interim() {
            let Written::Waits(mut call) = self.write_begin(&mut answer, facts) else {
                unreachable!("behind an interim answer another is waited for")
            };
            // Who does not take them is waited for no longer than who does not take an answer.
            if self.stream.send_buffered() >= ANSWER_BYTES_MAX
                && !self.wait_written(S::poll_write_ready).await
            {
                return None;
            }
            answer = self.wait_for(&mut call).await?;
        }
        Some(answer)
    }

    /// Calls the handler of a request with a body, writes its answer and clears what it left of the body.
    pub(super) async fn answer_with_body(self: &Rc<Self>, begun: Box<WithBody>) -> Option<End> {
        let WithBody { mut request, target, facts } = *begun;
        let shared = &self.shared;
        let mut exchange = Exchange::new();
        let of_route = target.ok().and_then(|target| shared.service.router().body_bytes(target));
        let body_bytes = of_route.unwrap_or(shared.limits.body_bytes);
        if let Err(why) = exchange.begin_within(request.head(), body_bytes, &shared.limits) {
            return Some(self.refuse(why, facts.is_head));
        }
        let wait_left = shared.limits.body_total_timeout;
        let reading = Reading {
            exchange,
            received: 0,
            kept: 0,
            beside: 0,
            is_awaited: false,
            waits_since: None,
            asked_at: annulet::time::now(),
            reader: None,
            wait_left,
        };
        self.expect(&reading.exchange, self.rest.borrow().len());
        self.reading.replace(Some(Box::new(reading)));
        self.claim.set(self.claim.get().wrapping_add(1));
        let answer = match target {
            Ok(target) => {
                let connection = Rc::downgrade(self);
                request.set_body(Body::of_connection(connection, self.claim.get()));
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
        let answer = match answer {
            Some(answer) if answer.is_interim() => Box::pin(self.last_of(answer, facts)).await,
            answer => answer,
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
                    self.end_claim();
                }
                self.write(answer, facts).await
            }
            None => Some(End::Gone),
        };
        self.end_claim();
        let reading = self.reading.take().expect("it was put there above and is taken here only");
        match outcome {
            None => self.drain_body(*reading).await,
            end => end,
        }
    }

    /// Who keeps the request does not read any more, and hears of it.
    fn end_claim(&self) {
        self.claim.set(self.claim.get().wrapping_add(1));
        let reader = self.reading.borrow_mut().as_mut().and_then(|reading| reading.reader.take());
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    /// What an answer has to say about persistence, from how far the body has been read. An answer that is made while it leaves may
    /// read the rest of it, so the end is not announced for what is left.
    pub(super) fn facts_behind_body(&self, facts: Facts, answer: &Response) -> Facts {
        let reading = self.reading.borrow();
        let may_persist = reading.as_ref().is_some_and(|reading| match answer.is_streamed() {
            true => reading.exchange.stage() != Stage::Closing,
            false => reading.exchange.persists(&self.shared.limits),
        });
        Facts { keep_alive: facts.keep_alive && may_persist, ..facts }
    }

    /// Throws away what the handler left of a body. `None` when the next request may begin.
    async fn drain_body(&self, mut reading: Reading) -> Option<End> {
        let limits = &self.shared.limits;
        reading.end_wait();
        let Reading { mut exchange, wait_left, .. } = reading;
        exchange.finish_answer(exchange.persists(limits), limits);
        // Once for all of it.
        self.wait_at_most(limits.body_timeout.min(wait_left));
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
    pub(super) async fn wait_for(&self, call: &mut PendingCall) -> Option<Response> {
        self.unless_gone(&mut None, &mut Patience::new(), |cx| poll_call(call, cx)).await
    }

    /// Waits for what `poll` makes. `None` if the client is gone before, or takes nothing of what waits to leave; `watch` and
    /// `patience` are for the next time.
    pub(super) async fn unless_gone<'a, T>(
        &'a self,
        watch: &mut Option<S::Reset<'a>>,
        patience: &mut Patience,
        mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Option<T> {
        let made = |cx: &mut Context<'_>| {
            if let Some(reading) = &mut *self.reading.borrow_mut() {
                reading.is_awaited = false;
            }
            match poll(cx) {
                Poll::Ready(made) => Poll::Ready(Some(made)),
                Poll::Pending => self.poll_gone(watch, cx).map(|()| None),
            }
        };
        self.wait_taking(patience, || self.has_unsent(), made).await.flatten()
    }

    /// Ready when the client has reset the connection. What it sends is kept, up to a bound; a client that has only ended its side
    /// is still there to be answered.
    fn poll_gone<'a>(&'a self, watch: &mut Option<S::Reset<'a>>, cx: &mut Context<'_>) -> Poll<()> {
        let (is_reading, is_awaited) = match &mut *self.reading.borrow_mut() {
            Some(reading) => (reading.exchange.stage() == Stage::Reading, reading.end_turn(cx.waker())),
            None => (false, false),
        };
        if is_awaited {
            // Who has just asked for the body hears of it there.
            return Poll::Pending;
        }
        while !is_reading && self.receives_ahead() {
            match ready!(self.stream.poll_recv(cx)) {
                Ok(Some(lease)) => {
                    // Besides what is held for a body, or for content that leaves.
                    self.shared.hold_more(lease.len());
                    self.rest.borrow_mut().push(&lease);
                }
                // It may still reset the connection.
                Ok(None) => break,
                // No deadline runs while an answer is made.
                Err(error) if error.kind() == io::ErrorKind::TimedOut => self.stream.set_recv_deadline(None),
                Err(_) => return Poll::Ready(()),
            }
        }
        // Nothing more is received for now, so that nobody else would hear of it.
        Pin::new(watch.get_or_insert_with(|| self.stream.reset_by_peer())).poll(cx)
    }

    /// Who has sent nothing ahead is watched even when no memory is left: or those who hold it could be gone and nobody would know.
    pub(super) fn receives_ahead(&self) -> bool {
        let ahead = self.rest.borrow().len();
        let Shared { admission, limits, .. } = &*self.shared;
        ahead == 0 || (ahead < AHEAD_BYTES_MAX && admission.held() < limits.memory_bytes)
    }

    /// Writes an answer, all of it. `None` if the connection persists.
    pub(super) async fn write(&self, mut answer: Response, facts: Facts) -> Option<End> {
        let written = self.write_begin(&mut answer, facts);
        drop(answer);
        match written {
            Written::Whole(true) => None,
            Written::Whole(false) => Some(End::Finished),
            Written::Begun(leaving) => self.leave_in_pieces(leaving).await,
            Written::Switched(upgrade) => Some(End::Upgraded(upgrade)),
            Written::Waits(_) => unreachable!("`last_of` has waited for it"),
        }
    }

    /// Writes what can be written of it at once.
    fn write_begin(&self, answer: &mut Response, facts: Facts) -> Written {
        let now = annulet::time::now();
        self.stream.with_send_buffer(|out| {
            let before = out.len();
            let mut sink = Gather::some(out, 0, self.memory());
            let written = self.shared.service.write(answer, facts, now, &mut sink);
            self.note(|entry| entry.note(&out[before..]));
            written
        })
    }
}
