//! A buffer in front of a reader.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_io::{AsyncBufRead, AsyncRead};

use super::Lines;

/// The longest line that a [`BufReader`] takes unless it is told otherwise. Arbitrary: lines that people write are shorter,
/// and a peer that sends none cannot take more than this of memory.
pub const LINE_BYTES_MAX: usize = 64 * 1024;

/// What is read at a time, and kept.
const BUFFER_BYTES: usize = 8 * 1024;

/// Reads in large pieces and gives them out in lines, parts or bytes.
///
/// A line that has not come to its end stays in the buffer, so that a dropped wait loses nothing of it. The buffer grows
/// for it, up to a limit ([`line_limit`](Self::line_limit), [`LINE_BYTES_MAX`] by default).
///
/// # Examples
///
/// ```
/// use annulet::io::BufReader;
///
/// annulet::run(async {
///     let mut reader = BufReader::new(&b"GET /\n\nbody"[..]);
///     let mut line = String::new();
///     assert_eq!(reader.read_line(&mut line).await.unwrap(), 6);
///     assert_eq!(line, "GET /\n");
///     assert_eq!(reader.read_line(&mut line).await.unwrap(), 1);
///     let mut body = Vec::new();
///     reader.read_to_end(&mut body, 1024).await.unwrap();
///     assert_eq!(body, b"body");
/// });
/// ```
pub struct BufReader<R> {
    inner: R,
    /// Its length is what can be read into; bytes of `start..end` are there and not given out.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// This many of them are no `searched_for`.
    searched: usize,
    searched_for: u8,
    /// The usual length of `buffer`.
    capacity: usize,
    line_limit: usize,
}

impl<R> BufReader<R> {
    /// A reader with a buffer of 8 KiB, which is allocated when it is read from.
    pub fn new(inner: R) -> Self {
        Self::with_capacity(BUFFER_BYTES, inner)
    }

    /// A reader with a buffer of `capacity` bytes, at least one.
    pub fn with_capacity(capacity: usize, inner: R) -> Self {
        BufReader {
            inner,
            buffer: Vec::new(),
            start: 0,
            end: 0,
            searched: 0,
            searched_for: 0,
            capacity: capacity.max(1),
            line_limit: LINE_BYTES_MAX,
        }
    }

    /// Sets the length beyond which a line (or what [`read_until`](Self::read_until) reads), without the byte that ends
    /// it, is an error.
    #[must_use = "it gives the reader back"]
    pub fn line_limit(mut self, bytes: usize) -> Self {
        self.line_limit = bytes;
        self
    }

    /// Bytes that were read and not given out.
    pub fn buffer(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Marks `count` bytes of [`buffer`](Self::buffer) as given out.
    ///
    /// # Panics
    ///
    /// When there are fewer.
    #[track_caller]
    pub fn consume(&mut self, count: usize) {
        assert!(count <= self.end - self.start, "consumed more than the buffer holds");
        self.start += count;
        self.searched = self.searched.saturating_sub(count);
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            if self.buffer.len() > self.capacity {
                // It grew for a long line.
                self.buffer.truncate(self.capacity);
                self.buffer.shrink_to_fit();
            }
        }
    }

    /// What it reads from.
    pub fn get_ref(&self) -> &R {
        &self.inner
    }

    /// What it reads from. Reading from it beside the buffer mixes the bytes up.
    pub fn get_mut(&mut self) -> &mut R {
        &mut self.inner
    }

    /// What it reads from. Bytes of the [`buffer`](Self::buffer) are lost.
    pub fn into_inner(self) -> R {
        self.inner
    }
}

impl<R: AsyncRead + Unpin> BufReader<R> {
    /// Waits for bytes, if there are none, and shows them; none at the end of the stream. [`consume`](Self::consume)
    /// takes them.
    ///
    /// # Errors
    ///
    /// What the reader says.
    ///
    /// # Cancel safety
    ///
    /// A dropped wait loses no byte.
    pub async fn fill_buf(&mut self) -> io::Result<&[u8]> {
        poll_fn(|cx| self.poll_fill(cx)).await?;
        Ok(self.buffer())
    }

