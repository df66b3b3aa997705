//! Where a request's body ends: the rules of RFC 9112 section 6 as one pure function.
//!
//! Everything that two parties on a path could read differently is refused here, so that no later code has to think about
//! request smuggling. Where the RFC lets a server repair a message (two equal lengths, a length beside chunked), we refuse.
use http::Version;

use super::Refusal;
use super::syntax;

/// How the body of a request is delimited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    /// No body: neither length nor coding was given (RFC 9112 section 6.3, rule 7).
    #[default]
    None,
    /// Exactly so many bytes.
    Length(u64),
    /// The chunked coding.
    Chunked,
}

impl Framing {
    /// Whether content may follow the head.
    #[inline]
    pub(crate) fn has_content(self) -> bool {
        !matches!(self, Framing::None | Framing::Length(0))
    }
}

/// Decides the framing of a request from its `Content-Length` and `Transfer-Encoding` field lines, in order of arrival.
///
/// # Errors
///
/// The rule that was broken. After any of them the connection cannot be used again: nobody knows where the next message starts.
pub fn decide<'a>(
    version: Version,
    mut content_lengths: impl Iterator<Item = &'a [u8]>,
    transfer_encodings: impl Iterator<Item = &'a [u8]>,
) -> Result<Framing, Refusal> {
    let length = match (content_lengths.next(), content_lengths.next()) {
        (None, _) => None,
        (Some(value), None) => Some(parse_length(value)?),
        // RFC 9112 section 6.3, rule 5 would allow equal values to be merged; nobody honest sends them.
        (Some(_), Some(_)) => return Err(Refusal::LengthRepeated),
    };
    let Some(coding) = decide_coding(transfer_encodings) else {
        return Ok(length.map_or(Framing::None, Framing::Length));
    };
    // RFC 9112 section 6.1: a sign of an intermediary that did not understand the coding.
    if version < Version::HTTP_11 {
        return Err(Refusal::CodingInOldVersion);
    }
    // RFC 9112 section 6.1: "ought to be handled as an error".
    if length.is_some() {
        return Err(Refusal::LengthAndCoding);
    }
    coding.map(|()| Framing::Chunked)
}

/// `None` without the field; else whether all its lines together (RFC 9110 section 5.3) are exactly `chunked`.
fn decide_coding<'a>(lines: impl Iterator<Item = &'a [u8]>) -> Option<Result<(), Refusal>> {
    let mut is_chunked = false;
    let mut is_foreign = false;
    for line in lines {
        let mut has_member = false;
        for member in syntax::list_members(line) {
            has_member = true;
            // RFC 9112 section 7.1: chunked only once, and last.
            if is_chunked {
                return Some(Err(Refusal::CodingMalformed));
            }
            if member.eq_ignore_ascii_case(b"chunked") {
                is_chunked = true;
            } else if is_coding(member) {
                is_foreign = true;
            } else {
                return Some(Err(Refusal::CodingMalformed));
            }
        }
        // Beside a line that says chunked, one party reads both, another the last alone, and hears no coding.
        if !has_member {
            return Some(Err(Refusal::CodingMalformed));
        }
    }
    match (is_chunked, is_foreign) {
        (false, false) => None,
        (true, false) => Some(Ok(())),
        // RFC 9112 section 6.3, rule 4.3: without chunked the length cannot be determined, whatever the coding is.
        (_, true) => Some(Err(Refusal::CodingUnknown)),
    }
}

/// A coding name we could have known: a token, perhaps with parameters. Anything else is no coding but an attack:
/// `"chunked"` in quotes, `chunked\x0b`, `xchunked;`.
fn is_coding(member: &[u8]) -> bool {
    let name = syntax::trim(member.split(|&b| b == b';').next().unwrap_or_default());
    !name.is_empty() && syntax::all(name, syntax::TOKEN) && !name.eq_ignore_ascii_case(b"chunked")
}

