//! The lines of a reader.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use futures_io::AsyncRead;

use super::BufReader;
use super::read::utf8;

/// See [`BufReader::lines`]: lines without their ends, which are `\n` or `\r\n`.
///
/// After an error there are no more lines: a line that is too long has no end that could be found.
#[derive(Debug)]
pub struct Lines<R> {
    reader: BufReader<R>,
    is_done: bool,
}

impl<R> Lines<R> {
    pub(super) fn new(reader: BufReader<R>) -> Self {
        Lines { reader, is_done: false }
    }

    /// The reader, with what it has buffered: for a body behind the lines.
    pub fn into_inner(self) -> BufReader<R> {
        self.reader
    }
}

impl<R: AsyncRead + Unpin> Lines<R> {
    /// The next line; `None` at the end of the stream.
    ///
    /// # Errors
    ///
    /// What the reader says; `InvalidData` when the line is longer than [`BufReader::line_limit`] or is not UTF-8.
    ///
    /// # Cancel safety
    ///
    /// A dropped wait loses no byte.
    pub async fn next_line(&mut self) -> io::Result<Option<String>> {
        poll_fn(|cx| self.poll_next_line(cx)).await
    }

    /// [`next_line`](Self::next_line) as streams have it.
    ///
    /// # Cancel safety
    ///
    /// As there.
    pub async fn next(&mut self) -> Option<io::Result<String>> {
        self.next_line().await.transpose()
    }

    /// The polling form of [`next_line`](Self::next_line).
    pub fn poll_next_line(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<String>>> {
        if self.is_done {
            return Poll::Ready(Ok(None));
        }
        let line = ready!(self.reader.poll_find(cx, b'\n')).and_then(|count| {
            let bytes = &self.reader.buffer()[..count];
            let bare =
                bytes.strip_suffix(b"\n").map_or(bytes, |bare| bare.strip_suffix(b"\r").unwrap_or(bare));
            let line = (count > 0).then(|| utf8(bare).map(str::to_owned)).transpose()?;
            self.reader.consume(count);
            Ok(line)
        });
        self.is_done = !matches!(line, Ok(Some(_)));
        Poll::Ready(line)
    }
}

impl<R: AsyncRead + Unpin> Stream for Lines<R> {
    type Item = io::Result<String>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_next_line(cx).map(Result::transpose)
    }
}
