//! Bytes of a file into a TCP connection without a copy: sendfile(2), called by the loop itself.
//!
//! The ring has no such operation, and a splice of a file goes to a kernel thread. A call by the loop must wait for nobody: not
//! for the peer, so the socket says "try again" for as long as the call lasts; not for a disk, so it is made for bytes that the page
//! cache has, and others are read through the ring first. One call a turn, so that the other tasks have theirs.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use super::TcpStream;
use super::stream::{Stream, borrow};
use crate::fs::File;
use crate::op::{ended, request};
use crate::sys;
use crate::time::sleep;

/// What one call moves at the most: some fifty microseconds of work, in which other tasks wait. In bytes.
const STEP_BYTES_MAX: usize = 256 * 1024;
/// So much is read where the page cache does not have it, in bytes.
const READ_BYTES_MAX: usize = 64 * 1024;
/// How long to wait for memory of the kernel's. Arbitrary.
const NO_MEMORY_PAUSE: Duration = Duration::from_millis(1);

impl TcpStream {
    /// Sends bytes of a file from `offset` on, at most `len`, without copying them. Gives how many; 0 at the end of the file. What
    /// was written before leaves first; what is written meanwhile may leave in between.
    ///
    /// The loop itself calls sendfile(2), for bytes that are in the page cache; where they are not, or the kernel does not tell
    /// (cachestat(2) is there from Linux 6.5 on, and tells owners and those who may write), they are read through the ring first. Only if
    /// one is thrown out between the question and the call does the loop wait for a disk. A file system that locks a file for its
    /// readers, as XFS does, makes it wait for somebody who writes to this file at that moment.
    ///
    /// A peer that is gone raises SIGPIPE, which sendfile(2) has no flag against. Rust's runtime ignores that signal before `main`; a
    /// loop in a program that does not begin in Rust, or has set it back, must have it ignored
    /// ([`SignalKind::pipe`](crate::signal::SignalKind::pipe)). While the call lasts the socket is O_NONBLOCK, which is seen by
    /// whoever else has it.
    ///
    /// # Errors
    ///
    /// What sendfile(2) says; `InvalidInput` for what cannot be sent so, a file opened with [`direct`](crate::fs::OpenOptions::direct)
    /// or one of procfs: read those.
    ///
    /// # Cancel safety
    ///
    /// Safe: who drops it has sent nothing.
    ///
    /// # Examples
    ///
    /// ```
    /// use annulet::fs::File;
    /// use annulet::net::{TcpListener, TcpStream};
    ///
    /// # let path = std::env::temp_dir().join(format!("annulet-doc-send-file-{}", std::process::id()));
    /// # std::fs::write(&path, "one two three").unwrap();
    /// annulet::run(async {
    ///     let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    ///     let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    ///     let server = listener.accept().await.unwrap();
    ///     let file = File::open(&path).await.unwrap();
    ///     let (mut offset, end) = (4, 7);
    ///     while offset < end {
    ///         match server.send_file(&file, offset, (end - offset) as usize).await.unwrap() {
    ///             0 => panic!("the file has become shorter"),
    ///             count => offset += count as u64,
    ///         }
    ///     }
    ///     let mut answer = [0; 3];
    ///     client.read_exact(&mut answer).await.unwrap();
    ///     assert_eq!(&answer, b"two");
    /// });
    /// # std::fs::remove_file(&path).unwrap();
    /// ```
    pub async fn send_file(&self, file: &File, offset: u64, len: usize) -> io::Result<usize> {
        if file.alignment.is_some() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a file opened with direct(true) (O_DIRECT) is not in the page cache, from which send_file sends; use read_at",
            ));
        }
        self.flush().await?;
        if len == 0 {
            return Ok(0);
        }
        let shard = self.0.shard();
        loop {
            // Always asked: so the ring has its turn between two calls.
            request::poll_number(shard, self.as_raw_fd(), libc::POLLOUT as u32).await.result?;
            let mut count = len.min(STEP_BYTES_MAX);
            if !sys::is_cached(file.as_fd(), offset, count) {
                count = count.min(READ_BYTES_MAX);
                count = file.read_at(vec![0; count], offset).await.0?;
                if count == 0 {
                    return Ok(0);
                }
            }
            match send_now(&self.0, file, offset, count) {
                // There was room a moment ago. If there still is, it is memory that the kernel has not (`tcp_mem` of tcp(7)): nothing
                // would tell when it has, and asking again and again would take a core.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => sleep(NO_MEMORY_PAUSE).await,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                sent => return sent,
            }
        }
    }
}

/// sendfile(2) that does not wait for the peer.
fn send_now(stream: &Stream, file: &File, offset: u64, count: usize) -> io::Result<usize> {
    let shard = stream.shard();
    if shard.is_closing() {
        return Err(ended());
    }
    let mut offset = offset;
    let sent = borrow(stream.as_raw_fd(), |socket| {
        // sendfile(2) knows no MSG_DONTWAIT. The ring does not see this: nothing is submitted meanwhile, and requests that are under
        // way have looked at the flag when they were.
        rustix::io::ioctl_fionbio(socket.as_fd(), true)?;
        let sent = rustix::fs::sendfile(socket.as_fd(), file.as_fd(), Some(&mut offset), count);
        rustix::io::ioctl_fionbio(socket.as_fd(), false)?;
        Ok(sent?)
    })?;
    shard.io.borrow_mut().sockets.sent_bytes += sent as u64;
    Ok(sent)
}
