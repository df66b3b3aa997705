//! The answer's bytes, appended to a buffer that the caller owns: for a server that is the socket's send buffer, so this is the
//! only copy.
//!
//! Length, persistence and date are written here and nowhere else, from what is true: a handler cannot contradict its own body.
use http::{HeaderName, HeaderValue, StatusCode, Version, header};

/// What stands before an answer whose client waits to be told to send its body (RFC 9110 section 15.2.1).
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Room for what is not counted exactly: status line, lengths, connection field, line ends. In bytes.
const HEAD_ROOM: usize = 160;

/// A content type common enough to be written from a constant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ContentType {
    /// `text/html; charset=utf-8`
    Html,
    /// `text/plain; charset=utf-8`
    Text,
    /// `application/octet-stream`
    Octets,
}

impl ContentType {
    /// As a field's value.
    #[cfg(feature = "tower")]
    pub(crate) fn text(self) -> &'static str {
        match self {
            ContentType::Html => "text/html; charset=utf-8",
            ContentType::Text => "text/plain; charset=utf-8",
            ContentType::Octets => "application/octet-stream",
        }
    }
}

/// An answer and what has to be known to write it.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// The status code; an interim one (1xx) cannot be a final answer and becomes 500.
    pub status: StatusCode,
    /// The content type, unless `headers` has it.
    pub content_type: Option<ContentType>,
    /// Further fields. Those that are about framing and persistence are left out.
    pub headers: &'a [(HeaderName, HeaderValue)],
    /// The content.
    pub body: &'a [u8],
    /// Whether the request was HEAD: length but no content.
    pub is_head: bool,
    /// The version of the request.
    pub version: Version,
    /// Whether the connection stays.
    pub persists: bool,
    /// `server: ...` and its line end, or nothing. Left out where `headers` has one.
    pub server: &'a [u8],
    /// `date: ...` and the empty line.
    pub date: &'a [u8; DATE_END_BYTES],
}

/// A Date field as the last of a head. Its fixed length lets it be copied without a call.
pub const DATE_END_BYTES: usize = b"date: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n".len();

const HTML_OK: &[u8; 73] = b"HTTP/1.1 200 OK\r\ncontent-type: text/html; charset=utf-8\r\ncontent-length: ";

/// How an answer's content is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// So many bytes.
    Known(u64),
    /// The chunked coding (RFC 9112 section 7.1).
    Chunked,
    /// The end of the stream, for clients of HTTP/1.0.
    UntilClose,
}

/// Appends the answer.
#[inline(always)]
pub fn response(out: &mut Vec<u8>, answer: &Answer<'_>) {
    out.reserve(HEAD_ROOM + answer.body.len());
    let has_fields = !answer.headers.is_empty() || !answer.server.is_empty();
    let is_plain = !has_fields && answer.persists && answer.version == Version::HTTP_11;
    if is_plain && answer.status == StatusCode::OK && answer.content_type == Some(ContentType::Html) {
        // The same bytes as below in three pieces of known length, which are copied without a call.
        match answer.body.len() {
            0..10 => push_html_head::<1>(out, answer),
            10..100 => push_html_head::<2>(out, answer),
            100..1000 => push_html_head::<3>(out, answer),
            1000..10_000 => push_html_head::<4>(out, answer),
            10_000..100_000 => push_html_head::<5>(out, answer),
            _ => return any_response(out, answer),
        }
        if !answer.is_head {
            out.extend_from_slice(answer.body);
        }
        return;
    }
    any_response(out, answer);
}

#[inline(always)]
fn push_html_head<const DIGITS: usize>(out: &mut Vec<u8>, answer: &Answer<'_>) {
    let mut length = [b'0'; DIGITS];
    let mut rest = answer.body.len();
    for digit in length.iter_mut().rev() {
        *digit += (rest % 10) as u8;
        rest /= 10;
    }
    out.extend_from_slice(HTML_OK);
    out.extend_from_slice(&length);
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(answer.date);
}

fn any_response(out: &mut Vec<u8>, answer: &Answer<'_>) {
    if head(out, answer, Length::Known(answer.body.len() as u64)) {
        out.extend_from_slice(answer.body);
    }
}

