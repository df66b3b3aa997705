//! Answers, and what can become one.
use std::borrow::Cow;
use std::fmt::{self, Write as _};

use bytes::Bytes;
use futures_core::Stream;
use http::{HeaderName, HeaderValue, StatusCode, header};

use crate::files::Pieces;
use crate::h1::encode::ContentType;
use crate::h1::outgoing::Trailers;
use crate::handler::PendingCall;
use crate::recycle::Buffer;
use crate::stream::{Data, Streamed};
use crate::upgrade::Upgrade;

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
    body: Body,
    /// `None` for most: to see that is all that dropping it costs.
    extra: Option<Box<Extra>>,
}

/// What many answers do not have.
#[derive(Debug, Default)]
struct Extra {
    headers: Vec<(HeaderName, HeaderValue)>,
    special: Option<Special>,
}

/// What an answer may have instead of content in memory.
#[derive(Debug)]
pub(crate) enum Special {
    /// Content that is made while it leaves.
    Streamed(Streamed),
    /// A file, or parts of one.
    Pieces(Box<Pieces>),
    /// Another protocol begins.
    Upgrade(Upgrade),
    /// This one comes before the answer.
    Interim(Interim),
}

/// What makes the answer behind an interim one.
pub(crate) struct Interim(PendingCall);

impl fmt::Debug for Interim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Interim").finish_non_exhaustive()
    }
}

/// The content of an answer.
#[derive(Debug)]
pub(crate) enum Body {
    Static(&'static [u8]),
    Bytes(Bytes),
    /// Text written for this answer; the memory goes back to the thread's free list.
    Recycled(Buffer),
}

#[cfg(feature = "tower")]
impl Body {
    pub(crate) fn into_bytes(self) -> Bytes {
        match self {
            Body::Static(bytes) => Bytes::from_static(bytes),
            Body::Bytes(bytes) => bytes,
            Body::Recycled(buffer) => buffer.into_vec().into(),
        }
    }
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
        Response { status, content_type: None, closes: false, body: Body::Static(b""), extra: None }
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
        Response {
            status: StatusCode::OK,
            content_type: Some(content_type),
            closes: false,
            body,
            extra: None,
        }
    }

    /// Content that is made while it leaves, from a stream of [`Bytes`], text, or [`Chunk`](crate::Chunk)s of a request.
    ///
    /// The next piece is asked for when less than 64 KiB wait to leave, and no more of a piece than that is copied at once. A client
    /// of HTTP/1.1 gets the chunked coding unless [`with_length`](Response::with_length) is given, one of HTTP/1.0 the end of the
    /// connection. When the client resets the connection the stream is dropped; when it only ends its own side, it gets the rest. An
    /// error of the stream, or a panic, ends the connection, and the client sees half an answer.
    ///
    /// # Examples
    ///
    /// ```
    /// use annulet_http::{Request, Response, Router};
    ///
    /// // Sends back what comes, while it comes.
    /// let router = Router::new().post("/echo", async |request: Request| Response::stream(request.into_chunks()));
    /// ```
    #[must_use]
    pub fn stream<S, D, E>(stream: S) -> Response
    where
        S: Stream<Item = Result<D, E>> + 'static,
        D: Into<Data>,
    {
        Response::of(ContentType::Octets, Body::Static(b"")).with_stream(stream)
    }

    /// With this as its content.
    pub(crate) fn with_stream<S, D, E>(mut self, stream: S) -> Response
    where
        S: Stream<Item = Result<D, E>> + 'static,
        D: Into<Data>,
    {
        self.extra.get_or_insert_default().special = Some(Special::Streamed(Streamed::new(stream)));
        self
    }

    /// With this as its content.
    pub(crate) fn with_pieces(mut self, pieces: Pieces) -> Response {
        self.extra.get_or_insert_default().special = Some(Special::Pieces(Box::new(pieces)));
        self
    }

    /// With this as its content.
    pub(crate) fn with_body(mut self, body: Bytes) -> Response {
        self.body = Body::Bytes(body);
        self
    }

    /// Announces the length of a [streamed](Response::stream) content, in bytes. If it comes out shorter or longer, the connection
    /// is closed. For other content nothing changes: its length is known.
    #[must_use]
    pub fn with_length(mut self, length: u64) -> Response {
        if self.is_interim() {
            return self.behind(move |answer| answer.with_length(length));
        }
        if let Some(Special::Streamed(streamed)) = self.special_mut() {
            streamed.length = Some(length);
        }
        self
    }

