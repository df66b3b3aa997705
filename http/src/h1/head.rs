//! The request head: request line and header fields, from bytes to facts in one pass over the fields.
//!
//! `plain` finds the lines of the heads that nearly everybody sends, `lines` those of all others, with httparse, at
//! three times the cost; a test holds the two to the same outcome. What the lines say together is judged here: a missing, second
//! or malformed Host, the framing, persistence. Nothing is copied, fields become offsets.
//!
//! The outcome does not depend on how the bytes arrived: whatever is an error in the whole is never complete in a part.
use std::ops::Range;

use http::Version;

use super::framing::{self, Framing};
use super::lines::{Lines, scan_lines};
use super::plain::KnownHost;
use super::target::target_is_too_long;
use super::{Limits, Refusal, plain, syntax};

/// What came of a look at the bytes received so far.
#[derive(Debug, PartialEq, Eq)]
pub enum Parse<T> {
    /// A whole head stands at the beginning.
    Complete(T),
    /// So far so good: more bytes are needed.
    Partial,
    /// Whatever follows, this is refused.
    Error(Refusal),
}

/// One header field line: where its name and its value stand in the head. In bytes, from the head's first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Field {
    name_start: u16,
    name_len: u16,
    value_start: u16,
    value_len: u16,
}

impl Field {
    #[inline]
    pub(super) fn new(name: Span, value: Span) -> Field {
        Field { name_start: name.start, name_len: name.len, value_start: value.start, value_len: value.len }
    }

    #[inline]
    pub(super) fn value_span(self) -> Span {
        Span { start: self.value_start, len: self.value_len }
    }

    /// The field's name as it was sent.
    #[must_use]
    pub fn name(self, head: &[u8]) -> &[u8] {
        &head[usize::from(self.name_start)..][..usize::from(self.name_len)]
    }

    /// The field's value, without white space around it.
    #[must_use]
    pub fn value(self, head: &[u8]) -> &[u8] {
        &head[usize::from(self.value_start)..][..usize::from(self.value_len)]
    }
}

/// A range of the head, in bytes from its first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// First byte.
    pub start: u16,
    /// Number of bytes.
    pub len: u16,
}

impl Span {
    /// As a range of indices.
    #[must_use]
    pub fn range(self) -> Range<usize> {
        usize::from(self.start)..usize::from(self.start) + usize::from(self.len)
    }

    /// Where `part` stands in `whole`, of which it is a piece no further in than 64 KiB.
    #[inline]
    pub(crate) fn of(part: &[u8], whole: &[u8]) -> Span {
        let start = (part.as_ptr() as usize).wrapping_sub(whole.as_ptr() as usize);
        Span { start: start as u16, len: part.len() as u16 }
    }
}

/// A head that passed every check. Spans and fields count from its first byte.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Head {
    /// Where the head stands in the input: after the empty lines before it. In bytes.
    pub start: usize,
    /// From the method to the empty line, in bytes.
    pub len: usize,
    /// The method, a token.
    pub method: Span,
    /// Whether the method is GET, as most are.
    pub is_get: bool,
    /// The path; never empty, `*` for the asterisk form. ASCII.
    pub path: Span,
    /// What follows the `?`, if there is one. ASCII.
    pub query: Option<Span>,
    /// The host and port that the request is for: from an absolute target, else from Host; empty if neither names one.
    pub host: Span,
    /// 1.0 or 1.1; a higher minor version counts as 1.1 (RFC 9110 section 2.5).
    pub version: Version,
    /// Where the body ends.
    pub framing: Framing,
    /// Whether the client means to send another request on this connection.
    pub keep_alive: bool,
    /// Whether the client waits for `100 Continue` before it sends the body.
    pub expect_continue: bool,
    /// Whether the path holds a `%`.
    pub path_is_escaped: bool,
    /// Whether the target is an `https` URI: to be refused where that was not spoken (RFC 9110 section 7.4).
    pub is_https: bool,
}

impl Head {
    /// The head's own bytes.
    #[inline]
    #[must_use]
    pub fn bytes<'b>(&self, input: &'b [u8]) -> &'b [u8] {
        &input[self.start..self.start + self.len]
    }

    /// How many bytes to take from the input.
    #[inline]
    #[must_use]
    pub fn used(&self) -> usize {
        self.start + self.len
    }
}

/// Parses heads under given limits. One serves all connections of a core.
#[derive(Clone, Debug)]
pub struct Parser {
    limits: Limits,
    host_known: KnownHost,
}

