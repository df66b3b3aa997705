//! Answers, and what can become one.
use std::borrow::Cow;
use std::fmt::{self, Write as _};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode, header};

use crate::h1::encode::ContentType;
use crate::recycle::Buffer;

/// An answer: status, header fields, content.
///
/// Length, date and persistence are the server's to write; a `Content-Length`, `Transfer-Encoding` or `Connection` set here is
/// left out. Names and values are checked by their types, so no text can break out of its field.
///
/// # Examples
///
/// ```
/// use annulet_http::{Response, StatusCode, escape, header};
///
/// let page = Response::html_fmt(format_args!("<p>{}</p>", escape("a < b")));
/// assert_eq!(page.body(), b"<p>a &lt; b</p>");
///
/// let moved = Response::new(StatusCode::FOUND).with_header(header::LOCATION, "/there".parse().unwrap());
/// assert!(moved.body().is_empty());
/// ```
#[derive(Debug)]
pub struct Response {
    pub(crate) status: StatusCode,
    pub(crate) content_type: Option<ContentType>,
    pub(crate) closes: bool,
    /// `None` for most: to see that is all that dropping them costs.
    headers: Option<Vec<(HeaderName, HeaderValue)>>,
    body: Body,
}

/// The content of an answer.
#[derive(Debug)]
pub(crate) enum Body {
    Static(&'static [u8]),
    Bytes(Bytes),
    /// Text written for this answer; the memory goes back to the thread's free list.
    Recycled(Buffer),
}

impl From<Cow<'static, str>> for Body {
    #[inline]
    fn from(text: Cow<'static, str>) -> Body {
        match text {
            Cow::Borrowed(text) => Body::Static(text.as_bytes()),
            Cow::Owned(text) => Body::Recycled(Buffer::from(text.into_bytes())),
        }
    }
}

impl Response {
    /// An answer without content.
    #[must_use]
    pub const fn new(status: StatusCode) -> Response {
        Response { status, content_type: None, closes: false, headers: None, body: Body::Static(b"") }
    }

    /// A page in HTML, from a `&'static str` or a `String`; neither is copied.
    #[inline]
    #[must_use]
    pub fn html(page: impl Into<Cow<'static, str>>) -> Response {
        Response::of(ContentType::Html, Body::from(page.into()))
    }

    /// Plain text, from a `&'static str` or a `String`; neither is copied.
    #[inline]
    #[must_use]
    pub fn text(text: impl Into<Cow<'static, str>>) -> Response {
        Response::of(ContentType::Text, Body::from(text.into()))
    }

    /// A page in HTML, formatted into recycled memory: nothing is allocated in the steady state.
    ///
    /// Values need [`escape`].
    #[inline]
    #[must_use]
    pub fn html_fmt(page: fmt::Arguments<'_>) -> Response {
        Response::of(ContentType::Html, Body::Recycled(formatted(page)))
    }

    /// Plain text, formatted into recycled memory.
    #[must_use]
    pub fn text_fmt(text: fmt::Arguments<'_>) -> Response {
        Response::of(ContentType::Text, Body::Recycled(formatted(text)))
    }

    #[inline]
    fn of(content_type: ContentType, body: Body) -> Response {
        Response { content_type: Some(content_type), body, ..Response::new(StatusCode::OK) }
    }

    /// With another status.
    #[must_use]
    pub fn with_status(mut self, status: StatusCode) -> Response {
        self.status = status;
        self
    }

    /// With one more header field. A `Content-Type` replaces the one there is.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Response {
        let headers = self.headers.get_or_insert_default();
        if name == header::CONTENT_TYPE {
            self.content_type = None;
            headers.retain(|(name, _)| *name != header::CONTENT_TYPE);
        }
        headers.push((name, value));
        self
    }

    /// The connection is closed after this answer, and the answer says so.
    #[must_use]
    pub fn with_close(mut self) -> Response {
        self.closes = true;
        self
    }

    /// The status code.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The header fields that were set.
    #[inline]
    #[must_use]
    pub fn headers(&self) -> &[(HeaderName, HeaderValue)] {
        self.headers.as_deref().unwrap_or_default()
    }

    /// The content.
    #[inline]
    #[must_use]
    pub fn body(&self) -> &[u8] {
        match &self.body {
            Body::Static(bytes) => bytes,
            Body::Bytes(bytes) => bytes,
            Body::Recycled(buffer) => buffer,
        }
    }
}

/// A page in HTML, written piece by piece into recycled memory: as [`Response::html_fmt`], without the cost of formatting.
///
/// # Examples
///
/// ```
/// use annulet_http::{IntoResponse, Page};
///
/// let mut page = Page::new();
/// page.push("<p>").push_escaped("a < b").push("</p>");
/// assert_eq!(page.into_response().body(), b"<p>a &lt; b</p>");
/// ```
#[derive(Debug)]
pub struct Page(Buffer);

impl Page {
    /// An empty page.
    #[inline]
    #[must_use]
    pub fn new() -> Page {
        Page(Buffer::take())
    }

    /// Appends markup as it is.
    #[inline]
    pub fn push(&mut self, markup: &str) -> &mut Page {
        self.0.extend_from_slice(markup.as_bytes());
        self
    }

    /// Appends text, [escaped](escape).
    #[inline]
    pub fn push_escaped(&mut self, text: &str) -> &mut Page {
        let mut rest = text;
        while let Some((at, reference)) = next_special(rest) {
            self.push(&rest[..at]).push(reference);
            rest = &rest[at + 1..];
        }
        self.push(rest)
    }
}

impl Default for Page {
    fn default() -> Page {
        Page::new()
    }
}

