//! A live connection moves to another core: at an idle point, with what it has received as bytes of its own.

use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use super::TcpStream;
use super::share::{Counted, Group};
use super::stream::borrow;
use crate::shard::current;

/// A connection between two cores; made by [`TcpStream::depart`]. Dropping it closes the connection.
pub struct Departed {
    fd: OwnedFd,
    received: Vec<u8>,
    group: Option<Arc<Group>>,
}

impl TcpStream {
    /// Takes the connection off this core, so that it can go to another one: waits until what was written has left and is
    /// [released](Self::released), stops
    /// receiving, and keeps what was received and not read.
    ///
    /// Deadlines stay behind. The way there is [`mesh::submit_to`](crate::mesh::submit_to) or a
    /// [`channel`](crate::mesh::channel), the arrival [`Departed::arrive`].
    ///
    /// # Errors
    ///
    /// When writing has failed, or no descriptor is left: the connection is closed then.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection.
    ///
    /// # Examples
    ///
    /// ```
    /// # async fn example(stream: annulet::net::TcpStream) -> std::io::Result<()> {
    /// let departed = stream.depart().await?;
    /// annulet::mesh::submit_to(1, move || async move {
    ///     let (stream, received) = departed.arrive();
    ///     // … what `received` holds comes before anything that the stream will give
    /// #   drop((stream, received));
    /// })
    /// .await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn depart(self) -> io::Result<Departed> {
        self.released().await?;
        std::future::poll_fn(|cx| self.0.poll_receive_stopped(cx)).await?;
        let mut received = Vec::new();
        while let Some(lease) = self.0.try_queued() {
            received.extend_from_slice(&lease);
        }
        let fd = self.as_raw_fd();
        if fd < 0 {
            return Err(crate::op::ended());
        }
        // The table closes its own descriptor, which ends nothing while another one is open.
        let fd = borrow(fd, |socket| socket.try_clone())?;
        Ok(Departed { fd: fd.into(), received, group: self.0.group() })
    }
}

impl Departed {
    /// Bytes that it has received and brings along.
    pub fn received(&self) -> &[u8] {
        &self.received
    }

    /// The connection on this core, and the bytes that come before anything that it will receive.
    ///
    /// # Panics
    ///
    /// Outside of a loop.
    #[track_caller]
    pub fn arrive(self) -> (TcpStream, Vec<u8>) {
        let mut stream = TcpStream::from_fd(current(), self.fd);
        if let Some(counted) = self.group.as_ref().and_then(Counted::moved) {
            stream = stream.counted(counted);
        }
        (stream, self.received)
    }
}

impl fmt::Debug for Departed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Departed").field("received", &self.received.len()).finish_non_exhaustive()
    }
}
