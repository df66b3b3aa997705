//! The chunked transfer coding, taken apart as it arrives (RFC 9112 section 7.1).
//!
//! Works in any slicing of the input and keeps no bytes but those of trailer fields. Strict where others are not: a line ends in CRLF
//! and nothing else, no white space around the size, extensions as the grammar has them and bounded, trailers bounded. That no
//! white space may stand before a chunk extension either is on purpose: RFC 9112 section 7.1.1 lets recipients bear it for the sake
//! of old senders, but none is known that writes it, and parties that read it differently are how requests are smuggled. Trailer
//! fields that would frame or route a message are refused, so that nobody behind us can take them for header fields.
use std::ops::Range;

use http::{HeaderName, HeaderValue};

use super::outgoing::Trailers;
use super::syntax::{CLASS, TOKEN, VALUE};
use super::{Limits, Refusal};

/// Sixteen hexadecimal digits fill 64 bits; leading zeros count too.
const SIZE_DIGITS_MAX: u8 = 16;

/// Fields that no trailer section may hold (RFC 9110 section 6.5.1).
const FORBIDDEN_TRAILERS: [&[u8]; 3] = [b"content-length", b"transfer-encoding", b"host"];

/// Where the decoder stands.
///
/// ```text
///            ┌────────────────────────────── DataEnd ◀─ DataCr ◀─┐
///            ▼                                                   │
///  ──▶ Size ──▶ (Extension) ──▶ SizeEnd ── size > 0 ──▶ Data ────┘
///                                  │ size = 0
///                                  ▼
///             ┌────────────▶ TrailerStart ── CR ──▶ LastEnd ── LF ──▶ Done
///             │                    │
///          TrailerEnd ◀─ TrailerValue ◀─ TrailerName
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Size { digits: u8 },
    Extension(Extension),
    SizeEnd,
    Data,
    DataCr,
    DataEnd,
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerEnd,
    LastEnd,
    Done,
}

/// Where in a chunk extension it stands: `*( ";" BWS name [ BWS "=" BWS value ] BWS )`, with white space at the end only if another
/// follows (RFC 9112 section 7.1.1). What it says is nothing to us, but who reads it otherwise finds another end of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extension {
    BeforeName,
    Name,
    AfterName,
    BeforeValue,
    Value,
    Quoted,
    QuotedPair,
    QuoteEnd,
    AfterValue,
}

impl Extension {
    /// What comes of another byte; `None` if it may not stand there. The end of the line is not for here.
    fn next(self, b: u8) -> Option<Extension> {
        let class = CLASS[usize::from(b)];
        let (is_token, is_blank) = (class & TOKEN != 0, matches!(b, b' ' | b'\t'));
        Some(match (self, b) {
            (Extension::QuotedPair, _) if class & VALUE != 0 => Extension::Quoted,
            (Extension::QuotedPair, _) => return None,
            (Extension::Quoted, b'"') => Extension::QuoteEnd,
            (Extension::Quoted, b'\\') => Extension::QuotedPair,
            (Extension::Quoted, _) if class & VALUE != 0 => Extension::Quoted,
            (Extension::BeforeName | Extension::Name, _) if is_token => Extension::Name,
            (Extension::BeforeValue | Extension::Value, _) if is_token => Extension::Value,
            (Extension::BeforeValue, b'"') => Extension::Quoted,
            (Extension::Name | Extension::AfterName, b'=') => Extension::BeforeValue,
            (Extension::BeforeName | Extension::BeforeValue, _) if is_blank => self,
            (Extension::Name | Extension::AfterName, _) if is_blank => Extension::AfterName,
            (Extension::Value | Extension::QuoteEnd | Extension::AfterValue, _) if is_blank => {
                Extension::AfterValue
            }
            (
                Extension::Name
                | Extension::AfterName
                | Extension::Value
                | Extension::QuoteEnd
                | Extension::AfterValue,
                b';',
            ) => Extension::BeforeName,
            _ => return None,
        })
    }

    /// Whether the line may end here.
    fn may_end(self) -> bool {
        matches!(self, Extension::Name | Extension::Value | Extension::QuoteEnd)
    }
}

