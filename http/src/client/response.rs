//! An answer as the program reads it: its head is there, its content is still coming.
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use futures_core::Stream;
use http::{HeaderMap, StatusCode, Version};
use serde::de::DeserializeOwned;

use super::body::{Body, Upload, UploadError};
use super::connection::{Connection, time_is_up};
use super::error::{Error, Kind};
use super::pool::Place;
use super::url::Url;
use crate::Upgraded;
use crate::body::{Chunk, Collector, Piece};
use crate::h1::outgoing::Trailers;
use crate::h1::response::{Body as Decoder, Head};
use crate::h1::{Limits, Refusal};
use crate::recycle::Buffer;

/// What is read and thrown away of content that nobody wanted, in bytes, so that its connection can be used again. Only what is
/// there already: nobody waits for it.
const DRAIN_BYTES_MAX: usize = 64 * 1024;

/// An answer.
///
/// Its connection goes back to the pool with the last byte of content. Dropping it earlier closes the connection, unless the
/// rest has arrived already and is short.
///
/// # Examples
///
/// ```no_run
/// # annulet::run(async {
/// let client = annulet_http::Client::new();
/// let mut answer = client.get("http://example.com/large").send().await?.error_for_status()?;
/// println!("{} {:?}", answer.status(), answer.headers().get("content-type"));
/// let mut count = 0;
/// while let Some(piece) = answer.chunk().await? {
///     count += piece.len();
/// }
/// println!("{count} bytes");
/// # Ok::<(), annulet_http::client::Error>(())
/// # }).unwrap();
/// ```
pub struct Response {
    status: StatusCode,
    version: Version,
    headers: HeaderMap,
    url: Url,
    content: Incoming,
}

/// Content on its way in.
pub(super) struct Incoming {
    /// `None` once the content is over, or has failed.
    place: Option<Place<Connection>>,
    decoder: Decoder,
    /// Content of the request that is still leaving.
    upload: Upload,
    /// Whether it goes on leaving: not when the server has answered with an error or a redirection before it had all, or has been
    /// asked whether it wants it and has answered without a word about it.
    is_sending: bool,
    keep_alive: bool,
    is_over: bool,
    total: Option<Instant>,
    /// What is collected at most, in bytes.
    limit: usize,
}

impl Incoming {
    pub(super) fn new(
        place: Place<Connection>,
        head: &Head,
        upload: Upload,
        limits: &Limits,
        total: Option<Instant>,
    ) -> Result<Incoming, Error> {
        let decoder = Decoder::new(head.framing, limits);
        let limit = usize::try_from(limits.body_bytes).unwrap_or(usize::MAX);
        let keep_alive = head.keep_alive;
        let place = Some(place);
        let is_sending = !upload.is_done() && !upload.is_held() && head.status < 300;
        let mut content =
            Incoming { place, decoder, upload, is_sending, keep_alive, is_over: false, total, limit };
        if head.status != 101 {
            if let Some(connection) = content.place.as_ref().and_then(|place| place.connection.as_ref()) {
                connection.stream.set_recv_deadline(total);
            }
            // Without content it is over before any byte.
            content.is_over = content.decoder.decode(&[]).map_err(Error::refused)?.is_end;
            content.finish_if_over();
        }
        Ok(content)
    }

    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Chunk>, Error>> {
        let polled = self.poll_any(cx);
        if matches!(polled, Poll::Ready(Err(_))) {
            // Where the next answer would begin is not known.
            self.place = None;
        }
        polled
    }

