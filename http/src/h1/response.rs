//! The response as a client reads it: status line, header fields, and where the body ends (RFC 9112 sections 4 and 6.3).
//!
//! As strict as the request side, and for the same reason: an answer that two parties could cut in different places is refused.
//! A client that has sent no TE field gets no transfer coding other than chunked, so any other is refused too. What it does not
//! know is CONNECT, whose answer turns the connection into a tunnel.
//!
//! ```
//! use annulet_http::Limits;
//! use annulet_http::h1::head::Parse;
//! use annulet_http::h1::response::{Framing, Parser};
//!
//! let mut parser = Parser::new(Limits::default());
//! let input = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
//! let Parse::Complete(head) = parser.parse(input, false) else { panic!("it is whole") };
//! assert_eq!((head.status, head.framing), (200, Framing::Length(5)));
//! assert_eq!(&input[head.len..], b"hello");
//! ```
use std::mem::MaybeUninit;
use std::ops::Range;

use http::Version;

use super::chunked::{Decoded, Decoder};
use super::gathered::Gathered;
use super::head::{Parse, decide_framing};
use super::lines::{refusal, take_fields, version};
use super::outgoing::Trailers;
use super::span::Field;
use super::syntax::{CLASS, VALUE};
use super::{Limits, Refusal, framing};

/// A head longer than this is not remembered: 512 bytes are four times what a small server sends.
const KNOWN_BYTES_MAX: usize = 512;

/// How the body of a response is delimited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    /// No body, whatever the fields say: to HEAD, and with 1xx, 204 and 304 (RFC 9112 section 6.3, rule 1).
    #[default]
    None,
    /// Exactly so many bytes.
    Length(u64),
    /// The chunked coding.
    Chunked,
    /// Up to the end of the connection (rule 8). Whether it came whole cannot be told.
    Close,
}

/// A response head that passed every check.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Head {
    /// From the version to the empty line, in bytes.
    pub len: usize,
    /// The status code, 100 to 999.
    pub status: u16,
    /// 1.0 or 1.1.
    pub version: Version,
    /// Where the body ends.
    pub framing: Framing,
    /// Whether the connection can carry another request once the body has ended.
    pub keep_alive: bool,
}

impl Head {
    /// Whether another head for the same request follows (RFC 9110 section 15.2). After 101 none does: the connection speaks
    /// another protocol.
    #[must_use]
    pub fn is_interim(&self) -> bool {
        self.status < 200 && self.status != 101
    }
}

/// Parses response heads under given limits: `head_bytes` and `headers` of them. One serves all connections of a core.
///
/// Servers send the same head again and again, only the Date changes. A head that equals the last one except for the
/// characters of its Date has the last one's outcome, because no rule looks at that value.
#[derive(Clone, Debug)]
pub struct Parser {
    limits: Limits,
    fields: Vec<Field>,
    known: Option<Known>,
}

/// The last head and its outcome.
#[derive(Clone, Debug)]
struct Known {
    bytes: Vec<u8>,
    /// Where its Date stands; empty if it has none.
    date: Range<usize>,
    to_head: bool,
    head: Head,
}

impl Known {
    /// Whether `input` begins with the same head, except for the Date.
    #[inline]
    fn matches(&self, input: &[u8], to_head: bool) -> bool {
        let Some(input) = input.get(..self.bytes.len()) else { return false };
        let Range { start, end } = self.date;
        to_head == self.to_head
            && input[..start] == self.bytes[..start]
            && input[end..] == self.bytes[end..]
            && is_plain_value(&input[start..end])
    }
}

/// Whether these bytes are a field value as they stand: no white space that would be trimmed, no control character.
#[inline]
fn is_plain_value(bytes: &[u8]) -> bool {
    bytes.iter().all(|&b| CLASS[usize::from(b)] & VALUE != 0)
        && !matches!(bytes, [b' ' | b'\t', ..] | [.., b' ' | b'\t'])
}

impl Parser {
    /// A parser for these limits, which are [`clamped`](Limits::clamped).
    #[must_use]
    pub fn new(limits: Limits) -> Parser {
        Parser { limits: limits.clamped(), fields: Vec::new(), known: None }
    }

