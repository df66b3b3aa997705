//! The other side of HTTP/1.1: requests that this program sends.
//!
//! [`Client`] keeps connections, one client per core; a request is put together by [`RequestBuilder`] and gives a [`Response`].
//! Answers are read as strictly as the server reads requests (`h1::response`): one that two parties could cut in different
//! places is refused, and a connection on which anything was wrong is never used again.
//!
//! What it does not do: proxies, HTTP/2, content codings (`gzip`), names beyond ASCII, several addresses of a host at a time
//! (they are tried one after the other).
//!
//! Where to start: `mod.rs` has the way of a request through the others; `pool` and `jar` and `url` know no I/O, `connection` is one
//! request on one connection, `secure` what TLS adds to it.
mod body;
mod builder;
mod connection;
mod error;
mod jar;
mod pool;
mod request;
mod response;
mod secure;
mod upgrade;
mod url;

use std::cell::RefCell;
use std::future::Future;
use std::rc::{Rc, Weak};
use std::time::{Instant, SystemTime};

use annulet::net::TcpStream;
use http::{Method, StatusCode, header};

pub use body::Body;
pub use builder::ClientBuilder;
pub use error::Error;
pub use pool::Stats;
pub use request::RequestBuilder;
pub use response::{Chunks, Response};

use crate::h1::response::{Head, Parser};
use body::Upload;
use builder::Settings;
use connection::{Connection, NoHead, Times};
use error::{Kind, Phase};
use jar::Jar;
use pool::{Place, Pool, Reuse};
use request::Request;
use response::Incoming;
use secure::Secure;
use url::Url;

/// 417.
const EXPECTATION_FAILED: u16 = StatusCode::EXPECTATION_FAILED.as_u16();

/// Sends requests, and keeps their connections for the next ones.
///
/// A client belongs to its core: it is `!Send`, and cloning it is cheap and shares all that it holds. At most
/// [so many](ClientBuilder::connections_per_host) connections go to a host at a time; further requests wait, first come, first
/// served. The connection that was used last is used next, so that the others can grow old.
///
/// A server may close a kept connection at the very moment in which a request is sent on it. If no byte of an answer has come,
/// and the method is idempotent (RFC 9110 section 9.2.2), and the content can be sent twice, the request goes once more, on a
/// new connection. A POST does not: nobody knows whether the server acted on it.
///
/// # Examples
///
/// ```
/// use annulet::net::TcpListener;
/// use annulet_http::{Client, Request, Router, Server};
///
/// annulet::run(async {
///     let listener = TcpListener::bind("127.0.0.1:0").unwrap();
///     let site = format!("http://{}", listener.local_addr().unwrap());
///     let router = Router::new().get("/hello/{name}", async |request: Request| {
///         format!("hello, {}", request.param("name").unwrap_or_default())
///     });
///     drop(annulet::spawn(async move { Server::new(router).serve(listener).await }));
///
///     let client = Client::new();
///     for name in ["Ann", "Bob"] {
///         let answer = client.get(format!("{site}/hello/{name}")).send().await.unwrap();
///         assert_eq!(answer.text().await.unwrap(), format!("hello, {name}"));
///     }
///     assert_eq!((client.stats().opened, client.stats().reused), (1, 1));
/// });
/// ```
#[derive(Clone, Debug)]
pub struct Client(Rc<Shared>);

#[derive(Debug)]
struct Shared {
    settings: Settings,
    pool: Rc<Pool<Connection>>,
    parser: RefCell<Parser>,
    jar: Option<RefCell<Jar>>,
    secure: Secure,
    sweeper: RefCell<Option<annulet::JoinHandle<()>>>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(sweeper) = self.sweeper.take() {
            sweeper.abort();
        }
    }
}

impl Default for Client {
    fn default() -> Client {
        Client::new()
    }
}

impl Client {
    /// A client with the default limits.
    #[must_use]
    pub fn new() -> Client {
        Client::builder().build()
    }

    /// For other limits, times, cookies.
    pub fn builder() -> ClientBuilder {
        ClientBuilder::default()
    }

    fn with(settings: Settings) -> Client {
        let pool = Pool::new(settings.bounds);
        let parser = RefCell::new(Parser::new(settings.limits.clone()));
        let jar = settings.cookies.then(RefCell::default);
        let secure = Secure::new(settings.trust.clone());
        Client(Rc::new(Shared { settings, pool, parser, jar, secure, sweeper: RefCell::default() }))
    }

    /// A GET of this URL.
    pub fn get(&self, url: impl AsRef<str>) -> RequestBuilder {
        self.request(Method::GET, url)
    }

    /// A POST to this URL.
    pub fn post(&self, url: impl AsRef<str>) -> RequestBuilder {
        self.request(Method::POST, url)
    }

    /// A PUT to this URL.
    pub fn put(&self, url: impl AsRef<str>) -> RequestBuilder {
        self.request(Method::PUT, url)
    }

