//! A connected TCP socket on this core's loop.

#![allow(unsafe_code)]

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::net::{Shutdown, SocketAddr, ToSocketAddrs};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};

use super::split::{self, OwnedReadHalf, OwnedWriteHalf, ReadHalf, WriteHalf};
use crate::op::{Descriptor, Lease, ended, request};
use crate::shard::{Shard, current};
use crate::socket::{NotLent, Received, SEND_HIGH_WATER, SocketId};
use crate::task::{WaitsFor, waits};

/// Bytes that a lingering close reads and throws away at the most; a peer that sends more is cut off.
const LINGER_BYTES_MAX: usize = 1 << 20;

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
pub struct TcpStream {
    shard: Rc<Shard>,
    id: SocketId,
}

/// Calls `f` with a socket of the table.
pub(super) fn borrow<R>(fd: RawFd, f: impl FnOnce(SockRef<'_>) -> io::Result<R>) -> io::Result<R> {
    if fd < 0 {
        return Err(ended());
    }
    // SAFETY: the table keeps the descriptor open as long as its handle, which the caller borrows, is alive, and gives
    // -1 once it has closed it.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    f(SockRef::from(&fd))
}

impl TcpStream {
    pub(super) fn from_fd(shard: Rc<Shard>, fd: OwnedFd) -> Self {
        let mut io = shard.io.borrow_mut();
        let id = io.sockets.insert(fd);
        drop(io);
        TcpStream { shard, id }
    }

    /// Connects to the first address that answers.
    ///
    /// A host name is resolved on this thread, which blocks; addresses do not.
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
        let mut last = io::Error::new(io::ErrorKind::InvalidInput, "the host name has no address");
        for address in address.to_socket_addrs()? {
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
        let shard = current();
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        let outcome = request::connect(&shard, OwnedFd::from(socket), SockAddr::from(address)).await;
        outcome.result?;
        let Descriptor::Owned(socket) = outcome.payload.descriptor else {
            unreachable!("connect gives its socket back")
        };
        Ok(Self::from_fd(shard, socket))
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

    /// The next received bytes, where the kernel put them; `None` at the end of the stream.
    ///
    /// # Errors
    ///
    /// What recv(2) says; `TimedOut` after [`set_recv_deadline`](Self::set_recv_deadline).
    ///
    /// # Cancel safety
    ///
    /// A dropped wait loses no byte.
    #[inline]
    pub fn recv(&self) -> impl Future<Output = io::Result<Option<Lease>>> + '_ {
        poll_fn(|cx| self.poll_recv(cx))
    }

    /// The polling form of [`recv`](Self::recv). Only the task that polled last is woken.
    #[inline]
    pub fn poll_recv(&self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Lease>>> {
        if self.shard.is_closing() {
            return Poll::Ready(Err(ended()));
        }
        ready!(self.shard.executor.poll_share(cx));
        let (waker, mut old) = (cx.waker().clone(), None);
        let mut io = self.shard.io.borrow_mut();
        let (sockets, mut context) = io.sockets(self.shard.clock.now());
        let received = sockets.poll_receive(self.id, waker, &mut old, &mut context);
        if received.is_pending() {
            waits::note(WaitsFor::Operation { name: "recv", fd: io.sockets.fd(self.id) });
        }
        drop(io);
        drop(old);
        received.map_ok(|received| received.map(|received| self.lease(received)))
    }

    /// Bytes that have been received already, without waiting.
    #[inline]
    pub fn try_recv(&self) -> Option<Lease> {
        if self.shard.is_closing() {
            return None;
        }
        let mut io = self.shard.io.borrow_mut();
        let (sockets, mut context) = io.sockets(self.shard.clock.now());
        let received = sockets.try_receive(self.id, &mut context);
        drop(io);
        received.map(|received| self.lease(received))
    }

    #[inline]
    fn lease(&self, Received { buffer, start, end }: Received) -> Lease {
        // SAFETY: the table took the buffer out of its list for us; the kernel reported that it wrote up to `end`.
        unsafe { Lease::new(Rc::clone(&self.shard.pool), buffer, start, end) }
    }

    /// Asks the kernel for bytes before anybody waits for them, so that they are there when they are.
    pub fn start_recv(&self) {
        if !self.shard.is_closing() {
            let mut io = self.shard.io.borrow_mut();
            let (sockets, mut context) = io.sockets(self.shard.clock.now());
            sockets.start_receive(self.id, &mut context);
        }
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
        if buffer.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let Some(mut lease) = ready!(self.poll_recv(cx))? else { return Poll::Ready(Ok(0)) };
        let count = lease.len().min(buffer.len());
        buffer[..count].copy_from_slice(&lease[..count]);
        if count < lease.len() {
            lease.advance(count);
            let (buffer, start, end) = lease.into_parts();
            let mut io = self.shard.io.borrow_mut();
            let (sockets, mut context) = io.sockets(self.shard.clock.now());
            sockets.put_back(self.id, &Received { buffer, start, end }, &mut context);
        }
        Poll::Ready(Ok(count))
    }

    /// Fills `buffer`.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv); `UnexpectedEof` when the stream ends first.
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

    /// Appends to the send buffer with `f`; what it appends leaves in one send at the end of the loop's turn.
    ///
    /// There is no bound here: ask [`write_ready`](Self::write_ready) before much is appended. After an error that ended
    /// sending, appended bytes are dropped; [`flush`](Self::flush) tells the error.
    #[inline]
    pub fn with_send_buffer<R>(&self, f: impl FnOnce(&mut Vec<u8>) -> R) -> R {
        // The buffer is out of the table while `f` runs, which may be anybody's code and may use this very stream; the
        // guard puts it back, also when `f` panics.
        struct PutBack<'a>(&'a TcpStream, Vec<u8>);
        impl Drop for PutBack<'_> {
            fn drop(&mut self) {
                if !self.0.shard.is_closing() {
                    self.0.shard.io.borrow_mut().sockets.put_gather(self.0.id, std::mem::take(&mut self.1));
                }
            }
        }
        let buffer = if self.shard.is_closing() {
            Vec::new()
        } else {
            self.shard.io.borrow_mut().sockets.take_gather(self.id)
        };
        let mut guard = PutBack(self, buffer);
        f(&mut guard.1)
    }

    /// Bytes that were written and not yet taken by the kernel.
    #[inline]
    pub fn send_buffered(&self) -> usize {
        if self.shard.is_closing() { 0 } else { self.shard.io.borrow_mut().sockets.unsent(self.id) }
    }

    /// Waits until fewer than 64 KiB of written bytes wait for the kernel.
    ///
    /// # Errors
    ///
    /// The error that ended sending.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn write_ready(&self) -> io::Result<()> {
        poll_fn(|cx| self.poll_write_ready(cx)).await
    }

    /// The polling form of [`write_ready`](Self::write_ready). Only the task that polled last is woken.
    pub fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_unsent_below(SEND_HIGH_WATER, cx)
    }

    /// Waits until the kernel has taken every written byte.
    ///
    /// # Errors
    ///
    /// The error that ended sending.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn flush(&self) -> io::Result<()> {
        poll_fn(|cx| self.poll_flush(cx)).await
    }

    /// The polling form of [`flush`](Self::flush). Only the task that polled last is woken.
    pub fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_unsent_below(1, cx)
    }

    fn poll_unsent_below(&self, below: usize, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.shard.is_closing() {
            return Poll::Ready(Err(ended()));
        }
        ready!(self.shard.executor.poll_share(cx));
        let (waker, mut old) = (cx.waker().clone(), None);
        let mut io = self.shard.io.borrow_mut();
        let name = if below == 1 { "flush" } else { "write" };
        let below = io.sockets.poll_unsent_below(self.id, below, waker, &mut old);
        if below.is_pending() {
            waits::note(WaitsFor::Operation { name, fd: io.sockets.fd(self.id) });
        }
        drop(io);
        drop(old);
        below
    }

    /// Writes some of `bytes`: as much as fits below the high-water mark of 64 KiB. Gives the count.
    ///
    /// # Errors
    ///
    /// The error that ended sending.
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
        let count = bytes.len().min(SEND_HIGH_WATER - self.send_buffered());
        self.with_send_buffer(|buffer| buffer.extend_from_slice(&bytes[..count]));
        Poll::Ready(Ok(count))
    }

    /// Writes all of `bytes`. They are copied, so the slice is free when this returns; the kernel has them after
    /// [`flush`](Self::flush).
    ///
    /// # Errors
    ///
    /// The error that ended sending.
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

    /// Sends `bytes` without a copy and gives the vector back, also after an error. What was written before leaves first.
    ///
    /// # Errors
    ///
    /// What send(2) says; `ResourceBusy` while another `send` of this stream is under way.
    ///
    /// # Cancel safety
    ///
    /// Sound, but whether the bytes leave is not told: before they are handed to the kernel they do not, after it they do.
    pub async fn send(&self, bytes: Vec<u8>) -> (io::Result<()>, Vec<u8>) {
        let mut bytes = Some(bytes);
        // Until the bytes are lent they are in this future; then they are in the table, and this guard tells it when
        // nobody wants them back.
        struct Lent<'a>(&'a TcpStream);
        impl Drop for Lent<'_> {
            fn drop(&mut self) {
                let waker = self.0.shard.io.borrow_mut().sockets.forget_lent(self.0.id);
                drop(waker);
            }
        }
        let mut lent = None;
        poll_fn(|cx| {
            if self.shard.is_closing() {
                return Poll::Ready((Err(ended()), bytes.take().unwrap_or_default()));
            }
            if bytes.as_ref().is_some_and(Vec::is_empty) {
                return self.poll_flush(cx).map(|result| (result, bytes.take().unwrap_or_default()));
            }
            if let Some(owned) = bytes.take() {
                let mut io = self.shard.io.borrow_mut();
                let (sockets, mut context) = io.sockets(self.shard.clock.now());
                match sockets.try_lend(self.id, owned, &mut context) {
                    Ok(()) => lent = Some(Lent(self)),
                    Err(NotLent::Busy(owned)) => {
                        let busy = io::Error::new(
                            io::ErrorKind::ResourceBusy,
                            "another send of this stream is under way",
                        );
                        return Poll::Ready((Err(busy), owned));
                    }
                    Err(NotLent::FlushFirst(owned)) => {
                        drop(io);
                        bytes = Some(owned);
                        if let Err(error) = ready!(self.poll_flush(cx)) {
                            return Poll::Ready((Err(error), bytes.take().unwrap_or_default()));
                        }
                        // Flushed just now, so lending succeeds at once in the next poll.
                        cx.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                }
            }
            let (waker, mut old): (Waker, Option<Waker>) = (cx.waker().clone(), None);
            let mut io = self.shard.io.borrow_mut();
            let returned = io.sockets.poll_returned(self.id, waker, &mut old);
            if returned.is_pending() {
                waits::note(WaitsFor::Operation { name: "send", fd: io.sockets.fd(self.id) });
            }
            drop(io);
            drop(old);
            if returned.is_ready() {
                std::mem::forget(lent.take());
            }
            returned
        })
        .await
    }

    /// From `deadline` on, waiting for bytes fails with `TimedOut`, until another deadline is set; `None` for never.
    /// A store: cheap enough for every request.
    #[inline]
    pub fn set_recv_deadline(&self, deadline: Option<Instant>) {
        if self.shard.is_closing() {
            return;
        }
        let deadline = deadline.map_or(u64::MAX, |deadline| self.shard.clock.nanos(deadline));
        let mut io = self.shard.io.borrow_mut();
        let (sockets, mut context) = io.sockets(self.shard.clock.now());
        sockets.set_deadline(self.id, deadline, &mut context);
    }

    /// Shuts one or both directions down. Writing ends after what was written has left; await [`flush`](Self::flush)
    /// first, bytes that wait in the send buffer are lost otherwise.
    ///
    /// # Errors
    ///
    /// What shutdown(2) says.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        borrow(self.as_raw_fd(), |socket| socket.shutdown(how))
    }

    /// Ends the connection in order: what was written leaves (`linger` is the limit for that too), a FIN follows, then
    /// what the peer still sends is read and thrown away for at most `linger` (and 1 MiB), so that the kernel does not reset the connection before the peer
    /// has read the last answer (RFC 9112 section 9.6).
    ///
    /// # Errors
    ///
    /// The error that ended sending; `TimedOut` when the peer does not take the last bytes. A peer that goes on sending is
    /// cut off without an error.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection without the rest of the protocol.
    pub async fn close(self, linger: Duration) -> io::Result<()> {
        crate::time::timeout(linger, self.flush()).await??;
        self.shutdown(Shutdown::Write)?;
        self.set_recv_deadline(crate::time::now().checked_add(linger));
        let mut left = LINGER_BYTES_MAX;
        while let Ok(Some(lease)) = self.recv().await {
            match left.checked_sub(lease.len()) {
                Some(rest) => left = rest,
                None => break,
            }
        }
        Ok(())
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

    /// A reading and a writing half that borrow this stream.
    pub fn split(&mut self) -> (ReadHalf<'_>, WriteHalf<'_>) {
        split::halves(self)
    }

    /// A reading and a writing half that own this stream together; it closes when both are dropped.
    pub fn into_split(self) -> (OwnedReadHalf, OwnedWriteHalf) {
        split::owned_halves(self)
    }
}

impl AsRawFd for TcpStream {
    fn as_raw_fd(&self) -> RawFd {
        self.shard.io.borrow_mut().sockets.fd(self.id)
    }
}

impl Drop for TcpStream {
    fn drop(&mut self) {
        let mut io = self.shard.io.borrow_mut();
        let (sockets, mut context) = io.sockets(self.shard.clock.now());
        let wakers = sockets.release(self.id, &mut context);
        drop(io);
        drop(wakers);
    }
}

impl fmt::Debug for TcpStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TcpStream").field("fd", &self.as_raw_fd()).finish()
    }
}
