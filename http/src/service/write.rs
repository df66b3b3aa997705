//! Answers on their way out: encoded whole into the sink, or begun there when their content is to follow.
use std::time::{Instant, SystemTime};

use annulet::metrics::Counter;
use http::Version;

use super::{Facts, PIECE_BYTES_MAX, SMALL_BYTES_MAX, Service};
use crate::files::Pieces;
use crate::h1::Refusal;
use crate::h1::encode::{self, Answer, DATE_END_BYTES, Length};
use crate::h1::outgoing::Outgoing;
use crate::handler::PendingCall;
use crate::response::{Body, IntoResponse, Response, Special};
use crate::stream::{Data, Streamed};
use crate::upgrade::Upgrade;

/// Where answers go.
pub(crate) trait Sink {
    /// Lets `write` append.
    fn append(&mut self, write: impl FnOnce(&mut Vec<u8>));
    /// Whether enough is waiting to leave, so that no further answer should be made.
    fn is_full(&self) -> bool;
    /// Whether there is memory for an answer that has to wait for its client, or that is a file.
    fn has_room(&self, is_file: bool) -> bool;
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

impl Service {
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
    pub(super) fn write_dated(
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
