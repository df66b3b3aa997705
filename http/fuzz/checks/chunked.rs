//! The chunked coding: any slicing comes to the same, and to what a reader of the grammar without any cleverness says.
use annulet_http::h1::chunked::Decoder;
use annulet_http::{Limits, Refusal};

use crate::mutate::{Random, cut};

/// Content and how many bytes it took; `None` where more is needed.
type Outcome = Result<Option<(Vec<u8>, usize)>, Refusal>;

pub(super) fn check_input(input: &[u8]) {
    let limits = Limits { chunk_extension_bytes: 16, trailer_bytes: 32, ..Limits::default() };
    let whole = decode(&limits, &[input]);
    let mut random = Random::of(input);
    assert_eq!(decode(&limits, &cut(input, &mut random)), whole);
    assert_eq!(decode(&limits, &input.chunks(1).collect::<Vec<_>>()), whole);
    match (whole, reference(input, &limits)) {
        (Ok(Some(ours)), Some(Some(theirs))) => assert_eq!(ours, theirs),
        (Ok(None), Some(None)) | (Err(_), None) => {}
        // Not whole, and the reference looks at whole lines only.
        (Err(_), Some(None)) => {}
        (ours, theirs) => panic!("{ours:?}, reference: {theirs:?}"),
    }
}

fn decode(limits: &Limits, pieces: &[&[u8]]) -> Outcome {
    let mut decoder = Decoder::new(limits);
    let (mut content, mut taken) = (Vec::new(), 0);
    for piece in pieces {
        let mut rest = *piece;
        while !rest.is_empty() {
            let decoded = decoder.decode(rest)?;
            assert!(decoded.used > 0, "no progress");
            content.extend_from_slice(&rest[decoded.data]);
            rest = &rest[decoded.used..];
            taken += decoded.used;
            if decoded.is_end {
                return Ok(Some((content, taken)));
            }
        }
    }
    Ok(None)
}

/// As RFC 9112 section 7.1 has it, line by line. `None` for what is refused, `Some(None)` for what is not whole.
fn reference(input: &[u8], limits: &Limits) -> Option<Option<(Vec<u8>, usize)>> {
    let mut rest = input;
    let mut content = Vec::new();
    let mut extension_bytes = 0;
    loop {
        let Some(line) = take_line(&mut rest)? else { return Some(None) };
        let (size, extension) = match line.iter().position(|&b| b == b';') {
            Some(at) => (&line[..at], &line[at..]),
            None => (line, &[][..]),
        };
        // But for the first semicolon.
        extension_bytes += extension.len().saturating_sub(1);
        let is_good = extension_bytes <= limits.chunk_extension_bytes as usize
            && (1..=16).contains(&size.len())
            && size.iter().all(u8::is_ascii_hexdigit)
            && is_extension(extension);
        let size = is_good.then(|| u64::from_str_radix(str::from_utf8(size).unwrap(), 16).unwrap())?;
        if size == 0 {
            break;
        }
        let Some((data, after)) = usize::try_from(size).ok().and_then(|size| rest.split_at_checked(size))
        else {
            return Some(None);
        };
        match after {
            [b'\r', b'\n', after @ ..] => rest = after,
            [] | [b'\r'] => return Some(None),
            _ => return None,
        }
        content.extend_from_slice(data);
    }
    let mut trailer_bytes = 0;
    loop {
        let Some(line) = take_line(&mut rest)? else { return Some(None) };
        if line.is_empty() {
            return Some(Some((content, input.len() - rest.len())));
        }
        // With its line end, but the decoder says so at the byte that is one too many.
        trailer_bytes += line.len() + 2;
        let colon = line.iter().position(|&b| b == b':')?;
        let name = line[..colon].to_ascii_lowercase();
        let is_good = !name.is_empty()
            && name.iter().all(is_token)
            && line[colon + 1..].iter().all(|&b| is_text(b))
            && ![&b"content-length"[..], b"transfer-encoding", b"host"].contains(&&name[..])
            && trailer_bytes <= limits.trailer_bytes as usize;
        is_good.then_some(())?;
    }
}

fn is_token(b: &u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b)
}

/// `*( BWS ";" BWS name [ BWS "=" BWS value ] )`, without white space before the first.
fn is_extension(mut rest: &[u8]) -> bool {
    let mut is_first = true;
    while !rest.is_empty() {
        let begun = if is_first { rest } else { after_blanks(rest) };
        is_first = false;
        let Some(after) = begun.strip_prefix(b";") else { return false };
        let Some(after) = token(after_blanks(after)) else { return false };
        rest = after;
        if let Some(value) = after_blanks(after).strip_prefix(b"=") {
            let value = after_blanks(value);
            let Some(after) = (if value.starts_with(b"\"") { quoted(&value[1..]) } else { token(value) })
            else {
                return false;
            };
            rest = after;
        }
    }
    true
}

/// What is behind bad white space: of ASCII's, only these two are (RFC 9110 section 5.6.3).
fn after_blanks(input: &[u8]) -> &[u8] {
    &input[input.iter().position(|b| !b" \t".contains(b)).unwrap_or(input.len())..]
}

/// What is behind a token.
fn token(input: &[u8]) -> Option<&[u8]> {
    let end = input.iter().position(|b| !is_token(b)).unwrap_or(input.len());
    (end > 0).then(|| &input[end..])
}

/// What is behind the end of a quoted string that has begun.
fn quoted(mut input: &[u8]) -> Option<&[u8]> {
    loop {
        input = match input {
            [b'"', after @ ..] => return Some(after),
            [b'\\', b, after @ ..] if is_text(*b) => after,
            [b, after @ ..] if is_text(*b) && *b != b'\\' => after,
            _ => return None,
        };
    }
}

/// Up to a CRLF; `None` for a CR or LF that stands alone, `Some(None)` where there is no end.
fn take_line<'i>(rest: &mut &'i [u8]) -> Option<Option<&'i [u8]>> {
    let Some(end) = rest.iter().position(|&b| b == b'\r' || b == b'\n') else { return Some(None) };
    let line = &rest[..end];
    match &rest[end..] {
        [b'\r', b'\n', after @ ..] => {
            *rest = after;
            Some(Some(line))
        }
        [b'\r'] => Some(None),
        _ => None,
    }
}

fn is_text(b: u8) -> bool {
    b == b'\t' || (b >= b' ' && b != 0x7f)
}
