//! A connection's bytes, over TCP or a Unix socket, encrypted or not, and how one is made.

use std::io;
use std::net::SocketAddr;
use std::ops::Deref;
use std::time::Instant;

use annulet::Lease;
use annulet::net::{TcpSocket, TcpStream, UnixStream};
use annulet_tls::{HandshakeKind, Plaintext, TlsError, TlsStream, Transport};

use super::config::{Config, Target, Tls};

/// See the module.
#[derive(Debug)]
pub(super) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    TlsTcp(TlsStream<TcpStream>),
    TlsUnix(TlsStream<UnixStream>),
}

/// Received bytes.
pub(super) enum Received {
    Lease(Lease),
    Plaintext(Plaintext),
}

impl Deref for Received {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match self {
            Received::Lease(bytes) => bytes,
            Received::Plaintext(bytes) => bytes,
        }
    }
}

impl Stream {
    /// Makes connection number `number`.
    pub(super) async fn connect(config: &Config, number: usize) -> io::Result<Stream> {
        match &config.target {
            Target::Tcp(address) => {
                let stream = connect_tcp(config, *address, number).await?;
                stream.set_nodelay(true)?;
                match &config.tls {
                    None => Ok(Stream::Tcp(stream)),
                    Some(tls) => encrypt(tls, stream).await.map(Stream::TlsTcp),
                }
            }
            Target::Unix(path) => {
                let stream = UnixStream::connect(path).await?;
                match &config.tls {
                    None => Ok(Stream::Unix(stream)),
                    Some(tls) => encrypt(tls, stream).await.map(Stream::TlsUnix),
                }
            }
        }
    }

    /// With TLS: how it began.
    pub(super) fn handshake_kind(&self) -> Option<HandshakeKind> {
        match self {
            Stream::Tcp(_) | Stream::Unix(_) => None,
            Stream::TlsTcp(stream) => Some(stream.handshake_kind()),
            Stream::TlsUnix(stream) => Some(stream.handshake_kind()),
        }
    }

    #[inline]
    pub(super) async fn recv(&self) -> io::Result<Option<Received>> {
        match self {
            Stream::Tcp(stream) => Ok(stream.recv().await?.map(Received::Lease)),
            Stream::Unix(stream) => Ok(stream.recv().await?.map(Received::Lease)),
            Stream::TlsTcp(stream) => Ok(stream.recv().await?.map(Received::Plaintext)),
            Stream::TlsUnix(stream) => Ok(stream.recv().await?.map(Received::Plaintext)),
        }
    }

    #[inline]
    pub(super) fn with_send_buffer<R>(&self, f: impl FnOnce(&mut Vec<u8>) -> R) -> R {
        match self {
            Stream::Tcp(stream) => stream.with_send_buffer(f),
            Stream::Unix(stream) => stream.with_send_buffer(f),
            Stream::TlsTcp(stream) => stream.with_send_buffer(f),
            Stream::TlsUnix(stream) => stream.with_send_buffer(f),
        }
    }

    pub(super) fn set_recv_deadline(&self, deadline: Option<Instant>) {
        match self {
            Stream::Tcp(stream) => stream.set_recv_deadline(deadline),
            Stream::Unix(stream) => stream.set_recv_deadline(deadline),
            Stream::TlsTcp(stream) => stream.set_recv_deadline(deadline),
            Stream::TlsUnix(stream) => stream.set_recv_deadline(deadline),
        }
    }

    /// Asks for bytes before anybody waits for them.
    pub(super) fn start_recv(&self) {
        match self {
            Stream::Tcp(stream) => stream.start_recv(),
            Stream::Unix(stream) => stream.start_recv(),
            Stream::TlsTcp(stream) => stream.start_recv(),
            Stream::TlsUnix(stream) => stream.start_recv(),
        }
    }
}

async fn connect_tcp(config: &Config, address: SocketAddr, number: usize) -> io::Result<TcpStream> {
    let Some(source) = config.source else { return TcpStream::connect(address).await };
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.bind(SocketAddr::new(source.nth(number), 0))?;
    socket.connect(address).await
}

async fn encrypt<S: Transport>(tls: &Tls, stream: S) -> io::Result<TlsStream<S>> {
    let connected = tls.connector.connect(&tls.name, stream).await;
    connected.map_err(|error| {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>());
        let is_certificate = inner.is_some_and(TlsError::is_certificate);
        let cure = if is_certificate { "; --tls-insecure believes it all the same" } else { "" };
        io::Error::new(error.kind(), format!("TLS: {error}{cure}"))
    })
}
