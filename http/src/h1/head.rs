//! The request head: request line and header fields, from bytes to facts in one pass over the fields.
//!
//! httparse finds the lines. What it lets through is refused here: a bare LF as line end, characters that no target may hold,
//! a missing, second or malformed Host. The fields that decide about framing and persistence are gathered on the way; nothing is
//! copied, fields become offsets. Before httparse, [`plain`] takes the heads that nearly everybody sends, at a third of the cost;
//! a test holds the two to the same outcome.
//!
//! The outcome does not depend on how the bytes arrived: whatever is an error in the whole is never complete in a part.
use std::mem::MaybeUninit;
use std::ops::Range;

use http::Version;

use super::framing::{self, Framing};
use super::syntax::{self, PATH, QUERY};
use super::{Limits, Refusal, plain};

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
    fn value_span(self) -> Span {
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
pub struct Head {
    /// Where the head stands in the input: after the empty lines before it. In bytes.
    pub start: usize,
    /// From the method to the empty line, in bytes.
    pub len: usize,
    /// The method, a token.
    pub method: Span,
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
    /// The last Host that passed its check: the next one is nearly always the same.
    host_known: Vec<u8>,
}

impl Parser {
    /// A parser for these limits, which are [`clamped`](Limits::clamped).
    #[must_use]
    pub fn new(limits: Limits) -> Parser {
        Parser { limits: limits.clamped(), host_known: Vec::new() }
    }

    /// The limits.
    #[inline]
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Looks for a whole request head at the beginning of `input` and puts its fields into `fields`.
    #[inline]
    pub fn parse(&mut self, input: &[u8], fields: &mut Vec<Field>) -> Parse<Head> {
        match plain::scan(input, &self.limits, fields) {
            Some(lines) => self.judge(&input[..lines.len], &lines, fields),
            None => self.parse_any(input, fields),
        }
    }

    /// Everything that is not plain: other forms, parts of heads, and whatever has to be refused.
    #[inline(never)]
    fn parse_any(&mut self, input: &[u8], fields: &mut Vec<Field>) -> Parse<Head> {
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
            Parse::Complete(lines) => self.judge(&window[..lines.len], &lines, fields),
            Parse::Partial => Parse::Partial,
            Parse::Error(why) => Parse::Error(why),
        };
        match judged {
            Parse::Complete(head) => Parse::Complete(Head { start: skipped, ..head }),
            Parse::Partial if target_is_too_long(window, &self.limits) => {
                Parse::Error(Refusal::TargetTooLong)
            }
            Parse::Partial if window.len() == self.limits.head_bytes => Parse::Error(Refusal::HeadTooLarge),
            Parse::Partial => Parse::Partial,
            Parse::Error(why) if target_is_too_long(window, &self.limits) => {
                Parse::Error(first_error(window, why, &self.limits, fields))
            }
            Parse::Error(why) => Parse::Error(why),
        }
    }

    /// The rules about what the lines say.
    #[inline(always)]
    fn judge(&mut self, bytes: &[u8], lines: &Lines, fields: &[Field]) -> Parse<Head> {
        let gathered = &lines.gathered;
        let version = lines.version;
        let host = match gathered.hosts {
            1 if self.is_host(gathered.host.value(bytes)) => gathered.host.value_span(),
            1 => return Parse::Error(Refusal::HostMalformed),
            0 if version == Version::HTTP_10 => Span::default(),
            0 => return Parse::Error(Refusal::HostMissing),
            _ => return Parse::Error(Refusal::HostRepeated),
        };
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
        Parse::Complete(Head {
            start: 0,
            len: lines.len,
            method: lines.method,
            path: lines.target.path,
            query: lines.target.query,
            // RFC 9112 section 3.2.2: an absolute target overrides Host.
            host: lines.target.authority.unwrap_or(host),
            version,
            framing,
            keep_alive: !gathered.says_close && (version == Version::HTTP_11 || gathered.says_keep_alive),
            expect_continue,
            path_is_escaped: lines.target.path_is_escaped,
        })
    }

    #[inline]
    fn is_host(&mut self, value: &[u8]) -> bool {
        value == self.host_known || self.is_new_host(value)
    }

    fn is_new_host(&mut self, value: &[u8]) -> bool {
        let is_host = syntax::is_host(value);
        if is_host && value.len() <= HOST_KNOWN_BYTES_MAX {
            self.host_known.clear();
            self.host_known.extend_from_slice(value);
        }
        is_host
    }
}

