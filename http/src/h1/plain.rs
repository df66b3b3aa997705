//! The head that nearly everybody sends, found in one pass: origin-form target, HTTP/1.1, fields one to a line.
//!
//! Says only "this is one" or "not mine". What is not plain, not whole or not right is looked at again by [`super::lines`], which
//! alone refuses anything. So this may be narrow, but what it takes it must read exactly as httparse does; the test below compares
//! the two on mutated heads.
use http::Version;

use super::Limits;
use super::gathered::Gathered;
use super::lines::Lines;
use super::span::{Field, Span};
use super::syntax::{CLASS, PATH, PATH_PLAIN, QUERY, TOKEN, VALUE, escapes_are_whole, same};
use super::target::Target;

/// Longer methods are not plain, in bytes.
const METHOD_BYTES_MAX: usize = 16;

/// The lines of a whole plain head at the beginning of `input`.
#[inline]
pub(super) fn scan(
    input: &[u8],
    limits: &Limits,
    known: &KnownHost,
    fields: &mut Vec<Field>,
) -> Option<Lines> {
    let method_len = scan_method(input)?;
    let target_start = method_len + 1;
    let (target, at) = scan_target(input, target_start, limits)?;
    let mut at = at + scan_version(&input[at..])?;
    fields.clear();
    let mut gathered = Gathered::default();
    loop {
        let rest = &input[at..];
        if rest.first() == Some(&b'\r') {
            if rest.get(1) != Some(&b'\n') || at + 2 > limits.head_bytes {
                return None;
            }
            let method = Span { start: 0, len: method_len as u16 };
            return Some(Lines { len: at + 2, method, target, version: Version::HTTP_11, gathered });
        }
        if fields.len() == limits.headers || at > limits.head_bytes {
            return None;
        }
        if let Some(len) = known.line_len(rest) {
            // The line that the request before had. Nothing in it has to be looked at again.
            let name = Span { start: at as u16, len: 4 };
            let field = Field::new(name, Span { start: at as u16 + 6, len: len as u16 - 8 });
            fields.push(field);
            gathered.take_known_host(field);
            at += len;
            continue;
        }
        let name_len = class_len(rest, TOKEN);
        if name_len == 0 || rest.get(name_len) != Some(&b':') {
            return None;
        }
        let value_start = name_len + 1 + blank_len(&rest[name_len + 1..]);
        let line = &rest[value_start..];
        let line_len = value_len(line);
        if line.get(line_len) != Some(&b'\r') || line.get(line_len + 1) != Some(&b'\n') {
            return None;
        }
        let value = trim_end(&line[..line_len]);
        // An empty value has no place of its own.
        let value_at = if value.is_empty() { 0 } else { at + value_start };
        let field = Field::new(
            Span { start: at as u16, len: name_len as u16 },
            Span { start: value_at as u16, len: value.len() as u16 },
        );
        fields.push(field);
        gathered.take(&rest[..name_len], value, field);
        at += value_start + line_len + 2;
    }
}

/// The last Host line that passed its check: the next one is nearly always the same.
#[derive(Clone, Debug, Default)]
pub(super) struct KnownHost {
    /// The value and its line end; empty before the first.
    rest: Vec<u8>,
}

impl KnownHost {
    /// A DNS name has 253 bytes at most; a port follows.
    const BYTES_MAX: usize = 260;

    /// Remembers a value that passed.
    pub(super) fn set(&mut self, value: &[u8]) {
        self.rest.clear();
        // An empty value has no place in the head, so it is never the known one.
        if (1..=KnownHost::BYTES_MAX).contains(&value.len()) {
            self.rest.extend_from_slice(value);
            self.rest.extend_from_slice(b"\r\n");
        }
    }

    /// Whether this is the value.
    #[inline]
    pub(super) fn is(&self, value: &[u8]) -> bool {
        self.rest.len() == value.len() + 2 && self.rest.starts_with(value)
    }

