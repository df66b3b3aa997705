//! The server's side.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use annulet::Lease;
use rustls::server::{ServerSessionMemoryCache, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig, ServerConnection};

use crate::error::{TlsError, invalid};
use crate::handshake::{Failed, handshake};
use crate::pem::{self, Identity, Source};
use crate::provider;
use crate::resolver::ByName;
use crate::stream::TlsStream;
use crate::transport::Transport;

/// Sessions that a server remembers for clients without tickets. About a kilobyte each.
const SESSIONS: usize = 1024;

/// After a failed handshake: for how long the client may take to read why.
const ALERT_LINGER: Duration = Duration::from_millis(500);

/// Makes TLS connections of accepted streams.
///
/// Clones share the configuration and the sessions that can be resumed, across cores too.
#[derive(Clone)]
pub struct TlsAcceptor {
    shared: Arc<Shared>,
}

struct Shared {
    /// What [`TlsAcceptor::reload`] reads again; `None` for a configuration from outside.
    builder: Option<AcceptorBuilder>,
    // A lock for each handshake, held for the copy of a pointer: nothing beside the cryptography.
    config: RwLock<Arc<ServerConfig>>,
}

/// Whether clients show certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    /// They may; who shows one that is not signed by the given roots is refused.
    Optional,
    /// They must.
    Required,
}

/// A client that speaks without TLS: see [`TlsAcceptor::accept_or_plain`].
#[derive(Debug)]
pub struct Plain<S> {
    /// Its stream, with whatever else it sends.
    pub stream: S,
    /// What it has sent first, one byte at least.
    pub received: Lease,
}

/// What a [`TlsAcceptor`] is made of.
#[derive(Clone)]
pub struct AcceptorBuilder {
    identities: Vec<Identity>,
    alpn: Vec<Vec<u8>>,
    clients: Option<(Vec<Source>, ClientAuth)>,
    sessions: usize,
    tickets: bool,
}

impl TlsAcceptor {
    /// Begins with nothing; a certificate is needed.
    pub fn builder() -> AcceptorBuilder {
        AcceptorBuilder {
            identities: Vec::new(),
            alpn: Vec::new(),
            clients: None,
            sessions: SESSIONS,
            tickets: true,
        }
    }

    /// With a configuration that was made by rustls, with all that rustls can.
    pub fn from_rustls_config(config: Arc<ServerConfig>) -> TlsAcceptor {
        TlsAcceptor { shared: Arc::new(Shared { builder: None, config: RwLock::new(config) }) }
    }

    /// Reads the files of certificates, keys and roots again; handshakes that begin after this use them. Connections stay
    /// as they are, and sessions from before are not resumed, so that a client whose root was taken away comes in no more.
    ///
    /// It reads files and computes: call it from [`spawn_blocking`](annulet::spawn_blocking) where a loop is busy.
    ///
    /// # Errors
    ///
    /// As [`AcceptorBuilder::build`], and then nothing has changed. `Unsupported` for a configuration from outside; see
    /// [`replace`](Self::replace).
    pub fn reload(&self) -> io::Result<()> {
        let Some(builder) = &self.shared.builder else {
            let why = "this acceptor was made from a rustls configuration; give it a new one with `replace`";
            return Err(io::Error::new(io::ErrorKind::Unsupported, why));
        };
        self.replace(builder.config()?);
        Ok(())
    }

    /// Uses `config` for handshakes that begin after this.
    pub fn replace(&self, config: Arc<ServerConfig>) {
        *self.shared.config.write().unwrap_or_else(PoisonError::into_inner) = config;
    }

    /// The server's part of the handshake.
    ///
    /// There is no time limit here: use [`timeout`](annulet::time::timeout). After a failure it tells the client why (but
    /// for a ClientHello of more than 32 KiB), and waits for at most half a second for it to go.
    ///
    /// # Errors
    ///
    /// `InvalidData` around a [`TlsError`]; `UnexpectedEof` when the client goes away; what recv(2) says.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection.
    pub async fn accept<S: Transport>(&self, stream: S) -> io::Result<TlsStream<S>> {
        match handshake(self.connection()?, stream).await {
            Ok(stream) => Ok(stream),
            Err(failed) => Err(close(failed).await),
        }
    }

    /// As [`accept`](Self::accept), but a client that begins as a request of HTTP does, or a PROXY header, speaks without TLS, and can be
    /// told so: it is given back (the inner error), and nothing was sent to it.
    ///
    /// # Errors
    ///
    /// As there.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection.
    pub async fn accept_or_plain<S: Transport>(
        &self,
        stream: S,
    ) -> io::Result<Result<TlsStream<S>, Plain<S>>> {
        match handshake(self.connection()?, stream).await {
            Ok(stream) => Ok(Ok(stream)),
            Err(mut failed) => match failed.session.take_plain() {
                Some(received) => Ok(Err(Plain { stream: failed.stream, received })),
                None => Err(close(failed).await),
            },
        }
    }

