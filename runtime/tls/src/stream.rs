//! A TLS connection.

use std::cell::RefCell;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::net::Shutdown;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use annulet::net::TcpStream;
use rustls::Connection;

use crate::handshake::{HandshakeKind, Version};
use crate::plaintext::{Plaintext, with_scratch};
use crate::session::{Progress, Session};
use crate::transport::Transport;

/// Encrypted bytes that wait for the kernel, from which on writers wait. The streams' own mark.
const SEND_HIGH_WATER: usize = 64 * 1024;

/// A TLS connection over a [`TcpStream`] or a [`UnixStream`](annulet::net::UnixStream).
///
/// Methods take `&self`: one task may read while another writes. If two tasks wait for the same direction, only the one
/// that polled last is woken.
///
/// [`close`](Self::close) and [`shutdown`](Self::shutdown) tell the peer that the end is meant (close_notify). A
/// connection that ends without it may have been cut off by somebody on the way: the reader gets `UnexpectedEof`. Dropping
/// the stream says nothing, so that a program that fails half-way does not pass off half an answer as a whole one.
///
/// # Cancel safety
///
/// Every future may be dropped at any await point: records are made and taken whole within one poll, so those that follow
/// are not disturbed. What is not told (how many bytes of a `write_all` were written) is said at the method.
pub struct TlsStream<S = TcpStream> {
    stream: S,
    // Boxed: a session is a kilobyte, and streams are moved from future to future.
    session: RefCell<Box<Session>>,
    alpn: Option<Box<[u8]>>,
    server_name: Option<Box<str>>,
    kind: HandshakeKind,
    version: Version,
}

impl<S: Transport> TlsStream<S> {
    /// Of a session whose handshake is done.
    pub(crate) fn new(stream: S, session: RefCell<Box<Session>>) -> Self {
        let borrowed = session.borrow();
        let connection = borrowed.connection();
        let alpn = connection.alpn_protocol().map(Box::from);
        let server_name = match connection {
            Connection::Server(server) => server.server_name().map(Box::from),
            Connection::Client(_) => None,
        };
        let (kind, version) = (HandshakeKind::of(connection), Version::of(connection));
        drop(borrowed);
        TlsStream { stream, session, alpn, server_name, kind, version }
    }

    /// The protocol that was agreed upon (RFC 7301), `h2` or `http/1.1` for instance.
    pub fn alpn(&self) -> Option<&[u8]> {
        self.alpn.as_deref()
    }

    /// On a server: the name that the client asked for (RFC 6066 section 3).
    pub fn server_name(&self) -> Option<&str> {
        self.server_name.as_deref()
    }

    /// Whether this was a full handshake or an earlier session was resumed.
    pub fn handshake_kind(&self) -> HandshakeKind {
        self.kind
    }

    /// The version of TLS that is spoken.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The peer's certificate and what it sent of its chain, in DER, its own first. Empty for a client that showed none.
    pub fn peer_certificates(&self) -> Vec<Vec<u8>> {
        let session = self.session.borrow();
        let chain = session.connection().peer_certificates().unwrap_or_default();
        chain.iter().map(|certificate| certificate.to_vec()).collect()
    }

    /// The stream below, for its addresses and options. Reading from it or writing to it destroys the connection.
    pub fn get_ref(&self) -> &S {
        &self.stream
    }