    /// A PATCH of this URL.
    pub fn patch(&self, url: impl AsRef<str>) -> RequestBuilder {
        self.request(Method::PATCH, url)
    }

    /// A DELETE of this URL.
    pub fn delete(&self, url: impl AsRef<str>) -> RequestBuilder {
        self.request(Method::DELETE, url)
    }

    /// A HEAD of this URL: the answer has no content.
    pub fn head(&self, url: impl AsRef<str>) -> RequestBuilder {
        self.request(Method::HEAD, url)
    }

    /// Any method.
    pub fn request(&self, method: Method, url: impl AsRef<str>) -> RequestBuilder {
        RequestBuilder::new(self.clone(), method, url.as_ref())
    }

    /// What the pool has done, and holds.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.0.pool.stats()
    }

    /// The value of a cookie that would be sent to `url`.
    #[must_use]
    pub fn cookie(&self, url: &str, name: &str) -> Option<String> {
        let jar = self.0.jar.as_ref()?.borrow();
        jar.value(&Url::parse(url).ok()?, name, SystemTime::now()).map(str::to_owned)
    }

    /// Forgets all cookies.
    pub fn clear_cookies(&self) {
        if let Some(jar) = &self.0.jar {
            jar.borrow_mut().clear();
        }
    }

    /// The way of a request, through all redirections.
    async fn execute(&self, mut request: Request) -> Result<Response, Error> {
        let settings = &self.0.settings;
        let total = settings.total.and_then(|total| annulet::time::now().checked_add(total));
        let mut followed = 0;
        loop {
            let again = request.body.again();
            let mut answer =
                self.exchange(&mut request, total).await.map_err(|error| error.at(&request.url))?;
            let status = answer.status().as_u16();
            let is_redirection = matches!(status, 301 | 302 | 303 | 307 | 308) && settings.redirects > 0;
            let Some(location) = answer.headers().get(header::LOCATION).filter(|_| is_redirection) else {
                return Ok(answer);
            };
            let refused = |why: String| Error::new(Kind::Redirect).because(why).at(&request.url);
            if followed == settings.redirects {
                return Err(refused(format!("{followed} redirections have led nowhere")));
            }
            followed += 1;
            let location = String::from_utf8_lossy(location.as_bytes());
            let to = request.url.join(&location).map_err(&refused)?;
            let again = again.or_else(|| answer.take_held());
            drop(answer);
            let why = request.follow(status, to, again);
            why.map_err(|why| Error::new(Kind::Redirect).because(why).at(&request.url))?;
        }
    }

    /// One request and the head of its answer, on whatever connection there is.
    async fn exchange(&self, request: &mut Request, total: Option<Instant>) -> Result<Response, Error> {
        secure::check(&request.url)?;
        let settings = &self.0.settings;
        let key: Rc<str> = request.url.origin().into();
        let place = by(total, Phase::Total, self.0.pool.acquire(&key)).await?;
        let mut place = place.map_err(|_| Error::new(Kind::Full))?;
        // It may have come through the line, a turn ago. From here to the send there is no wait.
        if place.connection.as_mut().is_some_and(|connection| !connection.is_usable()) {
            place.connection = None;
        }
        let times = Times { head: settings.head, to_continue: settings.to_continue, total };
        let to_head = request.method == Method::HEAD;
        // RFC 9110 section 10.1.1: not without content.
        let mut expects_continue = request.expects_continue && request.body.says_something();
        loop {
            let is_reused = place.connection.is_some();
            if !is_reused {
                place.fill(self.connect(&request.url, total).await?);
                self.start_sweeper();
            }
            let Some(connection) = &mut place.connection else { unreachable!("it was made just now") };
            let again = request.body.again();
            let mut upload = Upload::new(std::mem::replace(&mut request.body, Body::empty()));
            if expects_continue {
                upload.wait_for_continue();
            }
            let cookies = self.cookies_for(&request.url);
            // The body says how long it is; it is in `upload` by now.
            connection.stream.with_send_buffer(|buffer| {
                request.write_head(
                    &settings.agent,
                    cookies.as_deref(),
                    upload.body(),
                    expects_continue,
                    buffer,
                );
            });
            match connection.head(&mut upload, &self.0.parser, to_head, times).await {
                // Behind a 100 it is the handler's, who may have acted on the request.
                Ok((head, headers))
                    if head.status == EXPECTATION_FAILED && expects_continue && !upload.is_wanted() =>
                {
                    // RFC 9110 section 10.1.1: somebody on the way does not know of it.
                    expects_continue = false;
                    let Some(body) = upload.take_held().or(again) else {
                        return self.answer(request, place, head, headers, upload, total);
                    };
                    request.body = body;
                    // It was told of content that does not come there.
                    place.connection = None;
                }
                Ok((head, headers)) => return self.answer(request, place, head, headers, upload, total),
                Err(NoHead::Error(error)) => return Err(error),
                Err(NoHead::Nothing(cause)) => {
                    let body = upload.take_held().or(again).filter(|_| is_reused && request.is_idempotent());
                    let Some(body) = body else {
                        let error = Error::new(Kind::Closed);
                        return Err(match cause {
                            Some(cause) => error.because(cause),
                            None => error,
                        });
                    };
                    request.body = body;
                    // A new one in its place: the next turn is the last.
                    place.connection = None;
                }
            }
        }
    }

    fn answer(
        &self,
        request: &Request,
        place: Place<Connection>,
        head: Head,
        headers: http::HeaderMap,
        upload: Upload,
        total: Option<Instant>,
    ) -> Result<Response, Error> {
        if head.status == 101 {
            upgrade::check(request.upgrade.as_ref(), &headers)
                .map_err(|why| Error::new(Kind::Unexpected).because(why))?;
        }
        // RFC 9110 section 7.8: the other protocol begins behind the whole request.
        if head.status == 101 && !upload.is_done() {
            return Err(Error::new(Kind::Unexpected).because("101 before the request was there"));
        }
        if let Some(jar) = &self.0.jar {
            let (mut jar, now) = (jar.borrow_mut(), SystemTime::now());
            for value in headers.get_all(header::SET_COOKIE) {
                jar.store(value.as_bytes(), &request.url, now);
            }
        }
        let content = Incoming::new(place, &head, upload, &self.0.settings.limits, total)?;
        Response::new(&head, headers, request.url.clone(), content)
    }

    fn cookies_for(&self, url: &Url) -> Option<String> {
        self.0.jar.as_ref()?.borrow_mut().field(url, SystemTime::now())
    }

    async fn connect(&self, url: &Url, total: Option<Instant>) -> Result<Connection, Error> {
        let within = annulet::time::now().checked_add(self.0.settings.connect);
        let (until, phase) = match (within, total) {
            (Some(within), Some(total)) if total < within => (Some(total), Phase::Total),
            (None, total) => (total, Phase::Total),
            (within, _) => (within, Phase::Connect),
        };
        let connecting = by(until, phase, TcpStream::connect((url.name(), url.port)));
        let failed = |error| Error::new(Kind::Connect).because(error);
        let stream = connecting.await?.map_err(failed)?;
        // A streamed request goes in small pieces; sends are gathered once a turn anyway.
        stream.set_nodelay(true).map_err(failed)?;
        if !url.is_secure {
            return Ok(Connection::new(stream.into()));
        }
        Ok(Connection::new(by(until, phase, self.0.secure.shake(stream, url.name())).await??))
    }

    /// A task that closes connections which have been idle for too long. It is there while there are connections.
    fn start_sweeper(&self) {
        let mut sweeper = self.0.sweeper.borrow_mut();
        if sweeper.as_ref().is_some_and(|sweeper| !sweeper.is_finished()) {
            return;
        }
        let (pool, pause) = (Rc::downgrade(&self.0.pool), self.0.settings.sweep());
        let sweep = async move {
            loop {
                annulet::time::sleep(pause).await;
                if !pool.upgrade().is_some_and(|pool| pool.sweep()) {
                    return;
                }
            }
        };
        *sweeper = Some(annulet::task::Builder::new().name("http client: idle connections").spawn(sweep));
    }
}