    fn poll_any(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Chunk>, Error>> {
        loop {
            if self.is_over {
                return Poll::Ready(Ok(None));
            }
            let Some(connection) = self.place.as_mut().and_then(|place| place.connection.as_mut()) else {
                let gone = Error::new(Kind::Io).because("the content has failed before");
                return Poll::Ready(Err(gone));
            };
            if self.is_sending {
                match self.upload.poll(&connection.stream, cx) {
                    Poll::Ready(Err(UploadError::Content(error))) => {
                        return Poll::Ready(Err(Error::new(Kind::Upload).because(error)));
                    }
                    // The server wants no more of it, and may go on answering.
                    Poll::Ready(Err(UploadError::Io(_)) | Ok(())) => self.is_sending = false,
                    Poll::Pending => {}
                }
            }
            let lease = match connection.rest.take() {
                Some(lease) => lease,
                None => match ready!(connection.stream.poll_recv(cx)) {
                    Ok(Some(lease)) => lease,
                    Ok(None) => {
                        self.decoder.end().map_err(Error::refused)?;
                        self.keep_alive = false;
                        self.is_over = true;
                        self.finish_if_over();
                        return Poll::Ready(Ok(None));
                    }
                    Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                        return Poll::Ready(Err(time_is_up(self.total)));
                    }
                    Err(error) => return Poll::Ready(Err(Error::new(Kind::Io).because(error))),
                },
            };
            if let Some(chunk) = self.take(lease).map_err(Error::refused)? {
                return Poll::Ready(Ok(Some(chunk)));
            }
        }
    }

    /// The first piece of content in `lease`; the rest goes back to the connection. What is content and nothing else is not
    /// copied.
    fn take(&mut self, mut lease: Chunk) -> Result<Option<Chunk>, Refusal> {
        let decoded = self.decoder.decode(&lease)?;
        self.is_over = decoded.is_end;
        let chunk = if decoded.data.is_empty() {
            None
        } else if decoded.data.end == lease.len() {
            lease.advance(decoded.data.start);
            self.finish_if_over();
            return Ok(Some(lease));
        } else {
            let mut content = Buffer::take();
            content.extend_from_slice(&lease[decoded.data]);
            Some(Chunk(Piece::Copied(content)))
        };
        lease.advance(decoded.used);
        if !lease.is_empty()
            && let Some(connection) = self.place.as_mut().and_then(|place| place.connection.as_mut())
        {
            connection.rest = Some(lease);
        }
        self.finish_if_over();
        Ok(chunk)
    }

    /// The connection goes back to the pool if nothing speaks against it, and is closed otherwise. Bytes behind the answer
    /// do: they answer nothing.
    fn finish_if_over(&mut self) {
        if !self.is_over {
            return;
        }
        let Some(place) = self.place.take() else { return };
        let is_clean = place.connection.as_ref().is_some_and(|connection| connection.rest.is_none());
        if self.keep_alive && is_clean && self.upload.is_done() && annulet::task::try_current().is_some() {
            place.park();
        }
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if !self.keep_alive || !self.upload.is_done() {
            return;
        }
        let mut left = DRAIN_BYTES_MAX;
        while !self.is_over {
            let Some(connection) = self.place.as_mut().and_then(|place| place.connection.as_mut()) else {
                return;
            };
            let Some(lease) = connection.rest.take().or_else(|| connection.stream.try_recv()) else { return };
            let before = lease.len();
            if self.take(lease).is_err() {
                self.place = None;
                return;
            }
            let rest = self.place.as_ref().and_then(|place| place.connection.as_ref()?.rest.as_ref());
            match left.checked_sub(before - rest.map_or(0, |rest| rest.len())) {
                Some(rest) => left = rest,
                None => return,
            }
        }
    }
}

impl Response {
    pub(super) fn new(
        head: &Head,
        headers: HeaderMap,
        url: Url,
        content: Incoming,
    ) -> Result<Response, Error> {
        let status = StatusCode::from_u16(head.status).map_err(|_| Error::refused(Refusal::StatusLine))?;
        Ok(Response { status, version: head.version, headers, url, content })
    }

    /// The content of the request, if the server has answered before it asked for it.
    pub(super) fn take_held(&mut self) -> Option<Body> {
        self.content.upload.take_held()
    }

    /// The status code.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The header fields.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// HTTP/1.0 or HTTP/1.1.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// Where the answer comes from, after all redirections.
    #[must_use]
    pub fn url(&self) -> String {
        self.url.to_string()
    }

    /// The same answer, unless its status code is one of an error (400 and above).
    ///
    /// # Errors
    ///
    /// With [`is_status`](Error::is_status) and the [`status`](Error::status).
    pub fn error_for_status(self) -> Result<Response, Error> {
        if self.status.is_client_error() || self.status.is_server_error() {
            return Err(Error::new(Kind::Status(self.status)).at(&self.url));
        }
        Ok(self)
    }

