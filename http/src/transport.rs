//! What the server's pump needs of a connected stream: the methods that [`TcpStream`] and [`TlsStream`] have in common, as a
//! trait, so that the pump is compiled once for each and the plain one knows nothing of TLS.
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::ops::Deref;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use annulet::Lease;
use annulet::fs::File;
use annulet::net::{Keepalive, ResetByPeer, SendProgress, TcpStream};
#[cfg(feature = "tls")]
use annulet_tls::{Plaintext, TlsInfo, TlsStream};
use bytes::Bytes;

use crate::body::{Chunk, Piece};
use crate::socket::Socket;

/// Received bytes, taken from the front.
pub(crate) trait Received: Deref<Target = [u8]> {
    fn advance(&mut self, count: usize);
    fn into_chunk(self) -> Chunk;
}

/// See the module. The methods are those of [`TcpStream`].
pub(crate) trait Transport: 'static {
    type Received: Received;
    /// Whether what is received is what was sent.
    const IS_PLAIN: bool;
    /// Whether nothing arrives within a turn of the loop.
    const ARRIVES_BETWEEN_TURNS: bool;

    fn poll_recv(&self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Self::Received>>>;
    fn expect_recv(&self, bytes: u64);
    fn set_recv_deadline(&self, deadline: Option<Instant>);
    fn with_send_buffer<R>(&self, f: impl FnOnce(&mut Vec<u8>) -> R) -> R;
    /// Whether it takes memory of somebody else's and lets it leave without a copy.
    const TAKES_OWNED: bool;
    /// Takes `bytes` behind what is buffered, unless others wait; with `zero_copy` the kernel reads them where they are.
    fn try_send_bytes(&self, bytes: Bytes, zero_copy: bool) -> Result<(), Bytes>;
    /// As the flush, and the kernel reads nothing any more of what it was given so.
    fn poll_released(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    fn send_buffered(&self) -> usize;
    /// How far the client has come with what was sent.
    fn send_progress(&self) -> io::Result<SendProgress>;
    /// Received bytes that nothing can be made of yet, in memory.
    fn undecrypted(&self) -> usize {
        0
    }
    /// Bytes that wait to leave beside those in the buffer that `with_send_buffer` lends, where that buffer does not tell.
    fn unsent_beside(&self) -> usize;
    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    /// Ends this side, after a flush.
    fn poll_shutdown(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    fn close(self, linger: Duration) -> impl Future<Output = io::Result<()>>;
    /// Its drop is not to wait for anything, and resets.
    fn set_zero_linger(&self) -> io::Result<()>;
    /// Whether there is a `send_file`: what has to be encrypted has to be read.
    const SENDS_FILES: bool;
    fn send_file(&self, file: &File, offset: u64, len: usize) -> impl Future<Output = io::Result<usize>>;
    /// The longest segment that is sent now.
    fn max_segment(&self) -> io::Result<u32> {
        Err(io::ErrorKind::Unsupported.into())
    }
    /// What the kernel takes beyond what it can send.
    fn set_notsent_lowat(&self, _bytes: u32) -> io::Result<()> {
        Ok(())
    }
    /// Whether the kernel asks after a silent client by itself.
    fn keepalive(&self) -> io::Result<bool> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn set_keepalive(&self, _keepalive: Option<Keepalive>) -> io::Result<()> {
        Ok(())
    }
    /// Done when the peer has reset the connection.
    type Reset<'a>: Future<Output = ()> + Unpin
    where
        Self: 'a;
    fn reset_by_peer(&self) -> Self::Reset<'_>;
    fn peer_addr(&self) -> io::Result<SocketAddr>;
    /// What the handshake came to, where TLS is spoken.
    #[cfg(feature = "tls")]
    fn tls_info(&self) -> Option<TlsInfo>;
    fn into_socket(self) -> Socket;
}

impl Received for Lease {
    #[inline]
    fn advance(&mut self, count: usize) {
        Lease::advance(self, count);
    }

    #[inline]
    fn into_chunk(self) -> Chunk {
        Chunk(Piece::Leased(self))
    }
}

impl Transport for TcpStream {
    type Received = Lease;
    const IS_PLAIN: bool = true;
    const ARRIVES_BETWEEN_TURNS: bool = true;

    const TAKES_OWNED: bool = true;

    fn try_send_bytes(&self, bytes: Bytes, zero_copy: bool) -> Result<(), Bytes> {
        if zero_copy { self.try_send_zero_copy(bytes) } else { TcpStream::try_send_bytes(self, bytes) }
    }

    fn poll_released(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        TcpStream::poll_released(self, cx)
    }

    #[inline]
    fn poll_recv(&self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Lease>>> {
        TcpStream::poll_recv(self, cx)
    }

    #[inline]
    fn expect_recv(&self, bytes: u64) {
        TcpStream::expect_recv(self, bytes);
    }

    #[inline]
    fn set_recv_deadline(&self, deadline: Option<Instant>) {
        TcpStream::set_recv_deadline(self, deadline);
    }

    #[inline]
    fn with_send_buffer<R>(&self, f: impl FnOnce(&mut Vec<u8>) -> R) -> R {
        TcpStream::with_send_buffer(self, f)
    }

    #[inline]
    fn send_buffered(&self) -> usize {
        TcpStream::send_buffered(self)
    }

    fn send_progress(&self) -> io::Result<SendProgress> {
        TcpStream::send_progress(self)
    }

    #[inline]
    fn unsent_beside(&self) -> usize {
        // The lent buffer is the one that leaves next.
        0
    }

    #[inline]
    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        TcpStream::poll_write_ready(self, cx)
    }

    #[inline]
    fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        TcpStream::poll_flush(self, cx)
    }

    fn poll_shutdown(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.shutdown(Shutdown::Write))
    }

    fn close(self, linger: Duration) -> impl Future<Output = io::Result<()>> {
        TcpStream::close(self, linger)
    }

    fn set_zero_linger(&self) -> io::Result<()> {
        TcpStream::set_zero_linger(self)
    }

    const SENDS_FILES: bool = true;

    fn max_segment(&self) -> io::Result<u32> {
        TcpStream::max_segment(self)
    }

    fn set_notsent_lowat(&self, bytes: u32) -> io::Result<()> {
        TcpStream::set_notsent_lowat(self, bytes)
    }

    fn keepalive(&self) -> io::Result<bool> {
        TcpStream::keepalive(self)
    }

    fn set_keepalive(&self, keepalive: Option<Keepalive>) -> io::Result<()> {
        TcpStream::set_keepalive(self, keepalive)
    }

    fn send_file(&self, file: &File, offset: u64, len: usize) -> impl Future<Output = io::Result<usize>> {
        TcpStream::send_file(self, file, offset, len)
    }

    type Reset<'a> = ResetByPeer<'a>;

    fn reset_by_peer(&self) -> ResetByPeer<'_> {
        TcpStream::reset_by_peer(self)
    }

    fn peer_addr(&self) -> io::Result<SocketAddr> {
        TcpStream::peer_addr(self)
    }

    #[cfg(feature = "tls")]
    fn tls_info(&self) -> Option<TlsInfo> {
        None
    }

    fn into_socket(self) -> Socket {
        self.into()
    }
}

