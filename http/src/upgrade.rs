//! Connections that leave HTTP behind (RFC 9110 section 7.8): the handler answers 101 and gets the socket.
use std::fmt;
use std::pin::Pin;

use bytes::Bytes;
use http::HeaderValue;

use crate::request::Request;
use crate::response::Response;
use crate::socket::Socket;

/// A connection after its upgrade.
#[derive(Debug)]
pub struct Upgraded {
    /// The stream. What is written first leaves behind the 101.
    pub stream: Socket,
    /// What the client had sent behind its request: the first bytes of the new protocol.
    pub buffered: Bytes,
}

type Run = Box<dyn FnOnce(Upgraded) -> Pin<Box<dyn Future<Output = ()>>>>;

/// What is to happen after a 101.
pub(crate) struct Upgrade {
    pub(crate) protocol: HeaderValue,
    pub(crate) run: Run,
}

impl fmt::Debug for Upgrade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upgrade").field("protocol", &self.protocol).finish_non_exhaustive()
    }
}

impl Request {
    /// The answer 101 to a client that asked for this protocol; `run` then has the connection, in the task that served it. `None`
    /// if the client did not ask, speaks HTTP/1.0, or sends a body.
    ///
    /// Nothing of what follows the request is read before this answer is given: a request that is answered otherwise is followed by
    /// the next. A draining server waits for `run`; [`Drain::is_started`](crate::Drain::is_started) tells it. A server's limits are
    /// over with the 101.
    ///
    /// # Examples
    ///
    /// ```
    /// use annulet_http::{Request, Router, StatusCode};
    ///
    /// let router = Router::new().get("/shout", async |request: Request| {
    ///     let answer = request.upgrade("shout", async |connection| {
    ///         let _ = connection.stream.write_all(b"HELLO").await;
    ///     });
    ///     answer.ok_or(StatusCode::UPGRADE_REQUIRED)
    /// });
    /// ```
    pub fn upgrade<F>(
        &self,
        protocol: &'static str,
        run: impl FnOnce(Upgraded) -> F + 'static,
    ) -> Option<Response>
    where
        F: Future<Output = ()> + 'static,
    {
        let is_asked = self.version() == http::Version::HTTP_11
            && !self.has_body()
            && self.lists("connection", "upgrade")
            && self.lists("upgrade", protocol);
        is_asked.then(|| {
            Response::upgrade(Upgrade {
                protocol: HeaderValue::from_static(protocol),
                run: Box::new(|connection| Box::pin(run(connection))),
            })
        })
    }
}
