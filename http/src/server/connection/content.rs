//! The body of a request, as its handler asks for it: decoded out of what has come, or waited for.
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use super::Connection;
use crate::Error;
use crate::body::{Chunk, Piece, Source};
use crate::h1::connection::{Exchange, Stage};
use crate::h1::encode::CONTINUE;
use crate::h1::outgoing::Trailers;
use crate::h1::{Limits, Refusal};
use crate::recycle::Buffer;
use crate::transport::{Received, Transport};

/// Less than this of a body is received as heads are. In bytes.
const EXPECT_BYTES_MIN: u64 = 32 * 1024;

/// A body that is being read.
pub(super) struct Reading {
    pub(super) exchange: Exchange,
    /// Bytes that have come, framing and all.
    pub(super) received: u64,
    /// Bytes of the content that are kept in memory, by who collects it.
    pub(super) kept: usize,
    /// What is held for an answer that leaves meanwhile.
    pub(super) beside: usize,
    /// Whether more of it was asked for, in vain, since the handler's turn began.
    pub(super) is_awaited: bool,
    /// Who waits for more of it. Most often the connection's own task, but the handler may have given the request away.
    pub(super) reader: Option<Waker>,
    /// Since when more of it is waited for.
    pub(super) waits_since: Option<Instant>,
    /// When that was asked for last.
    pub(super) asked_at: Instant,
    /// What all waits for it may still take.
    pub(super) wait_left: Duration,
}

impl<S: Transport> Connection<S> {
    /// Tells the socket how much is to come, if it is much; `here` bytes of it have come.
    pub(super) fn expect(&self, exchange: &Exchange, here: usize) {
        let bytes = exchange.announced().saturating_sub(here as u64);
        if bytes >= EXPECT_BYTES_MIN {
            self.stream.expect_recv(bytes);
        }
    }

    /// The next content out of bytes that are here already. `None` if there is none among them.
    pub(super) fn take_content(&self, exchange: &mut Exchange) -> Result<Option<Chunk>, Refusal> {
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
    pub(super) fn take_received(
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

    /// Counts what is in memory for a body: what was received ahead, its trailers, what is collected.
    fn hold_for(&self, reading: &Reading) -> Result<(), Refusal> {
        self.shared.hold(reading.kept + reading.beside + self.rest.borrow().len() + reading.exchange.kept())
    }

    pub(super) fn poll_content(
        &self,
        reading: &mut Reading,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Chunk>, Error>> {
        let chunk = self.take_content(&mut reading.exchange)?;
        self.hold_for(reading)?;
        if chunk.is_some() {
            return Poll::Ready(Ok(chunk));
        }
        while reading.exchange.stage() == Stage::Reading {
            if reading.exchange.take_continue() {
                self.stream.with_send_buffer(|out| out.extend_from_slice(CONTINUE));
            }
            reading.asked_at = annulet::time::now();
            // Once for each wait, however often it is polled.
            if reading.waits_since.is_none() {
                let limits = &self.shared.limits;
                self.expect(&reading.exchange, 0);
                self.wait_at_most(limits.body_timeout.min(reading.wait_left).min(reading.slowest(limits)));
                reading.waits_since = Some(reading.asked_at);
            }
            let Poll::Ready(lease) = self.stream.poll_recv(cx)? else {
                reading.is_awaited = true;
                return Poll::Pending;
            };
            let Some(lease) = lease else {
                return Poll::Ready(Err(Refusal::BodyCut.into()));
            };
            reading.end_wait();
            reading.received += lease.len() as u64;
            let chunk = self.take_received(&mut reading.exchange, lease)?;
            self.hold_for(reading)?;
            if chunk.is_some() {
                return Poll::Ready(Ok(chunk));
            }
        }
        Poll::Ready(match reading.exchange.stage() {
            Stage::Closing => Err(Error::gone()),
            _ => Ok(None),
        })
    }
}

impl Reading {
    /// What a wait took is counted. The next has a deadline of its own.
    pub(super) fn end_wait(&mut self) {
        self.end_wait_at(annulet::time::now());
    }

    fn end_wait_at(&mut self, end: Instant) {
        if let Some(since) = self.waits_since.take() {
            self.wait_left = self.wait_left.saturating_sub(end - since);
        }
    }

    /// The handler has had its turn, on the connection's own task, and waits: for more of the body? Who asks on this task asks each
    /// time. Who has not asked now has done something else since the last time, and that is not the client's time. Who asks on
    /// another task is not seen here.
    pub(super) fn end_turn(&mut self, task: &Waker) -> bool {
        if !self.is_awaited && self.reader.as_ref().is_some_and(|reader| reader.will_wake(task)) {
            self.end_wait_at(self.asked_at);
        }
        self.is_awaited
    }

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
        match &mut *self.reading.borrow_mut() {
            Some(reading) => {
                reading.kept = bytes;
                Ok(self.hold_for(reading)?)
            }
            None => Ok(self.shared.hold(bytes)?),
        }
    }

    fn give_up(&self, claim: u32) {
        // Nothing that is borrowed drops a future of a handler.
        let mut reading = self.reading.borrow_mut();
        if let Some(reading) = reading.as_mut().filter(|_| claim == self.claim.get()) {
            reading.is_awaited = false;
            reading.end_wait();
        }
    }

    fn poll_chunk(&self, claim: u32, cx: &mut Context<'_>) -> Poll<Result<Option<Chunk>, Error>> {
        // Dropped last: it may be anybody's, and nothing is borrowed then.
        let _waited;
        let mut reading = self.reading.borrow_mut();
        match reading.as_mut() {
            Some(reading) if claim == self.claim.get() => {
                let polled = self.poll_content(reading, cx);
                if let Poll::Ready(Err(_)) = polled {
                    reading.exchange.close();
                }
                let waits = polled.is_pending().then(|| cx.waker().clone());
                _waited = std::mem::replace(&mut reading.reader, waits);
                polled
            }
            _ => Poll::Ready(Err(Error::gone())),
        }
    }
}
