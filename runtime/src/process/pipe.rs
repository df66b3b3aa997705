//! Pipes to and from a child: tried at once, and again when the ring says that they are ready.
//!
//! Our end is non-blocking, the child's is not: the two ends of a pipe are separate open files. Nothing is read ahead, so a
//! dropped wait loses no byte.

use std::future::poll_fn;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use crate::op::{Operation, close_shared, request};
use crate::shard::{Shard, current};

/// One end.
#[derive(Debug)]
struct Pipe {
    shard: Rc<Shard>,
    /// None only while it is dropped.
    fd: Option<Rc<OwnedFd>>,
    /// The poll that is under way. It belongs to the pipe, so that the polling forms need no future of their own.
    waiting: Option<Operation>,
}

impl Pipe {
    fn new(fd: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&fd, true)?;
        Ok(Pipe { shard: current(), fd: Some(Rc::new(fd)), waiting: None })
    }

    fn fd(&self) -> &Rc<OwnedFd> {
        self.fd.as_ref().expect("a pipe has its descriptor until it is dropped")
    }

    /// Calls `f` until it would not wait.
    fn poll_io(
        &mut self,
        cx: &mut Context<'_>,
        events: i16,
        mut f: impl FnMut(&OwnedFd) -> rustix::io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        ready!(self.shard.executor.poll_share(cx));
        loop {
            match f(self.fd()) {
                Err(rustix::io::Errno::AGAIN) => {}
                Err(rustix::io::Errno::INTR) => continue,
                done => return Poll::Ready(done.map_err(io::Error::from)),
            }
            if self.waiting.is_none() {
                self.waiting = Some(request::poll(&self.shard, Rc::clone(self.fd()), events as u32));
            }
            let waiting = self.waiting.as_mut().expect("made above");
            let outcome = ready!(Pin::new(waiting).poll(cx));
            self.waiting = None;
            outcome.result?;
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        if buffer.is_empty() {
            return Poll::Ready(Ok(0));
        }
        self.poll_io(cx, libc::POLLIN, |fd| rustix::io::read(fd, &mut *buffer))
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        self.waiting = None;
        if let Some(fd) = self.fd.take() {
            close_shared(&self.shard, fd);
        }
    }
}

macro_rules! reading_end {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $name(Pipe);

        impl $name {
            pub(super) fn new(fd: OwnedFd) -> io::Result<Self> {
                Pipe::new(fd).map($name)
            }

            /// Reads what is there into `buffer`; 0 when every writing end is closed (or for an empty buffer).
            ///
            /// # Errors
            ///
            /// What read(2) says.
            ///
            /// # Cancel safety
            ///
            /// A dropped wait loses no byte.
            pub async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                poll_fn(|cx| self.0.poll_read(cx, buffer)).await
            }

            /// Appends all that comes until every writing end is closed. Gives the count.
            ///
            /// # Errors
            ///
            /// What read(2) says; what was read before stays in `bytes`.
            ///
            /// # Cancel safety
            ///
            /// What was read before the drop is in `bytes`.
            pub async fn read_to_end(&mut self, bytes: &mut Vec<u8>) -> io::Result<usize> {
                let before = bytes.len();
                let mut room = vec![0; READ_BYTES];
                loop {
                    match self.read(&mut room).await? {
                        0 => return Ok(bytes.len() - before),
                        count => bytes.extend_from_slice(&room[..count]),
                    }
                }
            }
        }

        impl futures_io::AsyncRead for $name {
            fn poll_read(
                mut self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                buffer: &mut [u8],
            ) -> Poll<io::Result<usize>> {
                self.0.poll_read(cx, buffer)
            }
        }

        descriptor!($name);
    };
}

macro_rules! descriptor {
    ($name:ident) => {
        impl AsRawFd for $name {
            fn as_raw_fd(&self) -> RawFd {
                self.0.fd().as_raw_fd()
            }
        }

        impl AsFd for $name {
            fn as_fd(&self) -> BorrowedFd<'_> {
                self.0.fd().as_fd()
            }
        }
    };
}

/// What a pipe holds at first (pipe(7)).
const READ_BYTES: usize = 64 << 10;

reading_end! {
    /// What a child writes to its standard output.
    ChildStdout
}

reading_end! {
    /// What a child writes to its standard error.
    ChildStderr
}

/// What a child reads from its standard input. Dropping it is the end of that.
#[derive(Debug)]
pub struct ChildStdin(Pipe);

impl ChildStdin {
    pub(super) fn new(fd: OwnedFd) -> io::Result<Self> {
        Pipe::new(fd).map(ChildStdin)
    }

    /// Writes as much as the pipe takes at once, and waits until it takes something.
    ///
    /// # Errors
    ///
    /// What write(2) says: `BrokenPipe` when the child has closed its end.
    ///
    /// # Cancel safety
    ///
    /// A dropped wait has written nothing.
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        poll_fn(|cx| self.0.poll_io(cx, libc::POLLOUT, |fd| rustix::io::write(fd, bytes))).await
    }

    /// Writes all bytes.
    ///
    /// # Errors
    ///
    /// As [`write`](Self::write).
    ///
    /// # Cancel safety
    ///
    /// A dropped future has written a part that nobody is told of.
    pub async fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let count = self.write(bytes).await?;
            bytes = &bytes[count..];
        }
        Ok(())
    }
}

impl futures_io::AsyncWrite for ChildStdin {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.poll_io(cx, libc::POLLOUT, |fd| rustix::io::write(fd, bytes))
    }

    /// Nothing is kept back.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// The end comes with the drop.
    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

descriptor!(ChildStdin);