    /// The length of the known line at the beginning of `bytes`, written as nearly everybody writes it.
    #[inline(always)]
    fn line_len(&self, bytes: &[u8]) -> Option<usize> {
        // Setting the case bit makes two letters equal and maps nothing else to a letter of this word.
        const CASE: u64 = 0x2020_2020;
        const NAME: u64 = u64::from_le_bytes(*b"host: \0\0");
        let word = u64::from_le_bytes(*bytes.first_chunk()?) | CASE;
        if word << 16 != NAME << 16 || self.rest.is_empty() {
            return None;
        }
        let len = 6 + self.rest.len();
        same(bytes.get(6..len)?, &self.rest).then_some(len)
    }
}

/// The length of the method that a space follows.
#[inline(always)]
fn scan_method(input: &[u8]) -> Option<usize> {
    if input.starts_with(b"GET ") {
        return Some(3);
    }
    let len = class_len(&input[..input.len().min(METHOD_BYTES_MAX)], TOKEN);
    (len > 0 && input.get(len) == Some(&b' ') && &input[..len] != b"CONNECT").then_some(len)
}

/// The target at `start`, and where what follows its space begins.
#[inline(always)]
fn scan_target(input: &[u8], start: usize, limits: &Limits) -> Option<(Target, usize)> {
    let rest = &input[start..];
    if rest.first() != Some(&b'/') {
        return None;
    }
    let mut path_len = 1 + class_len(&rest[1..], PATH_PLAIN);
    let path_is_escaped = rest.get(path_len) == Some(&b'%');
    if path_is_escaped {
        path_len += class_len(&rest[path_len..], PATH);
        if !escapes_are_whole(&rest[..path_len]) {
            return None;
        }
    }
    let path = Span { start: start as u16, len: path_len as u16 };
    let (query, len) = match rest.get(path_len) {
        Some(b' ') => (None, path_len),
        Some(b'?') => {
            let query_len = class_len(&rest[path_len + 1..], QUERY);
            let query = Span { start: (start + path_len + 1) as u16, len: query_len as u16 };
            (Some(query), path_len + 1 + query_len)
        }
        _ => return None,
    };
    if rest.get(len) != Some(&b' ') || len > limits.target_bytes {
        return None;
    }
    Some((Target { path, query, authority: None, path_is_escaped, is_https: false }, start + len + 1))
}

/// The length of `HTTP/1.1` and its line end.
#[inline(always)]
fn scan_version(rest: &[u8]) -> Option<usize> {
    const LINE_END: &[u8; 10] = b"HTTP/1.1\r\n";
    rest.starts_with(LINE_END).then_some(LINE_END.len())
}

/// How many bytes at the beginning belong to a class.
#[inline(always)]
fn class_len(bytes: &[u8], class: u8) -> usize {
    bytes.iter().position(|&b| CLASS[usize::from(b)] & class == 0).unwrap_or(bytes.len())
}

#[inline(always)]
fn blank_len(bytes: &[u8]) -> usize {
    match bytes {
        [b' ', b, ..] if *b > b' ' => 1,
        _ => bytes.iter().position(|b| !matches!(b, b' ' | b'\t')).unwrap_or(bytes.len()),
    }
}

/// How many bytes at the beginning may stand in a field value, eight at a time.
#[inline(always)]
fn value_len(bytes: &[u8]) -> usize {
    let mut len = 0;
    while let Some(&eight) = bytes[len..].first_chunk::<8>() {
        let stops = control_bytes(u64::from_le_bytes(eight));
        if stops != 0 {
            let at = len + stops.trailing_zeros() as usize / 8;
            // A tab looks like a control character to the trick above; what follows one is read byte by byte.
            return if bytes[at] == b'\t' { at + class_len(&bytes[at..], VALUE) } else { at };
        }
        len += 8;
    }
    len + class_len(&bytes[len..], VALUE)
}

/// The high bit of the lowest byte that is less than 0x20 or equal to 0x7f; bits above it mean nothing.
#[inline(always)]
fn control_bytes(word: u64) -> u64 {
    const ONES: u64 = u64::MAX / 255;
    const HIGHS: u64 = ONES << 7;
    let below_space = word.wrapping_sub(ONES * 0x20) & !word;
    let deletes = word ^ (ONES * 0x7f);
    let is_delete = deletes.wrapping_sub(ONES) & !deletes;
    (below_space | is_delete) & HIGHS
}

