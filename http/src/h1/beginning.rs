//! What can be told of bytes from a client before they are a head: empty lines, and whether they ask with HEAD.
use super::Refusal;
use super::head::Parse;

/// More empty lines than this before a request are refused. RFC 9112 section 2.2 asks for one to be ignored, which some clients
/// send behind a body.
const EMPTY_LINE_BYTES_MAX: usize = 8;

/// How many bytes of empty lines stand before the request line.
#[cold]
pub(super) fn skip_empty_lines(input: &[u8]) -> Parse<usize> {
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
