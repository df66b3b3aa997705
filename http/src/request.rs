//! The request as a handler holds it: one pointer to a recycled block that owns the head's bytes.
//!
//! The head is copied once, out of the receive buffer, which can then go back to its pool however long the handler takes. Fields
//! and parameters are offsets into that copy. Blocks come from a free list of the thread: no allocation in the steady state.
use std::cell::RefCell;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_core::Stream;
use http::{Method, Version};
use percent_encoding::percent_decode;

use crate::Error;
use crate::around::Around;
use crate::body::{Body, Chunk, Collector};
use crate::h1::Refusal;
use crate::h1::head::{Field, Head, Parse, Parser, Span};
use crate::h1::outgoing::Trailers;
use crate::proxy::Peer;
use crate::router::escaped;

/// Blocks kept per thread; one per request at work is needed. A thousand slow requests at a time leave so many behind.
const BLOCKS_FREE_MAX: usize = 256;
/// A block whose copy of a head grew beyond this gives that memory back, in bytes.
const HEAD_BYTES_KEPT_MAX: usize = 2 * 1024;

/// A request. `'static`, cheap to move, for use on the core that received it.
///
/// It may be kept beyond its answer, by a task that the handler has spawned for example: its head stays as it was. Its content goes with
/// the answer, or with the last piece of one that is [made while it leaves](crate::Response::stream): what nobody has read by then is thrown
/// away ([`Limits::drain_bytes`](crate::Limits::drain_bytes)), and whoever reads on, or waits for more, gets an error that
/// [`is_gone`](Error::is_gone). Nothing of the connection is kept: it serves the next request, or ends, as if this one were gone.
///
/// # Examples
///
/// ```
/// use annulet_http::{IntoResponse, Request, Response, escape};
///
/// async fn hello(request: Request) -> impl IntoResponse {
///     let name = request.param("name").unwrap_or("nobody");
///     Response::html_fmt(format_args!("<h1>hello, {}!</h1>", escape(name)))
/// }
/// ```
pub struct Request {
    /// Only empty while being dropped.
    block: Option<Box<Block>>,
}

/// What a request owns.
#[derive(Default)]
struct Block {
    /// The head as it arrived.
    bytes: Vec<u8>,
    /// What was parsed of it.
    head: Head,
    fields: Vec<Field>,
    method: Method,
    /// Where in `values` each parameter ends.
    param_ends: Vec<u16>,
    /// The names of the parameters in their order, from the route.
    param_names: Option<Rc<[Box<str>]>>,
    /// The values of the parameters, decoded, one after the other.
    values: String,
    /// For decoding.
    scratch: Vec<u8>,
    /// For the form in which an escaped path is matched.
    matched: Vec<u8>,
    /// Whether one of the next three is there: one look instead of three for most.
    has_rare: bool,
    /// See [`is_first`](Request::is_first).
    is_first: bool,
    /// Who sent it, where the server keeps that in mind.
    peer: Option<Rc<Peer>>,
    body: Option<Body>,
    /// Where shared values are found, if the route has any.
    around: Option<Rc<Around>>,
}

impl Block {
    #[inline]
    fn text(&self, span: Span) -> &str {
        text(&self.bytes[span.range()])
    }
}

impl Request {
    /// The method.
    #[inline]
    #[must_use]
    pub fn method(&self) -> &Method {
        &self.block().method
    }

    /// HTTP/1.0 or HTTP/1.1.
    #[must_use]
    pub fn version(&self) -> Version {
        self.block().head.version
    }