/// The decoder of one body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoder {
    state: State,
    /// Of the chunk at hand: its size while that is read, then what is left of its data. In bytes.
    left: u64,
    /// What chunk extensions may still take, in bytes.
    extension_bytes_left: u32,
    /// What the trailer section may still take, in bytes.
    trailer_bytes_left: u32,
    /// How many lines it may still have.
    trailers_left: usize,
    /// The trailer section, line for line; without memory while there is none.
    trailers: Vec<u8>,
    /// Where in `trailers` the line at hand begins.
    trailer_start: usize,
}

/// What one call to [`Decoder::decode`] came to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Decoded {
    /// How much of the input was taken. The rest is to be given again.
    pub used: usize,
    /// Content found, as a range of the input; empty if there was none.
    pub data: Range<usize>,
    /// Whether the body is over. What follows `used` is the next message.
    pub is_end: bool,
}

impl Decoder {
    /// A decoder at the first byte of a body.
    #[must_use]
    pub fn new(limits: &Limits) -> Decoder {
        Decoder {
            state: State::Size { digits: 0 },
            left: 0,
            extension_bytes_left: limits.chunk_extension_bytes,
            trailer_bytes_left: limits.trailer_bytes,
            trailers_left: limits.headers,
            trailers: Vec::new(),
            trailer_start: 0,
        }
    }

    /// What is still to come of the chunk at hand, in bytes, once its size line is whole.
    #[must_use]
    pub fn chunk_left(&self) -> u64 {
        if self.state == State::Data { self.left } else { 0 }
    }

    /// Bytes of the trailer section that are kept in memory.
    #[must_use]
    pub fn kept(&self) -> usize {
        self.trailers.len()
    }

    /// The trailer fields, once the body is over; none before that.
    #[must_use]
    pub fn trailers(&self) -> Trailers {
        if self.state != State::Done {
            return Trailers::new();
        }
        let lines = self.trailers.split(|b| *b == b'\n').map(<[u8]>::trim_ascii_end);
        let fields = lines.filter_map(|line| {
            let (name, value) = line.split_at(line.iter().position(|b| *b == b':')?);
            // What was let pass is a token and a value.
            let name = HeaderName::from_bytes(name).ok()?;
            Some((name, HeaderValue::from_bytes(value[1..].trim_ascii()).ok()?))
        });
        fields.collect()
    }

    /// Takes input up to the end of the first piece of content, or all of it.
    ///
    /// # Errors
    ///
    /// The rule that was broken; the connection cannot be used again.
    pub fn decode(&mut self, input: &[u8]) -> Result<Decoded, Refusal> {
        let mut used = 0;
        while let Some(&b) = input.get(used) {
            match self.state {
                State::Done => break,
                State::Data => {
                    let here = (input.len() - used).min(usize::try_from(self.left).unwrap_or(usize::MAX));
                    self.left -= here as u64;
                    if self.left == 0 {
                        self.state = State::DataCr;
                    }
                    return Ok(Decoded { used: used + here, data: used..used + here, is_end: false });
                }
                _ => self.handle_byte(b)?,
            }
            used += 1;
        }
        Ok(Decoded { used, data: used..used, is_end: self.state == State::Done })
    }

    fn handle_byte(&mut self, b: u8) -> Result<(), Refusal> {
        self.state = match (self.state, b) {
            (State::Size { digits }, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                self.handle_digit(digits, b)?
            }
            (State::Size { digits: 1.. }, b';') => State::Extension(Extension::BeforeName),
            (State::Size { digits: 1.. }, b'\r') => State::SizeEnd,
            (State::Size { .. }, _) => return Err(Refusal::ChunkSize),

            (State::Extension(at), b'\r') if at.may_end() => State::SizeEnd,
            (State::Extension(at), _) => {
                let left = self.extension_bytes_left.checked_sub(1).ok_or(Refusal::ChunkExtension)?;
                self.extension_bytes_left = left;
                State::Extension(at.next(b).ok_or(Refusal::ChunkExtension)?)
            }

            (State::SizeEnd, b'\n') if self.left == 0 => State::TrailerStart,
            (State::SizeEnd, b'\n') => State::Data,
            (State::DataCr, b'\r') => State::DataEnd,
            (State::DataEnd, b'\n') => State::Size { digits: 0 },
            (State::SizeEnd, _) => return Err(Refusal::ChunkSize),
            (State::DataCr | State::DataEnd, _) => return Err(Refusal::ChunkEnd),

            (State::TrailerStart, b'\r') => State::LastEnd,
            (State::LastEnd, b'\n') => State::Done,
            _ => self.handle_trailer_byte(b)?,
        };
        Ok(())
    }

