//! A connected Unix stream socket.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, Socket, Type};

use super::address;
use crate::net::byte_stream::byte_stream;
use crate::net::connect::connect;
use crate::net::split::{OwnedReadHalf, OwnedWriteHalf, ReadHalf, WriteHalf};
use crate::net::stream::{Stream, borrow};
use crate::op::Lease;
use crate::shard::{Shard, current};

/// A connection between two processes of this machine, or within one.
///
/// It works like a [`TcpStream`](crate::net::TcpStream): methods take `&self`, what is written leaves in one send at the
/// end of the loop's turn, and every wait can be dropped.
///
/// # Examples
///
/// ```
/// annulet::run(async {
///     let (one, other) = annulet::net::UnixStream::pair().unwrap();
///     one.write_all(b"ping").await.unwrap();
///     let mut word = [0; 4];
///     other.read_exact(&mut word).await.unwrap();
///     assert_eq!(&word, b"ping");
///     assert_eq!(one.peer_cred().unwrap().pid(), Some(std::process::id() as i32));
/// });
/// ```
pub struct UnixStream(pub(super) Stream);

byte_stream!(UnixStream);

impl UnixStream {
    pub(super) fn from_fd(shard: Rc<Shard>, fd: OwnedFd) -> Self {
        UnixStream(Stream::from_fd(shard, fd))
    }

    /// Connects to the listener at `path`. A path that begins with a NUL byte is an abstract name.
    ///
    /// # Errors
    ///
    /// `InvalidInput` when the name does not fit into an address; what else connect(2) says, with the path in the message.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cancels the connect and closes the socket.
    ///
    /// # Panics
    ///
    /// Outside of a loop.
    pub async fn connect(path: impl AsRef<Path>) -> io::Result<Self> {
        Self::connect_to(address::of_path(path.as_ref())?).await
    }

    /// Connects to an address of the standard library.
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect).
    ///
    /// # Cancel safety
    ///
    /// As [`connect`](Self::connect).
    ///
    /// # Panics
    ///
    /// Outside of a loop.
    pub async fn connect_addr(address: &SocketAddr) -> io::Result<Self> {
        Self::connect_to(address::of_std(address)?).await
    }

    async fn connect_to(address: SockAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        match connect(socket, address.clone()).await {
            Ok(stream) => Ok(UnixStream(stream)),
            Err(error) => Err(address::explain("connect to", &address, &error)),
        }
    }

    /// Two connected streams.
    ///
    /// # Errors
    ///
    /// What socketpair(2) says.
    ///
    /// # Panics
    ///
    /// Outside of a loop.
    #[track_caller]
    pub fn pair() -> io::Result<(Self, Self)> {
        let shard = current();
        let (one, other) = Socket::pair(Domain::UNIX, Type::STREAM, None)?;
        let stream = |socket| Self::from_fd(Rc::clone(&shard), OwnedFd::from(socket));
        Ok((stream(one), stream(other)))
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
    pub fn from_std(stream: std::os::unix::net::UnixStream) -> io::Result<Self> {
        let shard = current();
        stream.set_nonblocking(false)?;
        Ok(Self::from_fd(shard, OwnedFd::from(stream)))
    }

    /// Who is on the other side, as the kernel noted it when the connection was made (SO_PEERCRED of unix(7)).
    ///
    /// # Errors
    ///
    /// What getsockopt(2) says.
    pub fn peer_cred(&self) -> io::Result<PeerCredentials> {
        let found = borrow(self.as_raw_fd(), |socket| crate::sys::peer_credentials(socket.as_fd()))?;
        Ok(PeerCredentials { pid: found.pid, uid: found.uid, gid: found.gid })
    }

    /// The peer's address; one without a name for a client that did not bind.
    ///
    /// # Errors
    ///
    /// What getpeername(2) says.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        borrow(self.as_raw_fd(), |socket| socket.peer_addr()).and_then(|address| address::to_std(&address))
    }

    /// This side's address.
    ///
    /// # Errors
    ///
    /// What getsockname(2) says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        borrow(self.as_raw_fd(), |socket| socket.local_addr()).and_then(|address| address::to_std(&address))
    }
}

/// The process on the other side of a [`UnixStream`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerCredentials {
    pid: i32,
    uid: u32,
    gid: u32,
}

impl PeerCredentials {
    /// The process's number as seen from here; none if it cannot be seen from this PID namespace.
    pub fn pid(&self) -> Option<i32> {
        (self.pid != 0).then_some(self.pid)
    }

    /// Its effective user.
    pub fn uid(&self) -> u32 {
        self.uid
    }

    /// Its effective group.
    pub fn gid(&self) -> u32 {
        self.gid
    }
}
