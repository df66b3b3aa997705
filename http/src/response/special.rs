//! What an answer may have instead of content in memory: a stream, files, another protocol, an answer behind it.
use std::fmt;

use futures_core::Stream;
use http::{HeaderName, HeaderValue, StatusCode};

use super::{Body, Extra, IntoResponse, Response};
use crate::files::Pieces;
use crate::h1::encode::ContentType;
use crate::h1::outgoing::Trailers;
use crate::handler::PendingCall;
use crate::stream::{Data, Streamed};
use crate::upgrade::Upgrade;

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

impl Response {
    /// Content that is made while it leaves, from a stream of [`Bytes`](bytes::Bytes), text, or [`Chunk`](crate::Chunk)s of a request.
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
    pub(super) fn behind(mut self, change: impl FnOnce(Response) -> Response + 'static) -> Response {
        self.map_interim(|call| Box::pin(async { change(call.await) }));
        self
    }

    fn special_mut(&mut self) -> Option<&mut Special> {
        self.extra.as_mut()?.special.as_mut()
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
}
