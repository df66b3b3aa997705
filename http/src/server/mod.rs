//! The server of one core: accepts connections and runs each as a task of its own.
//!
//! [`connection`] is the pump between a stream and the protocol, `secure` what comes before it where TLS is spoken, [`drain`] the way to end. Nothing here is shared between cores:
//! start one `Server` on each.
mod admission;
mod connection;
mod drain;
#[cfg(feature = "tls")]
mod secure;

use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};

use annulet::metrics::Row;
use annulet::net::{TcpListener, TcpStream};
#[cfg(feature = "tls")]
use annulet_tls::TlsAcceptor;
use http::HeaderValue;

use crate::access_log::AccessLog;
use crate::h1::{Limits, Refusal};
use crate::proxy::{ForwardingField, Network, Proxies};
use crate::router::Router;
use crate::service::Service;
use crate::transport::Transport;
use admission::{Admission, Place, Seat, Telling};
use connection::Connection;
pub use drain::Drain;
use drain::{Member, Registry};

/// Serves a [`Router`] on this core. Clones are the same server.
///
/// # Examples
///
/// ```
/// use annulet::net::{TcpListener, TcpStream};
/// use annulet_http::{Request, Response, Router, Server};
///
/// annulet::run(async {
///     let listener = TcpListener::bind("127.0.0.1:0").unwrap();
///     let address = listener.local_addr().unwrap();
///     let server = Server::new(Router::new().get("/", async |_: Request| Response::html("<h1>Index</h1>")));
///     annulet::spawn(async move { server.serve(listener).await });
///
///     let client = TcpStream::connect(address).await.unwrap();
///     client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
///     let answer = client.recv().await.unwrap().unwrap();
///     assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n"));
/// });
/// ```
#[derive(Clone, Debug)]
pub struct Server {
    shared: Rc<Shared>,
}

/// What all connections of a server share.
#[derive(Debug)]
struct Shared {
    service: Service,
    limits: Limits,
    registry: Registry,
    admission: Admission,
    log: Option<Rc<AccessLog>>,
    /// Content of so many bytes leaves without the kernel's copy.
    zero_copy_bytes_min: usize,
    /// Where clients are kept in mind.
    proxies: Option<Rc<Proxies>>,
}

impl Server {
    /// A server with the default [`Limits`].
    #[must_use]
    pub fn new(router: Router) -> Server {
        let limits = Limits::default().clamped();
        let shared = Shared {
            service: Service::new(router, limits.clone()),
            limits,
            registry: Registry::default(),
            admission: Admission::default(),
            log: None,
            zero_copy_bytes_min: usize::MAX,
            proxies: None,
        };
        Server { shared: Rc::new(shared) }
    }

    /// With other limits than the default ones; they are [`clamped`](Limits::clamped).
    ///
    /// # Panics
    ///
    /// When the server has been cloned or serves already.
    ///
    /// # Examples
    ///
    /// ```
    /// use annulet_http::{Limits, Router, Server};
    ///
    /// let limits = Limits { body_bytes: 64 * 1024, ..Limits::default() };
    /// let server = Server::new(Router::new()).with_limits(limits);
    /// ```
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Server {
        let shared = self.unused("limits are set");
        shared.limits = limits.clamped();
        shared.service.set_limits(shared.limits.clone());
        self
    }

    /// Writes a line for each answer. A server without one pays nothing for it.
    ///
    /// # Panics
    ///
    /// When the server has been cloned or serves already.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use std::sync::Arc;
    /// use annulet_http::{AccessLog, LogFormat, Router, Server};
    ///
    /// let file = std::fs::File::options().append(true).create(true).open("access.log").unwrap();
    /// let log = AccessLog::new(Arc::new(file), LogFormat::Combined);
    /// let server = Server::new(Router::new()).with_access_log(log);
    /// ```
    #[must_use]
    pub fn with_access_log(mut self, log: AccessLog) -> Server {
        self.unused("the access log is set").log = Some(Rc::new(log));
        self
    }

