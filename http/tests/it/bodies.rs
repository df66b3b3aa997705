//! Requests with a body.
use std::cell::RefCell;
use std::future::poll_fn;
use std::net::Shutdown;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use annulet::net::TcpStream;
use annulet_http::{Error, Limits, Request, Router, Trailers};
use futures_core::Stream;

use crate::client::{
    Delivery, check, read_all, send, summary, unhurried, with_router, with_server_and_limits,
};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const INDEX: &str = "200 [<h1>Index</h1>]";

fn post(path: &str, fields: &str, body: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: a\r\n{fields}\r\n{body}")
}

#[test]
fn echoed() {
    let check = |fields: &str, body: &str, expected: &str| {
        check(&(post("/echo", fields, body) + GET), &format!("{expected} {INDEX}"));
    };
    check("Content-Length: 5\r\n", "hello", "200 [hello]");
    check("Content-Length: 0\r\n", "", "200 []");
    check("", "", "200 []");
    check("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n1;a=b\r\n!\r\n0\r\nx: y\r\n\r\n", "200 [hello!]");
    check("Transfer-Encoding: chunked\r\n", "0\r\n\r\n", "200 []");
}

#[test]
fn content_goes_with_the_answer() {
    let kept = Rc::new(RefCell::new(None));
    let keeps = kept.clone();
    let router = Router::new().post("/keep", move |request: Request| {
        keeps.replace(Some(request));
        async { "" }
    });
    with_router(router, async |_, address| {
        let stream = TcpStream::connect(address).await.unwrap();
        let input = post("/keep", "Content-Length: 5\r\nConnection: close\r\n", "hello");
        send(&stream, input.as_bytes(), Delivery::Whole).await;
        // May fail when the server was faster.
        let _ = stream.shutdown(Shutdown::Write);
        assert_eq!(summary(&read_all(&stream).await, false), "200 close []");
        let mut request: Request = kept.take().unwrap();
        let error = request.chunk().await.unwrap_err();
        assert!(error.is_gone() && !error.is_refused() && !error.is_io(), "{error}");
    });
}

fn shown(trailers: &Trailers) -> String {
    let fields = trailers.iter().map(|(name, value)| format!("{name}={}", value.to_str().unwrap()));
    fields.collect::<Vec<_>>().join(";")
}

/// What the handler of `/sum` says of requests on one connection, in every delivery. Each is kept beyond its answer if `is_kept`.
fn check_trailers(input: &str, is_kept: bool, expected: &str) {
    for delivery in [Delivery::Whole, Delivery::PerLine, Delivery::PerByte] {
        let kept = Rc::new(RefCell::new(None));
        let keeps = kept.clone();
        let router = Router::new().post("/sum", move |mut request: Request| {
            let kept = keeps.clone();
            async move {
                let early = request.trailers().len();
                let content = request.bytes(100).await?;
                let content = String::from_utf8_lossy(&content).into_owned();
                let answer = format!("{early} {content} {}", shown(&request.trailers()));
                kept.replace(is_kept.then_some(request));
                Ok::<_, Error>(answer)
            }
        });
        with_router(router, async |_, address| {
            let stream = TcpStream::connect(address).await.unwrap();
            send(&stream, input.as_bytes(), delivery).await;
            // May fail when the server was faster.
            let _ = stream.shutdown(Shutdown::Write);
            assert_eq!(summary(&read_all(&stream).await, false), expected, "{delivery:?} {input:?}");
            assert_eq!(kept.borrow().is_some(), is_kept);
            assert!(kept.take().is_none_or(|request| request.trailers().is_empty()), "its answer is out");
        });
    }
}

#[test]
fn trailers() {
    let chunked = "Transfer-Encoding: chunked\r\n";
    let sum = |body: &str| post("/sum", chunked, body);
    let two = "2\r\nab\r\n0\r\nX-Sum: 1\r\nx-sum:  2 3 \r\nEmpty:\r\n\r\n";
    check_trailers(&sum(two), false, "200 [0 ab x-sum=1;x-sum=2 3;empty=]");
    // They belong to their request and to no other.
    let without = sum("1\r\nc\r\n0\r\n\r\n");
    let counted = post("/sum", "Content-Length: 1\r\n", "d") + &post("/sum", "", "");
    check_trailers(
        &(sum(two) + &without + &counted),
        false,
        "200 [0 ab x-sum=1;x-sum=2 3;empty=] 200 [0 c ] 200 [0 d ] 200 [0  ]",
    );
    let last = post("/sum", "Transfer-Encoding: chunked\r\nConnection: close\r\n", two);
    check_trailers(&last, true, "200 close [0 ab x-sum=1;x-sum=2 3;empty=]");
    check_trailers(&sum("0\r\nContent-Length: 5\r\n\r\nhello"), false, "400 close [Bad Request]");
}