#[inline(always)]
fn trim_end(mut value: &[u8]) -> &[u8] {
    while let [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

#[cfg(test)]
mod tests {
    use super::super::head::Parse;
    use super::super::lines::scan_lines;
    use super::*;

    /// What this lane takes, httparse and the checks beside it must read in the same way; and it must take what is common.
    fn check(input: &[u8], is_plain: bool) {
        let limits = Limits { head_bytes: 300, target_bytes: 40, headers: 5, ..Limits::default() };
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        let plain = scan(input, &limits, &KnownHost::default(), &mut ours);
        // With a host that is known, be it this one, nothing changes.
        for known in ["a", "127.0.0.1:8000"] {
            let (mut host, mut fields) = (KnownHost::default(), Vec::new());
            host.set(known.as_bytes());
            let lines = scan(input, &limits, &host, &mut fields).map(|mut lines| {
                let host = lines.gathered.host.value(input);
                assert!(!lines.gathered.host_is_known || host == known.as_bytes());
                lines.gathered.host_is_known = false;
                lines
            });
            assert_eq!(lines, plain, "{:?}", String::from_utf8_lossy(input));
            assert!(lines.is_none() || fields == ours);
        }
        let window = &input[..input.len().min(limits.head_bytes)];
        let shown = String::from_utf8_lossy(input);
        assert!(plain.is_some() || !is_plain, "not taken: {shown:?}");
        if let Some(lines) = plain {
            assert_eq!(scan_lines(window, window, &limits, &mut theirs), Parse::Complete(lines), "{shown:?}");
            assert_eq!(ours, theirs, "{shown:?}");
        }
    }

    const HEADS: [&str; 7] = [
        "GET / HTTP/1.1\r\nHost: 127.0.0.1:8000\r\n\r\n",
        "GET /hello/bob%20b?c=d HTTP/1.1\r\nhost:a\r\nAccept: */*\r\n\r\nGET ",
        "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nX-Empty:\r\nX-Blank: \t \r\n\r\nhello",
        "PUT /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\nHost: a\r\nConnection: close, x\r\n\r\n",
        "DELETE /b/c HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\nCookie: \x09a=b; c=\u{e9}  \r\n\r\n",
        "OPTIONS /? HTTP/1.1\r\nHost: a\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0)\tGecko\r\n\r\n",
        "PATCH /long HTTP/1.1\r\nHost: a\r\nA: 0123456\r\nB: 01234567\r\nC: 012345678\r\nD: 0123456789abcdef\r\n\r\n",
    ];

    #[test]
    fn common_heads_are_plain() {
        HEADS.iter().for_each(|head| check(head.as_bytes(), true));
    }

    #[test]
    fn every_byte_in_every_place() {
        for head in HEADS {
            for at in 0..head.len() {
                for b in 0..=255 {
                    let mut input = head.as_bytes().to_vec();
                    input[at] = b;
                    check(&input, false);
                }
            }
        }
    }

    #[test]
    fn mutated_heads() {
        const ROUNDS: u32 = 500_000;
        const BYTES: &[u8] = b"\r\n\r\n\t :/?%*#\x00\x1f\x7f\x80\xffHTP1.0aA,;";
        // xorshift; the seed is arbitrary and fixed, so a failure repeats.
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = move |below: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state % below as u64) as usize
        };
        for _ in 0..ROUNDS {
            let mut input = HEADS[random(HEADS.len())].as_bytes().to_vec();
            for _ in 0..=random(4) {
                let (at, b) = (random(input.len()), BYTES[random(BYTES.len())]);
                match random(4) {
                    0 => input[at] = b,
                    1 => input.insert(at, b),
                    2 => drop(input.remove(at)),
                    _ => {
                        let end = (at + random(60)).min(input.len());
                        let copy = input[at..end].to_vec();
                        let to = random(input.len());
                        input.splice(to..to, copy);
                    }
                }
                if input.is_empty() {
                    break;
                }
            }
            check(&input, false);
        }
    }
}