    /// Says in the field `Server` of every answer but 101 who made it, where a handler says nothing else (RFC 9110 section 10.2.4). It is off
    /// unless it is asked for: it tells those who look for a version with a hole. It takes a slower way to write answers.
    ///
    /// # Panics
    ///
    /// When the value holds control characters, or the server has been cloned or serves already.
    ///
    /// # Examples
    ///
    /// ```
    /// use annulet_http::{Router, Server};
    ///
    /// let server = Server::new(Router::new()).with_server_field("annulet");
    /// ```
    #[must_use]
    pub fn with_server_field(mut self, value: &str) -> Server {
        let value = HeaderValue::try_from(value).expect("a field `Server` without control characters");
        self.unused("the field `Server` is set").service.set_server(&value);
        self
    }

    /// Sends the content of answers that is in memory as a whole and has so many bytes, and more than 64 KiB, out of that memory:
    /// IORING_OP_SEND_ZC (from Linux 6.1 on), see [`TcpStream::try_send_zero_copy`]. It is off unless it is asked for.
    ///
    /// It saves the kernel's copy where packets go to a network card, and costs a second completion for every 256 KiB; on loopback
    /// the kernel copies anyway, a little later. Measure it on the network that you serve, with content of hundreds of KiB.
    ///
    /// What it does not do: it is not for TLS, whose copy is the encryption, nor for streams, nor for files, which leave by
    /// sendfile(2). Where the kernel has no such send, or no memory to lock, content is copied as without it. The content is kept,
    /// and counts among [`Limits::memory_bytes`], until the client has acknowledged it; the next answer of that connection is
    /// made then. So a client that takes nothing for the write timeout is cut even if the kernel could have kept the rest for it, and the end
    /// of a connection comes when the last byte was acknowledged. At most 4 MiB of a connection are under way so, the rest waits or is copied.
    ///
    /// # Panics
    ///
    /// When the server has been cloned or serves already.
    ///
    /// # Examples
    ///
    /// ```
    /// use annulet_http::{Router, Server};
    ///
    /// let server = Server::new(Router::new()).with_zero_copy(512 * 1024);
    /// ```
    #[must_use]
    pub fn with_zero_copy(mut self, bytes_min: usize) -> Server {
        self.unused("zero-copy sends are asked for").zero_copy_bytes_min = bytes_min;
        self
    }

    /// Handlers may ask for [`peer`](crate::Request::peer) and [`client`](crate::Request::client) of a request. It costs a system call
    /// for each connection, which is why it is asked for.
    ///
    /// # Panics
    ///
    /// When the server has been cloned or serves already, here and in the next two.
    ///
    /// # Examples
    ///
    /// ```
    /// use annulet_http::{Request, Response, Router, Server};
    ///
    /// let router = Router::new().get("/", async |request: Request| match request.client() {
    ///     Some(address) => Response::text(format!("you are {address}")),
    ///     None => Response::text("who are you?"),
    /// });
    /// let server = Server::new(router).with_client_addresses();
    /// ```
    #[must_use]
    pub fn with_client_addresses(mut self) -> Server {
        self.proxies();
        self
    }

    /// Expects a PROXY header (version 1 or 2) before the first request of every connection, as HAProxy's `send-proxy` and cloud
    /// load balancers put it there, and takes connections of these proxies only: whoever else may connect could choose its address.
    /// `0.0.0.0/0` and `::/0` are everybody, where the network keeps others out.
    ///
    /// Others get 403, and what is no header gets 400, each with its reason. A header has to be there within the time for a head
    /// ([`Limits::head_timeout`]); of version 2 at most 4112 bytes are taken, and additions (TLVs) are skipped. Where it names nobody
    /// (`UNKNOWN`, `LOCAL`, which health checks are, UNIX sockets, datagrams) the peer is that of the socket.
    ///
    /// [`Limits::connections_per_address`] counts the address that the header names.
    ///
    /// Not for TLS: the header would stand before the handshake, and such connections are closed.
    ///
    /// # Examples
    ///
    /// ```
    /// use annulet_http::{Router, Server};
    ///
    /// let server = Server::new(Router::new()).with_proxy_protocol(["10.0.0.0/8".parse().unwrap()]);
    /// ```
    #[must_use]
    pub fn with_proxy_protocol(mut self, from: impl IntoIterator<Item = Network>) -> Server {
        self.proxies().header_from = Some(from.into_iter().collect());
        self
    }

