//! What a handshake came to, apart from its connection: for those who see requests and no sockets.
use std::fmt;
use std::sync::Arc;

use crate::handshake::{HandshakeKind, Version};
use crate::stream::TlsStream;
use crate::transport::Transport;

/// Who is at the other end of a TLS connection, and what was agreed upon. Clones share it, across threads too.
#[derive(Clone)]
pub struct TlsInfo(Arc<Inner>);

struct Inner {
    alpn: Option<Box<[u8]>>,
    server_name: Option<Box<str>>,
    version: Version,
    kind: HandshakeKind,
    certificates: Vec<Vec<u8>>,
}

impl TlsInfo {
    /// See [`TlsStream::alpn`].
    #[must_use]
    pub fn alpn(&self) -> Option<&[u8]> {
        self.0.alpn.as_deref()
    }

    /// See [`TlsStream::server_name`].
    #[must_use]
    pub fn server_name(&self) -> Option<&str> {
        self.0.server_name.as_deref()
    }

    /// See [`TlsStream::version`].
    #[must_use]
    pub fn version(&self) -> Version {
        self.0.version
    }

    /// See [`TlsStream::handshake_kind`].
    #[must_use]
    pub fn handshake_kind(&self) -> HandshakeKind {
        self.0.kind
    }

    /// The peer's certificate and what it sent of its chain, in DER, its own first. Empty for a client that showed none. They
    /// were verified by the handshake (of a resumed session: by the first one); what they say is for a crate that reads X.509.
    #[must_use]
    pub fn peer_certificates(&self) -> &[Vec<u8>] {
        &self.0.certificates
    }
}

impl fmt::Debug for TlsInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { server_name, version, kind, certificates, .. } = &*self.0;
        f.debug_struct("TlsInfo")
            .field("version", version)
            .field("handshake_kind", kind)
            .field("server_name", server_name)
            .field("alpn", &self.alpn().map(String::from_utf8_lossy))
            .field("peer_certificates", &certificates.len())
            .finish()
    }
}

impl<S: Transport> TlsStream<S> {
    /// What the handshake came to, to be kept beside the connection.
    #[must_use]
    pub fn info(&self) -> TlsInfo {
        TlsInfo(Arc::new(Inner {
            alpn: self.alpn().map(Box::from),
            server_name: self.server_name().map(Box::from),
            version: self.version(),
            kind: self.handshake_kind(),
            certificates: self.peer_certificates(),
        }))
    }
}
