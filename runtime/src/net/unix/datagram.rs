//! Datagrams between processes of this machine.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::{SocketAddr, UnixDatagram as StdSocket};
use std::path::Path;
use std::rc::Rc;

use rustix::net::{RecvFlags, SocketAddrAny, SocketAddrUnix};
use socket2::{Domain, SockAddr, SockRef, Socket, Type};

use super::{address, message};
use crate::op::{ended, request};
use crate::shard::{Shard, current};

/// A Unix datagram socket: datagrams arrive whole, in order, and none is lost; who sends faster than the other side
/// receives, waits.
///
/// Each call tries at once and asks for readiness only if it must wait. Any number of tasks may wait.
///
/// # Examples
///
/// ```
/// use annulet::net::UnixDatagram;
///
/// annulet::run(async {
///     let name = format!("\0annulet-doc-datagram-{}", std::process::id());
///     let server = UnixDatagram::bind(&name).unwrap();
///     let client = UnixDatagram::unbound().unwrap();
///     client.send_to(b"hello", &name).await.unwrap();
///     let mut buffer = [0; 64];
///     let (count, sender) = server.recv_from(&mut buffer).await.unwrap();
///     assert_eq!(&buffer[..count], b"hello");
///     assert!(sender.is_unnamed());
/// });
/// ```
pub struct UnixDatagram {
    shard: Rc<Shard>,
    /// Shared with the operations that wait for it, so that its number stays its own.
    fd: Rc<OwnedFd>,
}

impl UnixDatagram {
    #[track_caller]
    fn new(fd: OwnedFd) -> Self {
        UnixDatagram { shard: current(), fd: Rc::new(fd) }
    }

    /// Binds to `path`. A path that begins with a NUL byte is an abstract name.
    ///
    /// # Errors
    ///
    /// As [`UnixListener::bind`](super::UnixListener::bind): the file is made, and must not be there before.
    ///
    /// # Panics
    ///
    /// Outside of a loop.
    #[track_caller]
    pub fn bind(path: impl AsRef<Path>) -> io::Result<Self> {
        let address = address::of_path(path.as_ref())?;
        let socket = Socket::new(Domain::UNIX, Type::DGRAM, None)?;
        socket.bind(&address).map_err(|error| address::explain("bind to", &address, &error))?;
        Ok(Self::new(socket.into()))
    }

    /// A socket without a name: it can send, and receive if it is connected.
    ///
    /// # Errors
    ///
    /// What socket(2) says.
    ///
    /// # Panics
    ///
    /// Outside of a loop.
    #[track_caller]
    pub fn unbound() -> io::Result<Self> {
        Ok(Self::new(Socket::new(Domain::UNIX, Type::DGRAM, None)?.into()))
    }