/// Appends the head of an answer whose content is delimited so; says whether content has to follow.
pub fn head(out: &mut Vec<u8>, answer: &Answer<'_>, length: Length) -> bool {
    let status = match answer.status {
        status if status.is_informational() => StatusCode::INTERNAL_SERVER_ERROR,
        status => status,
    };
    push_status(out, status);
    let (mut has_date, mut has_server, mut has_upgrade) = (false, answer.server.is_empty(), false);
    for (name, value) in answer.headers {
        if is_ours(name) {
            continue;
        }
        has_date |= name == header::DATE;
        has_server |= name == header::SERVER;
        has_upgrade |= name == header::UPGRADE;
        push_field(out, name, value);
    }
    let content = Content::of(status);
    if let Some(content_type) = answer.content_type
        && content != Content::Never
    {
        out.extend_from_slice(match content_type {
            ContentType::Html => b"content-type: text/html; charset=utf-8\r\n",
            ContentType::Text => b"content-type: text/plain; charset=utf-8\r\n",
            ContentType::Octets => b"content-type: application/octet-stream\r\n",
        });
    }
    match (content, length) {
        (Content::Never, _) | (Content::Body, Length::UntilClose) => {}
        (Content::Empty, _) => push_length(out, 0),
        (Content::Body, Length::Known(length)) => push_length(out, length),
        (Content::Body, Length::Chunked) => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
    }
    // RFC 9110 section 7.8: whoever sends Upgrade says so here.
    let connection: &[u8] = match (answer.persists, answer.version, has_upgrade) {
        (false, _, false) => b"connection: close\r\n",
        (false, _, true) => b"connection: close, upgrade\r\n",
        // RFC 9112 section 9.3: an HTTP/1.0 client believes in persistence only if told.
        (true, Version::HTTP_10, false) => b"connection: keep-alive\r\n",
        (true, Version::HTTP_10, true) => b"connection: keep-alive, upgrade\r\n",
        (true, _, false) => b"",
        (true, _, true) => b"connection: upgrade\r\n",
    };
    out.extend_from_slice(connection);
    if !has_server {
        out.extend_from_slice(answer.server);
    }
    out.extend_from_slice(if has_date { b"\r\n" } else { answer.date });
    content == Content::Body && !answer.is_head
}

