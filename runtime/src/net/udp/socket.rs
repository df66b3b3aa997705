//! A UDP socket on this core's loop.

#![allow(unsafe_code)]

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::{SocketAddr, UdpSocket as StdSocket};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use rustix::net::SendFlags;
use socket2::{Domain, Protocol, Socket, Type};

use super::Datagram;
use crate::net::address::ToSocketAddrs;
use crate::net::stream::borrow;
use crate::op::{BufferPool, Lease, ended, request};
use crate::shard::{Shard, current};
use crate::socket::{Received, SocketId};
use crate::task::{WaitsFor, waits};

/// A UDP socket.
///
/// Methods take `&self`: one task may receive while others send. If two tasks wait for datagrams, only the one that polled
/// last is woken.
///
/// Receiving begins with the first wait for a datagram and goes on between calls. What has arrived and was not taken waits
/// here, up to 32 datagrams; then in the kernel, as far as its receive buffer reaches; what comes after that is lost, as is
/// the way of UDP.
///
/// # Examples
///
/// ```
/// use annulet::net::UdpSocket;
///
/// annulet::run(async {
///     let server = UdpSocket::bind("127.0.0.1:0").unwrap();
///     let client = UdpSocket::bind("127.0.0.1:0").unwrap();
///     client.connect(server.local_addr().unwrap()).await.unwrap();
///     client.send(b"ping").await.unwrap();
///
///     let mut buffer = [0; 1500];
///     let (count, sender) = server.recv_from(&mut buffer).await.unwrap();
///     server.send_to(&buffer[..count], sender).await.unwrap();
///
///     let datagram = client.recv_datagram().await.unwrap();
///     assert_eq!((&datagram[..], datagram.sender()), (&b"ping"[..], server.local_addr().unwrap()));
/// });
/// ```
pub struct UdpSocket {
    pub(super) shard: Rc<Shard>,
    /// Where its datagrams arrive.
    pool: Rc<BufferPool>,
    id: SocketId,
}

impl UdpSocket {
    /// Binds to the first address that can be had; port 0 lets the kernel choose.
    ///
    /// Addresses are bound at once. A host name is looked up on this thread, and the loop stands still meanwhile; what
    /// [`lookup_host`](crate::net::lookup_host) gives, which looks beside the loop, can be bound instead:
    /// `UdpSocket::bind(&lookup_host("localhost", 0).await?[..])`.
    ///
    /// # Errors
    ///
    /// What bind(2) says, with the address in the message.
    ///
    /// # Panics
    ///
    /// Outside of a loop.
    #[track_caller]
    pub fn bind(address: impl ToSocketAddrs) -> io::Result<Self> {
        address.target().try_each_blocking(|address| {
            let bound = || {
                let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
                if address.is_ipv6() {
                    // As with TCP: an IPv6 address is just that.
                    socket.set_only_v6(true)?;
                }
                socket.bind(&address.into())?;
                Ok(socket)
            };
            let socket: Socket = bound().map_err(|error: io::Error| {
                io::Error::new(error.kind(), format!("cannot bind to {address}: {error}"))
            })?;
            Self::from_std(socket.into())
        })
    }

    /// Takes over a socket.
    ///
    /// # Errors
    ///
    /// When it cannot be made blocking (the ring waits for it, so it must not say "try again").
    ///
    /// # Panics
    ///
    /// Outside of a loop.
    #[track_caller]
    pub fn from_std(socket: StdSocket) -> io::Result<Self> {
        let shard = current();
        socket.set_nonblocking(false)?;
        let mut io = shard.io.borrow_mut();
        let pool = io.datagram_pool();
        let id = io.datagrams.insert_datagram(OwnedFd::from(socket));
        drop(io);
        Ok(UdpSocket { shard, pool, id })
    }

