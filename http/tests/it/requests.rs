//! The client against servers that follow a script: which bytes it sends, and what it makes of those that come back.
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use annulet::net::{TcpListener, TcpStream};
use annulet_http::client::{Body, Client, Error, Response};
use annulet_http::{HeaderName, HeaderValue, Limits, Method, StatusCode};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
/// At the end of an answer: the server closes.
const CLOSE: char = '!';

/// What a server saw: the requests of each connection.
type Log = Rc<RefCell<Vec<Vec<String>>>>;

/// One request: its head, and content of a stated length.
async fn request(stream: &TcpStream, held: &mut String) -> Option<String> {
    loop {
        if let Some(end) = held.find("\r\n\r\n") {
            let length = held[..end].lines().find_map(|line| line.strip_prefix("content-length: "));
            let end = end + 4 + length.map_or(0, |length| length.parse().unwrap());
            if held.len() >= end {
                return Some(held.drain(..end).collect());
            }
        }
        held.push_str(std::str::from_utf8(&stream.recv().await.ok()??).unwrap());
    }
}

/// Each connection has its answers; `None` for those that come after the last script.
fn serve(scripts: &[&[&str]]) -> (String, Log) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let site = format!("http://{}", listener.local_addr().unwrap());
    let scripts: Vec<Vec<String>> =
        scripts.iter().map(|script| script.iter().map(|&answer| answer.to_owned()).collect()).collect();
    let log = Log::default();
    let seen = Rc::clone(&log);
    drop(annulet::spawn(async move {
        for nth in 0.. {
            let stream = listener.accept().await.unwrap();
            seen.borrow_mut().push(Vec::new());
            let (seen, script) = (Rc::clone(&seen), scripts.get(nth).cloned().unwrap_or_default());
            drop(annulet::spawn(async move {
                let mut held = String::new();
                for answer in script {
                    let Some(request) = request(&stream, &mut held).await else { return };
                    seen.borrow_mut()[nth].push(request);
                    let _ = stream.write_all(answer.trim_end_matches(CLOSE).as_bytes()).await;
                    let _ = stream.flush().await;
                    if answer.ends_with(CLOSE) {
                        return;
                    }
                }
                while let Ok(Some(_)) = stream.recv().await {}
            }));
        }
    }));
    (site, log)
}

fn run<F: Future<Output = ()>>(test: F) {
    annulet::run(async {
        annulet::time::timeout(Duration::from_secs(20), test).await.expect("the test takes too long");
    });
}

async fn text(client: &Client, url: &str) -> Result<String, Error> {
    client.get(url).send().await?.text().await
}

fn counts(client: &Client) -> (u64, u64, usize, usize) {
    let stats = client.stats();
    (stats.opened, stats.reused, stats.open, stats.idle)
}

