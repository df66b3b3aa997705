//! A buffer in front of a writer.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_io::AsyncWrite;

/// What is gathered before it is written.
const BUFFER_BYTES: usize = 8 * 1024;

/// Gathers small writes into large ones.
///
/// Bytes stay in it until the buffer is full or [`flush`](Self::flush) is awaited; dropping it loses them. This crate's
/// sockets gather by themselves and need no such buffer: it is for files and for writers of other crates.
///
/// # Examples
///
/// ```
/// use annulet::io::BufWriter;
///
/// annulet::run(async {
///     let mut writer = BufWriter::new(Vec::new());
///     writer.write_all(b"one, ").await.unwrap();
///     writer.write_all(b"two").await.unwrap();
///     assert!(writer.get_ref().is_empty(), "still in the buffer");
///     writer.flush().await.unwrap();
///     assert_eq!(writer.get_ref(), b"one, two");
/// });
/// ```
pub struct BufWriter<W> {
    inner: W,
    buffer: Vec<u8>,
    /// Bytes of `buffer` that the writer has taken.
    written: usize,
    capacity: usize,
}

impl<W> BufWriter<W> {
    /// A writer with a buffer of 8 KiB, which is allocated when it is written to.
    pub fn new(inner: W) -> Self {
        Self::with_capacity(BUFFER_BYTES, inner)
    }

    /// A writer with a buffer of `capacity` bytes. With zero nothing is gathered.
    pub fn with_capacity(capacity: usize, inner: W) -> Self {
        BufWriter { inner, buffer: Vec::new(), written: 0, capacity }
    }

    /// Bytes that the writer has not taken.
    pub fn buffer(&self) -> &[u8] {
        &self.buffer[self.written..]
    }

    /// What it writes to.
    pub fn get_ref(&self) -> &W {
        &self.inner
    }

    /// What it writes to. Writing to it beside the buffer mixes the bytes up.
    pub fn get_mut(&mut self) -> &mut W {
        &mut self.inner
    }

    /// What it writes to. Bytes of the [`buffer`](Self::buffer) are lost: flush first.
    pub fn into_inner(self) -> W {
        self.inner
    }
}

impl<W: AsyncWrite + Unpin> BufWriter<W> {
    /// Writes some of `bytes`; gives the count.
    ///
    /// # Errors
    ///
    /// What the writer says.
    ///
    /// # Cancel safety
    ///
    /// A dropped wait has written nothing of `bytes`.
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        poll_fn(|cx| Pin::new(&mut *self).poll_write(cx, bytes)).await
    }

    /// Writes all of `bytes`.
    ///
    /// # Errors
    ///
    /// What the writer says; `WriteZero` when it takes nothing more.
    ///
    /// # Cancel safety
    ///
    /// None: how many bytes were written before the drop is not told.
    pub async fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.write(bytes).await? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                count => bytes = &bytes[count..],
            }
        }
        Ok(())
    }

    /// Writes what is in the buffer, and flushes the writer.
    ///
    /// # Errors
    ///
    /// What the writer says. What it did not take stays in the buffer.
    ///
    /// # Cancel safety
    ///
    /// A dropped wait loses no byte.
    pub async fn flush(&mut self) -> io::Result<()> {
        poll_fn(|cx| Pin::new(&mut *self).poll_flush(cx)).await
    }

    /// Flushes, and ends the stream: the peer sees its end.
    ///
    /// # Errors
    ///
    /// What the writer says.
    ///
    /// # Cancel safety
    ///
    /// A dropped wait loses no byte.
    pub async fn close(&mut self) -> io::Result<()> {
        poll_fn(|cx| Pin::new(&mut *self).poll_close(cx)).await
    }

    /// Hands the buffer to the writer.
    fn poll_empty(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.buffer.len() {
            match ready!(Pin::new(&mut self.inner).poll_write(cx, &self.buffer[self.written..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => self.written += count,
            }
        }
        self.buffer.clear();
        self.written = 0;
        Poll::Ready(Ok(()))
    }
}

impl<W: AsyncWrite + Unpin> AsyncWrite for BufWriter<W> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.buffer.len() + bytes.len() > self.capacity {
            ready!(self.poll_empty(cx))?;
        }
        if bytes.len() >= self.capacity {
            return Pin::new(&mut self.inner).poll_write(cx, bytes);
        }
        if self.buffer.capacity() == 0 {
            let capacity = self.capacity;
            self.buffer.reserve_exact(capacity);
        }
        self.buffer.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_empty(cx))?;
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_empty(cx))?;
        Pin::new(&mut self.inner).poll_close(cx)
    }
}

impl<W: fmt::Debug> fmt::Debug for BufWriter<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BufWriter")
            .field("inner", &self.inner)
            .field("buffered", &self.buffer().len())
            .finish_non_exhaustive()
    }
}
