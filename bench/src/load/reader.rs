//! From received bytes to answers: which piece ends which answer. No I/O and no clock.
//!
//! Heads are parsed where they were received; only a head that is cut by the end of a piece is copied.

use annulet_http::h1::head::Parse;
use annulet_http::h1::response::{Body, Framing, Head, Parser};
use annulet_http::{Limits, Refusal};

/// What heads a server may send: as much as the parser can hold.
pub(crate) fn limits() -> Limits {
    Limits { head_bytes: Limits::HEAD_BYTES_MAX, headers: Limits::HEADERS_MAX, ..Limits::default() }
}

/// A whole answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Whether another request may follow on the connection.
    pub(crate) keep_alive: bool,
}

impl From<Head> for Answer {
    fn from(head: Head) -> Answer {
        Answer { status: head.status, keep_alive: head.keep_alive }
    }
}

/// The reading side of one connection.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    /// The beginning of a head whose end has not arrived. Bounded by the parser's limit; kept for its memory.
    cut_head: Vec<u8>,
    /// The answer whose body is being read.
    body: Option<(Body, Answer)>,
}

impl Reader {
    /// Takes bytes from `input` up to the end of the next answer, or all of them. `to_head` says whether that answer is one to
    /// HEAD.
    #[inline]
    pub(crate) fn next(
        &mut self,
        parser: &mut Parser,
        input: &mut &[u8],
        to_head: bool,
    ) -> Result<Option<Answer>, Refusal> {
        if self.body.is_none() && self.cut_head.is_empty() {
            // Nearly all answers: head and body are there.
            let bytes = *input;
            if let Parse::Complete(head) = parser.parse(bytes, to_head)
                && let Framing::Length(length) = head.framing
                && length <= (bytes.len() - head.len) as u64
            {
                *input = &bytes[head.len + length as usize..];
                return Ok(Some(head.into()));
            }
        }
        self.next_in_pieces(parser, input, to_head)
    }

    fn next_in_pieces(
        &mut self,
        parser: &mut Parser,
        input: &mut &[u8],
        to_head: bool,
    ) -> Result<Option<Answer>, Refusal> {
        while self.body.is_none() {
            if input.is_empty() {
                return Ok(None);
            }
            let Some(head) = self.take_head(parser, input, to_head)? else { return Ok(None) };
            if head.is_interim() {
                continue;
            }
            if head.framing == Framing::None {
                return Ok(Some(head.into()));
            }
            self.body = Some((Body::new(head.framing, &limits()), head.into()));
        }
        while let Some((body, answer)) = &mut self.body {
            let decoded = body.decode(input)?;
            *input = &input[decoded.used..];
            if decoded.is_end {
                let answer = *answer;
                self.body = None;
                return Ok(Some(answer));
            }
            if input.is_empty() {
                break;
            }
        }
        Ok(None)
    }

    fn take_head(
        &mut self,
        parser: &mut Parser,
        input: &mut &[u8],
        to_head: bool,
    ) -> Result<Option<Head>, Refusal> {
        let before = self.cut_head.len();
        let parsed = if before == 0 {
            parser.parse(input, to_head)
        } else {
            let room = Limits::HEAD_BYTES_MAX - before;
            self.cut_head.extend_from_slice(&input[..input.len().min(room)]);
            parser.parse(&self.cut_head, to_head)
        };
        match parsed {
            Parse::Complete(head) => {
                self.cut_head.clear();
                *input = &input[head.len - before..];
                Ok(Some(head))
            }
            Parse::Partial => {
                if before == 0 {
                    self.cut_head.extend_from_slice(input);
                }
                *input = &[];
                Ok(None)
            }
            Parse::Error(why) => Err(why),
        }
    }

    /// The connection has ended. The answer that this completes, if one ends with its connection.
    ///
    /// # Errors
    ///
    /// When it ended within an answer.
    pub(crate) fn end(&mut self) -> Result<Option<Answer>, Refusal> {
        if !self.cut_head.is_empty() {
            return Err(Refusal::HeadCut);
        }
        match self.body.take() {
            None => Ok(None),
            Some((body, answer)) => body.end().map(|()| Some(answer)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The answers in `input`, in any slicing, as `status` and `-` for those that end the connection.
    fn check(to_head: bool, input: &str, expected: Result<&str, Refusal>) {
        for step in 1..=input.len() {
            let (mut reader, mut parser) = (Reader::default(), Parser::new(limits()));
            let mut text = String::new();
            let mut outcome = Ok(());
            'pieces: for piece in input.as_bytes().chunks(step) {
                let mut rest = piece;
                while !rest.is_empty() {
                    match reader.next(&mut parser, &mut rest, to_head) {
                        Ok(Some(Answer { status, keep_alive })) => {
                            text += &format!("{status}{}", if keep_alive { " " } else { "- " });
                        }
                        Ok(None) => assert!(rest.is_empty()),
                        Err(why) => {
                            outcome = Err(why);
                            break 'pieces;
                        }
                    }
                }
            }
            let outcome = outcome.and_then(|()| reader.end()).map(|last| match last {
                Some(answer) => format!("{text}{}end", answer.status),
                None => text.trim_end().to_owned(),
            });
            assert_eq!(outcome, expected.map(str::to_owned), "{input:?} by {step}");
        }
    }

    const HELLO: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

    #[test]
    fn answers_in_any_slicing() {
        let check = |input: &str, expected| check(false, input, expected);
        check(HELLO, Ok("200"));
        check(&HELLO.repeat(3), Ok("200 200 200"));
        check(&format!("HTTP/1.1 204 x\r\n\r\n{HELLO}"), Ok("204 200"));
        check(&format!("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 x\r\nLink: a\r\n\r\n{HELLO}"), Ok("200"));
        check(
            &format!("HTTP/1.1 500 x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n{HELLO}"),
            Ok("500 200"),
        );
        check("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx", Ok("200-"));
        check("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", Ok("200"));
        check("HTTP/1.1 200 OK\r\n\r\nhello", Ok("200end"));
        check("HTTP/1.0 200 OK\r\n\r\n", Ok("200end"));
        check("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel", Err(Refusal::BodyCut));
        check("HTTP/1.1 200 OK\r\nContent-Le", Err(Refusal::HeadCut));
        check(&format!("{HELLO}!"), Err(Refusal::StatusLine));
    }

    #[test]
    fn answers_to_head_have_no_body() {
        check(true, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nHTTP/1.1 304 x\r\n\r\n", Ok("200 304"));
    }
}