    /// Looks for a whole response head at the beginning of `input`. `to_head` says whether the request was HEAD.
    #[inline]
    pub fn parse(&mut self, input: &[u8], to_head: bool) -> Parse<Head> {
        match &self.known {
            Some(known) if known.matches(input, to_head) => Parse::Complete(known.head),
            _ => self.parse_any(input, to_head),
        }
    }

    /// The header fields of the head that [`parse`](Parser::parse) found last.
    #[must_use]
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    #[inline(never)]
    fn parse_any(&mut self, input: &[u8], to_head: bool) -> Parse<Head> {
        // The fields are those of the known head, or of none.
        self.known = None;
        // Only what the limit allows is looked at, so that the outcome does not depend on the slicing.
        let window = &input[..input.len().min(self.limits.head_bytes)];
        match scan(window, &self.limits, &mut self.fields) {
            Parse::Complete((line, gathered)) => {
                let bytes = &window[..line.len];
                match judge(line, &gathered, bytes, &self.fields, to_head) {
                    Ok(head) => {
                        self.remember(bytes, to_head, head);
                        Parse::Complete(head)
                    }
                    Err(why) => Parse::Error(why),
                }
            }
            Parse::Partial if window.len() == self.limits.head_bytes => Parse::Error(Refusal::HeadTooLarge),
            Parse::Partial => Parse::Partial,
            Parse::Error(why) => Parse::Error(why),
        }
    }

    fn remember(&mut self, bytes: &[u8], to_head: bool, head: Head) {
        if bytes.len() > KNOWN_BYTES_MAX {
            return;
        }
        let date = self.fields.iter().find(|field| field.name(bytes).eq_ignore_ascii_case(b"date"));
        let date = date.map_or(0..0, |field| field.value_span().range());
        self.known = Some(Known { bytes: bytes.to_vec(), date, to_head, head });
    }
}

/// What the status line says.
#[derive(Clone, Copy, Debug)]
struct Line {
    len: usize,
    status: u16,
    version: Version,
}

/// Finds the lines with httparse, and refuses what it lets through: empty lines before the head, a bare LF as line end.
fn scan(text: &[u8], limits: &Limits, fields: &mut Vec<Field>) -> Parse<(Line, Gathered)> {
    fields.clear();
    if !text.iter().zip(b"HTTP/1.").all(|(a, b)| a == b) {
        return Parse::Error(Refusal::StatusLine);
    }
    let mut table = [const { MaybeUninit::uninit() }; Limits::HEADERS_MAX];
    let mut response = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    let parsed = config.parse_response_with_uninit_headers(&mut response, text, &mut table[..limits.headers]);
    let len = match parsed {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) => return Parse::Partial,
        Err(error) => return Parse::Error(refusal(error, Refusal::StatusLine)),
    };
    // Both are set by a complete parse.
    let (Some(minor), Some(status)) = (response.version, response.code) else {
        return Parse::Error(Refusal::StatusLine);
    };
    // RFC 9110 section 15: the first digit is the class, and there is none below 1.
    if status < 100 {
        return Parse::Error(Refusal::StatusLine);
    }
    match take_fields(&text[..len], response.headers, fields) {
        Ok(gathered) => Parse::Complete((Line { len, status, version: version(minor) }, gathered)),
        Err(why) => Parse::Error(why),
    }
}

/// RFC 9112 section 6.3, for responses, and section 9.3 on persistence.
fn judge(
    line: Line,
    gathered: &Gathered,
    bytes: &[u8],
    fields: &[Field],
    to_head: bool,
) -> Result<Head, Refusal> {
    let Line { len, status, version } = line;
    let stated =
        if gathered.is_framed { decide_framing(version, bytes, fields)? } else { framing::Framing::None };
    let has_no_body = to_head || status < 200 || status == 204 || status == 304;
    let framing = match stated {
        _ if has_no_body => Framing::None,
        framing::Framing::Length(length) => Framing::Length(length),
        framing::Framing::Chunked => Framing::Chunked,
        framing::Framing::None => Framing::Close,
    };
    let is_asked_to_stay = !gathered.says_close && (version == Version::HTTP_11 || gathered.says_keep_alive);
    // RFC 9110 section 8.6 and RFC 9112 section 6.1 forbid a length and a coding here. What a server that states one sends
    // next is a guess.
    let contradicts_itself = (status < 200 || status == 204)
        && !matches!(stated, framing::Framing::None | framing::Framing::Length(0));
    let keep_alive = is_asked_to_stay && framing != Framing::Close && status != 101 && !contradicts_itself;
    Ok(Head { len, status, version, framing, keep_alive })
}

