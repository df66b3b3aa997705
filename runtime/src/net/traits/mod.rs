//! The byte streams behind the traits that other crates know.
//!
//! Sound with borrowed buffers, because the kernel never sees them: reading copies out of a received buffer, writing copies
//! into the stream's send buffer. Flushing waits until the kernel has taken every byte that was written; closing flushes,
//! then sends the end of the stream (a FIN), and leaves the reading side open.

mod futures;
#[cfg(feature = "tokio-io")]
mod tokio;

use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::task::{Context, Poll, ready};

use super::split::{OwnedReadHalf, OwnedWriteHalf, ReadHalf, WriteHalf};
use super::stream::Stream;
use super::{TcpStream, UnixStream};
use crate::net::ByteStream;

/// Calls `$implement` for every type that reads, and for every type that writes.
macro_rules! for_each_stream {
    ($read:ident, $write:ident) => {
        $read!([] TcpStream);
        $read!(['a] &'a TcpStream);
        $read!([] UnixStream);
        $read!(['a] &'a UnixStream);
        $read!(['a, S: ByteStream] ReadHalf<'a, S>);
        $read!([S: ByteStream] OwnedReadHalf<S>);
        $write!([] TcpStream);
        $write!(['a] &'a TcpStream);
        $write!([] UnixStream);
        $write!(['a] &'a UnixStream);
        $write!(['a, S: ByteStream] WriteHalf<'a, S>);
        $write!([S: ByteStream] OwnedWriteHalf<S>);
    };
}

use for_each_stream;

/// The stream that does the work.
trait Inner {
    fn inner(&self) -> &Stream;
}

macro_rules! inner {
    ([$($generics:tt)*] $type:ty) => {
        impl<$($generics)*> Inner for $type {
            #[inline]
            fn inner(&self) -> &Stream {
                self.stream()
            }
        }
    };
}

macro_rules! inner_of_half {
    ($($type:ty),*) => {$(
        impl<S: ByteStream> Inner for $type {
            #[inline]
            fn inner(&self) -> &Stream {
                ByteStream::stream(self.as_ref())
            }
        }
    )*};
}

inner!([] TcpStream);
inner!([] UnixStream);
inner!(['a] &'a TcpStream);
inner!(['a] &'a UnixStream);
inner_of_half!(ReadHalf<'_, S>, WriteHalf<'_, S>, OwnedReadHalf<S>, OwnedWriteHalf<S>);

/// Writes some of `parts`, as many as there is room for.
fn poll_write_vectored(
    stream: &Stream,
    cx: &mut Context<'_>,
    parts: &[IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    ready!(stream.poll_write_ready(cx))?;
    let room = stream.write_room();
    let mut written = 0;
    stream.with_send_buffer(|buffer| {
        for part in parts {
            let fitting = part.len().min(room - written);
            buffer.extend_from_slice(&part[..fitting]);
            written += fitting;
        }
    });
    Poll::Ready(Ok(written))
}

/// Flushes, then ends the writing side.
fn poll_close(stream: &Stream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
    ready!(stream.poll_flush(cx))?;
    Poll::Ready(match stream.shutdown(Shutdown::Write) {
        // Ended already, by a reset or by both sides (shutdown(2): ENOTCONN).
        Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
        result => result,
    })
}
