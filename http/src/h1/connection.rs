//! The order of events on a connection: head, body, answer, and then either the next head or the end.
//!
//! Knows where the connection stands and what may come next; holds no bytes but trailer fields, does no I/O.
use std::ops::Range;

use http::{HeaderName, HeaderValue};

use super::chunked;
use super::framing::Framing;
use super::head::Head;
use super::outgoing::Trailers;
use super::{Limits, Refusal};

/// How far the body of the request at hand has been read.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Body {
    /// Nothing left, or nothing ever to come.
    Done,
    /// So many bytes are left.
    Length(u64),
    Chunked(chunked::Decoder),
}

/// Where the connection stands.
///
/// ```text
///                 begin(no body)
///        ┌──────────────────────────────────┐
///        │                                  ▼
///   ┌────┴───┐  begin(body)  ┌─────────┐ ┌──────────┐
///   │  Idle  ├──────────────▶│ Reading │▶│   Read   │       Reading ⇄ decode; 100 Continue at most once
///   └────────┘               └────┬────┘ └────┬─────┘
///        ▲                        │ answer    │ answer
///        │                        ▼           │
///        │      decode to end ┌──────────┐    │
///        ├────────────────────┤ Draining │    │            Draining: the handler did not want the rest
///        │                    └────┬─────┘    │
///        └─────────────────────────┼──────────┤ keep-alive
///                                  ▼          ▼ else
///                             ┌───────────────────┐
///                             │      Closing      │
///                             └───────────────────┘
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Between two requests.
    Idle,
    /// A request is being answered and its body is not yet read.
    Reading,
    /// A request is being answered and nothing of it is left to read.
    Read,
    /// Answered; the rest of the body is thrown away.
    Draining,
    /// No further request will be read.
    Closing,
}

/// The state machine of one connection.
#[derive(Clone, Debug)]
pub struct Exchange {
    stage: Stage,
    body: Body,
    /// The client waits for `100 Continue`, and neither it nor a byte of the body has been seen.
    awaits_continue: bool,
    /// Whether another request may follow.
    keep_alive: bool,
    /// What the body may still grow by, in bytes: while it is read the limit for bodies, then the one for draining.
    body_bytes_left: u64,
    /// The fields behind the body, once it has been read.
    trailers: Trailers,
    /// Of the section that they came in.
    trailer_bytes: usize,
}

impl Exchange {
    /// A connection before its first request.
    #[must_use]
    pub const fn new() -> Exchange {
        Exchange {
            stage: Stage::Idle,
            body: Body::Done,
            awaits_continue: false,
            keep_alive: true,
            body_bytes_left: 0,
            trailers: Trailers::new(),
            trailer_bytes: 0,
        }
    }

    /// Where the connection stands.
    #[must_use]
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// Bytes that are known to follow: the rest of a body of known length, or of a chunk.
    #[must_use]
    pub fn announced(&self) -> u64 {
        match &self.body {
            Body::Done => 0,
            Body::Length(left) => *left,
            Body::Chunked(decoder) => decoder.chunk_left(),
        }
    }

    /// A head has arrived.
    ///
    /// # Errors
    ///
    /// [`Refusal::BodyTooLarge`] when it announces more than the limit.
    pub fn begin(&mut self, head: &Head, limits: &Limits) -> Result<(), Refusal> {
        self.begin_within(head, limits.body_bytes, limits)
    }

    /// As [`begin`](Exchange::begin), with another limit for this body, in bytes.
    ///
    /// # Errors
    ///
    /// As `begin`.
    pub fn begin_within(&mut self, head: &Head, body_bytes: u64, limits: &Limits) -> Result<(), Refusal> {
        debug_assert_eq!(self.stage, Stage::Idle);
        self.keep_alive = head.keep_alive;
        self.awaits_continue = head.expect_continue;
        self.body_bytes_left = body_bytes;
        self.trailers = Trailers::new();
        self.trailer_bytes = 0;
        self.body = match head.framing {
            Framing::None | Framing::Length(0) => Body::Done,
            Framing::Length(length) if length > body_bytes => return Err(Refusal::BodyTooLarge),
            Framing::Length(length) => Body::Length(length),
            Framing::Chunked => Body::Chunked(chunked::Decoder::new(limits)),
        };
        self.stage = if self.body == Body::Done { Stage::Read } else { Stage::Reading };
        Ok(())
    }

    /// The fields behind the body at hand (RFC 9112 section 7.1.2), once all of it has been read.
    #[must_use]
    pub fn trailers(&self) -> &[(HeaderName, HeaderValue)] {
        &self.trailers
    }

