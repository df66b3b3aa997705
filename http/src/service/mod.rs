//! From received bytes to answers, without I/O: parse, route, call, encode, request after request until something has to be
//! waited for. This is the hot path; the server's pump and the offline tools both run it.
//!
//! Here is what one core serves. `serve` goes from request to request, `write` is how answers leave.
mod serve;
mod write;

use std::cell::{Cell, OnceCell, RefCell};

use annulet::metrics::Row;
use http::{HeaderValue, header};

pub(crate) use self::serve::{Course, Stop, WithBody};
pub(crate) use self::write::{Leaving, Sink, Source, Written};
use crate::date::DateCache;
use crate::h1::Limits;
use crate::h1::encode;
use crate::h1::head::Parser;
use crate::router::Router;

/// Longer content is not copied into the send buffer at once but in pieces of this length, as the client takes them. In bytes.
pub(crate) const PIECE_BYTES_MAX: usize = 64 * 1024;

/// An answer of at most so many bytes is made whatever memory there is: what tells a client that there is none is no shorter. As much
/// of a request that has not come whole is kept. In bytes.
pub(crate) const SMALL_BYTES_MAX: usize = 4 * 1024;

/// What one core serves: its routes, its limits, the date.
#[derive(Debug)]
pub(crate) struct Service {
    router: Router,
    parser: RefCell<Parser>,
    date: RefCell<DateCache>,
    /// Answers from now on end their connections.
    last_answers: Cell<bool>,
    /// Idle connections are closed too.
    drains: Cell<bool>,
    /// The counters of the loop, once it has begun to serve.
    row: OnceCell<Row>,
    /// The field `Server` of all answers, as the encoder wants it.
    server: Vec<u8>,
}

/// What has to be known about a request to write its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) is_head: bool,
    pub(crate) is_old: bool,
    pub(crate) keep_alive: bool,
}

impl Service {
    pub(crate) fn new(router: Router, limits: Limits) -> Service {
        Service {
            router: router.seal(),
            parser: RefCell::new(Parser::new(limits)),
            date: RefCell::new(DateCache::new()),
            last_answers: Cell::new(false),
            drains: Cell::new(false),
            row: OnceCell::new(),
            server: Vec::new(),
        }
    }

    /// What heads may hold.
    pub(crate) fn set_limits(&mut self, limits: Limits) {
        self.parser = RefCell::new(Parser::new(limits));
    }

    /// What answers say of who made them.
    pub(crate) fn set_server(&mut self, value: &HeaderValue) {
        self.server.clear();
        encode::push_field(&mut self.server, &header::SERVER, value);
    }

    /// Where this service counts.
    #[inline]
    pub(crate) fn row(&self) -> &Row {
        self.row.get_or_init(Row::current)
    }

    /// Counts into `row`, whatever loop it serves on. Without effect once it has served.
    pub(crate) fn count_into(&self, row: Row) {
        let _ = self.row.set(row);
    }

    pub(crate) fn router(&self) -> &Router {
        &self.router
    }

    /// From now on every answer is the last of its connection.
    pub(crate) fn announce_end(&self) {
        self.last_answers.set(true);
    }

    /// From now on idle connections are not kept either.
    pub(crate) fn drain(&self) {
        self.announce_end();
        self.drains.set(true);
    }

    pub(crate) fn drains(&self) -> bool {
        self.drains.get()
    }
}

#[cfg(test)]
mod tests;
