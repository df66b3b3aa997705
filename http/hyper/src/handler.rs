//! tower services as handlers of annulet-http.
use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use annulet_http::{Chunks, Error, Handler, IntoResponse, Request, Response, StatusCode, Trailers};
use bytes::{Buf, Bytes};
use futures_core::Stream;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use http_body::{Body, Frame, SizeHint};
use send_wrapper::SendWrapper;
use tower_service::Service;

/// Fields that the server writes itself: they frame the message or belong to the connection.
const RESERVED: [HeaderName; 4] =
    [header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::CONNECTION, header::DATE];

/// Puts a tower service, an axum router for example, into a [`Router`](annulet_http::Router) of annulet-http, whose server parses
/// and writes; the service only answers.
///
/// Trailers pass both ways; those of an answer whose length is known only if its `Trailer` field announces them. What does not pass:
/// upgrades, and what hyper alone would put into the request's extensions. An error of the service is
/// answered with 500.
///
/// # Examples
///
/// ```
/// use annulet_http::{Request, Router};
///
/// let app = axum::Router::new().route("/json", axum::routing::get(async || axum::Json([1, 2, 3])));
/// let router = Router::new()
///     .get("/", async |_: Request| "ours")
///     .fallback(annulet_hyper::handler(app));
/// # drop(router);
/// ```
pub fn handler<S, B>(service: S) -> impl Handler
where
    S: Service<http::Request<RequestBody>, Response = http::Response<B>> + Clone + 'static,
    B: Body + 'static,
{
    move |request| call(service.clone(), request)
}

async fn call<S, B>(mut service: S, request: Request) -> Response
where
    S: Service<http::Request<RequestBody>, Response = http::Response<B>>,
    B: Body + 'static,
{
    let Some(request) = converted(request) else { return StatusCode::BAD_REQUEST.into_response() };
    let failed = || StatusCode::INTERNAL_SERVER_ERROR.into_response();
    if poll_fn(|cx| service.poll_ready(cx)).await.is_err() {
        return failed();
    }
    match service.call(request).await {
        Ok(answer) => answered(answer).await.unwrap_or_else(failed),
        Err(_) => failed(),
    }
}

/// `None` when the http crate does not take the target.
fn converted(request: Request) -> Option<http::Request<RequestBody>> {
    let target = match request.query() {
        Some(query) => http::Uri::try_from(format!("{}?{query}", request.path())),
        None => http::Uri::try_from(request.path()),
    };
    let mut headers = HeaderMap::new();
    for (name, value) in request.headers() {
        let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
        headers.append(name, HeaderValue::from_bytes(value).ok()?);
    }
    // RFC 9112 section 3.2.2: beside the authority of a target Host is ignored. The target is passed without it.
    if !request.host().is_empty() {
        headers.insert(header::HOST, HeaderValue::from_str(request.host()).ok()?);
    }
    let mut converted = http::Request::new(());
    *converted.method_mut() = request.method().clone();
    *converted.uri_mut() = target.ok()?;
    *converted.version_mut() = request.version();
    #[cfg(feature = "tls")]
    if let Some(tls) = request.tls() {
        converted.extensions_mut().insert(tls.clone());
    }
    let body = RequestBody::new(request, &headers);
    *converted.headers_mut() = headers;
    Some(converted.map(|()| body))
}

