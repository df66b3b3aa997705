//! The lines of a request's head, found by httparse and refused where it is too kind: a bare LF as line end, characters that no
//! target may hold. What an answer's head has in common with it, its fields, is read here too.
use std::mem::MaybeUninit;

use http::Version;

use super::gathered::Gathered;
use super::head::Parse;
use super::span::{Field, Span};
use super::target::{Target, split_target};
use super::version::look_at_version;
use super::{Limits, Refusal};

/// The lines of a head: well-formed each for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lines {
    pub(super) len: usize,
    pub(super) method: Span,
    pub(super) target: Target,
    pub(super) version: Version,
    pub(super) gathered: Gathered,
}

/// Finds the lines with httparse. `text` is what it reads, `window` what is kept. They are the same, except for the digit of a
/// future minor version.
pub(super) fn scan_lines(
    text: &[u8],
    window: &[u8],
    limits: &Limits,
    fields: &mut Vec<Field>,
) -> Parse<Lines> {
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
    let gathered = match take_fields(&text[..len], request.headers, fields) {
        Ok(gathered) => gathered,
        Err(why) => return Parse::Error(why),
    };
    let method = Span::of(method.as_bytes(), text);
    if target.len() > limits.target_bytes {
        return Parse::Error(Refusal::TargetTooLong);
    }
    let target_span = Span::of(target.as_bytes(), text);
    match split_target(&window[method.range()], &window[target_span.range()], target_span.start) {
        Ok(target) => Parse::Complete(Lines { len, method, target, version: version(minor), gathered }),
        Err(why) => Parse::Error(why),
    }
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
        error => Parse::Error(refusal(error, Refusal::RequestLine)),
    }
}

/// What httparse's error is called here; it says `first_line` of the request line or the status line.
pub(super) fn refusal(error: httparse::Error, first_line: Refusal) -> Refusal {
    use httparse::Error;
    match error {
        Error::TooManyHeaders => Refusal::TooManyFields,
        Error::HeaderName => Refusal::FieldName,
        Error::HeaderValue => Refusal::FieldValue,
        Error::NewLine => Refusal::LineEnd,
        Error::Version | Error::Status | Error::Token => first_line,
    }
}

/// The version, of the minor ones that httparse knows.
pub(super) fn version(minor: u8) -> Version {
    if minor == 0 { Version::HTTP_10 } else { Version::HTTP_11 }
}

/// Puts the header fields that httparse found in `head`, which is whole, in place of `fields`, and refuses a bare LF as line end.
#[inline]
pub(super) fn take_fields(
    head: &[u8],
    headers: &[httparse::Header<'_>],
    fields: &mut Vec<Field>,
) -> Result<Gathered, Refusal> {
    // Every line end but the last two stands right before a field name, the last two at the end.
    if !head.ends_with(b"\r\n\r\n") {
        return Err(Refusal::LineEnd);
    }
    fields.clear();
    let mut gathered = Gathered::default();
    for header in headers {
        let name = Span::of(header.name.as_bytes(), head);
        if head[usize::from(name.start) - 2] != b'\r' {
            return Err(Refusal::LineEnd);
        }
        // An empty value is a slice of anywhere, so its place has to be brought into the head.
        let value = if header.value.is_empty() { Span::default() } else { Span::of(header.value, head) };
        let field = Field::new(name, value);
        fields.push(field);
        gathered.take(header.name.as_bytes(), header.value, field);
    }
    Ok(gathered)
}
