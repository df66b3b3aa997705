//! A connection's bytes, over TCP or a Unix socket, and how one is made.

use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use annulet::Lease;
use annulet::net::{TcpSocket, TcpStream, UnixStream};

use super::config::{Config, Target};

/// See the module.
#[derive(Debug)]
pub(super) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    /// Makes connection number `number`.
    pub(super) async fn connect(config: &Config, number: usize) -> io::Result<Stream> {
        match (&config.target, config.source) {
            (Target::Tcp(address), None) => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                Ok(Stream::Tcp(stream))
            }
            (Target::Tcp(address), Some(source)) => {
                let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
                socket.bind(SocketAddr::new(source.nth(number), 0))?;
                let stream = socket.connect(*address).await?;
                stream.set_nodelay(true)?;
                Ok(Stream::Tcp(stream))
            }
            (Target::Unix(path), _) => Ok(Stream::Unix(UnixStream::connect(path).await?)),
        }
    }

    #[inline]
    pub(super) async fn recv(&self) -> io::Result<Option<Lease>> {
        match self {
            Stream::Tcp(stream) => stream.recv().await,
            Stream::Unix(stream) => stream.recv().await,
        }
    }

    #[inline]
    pub(super) fn with_send_buffer<R>(&self, f: impl FnOnce(&mut Vec<u8>) -> R) -> R {
        match self {
            Stream::Tcp(stream) => stream.with_send_buffer(f),
            Stream::Unix(stream) => stream.with_send_buffer(f),
        }
    }

    pub(super) fn set_recv_deadline(&self, deadline: Option<Instant>) {
        match self {
            Stream::Tcp(stream) => stream.set_recv_deadline(deadline),
            Stream::Unix(stream) => stream.set_recv_deadline(deadline),
        }
    }

    /// Asks for bytes before anybody waits for them.
    pub(super) fn start_recv(&self) {
        match self {
            Stream::Tcp(stream) => stream.start_recv(),
            Stream::Unix(stream) => stream.start_recv(),
        }
    }
}