#[test]
fn long() {
    for length in [10_000, 99_999] {
        let body = "x".repeat(length);
        let fields = format!("Content-Length: {length}\r\n");
        let expected = format!("200 [{length}] {INDEX}");
        for delivery in [post("/count", &fields, &body), {
            let chunks = format!("3e8\r\n{}\r\n", "x".repeat(1000)).repeat(length / 1000);
            let last = length % 1000;
            let last =
                if last == 0 { String::new() } else { format!("{last:x}\r\n{}\r\n", "x".repeat(last)) };
            post("/count", "Transfer-Encoding: chunked\r\n", &format!("{chunks}{last}0\r\n\r\n"))
        }] {
            with_server_and_limits(unhurried(), async |_, address| {
                let stream = TcpStream::connect(address).await.unwrap();
                stream.write_all((delivery.clone() + GET).as_bytes()).await.unwrap();
                stream.flush().await.unwrap();
                stream.shutdown(Shutdown::Write).unwrap();
                assert_eq!(summary(&read_all(&stream).await, false), expected);
            });
        }
    }
}

#[test]
fn large_bodies_come_whole_and_the_next_request_behind_them() {
    let body: String = (0..49_000).map(|at| char::from(b'a' + (at % 23) as u8)).collect();
    let length = body.len();
    let whole = post("/echo", &format!("Content-Length: {length}\r\n"), &body);
    let chunked = post(
        "/echo",
        "Transfer-Encoding: chunked\r\n",
        &format!("{:x}\r\n{}\r\n{:x}\r\n{}\r\n0\r\n\r\n", 40_000, &body[..40_000], 9_000, &body[40_000..]),
    );
    let expected = format!("200 [{length} bytes] {INDEX}");
    for delivery in [whole, chunked] {
        for piece in [usize::MAX, 4096, 33_000] {
            with_server_and_limits(unhurried(), async |_, address| {
                let stream = TcpStream::connect(address).await.unwrap();
                for bytes in (delivery.clone() + GET).as_bytes().chunks(piece) {
                    stream.write_all(bytes).await.unwrap();
                    stream.flush().await.unwrap();
                    annulet::yield_now().await;
                }
                stream.shutdown(Shutdown::Write).unwrap();
                let answers = read_all(&stream).await;
                assert_eq!(summary(&answers, false), expected, "in pieces of {piece}");
                assert!(answers.contains(&body), "in pieces of {piece}");
            });
        }
    }
}

/// A request that is kept beyond its answer sees nothing of the one after it.
#[test]
fn trailers_of_another_request() {
    let kept: Rc<RefCell<Option<Request>>> = Rc::default();
    let keeps = kept.clone();
    let router = Router::new().post("/", move |mut request: Request| {
        let kept = keeps.clone();
        async move {
            request.bytes(100).await?;
            let (own, before) = (request.trailers().len(), kept.take().map(|before| before.trailers().len()));
            kept.replace(Some(request));
            Ok::<_, Error>(format!("{own} {before:?}"))
        }
    });
    with_router(router, async |_, address| {
        let stream = TcpStream::connect(address).await.unwrap();
        let one = post("/", "Transfer-Encoding: chunked\r\n", "1\r\na\r\n0\r\nX-Sum: 1\r\n\r\n");
        send(&stream, one.repeat(2).as_bytes(), Delivery::Whole).await;
        // May fail when the server was faster.
        let _ = stream.shutdown(Shutdown::Write);
        assert_eq!(summary(&read_all(&stream).await, false), "200 [1 None] 200 [1 Some(0)]");
    });
}

/// What is collected has its limit to the byte.
#[test]
fn as_much_as_is_asked_for() {
    for (length, expected) in [(50_000, "200 [50000 bytes]"), (50_001, "413 ")] {
        with_server_and_limits(unhurried(), async |_, address| {
            let stream = TcpStream::connect(address).await.unwrap();
            let request = post("/echo", &format!("Content-Length: {length}\r\n"), &"x".repeat(length));
            send(&stream, request.as_bytes(), Delivery::Whole).await;
            // May fail when the server was faster.
            let _ = stream.shutdown(Shutdown::Write);
            let answers = summary(&read_all(&stream).await, false);
            assert!(answers.starts_with(expected), "{length}: {answers}");
        });
    }
}

#[test]
fn refused() {
    let chunked = "Transfer-Encoding: chunked\r\n";
    check(&(post("/echo", chunked, "x\r\n") + GET), "400 close [Bad Request]");
    check(&(post("/echo", chunked, "1\nx\r\n0\r\n\r\n") + GET), "400 close [Bad Request]");
    check(&post("/echo", chunked, "5\r\nhel"), "400 close [Bad Request]");
    check(&post("/echo", "Content-Length: 5\r\n", "hel"), "400 close [Bad Request]");
    check(&(post("/echo", "Content-Length: 100001\r\n", "") + GET), "413 close [Payload Too Large]");
    check(&(post("/echo", "Transfer-Encoding: gzip\r\n", "") + GET), "501 close [Not Implemented]");
}

