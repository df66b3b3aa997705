//! A server of one core for tower services, by hyper.
use std::cell::Cell;
use std::error::Error;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use annulet::cancel::CancellationToken;
use annulet::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use annulet::sync::Notify;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use tower_service::Service;

use crate::executor::LocalExecutor;
use crate::io::{Io, Transport};
use crate::known::Known;
#[cfg(feature = "tls")]
use crate::plain;
use crate::protocol::{Prefix, Protocol, detect};
use crate::timer::LoopTimer;
use crate::tower::TowerService;

/// For the handshake of TLS and for the first bytes, each. As hyper gives a head by itself.
const BEGIN_TIMEOUT: Duration = Duration::from_secs(30);

/// What a connection on which nothing has come yet is given when the server drains: its first bytes may be on their way from the kernel.
const SILENT_TIMEOUT: Duration = Duration::from_millis(100);

/// Connections of one server unless told.
const CONNECTIONS_MAX: usize = 65_536;

/// Serves a tower service on this core. Clones are the same server.
///
/// # Examples
///
/// An axum router, unchanged:
///
/// ```
/// use annulet::net::{TcpListener, TcpStream};
/// use axum::{Json, Router, routing::get};
///
/// annulet::run(async {
///     let app = Router::new().route("/", get(async || Json([1, 2, 3])));
///     let listener = TcpListener::bind("127.0.0.1:0").unwrap();
///     let address = listener.local_addr().unwrap();
///     annulet::spawn(annulet_hyper::serve(listener, app));
///
///     let client = TcpStream::connect(address).await.unwrap();
///     client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
///     let mut answer = Vec::new();
///     while let Some(lease) = client.recv().await.unwrap() {
///         answer.extend_from_slice(&lease);
///     }
///     assert!(answer.ends_with(b"[1,2,3]"));
/// });
/// ```
pub struct Server<S> {
    service: S,
    http1: http1::Builder,
    http2: http2::Builder<LocalExecutor>,
    connections_max: usize,
    shared: Rc<Shared>,
}

/// What clones and connections share.
#[derive(Default)]
struct Shared {
    drain: CancellationToken,
    connections: Cell<usize>,
    is_empty: Notify,
}

/// One connection; counted until it is dropped.
struct Member(Rc<Shared>);

impl Drop for Member {
    fn drop(&mut self) {
        let left = self.0.connections.get() - 1;
        self.0.connections.set(left);
        if left == 0 {
            self.0.is_empty.notify_waiters();
        }
    }
}

mod sealed {
    pub trait Sealed {}
}

/// Where connections come from: a [`TcpListener`] or a [`UnixListener`]. Sealed.
pub trait Listener: sealed::Sealed {
    /// What they are.
    type Stream: Transport;
    #[doc(hidden)]
    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<Self::Stream>>;
    /// What it has accepted by itself, and then no more.
    #[doc(hidden)]
    fn poll_rest(&self, cx: &mut Context<'_>) -> Poll<Option<Self::Stream>>;
}

macro_rules! listener {
    ($listener:ident, $stream:ident) => {
        impl sealed::Sealed for $listener {}

        impl Listener for $listener {
            type Stream = $stream;

            fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<$stream>> {
                $listener::poll_accept(self, cx)
            }

            fn poll_rest(&self, cx: &mut Context<'_>) -> Poll<Option<$stream>> {
                $listener::poll_rest(self, cx)
            }
        }
    };
}

listener!(TcpListener, TcpStream);
listener!(UnixListener, UnixStream);

impl<S> Server<S> {
    /// A server with hyper's own limits.
    pub fn new(service: S) -> Server<S> {
        let mut http1 = http1::Builder::new();
        http1.timer(LoopTimer);
        let mut http2 = http2::Builder::new(LocalExecutor);
        http2.timer(LoopTimer);
        Server { service, http1, http2, connections_max: CONNECTIONS_MAX, shared: Rc::default() }
    }

