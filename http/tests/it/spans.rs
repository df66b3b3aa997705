//! Spans of requests, as a subscriber sees them.
use std::fmt::{Debug, Write};
use std::sync::{Arc, Mutex};

use annulet_http::Request;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use crate::client::{Delivery, read_all, router, send, unhurried};

/// Writes down what happens, one span after the other.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    spans: Vec<String>,
    /// Which one runs.
    entered: Option<usize>,
    lines: Vec<String>,
}

struct Fields<'a>(&'a mut String);

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let _ = write!(self.0, " {}={value:?}", field.name()); // memory does not fail
    }
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("annulet_http") || metadata.target() == "it::spans"
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        let mut state = self.0.lock().unwrap();
        let mut text = attributes.metadata().name().to_owned();
        attributes.record(&mut Fields(&mut text));
        state.spans.push(text);
        Id::from_u64(state.spans.len() as u64)
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        values.record(&mut Fields(&mut self.0.lock().unwrap().spans[at(span)]));
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &Event<'_>) {
        let mut state = self.0.lock().unwrap();
        let within = state.entered.map_or("no span".to_owned(), |at| state.spans[at].clone());
        state.lines.push(format!("event in {within}"));
    }

    fn enter(&self, span: &Id) {
        self.0.lock().unwrap().entered = Some(at(span));
    }

    fn exit(&self, _: &Id) {
        self.0.lock().unwrap().entered = None;
    }

    fn try_close(&self, span: Id) -> bool {
        let mut state = self.0.lock().unwrap();
        let text = state.spans[at(&span)].clone();
        state.lines.push(text);
        true
    }
}

fn at(span: &Id) -> usize {
    span.into_u64() as usize - 1
}

/// What the subscriber saw of these requests, the last of which ends the connection.
fn check(requests: &str, expected: &[&str]) {
    let log = Log::default();
    tracing::subscriber::with_default(log.clone(), || {
        let router = router().get("/traced", async |_: Request| {
            tracing::info!("before");
            annulet::yield_now().await;
            tracing::info!("behind");
        });
        annulet::run(async {
            let listener = annulet::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let server = annulet_http::Server::new(router).with_limits(unhurried());
            drop(annulet::spawn(async move { server.serve(listener).await }));
            let stream = annulet::net::TcpStream::connect(address).await.unwrap();
            send(&stream, requests.as_bytes(), Delivery::Whole).await;
            read_all(&stream).await;
        });
    });
    assert_eq!(log.0.lock().unwrap().lines, expected, "{requests}");
}

#[test]
fn each_request_has_one() {
    check(
        "GET /hello/a?secret HTTP/1.1\r\nHost: a\r\n\r\nGET /close HTTP/1.1\r\nHost: a\r\n\r\n",
        &["request method=GET path=\"/hello/a\" status=200", "request method=GET path=\"/close\" status=200"],
    );
    check(
        "DELETE /none HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        &["request method=DELETE path=\"/none\" status=404"],
    );
    check(
        "POST /echo HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc",
        &["request method=POST path=\"/echo\" status=200"],
    );
    check(
        "GET /hint HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        &["request method=GET path=\"/hint\" status=200"],
    );
    check("nonsense\r\n\r\n", &[]);
}

#[test]
fn handlers_run_within_theirs() {
    check(
        "GET /traced HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        &[
            "event in request method=GET path=\"/traced\"",
            "event in request method=GET path=\"/traced\"",
            "request method=GET path=\"/traced\" status=200",
        ],
    );
}

#[test]
fn a_panic_is_the_status_that_stands_for_it() {
    for path in ["/panic", "/panic/later"] {
        check(
            &format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"),
            &[&format!("request method=GET path={path:?} status=500")],
        );
    }
}
