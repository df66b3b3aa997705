//! The content of an answer that leaves piece by piece: chunked, counted, or up to the end of the stream.
//!
//! Whatever the pieces come to, what leaves is a message that was announced, or the beginning of one: then the connection has to end.
use http::{HeaderName, HeaderValue, header};

use super::encode::{Length, is_ours, push_field};

/// Fields of a handler's trailer section: names and values.
pub type Trailers = Vec<(HeaderName, HeaderValue)>;

/// What is left to write of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    length: Length,
    /// More content came than was announced.
    is_broken: bool,
}

impl Outgoing {
    /// Content that is delimited so.
    #[must_use]
    pub fn new(length: Length) -> Outgoing {
        Outgoing { length, is_broken: false }
    }

    /// Appends a piece; what goes beyond the announced length is left out.
    pub fn push(&mut self, out: &mut Vec<u8>, piece: &[u8]) {
        match &mut self.length {
            // An empty chunk would be the last (RFC 9112 section 7.1).
            _ if piece.is_empty() => {}
            Length::Chunked => {
                push_hex(out, piece.len());
                out.extend_from_slice(b"\r\n");
                out.extend_from_slice(piece);
                out.extend_from_slice(b"\r\n");
            }
            Length::Known(left) => {
                let here = piece.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= here as u64;
                self.is_broken |= here < piece.len();
                out.extend_from_slice(&piece[..here]);
            }
            Length::UntilClose => out.extend_from_slice(piece),
        }
    }

    /// As [`push`](Outgoing::push) for a piece that leaves by itself: appends what stands before it, and says how much of it is to leave.
    pub fn begin_piece(&mut self, out: &mut Vec<u8>, len: usize) -> usize {
        match &mut self.length {
            Length::Chunked => {
                push_hex(out, len);
                out.extend_from_slice(b"\r\n");
                len
            }
            Length::Known(left) => {
                let here = len.min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= here as u64;
                self.is_broken |= here < len;
                here
            }
            Length::UntilClose => len,
        }
    }

    /// Appends what stands behind such a piece.
    pub fn end_piece(&mut self, out: &mut Vec<u8>) {
        if self.length == Length::Chunked {
            out.extend_from_slice(b"\r\n");
        }
    }

    /// So much of content of a known length has left otherwise.
    pub fn count(&mut self, bytes: u64) {
        match &mut self.length {
            Length::Known(left) if bytes <= *left => *left -= bytes,
            // Nobody could tell where the next answer begins.
            _ => self.is_broken = true,
        }
    }

    /// Whether what was pushed is too much already, so that nothing more is of use.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.is_broken
    }

    /// Ends the content; says whether another message may follow. Trailers are sent with the chunked coding only.
    #[must_use]
    pub fn finish(self, out: &mut Vec<u8>, trailers: &[(HeaderName, HeaderValue)]) -> bool {
        match self.length {
            Length::Chunked => {
                out.extend_from_slice(b"0\r\n");
                for (name, value) in trailers.iter().filter(|(name, _)| !is_forbidden(name)) {
                    push_field(out, name, value);
                }
                out.extend_from_slice(b"\r\n");
                true
            }
            Length::Known(left) => left == 0 && !self.is_broken,
            Length::UntilClose => false,
        }
    }
}

/// RFC 9110 section 6.5.1: fields about framing, routing and the content's form.
pub(crate) fn is_forbidden(name: &HeaderName) -> bool {
    is_ours(name)
        || [
            header::HOST,
            header::TRAILER,
            header::CONTENT_ENCODING,
            header::CONTENT_TYPE,
            header::CONTENT_RANGE,
        ]
        .contains(name)
}

fn push_hex(out: &mut Vec<u8>, number: usize) {
    let digits = (usize::BITS - number.leading_zeros()).div_ceil(4).max(1);
    for digit in (0..digits).rev() {
        out.push(b"0123456789abcdef"[number >> (4 * digit) & 15]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(length: Length, pieces: &[&str], expected: &str, expected_whole: bool) {
        let mut outgoing = Outgoing::new(length);
        let mut out = Vec::new();
        for piece in pieces {
            outgoing.push(&mut out, piece.as_bytes());
        }
        let trailers = [
            (header::ETAG, HeaderValue::from_static("\"a\"")),
            (header::CONTENT_LENGTH, HeaderValue::from_static("9")),
        ];
        let is_whole = outgoing.finish(&mut out, &trailers);
        assert_eq!(
            (String::from_utf8(out).unwrap().replace("\r\n", "|").as_str(), is_whole),
            (expected, expected_whole)
        );
    }

    #[test]
    fn what_leaves() {
        check(Length::Chunked, &[], "0|etag: \"a\"||", true);
        check(
            Length::Chunked,
            &["ab", "", "0123456789abcdef"],
            "2|ab|10|0123456789abcdef|0|etag: \"a\"||",
            true,
        );
        check(Length::Known(3), &["ab", "c"], "abc", true);
        check(Length::Known(0), &[], "", true);
        check(Length::Known(3), &["ab"], "ab", false);
        check(Length::Known(3), &["ab", "cd", "e"], "abc", false);
        check(Length::UntilClose, &["ab", "c"], "abc", false);
    }

    #[test]
    fn what_has_left_otherwise() {
        let check = |length, count, expected_broken, expected_whole| {
            let mut outgoing = Outgoing::new(length);
            outgoing.count(count);
            let broken = outgoing.is_broken();
            assert_eq!((broken, outgoing.finish(&mut Vec::new(), &[])), (expected_broken, expected_whole));
        };
        check(Length::Known(3), 3, false, true);
        check(Length::Known(3), 2, false, false);
        check(Length::Known(3), 4, true, false);
    }

    #[test]
    fn hexadecimal() {
        for number in [0, 1, 9, 10, 15, 16, 255, 256, 4095, 65536, 0x1234_5678] {
            let mut out = Vec::new();
            push_hex(&mut out, number);
            assert_eq!(String::from_utf8(out).unwrap(), format!("{number:x}"));
        }
    }
}
