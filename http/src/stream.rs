//! Answers whose content is made while it leaves: from a stream, or from memory that is too large to be copied at once.
//!
//! What may be inside is erased here; [`Outgoing`](crate::h1::outgoing::Outgoing) writes it, the connection's pump drives it.
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use futures_core::Stream;
use pin_project_lite::pin_project;

use crate::body::Chunk;
use crate::h1::outgoing::Trailers;

/// A piece of content on its way out.
///
/// Made from what is at hand: [`Bytes`], a [`Chunk`] of a request, text, a vector.
#[derive(Debug)]
pub struct Data(Kind);

#[derive(Debug)]
enum Kind {
    Bytes(Bytes),
    Chunk(Chunk, usize),
}

impl Data {
    /// What is left of it.
    pub(crate) fn rest(&self) -> &[u8] {
        match &self.0 {
            Kind::Bytes(bytes) => bytes,
            Kind::Chunk(chunk, start) => &chunk[*start..],
        }
    }

    /// What is left of it, if it can be given away without a copy.
    pub(crate) fn take_owned(&mut self) -> Option<Bytes> {
        match &mut self.0 {
            Kind::Bytes(bytes) => Some(std::mem::take(bytes)),
            Kind::Chunk(..) => None,
        }
    }

    /// All that is left; a chunk is copied, because it may be a receive buffer of the core's.
    #[cfg(feature = "tower")]
    pub(crate) fn into_bytes(self) -> Bytes {
        match self.0 {
            Kind::Bytes(bytes) => bytes,
            Kind::Chunk(chunk, start) => Bytes::copy_from_slice(&chunk[start..]),
        }
    }

    pub(crate) fn advance(&mut self, count: usize) {
        match &mut self.0 {
            Kind::Bytes(bytes) => bytes.advance(count),
            Kind::Chunk(_, start) => *start += count,
        }
    }
}

impl From<Bytes> for Data {
    fn from(bytes: Bytes) -> Data {
        Data(Kind::Bytes(bytes))
    }
}

impl From<Chunk> for Data {
    fn from(chunk: Chunk) -> Data {
        Data(Kind::Chunk(chunk, 0))
    }
}

impl From<Vec<u8>> for Data {
    fn from(bytes: Vec<u8>) -> Data {
        Data(Kind::Bytes(bytes.into()))
    }
}

impl From<String> for Data {
    fn from(text: String) -> Data {
        Data(Kind::Bytes(text.into()))
    }
}

impl From<&'static str> for Data {
    fn from(text: &'static str) -> Data {
        Data(Kind::Bytes(Bytes::from_static(text.as_bytes())))
    }
}

impl From<&'static [u8]> for Data {
    fn from(bytes: &'static [u8]) -> Data {
        Data(Kind::Bytes(Bytes::from_static(bytes)))
    }
}

/// The content could not be made; what had left stays a beginning.
#[derive(Debug)]
pub(crate) struct Failed;

/// Content that is made while it leaves.
pub(crate) struct Streamed {
    pieces: PieceStream<Failed>,
    /// As announced.
    pub(crate) length: Option<u64>,
    trailers: Option<Box<dyn FnOnce() -> Trailers>>,
}

impl Streamed {
    pub(crate) fn new<S, D, E>(stream: S) -> Streamed
    where
        S: Stream<Item = Result<D, E>> + 'static,
        D: Into<Data>,
    {
        Streamed { pieces: erase(stream, |_| Failed), length: None, trailers: None }
    }

    pub(crate) fn set_trailers(&mut self, trailers: Box<dyn FnOnce() -> Trailers>) {
        self.trailers = Some(trailers);
    }

    /// The next piece, `None` at the end. A panic is a failure, after which this must not be polled again.
    pub(crate) fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Data, Failed>>> {
        // What the stream was doing is dropped with it: nothing broken can be seen afterwards.
        catch_unwind(AssertUnwindSafe(|| self.pieces.as_mut().poll_next(cx)))
            .unwrap_or_else(|_| Poll::Ready(Some(Err(Failed))))
    }

    /// The fields behind the content; a panic leaves none.
    pub(crate) fn take_trailers(&mut self) -> Trailers {
        let Some(trailers) = self.trailers.take() else { return Trailers::new() };
        catch_unwind(AssertUnwindSafe(trailers)).unwrap_or_default()
    }
}

impl fmt::Debug for Streamed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Streamed").field("length", &self.length).finish_non_exhaustive()
    }
}

/// Content in pieces, whatever makes them.
pub(crate) type PieceStream<E> = Pin<Box<dyn Stream<Item = Result<Data, E>>>>;

/// Forgets what `stream` is; `wrong` makes one kind of error of its own.
pub(crate) fn erase<S, D, E, F>(stream: S, wrong: impl FnMut(E) -> F + 'static) -> PieceStream<F>
where
    S: Stream<Item = Result<D, E>> + 'static,
    D: Into<Data>,
{
    Box::pin(Erased { stream, wrong })
}

pin_project! {
    struct Erased<S, W> {
        #[pin]
        stream: S,
        wrong: W,
    }
}

impl<S, W, D, E, F> Stream for Erased<S, W>
where
    S: Stream<Item = Result<D, E>>,
    W: FnMut(E) -> F,
    D: Into<Data>,
{
    type Item = Result<Data, F>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.project();
        let next = ready!(this.stream.poll_next(cx));
        Poll::Ready(next.map(|piece| piece.map(Into::into).map_err(this.wrong)))
    }
}