#[cfg(feature = "tls")]
impl Received for Plaintext {
    fn advance(&mut self, count: usize) {
        Plaintext::advance(self, count);
    }

    fn into_chunk(self) -> Chunk {
        Chunk(Piece::Decrypted(self))
    }
}

#[cfg(feature = "tls")]
impl Transport for TlsStream {
    type Received = Plaintext;
    const IS_PLAIN: bool = false;
    const ARRIVES_BETWEEN_TURNS: bool = true;

    // Encrypting is the copy.
    const TAKES_OWNED: bool = false;

    fn try_send_bytes(&self, bytes: Bytes, _: bool) -> Result<(), Bytes> {
        Err(bytes)
    }

    fn poll_released(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        TlsStream::poll_flush(self, cx)
    }

    fn poll_recv(&self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Plaintext>>> {
        TlsStream::poll_recv(self, cx)
    }

    fn expect_recv(&self, bytes: u64) {
        // Encrypted it is a little more; it is a hint.
        self.get_ref().expect_recv(bytes);
    }

    fn set_recv_deadline(&self, deadline: Option<Instant>) {
        TlsStream::set_recv_deadline(self, deadline);
    }

    fn with_send_buffer<R>(&self, f: impl FnOnce(&mut Vec<u8>) -> R) -> R {
        TlsStream::with_send_buffer(self, f)
    }

    fn send_buffered(&self) -> usize {
        TlsStream::send_buffered(self)
    }

    fn send_progress(&self) -> io::Result<SendProgress> {
        self.get_ref().send_progress()
    }

    fn undecrypted(&self) -> usize {
        TlsStream::undecrypted(self)
    }

    fn unsent_beside(&self) -> usize {
        // What was encrypted; the lent buffer is empty each time.
        TlsStream::send_buffered(self)
    }

    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        TlsStream::poll_write_ready(self, cx)
    }

    fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        TlsStream::poll_flush(self, cx)
    }

    fn poll_shutdown(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        TlsStream::poll_shutdown(self, cx)
    }

    fn close(self, linger: Duration) -> impl Future<Output = io::Result<()>> {
        TlsStream::close(self, linger)
    }

    fn set_zero_linger(&self) -> io::Result<()> {
        self.get_ref().set_zero_linger()
    }

    const SENDS_FILES: bool = false;

    async fn send_file(&self, _: &File, _: u64, _: usize) -> io::Result<usize> {
        Err(io::ErrorKind::InvalidInput.into())
    }

    type Reset<'a> = ResetByPeer<'a>;

    fn reset_by_peer(&self) -> ResetByPeer<'_> {
        self.get_ref().reset_by_peer()
    }

    fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.get_ref().peer_addr()
    }

    fn tls_info(&self) -> Option<TlsInfo> {
        Some(self.info())
    }

    fn into_socket(self) -> Socket {
        self.into()
    }
}