/// A DNS name has 253 bytes at most; a port follows.
const HOST_KNOWN_BYTES_MAX: usize = 260;

fn decide_framing(version: Version, bytes: &[u8], fields: &[Field]) -> Result<Framing, Refusal> {
    let named = |name: &'static [u8]| {
        fields.iter().filter(|f| f.name(bytes).eq_ignore_ascii_case(name)).map(|f| f.value(bytes))
    };
    framing::decide(version, named(b"content-length"), named(b"transfer-encoding"))
}

/// The lines of a head: well-formed each for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lines {
    pub(super) len: usize,
    pub(super) method: Span,
    pub(super) target: Target,
    pub(super) version: Version,
    pub(super) gathered: Gathered,
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

/// Finds the lines with httparse. `text` is what it reads, `window` what is kept. They are the same, except for the digit of a
/// future minor version.
fn scan_lines(text: &[u8], window: &[u8], limits: &Limits, fields: &mut Vec<Field>) -> Parse<Lines> {
    let mut table = [const { MaybeUninit::uninit() }; Limits::HEADERS_MAX];
    let mut request = httparse::Request::new(&mut []);
    let len = match request.parse_with_uninit_headers(text, &mut table[..limits.headers]) {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) => return Parse::Partial,
        Err(error) => return handle_parse_error(error, text, window, limits, fields),
    };
    // All three are set by a complete parse.
    let (Some(method), Some(target), Some(minor)) = (request.method, request.path, request.version) else {
        return Parse::Error(Refusal::RequestLine);
    };
    // Every line end but the last two stands right before a field name, the last two at the end.
    if !text[..len].ends_with(b"\r\n\r\n") {
        return Parse::Error(Refusal::LineEnd);
    }
    fields.clear();
    let mut gathered = Gathered::default();
    for header in request.headers.iter() {
        let name = Span::of(header.name.as_bytes(), text);
        if text[usize::from(name.start) - 2] != b'\r' {
            return Parse::Error(Refusal::LineEnd);
        }
        // An empty value is a slice of anywhere, so its place has to be brought into the head.
        let value = if header.value.is_empty() { Span::default() } else { Span::of(header.value, text) };
        let field = Field::new(name, value);
        fields.push(field);
        gathered.take(header.name.as_bytes(), header.value, field);
    }
    let method = Span::of(method.as_bytes(), text);
    if target.len() > limits.target_bytes {
        return Parse::Error(Refusal::TargetTooLong);
    }
    let target_span = Span::of(target.as_bytes(), text);
    match split_target(&window[method.range()], &window[target_span.range()], target_span.start) {
        Ok(target) => {
            let version = if minor == 0 { Version::HTTP_10 } else { Version::HTTP_11 };
            Parse::Complete(Lines { len, method, target, version, gathered })
        }
        Err(why) => Parse::Error(why),
    }
}

/// What the fields said, gathered while they pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Gathered {
    host: Field,
    hosts: u8,
    /// A Content-Length or a Transfer-Encoding was seen.
    is_framed: bool,
    says_close: bool,
    says_keep_alive: bool,
    expects_continue: bool,
    expects_unknown: bool,
}