    /// The path, never empty, `*` for `OPTIONS *`. It is the URI that was sent in its normal form (RFC 3986 section 6.2.2): letters,
    /// digits and `-._~` are not escaped, other escapes are left, in capital digits. So whoever compares it is not passed by who
    /// writes it otherwise. What is not done: `..` is a segment like others, and so is an empty one.
    ///
    /// # Examples
    ///
    /// ```
    /// use annulet_http::offline::Offline;
    /// use annulet_http::{Limits, Request, Router};
    ///
    /// let router = Router::new().fallback(async |request: Request| request.path().to_owned());
    /// let (server, mut answers) = (Offline::new(router, Limits::default()), Vec::new());
    /// server.answer(b"GET /%7ea/b%2fc HTTP/1.0\r\n\r\n", std::time::Instant::now(), &mut answers);
    /// assert!(answers.ends_with(b"/~a/b%2Fc"));
    /// ```
    #[must_use]
    pub fn path(&self) -> &str {
        self.block().text(self.block().head.path)
    }

    /// What follows the `?` in the target, as it was sent.
    #[must_use]
    pub fn query(&self) -> Option<&str> {
        self.block().head.query.map(|span| self.block().text(span))
    }

    /// The host and port that the request is for: from an absolute target, else from Host; empty if neither names one.
    #[must_use]
    pub fn host(&self) -> &str {
        self.block().text(self.block().head.host)
    }

    /// Who is at the other end of the connection: whom the PROXY header names, else the socket's peer. `None` unless the server
    /// [keeps it in mind](crate::Server::with_client_addresses).
    #[must_use]
    pub fn peer(&self) -> Option<SocketAddr> {
        self.block().peer.as_ref()?.address
    }

    /// Who asks: the [peer](Self::peer), or whom it asks for if it is a [trusted proxy](crate::Server::with_trusted_proxies). `None`
    /// also where a trusted proxy names nobody that can be understood (`unknown`, `_hidden`): that may be anybody, and is not the proxy.
    #[must_use]
    pub fn client(&self) -> Option<IpAddr> {
        self.block().peer.as_ref()?.client_of(|name| self.values_of(name))
    }

