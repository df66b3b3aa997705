//! Waiting for the readiness of any descriptor.
//!
//! Each wait is one poll request of the ring (POLL_ADD), which looks at the descriptor when it is submitted. So there is
//! no remembered readiness, nothing to clear, and no event that could be missed; tokio's `clear_ready` has no counterpart.
//! The price is a request a wait, which goes with the turn's one entry into the kernel.

use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::rc::Rc;

use crate::op::request;
use crate::shard::{Shard, current};

/// What a descriptor is to be ready for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Interest {
    /// A read would not wait: there are bytes, the end, an error, or a connection to accept.
    Readable,
    /// A write would not wait: there is room, or an error.
    Writable,
    /// Something exceptional is there (POLLPRI of poll(2)): out-of-band bytes, a change of a file in sysfs.
    Priority,
}

impl Interest {
    fn events(self) -> u32 {
        let events = match self {
            Interest::Readable => libc::POLLIN | libc::POLLRDHUP,
            Interest::Writable => libc::POLLOUT,
            Interest::Priority => libc::POLLPRI,
        };
        events as u32
    }
}

/// Any descriptor, watched by this core's loop: a pipe, an eventfd, a socket, a terminal, an inotify queue.
///
/// Make the descriptor non-blocking (O_NONBLOCK): it may be read by somebody else between the event and your call.
///
/// A regular file is always ready, says the kernel (poll(2)), even where reading it must wait for a disk; epoll would
/// refuse it with EPERM. Use the file operations of the ring for files.
///
/// Any number of tasks may wait at the same time, each with a request of its own.
///
/// # Examples
///
/// ```
/// use std::io::{Read, Write};
/// use annulet::net::AsyncFd;
///
/// annulet::run(async {
///     let (reader, mut writer) = std::io::pipe().unwrap();
///     let reader = AsyncFd::new(reader).unwrap();
///     let reading = annulet::spawn(async move {
///         let ready = reader.readable().await.unwrap();
///         let mut bytes = [0; 8];
///         let count = ready.inner().read(&mut bytes).unwrap();
///         bytes[..count].to_vec()
///     });
///     writer.write_all(b"event").unwrap();
///     assert_eq!(reading.await.unwrap(), b"event");
/// });
/// ```
pub struct AsyncFd<T> {
    shard: Rc<Shard>,
    inner: T,
}

impl<T: AsRawFd> AsyncFd<T> {
    /// Watches `inner`, which is closed when this is dropped, if it owns its descriptor.
    ///
    /// Nothing is registered with the kernel before somebody waits. A wait that is dropped is cancelled with the turn's
    /// entry into the kernel; until then it keeps the open file, though not its number.
    ///
    /// # Errors
    ///
    /// `InvalidInput` when the descriptor is negative.
    ///
    /// # Panics
    ///
    /// Outside of a loop.
    #[track_caller]
    pub fn new(inner: T) -> io::Result<Self> {
        let shard = current();
        if inner.as_raw_fd() < 0 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{} is no descriptor", inner.as_raw_fd()),
            ));
        }
        Ok(AsyncFd { shard, inner })
    }

    /// Waits until reading would not wait.
    ///
    /// # Errors
    ///
    /// `EBADF` when the descriptor was closed behind this value's back.
    ///
    /// # Cancel safety
    ///
    /// Safe: waiting takes nothing from the descriptor.
    pub async fn readable(&self) -> io::Result<ReadyGuard<'_, T>> {
        self.ready(Interest::Readable).await
    }

    /// Waits until writing would not wait.
    ///
    /// # Errors
    ///
    /// As [`readable`](Self::readable).
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn writable(&self) -> io::Result<ReadyGuard<'_, T>> {
        self.ready(Interest::Writable).await
    }

    /// Waits for `interest`.
    ///
    /// # Errors
    ///
    /// As [`readable`](Self::readable).
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn ready(&self, interest: Interest) -> io::Result<ReadyGuard<'_, T>> {
        request::poll_number(&self.shard, self.inner.as_raw_fd(), interest.events()).await.result?;
        Ok(ReadyGuard { fd: self })
    }

    /// Calls `f` until it does not answer `WouldBlock`, and waits for `interest` after each time that it does.
    ///
    /// # Errors
    ///
    /// What `f` says, other than `WouldBlock`; and as [`readable`](Self::readable).
    ///
    /// # Cancel safety
    ///
    /// As `f`: the wait itself can be dropped.
    pub async fn async_io<R>(
        &self,
        interest: Interest,
        mut f: impl FnMut(&T) -> io::Result<R>,
    ) -> io::Result<R> {
        self.shard.executor.share().await;
        loop {
            match f(&self.inner) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.ready(interest).await?,
                done => return done,
            };
        }
    }
}

impl<T> AsyncFd<T> {
    /// What is watched.
    pub fn inner(&self) -> &T {
        &self.inner
    }

    /// What is watched.
    pub fn inner_mut(&mut self) -> &mut T {
        &mut self.inner
    }

    /// Gives back what was watched.
    pub fn into_inner(self) -> T {
        self.inner
    }
}

/// The descriptor was ready just now. It is not said that it still is: somebody else may have been faster.
#[derive(Debug)]
pub struct ReadyGuard<'a, T> {
    fd: &'a AsyncFd<T>,
}

impl<'a, T> ReadyGuard<'a, T> {
    /// Calls `f`; `WouldBlock` means that somebody else was faster, and is told apart from other errors.
    ///
    /// # Errors
    ///
    /// [`TryIoError`] when `f` answered `WouldBlock`: wait again.
    pub fn try_io<R>(
        &mut self,
        f: impl FnOnce(&'a AsyncFd<T>) -> io::Result<R>,
    ) -> Result<io::Result<R>, TryIoError> {
        match f(self.fd) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(TryIoError(())),
            done => Ok(done),
        }
    }

    /// What is watched.
    pub fn inner(&self) -> &'a T {
        &self.fd.inner
    }
}

/// The operation would have waited after all; see [`ReadyGuard::try_io`].
#[derive(Debug)]
pub struct TryIoError(());

impl fmt::Display for TryIoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the descriptor is not ready any more; wait for it again")
    }
}

impl std::error::Error for TryIoError {}

impl<T: AsRawFd> AsRawFd for AsyncFd<T> {
    fn as_raw_fd(&self) -> RawFd {
        self.inner.as_raw_fd()
    }
}

impl<T: fmt::Debug> fmt::Debug for AsyncFd<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsyncFd").field("inner", &self.inner).finish()
    }
}
