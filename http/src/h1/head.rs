//! The request head: request line and header fields, from bytes to facts in one pass over the fields.
//!
//! `plain` finds the lines of the heads that nearly everybody sends, `lines` those of all others, with httparse, at
//! three times the cost; a test holds the two to the same outcome. What the lines say together is judged here: a missing, second
//! or malformed Host, the framing, persistence. Nothing is copied, fields become offsets.
//!
//! The outcome does not depend on how the bytes arrived: whatever is an error in the whole is never complete in a part.
use http::Version;

use super::beginning::skip_empty_lines;
use super::framing::{self, Framing};
use super::lines::{Lines, scan_lines};
use super::plain::KnownHost;
pub use super::span::{Field, Span};
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

#[cfg(test)]
mod tests;
