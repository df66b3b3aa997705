//! Versions of HTTP that are not ours: a later minor version is read as the highest that we know, the others are refused.
use super::Refusal;
use super::head::Parse;

/// Where the digit of a future minor version stands (RFC 9110 section 2.5: processed as the highest that we know), or why there is
/// none.
pub(super) fn look_at_version(text: &[u8]) -> Parse<usize> {
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