impl Gathered {
    /// The length alone rules out most names before a byte is compared.
    #[inline(always)]
    pub(super) fn take(&mut self, name: &[u8], value: &[u8], field: Field) {
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => {
                self.host = field;
                self.hosts = self.hosts.saturating_add(1);
            }
            6 if name.eq_ignore_ascii_case(b"expect") => self.take_expect(value),
            10 if name.eq_ignore_ascii_case(b"connection") => self.take_connection(value),
            14 if name.eq_ignore_ascii_case(b"content-length") => self.is_framed = true,
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => self.is_framed = true,
            _ => {}
        }
    }

    /// RFC 9112 section 9.3. Options other than these two are for proxies.
    fn take_connection(&mut self, value: &[u8]) {
        for option in syntax::list_members(value) {
            self.says_close |= option.eq_ignore_ascii_case(b"close");
            self.says_keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
        }
    }

    #[cold]
    fn take_expect(&mut self, value: &[u8]) {
        for expectation in syntax::list_members(value) {
            if expectation.eq_ignore_ascii_case(b"100-continue") {
                self.expects_continue = true;
            } else {
                self.expects_unknown = true;
            }
        }
    }
}

/// The parts of a request target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) path: Span,
    pub(super) query: Option<Span>,
    /// Only of the absolute form.
    pub(super) authority: Option<Span>,
    pub(super) path_is_escaped: bool,
}

/// The four forms of RFC 9112 section 3.2. `start` is where the target stands in the head.
fn split_target(method: &[u8], target: &[u8], start: u16) -> Result<Target, Refusal> {
    if method == b"CONNECT" {
        return Err(Refusal::MethodUnknown);
    }
    if target.first() == Some(&b'/') {
        return split_path(target, start);
    }
    if target == b"*" && method == b"OPTIONS" {
        let path = Span { start, len: 1 };
        return Ok(Target { path, query: None, authority: None, path_is_escaped: false });
    }
    split_absolute(target, start)
}

/// Path and query, each character checked.
fn split_path(target: &[u8], start: u16) -> Result<Target, Refusal> {
    let path_len = memchr::memchr(b'?', target).unwrap_or(target.len());
    let (path, query) = target.split_at(path_len);
    let query = query.get(1..);
    if !syntax::all(path, PATH) || !syntax::all(query.unwrap_or_default(), QUERY) {
        return Err(Refusal::Target);
    }
    // Not in the query: the URL standard lets browsers send "100%" there as it was typed.
    let path_is_escaped = memchr::memchr(b'%', path).is_some();
    if path_is_escaped && !syntax::escapes_are_whole(path) {
        return Err(Refusal::Escape);
    }
    Ok(Target {
        path: Span { start, len: path_len as u16 },
        query: query.map(|query| Span { start: start + path_len as u16 + 1, len: query.len() as u16 }),
        authority: None,
        path_is_escaped,
    })
}

/// RFC 9112 section 3.2.2.
#[cold]
fn split_absolute(target: &[u8], start: u16) -> Result<Target, Refusal> {
    let scheme_len = [&b"http://"[..], b"https://"]
        .into_iter()
        .find(|scheme| target.get(..scheme.len()).is_some_and(|head| head.eq_ignore_ascii_case(scheme)))
        .map(<[u8]>::len)
        .ok_or(Refusal::Target)?;
    let rest = &target[scheme_len..];
    let (authority, rest) = rest.split_at(rest.iter().position(|b| b"/?".contains(b)).unwrap_or(rest.len()));
    // RFC 9110 section 4.2.1: an http URI without a host is invalid. User information is no host either.
    if authority.is_empty() || authority[0] == b':' || !syntax::is_host(authority) {
        return Err(Refusal::HostMalformed);
    }
    let authority = Span { start: start + scheme_len as u16, len: authority.len() as u16 };
    let mut split = split_path(rest, authority.start + authority.len)?;
    if split.path.len == 0 {
        // An empty path means "/", and there is one right before the authority.
        split.path = Span { start: authority.start - 1, len: 1 };
    }
    Ok(Target { authority: Some(authority), ..split })
}

#[cold]
fn skip_empty_lines(input: &[u8]) -> Parse<usize> {
    let mut skipped = 0;
    loop {
        match &input[skipped..] {
            [b'\r', b'\n', ..] => skipped += 2,
            [] | [b'\r'] => return Parse::Partial,
            [b'\r' | b'\n', ..] => return Parse::Error(Refusal::LineEnd),
            _ => return Parse::Complete(skipped),
        }
    }
}