    /// Two connected sockets.
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
        let (one, other) = Socket::pair(Domain::UNIX, Type::DGRAM, None)?;
        Ok((Self::new(one.into()), Self::new(other.into())))
    }

    /// Takes over a socket.
    ///
    /// # Errors
    ///
    /// None today.
    ///
    /// # Panics
    ///
    /// Outside of a loop.
    #[track_caller]
    pub fn from_std(socket: StdSocket) -> io::Result<Self> {
        // Waiting sends go through the ring, which must not be told to try again.
        socket.set_nonblocking(false)?;
        Ok(Self::new(socket.into()))
    }

    /// Chooses the peer for [`send`](Self::send); only its datagrams are received from now on.
    ///
    /// # Errors
    ///
    /// What connect(2) says, with the path in the message.
    pub fn connect(&self, path: impl AsRef<Path>) -> io::Result<()> {
        let address = address::of_path(path.as_ref())?;
        SockRef::from(&*self.fd)
            .connect(&address)
            .map_err(|error| address::explain("connect to", &address, &error))
    }

    /// Sends one datagram to the connected peer. Gives the count, which is all of it.
    ///
    /// # Errors
    ///
    /// What send(2) says: `EMSGSIZE` for more than the send buffer holds (SO_SNDBUF).
    ///
    /// # Cancel safety
    ///
    /// A dropped wait has sent nothing.
    pub async fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        self.send_with_fds(bytes, &[]).await
    }

    /// The same with descriptors, of which the peer gets duplicates.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send); `InvalidInput` for more than 253 descriptors, and for descriptors without a byte.
    ///
    /// # Cancel safety
    ///
    /// A dropped wait has sent nothing.
    pub async fn send_with_fds(&self, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<usize> {
        message::check(bytes, descriptors)?;
        self.retry(libc::POLLOUT, || message::send(self.fd.as_fd(), bytes, descriptors))
            .await
            .map_err(|error| explain(error, bytes.len()))
    }

    /// Sends one datagram to the socket at `path`. Gives the count, which is all of it.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send), with the path in the message.
    ///
    /// # Cancel safety
    ///
    /// A dropped wait has sent nothing.
    pub async fn send_to(&self, bytes: &[u8], path: impl AsRef<Path>) -> io::Result<usize> {
        let to = address::of_path(path.as_ref())?;
        let sent = self.send_to_address(bytes, &to).await;
        sent.map_err(|error| address::explain("send to", &to, &explain(error, bytes.len())))
    }

    async fn send_to_address(&self, bytes: &[u8], to: &SockAddr) -> io::Result<usize> {
        self.shard.executor.share().await;
        let send = || {
            let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
            SockRef::from(&*self.fd).send_to_with_flags(bytes, to, flags)
        };
        match send() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            done => return done,
        }
        // Readiness shows whether the other side's queue has room only for a socket that is connected to it, so one is made
        // for the wait. (A sendmsg of the ring would wait by itself, but its second attempt sends an empty datagram: the
        // first has used the bytes up. Seen with Linux 6.18.)
        let watcher = Socket::new(Domain::UNIX, Type::DGRAM, None)?;
        watcher.connect(to)?;
        let watcher = Rc::new(OwnedFd::from(watcher));
        loop {
            // This side's send buffer, then the other side's queue.
            for fd in [&self.fd, &watcher] {
                request::poll(&self.shard, Rc::clone(fd), libc::POLLOUT as u32).await.result?;
            }
            match send() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return done,
            }
        }
    }

    /// The next datagram into `buffer`; gives its length. What does not fit is lost, as in recv(2).
    ///
    /// # Errors
    ///
    /// What recv(2) says.
    ///
    /// # Cancel safety
    ///
    /// A dropped wait loses no datagram.
    pub async fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(self.recv_from(buffer).await?.0)
    }

    /// The next datagram into `buffer`; gives its length and its sender. What does not fit is lost, as in recvfrom(2).
    ///
    /// # Errors
    ///
    /// What recvfrom(2) says.
    ///
    /// # Cancel safety
    ///
    /// A dropped wait loses no datagram.
    pub async fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.retry(libc::POLLIN, || {
            let (_, count, sender) = rustix::net::recvfrom(&*self.fd, &mut *buffer, RecvFlags::DONTWAIT)?;
            Ok((count, std_address(sender)?))
        })
        .await
    }

    /// The next datagram into `buffer`, with the descriptors that were sent with it. They are closed on exec. Plain receives
    /// lose them.
    ///
    /// # Errors
    ///
    /// What recvmsg(2) says. When descriptors were lost because no more may be open, those that arrived are closed.
    ///
    /// # Cancel safety
    ///
    /// A dropped wait loses no datagram and no descriptor.
    pub async fn recv_with_fds(&self, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
        self.retry(libc::POLLIN, || message::receive(self.fd.as_fd(), buffer)).await
    }

    /// Calls `f` until it does not answer `WouldBlock`, and waits for `events` after each time that it does.
    async fn retry<R>(&self, events: i16, mut f: impl FnMut() -> io::Result<R>) -> io::Result<R> {
        self.shard.executor.share().await;
        loop {
            if self.shard.is_closing() {
                return Err(ended());
            }
            match f() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    request::poll(&self.shard, Rc::clone(&self.fd), events as u32).await.result?;
                }
                done => return done,
            }
        }
    }

    /// The address it is bound to.
    ///
    /// # Errors
    ///
    /// What getsockname(2) says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        address::to_std(&SockRef::from(&*self.fd).local_addr()?)
    }

    /// The address it is connected to.
    ///
    /// # Errors
    ///
    /// What getpeername(2) says: `NotConnected` if it is not.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        address::to_std(&SockRef::from(&*self.fd).peer_addr()?)
    }
}

/// The sender's address; a sender without a name has none.
fn std_address(sender: Option<SocketAddrAny>) -> io::Result<SocketAddr> {
    use std::os::linux::net::SocketAddrExt;
    let Some(sender) = sender.and_then(|any| SocketAddrUnix::try_from(any).ok()) else {
        return SocketAddr::from_pathname("");
    };
    if let Some(name) = sender.abstract_name() {
        return SocketAddr::from_abstract_name(name);
    }
    match sender.path() {
        Some(path) => {
            use std::os::unix::ffi::OsStrExt;
            SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(path.to_bytes()))
        }
        None => SocketAddr::from_pathname(""),
    }
}

/// Says what a datagram's length has to do with it.
fn explain(error: io::Error, len: usize) -> io::Error {
    if error.raw_os_error() != Some(libc::EMSGSIZE) {
        return error;
    }
    let text = format!(
        "a datagram of {len} bytes is longer than the send buffer allows (SO_SNDBUF, `net.core.wmem_max`): {error}"
    );
    io::Error::new(error.kind(), text)
}

impl AsFd for UnixDatagram {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for UnixDatagram {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

impl fmt::Debug for UnixDatagram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnixDatagram").field("fd", &self.as_raw_fd()).finish()
    }
}
