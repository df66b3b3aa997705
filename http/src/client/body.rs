//! The content of a request on its way out.
use std::fmt;
use std::io::{self, Write as _};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_core::Stream;

use crate::h1::encode::Length;
use crate::h1::outgoing::{Outgoing, Trailers};
use crate::socket::Socket;
use crate::stream::{Data, PieceStream, erase};

/// What is copied into the send buffer at a time, in bytes: its high-water mark.
const PIECE_BYTES_MAX: usize = 64 * 1024;

pub(super) type BoxError = Box<dyn std::error::Error + 'static>;

/// What a request says.
///
/// Made from bytes or text, or from a stream of them. Only the former can be sent twice: after a redirection that keeps the
/// method, and when a kept connection turns out to be dead.
pub struct Body(Content);

enum Content {
    Empty,
    Bytes(Bytes),
    Stream {
        pieces: PieceStream<BoxError>,
        length: Option<u64>,
        trailers: Option<Box<dyn FnOnce() -> Trailers>>,
    },
}

impl Body {
    /// Nothing.
    #[must_use]
    pub fn empty() -> Body {
        Body(Content::Empty)
    }

    /// From a stream whose length nobody knows: in the chunked coding.
    ///
    /// # Examples
    ///
    /// ```
    /// use annulet_http::client::Body;
    ///
    /// struct Lines(std::vec::IntoIter<&'static str>);
    ///
    /// impl annulet::stream::Stream for Lines {
    ///     type Item = std::io::Result<&'static str>;
    ///     fn poll_next(
    ///         mut self: std::pin::Pin<&mut Self>,
    ///         _: &mut std::task::Context<'_>,
    ///     ) -> std::task::Poll<Option<Self::Item>> {
    ///         std::task::Poll::Ready(self.0.next().map(Ok))
    ///     }
    /// }
    ///
    /// let body = Body::stream(Lines(vec!["one\n", "two\n"].into_iter()));
    /// # drop(body);
    /// ```
    pub fn stream<S, D, E>(stream: S) -> Body
    where
        S: Stream<Item = Result<D, E>> + 'static,
        D: Into<Data>,
        E: Into<BoxError>,
    {
        Body(Content::Stream { pieces: erase(stream, |error: E| error.into()), length: None, trailers: None })
    }

    /// From a stream of exactly so many bytes. One that gives more or fewer fails the request and closes its connection.
    pub fn sized<S, D, E>(length: u64, stream: S) -> Body
    where
        S: Stream<Item = Result<D, E>> + 'static,
        D: Into<Data>,
        E: Into<BoxError>,
    {
        Body(Content::Stream {
            pieces: erase(stream, |error: E| error.into()),
            length: Some(length),
            trailers: None,
        })
    }

    /// With fields behind the content (RFC 9110 section 6.5): `trailers` is called at its end, so they may say what was not known
    /// before, a checksum for instance. They go with a [stream](Body::stream) of unknown length only; for other content nothing
    /// changes. Fields about framing, routing and the form of the content are left out (section 6.5.1). To name them before, set the
    /// header field `Trailer`.
    ///
    /// They are sent without asking: the field `TE: trailers`, by which a client says that it takes them, has no counterpart for
    /// servers. A server, or anybody between, may drop them unread or keep them apart (section 6.5.1), and one of HTTP/1.0 does not
    /// understand the coding that they come with. So nothing that a request means should hang on them, unless the server is known to
    /// read them.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::cell::Cell;
    /// use std::rc::Rc;
    /// use annulet_http::client::Body;
    /// use annulet_http::{HeaderName, HeaderValue};
    /// use futures_util::{StreamExt, stream};
    ///
    /// let count = Rc::new(Cell::new(0));
    /// let counted = count.clone();
    /// let pieces = stream::iter([Ok::<_, std::io::Error>("one\n"), Ok("two\n")]).inspect(move |_| counted.set(counted.get() + 1));
    /// let body = Body::stream(pieces)
    ///     .with_trailers(move || vec![(HeaderName::from_static("x-pieces"), HeaderValue::from(count.get()))]);
    /// # drop(body);
    /// ```
    #[must_use]
    pub fn with_trailers(mut self, trailers: impl FnOnce() -> Trailers + 'static) -> Body {
        if let Content::Stream { trailers: none, .. } = &mut self.0 {
            *none = Some(Box::new(trailers));
        }
        self
    }

    pub(super) fn is_empty(&self) -> bool {
        matches!(self.0, Content::Empty)
    }

    /// Whether there is, or may be, a byte of it.
    pub(super) fn says_something(&self) -> bool {
        self.length() != Some(0)
    }

    /// The same once more, if it is in memory.
    pub(super) fn again(&self) -> Option<Body> {
        match &self.0 {
            Content::Empty => Some(Body::empty()),
            Content::Bytes(bytes) => Some(Body(Content::Bytes(bytes.clone()))),
            Content::Stream { .. } => None,
        }
    }

    /// `None`: not known, it goes in the chunked coding.
    pub(super) fn length(&self) -> Option<u64> {
        match &self.0 {
            Content::Empty => Some(0),
            Content::Bytes(bytes) => Some(bytes.len() as u64),
            Content::Stream { length, .. } => *length,
        }
    }
}

impl<T: Into<Bytes>> From<T> for Body {
    fn from(bytes: T) -> Body {
        Body(Content::Bytes(bytes.into()))
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body").field("length", &self.length()).finish_non_exhaustive()
    }
}

