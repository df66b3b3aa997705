//! TLS streams behind the traits of futures-io and (feature `tokio-io`) tokio. Closing is [`TlsStream::shutdown`].

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::stream::TlsStream;
use crate::transport::Transport;

macro_rules! futures_io {
    ($([$($generics:tt)*] $type:ty),*) => {$(
        impl<$($generics)*> futures_io::AsyncRead for $type {
            fn poll_read(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                buffer: &mut [u8],
            ) -> Poll<io::Result<usize>> {
                TlsStream::poll_read(&self, cx, buffer)
            }
        }

        impl<$($generics)*> futures_io::AsyncWrite for $type {
            fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
                TlsStream::poll_write(&self, cx, bytes)
            }

            fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                TlsStream::poll_flush(&self, cx)
            }

            fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                TlsStream::poll_shutdown(&self, cx)
            }
        }
    )*};
}

futures_io!([S: Transport] TlsStream<S>, ['a, S: Transport] &'a TlsStream<S>);

#[cfg(feature = "tokio-io")]
mod tokio_io {
    use std::task::ready;

    use tokio::io::ReadBuf;

    use super::*;

    macro_rules! tokio_io {
        ($([$($generics:tt)*] $type:ty),*) => {$(
            impl<$($generics)*> tokio::io::AsyncRead for $type {
                fn poll_read(
                    self: Pin<&mut Self>,
                    cx: &mut Context<'_>,
                    buffer: &mut ReadBuf<'_>,
                ) -> Poll<io::Result<()>> {
                    // rustls reads into initialised memory; it is zeroed once for each `ReadBuf`.
                    let count = ready!(TlsStream::poll_read(&self, cx, buffer.initialize_unfilled()))?;
                    buffer.advance(count);
                    Poll::Ready(Ok(()))
                }
            }

            impl<$($generics)*> tokio::io::AsyncWrite for $type {
                fn poll_write(
                    self: Pin<&mut Self>,
                    cx: &mut Context<'_>,
                    bytes: &[u8],
                ) -> Poll<io::Result<usize>> {
                    TlsStream::poll_write(&self, cx, bytes)
                }

                fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                    TlsStream::poll_flush(&self, cx)
                }

                fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                    TlsStream::poll_shutdown(&self, cx)
                }
            }
        )*};
    }

    tokio_io!([S: Transport] TlsStream<S>, ['a, S: Transport] &'a TlsStream<S>);
}
