//! A listening socket on this core's loop.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::task::{Context, Poll};

use super::TcpStream;
use super::address::ToSocketAddrs;
use super::bind::unsteer;
use super::descriptors::make_room;
use super::share::{Counted, Placed, Share};
use super::stream::{borrow, tcp_info};
use crate::driver::DriverKind;
use crate::shard::{Shard, current};
use crate::socket::ListenerId;
use crate::task::{WaitsFor, waits};

/// Accepts TCP connections with one multishot request that goes on between calls.
///
/// Dropping it closes the socket and every connection that was accepted and not taken.
///
/// # Examples
///
/// ```
/// annulet::run(async {
///     let listener = annulet::net::TcpListener::bind("127.0.0.1:0").unwrap();
///     let address = listener.local_addr().unwrap();
///     let client = annulet::spawn(async move { annulet::net::TcpStream::connect(address).await.unwrap() });
///     let server = listener.accept().await.unwrap();
///     assert_eq!(server.peer_addr().unwrap(), client.await.unwrap().local_addr().unwrap());
/// });
/// ```
pub struct TcpListener {
    acceptor: Acceptor,
    /// Its part in a group that shares connections.
    share: Option<Rc<Share>>,
}

impl TcpListener {
    /// Binds to the first address that can be had, and listens.
    ///
    /// Addresses are bound at once. A host name is looked up on this thread, and the loop stands still meanwhile; what
    /// [`lookup_host`](super::lookup_host) gives, which looks beside the loop, can be bound instead:
    /// `TcpListener::bind(&lookup_host("localhost", 0).await?[..])`.
    ///
    /// # Errors
    ///
    /// What bind(2) and listen(2) say, with the address in the message.
    ///
    /// # Panics
    ///
    /// Outside of a loop.
    #[track_caller]
    pub fn bind(address: impl ToSocketAddrs) -> io::Result<Self> {
        address.target().try_each_blocking(|address| Self::from_std(super::bind_one(address)?))
    }

    /// Takes over a listening socket, one of [`bind_group`](super::bind_group) for example.
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
    pub fn from_std(listener: std::net::TcpListener) -> io::Result<Self> {
        Ok(TcpListener { acceptor: Acceptor::new(OwnedFd::from(listener))?, share: None })
    }

    /// The next connection.
    ///
    /// # Errors
    ///
    /// What accept(2) says of the listener itself. Errors of single connections and a lack of descriptors are no errors
    /// here: accepting goes on, after a pause where one is needed.
    ///
    /// # Cancel safety
    ///
    /// A dropped wait loses no connection: it waits in the queue for the next call.
    pub async fn accept(&self) -> io::Result<TcpStream> {
        poll_fn(|cx| self.poll_accept(cx)).await
    }

