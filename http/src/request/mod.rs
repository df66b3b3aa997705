//! The request as a handler holds it: one pointer to a recycled block that owns the head's bytes.
//!
//! The head is copied once, out of the receive buffer, which can then go back to its pool however long the handler takes. Fields
//! and parameters are offsets into that copy. Blocks come from a free list of the thread: no allocation in the steady state.
//!
//! Here is what a handler asks of a request. `fill` is how one comes about, `block` its recycled memory, `chunks` its content as a stream.
mod block;
mod chunks;
mod fill;

use std::any::{Any, TypeId};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use bytes::Bytes;
use http::{Method, Version};

use self::block::{Block, text};
pub use self::chunks::Chunks;
use crate::Error;
use crate::around::Around;
use crate::body::{Body, Chunk, Collector};
use crate::h1::head::{Field, Head};
use crate::h1::outgoing::Trailers;

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
        self.block().peer.as_ref()?.client_of(|name| self.values(name).collect())
    }

    /// `http` or `https`, where the peer is a [trusted proxy](crate::Server::with_trusted_proxies) and says how it was asked.
    #[must_use]
    pub fn forwarded_proto(&self) -> Option<&'static str> {
        self.block().peer.as_ref()?.proto_of(|name| self.values(name).collect())
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

    /// All parameters of the path with their names, in order, percent-decoded.
    pub(crate) fn params(&self) -> impl Iterator<Item = (&str, &str)> {
        let block = self.block();
        let starts = std::iter::once(&0).chain(&block.param_ends);
        let values = starts
            .zip(&block.param_ends)
            .map(|(start, end)| &block.values[usize::from(*start)..usize::from(*end)]);
        block.param_names.iter().flat_map(|names| names.iter()).map(|name| &**name).zip(values)
    }

    /// The value of that type which [`Router::with_state`](crate::Router::with_state) gave to the route.
    #[must_use]
    pub fn state<T: 'static>(&self) -> Option<&T> {
        self.around()?.state()
    }

    pub(crate) fn around(&self) -> Option<&Around> {
        self.block().around.as_deref()
    }

    /// Leaves a value with the request for whoever has it next: for the handler, what was found out [before](crate::Router::before_async)
    /// it. It takes the place of one of the same type, costs an allocation, and goes with the request.
    ///
    /// # Examples
    ///
    /// ```
    /// use annulet_http::offline::Offline;
    /// use annulet_http::{Extension, IntoResponse, Limits, Request, Response, Router, StatusCode, extract};
    ///
    /// struct User(String);
    ///
    /// async fn log_in(request: &mut Request) -> Option<Response> {
    ///     // A store somewhere else is asked here.
    ///     let user = match request.cookie("session") {
    ///         Some("abc") => User("Ann".to_owned()),
    ///         _ => return Some(StatusCode::UNAUTHORIZED.into_response()),
    ///     };
    ///     request.set_extension(user);
    ///     None
    /// }
    ///
    /// let router = Router::new()
    ///     .get("/me", extract(async |user: Extension<User>| user.0.0.clone()))
    ///     .get("/here", async |request: Request| request.extension::<User>().map(|user| format!("{} is here", user.0)))
    ///     .before_async(log_in);
    ///
    /// let server = Offline::new(router, Limits::default());
    /// let mut answers = Vec::new();
    /// server.answer(b"GET /me HTTP/1.0\r\nCookie: session=abc\r\n\r\n", std::time::Instant::now(), &mut answers);
    /// assert!(answers.ends_with(b"Ann"));
    /// ```
    pub fn set_extension<T: 'static>(&mut self, value: T) {
        let block = self.block_mut();
        block.has_rare = true;
        block.extensions.retain(|(of, _)| *of != TypeId::of::<T>());
        block.extensions.push((TypeId::of::<T>(), Rc::new(value)));
    }

    /// The value of that type which was [left with the request](Request::set_extension).
    #[must_use]
    pub fn extension<T: 'static>(&self) -> Option<&T> {
        self.any_extension(TypeId::of::<T>())?.downcast_ref()
    }

    /// As [`extension`](Request::extension), shared.
    pub(crate) fn extension_rc<T: 'static>(&self) -> Option<Rc<T>> {
        self.any_extension(TypeId::of::<T>())?.clone().downcast().ok()
    }

    fn any_extension(&self, wanted: TypeId) -> Option<&Rc<dyn Any>> {
        self.block().extensions.iter().find(|(of, _)| *of == wanted).map(|(_, value)| value)
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

    /// What was parsed.
    #[inline]
    pub(crate) fn head(&self) -> &Head {
        &self.block().head
    }

    /// An empty request, from the free list if there is one.
    #[inline]
    pub(crate) fn take() -> Request {
        Request { block: Some(Block::take()) }
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

impl Drop for Request {
    #[inline]
    fn drop(&mut self) {
        if let Some(block) = self.block.take() {
            block.give_back();
        }
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

#[cfg(test)]
mod tests;