    /// `http` or `https`, where the peer is a [trusted proxy](crate::Server::with_trusted_proxies) and says how it was asked.
    #[must_use]
    pub fn forwarded_proto(&self) -> Option<&'static str> {
        self.block().peer.as_ref()?.proto_of(|name| self.values_of(name))
    }

    /// `https` or `http`: as the client has asked, as far as it can be known. What a trusted proxy says
    /// ([`forwarded_proto`](Self::forwarded_proto)) comes first, then what is spoken on this connection.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        let here = if self.is_secure() { "https" } else { "http" };
        self.forwarded_proto().unwrap_or(here)
    }

    /// Whether TLS is spoken on this connection, whatever was spoken before it.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        #[cfg(feature = "tls")]
        return self.tls().is_some();
        #[cfg(not(feature = "tls"))]
        return false;
    }

    /// What the TLS handshake of this connection came to: the client's certificates, the name that it asked for, the protocol that
    /// was agreed upon. `None` where TLS is not spoken.
    ///
    /// # Examples
    ///
    /// ```
    /// use annulet_http::{Request, Response, StatusCode};
    ///
    /// /// Only for clients that showed a certificate; whose it is, a crate that reads X.509 tells.
    /// async fn private(request: Request) -> Result<Response, StatusCode> {
    ///     let tls = request.tls().ok_or(StatusCode::FORBIDDEN)?;
    ///     let certificate = tls.peer_certificates().first().ok_or(StatusCode::FORBIDDEN)?;
    ///     let name = tls.server_name().unwrap_or("no name");
    ///     Ok(Response::text(format!("{name} was asked for, by a certificate of {} bytes", certificate.len())))
    /// }
    /// ```
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn tls(&self) -> Option<&annulet_tls::TlsInfo> {
        self.block().peer.as_ref()?.tls.as_ref()
    }

    /// The value of the first field of that name, in any case of letters.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers().find(|(sent, _)| sent.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// The values of all fields of that name, in any case of letters.
    pub(crate) fn values(&self, name: &'static str) -> impl Iterator<Item = &[u8]> + Clone {
        let block = self.block();
        let of_name = move |field: &&Field| field.name(&block.bytes).eq_ignore_ascii_case(name.as_bytes());
        block.fields.iter().filter(of_name).map(|field| field.value(&block.bytes))
    }

    /// All fields in their order, names as they were sent.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let block = self.block();
        block.fields.iter().map(|field| (text(field.name(&block.bytes)), field.value(&block.bytes)))
    }

    /// The value of the path parameter `{name}`, percent-decoded.
    #[inline]
    #[must_use]
    pub fn param(&self, name: &str) -> Option<&str> {
        let block = self.block();
        let at = block.param_names.as_ref()?.iter().position(|known| **known == *name)?;
        let end = *block.param_ends.get(at)?;
        let start = at.checked_sub(1).map_or(0, |before| block.param_ends[before]);
        block.values.get(usize::from(start)..usize::from(end))
    }

    /// The value of that type which [`Router::with_state`](crate::Router::with_state) gave to the route.
    #[must_use]
    pub fn state<T: 'static>(&self) -> Option<&T> {
        self.around()?.state()
    }

    /// The value of the first cookie with this name, as in [`cookies`](Request::cookies).
    ///
    /// # Examples
    ///
    /// ```
    /// use annulet_http::{Request, Router};
    ///
    /// let router = Router::new()
    ///     .get("/", async |request: Request| request.cookie("session").unwrap_or("nobody").to_owned());
    /// ```
    pub fn cookie(&self, name: &str) -> Option<&str> {
        self.cookies().find(|(of, _)| *of == name).map(|(_, value)| value)
    }

    /// The cookies of the request, names and values as they were sent (RFC 6265 section 4.2). What is not UTF-8 is left out.
    ///
    /// # Examples
    ///
    /// ```
    /// use annulet_http::Request;
    ///
    /// fn names(request: &Request) -> Vec<&str> {
    ///     request.cookies().map(|(name, _)| name).collect()
    /// }
    /// ```
    pub fn cookies(&self) -> impl Iterator<Item = (&str, &str)> {
        let fields = self.headers().filter(|(name, _)| name.eq_ignore_ascii_case("cookie"));
        let pairs = fields.flat_map(|(_, value)| str::from_utf8(value).unwrap_or_default().split(';'));
        pairs.filter_map(|pair| {
            let (name, value) = pair.trim().split_once('=')?;
            Some((name, value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value)))
        })
    }

    /// The next piece of the content; `None` at its end, and at once if the request has none.
    ///
    /// If the client asked to be told to go on (`Expect: 100-continue`), the first call tells it.
    ///
    /// # Examples
    ///
    /// ```
    /// use annulet_http::{Error, Request, Router};
    ///
    /// let router = Router::new().put("/count", async |mut request: Request| {
    ///     let mut count = 0;
    ///     while let Some(piece) = request.chunk().await? {
    ///         count += piece.len();
    ///     }
    ///     Ok::<_, Error>(count.to_string())
    /// });
    /// # drop(router);
    /// ```
    ///
    /// # Errors
    ///
    /// When the content breaks a rule or a limit, does not arrive in time, or the connection breaks. Answer and be done: the
    /// connection is closed after that.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub async fn chunk(&mut self) -> Result<Option<Chunk>, Error> {
        match &self.block().body {
            Some(body) => body.chunk().await,
            None => Ok(None),
        }
    }

    /// The whole content.
    ///
    /// # Errors
    ///
    /// As for [`chunk`](Request::chunk), [`is_body_too_large`](Error::is_body_too_large) beyond `limit` bytes, and
    /// [`is_overloaded`](Error::is_overloaded) when the core holds too much already.
    ///
    /// # Cancel safety
    ///
    /// None: what was collected is lost with the future. Read by [`chunk`](Request::chunk) where that matters.
    pub async fn bytes(&mut self, limit: usize) -> Result<Bytes, Error> {
        let mut collector = Collector::default();
        while let Some(chunk) = self.chunk().await? {
            collector.push(&chunk, limit)?;
            if let Some(body) = &self.block().body {
                body.hold(collector.len())?;
            }
        }
        Ok(collector.finish())
    }

    /// The content as a stream of pieces, at its end a `None`.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::future::poll_fn;
    /// use std::pin::Pin;
    /// use annulet_http::{Error, Request};
    /// use futures_core::Stream;
    ///
    /// async fn count(mut request: Request) -> Result<String, Error> {
    ///     let mut chunks = request.chunks();
    ///     let mut count = 0;
    ///     while let Some(chunk) = poll_fn(|cx| Pin::new(&mut chunks).poll_next(cx)).await {
    ///         count += chunk?.len();
    ///     }
    ///     Ok(count.to_string())
    /// }
    /// ```
    pub fn chunks(&mut self) -> Chunks<&mut Request> {
        Chunks { request: self, is_done: false }
    }

    /// As [`chunks`](Request::chunks), with the request inside: for an answer that is made while the content comes.
    #[must_use]
    pub fn into_chunks(self) -> Chunks<Request> {
        Chunks { request: self, is_done: false }
    }

    /// The fields behind the content (RFC 9110 section 6.5): there once [`chunk`](Request::chunk) has come to the end of it, until the
    /// request is answered. They are kept apart from the header fields, because whoever sent those knew less: a checksum or a
    /// signature of content that was made while it left.
    ///
    /// # Examples
    ///
    /// ```
    /// use annulet_http::{Error, Request};
    ///
    /// async fn upload(mut request: Request) -> Result<String, Error> {
    ///     let content = request.bytes(1 << 20).await?;
    ///     let trailers = request.trailers();
    ///     let sum = trailers.iter().find(|(name, _)| name == "content-digest");
    ///     Ok(format!("{} bytes, digest {:?}", content.len(), sum.map(|(_, value)| value)))
    /// }
    /// ```
    #[must_use]
    pub fn trailers(&self) -> Trailers {
        self.block().body.as_ref().map_or_else(Trailers::new, Body::trailers)
    }

    /// Whether content may follow.
    pub(crate) fn has_body(&self) -> bool {
        self.block().head.framing.has_content()
    }

    /// Whether a list of that name has this member, in any case of letters.
    pub(crate) fn lists(&self, name: &str, member: &str) -> bool {
        self.headers()
            .filter(|(sent, _)| sent.eq_ignore_ascii_case(name))
            .flat_map(|(_, value)| value.split(|b| *b == b','))
            .any(|sent| sent.trim_ascii().eq_ignore_ascii_case(member.as_bytes()))
    }

    #[inline]
    fn block(&self) -> &Block {
        self.block.as_ref().expect("a request has its block until it is dropped")
    }

    #[inline]
    fn block_mut(&mut self) -> &mut Block {
        self.block.as_mut().expect("a request has its block until it is dropped")
    }
}