    fn handle_digit(&mut self, digits: u8, b: u8) -> Result<State, Refusal> {
        if digits == SIZE_DIGITS_MAX {
            return Err(Refusal::ChunkSize);
        }
        if digits == 0 {
            self.left = 0;
        }
        let digit = match b {
            b'0'..=b'9' => b - b'0',
            _ => (b | 0x20) - b'a' + 10,
        };
        self.left = self.left << 4 | u64::from(digit);
        Ok(State::Size { digits: digits + 1 })
    }

    /// `field-name ":" OWS field-value OWS CRLF`, nothing folded.
    fn handle_trailer_byte(&mut self, b: u8) -> Result<State, Refusal> {
        self.trailer_bytes_left = self.trailer_bytes_left.checked_sub(1).ok_or(Refusal::TrailerTooLarge)?;
        let class = CLASS[usize::from(b)];
        if self.state == State::TrailerStart {
            self.trailer_start = self.trailers.len();
            self.trailers_left = self.trailers_left.checked_sub(1).ok_or(Refusal::TrailerTooLarge)?;
        }
        self.trailers.push(b);
        match (self.state, b) {
            (State::TrailerStart | State::TrailerName, _) if class & TOKEN != 0 => Ok(State::TrailerName),
            (State::TrailerName, b':') => {
                let name = &self.trailers[self.trailer_start..self.trailers.len() - 1];
                if FORBIDDEN_TRAILERS.iter().any(|forbidden| name.eq_ignore_ascii_case(forbidden)) {
                    Err(Refusal::Trailer)
                } else {
                    Ok(State::TrailerValue)
                }
            }
            (State::TrailerValue, b'\r') => Ok(State::TrailerEnd),
            (State::TrailerValue, _) if class & VALUE != 0 => Ok(State::TrailerValue),
            (State::TrailerEnd, b'\n') => Ok(State::TrailerStart),
            _ => Err(Refusal::Trailer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Content, and what was left over.
    type Outcome = Result<(String, String), Refusal>;

    /// Feeds the input in pieces of `step` bytes.
    fn run(input: &[u8], step: usize) -> Outcome {
        let limits = Limits { chunk_extension_bytes: 8, trailer_bytes: 16, ..Limits::default() };
        let mut decoder = Decoder::new(&limits);
        let mut content = Vec::new();
        let mut at = 0;
        let mut end = step.min(input.len());
        loop {
            let decoded = decoder.decode(&input[at..end])?;
            content.extend_from_slice(&input[at..end][decoded.data]);
            at += decoded.used;
            if decoded.is_end {
                let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
                return Ok((text(&content), text(&input[at..])));
            }
            if at == end {
                if end == input.len() {
                    return Err(Refusal::BodyCut);
                }
                end = (end + step).min(input.len());
            }
        }
    }

    /// The outcome must not depend on the slicing.
    fn check(input: &str, expected: Result<(&str, &str), Refusal>) {
        let expected: Outcome = expected.map(|(content, rest)| (content.into(), rest.into()));
        for step in 1..=input.len().max(1) {
            assert_eq!(run(input.as_bytes(), step), expected, "{input:?} in steps of {step}");
        }
    }

    #[test]
    fn trailers() {
        let check = |section: &str, expected: &[(&str, &str)]| {
            let input = format!("1\r\nx\r\n0\r\n{section}\r\nGET /");
            for step in 1..=input.len() {
                let mut decoder = Decoder::new(&Limits::default());
                let mut rest = input.as_bytes();
                loop {
                    assert_eq!(decoder.trailers(), [], "before the end");
                    let decoded = decoder.decode(&rest[..rest.len().min(step)]).unwrap();
                    rest = &rest[decoded.used..];
                    if decoded.is_end {
                        break;
                    }
                }
                let found = decoder.trailers();
                let found: Vec<_> =
                    found.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
                assert_eq!((&*found, rest), (expected, &b"GET /"[..]), "{section:?} in steps of {step}");
            }
        };
        check("", &[]);
        check("X-Sum: 1\r\n", &[("x-sum", "1")]);
        check("a:\r\nb: \t c : d\t \r\na:2\r\n", &[("a", ""), ("b", "c : d"), ("a", "2")]);
    }

    #[test]
    fn so_many_lines_of_trailers() {
        let check = |section: &str, expected: Result<usize, Refusal>| {
            let mut decoder = Decoder::new(&Limits { headers: 2, ..Limits::default() });
            let decoded = decoder.decode(format!("0\r\n{section}\r\n").as_bytes());
            assert_eq!(decoded.map(|_| decoder.trailers().len()), expected, "{section:?}");
        };
        check("a:\r\nb:\r\n", Ok(2));
        check("a:\r\nb:\r\nc:\r\n", Err(Refusal::TrailerTooLarge));
    }

    #[test]
    fn bodies() {
        check("0\r\n\r\n", Ok(("", "")));
        check("5\r\nhello\r\n0\r\n\r\n", Ok(("hello", "")));
        check("5\r\nhello\r\n6\r\n world\r\n000\r\n\r\nGET /", Ok(("hello world", "GET /")));
        check("a\r\n0123456789\r\n0\r\n\r\n", Ok(("0123456789", "")));
        check("B\r\n0123456789\n\r\n0\r\n\r\n", Ok(("0123456789\n", "")));
        check("1;a=\"b\"\r\nx\r\n0;c\r\n\r\n", Ok(("x", "")));
        for extension in [
            "a",
            "a=b",
            "a;b",
            " a",
            "\ta ;b",
            "a = b",
            "a=b;c",
            "a=\"\"",
            "a=\"\\\"\"",
            "a=\";\"",
            "a=\"b\";c",
        ] {
            check(&format!("0;{extension}\r\n\r\n"), Ok(("", "")));
        }
        check("0\r\nx: y\r\n\r\nrest", Ok(("", "rest")));
        check("0\r\nx:\r\n\r\n", Ok(("", "")));
        check("0\r\nhos: t\r\nhosts:\r\n\r\n", Ok(("", "")));
    }

    #[test]
    fn refused_bodies() {
        use Refusal::*;
        check("\r\n", Err(ChunkSize));
        check("x\r\n", Err(ChunkSize));
        check("-1\r\n", Err(ChunkSize));
        check("0x1\r\n", Err(ChunkSize));
        check(" 1\r\n", Err(ChunkSize));
        check("1 \r\n", Err(ChunkSize));
        check("1\nx\r\n", Err(ChunkSize));
        check("1\rx", Err(ChunkSize));
        check(";a\r\n", Err(ChunkSize));
        check("00000000000000001\r\n", Err(ChunkSize));
        check("1;a\nx\r\n0\r\n\r\n", Err(ChunkExtension));
        for extension in [
            "", " ", ";", "a;", "a ", "a=", "a= ", "=b", "a=b ", "a b", "a=b c", "a[", "a=b[", "a=\"b",
            "a=\"\\", "a=\"\"b",
        ] {
            check(&format!("0;{extension}\r\n\r\n"), Err(ChunkExtension));
        }
        check("1;a\u{1}\r\n", Err(ChunkExtension));
        check("1;0123456789\r\n", Err(ChunkExtension));
        check("1;01234\r\nx\r\n1;01234\r\n", Err(ChunkExtension));
        check("1\r\nxy\r\n", Err(ChunkEnd));
        check("1\r\nx\n", Err(ChunkEnd));
        check("1\r\nx\ry", Err(ChunkEnd));
        check("0\r\n\n", Err(Trailer));
        check("0\r\n x: y\r\n", Err(Trailer));
        check("0\r\nx : y\r\n", Err(Trailer));
        check("0\r\nx\r\n", Err(Trailer));
        check("0\r\nx: y\n\r\n", Err(Trailer));
        check("0\r\nx: y\r\n z\r\n", Err(Trailer));
        check("0\r\n:\r\n", Err(Trailer));
        check("0\r\nx: 0123456789abcdef\r\n\r\n", Err(TrailerTooLarge));
        check("5\r\nhel", Err(BodyCut));
        check("0\r\n", Err(BodyCut));
        check("0\r\n\r", Err(BodyCut));
        check("0\r\n\rx", Err(Trailer));
        check("0\r\nHost: y\r\n\r\n", Err(Trailer));
        check("0\r\nx: y\r\nHost: y\r\n\r\n", Err(Trailer));
    }
}