    fn connection(&self) -> io::Result<ServerConnection> {
        let config = Arc::clone(&self.shared.config.read().unwrap_or_else(PoisonError::into_inner));
        Ok(ServerConnection::new(config).map_err(TlsError::new)?)
    }
}

/// The client gets time to read why. Gives the error.
async fn close<S: Transport>(failed: Failed<S>) -> io::Error {
    let Failed { error, stream, mut session } = failed;
    if error.kind() == io::ErrorKind::InvalidData {
        // Its alert, if it is still to be sent.
        session.send(&stream);
        drop(session);
        // The handshake's own error says more than that of its end.
        let _ = stream.close(ALERT_LINGER).await;
    }
    error
}

impl AcceptorBuilder {
    /// Adds a certificate chain, the server's own first, and its key (PKCS #8, PKCS #1 or SEC1), both in PEM.
    ///
    /// Of several, a client gets the first that is for the name that it asks for, and without one the first of all.
    #[must_use]
    pub fn certificate(mut self, chain_pem: &[u8], key_pem: &[u8]) -> Self {
        self.identities.push(Identity { chain: Source::bytes(chain_pem), key: Source::bytes(key_pem) });
        self
    }

    /// The same from files, which [`TlsAcceptor::reload`] reads again.
    #[must_use]
    pub fn certificate_files(mut self, chain: impl AsRef<Path>, key: impl AsRef<Path>) -> Self {
        self.identities.push(Identity { chain: Source::file(chain), key: Source::file(key) });
        self
    }

    /// The protocols that are spoken, the preferred one first (RFC 7301). A client that offers only others is refused.
    #[must_use]
    pub fn alpn<P: AsRef<[u8]>>(mut self, protocols: impl IntoIterator<Item = P>) -> Self {
        self.alpn = protocols.into_iter().map(|protocol| protocol.as_ref().to_vec()).collect();
        self
    }

    /// Asks clients for certificates that are signed by one of `roots_pem`.
    #[must_use]
    pub fn client_roots(mut self, roots_pem: &[u8], auth: ClientAuth) -> Self {
        self.clients = Some((vec![Source::bytes(roots_pem)], auth));
        self
    }

    /// The same from a file, which [`TlsAcceptor::reload`] reads again.
    #[must_use]
    pub fn client_roots_file(mut self, roots: impl AsRef<Path>, auth: ClientAuth) -> Self {
        self.clients = Some((vec![Source::file(roots)], auth));
        self
    }

    /// How many sessions are remembered here (1024 unless told; 0 for none). Used by clients of TLS 1.2 without tickets, and
    /// by all when tickets are off. About a kilobyte each; the oldest is forgotten for the newest.
    #[must_use]
    pub fn sessions(mut self, count_max: usize) -> Self {
        self.sessions = count_max;
        self
    }

    /// Whether sessions are given to clients as encrypted tickets (RFC 8446 section 4.6.1), as they are unless told. The
    /// key changes every six hours, and lives in this process.
    #[must_use]
    pub fn tickets(mut self, enabled: bool) -> Self {
        self.tickets = enabled;
        self
    }

    /// Reads what is to be read.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for what cannot be used, with the file's name; what open(2) and read(2) say.
    pub fn build(self) -> io::Result<TlsAcceptor> {
        let config = RwLock::new(self.config()?);
        Ok(TlsAcceptor { shared: Arc::new(Shared { builder: Some(self), config }) })
    }

    fn config(&self) -> io::Result<Arc<ServerConfig>> {
        if self.identities.is_empty() {
            return Err(invalid("a TLS server needs a certificate; give one with `certificate_files`"));
        }
        let keys: io::Result<Vec<_>> = self.identities.iter().map(|one| one.load().map(Arc::new)).collect();
        let builder = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(TlsError::new)?;
        let builder = match &self.clients {
            None => builder.with_no_client_auth(),
            Some((sources, auth)) => {
                let mut roots = RootCertStore::empty();
                pem::roots(sources, &mut roots)?;
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
                let verifier = match auth {
                    ClientAuth::Required => verifier,
                    ClientAuth::Optional => verifier.allow_unauthenticated(),
                };
                builder
                    .with_client_cert_verifier(verifier.build().map_err(|error| invalid(error.to_string()))?)
            }
        };
        let mut config = builder.with_cert_resolver(Arc::new(ByName(keys?)));
        config.alpn_protocols.clone_from(&self.alpn);
        config.session_storage = match self.sessions {
            0 => Arc::new(rustls::server::NoServerSessionStorage {}),
            count => ServerSessionMemoryCache::new(count),
        };
        if self.tickets {
            config.ticketer = rustls::crypto::ring::Ticketer::new().map_err(TlsError::new)?;
        }
        Ok(Arc::new(config))
    }
}

impl fmt::Debug for TlsAcceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsAcceptor").finish_non_exhaustive()
    }
}

impl fmt::Debug for AcceptorBuilder {
    /// Without the keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AcceptorBuilder")
            .field("certificates", &self.identities.len())
            .field("sessions", &self.sessions)
            .field("tickets", &self.tickets)
            .finish_non_exhaustive()
    }
}
