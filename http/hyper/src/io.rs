//! Streams for hyper.
//!
//! hyper lends uninitialised memory; it is written with `put_slice` only, out of a received buffer, so nothing here has to be
//! believed about it.
use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use annulet::net::{TcpStream, UnixStream};
#[cfg(feature = "tls")]
use annulet_tls::TlsStream;
use futures_io::AsyncWrite;
use hyper::rt::{Read, ReadBufCursor, Write};
use send_wrapper::SendWrapper;

use crate::protocol::Prefix;

mod sealed {
    pub trait Sealed {}
}

/// A stream that hyper can have: TCP, Unix, or TLS over one of them. Sealed.
pub trait Transport: sealed::Sealed + AsyncWrite + Unpin + 'static {
    #[doc(hidden)]
    const IS_WRITE_VECTORED: bool;
    #[doc(hidden)]
    fn poll_read_with(
        &self,
        cx: &mut Context<'_>,
        count_max: usize,
        take: impl FnOnce(&[u8]),
    ) -> Poll<io::Result<usize>>;
    #[doc(hidden)]
    fn set_recv_deadline(&self, deadline: Option<Instant>);
    /// What was agreed upon by ALPN.
    #[doc(hidden)]
    fn alpn(&self) -> Option<&[u8]> {
        None
    }
    /// What the handshake came to, where TLS is spoken.
    #[cfg(feature = "tls")]
    #[doc(hidden)]
    fn tls_info(&self) -> Option<annulet_tls::TlsInfo> {
        None
    }
}

macro_rules! transport {
    ([$($generics:tt)*] $type:ty, $is_vectored:literal $(, $known:item)*) => {
        impl<$($generics)*> sealed::Sealed for $type {}

        impl<$($generics)*> Transport for $type {
            const IS_WRITE_VECTORED: bool = $is_vectored;

            #[inline]
            fn poll_read_with(
                &self,
                cx: &mut Context<'_>,
                count_max: usize,
                take: impl FnOnce(&[u8]),
            ) -> Poll<io::Result<usize>> {
                <$type>::poll_read_with(self, cx, count_max, take)
            }

            fn set_recv_deadline(&self, deadline: Option<Instant>) {
                <$type>::set_recv_deadline(self, deadline);
            }

            $($known)*
        }
    };
}

transport!([] TcpStream, true);
transport!([] UnixStream, true);
// One part after the other would be a record each.
#[cfg(feature = "tls")]
transport!([S: annulet_tls::Transport + Unpin + 'static] TlsStream<S>, false, fn alpn(&self) -> Option<&[u8]> {
    TlsStream::alpn(self)
}, fn tls_info(&self) -> Option<annulet_tls::TlsInfo> {
    Some(self.info())
});

/// A stream of annulet's behind hyper's traits.
///
/// Written bytes leave at the end of the loop's turn, all of them in one send. A flush therefore does not wait: it would put a turn
/// between two answers to a client that pipelines. That the peer does not read is seen where it is with every socket: a write
/// waits when 64 KiB are gathered. An error shows at the next write or at the shutdown.
///
/// hyper's upgrades ask for `Send`, so this is `Send`; using or dropping it on another thread than its loop's panics.
pub struct Io<S> {
    stream: SendWrapper<S>,
    /// Read before hyper was asked.
    prefix: Prefix,
}

impl<S: Transport> Io<S> {
    /// For hyper's `serve_connection` and `handshake`.
    pub fn new(stream: S) -> Io<S> {
        Io::with_prefix(stream, Prefix::default())
    }

    pub(crate) fn with_prefix(stream: S, prefix: Prefix) -> Io<S> {
        Io { stream: SendWrapper::new(stream), prefix }
    }

    /// The stream itself, after an upgrade for example (`hyper::upgrade::Upgraded::downcast`). Bytes that hyper has read are its to
    /// give back.
    ///
    /// # Panics
    ///
    /// On another thread than its loop's.
    #[must_use]
    pub fn into_inner(self) -> S {
        self.stream.take()
    }
}

impl<S: Transport> Read for Io<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let room = buffer.remaining();
        if !self.prefix.is_empty() {
            buffer.put_slice(self.prefix.take(room));
            return Poll::Ready(Ok(()));
        }
        ready!(self.stream.poll_read_with(cx, room, |bytes| buffer.put_slice(bytes)))?;
        Poll::Ready(Ok(()))
    }
}

impl<S: Transport> Write for Io<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        S::IS_WRITE_VECTORED
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_close(cx)
    }
}

impl<S> fmt::Debug for Io<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Io").finish_non_exhaustive()
    }
}
