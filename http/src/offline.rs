//! Requests through a router without a connection: for tests of handlers and for measurements of the hot path.
//!
//! [`Offline`] runs the hot path alone, from bytes to bytes. It does not wait: a handler that is not ready at once and a request
//! with a body need a connection. [`converse`] gives them one in memory.
mod memory;

use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use crate::h1::Limits;
use crate::router::Router;
use crate::server::Server;
use crate::service::{Course, Service, Sink, Stop};
use memory::{Memory, Wire};

/// How often [`converse`] polls a connection to which nothing new has come.
const IDLE_POLLS_MAX: usize = 100;

/// A server without a connection.
///
/// # Examples
///
/// ```
/// use annulet_http::offline::{Offline, Outcome};
/// use annulet_http::{Limits, Request, Response, Router};
///
/// let server = Offline::new(Router::new().get("/", async |_: Request| Response::html("hi")), Limits::default());
/// let mut answers = Vec::new();
/// let outcome = server.answer(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", std::time::Instant::now(), &mut answers);
/// assert_eq!(outcome, Outcome::Answered { used: 27 });
/// assert!(answers.starts_with(b"HTTP/1.1 200 OK\r\n"));
/// ```
#[derive(Debug)]
pub struct Offline {
    service: Service,
}

/// How far [`Offline::answer`] came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every whole request is answered; the rest of the input is the beginning of another.
    Answered {
        /// How many bytes of the input the requests took.
        used: usize,
    },
    /// The last answer ends the connection.
    Closed,
    /// A handler has to wait, a body is to be read, or content is to be made while it leaves.
    NeedsConnection,
}

impl Offline {
    /// A server with these routes.
    #[must_use]
    pub fn new(router: Router, limits: Limits) -> Offline {
        Offline { service: Service::new(router, limits) }
    }

    /// Appends the answers to all whole requests in `input`. The Date field follows `now`.
    #[inline]
    pub fn answer(&self, input: &[u8], now: Instant, answers: &mut Vec<u8>) -> Outcome {
        let mut cx = Context::from_waker(Waker::noop());
        let mut course = Course { requests_left: u32::MAX, is_first: false };
        match self.service.serve(input, now, &mut course, None, &mut cx, &mut Unbounded(answers)) {
            (used, Stop::NeedInput) => Outcome::Answered { used },
            (_, Stop::Close) => Outcome::Closed,
            (_, Stop::Wait(..) | Stop::Body(_) | Stop::Leave(_) | Stop::Upgrade(_) | Stop::Full) => {
                Outcome::NeedsConnection
            }
        }
    }
}

/// A whole connection through the server's own pump, bodies and handlers that wait included, and no socket: a client sends these
/// pieces, each of which arrives by itself, and then its end. Gives all that it gets until the server has closed.
///
/// No time passes, and an answer without an end has none here either. `None` when the server waits for something that is not the client: a timer, a file, another connection.
///
/// # Examples
///
/// ```
/// use annulet_http::offline::converse;
/// use annulet_http::{Error, Request, Router, Server};
///
/// annulet::run(async {
///     let router = Router::new().post("/echo", async |mut request: Request| request.bytes(100).await);
///     let head = b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n";
///     let answers = converse(&Server::new(router), &[head, b"h", b"i"]).unwrap();
///     assert!(answers.starts_with(b"HTTP/1.1 200 OK\r\n") && answers.ends_with(b"\r\n\r\nhi"));
/// });
/// ```
///
/// # Panics
///
/// Outside of a loop; when a handler upgrades the connection, for there is none to pass on.
#[must_use]
pub fn converse(server: &Server, pieces: &[&[u8]]) -> Option<Vec<u8>> {
    let wire = Wire::new(pieces);
    let mut serving = pin!(server.serve_transport(Memory(wire.clone())));
    let mut cx = Context::from_waker(Waker::noop());
    let (mut received, mut idle) = (0, 0);
    while idle < IDLE_POLLS_MAX {
        if let Poll::Ready(()) = serving.as_mut().poll(&mut cx) {
            return Some(wire.take_sent());
        }
        idle = if wire.received() > received { 0 } else { idle + 1 };
        received = wire.received();
    }
    None
}

/// Takes everything.
struct Unbounded<'a>(&'a mut Vec<u8>);

impl Sink for Unbounded<'_> {
    #[inline]
    fn append(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(self.0);
    }

    #[inline]
    fn is_full(&self) -> bool {
        false
    }

    fn has_room(&self, _: bool) -> bool {
        true
    }
}
