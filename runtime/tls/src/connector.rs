//! The client's side.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use crate::error::{TlsError, invalid};
use crate::handshake::handshake;
use crate::insecure::AcceptAny;
use crate::pem::{self, Identity, Source};
use crate::provider;
use crate::stream::TlsStream;
use crate::transport::Transport;

/// Servers whose sessions a connector remembers.
const SESSIONS: usize = 256;

/// Makes TLS connections of connected streams.
///
/// Clones share the configuration and the sessions that can be resumed, across cores too.
#[derive(Clone)]
pub struct TlsConnector {
    config: Arc<ClientConfig>,
}

/// Whom a connector believes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trust {
    /// The system's authorities, where the feature is on, and those that were given.
    Authorities { with_native: bool },
    /// Everybody.
    Anybody,
}

/// What a [`TlsConnector`] is made of.
#[derive(Clone)]
pub struct ConnectorBuilder {
    trust: Trust,
    roots: Vec<Source>,
    identity: Option<Identity>,
    alpn: Vec<Vec<u8>>,
    sessions: usize,
}

impl TlsConnector {
    /// Trusts nobody yet: add [`native_roots`](ConnectorBuilder::native_roots) or authorities of one's own.
    pub fn builder() -> ConnectorBuilder {
        ConnectorBuilder {
            trust: Trust::Authorities { with_native: false },
            roots: Vec::new(),
            identity: None,
            alpn: Vec::new(),
            sessions: SESSIONS,
        }
    }

    /// Begins a connector that takes **any** certificate, so that anybody on the way can read and change everything. For load
    /// tests against servers with self-signed certificates, and for nothing else.
    pub fn danger_accept_invalid() -> ConnectorBuilder {
        ConnectorBuilder { trust: Trust::Anybody, ..Self::builder() }
    }

    /// With a configuration that was made by rustls, with all that rustls can.
    pub fn from_rustls_config(config: Arc<ClientConfig>) -> TlsConnector {
        TlsConnector { config }
    }

    /// The client's part of the handshake. `name` is the host name or the IP address that the certificate must be for.
    ///
    /// There is no time limit here: use [`timeout`](annulet::time::timeout). A server with TLS 1.3 that refuses the client's
    /// certificate says so after the handshake: the first read fails.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a name that cannot be one; `InvalidData` around a [`TlsError`]; `UnexpectedEof` when the server
    /// goes away; what recv(2) says.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection.
    pub async fn connect<S: Transport>(&self, name: &str, stream: S) -> io::Result<TlsStream<S>> {
        // Brackets belong to the URL and not to the address (RFC 3986 section 3.2.2).
        let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
        let server = ServerName::try_from(bare.to_owned())
            .map_err(|_| invalid(format!("{name:?} is neither a host name nor an IP address")))?;
        let connection = ClientConnection::new(Arc::clone(&self.config), server).map_err(TlsError::new)?;
        handshake(connection, stream).await.map_err(|failed| failed.error)
    }
}

impl ConnectorBuilder {
    /// Trusts the authorities that the system trusts; `SSL_CERT_FILE` and `SSL_CERT_DIR` tell of others. A system without any
    /// is an error only where no other authority was given.
    #[cfg(feature = "native-roots")]
    #[must_use]
    pub fn native_roots(mut self) -> Self {
        if let Trust::Authorities { with_native } = &mut self.trust {
            *with_native = true;
        }
        self
    }

    /// Trusts the authorities in a PEM text. A self-signed certificate is its own.
    #[must_use]
    pub fn root_pem(mut self, pem: &[u8]) -> Self {
        self.roots.push(Source::bytes(pem));
        self
    }

    /// The same from a file.
    #[must_use]
    pub fn root_file(mut self, path: impl AsRef<Path>) -> Self {
        self.roots.push(Source::file(path));
        self
    }

    /// What the client shows of itself where a server asks: a certificate chain and its key in PEM.
    #[must_use]
    pub fn certificate(mut self, chain_pem: &[u8], key_pem: &[u8]) -> Self {
        self.identity = Some(Identity { chain: Source::bytes(chain_pem), key: Source::bytes(key_pem) });
        self
    }

    /// The same from files.
    #[must_use]
    pub fn certificate_files(mut self, chain: impl AsRef<Path>, key: impl AsRef<Path>) -> Self {
        self.identity = Some(Identity { chain: Source::file(chain), key: Source::file(key) });
        self
    }

    /// The protocols that are offered, the preferred one first (RFC 7301).
    #[must_use]
    pub fn alpn<P: AsRef<[u8]>>(mut self, protocols: impl IntoIterator<Item = P>) -> Self {
        self.alpn = protocols.into_iter().map(|protocol| protocol.as_ref().to_vec()).collect();
        self
    }

    /// How many servers' sessions are remembered for resumption (256 unless told; 0 for none).
    #[must_use]
    pub fn sessions(mut self, count_max: usize) -> Self {
        self.sessions = count_max;
        self
    }

    /// Reads what is to be read.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for what cannot be used, with the file's name, and for a connector that trusts nobody; what open(2)
    /// and read(2) say.
    pub fn build(self) -> io::Result<TlsConnector> {
        let provider = provider();
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(TlsError::new)?;
        let builder = match self.trust {
            Trust::Anybody => {
                builder.dangerous().with_custom_certificate_verifier(Arc::new(AcceptAny(provider)))
            }
            Trust::Authorities { with_native } => {
                let mut roots = RootCertStore::empty();
                let native = if with_native { add_native(&mut roots) } else { Ok(()) };
                pem::roots(&self.roots, &mut roots)?;
                if roots.is_empty() {
                    native?;
                }
                if roots.is_empty() {
                    return Err(invalid(
                        "this connector would trust nobody; add `native_roots`, `root_file` or `root_pem`",
                    ));
                }
                builder.with_root_certificates(roots)
            }
        };
        let mut config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let key = rustls::sign::SingleCertAndKey::from(identity.load()?);
                builder.with_client_cert_resolver(Arc::new(key))
            }
        };
        config.alpn_protocols = self.alpn;
        config.resumption = match self.sessions {
            0 => Resumption::disabled(),
            count => Resumption::in_memory_sessions(count),
        };
        Ok(TlsConnector { config: Arc::new(config) })
    }
}

#[cfg(feature = "native-roots")]
fn add_native(roots: &mut RootCertStore) -> io::Result<()> {
    let found = rustls_native_certs::load_native_certs();
    // Systems have certificates that nobody can parse; those that can be used count.
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        let why = found.errors.first().map_or_else(String::new, |error| format!(": {error}"));
        return Err(invalid(format!(
            "the system has no certificate authorities (is the package ca-certificates there?){why}"
        )));
    }
    Ok(())
}

#[cfg(not(feature = "native-roots"))]
fn add_native(_: &mut RootCertStore) -> io::Result<()> {
    unreachable!("only the method behind the feature asks for it")
}

impl fmt::Debug for TlsConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsConnector").finish_non_exhaustive()
    }
}

impl fmt::Debug for ConnectorBuilder {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectorBuilder")
            .field("trust", &self.trust)
            .field("roots", &self.roots.len())
            .finish_non_exhaustive()
    }
}
