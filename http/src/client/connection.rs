//! One connection, and one request and its answer's head on it.
use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderName, HeaderValue};

use super::body::{Upload, UploadError};
use super::error::{Error, Kind, Phase};
use super::pool::Reuse;
use crate::body::Chunk;
use crate::h1::Refusal;
use crate::h1::head::Parse;
use crate::h1::response::{Head, Parser};
use crate::socket::Socket;

/// Interim answers to one request. More is a server that plays for time.
const INTERIM_MAX: usize = 16;

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) stream: Socket,
    /// Received and not yet looked at.
    pub(super) rest: Option<Chunk>,
}

/// When waiting is over.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    pub(super) head: Duration,
    /// For who asks before it sends content.
    pub(super) to_continue: Duration,
    pub(super) total: Option<Instant>,
}

/// Why there is no head.
#[derive(Debug)]
pub(super) enum NoHead {
    /// The connection ended or broke before any byte of the answer came.
    Nothing(Option<io::Error>),
    Error(Error),
}

impl Connection {
    pub(super) fn new(stream: Socket) -> Connection {
        Connection { stream, rest: None }
    }

    /// Sends `upload` and waits for the head of the final answer. Content that has not all left by then stays in `upload`. What is
    /// held there leaves after an interim answer 100, or when the time for that is up.
    pub(super) async fn head(
        &mut self,
        upload: &mut Upload,
        parser: &RefCell<Parser>,
        to_head: bool,
        times: Times,
    ) -> Result<(Head, HeaderMap), NoHead> {
        let mut gathered = Vec::new();
        let (mut interim, mut keep_alive) = (0, true);
        let mut broken = None;
        match upload.is_held() {
            true => self.wait_at_most(times.to_continue, times),
            false => self.restart(times),
        }
        loop {
            if let Some(lease) = self.rest.take() {
                match self.parse(lease, &mut gathered, parser, to_head)? {
                    None => {}
                    Some((head, _)) if head.is_interim() && interim == INTERIM_MAX => {
                        let error = Error::new(Kind::Unexpected);
                        return Err(NoHead::Error(error.because("interim answers without an end")));
                    }
                    Some((head, _)) if head.is_interim() => {
                        interim += 1;
                        keep_alive &= head.keep_alive;
                        if head.status == 100 {
                            if upload.is_held() {
                                self.restart(times);
                            }
                            // Late or not: from here on the answer is the handler's.
                            upload.release(true);
                        }
                        continue;
                    }
                    Some((mut head, headers)) => {
                        // An interim answer that speaks of content may have been the final one to somebody else.
                        head.keep_alive &= keep_alive;
                        return Ok((head, headers));
                    }
                }
            }
            let received = poll_fn(|cx| {
                if !upload.is_done() && !upload.is_held() && broken.is_none() {
                    let before = upload.sent;
                    let polled = upload.poll(&self.stream, cx);
                    if upload.sent > before {
                        self.restart(times);
                    }
                    match polled {
                        Poll::Ready(Err(UploadError::Content(error))) => {
                            let error = Error::new(Kind::Upload).because(error);
                            return Poll::Ready(Err(NoHead::Error(error)));
                        }
                        // What the server said before it closed may still be there to be read.
                        Poll::Ready(Err(UploadError::Io(error))) => broken = Some(error),
                        Poll::Ready(Ok(())) | Poll::Pending => {}
                    }
                }
                self.stream.poll_recv(cx).map(Ok)
            });
            let is_nothing = gathered.is_empty() && interim == 0;
            match received.await? {
                Ok(Some(lease)) => self.rest = Some(lease),
                // RFC 9110 section 10.1.1: a server that says nothing may not know of the expectation.
                Err(error)
                    if error.kind() == io::ErrorKind::TimedOut
                        && upload.is_held()
                        && !is_past(times.total) =>
                {
                    upload.release(false);
                    self.restart(times);
                }
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                    return Err(NoHead::Error(time_is_up(times.total)));
                }
                Ok(None) if is_nothing => return Err(NoHead::Nothing(broken)),
                Err(error) if is_nothing => return Err(NoHead::Nothing(Some(error))),
                Ok(None) => return Err(NoHead::Error(Error::refused(Refusal::HeadCut))),
                Err(error) => return Err(NoHead::Error(Error::new(Kind::Io).because(error))),
            }
        }
    }

    /// The request is on its way, or went on: from here the server has its time.
    fn restart(&self, times: Times) {
        self.wait_at_most(times.head, times);
    }

    /// So long, and no longer than there is time for all.
    fn wait_at_most(&self, time: Duration, times: Times) {
        let until = annulet::time::now().checked_add(time);
        let first = match (until, times.total) {
            (Some(until), Some(total)) => Some(until.min(total)),
            (until, total) => until.or(total),
        };
        self.stream.set_recv_deadline(first);
    }

    /// Looks for a head in what was gathered and `lease` behind it. What follows the head stays in `rest`.
    fn parse(
        &mut self,
        mut lease: Chunk,
        gathered: &mut Vec<u8>,
        parser: &RefCell<Parser>,
        to_head: bool,
    ) -> Result<Option<(Head, HeaderMap)>, NoHead> {
        let before = gathered.len();
        if before > 0 {
            gathered.extend_from_slice(&lease);
        }
        let input: &[u8] = if before > 0 { gathered } else { &lease };
        let mut parser = parser.borrow_mut();
        match parser.parse(input, to_head) {
            Parse::Complete(head) => {
                let mut headers = HeaderMap::new();
                if !head.is_interim() {
                    for field in parser.fields() {
                        let refused = |why| NoHead::Error(Error::refused(why));
                        let name = HeaderName::from_bytes(field.name(input))
                            .map_err(|_| refused(Refusal::FieldName))?;
                        let value = HeaderValue::from_bytes(field.value(input))
                            .map_err(|_| refused(Refusal::FieldValue))?;
                        headers.append(name, value);
                    }
                }
                lease.advance(head.len - before);
                self.rest = (!lease.is_empty()).then_some(lease);
                gathered.clear();
                Ok(Some((head, headers)))
            }
            Parse::Partial => {
                if before == 0 {
                    gathered.extend_from_slice(&lease);
                }
                Ok(None)
            }
            Parse::Error(why) => Err(NoHead::Error(Error::refused(why))),
        }
    }
}

/// A deadline of the socket has passed: whose was it?
pub(super) fn time_is_up(total: Option<Instant>) -> Error {
    Error::new(Kind::Timeout(if is_past(total) { Phase::Total } else { Phase::Head }))
}

fn is_past(until: Option<Instant>) -> bool {
    until.is_some_and(|until| until <= annulet::time::now())
}

impl Reuse for Connection {
    fn is_usable(&mut self) -> bool {
        // Bytes that nobody asked for would be taken for the next answer. Only what has arrived can be seen: what a server sends at
        // the same moment as we the next request is beyond any client of HTTP/1.
        self.stream.set_recv_deadline(None);
        let is_quiet =
            self.rest.is_none() && self.stream.send_buffered() == 0 && self.stream.try_recv().is_none();
        is_quiet && self.stream.poll_recv(&mut Context::from_waker(Waker::noop())).is_pending()
    }

    fn end(&mut self) {
        // RFC 9112 section 9.8: close_notify. It is gathered, and leaves although nobody waits; a FIN needs no call.
        if self.stream.is_secure() {
            let _ = self.stream.poll_shutdown(&mut Context::from_waker(Waker::noop()));
        }
    }
}