    /// The next decrypted bytes, at most a record of 16 KiB; `None` when the peer has ended its side with close_notify.
    ///
    /// # Errors
    ///
    /// `UnexpectedEof` when the connection ended without close_notify: what was received may be cut off. `InvalidData`
    /// around a [`TlsError`](crate::TlsError) when what came is not what the peer encrypted. What recv(2) says; `TimedOut`
    /// after [`set_recv_deadline`](Self::set_recv_deadline).
    ///
    /// # Cancel safety
    ///
    /// A dropped wait loses no byte.
    pub fn recv(&self) -> impl Future<Output = io::Result<Option<Plaintext>>> + '_ {
        poll_fn(|cx| self.poll_recv(cx))
    }

    /// The polling form of [`recv`](Self::recv). Only the task that polled last is woken.
    pub fn poll_recv(&self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Plaintext>>> {
        if !ready!(self.poll_readable(cx))? {
            return Poll::Ready(Ok(None));
        }
        let mut session = self.session.borrow_mut();
        Poll::Ready(Plaintext::filled(|buffer| session.read(buffer)).map(Some))
    }

    /// Decrypted bytes that have been received already, without waiting; `None` also at the end. An error ends the connection,
    /// as in [`recv`](Self::recv), which tells it again.
    pub fn try_recv(&self) -> Option<io::Result<Plaintext>> {
        let mut session = self.session.borrow_mut();
        loop {
            match session.progress(&self.stream) {
                Ok(Progress::Plaintext) => return Some(Plaintext::filled(|buffer| session.read(buffer))),
                Ok(Progress::End) => return None,
                Ok(Progress::NeedsBytes) => {}
                Err(error) => return Some(Err(error)),
            }
            let lease = self.stream.try_recv()?;
            if let Err(error) = session.receive(Some(lease)) {
                return Some(Err(error));
            }
        }
    }

    /// Waits until there are decrypted bytes (true) or the end (false).
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        loop {
            let progress = self.session.borrow_mut().progress(&self.stream)?;
            match progress {
                Progress::Plaintext => return Poll::Ready(Ok(true)),
                Progress::End => return Poll::Ready(Ok(false)),
                Progress::NeedsBytes => {}
            }
            let lease = ready!(self.stream.poll_recv(cx))?;
            self.session.borrow_mut().receive(lease)?;
        }
    }

    /// Asks the kernel for bytes before anybody waits for them, so that they are there when they are.
    pub fn start_recv(&self) {
        self.stream.start_recv();
    }

    /// Reads into `buffer`; 0 at the end of the stream (or for an empty buffer).
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    ///
    /// # Cancel safety
    ///
    /// A dropped wait loses no byte.
    pub async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        poll_fn(|cx| self.poll_read(cx, buffer)).await
    }

    /// The polling form of [`read`](Self::read).
    pub fn poll_read(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        if buffer.is_empty() || !ready!(self.poll_readable(cx))? {
            return Poll::Ready(Ok(0));
        }
        Poll::Ready(self.session.borrow_mut().read(buffer))
    }

    /// Gives the next decrypted bytes, at most `count_max`, to `take`, where they are; the others stay for the next call. The
    /// count is 0 at the end of the stream (or for a `count_max` of 0). For readers into memory that need not be initialised.
    pub fn poll_read_with(
        &self,
        cx: &mut Context<'_>,
        count_max: usize,
        take: impl FnOnce(&[u8]),
    ) -> Poll<io::Result<usize>> {
        if count_max == 0 || !ready!(self.poll_readable(cx))? {
            return Poll::Ready(Ok(0));
        }
        // Out of the session first: `take` is the caller's code and may use this very stream.
        let plaintext = Plaintext::filled(|buffer| {
            let count_max = count_max.min(buffer.len());
            self.session.borrow_mut().read(&mut buffer[..count_max])
        })?;
        take(&plaintext);
        Poll::Ready(Ok(plaintext.len()))
    }

    /// Fills `buffer`.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv); `UnexpectedEof` also when the stream ends first.
    ///
    /// # Cancel safety
    ///
    /// None: bytes that were copied into `buffer` before the drop are known to its owner only.
    pub async fn read_exact(&self, mut buffer: &mut [u8]) -> io::Result<()> {
        while !buffer.is_empty() {
            match self.read(buffer).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => buffer = &mut buffer[count..],
            }
        }
        Ok(())
    }

    /// Appends to a buffer of plaintext with `f`; what it appends is encrypted at once, and leaves in one send at the end of
    /// the loop's turn.
    ///
    /// There is no bound here: ask [`write_ready`](Self::write_ready) before much is appended. After an error that ended
    /// the connection, or after [`shutdown`](Self::shutdown), appended bytes are dropped; [`flush`](Self::flush) tells the error.
    pub fn with_send_buffer<R>(&self, f: impl FnOnce(&mut Vec<u8>) -> R) -> R {
        with_scratch(f, |bytes| {
            // As documented: the next flush, write or read tells.
            let _ = self.session.borrow_mut().write(bytes, &self.stream);
        })
    }

    /// Received bytes that could not be decrypted yet, most often the beginning of a record, or the memory that is kept for them where
    /// that is more: it has grown with the records before, and is given back when no record has begun. At most 18 KiB, or 64 KiB of a
    /// handshake message; of the allocator, and with the 4 KiB that every stream has, twice that.
    /// [`undecrypted_bytes`](crate::undecrypted_bytes) are those of all accepted streams of a
    /// thread.
    pub fn undecrypted(&self) -> usize {
        self.session.borrow().undecrypted()
    }

    /// Encrypted bytes that the kernel has not taken yet.
    pub fn send_buffered(&self) -> usize {
        self.stream.send_buffered()
    }

    /// Waits until fewer than 64 KiB of encrypted bytes wait for the kernel.
    ///
    /// # Errors
    ///
    /// The error that ended the connection or sending.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn write_ready(&self) -> io::Result<()> {
        poll_fn(|cx| self.poll_write_ready(cx)).await
    }

    /// The polling form of [`write_ready`](Self::write_ready). Only the task that polled last is woken.
    pub fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.session.borrow().check_write()?;
        self.stream.poll_write_ready(cx)
    }

    /// Encrypts some of `bytes`: as much as fits below the high-water mark of 64 KiB. Gives the count.
    ///
    /// # Errors
    ///
    /// The error that ended the connection or sending; `BrokenPipe` after [`shutdown`](Self::shutdown).
    ///
    /// # Cancel safety
    ///
    /// A dropped wait has written nothing.
    pub async fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        poll_fn(|cx| self.poll_write(cx, bytes)).await
    }

    /// The polling form of [`write`](Self::write).
    pub fn poll_write(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_write_ready(cx))?;
        // Ready means that there is room for one byte at least.
        let count = bytes.len().min(SEND_HIGH_WATER.saturating_sub(self.stream.send_buffered()).max(1));
        self.session.borrow_mut().write(&bytes[..count], &self.stream)?;
        Poll::Ready(Ok(count))
    }

    /// Writes all of `bytes`. They are encrypted into memory of the stream's, so the slice is free when this returns; the
    /// kernel has them after [`flush`](Self::flush).
    ///
    /// # Errors
    ///
    /// As [`write`](Self::write).
    ///
    /// # Cancel safety
    ///
    /// None: how many bytes were written before the drop is not told.
    pub async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let count = self.write(bytes).await?;
            bytes = &bytes[count..];
        }
        Ok(())
    }

    /// Waits until the kernel has taken every written byte.
    ///
    /// # Errors
    ///
    /// The error that ended the connection or sending.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn flush(&self) -> io::Result<()> {
        poll_fn(|cx| self.poll_flush(cx)).await
    }

    /// The polling form of [`flush`](Self::flush). Only the task that polled last is woken.
    pub fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.session.borrow().check()?;
        self.stream.poll_flush(cx)
    }

    /// From `deadline` on, waiting for bytes fails with `TimedOut`, until another deadline is set; `None` for never.
    pub fn set_recv_deadline(&self, deadline: Option<Instant>) {
        self.stream.set_recv_deadline(deadline);
    }

    /// Ends this side: what was written leaves, then close_notify, then a FIN. The peer's side stays open for reading.
    ///
    /// A peer with TLS 1.2 may answer by closing its side too, and lose what it still wanted to send (RFC 5246 section
    /// 7.2.1).
    ///
    /// # Errors
    ///
    /// The error that ended the connection or sending.
    ///
    /// # Cancel safety
    ///
    /// Call it again after a drop: nothing is sent twice.
    pub async fn shutdown(&self) -> io::Result<()> {
        poll_fn(|cx| self.poll_shutdown(cx)).await
    }

    /// The polling form of [`shutdown`](Self::shutdown).
    pub fn poll_shutdown(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.session.borrow_mut().close_write(&self.stream);
        ready!(self.poll_flush(cx))?;
        Poll::Ready(match self.stream.shutdown(Shutdown::Write) {
            // Ended already, by a reset or by both sides (shutdown(2): ENOTCONN).
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
            result => result,
        })
    }

    /// Ends the connection in order: close_notify, then the close of the stream below, which reads and throws away for at
    /// most `linger` what the peer still sends; see [`TcpStream::close`].
    ///
    /// # Errors
    ///
    /// As there.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection without the rest of the protocol.
    pub async fn close(self, linger: Duration) -> io::Result<()> {
        let TlsStream { stream, session, .. } = self;
        session.into_inner().close_write(&stream);
        // What is received from now on is thrown away as it is, and what was not decrypted yet is gone.
        stream.close(linger).await
    }
}

impl<S: fmt::Debug> fmt::Debug for TlsStream<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsStream")
            .field("stream", &self.stream)
            .field("version", &self.version)
            .field("handshake_kind", &self.kind)
            .finish_non_exhaustive()
    }
}
