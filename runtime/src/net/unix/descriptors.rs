//! Descriptors over a Unix stream.

use std::future::poll_fn;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use super::{UnixStream, message};
use crate::net::stream::borrow;
use crate::op::request;

impl UnixStream {
    /// Sends some of `bytes`, and `descriptors` with the first of them: the peer gets duplicates. Gives the count of bytes;
    /// the rest, if any, is sent by [`write_all`](Self::write_all).
    ///
    /// What was written before leaves first.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::io::{Read, Write};
    /// use std::os::fd::AsFd;
    /// use annulet::net::UnixStream;
    ///
    /// annulet::run(async {
    ///     let (one, other) = UnixStream::pair().unwrap();
    ///     let (mut reader, writer) = std::io::pipe().unwrap();
    ///     one.send_with_fds(b"a pipe", &[writer.as_fd()]).await.unwrap();
    ///
    ///     let mut buffer = [0; 16];
    ///     let (count, mut descriptors) = other.recv_with_fds(&mut buffer).await.unwrap();
    ///     assert_eq!(&buffer[..count], b"a pipe");
    ///     let mut writer = std::fs::File::from(descriptors.pop().unwrap());
    ///     writer.write_all(b"x").unwrap();
    ///     reader.read_exact(&mut buffer[..1]).unwrap();
    /// });
    /// ```
    ///
    /// # Errors
    ///
    /// What sendmsg(2) says; `InvalidInput` for more than 253 descriptors, and for descriptors without a byte.
    ///
    /// # Cancel safety
    ///
    /// A dropped wait has sent nothing.
    pub async fn send_with_fds(&self, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<usize> {
        message::check(bytes, descriptors)?;
        loop {
            // What others wrote while this waited goes first too: between the flush and the call nobody runs.
            self.flush().await?;
            match borrow(self.as_raw_fd(), |socket| message::send(socket.as_fd(), bytes, descriptors)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    request::poll_number(self.0.shard(), self.as_raw_fd(), libc::POLLOUT as u32)
                        .await
                        .result?;
                }
                done => return done,
            }
        }
    }

    /// Reads into `buffer`, with the descriptors that were sent with these bytes; 0 at the end of the stream. They are
    /// closed on exec.
    ///
    /// Plain reads go on between calls, and descriptors that arrive with what they read are closed by the kernel. So read
    /// with this method from the start, or from a point that the peer waits at.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv). When descriptors were lost because no more may be open, those that arrived are closed.
    ///
    /// # Cancel safety
    ///
    /// A dropped wait loses no byte and no descriptor.
    pub async fn recv_with_fds(&self, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
        if buffer.is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "descriptors travel with bytes: give a buffer for at least one",
            ));
        }
        loop {
            // A receive of the ring would take the bytes and drop the descriptors: it is called back first.
            poll_fn(|cx| self.0.poll_receive_stopped(cx)).await?;
            // What plain reads have brought already had no descriptors.
            if let Some(count) = self.0.read_queued(buffer) {
                return Ok((count, Vec::new()));
            }
            match borrow(self.as_raw_fd(), |socket| message::receive(socket.as_fd(), buffer)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let readable = libc::POLLIN | libc::POLLRDHUP;
                    request::poll_number(self.0.shard(), self.as_raw_fd(), readable as u32).await.result?;
                }
                done => return done,
            }
        }
    }
}