    /// Fields to send behind a [streamed](Response::stream) content; `trailers` is called at its end. They are sent with the chunked
    /// coding only. Fields about framing, routing and the form of the content are left out (RFC 9110 section 6.5.1).
    #[must_use]
    pub fn with_trailers(mut self, trailers: impl FnOnce() -> Trailers + 'static) -> Response {
        if self.is_interim() {
            return self.behind(move |answer| answer.with_trailers(trailers));
        }
        if let Some(Special::Streamed(streamed)) = self.special_mut() {
            streamed.set_trailers(Box::new(trailers));
        }
        self
    }

    pub(crate) fn upgrade(upgrade: Upgrade) -> Response {
        let mut answer = Response::new(StatusCode::SWITCHING_PROTOCOLS);
        answer.extra.get_or_insert_default().special = Some(Special::Upgrade(upgrade));
        answer
    }

    /// An answer before the answer, with the status 103 and these fields: a browser may fetch what they name (RFC 8297) while
    /// `answer` is being made. What is known only later, the answer says itself.
    ///
    /// A client of HTTP/1.0 does not see it, nor does one behind `Router::into_service`. What is called
    /// [after](crate::Router::after) handlers has the answer, and a [time limit](crate::Router::with_time_limit) counts for it anew.
    ///
    /// # Examples
    ///
    /// ```
    /// use annulet_http::{HeaderValue, Request, Response, Router, header};
    ///
    /// async fn page() -> Response {
    ///     annulet::yield_now().await; // a database, say
    ///     Response::html("<link rel=stylesheet href=/style.css>")
    /// }
    ///
    /// let router = Router::new().get("/", async |_: Request| {
    ///     let style = HeaderValue::from_static("</style.css>; rel=preload; as=style");
    ///     Response::early_hints([(header::LINK, style)], page())
    /// });
    /// ```
    #[must_use]
    pub fn early_hints<F>(fields: impl IntoIterator<Item = (HeaderName, HeaderValue)>, answer: F) -> Response
    where
        F: Future<Output: IntoResponse> + 'static,
    {
        Response::interim(StatusCode::EARLY_HINTS, fields, answer)
    }

    /// As [`early_hints`](Response::early_hints), with another status of an interim answer (RFC 9110 section 15.2). `answer` may come to
    /// one that is interim again. What is said of the response that this gives, by [`with_status`](Response::with_status) and its like
    /// or as `(status, response)`, is said of the answer behind it.
    ///
    /// # Panics
    ///
    /// When the status is no 1xx, and for 100 and 101: [reading](crate::Request::chunk) tells a client to go on, and
    /// [`upgrade`](crate::Request::upgrade) leaves HTTP.
    #[must_use]
    pub fn interim<F>(
        status: StatusCode,
        fields: impl IntoIterator<Item = (HeaderName, HeaderValue)>,
        answer: F,
    ) -> Response
    where
        F: Future<Output: IntoResponse> + 'static,
    {
        assert!(
            (102..200).contains(&status.as_u16()),
            "{status} is no interim answer of a handler's: 102 to 199 are"
        );
        let call: PendingCall = Box::pin(async { answer.await.into_response() });
        let headers = fields.into_iter().collect();
        let extra = Extra { headers, special: Some(Special::Interim(Interim(call))) };
        Response { extra: Some(Box::new(extra)), ..Response::new(status) }
    }

    /// Whether another comes behind it.
    pub(crate) fn is_interim(&self) -> bool {
        matches!(self.extra.as_ref().and_then(|extra| extra.special.as_ref()), Some(Special::Interim(_)))
    }

    /// Takes out what makes the answer behind this one.
    pub(crate) fn take_interim(&mut self) -> Option<PendingCall> {
        let special = &mut self.extra.as_mut()?.special;
        match special.take_if(|special| matches!(special, Special::Interim(_))) {
            Some(Special::Interim(Interim(call))) => Some(call),
            _ => None,
        }
    }