    /// Chooses the peer: [`send`](Self::send) sends to it, and only its datagrams are received from now on. What has
    /// arrived before stays.
    ///
    /// # Errors
    ///
    /// What connect(2) says of the last address, with the address in the message.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn connect(&self, address: impl ToSocketAddrs) -> io::Result<()> {
        let target = address.target().resolve().await?;
        target.try_each(|address| {
            borrow(self.as_raw_fd(), |socket| socket.connect(&address.into())).map_err(|error| {
                io::Error::new(error.kind(), format!("cannot connect to {address}: {error}"))
            })
        })
    }

    /// Sends one datagram to the connected peer. Gives the count, which is all of it.
    ///
    /// # Errors
    ///
    /// What send(2) says: `ConnectionRefused` when an earlier datagram found nobody, `EMSGSIZE` for more than 65 507 bytes.
    ///
    /// # Cancel safety
    ///
    /// A dropped wait has sent nothing.
    pub async fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        self.retry(|| self.try_send(bytes)).await
    }

    /// Sends one datagram to `address`. Gives the count, which is all of it.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    ///
    /// # Cancel safety
    ///
    /// A dropped wait has sent nothing.
    pub async fn send_to(&self, bytes: &[u8], address: SocketAddr) -> io::Result<usize> {
        self.retry(|| self.try_send_to(bytes, address)).await
    }

    /// Sends one datagram to the connected peer, if that takes no waiting.
    ///
    /// # Errors
    ///
    /// `WouldBlock` when the send buffer is full; else as [`send`](Self::send).
    pub fn try_send(&self, bytes: &[u8]) -> io::Result<usize> {
        let sent = borrow(self.as_raw_fd(), |socket| Ok(rustix::net::send(&*socket, bytes, SEND)?));
        sent.map_err(|error| explain(error, bytes.len()))
    }

    /// Sends one datagram to `address`, if that takes no waiting.
    ///
    /// # Errors
    ///
    /// As [`try_send`](Self::try_send).
    pub fn try_send_to(&self, bytes: &[u8], address: SocketAddr) -> io::Result<usize> {
        let sent =
            borrow(self.as_raw_fd(), |socket| Ok(rustix::net::sendto(&*socket, bytes, SEND, &address)?));
        sent.map_err(|error| explain(error, bytes.len()))
    }

    /// Calls `f` until it does not answer `WouldBlock`, waiting for room after each time that it does.
    pub(super) async fn retry<R>(&self, mut f: impl FnMut() -> io::Result<R>) -> io::Result<R> {
        self.shard.executor.share().await;
        loop {
            match f() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let room = request::poll_number(&self.shard, self.as_raw_fd(), libc::POLLOUT as u32);
                    room.await.result?;
                }
                done => return done,
            }
        }
    }

    /// The next datagram into `buffer`; gives its length and its sender. What does not fit is lost, as in recvfrom(2);
    /// where that matters, take [`recv_datagram`](Self::recv_datagram).
    ///
    /// # Errors
    ///
    /// What recvmsg(2) says: `ConnectionRefused` when a datagram of a connected socket found nobody.
    ///
    /// # Cancel safety
    ///
    /// A dropped wait loses no datagram.
    pub async fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        poll_fn(|cx| self.poll_recv_from(cx, buffer)).await
    }

    /// The polling form of [`recv_from`](Self::recv_from). Only the task that polled last is woken.
    pub fn poll_recv_from(
        &self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<(usize, SocketAddr)>> {
        self.poll_recv_datagram(cx).map_ok(|datagram| (copy(&datagram, buffer), datagram.sender()))
    }

    /// The next datagram into `buffer`; gives its length. For a connected socket.
    ///
    /// # Errors
    ///
    /// As [`recv_from`](Self::recv_from).
    ///
    /// # Cancel safety
    ///
    /// A dropped wait loses no datagram.
    pub async fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(self.recv_from(buffer).await?.0)
    }

    /// The next datagram, where the kernel put it.
    ///
    /// # Errors
    ///
    /// As [`recv_from`](Self::recv_from).
    ///
    /// # Cancel safety
    ///
    /// A dropped wait loses no datagram.
    pub async fn recv_datagram(&self) -> io::Result<Datagram> {
        poll_fn(|cx| self.poll_recv_datagram(cx)).await
    }

    /// The polling form of [`recv_datagram`](Self::recv_datagram). Only the task that polled last is woken.
    #[inline]
    pub fn poll_recv_datagram(&self, cx: &mut Context<'_>) -> Poll<io::Result<Datagram>> {
        let received = ready!(self.poll_received(cx))?;
        Poll::Ready(self.datagram(received))
    }

    #[inline]
    fn poll_received(&self, cx: &mut Context<'_>) -> Poll<io::Result<Received>> {
        if self.shard.is_closing() {
            return Poll::Ready(Err(ended()));
        }
        ready!(self.shard.executor.poll_share(cx));
        let (waker, mut old) = (cx.waker().clone(), None);
        let mut io = self.shard.io.borrow_mut();
        let (sockets, mut context) = io.datagrams(self.shard.clock.now());
        let received = sockets.poll_receive(self.id, waker, &mut old, &mut context);
        if received.is_pending() {
            waits::note(WaitsFor::Operation { name: "recvmsg", fd: io.datagrams.fd(self.id) });
        }
        drop(io);
        drop(old);
        received.map_ok(|received| received.expect("a datagram socket has no end"))
    }

    /// A datagram that is here already, without waiting.
    pub fn try_recv_datagram(&self) -> Option<Datagram> {
        if self.shard.is_closing() {
            return None;
        }
        let mut io = self.shard.io.borrow_mut();
        let (sockets, mut context) = io.datagrams(self.shard.clock.now());
        let received = sockets.try_receive(self.id, &mut context);
        drop(io);
        Datagram::from_lease(self.lease(received?))
    }

    #[inline]
    fn datagram(&self, received: Received) -> io::Result<Datagram> {
        Datagram::from_lease(self.lease(received)).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, "a datagram without the address of its sender")
        })
    }

    #[inline]
    fn lease(&self, Received { buffer, start, end }: Received) -> Lease {
        // SAFETY: the table took the buffer out of its list for us. Memory of this pool is initialised from the start; the
        // kernel, or the table, reported that it wrote up to `end`.
        unsafe { Lease::new(Rc::clone(&self.pool), buffer, start, end) }
    }

    /// The next datagram into `buffer`, which stays to be received; gives its length and its sender.
    ///
    /// # Errors
    ///
    /// As [`recv_from`](Self::recv_from).
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn peek_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        poll_fn(|cx| {
            let received = ready!(self.poll_received(cx))?;
            let again = Received { ..received };
            let datagram = self.datagram(received)?;
            let peeked = (copy(&datagram, buffer), datagram.sender());
            // Not given back to the core: it goes to the front of the queue.
            let _ = datagram.into_parts().0.into_parts();
            let mut io = self.shard.io.borrow_mut();
            let (sockets, mut context) = io.datagrams(self.shard.clock.now());
            sockets.put_back(self.id, &again, &mut context);
            Poll::Ready(Ok(peeked))
        })
        .await
    }

    /// The address it is bound to.
    ///
    /// # Errors
    ///
    /// What getsockname(2) says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        borrow(self.as_raw_fd(), |socket| socket.local_addr())?
            .as_socket()
            .ok_or_else(|| io::ErrorKind::Unsupported.into())
    }

    /// The address it is connected to.
    ///
    /// # Errors
    ///
    /// What getpeername(2) says: `NotConnected` if it is not.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        borrow(self.as_raw_fd(), |socket| socket.peer_addr())?
            .as_socket()
            .ok_or_else(|| io::ErrorKind::Unsupported.into())
    }
}

