//! A listening Unix socket.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::task::{Context, Poll};

use socket2::{Domain, SockAddr, Socket, Type};

use super::UnixStream;
use super::address;
use crate::net::listener::Acceptor;
use crate::net::stream::borrow;

/// Connections that may wait in the kernel; it takes the smaller of this and `net.core.somaxconn`.
const BACKLOG: i32 = 65_535;

/// Accepts connections to a path or an abstract name.
///
/// Dropping it closes the socket and every connection that was accepted and not taken. The file of a path stays: remove
/// it when the server ends, and before the next one binds.
///
/// # Examples
///
/// ```
/// use annulet::net::{UnixListener, UnixStream};
///
/// annulet::run(async {
///     // A name that begins with NUL is abstract: it is no file, and goes with its socket.
///     let name = format!("\0annulet-doc-{}", std::process::id());
///     let listener = UnixListener::bind(&name).unwrap();
///     let client = UnixStream::connect(&name).await.unwrap();
///     let server = listener.accept().await.unwrap();
///     client.write_all(b"hello").await.unwrap();
///     assert_eq!(&server.recv().await.unwrap().unwrap()[..], b"hello");
/// });
/// ```
pub struct UnixListener(Acceptor);

impl UnixListener {
    /// Binds to `path` and listens. A path that begins with a NUL byte is an abstract name.
    ///
    /// # Errors
    ///
    /// `InvalidInput` when the name does not fit into an address; `AddrInUse` when the file exists, which also an ended
    /// server leaves behind; what else bind(2) and listen(2) say. The message names the path.
    ///
    /// # Panics
    ///
    /// Outside of a loop.
    #[track_caller]
    pub fn bind(path: impl AsRef<Path>) -> io::Result<Self> {
        Self::bind_to(&address::of_path(path.as_ref())?)
    }

    /// Binds to an address of the standard library, and listens.
    ///
    /// # Errors
    ///
    /// As [`bind`](Self::bind).
    ///
    /// # Panics
    ///
    /// Outside of a loop.
    #[track_caller]
    pub fn bind_addr(address: &SocketAddr) -> io::Result<Self> {
        Self::bind_to(&address::of_std(address)?)
    }

    #[track_caller]
    fn bind_to(address: &SockAddr) -> io::Result<Self> {
        let bound = || {
            let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
            socket.bind(address)?;
            socket.listen(BACKLOG)?;
            Ok(socket)
        };
        let socket: Socket =
            bound().map_err(|error: io::Error| address::explain("listen on", address, &error))?;
        Ok(UnixListener(Acceptor::new(OwnedFd::from(socket))?))
    }

    /// Takes over a listening socket.
    ///
    /// # Errors
    ///
    /// When the socket cannot be given the mode that the driver needs: blocking for the ring, which waits for it, so that it must not
    /// say "try again".
    ///
    /// # Panics
    ///
    /// Outside of a loop.
    #[track_caller]
    pub fn from_std(listener: std::os::unix::net::UnixListener) -> io::Result<Self> {
        Ok(UnixListener(Acceptor::new(OwnedFd::from(listener))?))
    }

    /// The next connection.
    ///
    /// # Errors
    ///
    /// What accept(2) says of the listener itself, as with [`TcpListener::accept`](crate::net::TcpListener::accept).
    ///
    /// # Cancel safety
    ///
    /// A dropped wait loses no connection: it waits in the queue for the next call.
    pub async fn accept(&self) -> io::Result<UnixStream> {
        poll_fn(|cx| self.poll_accept(cx)).await
    }

    /// The polling form of [`accept`](Self::accept). Only the task that polled last is woken.
    pub fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<UnixStream>> {
        let accepted = self.0.poll_accept(cx);
        accepted.map_ok(|fd| UnixStream::from_fd(Rc::clone(&self.0.shard), fd))
    }

    /// As [`TcpListener::rest`](crate::net::TcpListener::rest): what was accepted already, and none after the last.
    ///
    /// # Cancel safety
    ///
    /// As for [`accept`](Self::accept).
    pub async fn rest(&self) -> Option<UnixStream> {
        poll_fn(|cx| self.poll_rest(cx)).await
    }

    /// The polling form of [`rest`](Self::rest). Only the task that polled last is woken.
    pub fn poll_rest(&self, cx: &mut Context<'_>) -> Poll<Option<UnixStream>> {
        let rest = self.0.poll_rest(cx);
        rest.map(|fd| fd.map(|fd| UnixStream::from_fd(Rc::clone(&self.0.shard), fd)))
    }

    /// The address it listens on.
    ///
    /// # Errors
    ///
    /// What getsockname(2) says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        borrow(self.as_raw_fd(), |socket| socket.local_addr()).and_then(|address| address::to_std(&address))
    }
}

impl AsRawFd for UnixListener {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl fmt::Debug for UnixListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnixListener").field("fd", &self.as_raw_fd()).finish()
    }
}
