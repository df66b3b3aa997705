//! What hyper hears, over a connection in memory.
use std::cell::RefCell;
use std::convert::Infallible;
use std::error::Error as _;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};

use crate::Event;

/// More polls than this are a hang.
const POLLS_MAX: usize = 100_000;

/// Everything arrives at once, and then the end.
struct Memory {
    input: Vec<u8>,
    at: usize,
}

impl Read for Memory {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let count = buffer.remaining().min(self.input.len() - self.at);
        buffer.put_slice(&self.input[self.at..self.at + count]);
        self.at += count;
        Poll::Ready(Ok(()))
    }
}

impl Write for Memory {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

pub(crate) fn hear(input: &[u8]) -> Vec<Event> {
    let events = Rc::new(RefCell::new(Vec::new()));
    let service = service_fn(|request: Request<Incoming>| {
        let events = events.clone();
        async move {
            let method = request.method().to_string();
            let target = target_of(&request);
            let event = match request.into_body().collect().await {
                Ok(body) => Event::Request(method, target, body.to_bytes().into()),
                Err(error) => failed(&error),
            };
            events.borrow_mut().push(event);
            Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
        }
    });
    let memory = Memory { input: input.to_vec(), at: 0 };
    let outcome = {
        let mut connection = pin!(http1::Builder::new().half_close(true).serve_connection(memory, service));
        let mut cx = Context::from_waker(Waker::noop());
        let mut polls = 0;
        loop {
            polls += 1;
            assert!(polls < POLLS_MAX, "hyper hangs: {input:?}");
            if let Poll::Ready(outcome) = connection.as_mut().poll(&mut cx) {
                break outcome;
            }
        }
    };
    let mut events = events.take();
    if events.iter().any(|event| !matches!(event, Event::Request(..))) {
        let first = events.iter().position(|event| !matches!(event, Event::Request(..)));
        events.truncate(first.map_or(0, |first| first + 1));
        return events;
    }
    events.push(match outcome {
        // An end between two requests and one behind the last look the same from here.
        Ok(()) => Event::Waits,
        Err(error) => failed(&error),
    });
    events
}

/// The host of the target, or of the Host field, then path and query.
fn target_of(request: &Request<Incoming>) -> String {
    let host = match request.uri().authority() {
        Some(authority) => authority.as_str().to_owned(),
        None => request
            .headers()
            .get(hyper::header::HOST)
            .map(|host| String::from_utf8_lossy(host.as_bytes()).into_owned())
            .unwrap_or_default(),
    };
    // Its display has the `/` of an empty path.
    let target = request.uri().path_and_query().map(ToString::to_string).unwrap_or_default();
    format!("{host} {target}")
}

fn failed(error: &hyper::Error) -> Event {
    let io = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    if error.is_incomplete_message() || io.is_some_and(|io| io.kind() == io::ErrorKind::UnexpectedEof) {
        return Event::Waits;
    }
    match io {
        Some(io) => Event::Refused(format!("{error}: {io}")),
        None => Event::Refused(error.to_string()),
    }
}