    /// Changes what hyper lets one set for HTTP/1. The timer is there already.
    #[must_use]
    pub fn http1(mut self, change: impl FnOnce(&mut http1::Builder)) -> Self {
        change(&mut self.http1);
        self
    }

    /// Changes what hyper lets one set for HTTP/2. The timer is there already.
    #[must_use]
    pub fn http2(mut self, change: impl FnOnce(&mut http2::Builder<LocalExecutor>)) -> Self {
        change(&mut self.http2);
        self
    }

    /// How many connections there may be (65 536 unless told); one more is closed without a word.
    #[must_use]
    pub fn connections(mut self, count_max: usize) -> Self {
        self.connections_max = count_max;
        self
    }

    /// Begins the end: accepting ends, but what the listener has accepted already is served; idle connections close, those that have
    /// sent nothing yet 100 ms later, each of the others after what it is answering.
    pub fn start_drain(&self) {
        self.shared.drain.cancel();
    }

    /// Waits until no connection is open.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn drained(&self) {
        while self.shared.connections.get() > 0 {
            self.shared.is_empty.notified().await;
        }
    }

    /// A place for a connection, if there is one.
    fn member(&self) -> Option<Member> {
        let connections = self.shared.connections.get();
        (connections < self.connections_max).then(|| {
            self.shared.connections.set(connections + 1);
            Member(Rc::clone(&self.shared))
        })
    }
}

impl<S, B> Server<S>
where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + 'static,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    S::Future: 'static,
    B: Body + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    /// Accepts connections until the server [drains](Server::start_drain), and serves each in a task of its own, HTTP/1 or HTTP/2 by
    /// what it begins with.
    ///
    /// # Errors
    ///
    /// What accept(2) says of the listener itself.
    ///
    /// # Panics
    ///
    /// Outside of a loop.
    pub async fn serve<L: Listener>(&self, listener: L) -> io::Result<()> {
        while let Some(stream) = self.accept(&listener).await? {
            self.serve_connection(stream);
        }
        Ok(())
    }

    /// As [`serve`](Server::serve), over TLS. Offer `h2` and `http/1.1` by ALPN. The handshake has 30 s. Requests have an
    /// [`annulet_tls::TlsInfo`] among their extensions: the client's certificates, the name that it asked for, the protocol. Who
    /// speaks without TLS gets 400, with what to do.
    ///
    /// # Errors
    ///
    /// What accept(2) says of the listener itself.
    ///
    /// # Panics
    ///
    /// Outside of a loop.
    #[cfg(feature = "tls")]
    pub async fn serve_tls<L>(&self, listener: L, acceptor: &annulet_tls::TlsAcceptor) -> io::Result<()>
    where
        L: Listener,
        L::Stream: annulet_tls::Transport,
        annulet_tls::TlsStream<L::Stream>: Transport,
    {
        while let Some(stream) = self.accept(&listener).await? {
            let Some(member) = self.member() else { continue };
            let (server, acceptor) = (self.clone(), acceptor.clone());
            // Detached: it ends with its connection.
            drop(annulet::spawn(async move {
                let drain = server.shared.drain.clone();
                let handshake = annulet::time::timeout(BEGIN_TIMEOUT, acceptor.accept_or_plain(stream));
                match Box::pin(drain.run_until_cancelled(handshake)).await {
                    Some(Ok(Ok(Ok(stream)))) => server.run(stream, member).await,
                    // With the member, so that the end waits for it.
                    Some(Ok(Ok(Err(plain)))) => plain::tell(plain).await,
                    // Late, gone, drained, or refused by rustls, which has told it.
                    Some(Err(_) | Ok(Err(_))) | None => {}
                }
            }));
        }
        Ok(())
    }

    /// Serves one connection in a task of its own, or closes it when there are too many.
    ///
    /// # Panics
    ///
    /// Outside of a loop.
    pub fn serve_connection<T: Transport>(&self, stream: T) {
        let Some(member) = self.member() else { return };
        // Detached: it ends with its connection.
        drop(annulet::spawn(self.clone().run(stream, member)));
    }

    /// `None` when the server drains and the listener has no more.
    async fn accept<L: Listener>(&self, listener: &L) -> io::Result<Option<L::Stream>> {
        let accepted = poll_fn(|cx| listener.poll_accept(cx));
        match self.shared.drain.run_until_cancelled(accepted).await {
            Some(accepted) => accepted.map(Some),
            None => Ok(poll_fn(|cx| listener.poll_rest(cx)).await),
        }
    }

    /// A connection's task.
    async fn run<T: Transport>(self, stream: T, _member: Member) {
        let drain = self.shared.drain.clone();
        let Some((protocol, prefix)) = Box::pin(begin(&stream, &drain)).await else { return };
        let service = TowerService::new(Known::new(self.service, &stream));
        let io = Io::with_prefix(stream, prefix);
        // What is wrong with a connection is its client's doing, and told to the client where that is possible.
        let _ = match protocol {
            Protocol::Http1 => {
                let connection = self.http1.serve_connection(io, service).with_upgrades();
                let end = http1::UpgradeableConnection::graceful_shutdown;
                Box::pin(finish(connection, &drain, end)).await
            }
            Protocol::Http2 => {
                let connection = self.http2.serve_connection(io, service);
                Box::pin(finish(connection, &drain, http2::Connection::graceful_shutdown)).await
            }
        };
    }
}