/// Takes the body of one response apart as it arrives.
#[derive(Clone, Debug)]
pub struct Body(State);

#[derive(Clone, Debug)]
enum State {
    Length(u64),
    Chunked(Decoder),
    Close,
}

impl Body {
    /// For the body that follows a head.
    #[must_use]
    pub fn new(framing: Framing, limits: &Limits) -> Body {
        Body(match framing {
            Framing::None => State::Length(0),
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::Chunked(Decoder::new(limits)),
            Framing::Close => State::Close,
        })
    }

    /// Takes input up to the end of the first piece of content, or all of it. Says so when the body is over, which with no
    /// content may be at once, before any input.
    ///
    /// # Errors
    ///
    /// The rule that was broken; the connection cannot be used again.
    pub fn decode(&mut self, input: &[u8]) -> Result<Decoded, Refusal> {
        match &mut self.0 {
            State::Length(left) => {
                let here = input.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= here as u64;
                Ok(Decoded { used: here, data: 0..here, is_end: *left == 0 })
            }
            State::Chunked(decoder) => decoder.decode(input),
            State::Close => Ok(Decoded { used: input.len(), data: 0..input.len(), is_end: false }),
        }
    }

    /// The fields behind the body, once it is over.
    #[must_use]
    pub fn trailers(&self) -> Trailers {
        match &self.0 {
            State::Chunked(decoder) => decoder.trailers(),
            State::Length(_) | State::Close => Trailers::new(),
        }
    }

