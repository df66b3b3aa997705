//! A TCP connection.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::address::ToSocketAddrs;
use super::byte_stream::byte_stream;
use super::connect::connect;
use super::reset::ResetByPeer;
use super::send_progress::SendProgress;
use super::share::Counted;
use super::split::{OwnedReadHalf, OwnedWriteHalf, ReadHalf, WriteHalf};
use super::stream::{Stream, borrow};
use super::tcp_socket::Keepalive;
use crate::op::Lease;
use crate::shard::{Shard, current};

/// A TCP connection.
///
/// Methods take `&self`: one task may read while another writes. If two tasks wait for the same direction, only the one
/// that polled last is woken.
///
/// What is written is gathered and leaves in one send at the end of the loop's turn. Dropping the stream lets gathered
/// bytes leave in the background (for half a minute at the most, for a second once the loop ends), then closes; [`close`](Self::close) does it with a
/// FIN and a lingering read, and tells how it went.
///
/// # Examples
///
/// ```
/// annulet::run(async {
///     let listener = annulet::net::TcpListener::bind("127.0.0.1:0").unwrap();
///     let address = listener.local_addr().unwrap();
///     annulet::spawn(async move {
///         let stream = listener.accept().await.unwrap();
///         while let Some(bytes) = stream.recv().await.unwrap() {
///             stream.write_all(&bytes).await.unwrap();
///         }
///     });
///     let stream = annulet::net::TcpStream::connect(address).await.unwrap();
///     stream.write_all(b"ping").await.unwrap();
///     let mut answer = [0; 4];
///     stream.read_exact(&mut answer).await.unwrap();
///     assert_eq!(&answer, b"ping");
/// });
/// ```
pub struct TcpStream(pub(super) Stream);

byte_stream!(TcpStream);

impl TcpStream {
    pub(super) fn from_fd(shard: Rc<Shard>, fd: OwnedFd) -> Self {
        TcpStream(Stream::from_fd(shard, fd))
    }

    pub(super) fn counted(mut self, counted: Box<Counted>) -> Self {
        self.0.set_counted(Some(counted));
        self
    }

    /// How far the peer has come with what was sent, and since when it has not moved. Unlike [`send_buffered`](Self::send_buffered) it
    /// shows that a slow reader takes a little.
    ///
    /// # Examples
    ///
    /// ```
    /// # annulet::run(async {
    /// let listener = annulet::net::TcpListener::bind("127.0.0.1:0").unwrap();
    /// let client = annulet::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    /// assert!(client.send_progress().unwrap().acknowledged <= 1);
    /// # });
    /// ```
    ///
    /// # Errors
    ///
    /// What getsockopt(2) says; `Unsupported` before Linux 5.4.
    pub fn send_progress(&self) -> io::Result<SendProgress> {
        SendProgress::of(&self.0)
    }