    /// What is kept in memory of the body, in bytes: its trailer section, as far as it has come.
    #[must_use]
    pub fn kept(&self) -> usize {
        match &self.body {
            Body::Chunked(decoder) => decoder.kept(),
            Body::Done | Body::Length(_) => self.trailer_bytes,
        }
    }

    /// Whether the body is wanted and `100 Continue` has to be sent for it; says so once.
    pub fn take_continue(&mut self) -> bool {
        self.stage == Stage::Reading && std::mem::take(&mut self.awaits_continue)
    }

    /// Takes body bytes from the input, up to the end of one piece of content.
    ///
    /// # Errors
    ///
    /// The rule that was broken. The connection is closing then.
    pub fn decode(&mut self, input: &[u8]) -> Result<chunked::Decoded, Refusal> {
        let decoded = self.decode_body(input).inspect_err(|_| self.stage = Stage::Closing)?;
        if decoded.is_end {
            if let Body::Chunked(decoder) = std::mem::replace(&mut self.body, Body::Done) {
                self.trailers = decoder.trailers();
                self.trailer_bytes = decoder.kept();
            }
            self.stage = match self.stage {
                Stage::Draining if self.keep_alive => Stage::Idle,
                Stage::Draining | Stage::Closing => Stage::Closing,
                Stage::Idle | Stage::Reading | Stage::Read => Stage::Read,
            };
        }
        Ok(decoded)
    }

    fn decode_body(&mut self, input: &[u8]) -> Result<chunked::Decoded, Refusal> {
        if !input.is_empty() {
            // RFC 9110 section 10.1.1: who sends the body needs no 100 any more.
            self.awaits_continue = false;
        }
        let decoded = match &mut self.body {
            Body::Done => chunked::Decoded { used: 0, data: 0..0, is_end: true },
            Body::Length(left) => {
                let here = input.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= here as u64;
                chunked::Decoded { used: here, data: 0..here, is_end: *left == 0 }
            }
            Body::Chunked(decoder) => decoder.decode(input)?,
        };
        let content_bytes = Range::len(&decoded.data) as u64;
        self.body_bytes_left =
            self.body_bytes_left.checked_sub(content_bytes).ok_or(Refusal::BodyTooLarge)?;
        // What a chunk announces need not be waited for to be too much.
        match &self.body {
            Body::Chunked(decoder) if decoder.chunk_left() > self.body_bytes_left => {
                Err(Refusal::BodyTooLarge)
            }
            _ => Ok(decoded),
        }
    }

    /// Whether the connection can outlive the answer that is about to be written; the answer has to say so if not.
    ///
    /// An unread body longer than the bound for draining ends it, and so does an unanswered `Expect`: whether the client sends
    /// its body then is anybody's guess (RFC 9110 section 10.1.1).
    #[must_use]
    pub fn persists(&self, limits: &Limits) -> bool {
        let rest_is_bearable = match &self.body {
            Body::Done => true,
            Body::Length(left) => *left <= limits.drain_bytes && !self.awaits_continue,
            Body::Chunked(_) => !self.awaits_continue,
        };
        self.keep_alive && rest_is_bearable && self.stage != Stage::Closing
    }

    /// The answer has been written, and said whether the connection persists.
    pub fn finish_answer(&mut self, persists: bool, limits: &Limits) {
        self.keep_alive = persists;
        self.stage = match (persists, &self.body) {
            (false, _) => Stage::Closing,
            (true, Body::Done) => Stage::Idle,
            (true, _) => {
                self.body_bytes_left = limits.drain_bytes;
                Stage::Draining
            }
        };
    }

    /// Nothing more is to be read.
    pub fn close(&mut self) {
        self.stage = Stage::Closing;
    }
}

impl Default for Exchange {
    fn default() -> Exchange {
        Exchange::new()
    }
}

#[cfg(test)]
mod tests {
    use super::super::head::{Parse, Parser};
    use super::*;

    fn limits() -> Limits {
        Limits { body_bytes: 10, drain_bytes: 4, ..Limits::default() }
    }

    fn begin(fields: &str) -> (Exchange, Result<(), Refusal>) {
        let input = format!("POST / HTTP/1.1\r\nhost: a\r\n{fields}\r\n");
        let mut head = Head::default();
        let parsed = Parser::new(limits()).parse(input.as_bytes(), &mut head, &mut Vec::new());
        let Parse::Complete(()) = parsed else {
            panic!("{input:?}");
        };
        let mut exchange = Exchange::new();
        let begun = exchange.begin(&head, &limits());
        (exchange, begun)
    }