impl IntoResponse for Page {
    #[inline]
    fn into_response(self) -> Response {
        Response::of(ContentType::Html, Body::Recycled(self.0))
    }
}

#[inline]
fn formatted(text: fmt::Arguments<'_>) -> Buffer {
    let mut buffer = Buffer::take();
    // Writing to memory cannot fail; a value whose Display fails leaves a page cut short, as it does in format!.
    let _ = buffer.write_fmt(text);
    buffer
}

/// Shows text with `& < > " '` as character references, for use in HTML text and quoted attributes.
///
/// # Examples
///
/// ```
/// assert_eq!(annulet_http::escape("<b> & 'c'").to_string(), "&lt;b&gt; &amp; &#39;c&#39;");
/// ```
#[inline]
#[must_use]
pub fn escape(text: &str) -> Escape<'_> {
    Escape(text)
}

/// See [`escape`].
#[derive(Clone, Copy, Debug)]
pub struct Escape<'a>(&'a str);

impl fmt::Display for Escape<'_> {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        while let Some((at, reference)) = next_special(rest) {
            f.write_str(&rest[..at])?;
            f.write_str(reference)?;
            rest = &rest[at + 1..];
        }
        f.write_str(rest)
    }
}

/// The first character that HTML would take for markup, and what stands for it.
#[inline]
fn next_special(text: &str) -> Option<(usize, &'static str)> {
    text.bytes().enumerate().find_map(|(at, b)| {
        let reference = match b {
            b'&' => "&amp;",
            b'<' => "&lt;",
            b'>' => "&gt;",
            b'"' => "&quot;",
            b'\'' => "&#39;",
            _ => return None,
        };
        Some((at, reference))
    })
}

/// What a handler may return.
pub trait IntoResponse {
    /// The answer that this stands for.
    fn into_response(self) -> Response;
}

impl IntoResponse for Response {
    #[inline]
    fn into_response(self) -> Response {
        self
    }
}

/// 200 without content.
impl IntoResponse for () {
    fn into_response(self) -> Response {
        Response::new(StatusCode::OK)
    }
}

/// The code's name as plain text, where the code allows content.
impl IntoResponse for StatusCode {
    fn into_response(self) -> Response {
        match self.canonical_reason() {
            Some(reason) if self.is_client_error() || self.is_server_error() => {
                reason.into_response().with_status(self)
            }
            _ => Response::new(self),
        }
    }
}

impl IntoResponse for &'static str {
    fn into_response(self) -> Response {
        Response::text(self)
    }
}

impl IntoResponse for String {
    fn into_response(self) -> Response {
        Response::text(self)
    }
}

impl IntoResponse for &'static [u8] {
    fn into_response(self) -> Response {
        Response::of(ContentType::Octets, Body::Static(self))
    }
}

impl IntoResponse for Vec<u8> {
    fn into_response(self) -> Response {
        Response::of(ContentType::Octets, Body::Recycled(Buffer::from(self)))
    }
}

impl IntoResponse for Bytes {
    fn into_response(self) -> Response {
        Response::of(ContentType::Octets, Body::Bytes(self))
    }
}

/// The same answer with another status.
impl<T: IntoResponse> IntoResponse for (StatusCode, T) {
    fn into_response(self) -> Response {
        self.1.into_response().with_status(self.0)
    }
}

impl<T: IntoResponse, E: IntoResponse> IntoResponse for Result<T, E> {
    fn into_response(self) -> Response {
        match self {
            Ok(answer) => answer.into_response(),
            Err(answer) => answer.into_response(),
        }
    }
}

/// 404 for `None`.
impl<T: IntoResponse> IntoResponse for Option<T> {
    fn into_response(self) -> Response {
        match self {
            Some(answer) => answer.into_response(),
            None => StatusCode::NOT_FOUND.into_response(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaping() {
        let check = |text: &str, expected: &str| {
            assert_eq!(escape(text).to_string(), expected);
            let mut page = Page::new();
            page.push("<").push_escaped(text);
            assert_eq!(page.into_response().body(), format!("<{expected}").as_bytes());
        };
        check("", "");
        check("bob", "bob");
        check("<script>", "&lt;script&gt;");
        check("a&b", "a&amp;b");
        check("\"'\u{e9}", "&quot;&#39;\u{e9}");
    }

    #[test]
    fn conversions() {
        let check = |answer: Response, status: u16, content_type, body: &str| {
            assert_eq!(answer.status(), status);
            assert_eq!(answer.content_type, content_type);
            assert_eq!(answer.body(), body.as_bytes());
        };
        check(().into_response(), 200, None, "");
        check("a".into_response(), 200, Some(ContentType::Text), "a");
        check(String::from("a").into_response(), 200, Some(ContentType::Text), "a");
        check(vec![b'a'].into_response(), 200, Some(ContentType::Octets), "a");
        check(Bytes::from_static(b"a").into_response(), 200, Some(ContentType::Octets), "a");
        check(StatusCode::NO_CONTENT.into_response(), 204, None, "");
        check(StatusCode::NOT_FOUND.into_response(), 404, Some(ContentType::Text), "Not Found");
        check((StatusCode::CREATED, "a").into_response(), 201, Some(ContentType::Text), "a");
        check(Err::<(), _>(StatusCode::CONFLICT).into_response(), 409, Some(ContentType::Text), "Conflict");
        check(None::<()>.into_response(), 404, Some(ContentType::Text), "Not Found");
        check(Response::html("a"), 200, Some(ContentType::Html), "a");
        check(
            Response::html("a").with_header(header::CONTENT_TYPE, HeaderValue::from_static("b")),
            200,
            None,
            "a",
        );
    }
}