    /// Watches for a reset, whatever has been received and not read: for who works for a client and does not read meanwhile. It is a
    /// request of its own (POLL_ADD), made now; whoever waits in a read hears of a reset there.
    ///
    /// It goes on behind the orderly end of the peer's side. (From Linux 5.13 on, or on epoll. On older rings it is pending for ever then,
    /// and the next write says what has become of the peer.) Where this side has been [shut down](Self::shutdown) before, the peer's
    /// orderly end counts as a reset: nothing can come or go any more.
    ///
    /// # Examples
    ///
    /// ```
    /// use annulet::net::{TcpListener, TcpStream};
    ///
    /// annulet::run(async {
    ///     let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    ///     let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    ///     let served = listener.accept().await.unwrap();
    ///     client.set_zero_linger().unwrap();
    ///     drop(client);
    ///     served.reset_by_peer().await;
    /// });
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Safe: watching takes nothing from the connection.
    pub fn reset_by_peer(&self) -> ResetByPeer<'_> {
        self.0.reset_by_peer()
    }

    /// As [`try_send_bytes`](Self::try_send_bytes), and the kernel sends `bytes` out of the memory in which they are
    /// (IORING_OP_SEND_ZC, from Linux 6.1 on), where it otherwise copies them into its own. Their owner is dropped when the peer has
    /// acknowledged all of them, or the connection is no more; [`released`](Self::released) waits for that.
    ///
    /// It is worth it where a copy costs more than to keep count of pages: for hundreds of KiB and more, to a network card that
    /// gathers and does checksums. Measure it there. What it does not do:
    ///
    /// - Save the copy on loopback, to a Unix socket, through a packet socket (tcpdump) or some tunnels: the kernel makes it later.
    /// - Save the copy of the first 4 KiB behind what was written before, which leave with it.
    /// - Apply to more than 4 MiB of a socket at a time, or where the kernel has no such send (the feature `send_zc` of
    ///   [`capabilities`](crate::capabilities), and the epoll driver) or no memory to lock (RLIMIT_MEMLOCK): what is beyond is copied.
    /// - Protect the bytes: what writes to them through a pointer of its own, as a mapped file does, changes what is sent.
    ///
    /// A stream that is dropped closes its descriptor when all is released, so that the peer sees the end of the bytes a round trip after
    /// the last of them, or resets the connection after 30 s; at the end of the loop after 1 s.
    ///
    /// # Examples
    ///
    /// ```
    /// use annulet::net::{TcpListener, TcpStream};
    /// use bytes::Bytes;
    ///
    /// annulet::run(async {
    ///     let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    ///     let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    ///     let server = listener.accept().await.unwrap();
    ///     server.try_send_zero_copy(Bytes::from(vec![7; 200_000])).unwrap();
    ///     let mut received = vec![0; 200_000];
    ///     client.read_exact(&mut received).await.unwrap();
    ///     server.released().await.unwrap();
    ///     assert_eq!(server.unreleased(), 0);
    /// });
    /// ```
    pub fn try_send_zero_copy(&self, bytes: bytes::Bytes) -> Result<(), bytes::Bytes> {
        self.0.try_send_bytes(bytes, true)
    }

    /// Waits until every written byte has been sent and the kernel reads nothing any more that it was given by
    /// [`try_send_zero_copy`](Self::try_send_zero_copy). After a reset that is so, too: it does not say that the peer has got it.
    /// It has no limit of its own: a peer that takes nothing may keep it for as long as the kernel keeps the connection.
    ///
    /// # Errors
    ///
    /// The error that ended sending.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn released(&self) -> io::Result<()> {
        std::future::poll_fn(|cx| self.poll_released(cx)).await
    }

    /// The polling form of [`released`](Self::released). Only the task that polled last is woken, as for the flush.
    pub fn poll_released(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_released(cx)
    }

    /// Bytes given to the kernel by [`try_send_zero_copy`](Self::try_send_zero_copy) that it still reads where they are, those that it has
    /// not sent among them.
    #[must_use]
    pub fn unreleased(&self) -> usize {
        self.0.unreleased()
    }

    /// Connects to the first address that answers.
    ///
    /// A host name is looked up on a thread beside the loop, see [`lookup_host`](super::lookup_host); addresses are not.
    ///
    /// # Errors
    ///
    /// What connect(2) says of the last address, with the address in the message.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cancels the connect and closes the socket.
    ///
    /// # Panics
    ///
    /// Outside of a loop.
    pub async fn connect(address: impl ToSocketAddrs) -> io::Result<Self> {
        let target = address.target().resolve().await?;
        let mut last = io::Error::new(io::ErrorKind::InvalidInput, "the host name has no address");
        for &address in target.addresses() {
            match Self::connect_one(address).await {
                Ok(stream) => return Ok(stream),
                Err(error) => {
                    last = io::Error::new(error.kind(), format!("cannot connect to {address}: {error}"));
                }
            }
        }
        Err(last)
    }

    async fn connect_one(address: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        connect(socket, SockAddr::from(address)).await.map(TcpStream)
    }

    /// Takes over a connected socket.
    ///
    /// # Errors
    ///
    /// When it cannot be made blocking (the ring waits for it, so it must not say "try again").
    ///
    /// # Panics
    ///
    /// Outside of a loop.
    #[track_caller]
    pub fn from_std(stream: std::net::TcpStream) -> io::Result<Self> {
        let shard = current();
        stream.set_nonblocking(false)?;
        Ok(Self::from_fd(shard, OwnedFd::from(stream)))
    }

    /// The peer's address.
    ///
    /// # Errors
    ///
    /// What getpeername(2) says: `NotConnected` after a reset, for example.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        borrow(self.as_raw_fd(), |socket| socket.peer_addr())?
            .as_socket()
            .ok_or_else(|| io::ErrorKind::Unsupported.into())
    }

    /// This side's address.
    ///
    /// # Errors
    ///
    /// What getsockname(2) says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        borrow(self.as_raw_fd(), |socket| socket.local_addr())?
            .as_socket()
            .ok_or_else(|| io::ErrorKind::Unsupported.into())
    }

    /// From now on a drop ends the connection at once: what was written and has not left is thrown away, here and by the kernel,
    /// and the peer's reads fail with `ConnectionReset`. For a peer that takes nothing any more, and to free the port.
    ///
    /// # Examples
    ///
    /// ```
    /// use annulet::net::{TcpListener, TcpStream};
    ///
    /// annulet::run(async {
    ///     let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    ///     let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    ///     let server = listener.accept().await.unwrap();
    ///     server.set_zero_linger().unwrap();
    ///     drop(server);
    ///     let reset = client.recv().await.unwrap_err();
    ///     assert_eq!(reset.kind(), std::io::ErrorKind::ConnectionReset);
    /// });
    /// ```
    ///
    /// # Errors
    ///
    /// What setsockopt(2) says of SO_LINGER.
    pub fn set_zero_linger(&self) -> io::Result<()> {
        self.0.set_zero_linger()
    }

    /// Sets TCP_NODELAY.
    ///
    /// # Errors
    ///
    /// What setsockopt(2) says.
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        borrow(self.as_raw_fd(), |socket| socket.set_tcp_nodelay(nodelay))
    }

    /// Whether TCP_NODELAY is set.
    ///
    /// # Errors
    ///
    /// What getsockopt(2) says.
    pub fn nodelay(&self) -> io::Result<bool> {
        borrow(self.as_raw_fd(), |socket| socket.tcp_nodelay())
    }

    /// SO_KEEPALIVE with its times; `None` for no probes.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use annulet::net::{Keepalive, TcpListener, TcpStream};
    ///
    /// annulet::run(async {
    ///     let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    ///     let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    ///     let probes = Keepalive { idle: Duration::from_secs(60), interval: Duration::from_secs(10), probes: 3 };
    ///     client.set_keepalive(Some(probes)).unwrap();
    ///     assert!(client.keepalive().unwrap());
    ///     client.set_keepalive(None).unwrap();
    ///     assert!(!client.keepalive().unwrap());
    /// });
    /// ```
    ///
    /// # Errors
    ///
    /// What setsockopt(2) says.
    pub fn set_keepalive(&self, keepalive: Option<Keepalive>) -> io::Result<()> {
        borrow(self.as_raw_fd(), |socket| Keepalive::set(keepalive, &socket))
    }

    /// Whether SO_KEEPALIVE is set.
    ///
    /// # Errors
    ///
    /// What getsockopt(2) says.
    pub fn keepalive(&self) -> io::Result<bool> {
        borrow(self.as_raw_fd(), |socket| socket.keepalive())
    }

    /// Sets TCP_NOTSENT_LOWAT, as [`TcpListener::set_notsent_lowat`](super::TcpListener::set_notsent_lowat) does for the connections
    /// that it accepts.
    ///
    /// # Errors
    ///
    /// What setsockopt(2) says.
    pub fn set_notsent_lowat(&self, bytes: u32) -> io::Result<()> {
        borrow(self.as_raw_fd(), |socket| socket.set_tcp_notsent_lowat(bytes))
    }

    /// The longest segment that is sent now (TCP_MAXSEG), in bytes: what the path takes, and no more than half of the largest window that
    /// the peer has announced (all of it below 537 bytes).
    ///
    /// # Errors
    ///
    /// What getsockopt(2) says.
    pub fn max_segment(&self) -> io::Result<u32> {
        borrow(self.as_raw_fd(), |socket| socket.tcp_mss())
    }

    /// What TCP_NOTSENT_LOWAT is set to, in bytes; 0 for the system's default.
    ///
    /// # Errors
    ///
    /// What getsockopt(2) says.
    pub fn notsent_lowat(&self) -> io::Result<u32> {
        borrow(self.as_raw_fd(), |socket| socket.tcp_notsent_lowat())
    }
}