impl Parser {
    /// A parser for these limits, which are [`clamped`](Limits::clamped).
    #[must_use]
    pub fn new(limits: Limits) -> Parser {
        Parser { limits: limits.clamped(), host_known: KnownHost::default() }
    }

    /// Looks for a whole request head at the beginning of `input` and puts it into `head`, its fields into `fields`. `head` changes
    /// only if one is complete.
    #[inline]
    pub fn parse(&mut self, input: &[u8], head: &mut Head, fields: &mut Vec<Field>) -> Parse<()> {
        match plain::scan(input, &self.limits, &self.host_known, fields) {
            Some(lines) => self.judge(&input[..lines.len], &lines, head, fields),
            None => self.parse_any(input, head, fields),
        }
    }

    /// Everything that is not plain: other forms, parts of heads, and whatever has to be refused.
    #[inline(never)]
    fn parse_any(&mut self, input: &[u8], head: &mut Head, fields: &mut Vec<Field>) -> Parse<()> {
        // RFC 9112 section 2.2: empty lines before the request line are ignored.
        let skipped = match skip_empty_lines(input) {
            Parse::Complete(skipped) => skipped,
            Parse::Partial => return Parse::Partial,
            Parse::Error(why) => return Parse::Error(why),
        };
        // Only what the limit allows is looked at, so that a late error and a head too large never depend on the slicing.
        let rest = &input[skipped..];
        let window = &rest[..rest.len().min(self.limits.head_bytes)];
        let judged = match scan_lines(window, window, &self.limits, fields) {
            Parse::Complete(lines) => self.judge(&window[..lines.len], &lines, head, fields),
            Parse::Partial => Parse::Partial,
            Parse::Error(why) => Parse::Error(why),
        };
        match judged {
            Parse::Complete(()) => {
                head.start = skipped;
                Parse::Complete(())
            }
            Parse::Partial if target_is_too_long(window, &self.limits) => {
                Parse::Error(Refusal::TargetTooLong)
            }
            Parse::Partial if window.len() == self.limits.head_bytes => {
                // No method is as long as that: it is no request line.
                let has_method = memchr::memchr(b' ', window).is_some();
                Parse::Error(if has_method { Refusal::HeadTooLarge } else { Refusal::RequestLine })
            }
            Parse::Partial => Parse::Partial,
            Parse::Error(why) if target_is_too_long(window, &self.limits) => {
                Parse::Error(first_error(window, why, &self.limits, fields))
            }
            Parse::Error(why) => Parse::Error(why),
        }
    }

    /// The rules about what the lines say.
    #[inline(always)]
    fn judge(&mut self, bytes: &[u8], lines: &Lines, head: &mut Head, fields: &[Field]) -> Parse<()> {
        let gathered = &lines.gathered;
        let version = lines.version;
        let host = match gathered.hosts {
            1 if gathered.host_is_known || self.is_host(gathered.host.value(bytes)) => {
                gathered.host.value_span()
            }
            // RFC 9112 section 3.2.2: beside the authority of a target Host is ignored, and in HTTP/1.0 none is needed. Otherwise the
            // target would have no host, and RFC 9110 section 4.2.1 has that refused.
            1 if gathered.host.value(bytes).is_empty()
                && (version == Version::HTTP_10 || lines.target.authority.is_some()) =>
            {
                gathered.host.value_span()
            }
            1 => return Parse::Error(Refusal::HostMalformed),
            0 if version == Version::HTTP_10 => Span::default(),
            0 => return Parse::Error(Refusal::HostMissing),
            _ => return Parse::Error(Refusal::HostRepeated),
        };
        if lines.len > self.limits.line_bytes && longest_line(lines.len, fields) > self.limits.line_bytes {
            return Parse::Error(Refusal::LineTooLong);
        }
        let mut framing = Framing::None;
        if gathered.is_framed {
            match decide_framing(version, bytes, fields) {
                Ok(decided) => framing = decided,
                Err(why) => return Parse::Error(why),
            }
        }
        // RFC 9110 section 10.1.1: ignored in HTTP/1.0, and without a body there is nothing to wait for.
        if gathered.expects_unknown && version == Version::HTTP_11 {
            return Parse::Error(Refusal::Expectation);
        }
        let expect_continue =
            gathered.expects_continue && version == Version::HTTP_11 && framing != Framing::None;
        *head = Head {
            start: 0,
            len: lines.len,
            method: lines.method,
            is_get: bytes.starts_with(b"GET "),
            path: lines.target.path,
            query: lines.target.query,
            // RFC 9112 section 3.2.2: an absolute target overrides Host.
            host: lines.target.authority.unwrap_or(host),
            version,
            framing,
            keep_alive: !gathered.says_close && (version == Version::HTTP_11 || gathered.says_keep_alive),
            expect_continue,
            path_is_escaped: lines.target.path_is_escaped,
            is_https: lines.target.is_https,
        };
        Parse::Complete(())
    }

