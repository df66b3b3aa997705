//! What can be set of a client, each bound with its unit, its default and what happens at it.
use std::time::Duration;

use http::HeaderValue;

use super::Client;
use super::pool::Bounds;
use super::secure::Trust;
use crate::Limits;

/// Nobody means more, and instants stay representable.
const DURATION_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

/// Settings of a [`Client`].
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use annulet_http::Client;
///
/// let client = Client::builder()
///     .connections_per_host(4)
///     .timeout(Some(Duration::from_secs(10)))
///     .cookies(true)
///     .build();
/// # drop(client);
/// ```
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until build is called"]
pub struct ClientBuilder(Settings);

#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) bounds: Bounds,
    pub(super) limits: Limits,
    pub(super) connect: Duration,
    pub(super) head: Duration,
    pub(super) to_continue: Duration,
    pub(super) total: Option<Duration>,
    pub(super) redirects: usize,
    pub(super) cookies: bool,
    pub(super) agent: HeaderValue,
    pub(super) trust: Trust,
}

impl Settings {
    /// How often idle connections are looked at: one is closed at the latest after one and a half times what it is allowed. The
    /// least is arbitrary.
    pub(super) fn sweep(&self) -> Duration {
        (self.bounds.idle / 2).max(Duration::from_millis(100))
    }
}

impl Default for ClientBuilder {
    fn default() -> ClientBuilder {
        ClientBuilder(Settings {
            bounds: Bounds {
                connections: 256,
                connections_per_host: 32,
                idle: Duration::from_secs(60),
                waiting: 65_536,
            },
            limits: Limits { body_bytes: 64 * 1024 * 1024, ..Limits::default() },
            connect: Duration::from_secs(10),
            head: Duration::from_secs(30),
            to_continue: Duration::from_secs(1),
            total: Some(Duration::from_secs(300)),
            redirects: 10,
            cookies: false,
            agent: HeaderValue::from_static(concat!("annulet/", env!("CARGO_PKG_VERSION"))),
            trust: Trust::system(),
        })
    }
}

impl ClientBuilder {
    /// Connections to all hosts together, idle ones included; 256 by default, at least 1. Beyond: the oldest idle one makes room, or the
    /// request waits.
    pub fn connections(mut self, count: usize) -> ClientBuilder {
        self.0.bounds.connections = count.max(1);
        self
    }

    /// Connections to one host (scheme, name and port); 32 by default, at least 1. Beyond: the request waits.
    pub fn connections_per_host(mut self, count: usize) -> ClientBuilder {
        self.0.bounds.connections_per_host = count.max(1);
        self
    }

    /// Requests that may wait for a connection; 65 536 by default. Beyond: [`is_overloaded`](super::Error::is_overloaded).
    pub fn waiting(mut self, count: usize) -> ClientBuilder {
        self.0.bounds.waiting = count;
        self
    }

    /// How long a connection is kept without use; 60 s by default. Zero: none is used again. An older one is never used, and closed
    /// after one and a half times as long, or a tenth of a second more, at the latest.
    pub fn idle_timeout(mut self, time: Duration) -> ClientBuilder {
        self.0.bounds.idle = time.min(DURATION_MAX);
        self
    }

    /// For looking a name up and connecting; 10 s by default.
    pub fn connect_timeout(mut self, time: Duration) -> ClientBuilder {
        self.0.connect = time;
        self
    }

    /// From the moment in which the last bytes of the request were handed over to the last byte of the answer's head; 30 s by default.
    /// A server that takes nothing more of the request is given as long.
    pub fn head_timeout(mut self, time: Duration) -> ClientBuilder {
        self.0.head = time;
        self
    }

    /// How long a request that [asks first](super::RequestBuilder::expect_continue) waits for a word of the server before its content
    /// leaves anyway; 1 s by default, as with curl and Go. RFC 9110 section 10.1.1: it must not wait for ever.
    pub fn continue_timeout(mut self, time: Duration) -> ClientBuilder {
        self.0.to_continue = time;
        self
    }

    /// For everything, from the call of `send` to the last byte of content, redirections included; 300 s by default, `None` for
    /// ever.
    pub fn timeout(mut self, time: Option<Duration>) -> ClientBuilder {
        self.0.total = time;
        self
    }

    /// Redirections that are followed; 10 by default. Beyond: an [error](super::Error::is_redirect). Zero: they are answers like any
    /// other.
    ///
    /// RFC 9110 section 15.4: after 303, and after 301 and 302 to a POST, a GET follows; the others repeat the request. Credentials
    /// (Authorization, Cookie) and a Host of one's own do not go to another scheme, host or port.
    pub fn redirects(mut self, count: usize) -> ClientBuilder {
        self.0.redirects = count;
        self
    }

    /// Whether cookies are kept, for as long as the client lives, and sent back; no by default. The list of public suffixes is not
    /// known: a server may set a cookie for all of `co.uk`.
    pub fn cookies(mut self, are_kept: bool) -> ClientBuilder {
        self.0.cookies = are_kept;
        self
    }

    /// Limits on answers: `head_bytes`, `headers`, `chunk_extension_bytes`, `trailer_bytes`, and `body_bytes` for content that is
    /// collected (64 MiB by default). The others are a server's.
    pub fn limits(mut self, limits: Limits) -> ClientBuilder {
        self.0.limits = limits.clamped();
        self
    }

    /// What the field User-Agent says.
    ///
    /// # Panics
    ///
    /// When it holds control characters.
    pub fn user_agent(mut self, agent: &str) -> ClientBuilder {
        self.0.agent = HeaderValue::try_from(agent).expect("a user agent without control characters");
        self
    }

    /// Believes servers whose certificates these authorities signed (PEM), beside those that the system trusts. A self-signed
    /// certificate is its own authority. What is wrong with it, the first request with `https` tells.
    #[cfg(feature = "tls")]
    pub fn add_root_pem(mut self, pem: &[u8]) -> ClientBuilder {
        self.0.trust.add_root_pem(pem);
        self
    }

    /// Believes **any** server, so that anybody on the way can read and change everything. For tests against servers with
    /// self-signed certificates, and for nothing else.
    #[cfg(feature = "tls")]
    pub fn danger_accept_invalid_certificates(mut self) -> ClientBuilder {
        self.0.trust = Trust::anybody();
        self
    }

    /// Uses this connector for `https`, with a client's certificate for example, in place of what the other methods say. It should
    /// offer `http/1.1` by ALPN, or nothing: where another protocol is agreed upon, a request fails.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, connector: annulet_tls::TlsConnector) -> ClientBuilder {
        self.0.trust = Trust::of(connector);
        self
    }

    /// The client.
    #[must_use]
    pub fn build(self) -> Client {
        Client::with(self.0)
    }
}
