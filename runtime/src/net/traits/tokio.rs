//! tokio's traits (feature `tokio-io`): what tokio-util, tonic, sqlx and others read from and write to.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use ::tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::*;

macro_rules! read {
    ([$($generics:tt)*] $type:ty) => {
        impl<$($generics)*> AsyncRead for $type {
            #[inline]
            fn poll_read(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                buffer: &mut ReadBuf<'_>,
            ) -> Poll<io::Result<()>> {
                // `put_slice` copies into memory that need not have been written before.
                let room = buffer.remaining();
                ready!(self.inner().poll_read_with(cx, room, |bytes| buffer.put_slice(bytes)))?;
                Poll::Ready(Ok(()))
            }
        }
    };
}

macro_rules! write {
    ([$($generics:tt)*] $type:ty) => {
        impl<$($generics)*> AsyncWrite for $type {
            #[inline]
            fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
                self.inner().poll_write(cx, bytes)
            }

            fn poll_write_vectored(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                parts: &[IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                super::poll_write_vectored(self.inner(), cx, parts)
            }

            fn is_write_vectored(&self) -> bool {
                true
            }

            #[inline]
            fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                self.inner().poll_flush(cx)
            }

            fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                super::poll_close(self.inner(), cx)
            }
        }
    };
}

for_each_stream!(read, write);