/// A request's content as a stream; see [`Request::chunks`]. Ends after an error.
#[derive(Debug)]
pub struct Chunks<R> {
    request: R,
    is_done: bool,
}

impl<R: std::borrow::Borrow<Request>> Chunks<R> {
    /// The request, for its head and, at the end, its [trailers](Request::trailers).
    pub fn request(&self) -> &Request {
        self.request.borrow()
    }
}

impl<R: std::borrow::Borrow<Request> + Unpin> Stream for Chunks<R> {
    type Item = Result<Chunk, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.is_done {
            return Poll::Ready(None);
        }
        let next = match &self.request.borrow().block().body {
            Some(body) => ready!(body.poll_chunk(cx)).transpose(),
            None => None,
        };
        self.is_done = !matches!(next, Some(Ok(_)));
        Poll::Ready(next)
    }
}

/// What the protocol side does with a request.
impl Request {
    /// An empty request, from the free list if there is one.
    #[inline]
    pub(crate) fn take() -> Request {
        let block = FREE.try_with(|free| free.borrow_mut().pop()).ok().flatten();
        Request { block: Some(block.unwrap_or_default()) }
    }

    /// Takes over the head at the beginning of `input`, parsed to where it stays.
    #[inline]
    pub(crate) fn parse(&mut self, parser: &mut Parser, input: &[u8]) -> Parse<()> {
        let block = self.block_mut();
        let was_get = block.head.is_get;
        let parsed = parser.parse(input, &mut block.head, &mut block.fields);
        if let Parse::Complete(()) = parsed {
            let bytes = block.head.bytes(input);
            block.bytes.clear();
            block.bytes.extend_from_slice(bytes);
            // Most requests are GET, and so was the one before in this block.
            if !(block.head.is_get && was_get) {
                block.method = Method::from_bytes(&bytes[block.head.method.range()])
                    .expect("the parsers let tokens pass only, and a token is a method");
            }
        }
        parsed
    }

