//! A stream that is no socket: what the client sends lies in memory, and what it gets goes there. No time passes on it.
use std::cell::{Cell, RefCell};
use std::future::{Pending, pending};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::{Deref, Range};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use annulet::fs::File;
use annulet::net::SendProgress;
use bytes::Bytes;

use crate::body::{Chunk, Piece};
use crate::recycle::Buffer;
use crate::socket::Socket;
use crate::transport::{Received, Transport};

/// Both ends of the stream.
pub(super) struct Wire {
    /// All that the client sends.
    input: Vec<u8>,
    /// Where the pieces end that arrive by themselves.
    ends: Vec<usize>,
    /// How many of them have been received.
    received: Cell<usize>,
    /// Whether the next one has been waited for.
    is_due: Cell<bool>,
    /// What waits to leave.
    buffer: RefCell<Vec<u8>>,
    /// What the client has.
    sent: RefCell<Vec<u8>>,
}

impl Wire {
    /// A client that sends these pieces, and then its end.
    pub(super) fn new(pieces: &[&[u8]]) -> Rc<Wire> {
        let mut end = 0;
        let ends = pieces.iter().filter(|piece| !piece.is_empty()).map(|piece| {
            end += piece.len();
            end
        });
        Rc::new(Wire {
            ends: ends.collect(),
            input: pieces.concat(),
            received: Cell::new(0),
            is_due: Cell::new(false),
            buffer: RefCell::default(),
            sent: RefCell::default(),
        })
    }

    /// How many pieces have been received.
    pub(super) fn received(&self) -> usize {
        self.received.get()
    }

    /// What the client has got.
    pub(super) fn take_sent(&self) -> Vec<u8> {
        self.sent.take()
    }

    fn leave(&self) {
        self.sent.borrow_mut().append(&mut self.buffer.borrow_mut());
    }
}

/// The server's end.
pub(super) struct Memory(pub(super) Rc<Wire>);

/// A part of what the client has sent.
pub(super) struct Arrived {
    wire: Rc<Wire>,
    range: Range<usize>,
}

impl Deref for Arrived {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.wire.input[self.range.clone()]
    }
}

impl Received for Arrived {
    fn advance(&mut self, count: usize) {
        self.range.start += count;
    }

    fn into_chunk(self) -> Chunk {
        let mut copy = Buffer::take();
        copy.extend_from_slice(&self);
        Chunk(Piece::Copied(copy))
    }
}

impl Transport for Memory {
    type Received = Arrived;
    const IS_PLAIN: bool = true;
    /// Whoever writes does it when they like.
    const ARRIVES_BETWEEN_TURNS: bool = false;
    const TAKES_OWNED: bool = false;
    const SENDS_FILES: bool = false;

    /// Each piece has to be waited for once, as if it came after the one before it.
    fn poll_recv(&self, _: &mut Context<'_>) -> Poll<io::Result<Option<Arrived>>> {
        let wire = &self.0;
        wire.leave();
        if !wire.is_due.replace(true) {
            return Poll::Pending;
        }
        let nth = wire.received.get();
        let Some(&end) = wire.ends.get(nth) else { return Poll::Ready(Ok(None)) };
        wire.is_due.set(false);
        wire.received.set(nth + 1);
        let start = nth.checked_sub(1).map_or(0, |before| wire.ends[before]);
        Poll::Ready(Ok(Some(Arrived { wire: wire.clone(), range: start..end })))
    }

    fn expect_recv(&self, _: u64) {}

    fn set_recv_deadline(&self, _: Option<Instant>) {}

    fn with_send_buffer<R>(&self, f: impl FnOnce(&mut Vec<u8>) -> R) -> R {
        f(&mut self.0.buffer.borrow_mut())
    }

    fn poll_released(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(cx)
    }

    fn try_send_bytes(&self, bytes: Bytes, _: bool) -> Result<(), Bytes> {
        Err(bytes)
    }

    fn send_buffered(&self) -> usize {
        self.0.buffer.borrow().len()
    }

    fn send_progress(&self) -> io::Result<SendProgress> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn unsent_beside(&self) -> usize {
        0
    }

    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(cx)
    }

    fn poll_flush(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.leave();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(cx)
    }

    async fn close(self, _: Duration) -> io::Result<()> {
        self.0.leave();
        Ok(())
    }

    fn set_zero_linger(&self) -> io::Result<()> {
        Ok(())
    }

    async fn send_file(&self, _: &File, _: u64, _: usize) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    type Reset<'a> = Pending<()>;

    fn reset_by_peer(&self) -> Pending<()> {
        pending()
    }

    fn peer_addr(&self) -> io::Result<SocketAddr> {
        Ok((Ipv4Addr::LOCALHOST, 0).into())
    }

    #[cfg(feature = "tls")]
    fn tls_info(&self) -> Option<annulet_tls::TlsInfo> {
        None
    }

    fn into_socket(self) -> Socket {
        panic!("an upgrade needs a socket: serve a connection instead of `offline::converse`")
    }
}