/// Appends an answer before the answer (RFC 9110 section 15.2). It has no content, and says nothing of the connection.
pub fn interim(out: &mut Vec<u8>, status: StatusCode, headers: &[(HeaderName, HeaderValue)]) {
    push_status(out, status);
    for (name, value) in headers.iter().filter(|(name, _)| !is_ours(name)) {
        push_field(out, name, value);
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends the head after which the connection speaks another protocol (RFC 9110 section 15.2.2).
pub fn switching(
    out: &mut Vec<u8>,
    protocol: &HeaderValue,
    headers: &[(HeaderName, HeaderValue)],
    date: &[u8; DATE_END_BYTES],
) {
    push_status(out, StatusCode::SWITCHING_PROTOCOLS);
    out.extend_from_slice(b"connection: upgrade\r\n");
    push_field(out, &header::UPGRADE, protocol);
    for (name, value) in headers {
        if !is_ours(name) && name != header::UPGRADE && name != header::DATE {
            push_field(out, name, value);
        }
    }
    out.extend_from_slice(date);
}

fn push_status(out: &mut Vec<u8>, status: StatusCode) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.extend_from_slice(b" ");
    out.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\n");
}

pub(crate) fn push_field(out: &mut Vec<u8>, name: &HeaderName, value: &HeaderValue) {
    out.extend_from_slice(name.as_str().as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value.as_bytes());
    out.extend_from_slice(b"\r\n");
}

fn push_length(out: &mut Vec<u8>, length: u64) {
    out.extend_from_slice(b"content-length: ");
    out.extend_from_slice(itoa::Buffer::new().format(length).as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// What a status code allows after its head.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Content {
    Body,
    /// RFC 9110 section 15.3.6: 205 has a length, and it is zero.
    Empty,
    /// RFC 9112 section 6.3, rule 1, and RFC 9110 section 8.6: no length either.
    Never,
}

impl Content {
    fn of(status: StatusCode) -> Content {
        match status {
            StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED => Content::Never,
            StatusCode::RESET_CONTENT => Content::Empty,
            _ => Content::Body,
        }
    }
}

/// Fields that follow from what is true of the message.
pub(crate) fn is_ours(name: &HeaderName) -> bool {
    [header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::CONNECTION].contains(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATE: &[u8; DATE_END_BYTES] = b"date: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n";

    const PLAIN: Answer<'_> = Answer {
        status: StatusCode::OK,
        content_type: Some(ContentType::Html),
        headers: &[],
        body: b"<h1>Index</h1>",
        is_head: false,
        version: Version::HTTP_11,
        persists: true,
        server: b"",
        date: DATE,
    };

    fn check(answer: &Answer<'_>, expected: &str) {
        let mut out = b"before".to_vec();
        response(&mut out, answer);
        assert_eq!(
            String::from_utf8(out)
                .unwrap()
                .replace("Sun, 06 Nov 1994 08:49:37 GMT", "D")
                .replace("\r\n", "|"),
            format!("before{expected}")
        );
    }

    #[test]
    fn answers() {
        const HEAD: &str = "HTTP/1.1 200 OK|content-type: text/html; charset=utf-8|content-length: 14|";
        check(&PLAIN, &format!("{HEAD}date: D||<h1>Index</h1>"));
        check(&Answer { is_head: true, ..PLAIN }, &format!("{HEAD}date: D||"));
        check(
            &Answer { persists: false, ..PLAIN },
            &format!("{HEAD}connection: close|date: D||<h1>Index</h1>"),
        );
        let old = Answer { version: Version::HTTP_10, ..PLAIN };
        check(&old, &format!("{HEAD}connection: keep-alive|date: D||<h1>Index</h1>"));
        let closing = Answer { persists: false, is_head: true, ..old };
        check(&closing, &format!("{HEAD}connection: close|date: D||"));
    }

    #[test]
    fn both_ways_to_write_the_plain_answer_agree() {
        for length in [0, 1, 9, 10, 14, 99, 100, 999, 1000, 9999, 10_000, 99_999, 100_000, 1_234_567] {
            let body = vec![b'x'; length];
            let (mut fast, mut any) = (Vec::new(), Vec::new());
            response(&mut fast, &Answer { body: &body, ..PLAIN });
            any_response(&mut any, &Answer { body: &body, ..PLAIN });
            assert!(fast == any, "{length} bytes");
        }
    }

    #[test]
    fn statuses_without_content() {
        let bare = Answer { content_type: None, body: b"x", ..PLAIN };
        check(&Answer { status: StatusCode::NO_CONTENT, ..PLAIN }, "HTTP/1.1 204 No Content|date: D||");
        check(&Answer { status: StatusCode::NOT_MODIFIED, ..PLAIN }, "HTTP/1.1 304 Not Modified|date: D||");
        check(
            &Answer { status: StatusCode::RESET_CONTENT, ..bare },
            "HTTP/1.1 205 Reset Content|content-length: 0|date: D||",
        );
        check(
            &Answer { status: StatusCode::CONTINUE, ..bare },
            "HTTP/1.1 500 Internal Server Error|content-length: 1|date: D||x",
        );
        let strange = StatusCode::from_u16(299).unwrap();
        check(&Answer { status: strange, ..bare }, "HTTP/1.1 299 |content-length: 1|date: D||x");
    }

    #[test]
    fn fields_of_the_handler() {
        let headers = [
            (header::CONTENT_LENGTH, HeaderValue::from_static("99")),
            (header::CONNECTION, HeaderValue::from_static("upgrade")),
            (header::TRANSFER_ENCODING, HeaderValue::from_static("chunked")),
            (header::ETAG, HeaderValue::from_static("\"a\"")),
            (header::DATE, HeaderValue::from_static("then")),
        ];
        let answer = Answer { headers: &headers, content_type: None, body: b"x", ..PLAIN };
        check(&answer, "HTTP/1.1 200 OK|etag: \"a\"|date: then|content-length: 1||x");
    }

    #[test]
    fn who_answers() {
        const HEAD: &str = "HTTP/1.1 200 OK|content-type: text/html; charset=utf-8|content-length: 14|";
        let named = Answer { server: b"server: annulet\r\n", ..PLAIN };
        check(&named, &format!("{HEAD}server: annulet|date: D||<h1>Index</h1>"));
        let headers = [(header::SERVER, HeaderValue::from_static("mine"))];
        let own = Answer { headers: &headers, content_type: None, body: b"x", ..named };
        check(&own, "HTTP/1.1 200 OK|server: mine|content-length: 1|date: D||x");
    }

    #[test]
    fn before_the_answer() {
        let headers = [
            (header::LINK, HeaderValue::from_static("</a.css>; rel=preload")),
            (header::CONTENT_LENGTH, HeaderValue::from_static("9")),
        ];
        let mut out = Vec::new();
        interim(&mut out, StatusCode::EARLY_HINTS, &headers);
        assert_eq!(out, b"HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\n\r\n");
    }
}