    /// Whether it is the first since its connection waited for bytes, and has been through nobody's hands.
    pub(crate) fn is_first(&self) -> bool {
        self.block().is_first
    }

    #[inline]
    pub(crate) fn set_first(&mut self) {
        self.block_mut().is_first = true;
    }

    /// Somebody may do anything before it is answered.
    #[inline]
    pub(crate) fn unset_first(&mut self) {
        self.block_mut().is_first = false;
    }

    /// What was parsed.
    #[inline]
    pub(crate) fn head(&self) -> &Head {
        &self.block().head
    }

    /// Gives a path with escapes its normal form, see [`path`](Request::path). What was behind it in the head stays where it is.
    pub(crate) fn normalise_path(&mut self) {
        let block = self.block_mut();
        block.head.path.len = escaped::normalise(&mut block.bytes[block.head.path.range()]) as u16;
    }

    /// Memory for the form in which the path is matched, until it is [kept](Request::keep_matched).
    pub(crate) fn take_matched(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.block_mut().matched)
    }

    pub(crate) fn keep_matched(&mut self, matched: Vec<u8>) {
        self.block_mut().matched = matched;
    }

    /// Adds the next parameter, a piece of the path.
    ///
    /// # Errors
    ///
    /// [`Refusal::Escape`] when its decoded form is not UTF-8.
    #[inline]
    pub(crate) fn push_param(&mut self, value: &str) -> Result<(), Refusal> {
        let block = self.block_mut();
        if block.head.path_is_escaped && value.contains('%') {
            block.scratch.clear();
            block.scratch.extend(percent_decode(value.as_bytes()));
            block.values.push_str(str::from_utf8(&block.scratch).map_err(|_| Refusal::Escape)?);
        } else {
            block.values.push_str(value);
        }
        // Decoding only shortens, and a head is at most 64 KiB.
        block.param_ends.push(block.values.len() as u16);
        Ok(())
    }

    /// Names the parameters.
    #[inline]
    pub(crate) fn set_param_names(&mut self, names: &Rc<[Box<str>]>) {
        self.block_mut().param_names = Some(names.clone());
    }

    pub(crate) fn set_around(&mut self, around: &Rc<Around>) {
        let block = self.block_mut();
        (block.has_rare, block.around) = (true, Some(around.clone()));
    }

    pub(crate) fn around(&self) -> Option<&Around> {
        self.block().around.as_deref()
    }

    /// All parameters of the path with their names, in order, percent-decoded.
    pub(crate) fn params(&self) -> impl Iterator<Item = (&str, &str)> {
        let block = self.block();
        let starts = std::iter::once(&0).chain(&block.param_ends);
        let values = starts
            .zip(&block.param_ends)
            .map(|(start, end)| &block.values[usize::from(*start)..usize::from(*end)]);
        block.param_names.iter().flat_map(|names| names.iter()).map(|name| &**name).zip(values)
    }

    /// Says who sent it.
    pub(crate) fn set_peer(&mut self, peer: &Rc<Peer>) {
        let block = self.block_mut();
        (block.has_rare, block.peer) = (true, Some(peer.clone()));
    }

    /// The values of all fields of that name, in any case of letters.
    fn values_of(&self, name: &str) -> Vec<&[u8]> {
        let same = self.headers().filter(|(other, _)| other.eq_ignore_ascii_case(name));
        same.map(|(_, value)| value).collect()
    }

    /// Gives the request its content.
    pub(crate) fn set_body(&mut self, body: Body) {
        let block = self.block_mut();
        (block.has_rare, block.body) = (true, Some(body));
    }
}