#[cold]
fn target_is_too_long(window: &[u8], limits: &Limits) -> bool {
    let line = &window[..memchr::memchr(b'\n', window).unwrap_or(window.len())];
    line.splitn(3, |&b| b == b' ').nth(1).is_some_and(|target| target.len() > limits.target_bytes)
}

#[cold]
fn handle_parse_error(
    error: httparse::Error,
    text: &[u8],
    window: &[u8],
    limits: &Limits,
    fields: &mut Vec<Field>,
) -> Parse<Lines> {
    use httparse::Error;
    match error {
        // httparse knows 1.0 and 1.1 only. The patched text has a version that it knows, so this ends after one more turn.
        Error::Version => match look_at_version(text) {
            Parse::Complete(minor_at) => {
                let mut patched = text.to_vec();
                patched[minor_at] = b'1';
                scan_lines(&patched, window, limits, fields)
            }
            Parse::Partial => Parse::Partial,
            Parse::Error(why) => Parse::Error(why),
        },
        Error::TooManyHeaders => Parse::Error(Refusal::TooManyFields),
        Error::HeaderName => Parse::Error(Refusal::FieldName),
        Error::HeaderValue => Parse::Error(Refusal::FieldValue),
        Error::NewLine => Parse::Error(Refusal::LineEnd),
        Error::Token | Error::Status => Parse::Error(Refusal::RequestLine),
    }
}

/// Where the digit of a future minor version stands (RFC 9110 section 2.5: processed as the highest that we know), or why there is
/// none.
fn look_at_version(text: &[u8]) -> Parse<usize> {
    let mut spaces = memchr::memchr_iter(b' ', text);
    let Some(at) = spaces.nth(1).map(|space| space + 1) else {
        return Parse::Error(Refusal::RequestLine);
    };
    let version = &text[at..text.len().min(at + b"HTTP/1.1".len())];
    let is_good = version.iter().zip(b"HTTP/0.0").all(|(&b, &pattern)| match pattern {
        b'0' => b.is_ascii_digit(),
        _ => b == pattern,
    });
    match (is_good, version) {
        (true, [_, _, _, _, _, b'1', _, _]) => Parse::Complete(at + 7),
        (true, [_, _, _, _, _, _, _, _]) => Parse::Error(Refusal::Version),
        (true, _) => Parse::Partial,
        (false, _) => Parse::Error(Refusal::RequestLine),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits { head_bytes: 256, target_bytes: 64, headers: 4, ..Limits::default() }
    }

    /// Everything that matters about a head, as one line.
    fn describe(input: &[u8]) -> Result<String, Parse<()>> {
        let mut fields = Vec::new();
        match Parser::new(limits()).parse(input, &mut fields) {
            Parse::Complete(head) => {
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
        check("GET /a%20b?c=[%&d HTTP/1.1\r\nHost:\r\n\r\n", "GET /a%20b ?c=[%&d HTTP/1.1 @ keep +0");
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
        check_error(line(65), Refusal::TargetTooLong);
        check_error(line(1000), Refusal::TargetTooLong);
        check_error(line(1000).replace("\r\n\r\n", "\n\n"), Refusal::TargetTooLong);
        check_error(line(70).replace("Host", "H st"), Refusal::TargetTooLong);
        check_error(line(70).replace("/x", "/\0"), Refusal::RequestLine);
        check_error(line(70).replace("x HTTP", "\0 HTTP"), Refusal::TargetTooLong);
        let head = |len: usize| format!("GET / HTTP/1.1\r\nHost: a\r\nb: {}\r\n\r\n", "x".repeat(len - 32));
        assert_eq!(head(100).len(), 100);
        assert!(describe(head(256).as_bytes()).is_ok());
        check_error(head(257), Refusal::HeadTooLarge);
        check_error(head(1000), Refusal::HeadTooLarge);
        check_error("x".repeat(1000), Refusal::HeadTooLarge);
        let fields =
            |count: usize| format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "b: c\r\n".repeat(count - 1));
        assert!(describe(fields(4).as_bytes()).is_ok());
        check_error(fields(5), Refusal::TooManyFields);
    }
}