    /// The polling form of [`accept`](Self::accept). Only the task that polled last is woken.
    pub fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<TcpStream>> {
        let Some(share) = &self.share else {
            let accepted = self.acceptor.poll_accept(cx);
            return accepted.map_ok(|fd| TcpStream::from_fd(Rc::clone(&self.acceptor.shard), fd));
        };
        share.open();
        loop {
            if let Poll::Ready((fd, counted)) = share.poll_take(cx) {
                return Poll::Ready(Ok(self.counted_stream(fd, counted)));
            }
            if share.poll_room(cx).is_pending() {
                // Every core is full: who comes waits in the queue of the socket.
                self.acceptor.hold();
                return Poll::Pending;
            }
            let next = match share.unpark() {
                Some(fd) => Poll::Ready(Ok(fd)),
                None => self.acceptor.poll_accept(cx),
            };
            match next {
                Poll::Ready(Ok(fd)) => {
                    if let Placed::Here(fd, counted) = share.place(fd) {
                        return Poll::Ready(Ok(self.counted_stream(fd, counted)));
                    }
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// The next of the connections that were accepted already, and none after the last. From the first call on no more
    /// are accepted here: those that come stay in the queue of the socket, for whoever else has it (a duplicate of the
    /// descriptor, in this process or another).
    ///
    /// This is how to leave a listening socket to a successor without losing a connection. [`accept`](Self::accept) begins
    /// to accept again.
    ///
    /// # Examples
    ///
    /// ```
    /// # annulet::run(async {
    /// # use annulet::net::{TcpListener, TcpStream, bind_one};
    /// let socket = bind_one("127.0.0.1:0".parse().unwrap()).unwrap();
    /// let successor = socket.try_clone().unwrap();
    /// let listener = TcpListener::from_std(socket).unwrap();
    /// // … accept for as long as it is wanted, then:
    /// while let Some(stream) = listener.rest().await {
    ///     // … serve the last ones
    /// #   drop(stream);
    /// }
    /// drop(listener);
    /// let _client = TcpStream::connect(successor.local_addr().unwrap()).await.unwrap();
    /// TcpListener::from_std(successor).unwrap().accept().await.unwrap();
    /// # });
    /// ```
    ///
    /// # Cancel safety
    ///
    /// As for [`accept`](Self::accept).
    pub async fn rest(&self) -> Option<TcpStream> {
        poll_fn(|cx| self.poll_rest(cx)).await
    }

    /// The polling form of [`rest`](Self::rest). Only the task that polled last is woken.
    pub fn poll_rest(&self, cx: &mut Context<'_>) -> Poll<Option<TcpStream>> {
        let Some(share) = &self.share else {
            let rest = self.acceptor.poll_rest(cx);
            return rest.map(|fd| fd.map(|fd| TcpStream::from_fd(Rc::clone(&self.acceptor.shard), fd)));
        };
        share.close();
        if let Some((fd, counted)) = share.take_left() {
            return Poll::Ready(Some(self.counted_stream(fd, counted)));
        }
        let next = match share.unpark() {
            Some(fd) => Poll::Ready(Some(fd)),
            None => self.acceptor.poll_rest(cx),
        };
        next.map(|fd| fd.map(|fd| self.counted_stream(fd, share.keep())))
    }

    /// Shares connections with the listeners of other cores.
    pub(crate) fn with_share(mut self, share: Rc<Share>) -> Self {
        self.share = Some(share);
        self
    }

    fn counted_stream(&self, fd: OwnedFd, counted: Box<Counted>) -> TcpStream {
        TcpStream::from_fd(Rc::clone(&self.acceptor.shard), fd).counted(counted)
    }

    /// The address it listens on.
    ///
    /// # Errors
    ///
    /// What getsockname(2) says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        let fd = self.as_raw_fd();
        borrow(fd, |socket| socket.local_addr())?.as_socket().ok_or_else(|| io::ErrorKind::Unsupported.into())
    }

    /// Sets TCP_NODELAY on the listener; connections that come from now on inherit it. On by default when bound here.
    ///
    /// # Errors
    ///
    /// What setsockopt(2) says.
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        borrow(self.as_raw_fd(), |socket| socket.set_tcp_nodelay(nodelay))
    }

    /// Connections that have come and wait in the queue of the socket, where nobody has accepted them (`tcpi_unacked` of TCP_INFO, which
    /// is that for a listening socket). Those that the loop has accepted ahead are not among them.
    ///
    /// # Errors
    ///
    /// What getsockopt(2) says.
    pub fn queued(&self) -> io::Result<u32> {
        const UNACKED: usize = 24 / 4;
        let info: [u32; UNACKED + 1] = tcp_info(self.as_raw_fd())?;
        Ok(info[UNACKED])
    }

    /// Sets TCP_NOTSENT_LOWAT of tcp(7) on the listener; connections that come from now on inherit it, those that are
    /// [`queued`](Self::queued) do not. The kernel takes no more for such
    /// a connection once so many bytes wait for a peer that is not ready for them; the rest stays with the writer. Without it the
    /// kernel takes some megabytes for each peer that does not read, and when all sockets together hold too much (`tcp_mem`), the
    /// others suffer. What is under way to the peer does not count, so a fast connection remains fast.
    ///
    /// # Errors
    ///
    /// What setsockopt(2) says.
    pub fn set_notsent_lowat(&self, bytes: u32) -> io::Result<()> {
        borrow(self.as_raw_fd(), |socket| socket.set_tcp_notsent_lowat(bytes))
    }
}

impl Drop for TcpListener {
    fn drop(&mut self) {
        if self.share.as_ref().is_some_and(|share| share.is_steered()) {
            // An error: the loop has closed it already.
            let _ = borrow(self.as_raw_fd(), |socket| {
                unsteer(socket.as_fd());
                Ok(())
            });
        }
    }
}

impl AsRawFd for TcpListener {
    fn as_raw_fd(&self) -> RawFd {
        self.acceptor.as_raw_fd()
    }
}

impl fmt::Debug for TcpListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TcpListener").field("fd", &self.as_raw_fd()).finish()
    }
}

