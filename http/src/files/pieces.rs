//! The content of an answer that is a file or parts of one, with text between them.
//!
//! Two ways to make it leave. A range that is all of the content can be given to the kernel as it is (`single`); anything is
//! read, piece by piece, as the client takes it (`poll_piece`).
use std::fmt;
use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use annulet::fs::File;
use futures_core::Stream;

use crate::stream::{Data, Failed};

/// So much of a file is read at a time, in bytes.
const PIECE_BYTES: usize = 64 * 1024;

type Reading = Pin<Box<dyn Future<Output = (io::Result<usize>, Vec<u8>)>>>;

/// A piece of a file and the text before it.
pub(super) struct Part {
    pub(super) head: String,
    pub(super) range: Range<u64>,
}

/// Parts of a file, and a text behind the last.
pub(crate) struct Pieces {
    file: Rc<File>,
    parts: std::vec::IntoIter<Part>,
    tail: String,
    /// What is left of the part at hand.
    at: Range<u64>,
    reading: Option<Reading>,
}

impl Pieces {
    pub(super) fn new(file: Rc<File>, parts: Vec<Part>, tail: String) -> Pieces {
        Pieces { file, parts: parts.into_iter(), tail, at: 0..0, reading: None }
    }

    /// What is left of it, in bytes.
    pub(crate) fn len(&self) -> u64 {
        let parts = self.parts.as_slice().iter();
        let parts: u64 = parts.map(|part| part.head.len() as u64 + part.range.end - part.range.start).sum();
        self.at.end - self.at.start + parts + self.tail.len() as u64
    }

    /// The file and what is left of its range, if that is all there is.
    pub(crate) fn single(&mut self) -> Option<(&File, &mut Range<u64>)> {
        if let [Part { head, .. }] = self.parts.as_slice()
            && head.is_empty()
            && self.at.is_empty()
        {
            self.at = self.parts.next()?.range;
        }
        let is_single = self.parts.as_slice().is_empty() && self.tail.is_empty() && self.reading.is_none();
        is_single.then_some((&*self.file, &mut self.at))
    }

    /// The next piece, read from the file; `None` at the end.
    pub(crate) fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Data, Failed>>> {
        while self.at.is_empty() {
            let Some(Part { head, range }) = self.parts.next() else {
                let tail = std::mem::take(&mut self.tail);
                return Poll::Ready((!tail.is_empty()).then(|| Ok(tail.into())));
            };
            self.at = range;
            if !head.is_empty() {
                return Poll::Ready(Some(Ok(head.into())));
            }
        }
        self.poll_read(cx).map(|read| Some(read.map_err(|_| Failed)))
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Data>> {
        let Range { start, end } = self.at;
        let reading = self.reading.get_or_insert_with(|| {
            let file = self.file.clone();
            let wanted = PIECE_BYTES.min(usize::try_from(end - start).unwrap_or(usize::MAX));
            Box::pin(async move { file.read_at(vec![0; wanted], start).await })
        });
        let (count, mut bytes) = ready!(reading.as_mut().poll(cx));
        self.reading = None;
        let count = count?;
        if count == 0 {
            // It has become shorter: what was announced cannot be kept.
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        bytes.truncate(count);
        self.at.start += count as u64;
        Poll::Ready(Ok(bytes.into()))
    }
}

impl Stream for Pieces {
    type Item = Result<Data, Failed>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_piece(cx)
    }
}

impl fmt::Debug for Pieces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pieces").field("len", &self.len()).finish_non_exhaustive()
    }
}