    #[inline]
    fn is_host(&mut self, value: &[u8]) -> bool {
        self.host_known.is(value) || self.is_new_host(value)
    }

    fn is_new_host(&mut self, value: &[u8]) -> bool {
        // Of nothing, and of a port alone, the grammar makes a host without a name.
        let is_host = !matches!(value, [] | [b':', ..]) && syntax::is_host(value);
        if is_host {
            self.host_known.set(value);
        }
        is_host
    }
}

/// The length of the longest field line of a head, without its end.
#[cold]
fn longest_line(head_len: usize, fields: &[Field]) -> usize {
    // Each begins two bytes behind the one before, and the last one is followed by an empty line.
    let starts = fields.iter().map(|field| usize::from(field.name_start));
    let ends = starts.clone().skip(1).map(|next| next - 2).chain([head_len - 4]);
    starts.zip(ends).map(|(start, end)| end - start).max().unwrap_or(0)
}

/// The framing that the fields of a head give it.
pub(super) fn decide_framing(version: Version, bytes: &[u8], fields: &[Field]) -> Result<Framing, Refusal> {
    let named = |name: &'static [u8]| {
        fields.iter().filter(|f| f.name(bytes).eq_ignore_ascii_case(name)).map(|f| f.value(bytes))
    };
    framing::decide(version, named(b"content-length"), named(b"transfer-encoding"))
}

/// The error that would have come first, had the bytes come one by one: a target may be too long before or after its first bad
/// character. Errors stay errors when bytes are added, so the shortest refused beginning can be bisected.
#[cold]
fn first_error(window: &[u8], last: Refusal, limits: &Limits, fields: &mut Vec<Field>) -> Refusal {
    let (mut good, mut bad, mut why) = (0, window.len(), last);
    while good + 1 < bad {
        let middle = good.midpoint(bad);
        let window = &window[..middle];
        match scan_lines(window, window, limits, fields) {
            Parse::Error(earlier) => (bad, why) = (middle, earlier),
            _ if target_is_too_long(window, limits) => (bad, why) = (middle, Refusal::TargetTooLong),
            _ => good = middle,
        }
    }
    why
}

/// More empty lines than this before a request are refused. RFC 9112 section 2.2 asks for one to be ignored, which some clients
/// send behind a body.
const EMPTY_LINE_BYTES_MAX: usize = 8;

/// Whether `input`, which no request could be made of so far, is nothing but empty lines: no request has begun then.
#[cold]
pub(crate) fn is_empty_lines(input: &[u8]) -> bool {
    input.iter().all(|b| matches!(b, b'\r' | b'\n'))
}

/// Whether a request that is refused, whole or not, is HEAD as far as can be told: its answer has no content.
#[cold]
pub(crate) fn is_head_request(input: &[u8]) -> bool {
    match input.iter().position(|b| !matches!(b, b'\r' | b'\n')) {
        Some(start) => input[start..].starts_with(b"HEAD "),
        None => false,
    }
}