/// A listening socket of the core's table: what is behind [`TcpListener`] and [`UnixListener`](super::UnixListener).
pub(super) struct Acceptor {
    pub(super) shard: Rc<Shard>,
    id: ListenerId,
}

impl Acceptor {
    /// Takes over a listening descriptor.
    #[track_caller]
    pub(super) fn new(fd: OwnedFd) -> io::Result<Self> {
        let shard = current();
        make_room();
        let mut io = shard.io.borrow_mut();
        // The mode is that of all processes and loops that have the socket, which have the same driver.
        rustix::io::ioctl_fionbio(&fd, io.driver.capabilities().driver() == DriverKind::Epoll)?;
        let id = io.listeners.insert(fd);
        drop(io);
        Ok(Acceptor { shard, id })
    }

    pub(super) fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<OwnedFd>> {
        if self.shard.is_closing() {
            return Poll::Ready(Err(crate::op::ended()));
        }
        std::task::ready!(self.shard.executor.poll_share(cx));
        let (waker, mut old) = (cx.waker().clone(), None);
        let mut io = self.shard.io.borrow_mut();
        let (listeners, mut context) = io.listeners(self.shard.clock.now());
        let accepted = listeners.poll_accept(self.id, waker, &mut old, &mut context);
        if accepted.is_pending() {
            waits::note(WaitsFor::Operation { name: "accept", fd: io.listeners.fd(self.id) });
        }
        drop(io);
        drop(old);
        accepted
    }
}

impl Acceptor {
    /// Stops accepting until the next wait for a connection.
    fn hold(&self) {
        if !self.shard.is_closing() {
            let mut io = self.shard.io.borrow_mut();
            let (listeners, mut context) = io.listeners(self.shard.clock.now());
            listeners.hold(self.id, &mut context);
        }
    }

    pub(super) fn poll_rest(&self, cx: &mut Context<'_>) -> Poll<Option<OwnedFd>> {
        if self.shard.is_closing() {
            return Poll::Ready(None);
        }
        let (waker, mut old) = (cx.waker().clone(), None);
        let mut io = self.shard.io.borrow_mut();
        let (listeners, mut context) = io.listeners(self.shard.clock.now());
        let rest = listeners.poll_rest(self.id, waker, &mut old, &mut context);
        if rest.is_pending() {
            waits::note(WaitsFor::Operation { name: "the last accept", fd: io.listeners.fd(self.id) });
        }
        drop(io);
        drop(old);
        rest
    }
}

impl AsRawFd for Acceptor {
    fn as_raw_fd(&self) -> RawFd {
        self.shard.io.borrow_mut().listeners.fd(self.id)
    }
}

impl Drop for Acceptor {
    fn drop(&mut self) {
        let mut io = self.shard.io.borrow_mut();
        let (listeners, mut context) = io.listeners(self.shard.clock.now());
        let waker = listeners.release(self.id, &mut context);
        drop(io);
        drop(waker);
    }
}