/// Waits until the loop has seen what the other side has sent.
async fn until(condition: impl Fn() -> bool) {
    for _ in 0..2000 {
        if condition() {
            return;
        }
        annulet::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("it does not come to that");
}

/// The outcome of one GET, as text; whether its connection is kept.
fn check_with(build: fn() -> Client, answer: &str, expected: &str, is_kept: bool) {
    run(async {
        let (site, _) = serve(&[&[answer]]);
        let client = build();
        let outcome = match client.get(&site).send().await {
            Ok(response) => {
                let status = response.status().as_u16();
                match response.text().await {
                    Ok(text) => format!("{status} {text}"),
                    Err(error) => format!("{status} {}", describe(&error)),
                }
            }
            Err(error) => describe(&error),
        };
        assert_eq!(outcome, expected, "{answer:?}");
        assert_eq!(client.stats().idle, usize::from(is_kept), "{answer:?}");
        assert_eq!(client.stats().open, usize::from(is_kept), "{answer:?}");
    });
}

fn check(answer: &str, expected: &str, is_kept: bool) {
    check_with(Client::new, answer, expected, is_kept);
}

fn describe(error: &Error) -> String {
    assert!(error.to_string().contains("http://127.0.0.1:"), "it names the host: {error}");
    let kinds = [
        (error.is_protocol(), "protocol"),
        (error.is_io(), "io"),
        (error.is_redirect(), "redirect"),
        (error.is_timeout(), "timeout"),
        (error.is_connect(), "connect"),
        (error.is_request(), "request"),
        (error.is_overloaded(), "overloaded"),
        (error.is_body(), "body"),
    ];
    let kinds: Vec<_> = kinds.iter().filter(|(is_it, _)| *is_it).map(|(_, name)| *name).collect();
    let why = error.refusal().map(|why| format!(" {why:?}")).unwrap_or_default();
    format!("{}{why}", kinds.join("+"))
}

#[test]
fn answers_and_what_becomes_of_their_connections() {
    check(OK, "200 ok", true);
    check("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", "200 ok", true);
    check("HTTP/1.1 200 OK\r\n\r\nto the end!", "200 to the end", false);
    check("HTTP/1.1 204 No\r\n\r\n", "204 ", true);
    check("HTTP/1.1 304 No\r\ncontent-length: 9\r\n\r\n", "304 ", true);
    check("HTTP/1.1 304 No\r\ntransfer-encoding: chunked\r\n\r\n", "304 ", true);
    check("HTTP/1.1 205 No\r\ncontent-length: 0\r\n\r\n", "205 ", true);
    check("HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok", "200 ok", false);
    check("HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok", "200 ok", false);
    check(&format!("HTTP/1.1 103 Hints\r\nlink: a\r\n\r\nHTTP/1.1 100 Go\r\n\r\n{OK}"), "200 ok", true);
    check(&format!("{}{OK}", "HTTP/1.1 100 Go\r\n\r\n".repeat(17)), "protocol", false);
    check("HTTP/1.1 101 Up\r\nupgrade: x\r\n\r\n", "protocol", false);
}

/// A length or a coding where RFC 9112 section 6 forbids one: where the next answer begins is a guess.
#[test]
fn an_answer_that_contradicts_itself_is_the_last_of_its_connection() {
    check("HTTP/1.1 204 No\r\ncontent-length: 5\r\n\r\n", "204 ", false);
    check("HTTP/1.1 204 No\r\ntransfer-encoding: chunked\r\n\r\n", "204 ", false);
    check("HTTP/1.1 204 No\r\ncontent-length: 0\r\n\r\n", "204 ", true);
    let after = |fields: &str| format!("HTTP/1.1 103 Hints\r\n{fields}\r\n{OK}");
    check(&after("content-length: 5\r\n"), "200 ok", false);
    check(&after("transfer-encoding: chunked\r\n"), "200 ok", false);
    check(&after("content-length: 5\r\ncontent-length: 5\r\n"), "protocol LengthRepeated", false);
    check(&after("content-length: 0\r\n"), "200 ok", true);
    check(&format!("HTTP/1.1 100 Go\r\ncontent-length: 5\r\n\r\n{}", after("link: a\r\n")), "200 ok", false);
}

#[test]
fn trailers_come_behind_the_content() {
    run(async {
        let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n";
        let (site, _) =
            serve(&[&[&format!("{chunked}X-Sum: 1\r\nb: 2\r\n\r\n"), &format!("{chunked}\r\n"), OK]]);
        let client = Client::new();
        let mut seen = Vec::new();
        for _ in 0..3 {
            let mut answer = client.get(&site).send().await.unwrap();
            assert!(answer.trailers().is_empty(), "before the end");
            while answer.chunk().await.unwrap().is_some() {}
            seen.push(
                answer.trailers().iter().map(|(name, value)| format!("{name}={value:?}")).collect::<Vec<_>>(),
            );
        }
        assert_eq!(seen, [vec!["x-sum=\"1\"", "b=\"2\""], vec![], vec![]]);
        assert_eq!(counts(&client), (1, 2, 1, 1), "nothing is left of them on the connection");
        let (site, _) = serve(&[&[&format!("{chunked}Host: a\r\n\r\n")]]);
        let error = text(&client, &site).await.unwrap_err();
        assert_eq!(describe(&error), "protocol Trailer");
    });
}

#[test]
fn what_two_parties_could_cut_in_different_places_is_refused() {
    check(
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "protocol LengthAndCoding",
        false,
    );
    check(
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 2\r\n\r\nok",
        "protocol LengthRepeated",
        false,
    );
    check("HTTP/1.1 200 OK\r\ncontent-length: +2\r\n\r\nok", "protocol LengthMalformed", false);
    check("HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\nok", "protocol CodingUnknown", false);
    check(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2x\r\nok\r\n",
        "200 protocol ChunkSize",
        false,
    );
    check(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok!\r\n",
        "200 protocol ChunkEnd",
        false,
    );
    check("HTTP/1.1 200 OK\r\ncontent-length: 2\n\nok", "protocol LineEnd", false);
    check("HTTP/1.1 200 OK\r\na: b\r\n c\r\n\r\n", "protocol FieldName", false);
    // Bytes behind the end answer nothing.
    check(&format!("{OK}x"), "200 ok", false);
    check(&format!("{OK}{OK}"), "200 ok", false);
    check(&format!("HTTP/1.1 204 No\r\n\r\n{OK}"), "204 ", false);
}

#[test]
fn what_is_cut_short_or_too_long() {
    check("!", "io", false);
    check("HTTP/1.1 200!", "protocol HeadCut", false);
    check("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok!", "200 protocol+body BodyCut", false);
    check(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n!",
        "200 protocol+body BodyCut",
        false,
    );
    let small =
        || Client::builder().limits(Limits { head_bytes: 200, body_bytes: 10, ..Limits::default() }).build();
    let long = "x".repeat(300);
    check_with(small, &format!("HTTP/1.1 200 OK\r\na: {long}\r\n\r\n"), "protocol HeadTooLarge", false);
    check_with(small, &format!("HTTP/1.1 200 OK\r\ncontent-length: 300\r\n\r\n{long}"), "200 body", true);
}

#[test]
fn a_connection_is_used_again_and_again() {
    run(async {
        let (site, log) = serve(&[&[OK, OK, OK]]);
        let client = Client::new();
        for _ in 0..3 {
            assert_eq!(text(&client, &site).await.unwrap(), "ok");
        }
        assert_eq!(counts(&client), (1, 2, 1, 1));
        assert_eq!(log.borrow()[0].len(), 3);
    });
}

#[test]
fn what_comes_between_two_requests_answers_neither() {
    run(async {
        let (site, log) = serve(&[&[OK], &[OK]]);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let evil = format!("http://{}", listener.local_addr().unwrap());
        let client = Client::builder().idle_timeout(Duration::from_secs(1)).build();
        let asked = annulet::spawn({
            let (client, evil) = (client.clone(), evil.clone());
            async move { text(&client, &evil).await }
        });
        let stream = listener.accept().await.unwrap();
        request(&stream, &mut String::new()).await.unwrap();
        stream.write_all(OK.as_bytes()).await.unwrap();
        assert_eq!(asked.await.unwrap().unwrap(), "ok");
        assert_eq!(client.stats().idle, 1);
        // An answer to a question that nobody has asked yet.
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil").await.unwrap();
        stream.flush().await.unwrap();
        assert_eq!(text(&client, &site).await.unwrap(), "ok");
        // Nobody says that it has arrived. Far more than a busy machine needs.
        annulet::time::sleep(Duration::from_millis(200)).await;
        let again = annulet::spawn({
            let client = client.clone();
            async move { text(&client, &evil).await }
        });
        let stream = listener.accept().await.unwrap();
        request(&stream, &mut String::new()).await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ngood").await.unwrap();
        assert_eq!(again.await.unwrap().unwrap(), "good");
        assert_eq!((client.stats().opened, client.stats().reused), (3, 0));
        assert_eq!(log.borrow().len(), 1);
    });
}

#[test]
fn the_methods_with_a_name() {
    run(async {
        let (site, log) = serve(&[&[OK, OK, OK, OK, OK, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n"]]);
        let client = Client::new();
        let named = [Client::get, Client::post, Client::put, Client::patch, Client::delete, Client::head];
        for request in named {
            request(&client, &site).send().await.unwrap().bytes().await.unwrap();
        }
        let log = log.borrow();
        let methods: Vec<&str> = log[0].iter().map(|head| head.split(' ').next().unwrap()).collect();
        assert_eq!(methods, ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"]);
    });
}

#[test]
fn a_dead_connection_costs_an_idempotent_request_nothing_and_a_post_an_error() {
    let check = |method: Method, body: Body, expected: Result<&str, &str>| {
        run(async {
            // The server reads the second request on the first connection and closes without a word.
            let (site, log) = serve(&[&[OK, "!"], &[OK]]);
            let client = Client::new();
            assert_eq!(text(&client, &site).await.unwrap(), "ok");
            let answer = client.request(method, &site).body(body).send().await;
            let answer = match answer {
                Ok(answer) => Ok(answer.text().await.unwrap()),
                Err(error) => Err(describe(&error)),
            };
            assert_eq!(answer.as_deref().map_err(String::as_str), expected);
            let requests: Vec<usize> = log.borrow().iter().map(Vec::len).collect();
            assert_eq!(requests, if expected.is_ok() { vec![2, 1] } else { vec![2] });
        });
    };
    check(Method::GET, Body::empty(), Ok("ok"));
    check(Method::PUT, Body::from("x"), Ok("ok"));
    check(Method::POST, Body::from("x"), Err("io"));
    check(Method::PATCH, Body::empty(), Err("io"));
    // On a connection of its own nothing is repeated.
    check_closed_fresh();
}

fn check_closed_fresh() {
    run(async {
        let (site, log) = serve(&[&["!"], &[OK]]);
        let client = Client::new();
        assert_eq!(describe(&text(&client, &site).await.unwrap_err()), "io");
        assert_eq!((log.borrow().len(), client.stats().open), (1, 0));
    });
}

#[test]
fn a_host_has_so_many_connections_and_the_others_wait_in_line() {
    run(async {
        const REQUESTS: usize = 12;
        let (site, log) = serve(&[&[OK; REQUESTS], &[OK; REQUESTS], &[OK; REQUESTS]]);
        let client = Client::builder().connections_per_host(2).build();
        let order = RefCell::new(Vec::new());
        let asked = (0..REQUESTS).map(async |nth| {
            let answer = client.get(&site).send().await.unwrap();
            order.borrow_mut().push(nth);
            answer.text().await.unwrap()
        });
        assert_eq!(annulet::gather(asked).await, ["ok"; REQUESTS]);
        let (opened, reused, ..) = counts(&client);
        assert_eq!((opened, reused, log.borrow().len()), (2, REQUESTS as u64 - 2, 2));
        // Two at a time: nobody is overtaken by more than one.
        let order = order.into_inner();
        assert!(order.iter().enumerate().all(|(at, &nth)| at.abs_diff(nth) <= 1), "{order:?}");
    });
}

#[test]
fn an_idle_connection_makes_room_for_another_host() {
    run(async {
        let ((one, _), (two, _)) = (serve(&[&[OK], &[OK]]), serve(&[&[OK]]));
        let client = Client::builder().connections(1).build();
        for site in [&one, &two, &one] {
            assert_eq!(text(&client, site).await.unwrap(), "ok");
        }
        assert_eq!(counts(&client), (3, 0, 1, 1));
    });
}

#[test]
fn the_line_is_bounded() {
    run(async {
        let (site, _) = serve(&[&[]]);
        let client = Client::builder().connections(1).waiting(1).build();
        let mut first = pin!(client.get(&site).send());
        let mut second = pin!(client.get(&site).send());
        let mut cx = Context::from_waker(std::task::Waker::noop());
        assert!(first.as_mut().poll(&mut cx).is_pending());
        assert!(second.as_mut().poll(&mut cx).is_pending());
        assert_eq!(client.stats().waiting, 1);
        assert_eq!(describe(&client.get(&site).send().await.unwrap_err()), "overloaded");
    });
}

#[test]
fn redirections() {
    fn to(status: u16, location: &str) -> String {
        format!("HTTP/1.1 {status} x\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n")
    }
    let check = |method: Method, status: u16, expected: &str| {
        run(async {
            let (site, log) = serve(&[&[&to(status, "../b?c#d"), OK]]);
            let client = Client::new();
            let content = if method == Method::POST { "x" } else { "" };
            let request = client.request(method, format!("{site}/a/"));
            let request = if content.is_empty() { request } else { request.body(content) };
            let answer = request.header("authorization", "secret").send().await.unwrap();
            assert!(answer.url().ends_with("/b?c"));
            let seen = log.borrow()[0][1].clone();
            assert!(seen.starts_with(expected), "{status}: {seen}");
            assert!(seen.contains("authorization: secret"), "the same server");
            assert_eq!(seen.ends_with("\r\n\r\nx"), expected.starts_with("POST"), "{seen}");
        });
    };
    check(Method::GET, 301, "GET /b?c HTTP/1.1\r\n");
    check(Method::POST, 301, "GET /b?c HTTP/1.1\r\n");
    check(Method::POST, 302, "GET /b?c HTTP/1.1\r\n");
    check(Method::POST, 303, "GET /b?c HTTP/1.1\r\n");
    check(Method::POST, 307, "POST /b?c HTTP/1.1\r\n");
    check(Method::POST, 308, "POST /b?c HTTP/1.1\r\n");
    check(Method::HEAD, 303, "HEAD /b?c HTTP/1.1\r\n");

    run(async {
        let (other, seen) = serve(&[&[OK]]);
        let (site, _) = serve(&[&[&to(302, &other)]]);
        let request = Client::new().get(&site).header("authorization", "a").header("cookie", "b=c");
        request.header("x-mine", "d").send().await.unwrap();
        let seen = seen.borrow()[0][0].clone();
        assert!(!seen.contains("authorization") && !seen.contains("cookie"), "another server: {seen}");
        assert!(seen.contains("x-mine: d"));

        let circle = to(302, "/");
        let (site, log) = serve(&[&[circle.as_str(); 20]]);
        let client = Client::builder().redirects(3).build();
        assert_eq!(describe(&text(&client, &site).await.unwrap_err()), "redirect");
        assert_eq!(log.borrow()[0].len(), 4);

        let (site, _) = serve(&[&[&circle]]);
        let answer = Client::builder().redirects(0).build().get(&site).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::FOUND);

        let (site, _) = serve(&[&[&to(302, "ftp://x/")]]);
        assert_eq!(describe(&text(&Client::new(), &site).await.unwrap_err()), "redirect");
    });
}

#[test]
fn cookies_go_back() {
    run(async {
        let set = "HTTP/1.1 200 OK\r\nset-cookie: id=7; Path=/\r\nset-cookie: x=y; Secure\r\ncontent-length: 0\r\n\r\n";
        let (site, log) = serve(&[&[set, OK, OK]]);
        let client = Client::builder().cookies(true).build();
        client.get(&site).send().await.unwrap();
        client.get(&site).header("cookie", "own=1").send().await.unwrap();
        assert!(log.borrow()[0][1].contains("\r\ncookie: own=1; id=7\r\n"));
        assert_eq!(client.cookie(&site, "id").as_deref(), Some("7"));
        client.clear_cookies();
        client.get(&site).send().await.unwrap();
        let requests = log.borrow().concat();
        assert!(!requests[requests.len() - 1].contains("cookie"));
    });
}

#[test]
fn times() {
    let short = Duration::from_millis(20);
    run(async {
        let silent: &[&[&str]] = &[&["HTTP/1.1 200"], &["HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok"]];
        let (site, _) = serve(silent);
        let client = Client::builder().head_timeout(short).build();
        let error = text(&client, &site).await.unwrap_err();
        assert_eq!((describe(&error).as_str(), client.stats().open), ("timeout", 0));
        assert!(error.to_string().contains("head_timeout"), "{error}");

        let (site, _) = serve(silent);
        let client = Client::builder().timeout(Some(short)).build();
        let error = text(&client, &site).await.unwrap_err();
        assert!(error.to_string().contains("; timeout"), "{error}");
        // Long enough for the head on a busy machine.
        let client = Client::builder().timeout(Some(Duration::from_millis(500))).build();
        let answer = client.get(&site).send().await.unwrap();
        assert!(answer.text().await.unwrap_err().is_timeout());
        assert_eq!(client.stats().open, 0);

        // Waiting in line counts too.
        let (site, _) = serve(&[&[OK]]);
        let client = Client::builder().connections(1).timeout(Some(Duration::from_millis(500))).build();
        let held = client.get(&site).send().await.unwrap();
        assert_eq!(client.stats().idle, 0, "its content has not been read");
        assert!(client.get(&site).send().await.unwrap_err().is_timeout());
        assert_eq!(client.stats().waiting, 0);
        drop(held);

        let client = Client::builder().connect_timeout(Duration::ZERO).build();
        let error = text(&client, &site).await.unwrap_err();
        assert_eq!(describe(&error), "timeout+connect");
    });
}

#[test]
fn nobody_listens() {
    run(async {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let site = format!("http://{}", listener.local_addr().unwrap());
        drop(listener);
        let client = Client::new();
        assert_eq!(describe(&text(&client, &site).await.unwrap_err()), "connect");
        assert_eq!(client.stats().open, 0);
    });
}

#[test]
fn idle_connections_are_closed_in_time_and_when_their_server_closes() {
    run(async {
        let (site, _) = serve(&[&[OK], &[concat!("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", "!")]]);
        let client = Client::builder().idle_timeout(Duration::from_millis(50)).build();
        text(&client, &site).await.unwrap();
        assert_eq!(client.stats().idle, 1);
        until(|| client.stats().open == 0).await;
        let client = Client::builder().idle_timeout(Duration::from_millis(200)).build();
        text(&client, &site).await.unwrap();
        until(|| client.stats().open == 0).await;
    });
}

#[test]
fn content_goes_out_as_it_is_made() {
    struct Pieces(Vec<&'static str>);
    impl annulet::stream::Stream for Pieces {
        type Item = std::io::Result<&'static str>;
        fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
            Poll::Ready((!self.0.is_empty()).then(|| Ok(self.0.remove(0))))
        }
    }
    run(async {
        use annulet_http::{Request, Router, Server};
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let site = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().post("/", async |mut request: Request| request.bytes(1 << 20).await).post(
            "/trailers",
            async |mut request: Request| {
                let content = request.bytes(100).await?;
                let trailers = request.trailers();
                let shown =
                    trailers.iter().map(|(name, value)| format!(" {name}={}", value.to_str().unwrap()));
                Ok::<_, annulet_http::Error>(
                    String::from_utf8_lossy(&content).into_owned() + &shown.collect::<String>(),
                )
            },
        );
        drop(annulet::spawn(async move { Server::new(router).serve(listener).await }));
        let client = Client::new();
        let post = async |body: Body| client.post(&site).body(body).send().await?.text().await;
        let pieces = || Pieces(vec!["one", "", "two", "three"]);
        assert_eq!(post(Body::stream(pieces())).await.unwrap(), "onetwothree");
        assert_eq!(post(Body::sized(11, pieces())).await.unwrap(), "onetwothree");
        assert_eq!(post(Body::from("")).await.unwrap(), "");
        let answer = client.post(format!("{site}/trailers"));
        let count = Rc::new(Cell::new(0));
        let counted = count.clone();
        let counting = futures_util::stream::iter(["one", "two"].map(Ok::<_, std::io::Error>));
        let counting = futures_util::StreamExt::inspect(counting, move |_| counted.set(counted.get() + 1));
        let body = Body::stream(counting).with_trailers(move || {
            let field =
                |name, value: &str| (HeaderName::from_static(name), HeaderValue::try_from(value).unwrap());
            vec![
                field("x-pieces", &count.get().to_string()),
                field("content-length", "9"),
                field("host", "b"),
            ]
        });
        let answer = answer.body(body).send().await.unwrap();
        assert_eq!(answer.text().await.unwrap(), "onetwo x-pieces=2", "others are not a program's to say");
        let bytes = Body::from("one").with_trailers(|| unreachable!("they need the chunked coding"));
        assert_eq!(post(bytes).await.unwrap(), "one");
        let large = "x".repeat(1 << 20);
        assert_eq!(post(Body::from(large.clone())).await.unwrap(), large);
        assert_eq!(counts(&client), (1, 5, 1, 1));
        for length in [10, 12] {
            assert_eq!(describe(&post(Body::sized(length, pieces())).await.unwrap_err()), "body");
            assert_eq!(client.stats().open, 0);
        }
        let json = client.post(&site).json(&["a", "b"]).send().await.unwrap();
        assert_eq!(json.json::<Vec<String>>().await.unwrap(), ["a", "b"]);
        let form = client.post(&site).query(&[("q", "1 2")]).form(&[("a", "b c")]).send().await.unwrap();
        assert_eq!(form.url(), format!("{site}/?q=1+2"));
        assert_eq!(form.text().await.unwrap(), "a=b+c");
        let missing = client.get(format!("{site}/missing")).send().await.unwrap();
        assert_eq!(missing.error_for_status().unwrap_err().status(), Some(StatusCode::NOT_FOUND));
        assert_eq!(annulet_http::get(format!("{site}/missing")).await.unwrap().status(), 404);
    });
}

/// What becomes of the content that has not left when the answer comes.
#[test]
fn an_error_or_a_redirection_stops_the_content() {
    /// One piece; the next when it is allowed. Counts how often it is asked.
    struct Slow(Rc<Cell<bool>>, Rc<Cell<usize>>);
    impl annulet::stream::Stream for Slow {
        type Item = std::io::Result<&'static str>;
        fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
            self.1.set(self.1.get() + 1);
            match self.1.get() {
                1 => Poll::Ready(Some(Ok("begin"))),
                _ if self.0.get() => Poll::Ready(None),
                _ => Poll::Pending,
            }
        }
    }
    let check = |status: u16, goes_on: bool| {
        run(async {
            let answer = format!("HTTP/1.1 {status} x\r\ncontent-length: 2\r\n\r\nok");
            let (site, _) = serve(&[&[&answer]]);
            let client = Client::builder().redirects(0).build();
            let (may_end, asked) = (Rc::new(Cell::new(false)), Rc::new(Cell::new(0)));
            let body = Body::stream(Slow(may_end.clone(), asked.clone()));
            let answer = client.request(Method::PUT, &site).body(body).send().await.unwrap();
            let before = asked.get();
            may_end.set(true);
            assert_eq!(answer.text().await.unwrap(), "ok");
            assert_eq!(asked.get() > before, goes_on, "{status}");
            // Who has not sent all cannot begin another request there.
            assert_eq!(client.stats().idle, usize::from(goes_on), "{status}");
            assert_eq!(client.stats().open, usize::from(goes_on), "{status}");
        });
    };
    check(200, true);
    check(299, true);
    check(300, false);
    check(307, false);
    check(413, false);
    check(500, false);
}

#[test]
fn the_type_of_the_content_is_said_once_and_by_the_program() {
    run(async {
        let (site, log) = serve(&[&[OK; 5]]);
        let client = Client::new();
        let own = ("content-type", "application/vnd.api+json");
        client.post(&site).json(&[1]).send().await.unwrap().text().await.unwrap();
        client.post(&site).header(own.0, own.1).json(&[1]).send().await.unwrap().text().await.unwrap();
        client.post(&site).json(&[1]).header(own.0, own.1).send().await.unwrap().text().await.unwrap();
        client.post(&site).form(&[("a", "b")]).send().await.unwrap().text().await.unwrap();
        client
            .post(&site)
            .header(own.0, own.1)
            .form(&[("a", "b")])
            .send()
            .await
            .unwrap()
            .text()
            .await
            .unwrap();
        let log = log.borrow();
        let types = log[0].iter().map(|request| {
            request
                .lines()
                .filter_map(|line| line.strip_prefix("content-type: "))
                .collect::<Vec<_>>()
                .join("+")
        });
        let types: Vec<String> = types.collect();
        assert_eq!(types, ["application/json", own.1, own.1, "application/x-www-form-urlencoded", own.1]);
    });
}

#[test]
fn what_is_wrong_is_said_before_anything_is_sent() {
    run(async {
        let client = Client::new();
        let check = async |request: annulet_http::client::RequestBuilder, cure: &str| {
            let error = request.send().await.unwrap_err();
            let text = std::io::Error::from(error).to_string();
            assert!(text.contains(cure), "{text}");
        };
        check(client.get("/path"), "write http://host/path").await;
        #[cfg(not(feature = "tls"))]
        check(client.get("https://127.0.0.1/"), "its feature `tls`").await;
        check(client.get("http://a/").header("content-length", "3"), "use body").await;
        check(client.get("http://a/").header("a b", "c"), "no name").await;
        check(client.get("http://a/").header("a", "b\r\nc: d"), "control characters").await;
        check(client.request(Method::CONNECT, "http://a/"), "proxies").await;
        check(client.request(Method::TRACE, "http://a/").body("x"), "TRACE").await;
        assert_eq!(client.stats().opened, 0);
    });
}

#[test]
fn an_upgrade_that_was_asked_for() {
    run(async {
        let (site, log) =
            serve(&[&["HTTP/1.1 101 Up\r\nconnection: upgrade\r\nupgrade: x\r\n\r\nfirst"], &[OK]]);
        let client = Client::new();
        let answer = client.get(&site).upgrade("x").send().await.unwrap();
        let connection = answer.upgraded().unwrap();
        assert_eq!(client.stats().open, 0, "it has left the pool");
        let mut first = connection.buffered.to_vec();
        while first.len() < 5 {
            first.extend_from_slice(&connection.stream.recv().await.unwrap().unwrap());
        }
        assert_eq!(first, b"first");
        assert!(log.borrow()[0][0].contains("connection: upgrade\r\nupgrade: x\r\n"));
        assert_eq!(
            client.get(&site).upgrade("x").send().await.unwrap().upgraded().unwrap_err().status(),
            200
        );
    });
}

#[test]
fn another_protocol_than_was_asked_for_is_none() {
    let check = |asked: &'static str, fields: &str, expected: Result<(), &str>| {
        run(async {
            let (site, _) = serve(&[&[&format!("HTTP/1.1 101 Up\r\nconnection: upgrade\r\n{fields}\r\n")]]);
            let client = Client::new();
            let answer = client.get(&site).upgrade(asked).send().await;
            let outcome =
                answer.map(|answer| drop(answer.upgraded().unwrap())).map_err(|error| describe(&error));
            assert_eq!(outcome, expected.map_err(str::to_owned), "{asked}: {fields:?}");
            assert_eq!(client.stats().open, 0);
        });
    };
    check("websocket", "upgrade: WebSocket\r\n", Ok(()));
    check("a/1, b", "upgrade: b\r\n", Ok(()));
    check("a/1, b", "upgrade: b\r\nupgrade: A/1\r\n", Ok(()));
    check("websocket", "upgrade: h2c\r\n", Err("protocol"));
    check("websocket", "upgrade: websocket, h2c\r\n", Err("protocol"));
    check("websocket", "upgrade: websocket\r\nupgrade: h2c\r\n", Err("protocol"));
    check("websocket", "upgrade: \r\n", Err("protocol"));
    check("websocket", "", Err("protocol"));
}

/// RUSTSEC-2020-0008: hyper sent the content of some GET requests without a word about its length, so that a server took it for the
/// next request.
#[test]
fn content_is_framed_whatever_the_method() {
    const INNER: &str = "GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n";
    let router = annulet_http::Router::new().fallback(async |mut request: annulet_http::Request| {
        let content = request.bytes(1000).await?;
        let said = format!("{} {}|{}", request.method(), request.path(), String::from_utf8_lossy(&content));
        Ok::<_, annulet_http::Error>(annulet_http::Response::text(said))
    });
    crate::client::with_router(router, async |_, address| {
        let client = Client::new();
        let pieces = || futures_util::stream::iter([Ok::<_, std::io::Error>(INNER)]);
        for method in [Method::GET, Method::DELETE, Method::OPTIONS, Method::HEAD, Method::POST, Method::PUT]
        {
            for body in [Body::from(INNER), Body::sized(INNER.len() as u64, pieces()), Body::stream(pieces())]
            {
                let request = client.request(method.clone(), format!("http://{address}/x")).body(body);
                let answer = request.send().await.unwrap().text().await.unwrap();
                let expected =
                    if method == Method::HEAD { String::new() } else { format!("{method} /x|{INNER}") };
                assert_eq!(answer, expected);
            }
        }
        assert_eq!(counts(&client), (1, 17, 1, 1), "one answer to each request, on one connection");
    });
}

/// Polls a future so many times at the most, then drops it.
async fn polls<F: Future>(future: F, times: usize) -> Option<F::Output> {
    let mut future = pin!(future);
    let left = Cell::new(times);
    std::future::poll_fn(|cx| {
        if left.replace(left.get().saturating_sub(1)) == 0 {
            return Poll::Ready(None);
        }
        future.as_mut().poll(cx).map(Some)
    })
    .await
}

#[test]
fn dropped_at_every_await() {
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n";
    let mut done = 0;
    for times in 0..12 {
        run(async {
            let (site, log) = serve(&[&[chunked; 3], &[chunked; 3], &[chunked; 3]]);
            let client = Client::builder().connections(1).build();
            let whole = async |client: &Client| client.get(&site).send().await?.text().await;
            let held = client.get(&site).send().await.unwrap();
            // It waits in line first, then has the connection, then reads.
            let (dropped, ()) = annulet::join(polls(whole(&client), times), async {
                assert_eq!(held.text().await.unwrap(), "ok");
            })
            .await;
            done += usize::from(dropped.is_some());
            assert_eq!(whole(&client).await.unwrap(), "ok", "after {times} polls");
            assert_eq!((client.stats().open, client.stats().idle, client.stats().waiting), (1, 1, 0));
            assert!(log.borrow().len() <= 2);
        });
    }
    assert!((1..12).contains(&done), "some are dropped and some are not: {done}");
}

#[test]
fn content_that_nobody_reads() {
    run(async {
        let long = format!("HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n{}", "x".repeat(50_000));
        let (site, log) = serve(&[&[OK, &long], &[OK]]);
        let client = Client::new();
        let answer: Response = client.get(&site).send().await.unwrap();
        drop(answer);
        assert_eq!(client.stats().idle, 1, "two bytes that were there are taken away");
        let mut answer = client.get(&site).send().await.unwrap();
        assert!(answer.chunk().await.unwrap().is_some());
        drop(answer);
        assert_eq!(client.stats().open, 0, "a rest that is not there closes");
        assert_eq!(text(&client, &site).await.unwrap(), "ok");
        assert_eq!(log.borrow().len(), 2);
    });
}