/// Runs `future` until then at the most.
async fn by<F: Future>(until: Option<Instant>, phase: Phase, future: F) -> Result<F::Output, Error> {
    match until {
        None => Ok(future.await),
        Some(until) => {
            annulet::time::timeout_at(until, future).await.map_err(|_| Error::new(Kind::Timeout(phase)))
        }
    }
}

thread_local! {
    /// The client of the loop that runs on this thread. A task of that loop owns it, so it ends with the loop.
    static OF_THIS_LOOP: RefCell<Weak<Client>> = const { RefCell::new(Weak::new()) };
}

/// A GET of this URL, by a client that the loop of this thread keeps for all calls of this function.
///
/// # Examples
///
/// ```no_run
/// # annulet::run(async {
/// let text = annulet_http::get("http://example.com/").await?.text().await?;
/// # println!("{text}");
/// # Ok::<(), annulet_http::client::Error>(())
/// # }).unwrap();
/// ```
///
/// # Errors
///
/// As [`RequestBuilder::send`].
///
/// # Cancel safety
///
/// As [`RequestBuilder::send`].
///
/// # Panics
///
/// Outside of a loop.
pub async fn get(url: impl AsRef<str>) -> Result<Response, Error> {
    let known = OF_THIS_LOOP.with_borrow(Weak::upgrade);
    let client = known.unwrap_or_else(|| {
        let client = Rc::new(Client::new());
        OF_THIS_LOOP.set(Rc::downgrade(&client));
        let owner = Rc::clone(&client);
        drop(annulet::task::Builder::new().name("http client").spawn(async move {
            let _owner = owner;
            std::future::pending::<()>().await;
        }));
        client
    });
    client.get(url).send().await
}