    /// Runs events, each one letter: `c` is the body wanted?, `b` one body byte arrives, `a` the answer is written; a trace of
    /// stages comes back.
    fn check(fields: &str, body: &str, events: &str, expected: &str) {
        let (mut exchange, begun) = begin(fields);
        begun.unwrap();
        let mut trace = format!("{:?}", exchange.stage());
        let mut rest = body.as_bytes();
        for event in events.chars() {
            match event {
                'c' if exchange.take_continue() => trace += " 100",
                'c' => {}
                'b' => match exchange.decode(&rest[..rest.len().min(1)]) {
                    Ok(decoded) => rest = &rest[decoded.used..],
                    Err(why) => trace += &format!(" {why:?}"),
                },
                _ => {
                    let persists = exchange.persists(&limits());
                    exchange.finish_answer(persists, &limits());
                }
            }
            trace += &format!(" {:?}", exchange.stage());
        }
        assert_eq!(trace, expected, "{fields:?} {events}");
    }

    #[test]
    fn trailers_are_those_of_the_body_at_hand() {
        let head = |fields: &str| {
            let input = format!("POST / HTTP/1.1\r\nhost: a\r\n{fields}\r\n");
            let mut head = Head::default();
            let parsed = Parser::new(limits()).parse(input.as_bytes(), &mut head, &mut Vec::new());
            assert!(matches!(parsed, Parse::Complete(())));
            head
        };
        let mut exchange = Exchange::new();
        exchange.begin(&head("transfer-encoding: chunked\r\n"), &limits()).unwrap();
        assert!(exchange.trailers().is_empty());
        let mut rest = &b"0\r\nx-sum: 1\r\n\r\n"[..];
        while exchange.stage() == Stage::Reading {
            let decoded = exchange.decode(rest).unwrap();
            rest = &rest[decoded.used..];
        }
        assert_eq!(exchange.trailers().len(), 1);
        exchange.finish_answer(true, &limits());
        exchange.begin(&head("content-length: 1\r\n"), &limits()).unwrap();
        assert!(exchange.trailers().is_empty());
    }

    #[test]
    fn life_cycles() {
        check("", "", "a", "Read Idle");
        check("connection: close\r\n", "", "a", "Read Closing");
        check("content-length: 0\r\n", "", "a", "Read Idle");
        check("content-length: 2\r\n", "xy", "bba", "Reading Reading Read Idle");
        check("content-length: 2\r\nconnection: close\r\n", "xy", "bba", "Reading Reading Read Closing");
        check("content-length: 2\r\n", "xy", "bab", "Reading Reading Draining Idle");
        check("content-length: 5\r\n", "", "a", "Reading Closing");
        check("content-length: 2\r\nconnection: close\r\n", "xy", "a", "Reading Closing");
        check(
            "transfer-encoding: chunked\r\n",
            "0\r\n\r\n",
            "bbbbba",
            "Reading Reading Reading Reading Reading Read Idle",
        );
        check("transfer-encoding: chunked\r\n", "x", "ba", "Reading ChunkSize Closing Closing");
        check(
            "transfer-encoding: chunked\r\n",
            "5\r\nabcde\r\n0\r\n\r\n",
            "abbb",
            "Reading Draining Draining Draining BodyTooLarge Closing",
        );
    }

    #[test]
    fn expectations() {
        let fields = "expect: 100-continue\r\ncontent-length: 2\r\n";
        check(fields, "xy", "ccbba", "Reading 100 Reading Reading Reading Read Idle");
        check(fields, "xy", "bcba", "Reading Reading Reading Read Idle");
        check(fields, "xy", "a", "Reading Closing");
        check(fields, "xy", "cab", "Reading 100 Reading Draining Draining");
    }

    #[test]
    fn too_large() {
        assert_eq!(begin("content-length: 10\r\n").1, Ok(()));
        assert_eq!(begin("content-length: 11\r\n").1, Err(Refusal::BodyTooLarge));
        let (mut exchange, _) = begin("transfer-encoding: chunked\r\n");
        let mut input = &b"a\r\n0123456789\r\n1\r\nx\r\n"[..];
        let outcome = loop {
            match exchange.decode(input) {
                Ok(decoded) => input = &input[decoded.used..],
                Err(why) => break why,
            }
        };
        assert_eq!((outcome, exchange.stage()), (Refusal::BodyTooLarge, Stage::Closing));
    }
}
