//! What handlers may return.
use std::borrow::Cow;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};

use super::{Body, Response};
use crate::h1::encode::ContentType;
use crate::recycle::Buffer;

/// What a handler may return.
///
/// # Examples
///
/// ```
/// use annulet_http::{IntoResponse, Request, Response, Router, StatusCode, header};
///
/// struct Missing(u64);
///
/// impl IntoResponse for Missing {
///     fn into_response(self) -> Response {
///         (StatusCode::NOT_FOUND, format!("there is no number {}", self.0)).into_response()
///     }
/// }
///
/// async fn number(request: Request) -> Result<&'static str, Missing> {
///     match request.param("number").and_then(|number| number.parse().ok()) {
///         Some(1) => Ok("one"),
///         other => Err(Missing(other.unwrap_or(0))),
///     }
/// }
///
/// let router = Router::new().get("/{number}", number);
/// assert_eq!(Missing(7).into_response().status(), StatusCode::NOT_FOUND);
/// let answer = ([(header::ETAG, "\"a\"".parse().unwrap())], "text").into_response();
/// assert_eq!(answer.headers().len(), 1);
/// # drop(router);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no answer that a handler may return",
    note = "text, bytes, `StatusCode`, `Json`, `Response` and pairs such as `(StatusCode, String)` are, and a `Result` or an `Option` of them; for a type of yours, an error for example, implement `IntoResponse`"
)]
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
    use http::header;

    use super::*;

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