#[cold]
fn skip_empty_lines(input: &[u8]) -> Parse<usize> {
    let mut skipped = 0;
    loop {
        match &input[skipped..] {
            [b'\r' | b'\n', ..] if skipped == EMPTY_LINE_BYTES_MAX => return Parse::Error(Refusal::LineEnd),
            [b'\r', b'\n', ..] => skipped += 2,
            [] | [b'\r'] => return Parse::Partial,
            [b'\r' | b'\n', ..] => return Parse::Error(Refusal::LineEnd),
            _ => return Parse::Complete(skipped),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits { head_bytes: 256, target_bytes: 64, line_bytes: 128, headers: 4, ..Limits::default() }
    }

    /// Everything that matters about a head, as one line.
    fn describe(input: &[u8]) -> Result<String, Parse<()>> {
        let (mut head, mut fields) = (Head::default(), Vec::new());
        match Parser::new(limits()).parse(input, &mut head, &mut fields) {
            Parse::Complete(()) => {
                let bytes = head.bytes(input);
                let show = |span: Span| String::from_utf8_lossy(&bytes[span.range()]);
                let mut text = format!("{} {}", show(head.method), show(head.path));
                if let Some(query) = head.query {
                    text += &format!(" ?{}", show(query));
                }
                text += &format!(" {:?} @{}", head.version, show(head.host));
                for field in &fields {
                    let name = String::from_utf8_lossy(field.name(bytes)).into_owned();
                    if !name.eq_ignore_ascii_case("host") {
                        text += &format!(" {name}={}", String::from_utf8_lossy(field.value(bytes)));
                    }
                }
                if head.framing != Framing::None {
                    text += &format!(" {:?}", head.framing);
                }
                text += if head.keep_alive { " keep" } else { " close" };
                if head.expect_continue {
                    text += " expect";
                }
                text += &format!(" +{}", input.len() - head.used());
                Ok(text)
            }
            Parse::Partial => Err(Parse::Partial),
            Parse::Error(why) => Err(Parse::Error(why)),
        }
    }

    /// No proper beginning of a good head may be complete or refused.
    fn check(input: &str, expected: &str) {
        let input = input.as_bytes();
        assert_eq!(describe(input).as_deref(), Ok(expected), "{:?}", String::from_utf8_lossy(input));
        let used = input.len() - expected.rsplit_once('+').unwrap().1.parse::<usize>().unwrap();
        for end in 0..used {
            assert_eq!(describe(&input[..end]), Err(Parse::Partial), "first {end} of {expected}");
        }
    }

    /// Delivered whole or in pieces, the first thing that is not Partial is the same error.
    fn check_error(input: impl AsRef<[u8]>, expected: Refusal) {
        let input = input.as_ref();
        let expected = Err(Parse::Error(expected));
        assert_eq!(describe(input), expected, "{:?}", String::from_utf8_lossy(input));
        let first =
            (0..=input.len()).map(|end| describe(&input[..end])).find(|seen| *seen != Err(Parse::Partial));
        assert_eq!(first, Some(expected), "byte by byte: {:?}", String::from_utf8_lossy(input));
    }

    #[test]
    fn request_lines() {
        check("GET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET / HTTP/1.1 @a keep +0");
        check("GET / HTTP/1.1\r\nHost: a\r\n\r\nGET", "GET / HTTP/1.1 @a keep +3");
        check("\r\n\r\nGET / HTTP/1.1\r\nhost:a\r\n\r\n", "GET / HTTP/1.1 @a keep +0");
        check("GET / HTTP/1.0\r\n\r\n", "GET / HTTP/1.0 @ close +0");
        check("GET / HTTP/1.7\r\nHost: a\r\n\r\n", "GET / HTTP/1.1 @a keep +0");
        check("GET /a%20b?c=[%&d HTTP/1.1\r\nHost:h\r\n\r\n", "GET /a%20b ?c=[%&d HTTP/1.1 @h keep +0");
        check("GET /? HTTP/1.1\r\nHost: a\r\n\r\n", "GET / ? HTTP/1.1 @a keep +0");
        check("M-SEARCH / HTTP/1.1\r\nHost: a\r\n\r\n", "M-SEARCH / HTTP/1.1 @a keep +0");
        check("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "OPTIONS * HTTP/1.1 @a keep +0");
        check("GET http://b:8/c?d HTTP/1.1\r\nHost: a\r\n\r\n", "GET /c ?d HTTP/1.1 @b:8 keep +0");
        check("GET HTTPS://b HTTP/1.1\r\nHost: a\r\n\r\n", "GET / HTTP/1.1 @b keep +0");
        check("GET http://b?d HTTP/1.1\r\nHost: a\r\n\r\n", "GET / ?d HTTP/1.1 @b keep +0");
    }

    #[test]
    fn refused_request_lines() {
        use Refusal::*;
        let check = |line: &str, expected| check_error(format!("{line}\r\nHost: a\r\n\r\n"), expected);
        check("GET  / HTTP/1.1", RequestLine);
        check("GET /  HTTP/1.1", RequestLine);
        check("GET / HTTP/1.1 ", LineEnd);
        check(" GET / HTTP/1.1", RequestLine);
        check("GET\t/ HTTP/1.1", RequestLine);
        check("GET /", RequestLine);
        check("GET", RequestLine);
        check("G(T / HTTP/1.1", RequestLine);
        check("GET / http/1.1", RequestLine);
        check("GET / HTTP/11", RequestLine);
        check("GET / HTTP/1.10", LineEnd);
        check("GET / HTTP/1,1", RequestLine);
        check("GET / HTTPS/1.1", RequestLine);
        check("GET / HTTP/2.0", Version);
        check("GET / HTTP/0.9", Version);
        check("GET / HTTP/3.7", Version);
        check("GET a HTTP/1.1", Target);
        check("GET * HTTP/1.1", Target);
        check("GET ftp://a/ HTTP/1.1", Target);
        check("GET http:///a HTTP/1.1", HostMalformed);
        check("GET http://:80/ HTTP/1.1", HostMalformed);
        check("GET http://u@b/ HTTP/1.1", HostMalformed);
        check("GET /#a HTTP/1.1", Target);
        check("GET /?a#b HTTP/1.1", Target);
        check("GET /\"a HTTP/1.1", Target);
        check("GET /<a> HTTP/1.1", Target);
        check("GET /\\a HTTP/1.1", Target);
        check("GET /\u{e9} HTTP/1.1", Target);
        check("GET /?\u{e9} HTTP/1.1", Target);
        check("GET /% HTTP/1.1", Escape);
        check("GET /%2x HTTP/1.1", Escape);
        check("GET /%?20 HTTP/1.1", Escape);
        check("CONNECT a:80 HTTP/1.1", MethodUnknown);
        check("CONNECT / HTTP/1.1", MethodUnknown);
        check_error(b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n", RequestLine);
        check_error(b"GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n", RequestLine);
    }

    #[test]
    fn line_ends() {
        use Refusal::*;
        check_error("GET / HTTP/1.1\nHost: a\r\n\r\n", LineEnd);
        check_error("GET / HTTP/1.1\r\nHost: a\n\r\n", LineEnd);
        check_error("GET / HTTP/1.1\r\nHost: a\nb: c\r\n\r\n", LineEnd);
        check_error("GET / HTTP/1.1\r\nHost: a\r\n\n", LineEnd);
        check_error("GET / HTTP/1.1\r\nHost:\n\r\n", LineEnd);
        check_error("GET / HTTP/1.0\n\n", LineEnd);
        check_error("GET / HTTP/1.0\r\n\n", LineEnd);
        check_error("\nGET / HTTP/1.0\r\n\r\n", LineEnd);
        check_error("\r\rGET / HTTP/1.0\r\n\r\n", LineEnd);
        check_error("GET / HTTP/1.1\rHost: a\r\n\r\n", LineEnd);
        check_error("GET / HTTP/1.1\r\nHost: a\rb: c\r\n\r\n", FieldValue);
        check_error("GET / HTTP/1.1\r\nHost: a\r\n\rb: c\r\n\r\n", LineEnd);
    }

    #[test]
    fn empty_lines() {
        const GET: &str = "GET / HTTP/1.0\r\n\r\n";
        check(&("\r\n".repeat(4) + GET), "GET / HTTP/1.0 @ close +0");
        check_error("\r\n".repeat(5) + GET, Refusal::LineEnd);
        check_error("\r\n".repeat(4) + "\r", Refusal::LineEnd);
        check_error("\r\n".repeat(4) + "\n", Refusal::LineEnd);
    }

    #[test]
    fn fields() {
        let check = |lines: &str, expected: &str| {
            check(
                &format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n"),
                &format!("GET / HTTP/1.1 @a {expected} +0"),
            );
        };
        check("B: c\r\n", "B=c keep");
        check("b: \t c d \t\r\n", "b=c d keep");
        check("b:\r\n", "b= keep");
        check("b:  \r\n", "b= keep");
        check("b: \u{e9}\r\n", "b=\u{e9} keep");
        check("Connection: close\r\n", "Connection=close close");
        check("connection: Keep-Alive, CLOSE\r\n", "connection=Keep-Alive, CLOSE close");
        check("Connection: closed\r\n", "Connection=closed keep");
        check("Content-Length: 5\r\n", "Content-Length=5 Length(5) keep");
        check("transfer-encoding: Chunked\r\n", "transfer-encoding=Chunked Chunked keep");
        check("Expect: 100-Continue\r\n", "Expect=100-Continue keep");
        check(
            "Expect: 100-continue\r\ncontent-length: 1\r\n",
            "Expect=100-continue content-length=1 Length(1) keep expect",
        );
    }

    #[test]
    fn old_version() {
        let check = |lines: &str, expected: &str| {
            check(&format!("GET / HTTP/1.0\r\n{lines}\r\n"), &format!("GET / HTTP/1.0 @ {expected} +0"));
        };
        check("Connection: keep-alive\r\n", "Connection=keep-alive keep");
        check(
            "Connection: keep-alive\r\nConnection: close\r\n",
            "Connection=keep-alive Connection=close close",
        );
        check("Expect: magic\r\n", "Expect=magic close");
        check(
            "Expect: 100-continue\r\nContent-Length: 1\r\n",
            "Expect=100-continue Content-Length=1 Length(1) close",
        );
        check_error("GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n", Refusal::HostRepeated);
        check_error("GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", Refusal::CodingInOldVersion);
    }

    #[test]
    fn refused_fields() {
        use Refusal::*;
        let check = |lines: &str, expected| check_error(format!("GET / HTTP/1.1\r\n{lines}\r\n"), expected);
        check("", HostMissing);
        check("b: c\r\n", HostMissing);
        check("Host: a\r\nhost: a\r\n", HostRepeated);
        check("Host: a b\r\n", HostMalformed);
        check("Host: a, b\r\n", HostMalformed);
        check("Host : a\r\n", FieldName);
        check("Host: a\r\n b: c\r\n", FieldName);
        check("Host: a\r\n\tb\r\n", FieldName);
        check(" Host: a\r\n", FieldName);
        check("Host: a\r\nb\r\n", FieldName);
        check("Host: a\r\n: c\r\n", FieldName);
        check("Host: a\r\nb(: c\r\n", FieldName);
        check("Host: a\r\nb\u{e9}: c\r\n", FieldName);
        check("Host: a\r\nb: \u{0}\r\n", FieldValue);
        check("Host: a\r\nb: \u{7f}\r\n", FieldValue);
        check("Host: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n", LengthAndCoding);
        check("Host: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n", LengthRepeated);
        check("Host: a\r\nContent-Length: 5, 5\r\n", LengthMalformed);
        check("Host: a\r\nTransfer-Encoding: gzip\r\n", CodingUnknown);
        check("Host: a\r\nExpect: magic\r\n", Expectation);
        check("Host: a\r\nExpect: 100-continue, magic\r\n", Expectation);
    }

    #[test]
    fn bounds() {
        let line = |len: usize| format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(len - 1));
        assert!(describe(line(64).as_bytes()).is_ok());
        let field = |len: usize, end: &str| {
            format!(
                "GET / HTTP/1.1\r\nHost: a\r\nb: {}{end}\r\nc: d\r\n\r\n",
                "x".repeat(len - 3 - end.len())
            )
        };
        for end in ["", " ", "\t  "] {
            assert!(describe(field(128, end).as_bytes()).is_ok(), "{end:?}");
            check_error(field(129, end), Refusal::LineTooLong);
            assert!(describe(field(128, end).replace("c: d\r\n", "").as_bytes()).is_ok(), "{end:?}");
            check_error(field(129, end).replace("c: d\r\n", ""), Refusal::LineTooLong);
        }
        check_error(line(65), Refusal::TargetTooLong);
        check_error(line(1000), Refusal::TargetTooLong);
        check_error(line(1000).replace("\r\n\r\n", "\n\n"), Refusal::TargetTooLong);
        check_error(line(70).replace("Host", "H st"), Refusal::TargetTooLong);
        check_error(line(70).replace("/x", "/\0"), Refusal::RequestLine);
        check_error(line(70).replace("x HTTP", "\0 HTTP"), Refusal::TargetTooLong);
        let head = |len: usize| {
            let (half, rest) = ((len - 37) / 2, (len - 37) % 2);
            let (one, two) = ("x".repeat(half), "x".repeat(half + rest));
            format!("GET / HTTP/1.1\r\nHost: a\r\nb: {one}\r\nc: {two}\r\n\r\n")
        };
        assert_eq!(head(100).len(), 100);
        assert!(describe(head(256).as_bytes()).is_ok());
        check_error(head(257), Refusal::HeadTooLarge);
        check_error(head(1000), Refusal::HeadTooLarge);
        check_error("x".repeat(1000), Refusal::RequestLine);
        let fields =
            |count: usize| format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "b: c\r\n".repeat(count - 1));
        assert!(describe(fields(4).as_bytes()).is_ok());
        check_error(fields(5), Refusal::TooManyFields);
    }
}
