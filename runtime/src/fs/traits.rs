//! The cursor of a file behind the traits of futures-io and tokio.
//!
//! Sound with borrowed buffers, because the kernel never sees them (see `stream`). Flushing waits until the kernel has
//! taken every byte; so does closing, and the drop closes.

use std::io::{self, SeekFrom};
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_io::{AsyncRead, AsyncSeek, AsyncWrite};

use super::File;

impl AsyncRead for File {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        File::poll_read(self.get_mut(), cx, buffer)
    }
}

impl AsyncWrite for File {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        File::poll_write(self.get_mut(), cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        File::poll_flush(self.get_mut(), cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        File::poll_flush(self.get_mut(), cx)
    }
}

impl AsyncSeek for File {
    fn poll_seek(self: Pin<&mut Self>, cx: &mut Context<'_>, to: SeekFrom) -> Poll<io::Result<u64>> {
        File::poll_seek(self.get_mut(), cx, to)
    }
}

/// tokio's traits (feature `tokio-io`).
#[cfg(feature = "tokio-io")]
mod tokio {
    use std::task::ready;

    use ::tokio::io::{AsyncRead, AsyncSeek, AsyncWrite, ReadBuf};

    use super::*;

    impl AsyncRead for File {
        fn poll_read(
            self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            let count = ready!(File::poll_read(self.get_mut(), cx, buffer.initialize_unfilled()))?;
            buffer.advance(count);
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncWrite for File {
        fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            File::poll_write(self.get_mut(), cx, bytes)
        }

        fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            File::poll_flush(self.get_mut(), cx)
        }

        fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            File::poll_flush(self.get_mut(), cx)
        }
    }

    impl AsyncSeek for File {
        fn start_seek(self: Pin<&mut Self>, to: SeekFrom) -> io::Result<()> {
            self.get_mut().seek_to = Some(to);
            Ok(())
        }

        /// Without a seek that was started: where the cursor is.
        fn poll_complete(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<u64>> {
            let file = self.get_mut();
            let place = ready!(File::poll_seek(file, cx, file.seek_to.unwrap_or(SeekFrom::Current(0))));
            file.seek_to = None;
            Poll::Ready(place)
        }
    }
}