    /// Reads into `buffer`; 0 at the end of the stream.
    ///
    /// # Errors
    ///
    /// What the reader says.
    ///
    /// # Cancel safety
    ///
    /// A dropped wait loses no byte.
    pub async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        poll_fn(|cx| Pin::new(&mut *self).poll_read(cx, buffer)).await
    }

    /// Fills `buffer`.
    ///
    /// # Errors
    ///
    /// What the reader says; `UnexpectedEof` when the stream ends first.
    ///
    /// # Cancel safety
    ///
    /// None: how many bytes of `buffer` were filled before the drop is not told.
    pub async fn read_exact(&mut self, mut buffer: &mut [u8]) -> io::Result<()> {
        while !buffer.is_empty() {
            match self.read(buffer).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => buffer = &mut buffer[count..],
            }
        }
        Ok(())
    }

    /// Appends what comes up to and with the first `byte` to `out`; gives the count. The last part may end without it;
    /// 0 at the end of the stream.
    ///
    /// # Errors
    ///
    /// What the reader says; `InvalidData` when it is longer than [`line_limit`](Self::line_limit). Then nothing is taken.
    ///
    /// # Cancel safety
    ///
    /// A dropped wait loses no byte: nothing is appended before the part is complete.
    pub async fn read_until(&mut self, byte: u8, out: &mut Vec<u8>) -> io::Result<usize> {
        let count = poll_fn(|cx| self.poll_find(cx, byte)).await?;
        out.extend_from_slice(&self.buffer()[..count]);
        self.consume(count);
        Ok(count)
    }

    /// Appends the next line, with its end, to `out`; gives the count in bytes. The last line may have no end; 0 at the end
    /// of the stream.
    ///
    /// # Errors
    ///
    /// What the reader says; `InvalidData` when the line is longer than [`line_limit`](Self::line_limit) or is not UTF-8.
    /// Then nothing is taken.
    ///
    /// # Cancel safety
    ///
    /// A dropped wait loses no byte.
    pub async fn read_line(&mut self, out: &mut String) -> io::Result<usize> {
        let count = poll_fn(|cx| self.poll_find(cx, b'\n')).await?;
        out.push_str(utf8(&self.buffer()[..count])?);
        self.consume(count);
        Ok(count)
    }

    /// Appends the rest of the stream, at most `limit` bytes, to `out`; gives the count.
    ///
    /// # Errors
    ///
    /// What the reader says; `InvalidData` when there are more than `limit` bytes. `out` has what was read before.
    ///
    /// # Cancel safety
    ///
    /// A dropped wait loses no byte: `out` has what was read.
    pub async fn read_to_end(&mut self, out: &mut Vec<u8>, limit: usize) -> io::Result<usize> {
        let mut count = 0;
        loop {
            let bytes = self.fill_buf().await?;
            if bytes.is_empty() {
                return Ok(count);
            }
            let fitting = bytes.len().min(limit - count);
            out.extend_from_slice(&bytes[..fitting]);
            let is_too_long = fitting < bytes.len();
            self.consume(fitting);
            count += fitting;
            if is_too_long {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("the stream goes on beyond {limit} bytes, the limit given to read_to_end"),
                ));
            }
        }
    }

    /// The lines of the stream, without their ends; also a [`Stream`](crate::stream::Stream).
    pub fn lines(self) -> Lines<R> {
        Lines::new(self)
    }

    /// The length of what comes up to and with `byte`, once it is in the buffer; of the rest at the end of the stream.
    pub(super) fn poll_find(&mut self, cx: &mut Context<'_>, byte: u8) -> Poll<io::Result<usize>> {
        if self.searched_for != byte {
            (self.searched, self.searched_for) = (0, byte);
        }
        loop {
            let found = memchr::memchr(byte, &self.buffer()[self.searched..]);
            let len = found.map_or(self.buffer().len(), |place| self.searched + place);
            if len > self.line_limit {
                return Poll::Ready(Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!(
                        "a line is longer than {} bytes; BufReader::line_limit sets the bound",
                        self.line_limit
                    ),
                )));
            }
            if found.is_some() {
                return Poll::Ready(Ok(len + 1));
            }
            self.searched = len;
            if ready!(self.poll_more(cx))? == 0 {
                return Poll::Ready(Ok(len));
            }
        }
    }

    /// Waits for bytes if there are none.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.start == self.end {
            ready!(self.poll_more(cx))?;
        }
        Poll::Ready(Ok(()))
    }

    /// Reads more behind what there is; gives the count, 0 at the end of the stream.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.end == self.buffer.len() {
            if self.start > 0 && self.start >= self.buffer.len() / 2 {
                self.buffer.copy_within(self.start..self.end, 0);
                (self.start, self.end) = (0, self.end - self.start);
            } else {
                // Twice as much, so that a long line is copied a bounded number of times. `line_limit` bounds it.
                self.buffer.resize((2 * self.buffer.len()).max(self.capacity), 0);
            }
        }
        let count = ready!(Pin::new(&mut self.inner).poll_read(cx, &mut self.buffer[self.end..]))?;
        self.end += count;
        Poll::Ready(Ok(count))
    }
}