    /// Believes what these proxies say of the client in `field`: the client is the rightmost address that is none of theirs, and unknown
    /// where one of them names nobody that can be understood. Without it these fields are fields like any other.
    ///
    /// Name the field that the proxies write: they pass the other on as a client has sent it. `X-Forwarded-Proto` is for them to set
    /// too, else a client does.
    ///
    /// [`Limits::connections_per_address`] does not count connections of these proxies: they have many clients on each, in turn.
    #[must_use]
    pub fn with_trusted_proxies(
        mut self,
        trusted: impl IntoIterator<Item = Network>,
        field: ForwardingField,
    ) -> Server {
        self.proxies().trust(trusted, field);
        self
    }

    fn proxies(&mut self) -> &mut Proxies {
        let proxies = self.unused("clients and proxies are asked for").proxies.get_or_insert_default();
        Rc::get_mut(proxies).expect("they are given away with the server only")
    }

    /// What is shared, while it is not.
    ///
    /// # Panics
    ///
    /// When the server has been cloned or serves already.
    fn unused(&mut self, what: &str) -> &mut Shared {
        match Rc::get_mut(&mut self.shared) {
            Some(shared) => shared,
            None => panic!("{what} before the server is cloned or serves"),
        }
    }

    /// Keeps its connections and requests out of the [counters](annulet::metrics::Counter) of its loop: for a server that is asked
    /// for them.
    #[must_use]
    pub(crate) fn uncounted(self) -> Server {
        self.shared.service.count_into(Row::nobody());
        self
    }

    /// The way to end this server.
    #[must_use]
    pub fn drain_handle(&self) -> Drain {
        Drain::new(self.shared.clone())
    }

    /// Accepts connections until the server [drains](Drain), and serves each in a task of its own. What the listener has
    /// accepted until then is served too, then it is closed; [`Drain::finished`] waits for the connections.
    ///
    /// # Errors
    ///
    /// What accept(2) says of the listener itself.
    ///
    /// # Panics
    ///
    /// Outside of a loop.
    pub async fn serve(&self, listener: TcpListener) -> io::Result<()> {
        self.accept_all(listener, |stream| self.serve_connection(stream)).await
    }

    /// Serves one connection in a task of its own, or refuses it there when there are too many.
    ///
    /// # Panics
    ///
    /// Outside of a loop.
    pub fn serve_connection(&self, stream: TcpStream) {
        // Detached: the task ends with its connection, and draining waits for that.
        match Place::take(&self.shared, &stream) {
            Ok(place) => {
                self.shared.registry.count_connection(self.shared.service.row());
                drop(annulet::spawn(Connection::run(stream, self.shared.clone(), place)));
            }
            Err(why) => self.refuse(stream, why),
        }
    }

    /// Serves what is no socket, from the first request to the end. It is not counted.
    pub(crate) async fn serve_transport(&self, stream: impl Transport) {
        Connection::new(stream, Seat::new(self.shared.clone(), None)).serve_all().await;
    }