/// `1*DIGIT`, nothing else: no sign, no list, no space inside (RFC 9110 section 8.6). What 64 bits cannot hold is no length of
/// anything, but an attempt at parsers that count on (the same section warns of them).
fn parse_length(value: &[u8]) -> Result<u64, Refusal> {
    if value.is_empty() {
        return Err(Refusal::LengthMalformed);
    }
    value.iter().try_fold(0u64, |length, &b| match b {
        b'0'..=b'9' => length
            .checked_mul(10)
            .and_then(|length| length.checked_add(u64::from(b - b'0')))
            .ok_or(Refusal::LengthMalformed),
        _ => Err(Refusal::LengthMalformed),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(version: Version, lengths: &[&str], codings: &[&str], expected: Result<Framing, Refusal>) {
        let got = decide(version, lengths.iter().map(|v| v.as_bytes()), codings.iter().map(|v| v.as_bytes()));
        assert_eq!(got, expected, "{version:?} {lengths:?} {codings:?}");
    }

    #[test]
    fn rules_of_rfc_9112_section_6() {
        use Framing::{Chunked, Length};
        use Refusal::*;
        let new = http::Version::HTTP_11;
        let old = http::Version::HTTP_10;
        check(new, &[], &[], Ok(Framing::None));
        check(new, &["0"], &[], Ok(Length(0)));
        check(new, &["5"], &[], Ok(Length(5)));
        check(old, &["5"], &[], Ok(Length(5)));
        check(new, &["0005"], &[], Ok(Length(5)));
        check(new, &["18446744073709551615"], &[], Ok(Length(u64::MAX)));
        check(new, &["18446744073709551616"], &[], Err(LengthMalformed));
        check(new, &[""], &[], Err(LengthMalformed));
        check(new, &["+5"], &[], Err(LengthMalformed));
        check(new, &["-5"], &[], Err(LengthMalformed));
        check(new, &["5, 5"], &[], Err(LengthMalformed));
        check(new, &["5,"], &[], Err(LengthMalformed));
        check(new, &["0x5"], &[], Err(LengthMalformed));
        check(new, &["5 5"], &[], Err(LengthMalformed));
        check(new, &["5\u{a0}"], &[], Err(LengthMalformed));
        check(new, &["5", "5"], &[], Err(LengthRepeated));
        check(new, &["5", "6"], &[], Err(LengthRepeated));
        check(new, &[], &["chunked"], Ok(Chunked));
        check(new, &[], &["Chunked"], Ok(Chunked));
        check(new, &[], &[", chunked,"], Ok(Chunked));
        check(new, &[], &["chunked, chunked"], Err(CodingMalformed));
        check(new, &[], &["chunked", "chunked"], Err(CodingMalformed));
        check(new, &[], &["chunked, gzip"], Err(CodingMalformed));
        check(new, &[], &["chunked", "identity"], Err(CodingMalformed));
        check(new, &[], &["gzip, chunked"], Err(CodingUnknown));
        check(new, &[], &["gzip", "chunked"], Err(CodingUnknown));
        check(new, &[], &["gzip"], Err(CodingUnknown));
        check(new, &[], &["identity"], Err(CodingUnknown));
        check(new, &[], &["xchunked"], Err(CodingUnknown));
        check(new, &[], &["chunked;q=1"], Err(CodingMalformed));
        check(new, &[], &["\"chunked\""], Err(CodingMalformed));
        check(new, &[], &["chunked\u{b}"], Err(CodingMalformed));
        check(new, &[], &["chun ked"], Err(CodingMalformed));
        check(new, &[], &[""], Err(CodingMalformed));
        check(new, &[], &[","], Err(CodingMalformed));
        check(new, &[], &["chunked", ""], Err(CodingMalformed));
        check(new, &[], &["", "chunked"], Err(CodingMalformed));
        check(new, &[], &["chunked", ", "], Err(CodingMalformed));
        check(old, &[], &["chunked"], Err(CodingInOldVersion));
        check(old, &["5"], &["chunked"], Err(CodingInOldVersion));
        check(new, &["5"], &["chunked"], Err(LengthAndCoding));
        check(new, &["5"], &["identity"], Err(LengthAndCoding));
        check(new, &["5"], &[""], Err(LengthAndCoding));
        check(new, &["x"], &["chunked"], Err(LengthMalformed));
    }
}
