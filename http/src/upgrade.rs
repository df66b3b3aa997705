//! Connections that leave HTTP behind (RFC 9110 section 7.8): the handler answers 101 and gets the socket.
use std::fmt;
use std::pin::Pin;

use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};

use crate::request::Request;
use crate::response::{IntoResponse, Response};
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

impl Response {
    /// 426: only for those who ask for this protocol, which the field `Upgrade` names (RFC 9110 section 15.5.22).
    ///
    /// # Examples
    ///
    /// ```
    /// use annulet_http::{Response, StatusCode};
    ///
    /// assert_eq!(Response::upgrade_required("websocket").status(), StatusCode::UPGRADE_REQUIRED);
    /// ```
    #[must_use]
    pub fn upgrade_required(protocol: &'static str) -> Response {
        StatusCode::UPGRADE_REQUIRED
            .into_response()
            .with_header(header::UPGRADE, HeaderValue::from_static(protocol))
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
    /// use annulet_http::{Request, Response, Router};
    ///
    /// let router = Router::new().get("/shout", async |request: Request| {
    ///     let answer = request.upgrade("shout", async |connection| {
    ///         let _ = connection.stream.write_all(b"HELLO").await;
    ///     });
    ///     answer.unwrap_or_else(|| Response::upgrade_required("shout"))
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
