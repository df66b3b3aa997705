//! What TLS adds to the client's connections. Without the feature `tls` it refuses.
//!
//! The connector is made with the first request that needs it: reading the system's authorities takes milliseconds, and many
//! programs speak to no `https` at all.
#[cfg(feature = "tls")]
pub(super) use with::{Secure, Trust, check};
#[cfg(not(feature = "tls"))]
pub(super) use without::{Secure, Trust, check};

#[cfg(feature = "tls")]
mod with {
    use std::cell::OnceCell;
    use std::fmt;

    use annulet::net::TcpStream;
    use annulet_tls::{ConnectorBuilder, TlsConnector};

    use crate::client::error::{Error, Kind};
    use crate::client::url::Url;
    use crate::socket::Socket;

    /// The one protocol that is spoken here (RFC 7301 section 6).
    const ALPN: &str = "http/1.1";

    /// Whom a client believes.
    #[derive(Clone)]
    pub(in crate::client) enum Trust {
        Builder(ConnectorBuilder),
        Connector(TlsConnector),
    }

    impl Trust {
        pub(in crate::client) fn system() -> Trust {
            Trust::Builder(TlsConnector::builder().native_roots())
        }

        pub(in crate::client) fn anybody() -> Trust {
            Trust::Builder(TlsConnector::danger_accept_invalid())
        }

        pub(in crate::client) fn of(connector: TlsConnector) -> Trust {
            Trust::Connector(connector)
        }

        pub(in crate::client) fn add_root_pem(&mut self, pem: &[u8]) {
            if let Trust::Builder(builder) = self {
                *self = Trust::Builder(builder.clone().root_pem(pem));
            }
        }
    }

    impl fmt::Debug for Trust {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.debug_struct("Trust").finish_non_exhaustive()
        }
    }

    /// Makes connections safe.
    #[derive(Debug)]
    pub(in crate::client) struct Secure {
        trust: Trust,
        /// With the sessions that can be resumed. Empty until it is needed.
        connector: OnceCell<TlsConnector>,
    }

    impl Secure {
        pub(in crate::client) fn new(trust: Trust) -> Secure {
            Secure { trust, connector: OnceCell::new() }
        }

        /// The handshake on a connected socket.
        ///
        /// # Errors
        ///
        /// When the roots cannot be read, or the server is not believed, or speaks no TLS.
        pub(in crate::client) async fn shake(&self, stream: TcpStream, name: &str) -> Result<Socket, Error> {
            let failed = |error| Error::new(Kind::Tls).because(error);
            let connector = self.connector().await.map_err(failed)?;
            let stream = connector.connect(name, stream).await.map_err(failed)?;
            // A connector of the program's own may offer more.
            match stream.alpn() {
                Some(protocol) if protocol != ALPN.as_bytes() => Err(failed(other_protocol(protocol))),
                _ => Ok(stream.into()),
            }
        }

        async fn connector(&self) -> std::io::Result<&TlsConnector> {
            if let Some(connector) = self.connector.get() {
                return Ok(connector);
            }
            let made = match &self.trust {
                Trust::Connector(connector) => connector.clone(),
                Trust::Builder(builder) => {
                    let builder = builder.clone().alpn([ALPN]);
                    let built = annulet::spawn_blocking(move || builder.build()).await;
                    built.map_err(|error| std::io::Error::other(error.to_string()))??
                }
            };
            // Two first requests may both have made one.
            Ok(self.connector.get_or_init(|| made))
        }
    }

    fn other_protocol(protocol: &[u8]) -> std::io::Error {
        let protocol = protocol.escape_ascii();
        std::io::Error::other(format!(
            "the connector and the server have agreed on `{protocol}`, and this client speaks HTTP/1.1 only: build the \
             connector with .alpn([\"{ALPN}\"])"
        ))
    }

    /// Whether a request can be sent there.
    #[expect(clippy::unnecessary_wraps, reason = "it can be refused without the feature")]
    pub(in crate::client) fn check(_: &Url) -> Result<(), Error> {
        Ok(())
    }
}

#[cfg(not(feature = "tls"))]
mod without {
    use annulet::net::TcpStream;

    use crate::client::error::Error;
    use crate::client::url::Url;
    use crate::socket::Socket;

    /// Nobody has to be believed.
    #[derive(Clone, Debug)]
    pub(in crate::client) struct Trust;

    impl Trust {
        pub(in crate::client) fn system() -> Trust {
            Trust
        }
    }

    #[derive(Debug)]
    pub(in crate::client) struct Secure;

    impl Secure {
        pub(in crate::client) fn new(_: Trust) -> Secure {
            Secure
        }

        pub(in crate::client) async fn shake(&self, _: TcpStream, _: &str) -> Result<Socket, Error> {
            unreachable!("`check` has refused it")
        }
    }

    /// Whether a request can be sent there.
    pub(in crate::client) fn check(url: &Url) -> Result<(), Error> {
        if url.is_secure {
            let why = "https is not spoken by this program: build annulet-http with its feature `tls`";
            return Err(Error::request(why));
        }
        Ok(())
    }
}
