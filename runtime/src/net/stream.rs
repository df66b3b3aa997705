//! A connected stream socket on this core's loop, whatever its family.

#![allow(unsafe_code)]

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use socket2::SockRef;

use super::reset::ResetByPeer;
use super::share::{Counted, Group};
use crate::driver::Feature;
use crate::op::{Lease, ended};
use crate::shard::{Shard, with_current};
use crate::socket::{NotLent, NotOwned, Received, SEND_HIGH_WATER, SocketId};
use crate::task::{WaitsFor, waits};

/// Bytes that a lingering close reads and throws away at the most; a peer that sends more is cut off.
const LINGER_BYTES_MAX: usize = 1 << 20;

/// A connected socket of the core's table: what is behind [`TcpStream`](super::TcpStream) and
/// [`UnixStream`](super::UnixStream). Its methods are described at their public face, in `byte_stream`.
pub struct Stream {
    shard: Rc<Shard>,
    id: SocketId,
    /// Its count among the connections of its core, if it came from a listener that shares them.
    counted: Option<Box<Counted>>,
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

/// TCP_INFO of a socket of the table, see [`Stream::tcp_info`].
pub(super) fn tcp_info<const N: usize>(fd: RawFd) -> io::Result<[u32; N]> {
    // With the alignment of its longest fields.
    #[repr(C, align(8))]
    struct Words<const N: usize>([u32; N]);
    let mut info = Words([0; N]);
    let mut len = size_of_val(&info.0) as libc::socklen_t;
    borrow(fd, |socket| {
        // SAFETY: the kernel writes at most `len` bytes to `info`, and both live through the call.
        let result = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::IPPROTO_TCP,
                libc::TCP_INFO,
                (&raw mut info.0).cast(),
                &raw mut len,
            )
        };
        match result {
            0 if len as usize == size_of_val(&info.0) => Ok(info.0),
            0 => Err(io::ErrorKind::Unsupported.into()),
            _ => Err(io::Error::last_os_error()),
        }
    })
}

/// Bytes in the send buffers of this loop's streams that their peers did not take at once: what slow readers cost in memory. What
/// leaves with this turn is not among them, nor is what leaves without a copy
/// ([`TcpStream::try_send_bytes`](super::TcpStream::try_send_bytes), files). 0 outside of a loop.
#[must_use]
pub fn unsent_bytes() -> usize {
    with_current(|shard| shard.map_or(0, |shard| shard.io.borrow().sockets.late_bytes))
}

impl Stream {
    pub(super) fn from_fd(shard: Rc<Shard>, fd: OwnedFd) -> Self {
        let mut io = shard.io.borrow_mut();
        let id = io.sockets.insert(fd);
        drop(io);
        Stream { shard, id, counted: None }
    }

    pub(super) fn set_counted(&mut self, counted: Option<Box<Counted>>) {
        self.counted = counted;
    }

    /// The group in which it is counted.
    pub(super) fn group(&self) -> Option<Arc<Group>> {
        self.counted.as_ref().map(|counted| counted.group())
    }

