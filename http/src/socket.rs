//! A connection that HTTP has left, or that a client holds: plain or TLS, behind one type.
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use annulet::net::TcpStream;
#[cfg(feature = "tls")]
use annulet_tls::TlsStream;
use futures_io::{AsyncRead, AsyncWrite};

use crate::body::Chunk;
use crate::transport::{Received, Transport};

/// A connected stream with or without TLS. Methods are those of [`TcpStream`], and take `&self`, but for [`shutdown`](Self::shutdown), which is awaited; it has the traits of
/// `futures-io` too.
///
/// # Cancel safety
///
/// As of [`TcpStream`]: a dropped wait loses no byte.
pub struct Socket(Kind);

enum Kind {
    Plain(TcpStream),
    // Smaller than it looks: a session is behind a pointer of its own.
    #[cfg(feature = "tls")]
    Secure(TlsStream),
}

/// Calls the method of whichever stream it is.
macro_rules! either {
    ($socket:expr, $stream:ident => $call:expr) => {
        match &$socket.0 {
            Kind::Plain($stream) => $call,
            #[cfg(feature = "tls")]
            Kind::Secure($stream) => $call,
        }
    };
}

impl From<TcpStream> for Socket {
    fn from(stream: TcpStream) -> Socket {
        Socket(Kind::Plain(stream))
    }
}

#[cfg(feature = "tls")]
impl From<TlsStream> for Socket {
    fn from(stream: TlsStream) -> Socket {
        Socket(Kind::Secure(stream))
    }
}

impl Socket {
    /// Whether it speaks TLS.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        match &self.0 {
            Kind::Plain(_) => false,
            #[cfg(feature = "tls")]
            Kind::Secure(_) => true,
        }
    }

    /// The TLS stream, if it is one: for the peer's certificates and what was agreed upon.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn tls(&self) -> Option<&TlsStream> {
        match &self.0 {
            Kind::Plain(_) => None,
            Kind::Secure(stream) => Some(stream),
        }
    }

    /// The socket below: for its options. Under TLS, reading from it or writing to it destroys the connection.
    #[must_use]
    pub fn tcp(&self) -> &TcpStream {
        match &self.0 {
            Kind::Plain(stream) => stream,
            #[cfg(feature = "tls")]
            Kind::Secure(stream) => stream.get_ref(),
        }
    }

    /// The socket itself, if TLS is not spoken on it.
    ///
    /// # Errors
    ///
    /// This stream, if it is.
    pub fn into_tcp(self) -> Result<TcpStream, Socket> {
        match self.0 {
            Kind::Plain(stream) => Ok(stream),
            #[cfg(feature = "tls")]
            Kind::Secure(stream) => Err(stream.into()),
        }
    }

    /// Who is on the other side.
    ///
    /// # Errors
    ///
    /// What getpeername(2) says.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.tcp().peer_addr()
    }

    /// The next received bytes; `None` at the end of the stream.
    ///
    /// # Errors
    ///
    /// As [`TcpStream::recv`] and, under TLS, [`TlsStream::recv`](annulet_tls::TlsStream::recv).
    pub async fn recv(&self) -> io::Result<Option<Chunk>> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// The polling form of [`recv`](Self::recv). Only the task that polled last is woken.
    pub fn poll_recv(&self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Chunk>>> {
        either!(self, stream => stream.poll_recv(cx).map_ok(|received| received.map(Received::into_chunk)))
    }

    /// What has been received already; an error or the end is for `poll_recv` to tell.
    pub(crate) fn try_recv(&self) -> Option<Chunk> {
        match &self.0 {
            Kind::Plain(stream) => stream.try_recv().map(Received::into_chunk),
            #[cfg(feature = "tls")]
            Kind::Secure(stream) => stream.try_recv()?.ok().map(Received::into_chunk),
        }
    }

    /// Reads into `buffer`; 0 at the end of the stream (or for an empty buffer).
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    pub async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        poll_fn(|cx| self.poll_read(cx, buffer)).await
    }

    /// The polling form of [`read`](Self::read).
    pub fn poll_read(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        either!(self, stream => stream.poll_read(cx, buffer))
    }

    /// Appends to the send buffer with `f`; see [`TcpStream::with_send_buffer`].
    pub fn with_send_buffer<R>(&self, f: impl FnOnce(&mut Vec<u8>) -> R) -> R {
        either!(self, stream => stream.with_send_buffer(f))
    }

    /// Bytes that were written and not yet taken by the kernel; under TLS they are encrypted.
    #[must_use]
    pub fn send_buffered(&self) -> usize {
        either!(self, stream => stream.send_buffered())
    }

    /// The polling form of waiting until fewer than 64 KiB wait for the kernel.
    pub fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => stream.poll_write_ready(cx))
    }

    /// Writes all of `bytes`. They are copied, so the slice is free when this returns; the kernel has them after
    /// [`flush`](Self::flush).
    ///
    /// # Errors
    ///
    /// The error that ended the connection or sending.
    ///
    /// # Cancel safety
    ///
    /// None: how many bytes were written before the drop is not told.
    pub async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let count = poll_fn(|cx| self.poll_write(cx, bytes)).await?;
            bytes = &bytes[count..];
        }
        Ok(())
    }

    /// Writes some of `bytes`: as much as fits below the high-water mark of 64 KiB. Gives the count.
    pub fn poll_write(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        either!(self, stream => stream.poll_write(cx, bytes))
    }

    /// Waits until the kernel has taken every written byte.
    ///
    /// # Errors
    ///
    /// The error that ended the connection or sending.
    pub async fn flush(&self) -> io::Result<()> {
        poll_fn(|cx| self.poll_flush(cx)).await
    }

    /// The polling form of [`flush`](Self::flush). Only the task that polled last is woken.
    pub fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => stream.poll_flush(cx))
    }

    /// From `deadline` on, waiting for bytes fails with `TimedOut`, until another deadline is set; `None` for never.
    pub fn set_recv_deadline(&self, deadline: Option<Instant>) {
        either!(self, stream => stream.set_recv_deadline(deadline));
    }

    /// Ends this side: what was written leaves, then its end. The peer's side stays open for reading.
    ///
    /// # Errors
    ///
    /// The error that ended the connection or sending.
    pub async fn shutdown(&self) -> io::Result<()> {
        self.flush().await?;
        poll_fn(|cx| self.poll_shutdown(cx)).await
    }

    /// As `shutdown`. TLS says its last word at the first call, in whatever state the rest is.
    pub(crate) fn poll_shutdown(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => Transport::poll_shutdown(stream, cx))
    }

    /// Ends the connection in order; see [`TcpStream::close`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn close(self, linger: Duration) -> io::Result<()> {
        match self.0 {
            Kind::Plain(stream) => stream.close(linger).await,
            #[cfg(feature = "tls")]
            Kind::Secure(stream) => stream.close(linger).await,
        }
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        either!(self, stream => fmt::Debug::fmt(stream, f))
    }
}

macro_rules! futures_io {
    ($($type:ty),*) => {$(
        impl AsyncRead for $type {
            fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
                Socket::poll_read(&self, cx, buffer)
            }
        }

        impl AsyncWrite for $type {
            fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
                Socket::poll_write(&self, cx, bytes)
            }

            fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                Socket::poll_flush(&self, cx)
            }

            fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                std::task::ready!(Socket::poll_flush(&self, cx))?;
                either!(*self, stream => Transport::poll_shutdown(stream, cx))
            }
        }
    )*};
}

futures_io!(Socket, &Socket);
