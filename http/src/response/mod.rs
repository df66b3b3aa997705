//! Answers, and what can become one.
//!
//! Here is what every answer has: status, fields, content in memory. `special` has content that is made while it leaves, and answers
//! before the answer; `page` writes HTML, `into` is what handlers return.
mod into;
mod page;
mod special;

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode, header};

pub use into::IntoResponse;
use page::formatted;
pub use page::{Escape, Page, escape};
pub(crate) use special::Special;

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

    /// With this as its content.
    pub(crate) fn with_body(mut self, body: Bytes) -> Response {
        self.body = Body::Bytes(body);
        self
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

    /// Without a `Content-Type`, for content of which nobody here knows what it is (RFC 9110 section 8.3).
    #[must_use]
    pub fn without_content_type(mut self) -> Response {
        if self.is_interim() {
            return self.behind(Response::without_content_type);
        }
        self.content_type = None;
        if let Some(extra) = &mut self.extra {
            extra.headers.retain(|(name, _)| *name != header::CONTENT_TYPE);
        }
        self
    }

    /// A redirect, which the client follows with the same method (307), or with GET after a form (303 by
    /// [`with_status`](Response::with_status)).
    ///
    /// # Panics
    ///
    /// When the location is not visible ASCII: percent-encode it.
    #[must_use]
    #[track_caller]
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

    /// Takes the content out.
    pub(crate) fn take_body(&mut self) -> (Body, Option<Special>) {
        let body = std::mem::replace(&mut self.body, Body::Static(b""));
        (body, self.extra.as_mut().and_then(|extra| extra.special.take()))
    }
}
