//! From a reader to a writer.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_io::{AsyncRead, AsyncWrite};

use crate::net::ByteStream;
use crate::task::share::Share;

/// What is read at a time.
const BUFFER_BYTES: usize = 8 * 1024;

/// Copies everything from `reader` to `writer` and flushes it; gives the count. The writer is not closed.
///
/// The next bytes are read when the writer has taken the last: a slow writer holds the reader back.
///
/// Between two sockets of this crate [`relay`] saves a copy.
///
/// # Errors
///
/// What either of them says; `WriteZero` when the writer takes nothing more.
///
/// # Cancel safety
///
/// None: bytes that were read and not written are lost.
///
/// # Examples
///
/// ```
/// annulet::run(async {
///     let mut out = Vec::new();
///     assert_eq!(annulet::io::copy(&mut &b"five!"[..], &mut out).await.unwrap(), 5);
///     assert_eq!(out, b"five!");
/// });
/// ```
pub async fn copy<R, W>(reader: &mut R, writer: &mut W) -> io::Result<u64>
where
    R: AsyncRead + Unpin + ?Sized,
    W: AsyncWrite + Unpin + ?Sized,
{
    let mut way = Way::new();
    poll_fn(|cx| way.poll(cx, Pin::new(reader), Pin::new(writer))).await
}

/// Copies in both directions until both have ended; gives the counts, from `one` to `other` first. When one of them ends,
/// the other is closed for writing.
///
/// # Errors
///
/// As [`copy`]; the first error ends both directions.
///
/// # Cancel safety
///
/// As [`copy`].
pub async fn copy_bidirectional<A, B>(one: &mut A, other: &mut B) -> io::Result<(u64, u64)>
where
    A: AsyncRead + AsyncWrite + Unpin + ?Sized,
    B: AsyncRead + AsyncWrite + Unpin + ?Sized,
{
    let (mut there, mut back) = (Way::new(), Way::new());
    poll_fn(|cx| {
        let share = Share::before();
        let there = there.poll_to_close(cx, Pin::new(&mut *one), Pin::new(&mut *other))?;
        share.leave_one();
        let back = back.poll_to_close(cx, Pin::new(&mut *other), Pin::new(&mut *one))?;
        match (there, back) {
            (Poll::Ready(there), Poll::Ready(back)) => Poll::Ready(Ok((there, back))),
            _ => Poll::Pending,
        }
    })
    .await
}

/// Copies everything from one socket to another and flushes it; gives the count. The other is not closed.
///
/// Received bytes go from the buffer that the kernel has put them in to the send buffer: one copy, and no memory of its
/// own while it waits. It waits for the other's send buffer before it receives more. splice(2) is not used: on the ring
/// it always goes to a kernel thread.
///
/// # Errors
///
/// What either of them says.
///
/// # Cancel safety
///
/// A dropped call loses no byte: what was taken from the one is in the other's send buffer.
pub async fn relay<A: ByteStream, B: ByteStream>(from: &A, to: &B) -> io::Result<u64> {
    let (from, to) = (from.stream(), to.stream());
    let mut count = 0;
    loop {
        poll_fn(|cx| to.poll_write_ready(cx)).await?;
        let Some(lease) = from.recv().await? else { break };
        to.with_send_buffer(|buffer| buffer.extend_from_slice(&lease));
        count += lease.len() as u64;
    }
    poll_fn(|cx| to.poll_flush(cx)).await?;
    Ok(count)
}

/// One direction of a copy.
struct Way {
    buffer: Box<[u8]>,
    /// Bytes of the buffer that were read and not written.
    start: usize,
    end: usize,
    count: u64,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Copying,
    /// The reader has ended.
    Ended,
    /// And the writer was closed.
    Closed,
}

impl Way {
    fn new() -> Self {
        Way { buffer: vec![0; BUFFER_BYTES].into(), start: 0, end: 0, count: 0, state: State::Copying }
    }

    /// Copies to the end of the reader and flushes the writer.
    fn poll<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        mut reader: Pin<&mut R>,
        mut writer: Pin<&mut W>,
    ) -> Poll<io::Result<u64>>
    where
        R: AsyncRead + ?Sized,
        W: AsyncWrite + ?Sized,
    {
        while self.state == State::Copying {
            if self.start == self.end {
                let read = match reader.as_mut().poll_read(cx, &mut self.buffer)? {
                    Poll::Ready(count) => count,
                    Poll::Pending => {
                        // Nothing stays behind in a buffered writer while the reader has nothing.
                        let _progress = writer.as_mut().poll_flush(cx)?;
                        return Poll::Pending;
                    }
                };
                (self.start, self.end) = (0, read);
                if read == 0 {
                    self.state = State::Ended;
                    break;
                }
            }
            match ready!(writer.as_mut().poll_write(cx, &self.buffer[self.start..self.end]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => {
                    self.start += written;
                    self.count += written as u64;
                }
            }
        }
        writer.poll_flush(cx).map_ok(|()| self.count)
    }

    /// [`poll`](Self::poll), and closes the writer.
    fn poll_to_close<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        reader: Pin<&mut R>,
        mut writer: Pin<&mut W>,
    ) -> io::Result<Poll<u64>>
    where
        R: AsyncRead + ?Sized,
        W: AsyncWrite + ?Sized,
    {
        if self.state != State::Closed {
            if self.poll(cx, reader, writer.as_mut())?.is_pending() || writer.poll_close(cx)?.is_pending() {
                return Ok(Poll::Pending);
            }
            self.state = State::Closed;
        }
        Ok(Poll::Ready(self.count))
    }
}