    /// The next piece of content as it arrives; `None` at its end. There is no limit on all of them together.
    ///
    /// # Errors
    ///
    /// When the content is cut short, breaks a rule, or the time for all is up. The connection is closed then.
    ///
    /// # Cancel safety
    ///
    /// A dropped wait loses nothing.
    pub async fn chunk(&mut self) -> Result<Option<Chunk>, Error> {
        poll_fn(|cx| self.poll_chunk(cx)).await
    }

    /// The polling form of [`chunk`](Response::chunk).
    pub fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Chunk>, Error>> {
        self.content.poll_chunk(cx).map_err(|error| error.at(&self.url))
    }

    /// The fields behind the content (RFC 9110 section 6.5), once [`chunk`](Response::chunk) has come to its end; none before that.
    #[must_use]
    pub fn trailers(&self) -> Trailers {
        self.content.decoder.trailers()
    }

    /// The content as a stream.
    #[must_use]
    pub fn into_chunks(self) -> Chunks {
        Chunks(self)
    }

    /// The whole content.
    ///
    /// # Errors
    ///
    /// As [`chunk`](Response::chunk), and when there is more than [`Limits::body_bytes`] of the client.
    ///
    /// # Cancel safety
    ///
    /// None: it takes the answer, whose connection is closed.
    pub async fn bytes(mut self) -> Result<Bytes, Error> {
        let mut collector = Collector::default();
        while let Some(chunk) = self.chunk().await? {
            let too_large = |_| Error::new(Kind::TooLarge).at(&self.url);
            collector.push(&chunk, self.content.limit).map_err(too_large)?;
        }
        Ok(collector.finish())
    }

    /// The whole content as text in UTF-8, whatever its Content-Type says.
    ///
    /// # Errors
    ///
    /// As [`bytes`](Response::bytes), and when it is not UTF-8.
    ///
    /// # Cancel safety
    ///
    /// As `bytes`.
    pub async fn text(self) -> Result<String, Error> {
        let url = self.url.clone();
        let bytes = Vec::from(self.bytes().await?);
        String::from_utf8(bytes).map_err(|error| Error::new(Kind::Decode).because(error).at(&url))
    }

    /// The whole content, read as JSON.
    ///
    /// # Errors
    ///
    /// As [`bytes`](Response::bytes), and when it is no JSON or does not fit the type.
    ///
    /// # Cancel safety
    ///
    /// As `bytes`.
    pub async fn json<T: DeserializeOwned>(self) -> Result<T, Error> {
        let url = self.url.clone();
        let bytes = self.bytes().await?;
        serde_json::from_slice(&bytes).map_err(|error| Error::new(Kind::Decode).because(error).at(&url))
    }

    /// The connection, after a 101 that [`upgrade`](super::RequestBuilder::upgrade) asked for. It has left the pool.
    ///
    /// # Errors
    ///
    /// The answer itself, when it is another.
    pub fn upgraded(mut self) -> Result<Upgraded, Box<Response>> {
        let connection = match &mut self.content.place {
            Some(place) if self.status == StatusCode::SWITCHING_PROTOCOLS => place.connection.take(),
            _ => None,
        };
        let Some(connection) = connection else { return Err(Box::new(self)) };
        connection.stream.set_recv_deadline(None);
        let buffered = connection.rest.map_or_else(Bytes::new, |rest| Bytes::copy_from_slice(&rest));
        Ok(Upgraded { stream: connection.stream, buffered })
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Response { status, headers, .. } = self;
        f.debug_struct("Response").field("status", status).field("headers", headers).finish_non_exhaustive()
    }
}

/// See [`Response::into_chunks`].
#[derive(Debug)]
pub struct Chunks(Response);

impl Chunks {
    /// The answer, for its head and, at the end, its [trailers](Response::trailers).
    #[must_use]
    pub fn response(&self) -> &Response {
        &self.0
    }
}

impl Stream for Chunks {
    type Item = Result<Chunk, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let ended = self.0.content.is_over || self.0.content.place.is_none();
        // After an error there is an end.
        if ended { Poll::Ready(None) } else { Poll::Ready(ready!(self.0.poll_chunk(cx)).transpose()) }
    }
}