    /// As [`serve`](Server::serve), over TLS. The same server may serve without TLS elsewhere.
    ///
    /// A connection counts from its handshake on, which has the time of a head ([`Limits::head_timeout`]); one too many is closed
    /// without a word, because to say why would take the handshake. A client that agreed upon another protocol than `http/1.1`
    /// is closed too: give the acceptor [`alpn`](crate::tls::AcceptorBuilder::alpn). A client that speaks HTTP without TLS is told so (400).
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn example(server: annulet_http::Server) -> std::io::Result<()> {
    /// use annulet::net::TcpListener;
    /// use annulet_http::tls::TlsAcceptor;
    ///
    /// let acceptor = TlsAcceptor::builder().certificate_files("chain.pem", "key.pem").alpn(["http/1.1"]).build()?;
    /// server.serve_tls(TcpListener::bind("0.0.0.0:443")?, &acceptor).await
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// What accept(2) says of the listener itself.
    ///
    /// # Panics
    ///
    /// Outside of a loop.
    #[cfg(feature = "tls")]
    pub async fn serve_tls(&self, listener: TcpListener, acceptor: &TlsAcceptor) -> io::Result<()> {
        self.accept_all(listener, |stream| self.serve_tls_connection(stream, acceptor)).await
    }

    /// Serves one connection over TLS, handshake included, in a task of its own, or closes it when there are too many.
    ///
    /// # Panics
    ///
    /// Outside of a loop.
    #[cfg(feature = "tls")]
    pub fn serve_tls_connection(&self, stream: TcpStream, acceptor: &TlsAcceptor) {
        // Detached, as above.
        if let Ok(place) = Place::take(&self.shared, &stream) {
            self.shared.registry.count_connection(self.shared.service.row());
            drop(annulet::spawn(secure::run(stream, acceptor.clone(), self.shared.clone(), place)));
        }
    }

    /// Hands every connection to `begin` until the server drains, and then what the listener has accepted by itself.
    async fn accept_all(&self, listener: TcpListener, begin: impl Fn(TcpStream)) -> io::Result<()> {
        let _member = poll_fn(|cx| Poll::Ready(Member::join(&self.shared, false, cx))).await;
        let mut early = self.bound_unsent(&listener)?;
        let mut begin = |stream: TcpStream| {
            if early > 0 {
                early -= 1;
                // Fails only where there is no connection any more.
                let _ = stream.set_notsent_lowat(self.shared.limits.unsent_bytes);
            }
            begin(stream);
        };
        while let Some(stream) = poll_fn(|cx| self.poll_accept(&listener, cx)).await? {
            begin(stream);
        }
        while let Some(stream) = listener.rest().await {
            begin(stream);
        }
        Ok(())
    }

    /// Connections inherit it, but for those that have come before: so many of the first may be such. (Not all of them need be:
    /// others may accept from the same socket.)
    fn bound_unsent(&self, listener: &TcpListener) -> io::Result<u32> {
        match self.shared.limits.unsent_bytes {
            0 => Ok(0),
            bytes => {
                listener.set_notsent_lowat(bytes)?;
                // Whatever says nothing of it has no such option either.
                Ok(listener.queued().unwrap_or(0))
            }
        }
    }

    /// Says why, and closes.
    #[cold]
    fn refuse(&self, stream: TcpStream, why: Refusal) {
        let Some(telling) = Telling::begin(&self.shared) else { return };
        let shared = self.shared.clone();
        drop(annulet::spawn(async move {
            tell(stream, why, false, &shared).await;
            drop(telling);
        }));
    }

    fn poll_accept(
        &self,
        listener: &TcpListener,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<Option<TcpStream>>> {
        if self.shared.registry.accepting_ends.get() {
            return Poll::Ready(Ok(None));
        }
        listener.poll_accept(cx).map_ok(Some)
    }
}

/// Says why a connection is not served, and closes it.
async fn tell(stream: TcpStream, why: Refusal, is_head: bool, shared: &Shared) {
    let now = annulet::time::now();
    stream.with_send_buffer(|out| {
        shared.service.refuse(why, is_head, now, &mut connection::Gather::all(out));
    });
    // An error ends the connection, which is what happens next anyway.
    let _ = stream.close(shared.limits.linger).await;
}

/// Serves a router with the default limits, for as long as the task lives.
///
/// # Errors
///
/// What accept(2) says of the listener itself.
///
/// # Panics
///
/// Outside of a loop.
pub async fn serve(listener: TcpListener, router: Router) -> io::Result<()> {
    Server::new(router).serve(listener).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "limits are set before the server is cloned or serves")]
    fn it_is_too_late_to_change_what_is_shared() {
        let server = Server::new(Router::new());
        let _other = server.clone();
        let _ = server.with_limits(Limits::default());
    }
}
