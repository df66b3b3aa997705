//! Requests through a router without a connection: for tests of handlers and for measurements of the hot path.
//!
//! Runs the server's own code from bytes to bytes. Does not wait: a handler that is not ready at once and a request with a body
//! need a connection.
use std::task::{Context, Waker};
use std::time::Instant;

use crate::h1::Limits;
use crate::router::Router;
use crate::service::{Service, Sink, Stop};

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
        let mut requests_left = u32::MAX;
        match self.service.serve(input, now, &mut requests_left, None, &mut cx, &mut Unbounded(answers)) {
            (used, Stop::NeedInput) => Outcome::Answered { used },
            (_, Stop::Close) => Outcome::Closed,
            (_, Stop::Wait(..) | Stop::Body(_) | Stop::Leave(_) | Stop::Upgrade(_) | Stop::Full) => {
                Outcome::NeedsConnection
            }
        }
    }
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