impl Drop for Request {
    #[inline]
    fn drop(&mut self) {
        let Some(mut block) = self.block.take() else { return };
        if block.param_names.is_some() {
            block.param_names = None;
        }
        block.param_ends.clear();
        block.values.clear();
        block.is_first = false;
        if block.has_rare {
            block.has_rare = false;
            block.body = None;
            block.around = None;
            block.peer = None;
        }
        if block.bytes.capacity() > HEAD_BYTES_KEPT_MAX {
            block.bytes = Vec::new();
            block.values = String::new();
            block.scratch = Vec::new();
            block.matched = Vec::new();
        }
        // Fails only while the thread ends: then the allocator has it.
        let _ = FREE.try_with(|free| {
            let mut free = free.borrow_mut();
            if free.len() < BLOCKS_FREE_MAX {
                free.push(block);
            }
        });
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("method", self.method())
            .field("path", &self.path())
            .field("query", &self.query())
            .field("version", &self.version())
            .finish_non_exhaustive()
    }
}

thread_local! {
    // Boxes are what is kept: the block must not move when its request does.
    #[expect(clippy::vec_box)]
    static FREE: RefCell<Vec<Box<Block>>> = const { RefCell::new(Vec::new()) };
}

/// Only called on bytes that were checked when they were put there.
#[inline]
fn text(checked: &[u8]) -> &str {
    str::from_utf8(checked).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::h1::Limits;

    fn request(input: &str) -> Request {
        let mut request = Request::take();
        let parsed = request.parse(&mut Parser::new(Limits::default()), input.as_bytes());
        assert_eq!(parsed, Parse::Complete(()), "{input:?}");
        request
    }

    #[test]
    fn what_a_handler_sees() {
        let request = request("\r\nPUT /a/b?c=d HTTP/1.0\r\nHost: h\r\nX: 1\r\nx: 2\r\n\r\n");
        assert_eq!(request.method(), Method::PUT);
        assert_eq!((request.path(), request.query(), request.host()), ("/a/b", Some("c=d"), "h"));
        assert_eq!(request.version(), Version::HTTP_10);
        assert_eq!(request.header("HOST"), Some(&b"h"[..]));
        assert_eq!(request.header("x"), Some(&b"1"[..]));
        assert_eq!(request.header("y"), None);
        assert_eq!(request.headers().map(|(name, _)| name).collect::<Vec<_>>(), ["Host", "X", "x"]);
        assert_eq!(request.param("x"), None);
    }

    #[test]
    fn methods_are_what_was_sent() {
        // All of RFC 9110 section 5.6.2, each alone, together, and behind a GET in the same block.
        let token = "!#$%&'*+-.^_`|~019azAZ";
        for method in token.split_inclusive(|_| true).chain([token, "GETS", "get"]) {
            drop(request("GET / HTTP/1.0\r\n\r\n"));
            assert_eq!(request(&format!("{method} / HTTP/1.0\r\n\r\n")).method().as_str(), method);
        }
    }

    #[test]
    fn a_recycled_block_keeps_nothing() {
        let mut first = request("GET /%41?q HTTP/1.1\r\nHost: h\r\nSecret: 1\r\n\r\n");
        first.push_param("%41").unwrap();
        first.set_param_names(&Rc::from([Box::from("name")]));
        assert_eq!(first.param("name"), Some("A"));
        drop(first);
        let second = request("GET / HTTP/1.0\r\n\r\n");
        assert_eq!((second.query(), second.host(), second.param("name")), (None, "", None));
        assert_eq!(second.headers().count(), 0);
    }

    #[test]
    fn one_pointer() {
        assert_eq!(size_of::<Request>(), size_of::<usize>());
    }
}