/// Sends never wait in the kernel, and never raise SIGPIPE.
const SEND: SendFlags = SendFlags::DONTWAIT.union(SendFlags::NOSIGNAL);

/// As much of `datagram` as fits.
fn copy(datagram: &Datagram, buffer: &mut [u8]) -> usize {
    let count = datagram.len().min(buffer.len());
    buffer[..count].copy_from_slice(&datagram[..count]);
    count
}

/// Says what a datagram's length has to do with it.
pub(super) fn explain(error: io::Error, len: usize) -> io::Error {
    if error.raw_os_error() != Some(libc::EMSGSIZE) {
        return error;
    }
    io::Error::new(
        error.kind(),
        format!(
            "a datagram of {len} bytes is too long: UDP carries 65507 over IPv4 and 65527 over IPv6 at the most, and less \
             where fragments are forbidden ({error})"
        ),
    )
}

impl AsRawFd for UdpSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.shard.io.borrow_mut().datagrams.fd(self.id)
    }
}

impl Drop for UdpSocket {
    fn drop(&mut self) {
        let mut io = self.shard.io.borrow_mut();
        let (sockets, mut context) = io.datagrams(self.shard.clock.now());
        let wakers = sockets.release(self.id, &mut context);
        drop(io);
        drop(wakers);
    }
}

impl fmt::Debug for UdpSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UdpSocket").field("fd", &self.as_raw_fd()).finish()
    }
}