/// The protocol and the first bytes. `None` if they do not come, or the server drains before the first of them.
async fn begin(stream: &impl Transport, drain: &CancellationToken) -> Option<(Protocol, Prefix)> {
    let has_begun = Cell::new(false);
    let mut detected = pin!(detect(stream, BEGIN_TIMEOUT, &has_begun));
    let mut is_over = pin!(async {
        drain.cancelled().await;
        annulet::time::sleep(SILENT_TIMEOUT).await;
    });
    poll_fn(|cx| {
        // First of all: who has sent something is served.
        if let Poll::Ready(detected) = detected.as_mut().poll(cx) {
            return Poll::Ready(detected.ok());
        }
        if !has_begun.get() {
            ready!(is_over.as_mut().poll(cx));
            return Poll::Ready(None);
        }
        Poll::Pending
    })
    .await
}

/// Polls a connection to its end, and tells it once when it is to end. Not before it has read what is there: hyper closes one that
/// has read nothing.
async fn finish<C: Future>(connection: C, drain: &CancellationToken, end: fn(Pin<&mut C>)) -> C::Output {
    let mut connection = pin!(connection);
    let mut drained = pin!(drain.cancelled());
    let mut is_told = false;
    poll_fn(|cx| {
        let polled = connection.as_mut().poll(cx);
        if polled.is_ready() || is_told || drained.as_mut().poll(cx).is_pending() {
            return polled;
        }
        is_told = true;
        end(connection.as_mut());
        connection.as_mut().poll(cx)
    })
    .await
}

impl<S: Clone> Clone for Server<S> {
    fn clone(&self) -> Self {
        Server {
            service: self.service.clone(),
            http1: self.http1.clone(),
            http2: self.http2.clone(),
            connections_max: self.connections_max,
            shared: Rc::clone(&self.shared),
        }
    }
}

impl<S> fmt::Debug for Server<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("connections", &self.shared.connections.get()).finish_non_exhaustive()
    }
}

/// Serves a tower service, an axum router for example, for as long as the task lives. One a core: call it on each.
///
/// # Errors
///
/// What accept(2) says of the listener itself.
///
/// # Panics
///
/// Outside of a loop.
pub async fn serve<S, B>(listener: impl Listener, service: S) -> io::Result<()>
where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + 'static,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    S::Future: 'static,
    B: Body + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    Server::new(service).serve(listener).await
}