    #[inline]
    pub(crate) fn recv(&self) -> impl Future<Output = io::Result<Option<Lease>>> + '_ {
        poll_fn(|cx| self.poll_recv(cx))
    }

    #[inline]
    pub(super) fn poll_recv(&self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Lease>>> {
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

    #[inline]
    pub(super) fn try_recv(&self) -> Option<Lease> {
        if self.shard.is_closing() {
            return None;
        }
        let mut io = self.shard.io.borrow_mut();
        let (sockets, mut context) = io.sockets(self.shard.clock.now());
        let received = sockets.try_receive(self.id, &mut context);
        drop(io);
        received.map(|received| self.lease(received))
    }

    /// What was received already, without asking for more.
    pub(super) fn try_queued(&self) -> Option<Lease> {
        let mut io = self.shard.io.borrow_mut();
        let (sockets, mut context) = io.sockets(self.shard.clock.now());
        let received = sockets.take_queued(self.id, &mut context);
        drop(io);
        received.map(|received| self.lease(received))
    }

    #[inline]
    fn lease(&self, Received { buffer, start, end }: Received) -> Lease {
        // SAFETY: the table took the buffer out of its list for us; the kernel reported that it wrote up to `end`.
        unsafe { Lease::new(Rc::clone(&self.shard.pool), buffer, start, end) }
    }

    pub(super) fn shard(&self) -> &Rc<Shard> {
        &self.shard
    }

    /// Waits until no receive of the ring is under way, which the next wait for bytes begins anew.
    pub(super) fn poll_receive_stopped(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.shard.is_closing() {
            return Poll::Ready(Err(ended()));
        }
        ready!(self.shard.executor.poll_share(cx));
        let (waker, mut old) = (cx.waker().clone(), None);
        let mut io = self.shard.io.borrow_mut();
        let (sockets, mut context) = io.sockets(self.shard.clock.now());
        let stopped = sockets.poll_stopped(self.id, waker, &mut old, &mut context);
        drop(io);
        drop(old);
        stopped.map(Ok)
    }

    /// Copies out of what was received already; none if nothing was.
    pub(super) fn read_queued(&self, buffer: &mut [u8]) -> Option<usize> {
        let mut io = self.shard.io.borrow_mut();
        let (sockets, mut context) = io.sockets(self.shard.clock.now());
        let received = sockets.take_queued(self.id, &mut context);
        drop(io);
        received.map(|received| {
            let lease = self.lease(received);
            self.copy_out(lease, buffer.len(), |bytes| buffer[..bytes.len()].copy_from_slice(bytes))
        })
    }

    /// Gives at most `count_max` bytes of `lease` to `take`; the rest goes back to the front of the queue.
    fn copy_out(&self, mut lease: Lease, count_max: usize, take: impl FnOnce(&[u8])) -> usize {
        let count = lease.len().min(count_max);
        take(&lease[..count]);
        if count < lease.len() {
            lease.advance(count);
            let (buffer, start, end) = lease.into_parts();
            let mut io = self.shard.io.borrow_mut();
            let (sockets, mut context) = io.sockets(self.shard.clock.now());
            sockets.put_back(self.id, &Received { buffer, start, end }, &mut context);
        }
        count
    }

    pub(super) fn expect_recv(&self, bytes: u64) {
        if !self.shard.is_closing() {
            let mut io = self.shard.io.borrow_mut();
            let (sockets, mut context) = io.sockets(self.shard.clock.now());
            sockets.expect(self.id, bytes, &mut context);
        }
    }

    pub(super) fn start_recv(&self) {
        if !self.shard.is_closing() {
            let mut io = self.shard.io.borrow_mut();
            let (sockets, mut context) = io.sockets(self.shard.clock.now());
            sockets.start_receive(self.id, &mut context);
        }
    }

    pub(super) async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        poll_fn(|cx| self.poll_read(cx, buffer)).await
    }

    pub(super) fn poll_read(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        self.poll_read_with(cx, buffer.len(), |bytes| buffer[..bytes.len()].copy_from_slice(bytes))
    }

    /// Waits for bytes and gives at most `count_max` of them to `take`; the others stay. Gives the count.
    #[inline]
    pub(super) fn poll_read_with(
        &self,
        cx: &mut Context<'_>,
        count_max: usize,
        take: impl FnOnce(&[u8]),
    ) -> Poll<io::Result<usize>> {
        if count_max == 0 {
            return Poll::Ready(Ok(0));
        }
        let Some(lease) = ready!(self.poll_recv(cx))? else { return Poll::Ready(Ok(0)) };
        Poll::Ready(Ok(self.copy_out(lease, count_max, take)))
    }

    pub(super) async fn read_exact(&self, mut buffer: &mut [u8]) -> io::Result<()> {
        while !buffer.is_empty() {
            match self.read(buffer).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => buffer = &mut buffer[count..],
            }
        }
        Ok(())
    }

    #[inline]
    pub(crate) fn with_send_buffer<R>(&self, f: impl FnOnce(&mut Vec<u8>) -> R) -> R {
        // The buffer is out of the table while `f` runs, which may be anybody's code and may use this very stream; the
        // guard puts it back, also when `f` panics.
        struct PutBack<'a>(&'a Stream, Vec<u8>);
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

    /// TCP_INFO of tcp(7), as the kernel lays it out: `struct tcp_info` of linux/tcp.h, which grows at its end only. `Unsupported` where
    /// it ends before `N` words of 32 bits.
    pub(super) fn tcp_info<const N: usize>(&self) -> io::Result<[u32; N]> {
        tcp_info(self.as_raw_fd())
    }

    /// See [`TcpStream::reset_by_peer`](super::TcpStream::reset_by_peer).
    pub(super) fn reset_by_peer(&self) -> ResetByPeer<'_> {
        ResetByPeer::new(&self.shard, self.as_raw_fd())
    }

    #[inline]
    pub(super) fn send_buffered(&self) -> usize {
        if self.shard.is_closing() { 0 } else { self.shard.io.borrow_mut().sockets.unsent(self.id) }
    }

    pub(super) async fn write_ready(&self) -> io::Result<()> {
        poll_fn(|cx| self.poll_write_ready(cx)).await
    }

    pub(crate) fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_unsent_below(SEND_HIGH_WATER, cx)
    }

    pub(super) async fn flush(&self) -> io::Result<()> {
        poll_fn(|cx| self.poll_flush(cx)).await
    }

    pub(crate) fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
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

    pub(super) fn poll_released(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.shard.is_closing() {
            return Poll::Ready(Err(ended()));
        }
        ready!(self.shard.executor.poll_share(cx));
        let (waker, mut old) = (cx.waker().clone(), None);
        let mut io = self.shard.io.borrow_mut();
        let released = io.sockets.poll_released(self.id, waker, &mut old);
        if released.is_pending() {
            waits::note(WaitsFor::Operation { name: "released", fd: io.sockets.fd(self.id) });
        }
        drop(io);
        drop(old);
        released
    }

    pub(super) fn unreleased(&self) -> usize {
        if self.shard.is_closing() { 0 } else { self.shard.io.borrow_mut().sockets.unreleased(self.id) }
    }

    pub(super) async fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        poll_fn(|cx| self.poll_write(cx, bytes)).await
    }

    pub(super) fn poll_write(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_write_ready(cx))?;
        let count = bytes.len().min(self.write_room());
        self.with_send_buffer(|buffer| buffer.extend_from_slice(&bytes[..count]));
        Poll::Ready(Ok(count))
    }

    /// Bytes that may be written below the high-water mark; [`poll_write_ready`](Self::poll_write_ready) waits for some.
    pub(super) fn write_room(&self) -> usize {
        SEND_HIGH_WATER.saturating_sub(self.send_buffered())
    }

    pub(super) async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let count = self.write(bytes).await?;
            bytes = &bytes[count..];
        }
        Ok(())
    }

    pub(super) async fn send(&self, bytes: Vec<u8>) -> (io::Result<()>, Vec<u8>) {
        let mut bytes = Some(bytes);
        // Until the bytes are lent they are in this future; then they are in the table, and this guard tells it when
        // nobody wants them back.
        struct Lent<'a>(&'a Stream);
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

    pub(super) fn try_send_bytes(&self, bytes: Bytes, zero_copy: bool) -> Result<(), Bytes> {
        // Dropped here where there is nothing to do: outside of the borrow, because its owner may be anybody's code.
        if self.shard.is_closing() || bytes.is_empty() {
            return Ok(());
        }
        let mut io = self.shard.io.borrow_mut();
        let zero_copy = zero_copy && io.driver.capabilities().has(Feature::SendZeroCopy);
        let taken = io.sockets.try_own(self.id, bytes, zero_copy);
        drop(io);
        match taken {
            Ok(()) => Ok(()),
            Err(NotOwned::Busy(bytes)) => Err(bytes),
            Err(NotOwned::Ended(bytes)) => {
                drop(bytes);
                Ok(())
            }
        }
    }

    #[inline]
    pub(super) fn set_recv_deadline(&self, deadline: Option<Instant>) {
        if self.shard.is_closing() {
            return;
        }
        let deadline = deadline.map_or(u64::MAX, |deadline| self.shard.clock.nanos(deadline));
        let mut io = self.shard.io.borrow_mut();
        let (sockets, mut context) = io.sockets(self.shard.clock.now());
        sockets.set_deadline(self.id, deadline, &mut context);
    }

    pub(super) fn set_zero_linger(&self) -> io::Result<()> {
        borrow(self.as_raw_fd(), |socket| socket.set_linger(Some(Duration::ZERO)))?;
        self.shard.io.borrow_mut().sockets.set_abrupt(self.id);
        Ok(())
    }

    pub(super) fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        borrow(self.as_raw_fd(), |socket| socket.shutdown(how))
    }

    pub(super) async fn close(self, linger: Duration) -> io::Result<()> {
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
}

impl AsRawFd for Stream {
    fn as_raw_fd(&self) -> RawFd {
        self.shard.io.borrow_mut().sockets.fd(self.id)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let mut io = self.shard.io.borrow_mut();
        let (sockets, mut context) = io.sockets(self.shard.clock.now());
        let wakers = sockets.release(self.id, &mut context);
        drop(io);
        drop(wakers);
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("fd", &self.as_raw_fd()).finish()
    }
}
