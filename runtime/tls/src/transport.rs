//! What TLS needs of the stream below it.

use std::future::Future;
use std::io;
use std::net::Shutdown;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use annulet::Lease;
use annulet::net::{TcpStream, UnixStream};

mod sealed {
    pub trait Sealed {}
}

/// A stream that can carry TLS: [`TcpStream`] and [`UnixStream`]. Sealed; the methods are those of the streams.
pub trait Transport: sealed::Sealed {
    #[doc(hidden)]
    fn poll_recv(&self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Lease>>>;
    #[doc(hidden)]
    fn try_recv(&self) -> Option<Lease>;
    #[doc(hidden)]
    fn start_recv(&self);
    #[doc(hidden)]
    fn with_send_buffer<R>(&self, f: impl FnOnce(&mut Vec<u8>) -> R) -> R;
    #[doc(hidden)]
    fn send_buffered(&self) -> usize;
    #[doc(hidden)]
    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    #[doc(hidden)]
    fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    #[doc(hidden)]
    fn set_recv_deadline(&self, deadline: Option<Instant>);
    #[doc(hidden)]
    fn shutdown(&self, how: Shutdown) -> io::Result<()>;
    #[doc(hidden)]
    fn close(self, linger: Duration) -> impl Future<Output = io::Result<()>>;
}

macro_rules! transport {
    ($type:ident) => {
        impl sealed::Sealed for $type {}

        impl Transport for $type {
            #[inline]
            fn poll_recv(&self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Lease>>> {
                $type::poll_recv(self, cx)
            }

            fn try_recv(&self) -> Option<Lease> {
                $type::try_recv(self)
            }

            fn start_recv(&self) {
                $type::start_recv(self);
            }

            #[inline]
            fn with_send_buffer<R>(&self, f: impl FnOnce(&mut Vec<u8>) -> R) -> R {
                $type::with_send_buffer(self, f)
            }

            fn send_buffered(&self) -> usize {
                $type::send_buffered(self)
            }

            fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                $type::poll_write_ready(self, cx)
            }

            fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                $type::poll_flush(self, cx)
            }

            fn set_recv_deadline(&self, deadline: Option<Instant>) {
                $type::set_recv_deadline(self, deadline);
            }

            fn shutdown(&self, how: Shutdown) -> io::Result<()> {
                $type::shutdown(self, how)
            }

            fn close(self, linger: Duration) -> impl Future<Output = io::Result<()>> {
                $type::close(self, linger)
            }
        }
    };
}

transport!(TcpStream);
transport!(UnixStream);