/// `bytes` as text.
pub(super) fn utf8(bytes: &[u8]) -> io::Result<&str> {
    std::str::from_utf8(bytes).map_err(|error| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("a line is not UTF-8 ({error}); read_until gives it as bytes"),
        )
    })
}

impl<R: AsyncRead + Unpin> AsyncRead for BufReader<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        // A large read into an empty buffer goes past it.
        if self.start == self.end && buffer.len() >= self.capacity {
            return Pin::new(&mut self.inner).poll_read(cx, buffer);
        }
        ready!(self.poll_fill(cx))?;
        let count = self.buffer().len().min(buffer.len());
        buffer[..count].copy_from_slice(&self.buffer()[..count]);
        self.consume(count);
        Poll::Ready(Ok(count))
    }
}

impl<R: AsyncRead + Unpin> AsyncBufRead for BufReader<R> {
    fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        let this = self.get_mut();
        ready!(this.poll_fill(cx))?;
        Poll::Ready(Ok(this.buffer()))
    }

    fn consume(mut self: Pin<&mut Self>, count: usize) {
        BufReader::consume(&mut self, count);
    }
}

impl<R: fmt::Debug> fmt::Debug for BufReader<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BufReader")
            .field("inner", &self.inner)
            .field("buffered", &(self.end - self.start))
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::{BUFFER_BYTES, BufReader};

    #[test]
    fn a_buffer_that_grew_for_a_line_shrinks_again() {
        let bytes = [&[b'x'; 50_000][..], b"\ny"].concat();
        crate::run(async {
            let mut reader = BufReader::new(&bytes[..]);
            let mut line = String::new();
            reader.read_line(&mut line).await.unwrap();
            assert_eq!(line.len(), 50_001);
            assert!(reader.buffer.len() > BUFFER_BYTES);
            assert_eq!(reader.fill_buf().await.unwrap(), b"y");
            reader.consume(1);
            assert_eq!(reader.buffer.capacity(), BUFFER_BYTES);
        });
    }

    #[test]
    fn a_line_without_an_end_takes_bounded_memory() {
        let bytes = vec![b'x'; 10 << 20];
        crate::run(async {
            let mut reader = BufReader::new(&bytes[..]);
            assert!(reader.read_line(&mut String::new()).await.is_err());
            assert!(reader.buffer.len() <= 2 * super::LINE_BYTES_MAX, "{}", reader.buffer.len());
        });
    }
}
