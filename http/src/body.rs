//! The content of a request, as its handler reads it. Where the bytes come from is behind [`Source`].
use std::ops::Deref;
use std::pin::Pin;
#[cfg(feature = "tower")]
use std::rc::Rc;
use std::rc::Weak;
use std::task::{Context, Poll};

use annulet::Lease;
use bytes::Bytes;

use crate::Error;
use crate::h1::outgoing::Trailers;
use crate::recycle::Buffer;

/// A piece of content.
///
/// It may hold a receive buffer of the core's pool: use it and let it go.
#[derive(Debug)]
pub struct Chunk(pub(crate) Piece);

#[derive(Debug)]
pub(crate) enum Piece {
    Leased(Lease),
    Copied(Buffer),
    #[cfg(feature = "tls")]
    Decrypted(annulet_tls::Plaintext),
}

impl Deref for Chunk {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Piece::Leased(lease) => lease,
            Piece::Copied(buffer) => buffer,
            #[cfg(feature = "tls")]
            Piece::Decrypted(plaintext) => plaintext,
        }
    }
}

impl Chunk {
    /// Drops the first `count` bytes from view.
    pub(crate) fn advance(&mut self, count: usize) {
        match &mut self.0 {
            Piece::Leased(lease) => lease.advance(count),
            Piece::Copied(buffer) => drop(buffer.drain(..count)),
            #[cfg(feature = "tls")]
            Piece::Decrypted(plaintext) => plaintext.advance(count),
        }
    }
}

impl AsRef<[u8]> for Chunk {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

/// What delivers content: the connection.
pub(crate) trait Source {
    /// The next piece of the body for this claim, `None` at its end.
    fn poll_chunk(&self, claim: u32, cx: &mut Context<'_>) -> Poll<Result<Option<Chunk>, Error>>;

    /// The fields behind the body of this claim, once all of it has been read.
    fn trailers(&self, claim: u32) -> Trailers;

    /// So much of the content is kept in memory.
    fn hold(&self, bytes: usize) -> Result<(), Error>;

    /// Who has asked for more with this claim, in vain, does not wait for it any more.
    fn give_up(&self, _claim: u32) {}
}

/// A request's claim on the content that follows its head. A connection is not kept by it: who keeps a request keeps no socket, and
/// nothing that is counted for it.
pub(crate) struct Body {
    source: Kept,
    /// Which request of the connection this is: a claim that outlives its answer reads nothing of the next.
    claim: u32,
}

enum Kept {
    /// Its task keeps it as long as it is open.
    Connection(Weak<dyn Source>),
    /// Nobody else does.
    #[cfg(feature = "tower")]
    Here(Rc<dyn Source>),
}

impl Body {
    pub(crate) fn of_connection(connection: Weak<dyn Source>, claim: u32) -> Body {
        Body { source: Kept::Connection(connection), claim }
    }

    #[cfg(feature = "tower")]
    pub(crate) fn of(source: Rc<dyn Source>) -> Body {
        Body { source: Kept::Here(source), claim: 0 }
    }

    /// What `call` says of the source, `None` if that is over.
    fn with<R>(&self, call: impl FnOnce(&dyn Source) -> R) -> Option<R> {
        match &self.source {
            Kept::Connection(connection) => connection.upgrade().map(|connection| call(&*connection)),
            #[cfg(feature = "tower")]
            Kept::Here(source) => Some(call(&**source)),
        }
    }

    pub(crate) fn poll_chunk(&self, cx: &mut Context<'_>) -> Poll<Result<Option<Chunk>, Error>> {
        let polled = self.with(|source| source.poll_chunk(self.claim, cx));
        polled.unwrap_or_else(|| Poll::Ready(Err(Error::gone())))
    }

    /// As `poll_chunk`. A future that is dropped before it is ready gives up, so that what is done meanwhile is not the client's time.
    pub(crate) fn chunk(&self) -> Wait<'_> {
        Wait { body: self, waits: false }
    }

    pub(crate) fn trailers(&self) -> Trailers {
        self.with(|source| source.trailers(self.claim)).unwrap_or_default()
    }

    /// So much of the content is kept in memory.
    ///
    /// # Errors
    ///
    /// When the core holds too much.
    pub(crate) fn hold(&self, bytes: usize) -> Result<(), Error> {
        self.with(|source| source.hold(bytes)).unwrap_or_else(|| Err(Error::gone()))
    }
}

/// See [`Body::chunk`].
pub(crate) struct Wait<'a> {
    body: &'a Body,
    waits: bool,
}

impl Future for Wait<'_> {
    type Output = Result<Option<Chunk>, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let polled = self.body.poll_chunk(cx);
        self.waits = polled.is_pending();
        polled
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        if self.waits {
            self.body.with(|source| source.give_up(self.body.claim));
        }
    }
}

/// Collects pieces up to a limit.
#[derive(Default)]
pub(crate) struct Collector {
    bytes: Buffer,
}

impl Collector {
    /// # Errors
    ///
    /// When there is more than `limit` bytes.
    pub(crate) fn push(&mut self, chunk: &Chunk, limit: usize) -> Result<(), Error> {
        if chunk.len() > limit - self.bytes.len() {
            return Err(crate::h1::Refusal::BodyTooLarge.into());
        }
        self.bytes.extend_from_slice(chunk);
        Ok(())
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn finish(self) -> Bytes {
        self.bytes.into_vec().into()
    }
}