    /// Changes what makes the answer behind this one.
    pub(crate) fn map_interim(&mut self, change: impl FnOnce(PendingCall) -> PendingCall) {
        if let Some(call) = self.take_interim() {
            self.extra.get_or_insert_default().special = Some(Special::Interim(Interim(change(call))));
        }
    }

    /// What is changed of an interim answer is meant for the answer behind it. (A status of another class would end the exchange
    /// there and then, with the answer behind it as the next one's.)
    #[cold]
    fn behind(mut self, change: impl FnOnce(Response) -> Response + 'static) -> Response {
        self.map_interim(|call| Box::pin(async { change(call.await) }));
        self
    }

    fn special_mut(&mut self) -> Option<&mut Special> {
        self.extra.as_mut()?.special.as_mut()
    }

    /// With another status.
    #[must_use]
    pub fn with_status(mut self, status: StatusCode) -> Response {
        if self.is_interim() {
            return self.behind(move |answer| answer.with_status(status));
        }
        self.status = status;
        self
    }

    /// With one more header field. A `Content-Type` replaces the one there is.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Response {
        if self.is_interim() {
            return self.behind(move |answer| answer.with_header(name, value));
        }
        let headers = &mut self.extra.get_or_insert_default().headers;
        if name == header::CONTENT_TYPE {
            self.content_type = None;
            headers.retain(|(name, _)| *name != header::CONTENT_TYPE);
        }
        headers.push((name, value));
        self
    }

    /// A redirect, which the client follows with the same method (307), or with GET after a form (303 by
    /// [`with_status`](Response::with_status)).
    ///
    /// # Panics
    ///
    /// When the location is not visible ASCII: percent-encode it.
    #[must_use]
    pub fn redirect(location: &str) -> Response {
        let location = HeaderValue::from_str(location).expect("a location is visible ASCII");
        Response::new(StatusCode::TEMPORARY_REDIRECT).with_header(header::LOCATION, location)
    }

    /// The connection is closed after this answer, and the answer says so.
    #[must_use]
    pub fn with_close(mut self) -> Response {
        if self.is_interim() {
            return self.behind(Response::with_close);
        }
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
        self.extra.as_ref().map_or(&[], |extra| &extra.headers)
    }

    /// The content, as far as it is in memory: empty for a [stream](Response::stream).
    #[inline]
    #[must_use]
    pub fn body(&self) -> &[u8] {
        match &self.body {
            Body::Static(bytes) => bytes,
            Body::Bytes(bytes) => bytes,
            Body::Recycled(buffer) => buffer,
        }
    }

    /// Whether it has neither fields of its own nor special content.
    #[inline]
    pub(crate) fn is_plain(&self) -> bool {
        self.extra.is_none()
    }

    /// Whether all of the content is in memory, or there is none.
    #[inline]
    pub(crate) fn is_whole(&self) -> bool {
        self.extra.as_ref().is_none_or(|extra| extra.special.is_none())
    }

    /// Whether the content is made while it leaves.
    pub(crate) fn is_streamed(&self) -> bool {
        matches!(self.extra.as_ref().and_then(|extra| extra.special.as_ref()), Some(Special::Streamed(_)))
    }

    /// Whether its content leaves behind its head, as fast as the client takes it, and then whether it is a file.
    pub(crate) fn leaves_slowly(&self) -> Option<bool> {
        match self.extra.as_ref().and_then(|extra| extra.special.as_ref()) {
            None | Some(Special::Streamed(_)) => Some(false),
            Some(Special::Pieces(_)) => Some(true),
            Some(Special::Upgrade(_) | Special::Interim(_)) => None,
        }
    }

    /// Takes the content out.
    pub(crate) fn take_body(&mut self) -> (Body, Option<Special>) {
        let body = std::mem::replace(&mut self.body, Body::Static(b""));
        (body, self.extra.as_mut().and_then(|extra| extra.special.take()))
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

/// The same answer with further fields.
impl<T: IntoResponse, const N: usize> IntoResponse for ([(HeaderName, HeaderValue); N], T) {
    fn into_response(self) -> Response {
        let (fields, answer) = self;
        fields
            .into_iter()
            .fold(answer.into_response(), |answer, (name, value)| answer.with_header(name, value))
    }
}

impl IntoResponse for Cow<'static, str> {
    fn into_response(self) -> Response {
        Response::text(self)
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