#[test]
fn unwanted() {
    check(&(post("/ignore", "Content-Length: 5\r\n", "hello") + GET), &format!("202 [] {INDEX}"));
    check(&(post("/none", "Content-Length: 5\r\n", "hello") + GET), &format!("404 [Not Found] {INDEX}"));
    check(
        &(post("/ignore", "Transfer-Encoding: chunked\r\n", "1\r\nx\r\n0\r\n\r\n") + GET),
        &format!("202 [] {INDEX}"),
    );
    let body = "x".repeat(1001);
    check(&(post("/ignore", "Content-Length: 1001\r\n", &body) + GET), "202 close []");
    let long = format!("3e9\r\n{body}\r\n0\r\n\r\n");
    check(&(post("/ignore", "Transfer-Encoding: chunked\r\n", &long) + GET), "202 []");
    check(&(post("/ignore", "Transfer-Encoding: chunked\r\n", "x") + GET), "202 []");
    check(
        &(post("/first", "Transfer-Encoding: chunked\r\n", "1\r\na\r\n1\r\nb\r\n0\r\n\r\n") + GET),
        &format!("200 [true] {INDEX}"),
    );
}

#[test]
fn expectations() {
    let fields = "Expect: 100-continue\r\nContent-Length: 5\r\n";
    let conversation = async |path: &str, expected_first: &str, expected_rest: &str| {
        let path = path.to_owned();
        let (expected_first, expected_rest) = (expected_first.to_owned(), expected_rest.to_owned());
        with_server_and_limits(unhurried(), async move |_, address| {
            let stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(post(&path, fields, "").as_bytes()).await.unwrap();
            let first = stream.recv().await.unwrap().unwrap();
            let first = String::from_utf8_lossy(&first).into_owned();
            assert_eq!(summary(&first, false), expected_first);
            stream.write_all(format!("hello{GET}").as_bytes()).await.unwrap();
            stream.flush().await.unwrap();
            let _ = stream.shutdown(Shutdown::Write);
            assert_eq!(summary(&read_all(&stream).await, false), expected_rest);
        });
    };
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    for case in [
        conversation("/echo", "100 []", &format!("200 [hello] {INDEX}")),
        conversation("/ignore", "202 close []", ""),
        conversation("/none", "404 close [Not Found]", ""),
    ] {
        assert!(std::pin::pin!(case).poll(&mut cx).is_ready());
    }
    // The body is there already: nothing to wait for.
    with_server_and_limits(unhurried(), async |_, address| {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(post("/echo", fields, "hello").as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(summary(&read_all(&stream).await, false), "200 [hello]");
    });
}

/// A server on a clock that goes on when everything waits, and a client that has asked it so far.
async fn ask_on_a_clock(router: Router, limits: Limits, begin: &str) -> TcpStream {
    let listener = annulet::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let server = annulet_http::Server::new(router).with_limits(limits);
    drop(annulet::spawn(async move { server.serve(listener).await }));
    stream.write_all(begin.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    stream
}

/// By the limits that are the default, and by one for all of it; and whether the handler waits for a future that is dropped with the
/// wait, or for a stream that it keeps.
#[annulet::test(start_paused = true)]
async fn what_a_handler_does_beside_a_body_is_not_its_client_s_time() {
    let second = Duration::from_secs(1);
    let total = Limits { body_total_timeout: 30 * second, body_rate_min: 0, ..Limits::default() };
    for (limits, path) in [
        (Limits::default(), "/piece"),
        (total.clone(), "/piece"),
        (Limits::default(), "/stream"),
        (total, "/stream"),
    ] {
        let router = Router::new()
            .post("/piece", async |mut request: Request| {
                assert!(annulet::time::timeout(Duration::from_secs(1), request.chunk()).await.is_err());
                annulet::time::sleep(Duration::from_secs(60)).await;
                request.bytes(100).await
            })
            .post("/stream", async |mut request: Request| {
                let mut chunks = request.chunks();
                let mut next = async || poll_fn(|cx| Pin::new(&mut chunks).poll_next(cx)).await;
                assert!(annulet::time::timeout(Duration::from_secs(1), next()).await.is_err());
                annulet::time::sleep(Duration::from_secs(60)).await;
                let mut content = Vec::new();
                while let Some(chunk) = next().await {
                    content.extend_from_slice(&chunk?);
                }
                Ok::<_, Error>(content)
            });
        let begin =
            format!("POST {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 5\r\n\r\n");
        let stream = ask_on_a_clock(router, limits, &begin).await;
        // The handler is back, and waits.
        annulet::time::sleep(62 * second).await;
        stream.write_all(b"hello").await.unwrap();
        assert_eq!(summary(&read_all(&stream).await, false), "200 close [hello]", "{path}");
    }
}

#[annulet::test(start_paused = true)]
async fn framing_alone_prolongs_no_wait() {
    let router = Router::new().post("/", async |mut request: Request| request.bytes(100).await);
    let limits = Limits { body_rate_grace: Duration::from_secs(5), ..Limits::default() };
    let begun = annulet::time::now();
    let begin = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let stream = ask_on_a_clock(router, limits, begin).await;
    annulet::time::sleep(Duration::from_millis(4900)).await;
    stream.write_all(b"1").await.unwrap();
    stream.flush().await.unwrap();
    assert!(stream.recv().await.unwrap().unwrap().starts_with(b"HTTP/1.1 408 "));
    let took = annulet::time::now() - begun;
    assert!(took > Duration::from_secs(5) && took < Duration::from_secs(6), "{took:?}");
}