/// Why content did not leave.
#[derive(Debug)]
pub(super) enum UploadError {
    /// The server may have answered before; that is for who reads to find out.
    Io(io::Error),
    Content(BoxError),
}

/// A body that is being sent.
#[derive(Debug)]
pub(super) struct Upload {
    body: Body,
    /// The piece at hand.
    piece: Option<Data>,
    /// Of an announced length.
    left: Option<u64>,
    is_done: bool,
    /// Nothing leaves before the server says that it wants it: see [`wait_for_continue`](Upload::wait_for_continue).
    is_held: bool,
    /// The server has said that it wants it.
    is_wanted: bool,
    /// Bytes handed over; whoever watches sees that it goes on.
    pub(super) sent: u64,
}

impl Upload {
    pub(super) fn new(body: Body) -> Upload {
        let is_done = match &body.0 {
            Content::Empty => true,
            Content::Bytes(bytes) => bytes.is_empty(),
            Content::Stream { .. } => false,
        };
        let left = body.length();
        Upload { body, piece: None, left, is_done, is_held: false, is_wanted: false, sent: 0 }
    }

    /// Keeps all of it back until it is [released](Upload::release).
    pub(super) fn wait_for_continue(&mut self) {
        self.is_held = true;
    }

    pub(super) fn is_held(&self) -> bool {
        self.is_held
    }

    /// Lets it go: because the server wants it, or because nobody waits any longer for that to be said.
    pub(super) fn release(&mut self, is_wanted: bool) {
        self.is_held = false;
        self.is_wanted = is_wanted;
    }

    pub(super) fn is_wanted(&self) -> bool {
        self.is_wanted
    }

    /// The content, if all of it was kept back: it can go to somebody else, even a stream.
    pub(super) fn take_held(&mut self) -> Option<Body> {
        self.is_held.then(|| std::mem::replace(&mut self.body, Body::empty()))
    }

    pub(super) fn body(&self) -> &Body {
        &self.body
    }

    pub(super) fn is_done(&self) -> bool {
        self.is_done
    }

    /// Hands content over until the socket has enough of it. After an error it is not to be polled again.
    pub(super) fn poll(&mut self, stream: &Socket, cx: &mut Context<'_>) -> Poll<Result<(), UploadError>> {
        debug_assert!(!self.is_held, "nobody has asked for it");
        while !self.is_done {
            ready!(stream.poll_write_ready(cx)).map_err(UploadError::Io)?;
            match self.piece.take() {
                Some(piece) => self.write(piece, stream),
                None => match &mut self.body.0 {
                    Content::Empty => self.is_done = true,
                    Content::Bytes(bytes) => {
                        let piece = bytes.split_to(bytes.len().min(PIECE_BYTES_MAX));
                        self.is_done = bytes.is_empty();
                        self.write(piece.into(), stream);
                    }
                    Content::Stream { pieces, length, .. } => {
                        let is_chunked = length.is_none();
                        match ready!(pieces.as_mut().poll_next(cx)) {
                            Some(Ok(piece)) => self.take(piece, is_chunked, stream)?,
                            Some(Err(error)) => return Poll::Ready(Err(UploadError::Content(error))),
                            None => self.end(is_chunked, stream)?,
                        }
                    }
                },
            }
        }
        Poll::Ready(Ok(()))
    }

    /// A piece of the stream. An empty one says nothing: as a chunk it would end the body.
    fn take(&mut self, piece: Data, is_chunked: bool, stream: &Socket) -> Result<(), UploadError> {
        let len = piece.rest().len();
        if let Some(left) = &mut self.left {
            *left = left.checked_sub(len as u64).ok_or_else(|| mismatch("more"))?;
        }
        if is_chunked && len > 0 {
            stream.with_send_buffer(|buffer| drop(write!(buffer, "{len:x}\r\n")));
        }
        if len > 0 {
            self.write(piece, stream);
        }
        Ok(())
    }

    fn write(&mut self, mut piece: Data, stream: &Socket) {
        let count = piece.rest().len().min(PIECE_BYTES_MAX);
        stream.with_send_buffer(|buffer| buffer.extend_from_slice(&piece.rest()[..count]));
        self.sent += count as u64;
        piece.advance(count);
        if !piece.rest().is_empty() {
            self.piece = Some(piece);
        } else if self.body.length().is_none() {
            stream.with_send_buffer(|buffer| buffer.extend_from_slice(b"\r\n"));
        }
    }

    fn end(&mut self, is_chunked: bool, stream: &Socket) -> Result<(), UploadError> {
        if self.left.is_some_and(|left| left > 0) {
            return Err(mismatch("fewer"));
        }
        if is_chunked {
            let trailers = match &mut self.body.0 {
                Content::Stream { trailers, .. } => trailers.take(),
                Content::Empty | Content::Bytes(_) => None,
            };
            // The program's code runs while nothing is lent.
            let trailers = trailers.map_or_else(Trailers::new, |trailers| trailers());
            // Whether another message may follow, the length has told.
            let _ =
                stream.with_send_buffer(|buffer| Outgoing::new(Length::Chunked).finish(buffer, &trailers));
        }
        self.is_done = true;
        Ok(())
    }
}

fn mismatch(how: &str) -> UploadError {
    UploadError::Content(format!("the stream gave {how} bytes than Body::sized announced").into())
}