    /// The connection has ended before [`decode`](Body::decode) said that the body is over.
    ///
    /// # Errors
    ///
    /// When the body should have gone on.
    pub fn end(&self) -> Result<(), Refusal> {
        match self.0 {
            State::Close | State::Length(0) => Ok(()),
            State::Length(_) | State::Chunked(_) => Err(Refusal::BodyCut),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits { head_bytes: 256, headers: 4, ..Limits::default() }
    }

    fn describe(parser: &mut Parser, input: &[u8], to_head: bool) -> Result<String, Parse<Head>> {
        match parser.parse(input, to_head) {
            Parse::Complete(head) => {
                let keep = if head.keep_alive { "keep" } else { "close" };
                let names: Vec<_> =
                    parser.fields().iter().map(|f| String::from_utf8_lossy(f.name(input))).collect();
                let rest = input.len() - head.len;
                Ok(format!("{} {:?} {keep} {} +{rest}", head.status, head.framing, names.join(",")))
            }
            other => Err(other),
        }
    }

    /// Whole, in every beginning, and through the memory of a parser that has seen it before.
    fn check_to(to_head: bool, input: &str, expected: &str) {
        let input = input.as_bytes();
        let mut parser = Parser::new(limits());
        for _ in 0..2 {
            let seen = describe(&mut parser, input, to_head);
            assert_eq!(seen.as_deref(), Ok(expected), "{:?}", String::from_utf8_lossy(input));
        }
        let used = input.len() - expected.rsplit_once('+').unwrap().1.parse::<usize>().unwrap();
        for end in 0..used {
            let seen = describe(&mut parser, &input[..end], to_head);
            assert_eq!(seen, Err(Parse::Partial), "first {end} of {expected}");
        }
    }

    fn check(input: &str, expected: &str) {
        check_to(false, input, expected);
    }

    /// Delivered whole or in pieces, the first thing that is not Partial is the same error.
    fn check_error(input: impl AsRef<[u8]>, expected: Refusal) {
        let input = input.as_ref();
        let mut parser = Parser::new(limits());
        let expected = Parse::Error(expected);
        assert_eq!(parser.parse(input, false), expected, "{:?}", String::from_utf8_lossy(input));
        let first = (0..=input.len())
            .map(|end| parser.parse(&input[..end], false))
            .find(|seen| *seen != Parse::Partial);
        assert_eq!(first, Some(expected), "byte by byte: {:?}", String::from_utf8_lossy(input));
    }

    #[test]
    fn status_lines() {
        check("HTTP/1.1 200 OK\r\na: b\r\n\r\n", "200 Close close a +0");
        check("HTTP/1.1 200 \r\n\r\nx", "200 Close close  +1");
        check("HTTP/1.0 404 Not Found\r\nContent-Length: 3\r\n\r\n", "404 Length(3) close Content-Length +0");
        check_error("HTTP/1.1 99 x\r\n\r\n", Refusal::StatusLine);
        check_error("HTTP/1.1 099 x\r\n\r\n", Refusal::StatusLine);
        check_error("HTTP/1.2 200 OK\r\n\r\n", Refusal::StatusLine);
        check_error("HTTP/2 200\r\n\r\n", Refusal::StatusLine);
        check_error("\r\nHTTP/1.1 200 OK\r\n\r\n", Refusal::StatusLine);
        check_error("http/1.1 200 OK\r\n\r\n", Refusal::StatusLine);
        check_error("SSH-2.0-OpenSSH\r\n", Refusal::StatusLine);
    }

    #[test]
    fn lines() {
        let long = "x".repeat(300);
        check_error("HTTP/1.1 200 OK\n\n", Refusal::LineEnd);
        check_error("HTTP/1.1 200 OK\r\na: b\n\r\n", Refusal::LineEnd);
        check_error("HTTP/1.1 200 OK\r\na : b\r\n\r\n", Refusal::FieldName);
        check_error("HTTP/1.1 200 OK\r\na: b\r\n c\r\n\r\n", Refusal::FieldName);
        check_error("HTTP/1.1 200 OK\r\na: \x01\r\n\r\n", Refusal::FieldValue);
        check_error("HTTP/1.1 200 OK\r\na:b\r\nb:b\r\nc:b\r\nd:b\r\ne:b\r\n\r\n", Refusal::TooManyFields);
        check_error(format!("HTTP/1.1 200 OK\r\na: {long}\r\n\r\n"), Refusal::HeadTooLarge);
    }

    #[test]
    fn bodies_by_the_rules_of_section_6_3() {
        let with = |status: u16, fields: &str| format!("HTTP/1.1 {status} x\r\n{fields}\r\n");
        let check = |status, fields: &str, expected: &str| check(&with(status, fields), expected);
        check(200, "Content-Length: 5\r\n", "200 Length(5) keep Content-Length +0");
        check(200, "content-length: 0\r\n", "200 Length(0) keep content-length +0");
        check(200, "Transfer-Encoding: chunked\r\n", "200 Chunked keep Transfer-Encoding +0");
        check(200, "", "200 Close close  +0");
        check(
            200,
            "Content-Length: 5\r\nConnection: close\r\n",
            "200 Length(5) close Content-Length,Connection +0",
        );
        check(204, "", "204 None keep  +0");
        check(204, "Content-Length: 0\r\n", "204 None keep Content-Length +0");
        check(204, "Content-Length: 7\r\n", "204 None close Content-Length +0");
        check(304, "Content-Length: 7\r\n", "304 None keep Content-Length +0");
        check(100, "", "100 None keep  +0");
        check(103, "Link: a\r\n", "103 None keep Link +0");
        check(101, "", "101 None close  +0");
        check_to(true, &with(200, "Content-Length: 9\r\n"), "200 None keep Content-Length +0");
        check_to(true, &with(200, "Transfer-Encoding: chunked\r\n"), "200 None keep Transfer-Encoding +0");
        let check_error = |fields: &str, expected| check_error(with(200, fields), expected);
        check_error("Content-Length: 5\r\nContent-Length: 5\r\n", Refusal::LengthRepeated);
        check_error("Content-Length: -5\r\n", Refusal::LengthMalformed);
        check_error("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", Refusal::LengthAndCoding);
        check_error("Transfer-Encoding: gzip, chunked\r\n", Refusal::CodingUnknown);
        check_error("Transfer-Encoding: chunked, gzip\r\n", Refusal::CodingMalformed);
    }

    #[test]
    fn old_servers() {
        check(
            "HTTP/1.0 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\n",
            "200 Length(5) keep Content-Length,Connection +0",
        );
        check_error("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", Refusal::CodingInOldVersion);
    }

    #[test]
    fn a_head_with_another_date_is_known_and_any_other_is_not() {
        let answer = |date: &str, length: &str| {
            format!("HTTP/1.1 200 OK\r\nDate: {date}\r\nContent-Length: {length}\r\n\r\nhello")
        };
        let mut parser = Parser::new(limits());
        let mut check = |input: &str, expected: Result<&str, Refusal>| {
            let seen = describe(&mut parser, input.as_bytes(), false);
            let fresh = describe(&mut Parser::new(limits()), input.as_bytes(), false);
            assert_eq!(seen, fresh, "memory changes nothing: {input:?}");
            assert_eq!(seen, expected.map(str::to_owned).map_err(Parse::Error), "{input:?}");
        };
        let good = "200 Length(5) keep Date,Content-Length +5";
        check(&answer("Sun, 06 Nov 1994 08:49:37 GMT", "5"), Ok(good));
        check(&answer("Sun, 06 Nov 1994 08:49:38 GMT", "5"), Ok(good));
        check(&answer("Sun, 06 Nov 1994 08:49:38 GMT", "4"), Ok("200 Length(4) keep Date,Content-Length +5"));
        check(
            &answer("Sun, 06 Nov 1994 08:49\r\nTE: x", "5"),
            Ok("200 Length(5) keep Date,TE,Content-Length +5"),
        );
        check(&answer("Sun, 06 Nov 1994 08:49:38 GMT", "5"), Ok(good));
        check(&answer("Sun, 06 Nov 1994 08:49:3\x01 GMT", "5"), Err(Refusal::FieldValue));
        check(&answer(" un, 06 Nov 1994 08:49:38 GM ", "5"), Ok(good));
        check(&answer("", "5"), Ok(good));
        check(&answer("x", "5"), Ok(good));
    }

    #[test]
    fn bodies_in_any_slicing() {
        let check = |framing, input: &str, expected: Result<&str, Refusal>| {
            for step in 1..=input.len().max(1) {
                let mut body = Body::new(framing, &limits());
                let (mut content, mut over) = (String::new(), false);
                'input: for piece in input.as_bytes().chunks(step) {
                    let mut rest = piece;
                    while !rest.is_empty() && !over {
                        match body.decode(rest) {
                            Ok(decoded) => {
                                content += std::str::from_utf8(&rest[decoded.data.clone()]).unwrap();
                                over = decoded.is_end;
                                rest = &rest[decoded.used..];
                            }
                            Err(why) => {
                                assert_eq!(Err(why), expected, "{input:?} by {step}");
                                break 'input;
                            }
                        }
                    }
                }
                if !over && expected.is_err() {
                    continue;
                }
                let ended = if over { Ok(()) } else { body.end() };
                assert_eq!(ended.map(|()| content.as_str()), expected, "{input:?} by {step}");
            }
        };
        check(Framing::Length(5), "hello, next", Ok("hello"));
        check(Framing::Close, "hello", Ok("hello"));
        check(Framing::Close, "", Ok(""));
        check(Framing::None, "", Ok(""));
        check(Framing::Chunked, "5\r\nhello\r\n0\r\n\r\nnext", Ok("hello"));
        check(Framing::Chunked, "5\r\nhello!", Err(Refusal::ChunkEnd));
        assert_eq!(Body::new(Framing::Length(1), &limits()).end(), Err(Refusal::BodyCut));
        assert_eq!(Body::new(Framing::Chunked, &limits()).end(), Err(Refusal::BodyCut));
        let at_once = Body::new(Framing::None, &limits()).decode(b"next").unwrap();
        assert_eq!((at_once.used, at_once.is_end), (0, true));
    }
}