/// `None` when the content failed before its beginning.
async fn answered<B: Body + 'static>(answer: http::Response<B>) -> Option<Response> {
    let (parts, body) = answer.into_parts();
    let announced =
        parts.headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    // They need the chunked coding, and not every body that has some says that it goes on.
    let has_trailers = parts.headers.contains_key(header::TRAILER);
    let trailers = Rc::new(RefCell::default());
    let mut content = Content { first: None, body: Box::pin(body), trailers: trailers.clone() };
    // Once and without waiting: most content is there already, and events that are to come must not hold back the head.
    let first = poll_fn(|cx| Poll::Ready(content.body.as_mut().poll_frame(cx)));
    let whole = match first.await {
        Poll::Pending => None,
        Poll::Ready(None) => Some(Bytes::new()),
        Poll::Ready(Some(Err(_))) => return None,
        Poll::Ready(Some(Ok(frame))) => {
            let bytes = frame.into_data().map_or_else(
                |frame| {
                    content.keep(frame);
                    Bytes::new()
                },
                all,
            );
            if content.body.is_end_stream() && !has_trailers && trailers.borrow().is_empty() {
                Some(bytes)
            } else {
                content.first = Some(bytes);
                None
            }
        }
    };
    let answer = match (whole, announced) {
        // To HEAD: the length of what a GET would get.
        (Some(bytes), Some(length)) if bytes.is_empty() && length > 0 => {
            Response::stream(content).with_length(length)
        }
        (Some(bytes), _) => bytes.into_response(),
        (None, _) => {
            let rest = content.body.size_hint().exact();
            let first = content.first.as_ref().map_or(0, Bytes::len) as u64;
            let answer = Response::stream(content);
            match rest {
                Some(rest) if !has_trailers => answer.with_length(first + rest),
                _ => answer.with_trailers(move || trailers.take()),
            }
        }
    };
    // What it is, the service says or nobody.
    let mut answer = answer.without_content_type();
    // RFC 9110 section 7.6.1: a list of options, in any case of letters.
    let mut options = parts
        .headers
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|b| *b == b','));
    if options.any(|option| option.trim_ascii().eq_ignore_ascii_case(b"close")) {
        answer = answer.with_close();
    }
    let mut name = None;
    for (next, value) in parts.headers {
        // A further value of the same field comes without its name.
        name = next.or(name);
        if let Some(name) = name.as_ref().filter(|name| !RESERVED.contains(name)) {
            answer = answer.with_header(name.clone(), value);
        }
    }
    Some(answer.with_status(parts.status))
}

/// All bytes of a piece, without a copy where it is [`Bytes`].
fn all(mut data: impl Buf) -> Bytes {
    data.copy_to_bytes(data.remaining())
}

/// What a service answers, as a stream.
struct Content<B> {
    first: Option<Bytes>,
    body: Pin<Box<B>>,
    /// For whoever writes them behind the content.
    trailers: Rc<RefCell<Trailers>>,
}

impl<B: Body> Content<B> {
    /// Keeps a frame that is no data: trailers.
    fn keep(&self, frame: Frame<B::Data>) {
        let Ok(fields) = frame.into_trailers() else { return };
        let mut name = None;
        for (next, value) in fields {
            // As in a header section.
            name = next.or(name);
            self.trailers.borrow_mut().extend(name.clone().map(|name| (name, value)));
        }
    }
}

impl<B: Body> Stream for Content<B> {
    type Item = Result<Bytes, B::Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(first)));
        }
        loop {
            match ready!(self.body.as_mut().poll_frame(cx)) {
                None => return Poll::Ready(None),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => return Poll::Ready(Some(Ok(all(data)))),
                    Err(frame) => self.keep(frame),
                },
            }
        }
    }
}

/// The content of a request that a handler of annulet-http was given.
///
/// axum asks for `Send`, so it is `Send`; using or dropping it on another thread than its loop's panics.
#[derive(Debug)]
pub struct RequestBody {
    chunks: SendWrapper<Chunks<Request>>,
    /// What is still to come, in bytes, if that is known.
    left: Option<u64>,
    is_done: bool,
}

impl RequestBody {
    fn new(request: Request, headers: &HeaderMap) -> RequestBody {
        let length =
            headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        let left = match length {
            None if headers.contains_key(header::TRANSFER_ENCODING) => None,
            length => Some(length.unwrap_or(0)),
        };
        RequestBody { chunks: SendWrapper::new(request.into_chunks()), left, is_done: left == Some(0) }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if self.is_done {
            return Poll::Ready(None);
        }
        let next = ready!(Pin::new(&mut *self.chunks).poll_next(cx));
        self.is_done = !matches!(next, Some(Ok(_)));
        if next.is_none() {
            let trailers = self.chunks.request().trailers();
            let frame = (!trailers.is_empty()).then(|| Ok(Frame::trailers(trailers.into_iter().collect())));
            return Poll::Ready(frame);
        }
        if let (Some(left), Some(Ok(chunk))) = (&mut self.left, &next) {
            *left = left.saturating_sub(chunk.len() as u64);
        }
        // Copied: a chunk may be a receive buffer of the core's, and nobody knows how long a service keeps it.
        Poll::Ready(next.map(|chunk| chunk.map(|chunk| Frame::data(Bytes::copy_from_slice(&chunk)))))
    }

    fn is_end_stream(&self) -> bool {
        self.is_done
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
