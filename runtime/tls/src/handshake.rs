//! From a connected stream to a TLS stream, and what the handshake agreed upon.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::task::{Poll, ready};

use annulet::future::end_turn;
use rustls::Connection;

use crate::session::Session;
use crate::stream::TlsStream;
use crate::transport::Transport;

/// How the keys were agreed upon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HandshakeKind {
    /// With certificates.
    Full,
    /// With certificates and one more round trip: the server asked for another key share (TLS 1.3).
    FullWithRetry,
    /// By the secret of an earlier connection, without certificates.
    Resumed,
}

/// The version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Version {
    /// RFC 5246.
    Tls12,
    /// RFC 8446.
    Tls13,
}

impl HandshakeKind {
    pub(crate) fn of(connection: &Connection) -> HandshakeKind {
        match connection.handshake_kind() {
            Some(rustls::HandshakeKind::Resumed) => HandshakeKind::Resumed,
            Some(rustls::HandshakeKind::FullWithHelloRetryRequest) => HandshakeKind::FullWithRetry,
            _ => HandshakeKind::Full,
        }
    }
}

impl Version {
    pub(crate) fn of(connection: &Connection) -> Version {
        match connection.protocol_version() {
            Some(rustls::ProtocolVersion::TLSv1_2) => Version::Tls12,
            // rustls speaks no other two, and the handshake is done.
            _ => Version::Tls13,
        }
    }
}

/// What is left of a handshake that failed.
pub(crate) struct Failed<S> {
    pub(crate) error: io::Error,
    /// For a close that lets the alert arrive.
    pub(crate) stream: S,
    pub(crate) session: Box<Session>,
}

/// Does the handshake.
pub(crate) async fn handshake<S: Transport>(
    connection: impl Into<Connection>,
    stream: S,
) -> Result<TlsStream<S>, Failed<S>> {
    let session = RefCell::new(Box::new(Session::new(connection.into())));
    let done = poll_fn(|cx| {
        let mut computed = false;
        loop {
            let is_done = session.borrow_mut().handshake(&stream)?;
            if computed {
                // A step is a tenth of a millisecond of cryptography. The peer is to go on with it while the next handshake has its step here.
                end_turn();
            }
            if is_done {
                return Poll::Ready(Ok(()));
            }
            computed = true;
            match ready!(stream.poll_recv(cx))? {
                Some(lease) => session.borrow_mut().receive(Some(lease))?,
                None => {
                    let why = "the peer closed the connection in the middle of the TLS handshake";
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::UnexpectedEof, why)));
                }
            }
        }
    })
    .await;
    match done {
        Ok(()) => Ok(TlsStream::new(stream, session)),
        Err(error) => Err(Failed { error, stream, session: session.into_inner() }),
    }
}
