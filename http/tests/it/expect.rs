//! Requests that ask before they send content (`Expect: 100-continue`, RFC 9110 section 10.1.1), against servers that follow a script.
use std::cell::RefCell;
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use annulet::net::{TcpListener, TcpStream};
use annulet_http::client::{Body, Client, Error, RequestBuilder};
use annulet_http::{Method, Request, Response, Router, Server, StatusCode};

/// Far more than any machine needs: whoever waits so long waits for ever.
const LONG: Duration = Duration::from_secs(15);

/// What a server does on one connection.
enum Step {
    /// Takes a head, behind which there must be nothing yet.
    Head,
    /// Takes a head of a client that may have lost its patience by now.
    Begin,
    /// Takes so many bytes of content.
    Content(usize),
    Say(&'static str),
    Close,
}

use Step::{Begin, Close, Content, Head, Say};

const OK: Step = Say("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
const CONTINUE: Step = Say("HTTP/1.1 100 Continue\r\n\r\n");

/// What each connection said, and whether it has ended.
type Log = Rc<RefCell<Vec<String>>>;

async fn follow(stream: &TcpStream, script: Vec<Step>, seen: impl Fn(&str)) {
    let mut held = String::new();
    for step in script {
        let len = |held: &str| match step {
            Head | Begin => held.find("\r\n\r\n").map(|end| end + 4),
            Content(len) => (held.len() >= len).then_some(len),
            Say(_) | Close => Some(0),
        };
        let len = loop {
            match len(&held) {
                Some(len) => break len,
                None => match stream.recv().await {
                    Ok(Some(lease)) => held.push_str(std::str::from_utf8(&lease).unwrap()),
                    _ => return seen("<end>"),
                },
            }
        };
        match step {
            Head => {
                // Whatever was sent with it has had time to come.
                for _ in 0..100 {
                    annulet::yield_now().await;
                }
                while let Some(lease) = stream.try_recv() {
                    held.push_str(std::str::from_utf8(&lease).unwrap());
                }
                let expects = held[..len].contains("\r\nexpect: 100-continue\r\n");
                seen(if expects { "<asks>" } else { "<head>" });
                assert!(!expects || held.len() == len, "content behind the head: {held}");
            }
            Begin => seen("<asks>"),
            Content(_) => seen(&held[..len]),
            Say(text) => stream.write_all(text.as_bytes()).await.unwrap(),
            Close => return seen("<close>"),
        }
        held.drain(..len);
    }
    // What comes without having been asked for.
    seen(&held);
    while let Ok(Some(lease)) = stream.recv().await {
        seen(std::str::from_utf8(&lease).unwrap());
    }
    seen("<end>");
}

/// Each connection has its script.
fn serve(scripts: Vec<Vec<Step>>) -> (String, Log) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let site = format!("http://{}/", listener.local_addr().unwrap());
    let log: Log = Rc::new(RefCell::new(vec![String::new(); scripts.len()]));
    let seen = Rc::clone(&log);
    drop(annulet::spawn(async move {
        for (nth, script) in scripts.into_iter().enumerate() {
            let stream = listener.accept().await.unwrap();
            let seen = Rc::clone(&seen);
            drop(annulet::spawn(async move {
                follow(&stream, script, |what| seen.borrow_mut()[nth].push_str(what)).await;
            }));
        }
    }));
    (site, log)
}

fn run<F: Future<Output = ()>>(test: F) {
    annulet::run(async {
        annulet::time::timeout(LONG * 2, test).await.expect("the test takes too long");
    });
}

/// A client that waits for a word for as long as it takes.
fn patient() -> Client {
    Client::builder().continue_timeout(LONG * 2).build()
}

fn stream() -> Body {
    Body::stream(futures_util::stream::iter(["ab", "c"].map(Ok::<_, std::io::Error>)))
}

async fn outcome(request: RequestBuilder) -> String {
    let answer = async {
        let answer = request.send().await?;
        let status = answer.status().as_u16();
        Ok::<_, Error>(format!("{status} {}", answer.text().await?))
    };
    answer.await.unwrap_or_else(|error| format!("error: {error}"))
}

/// What comes of a request with this content, and what its connections saw.
fn check(
    build: fn() -> Client,
    body: impl Into<Body>,
    scripts: Vec<Vec<Step>>,
    expected: &str,
    seen: &[&str],
) {
    let body = body.into();
    run(async move {
        let client = build();
        let (site, log) = serve(scripts);
        let outcome = outcome(client.request(Method::PUT, &site).body(body).expect_continue()).await;
        assert_eq!(outcome, expected);
        // Connections that were kept end with their client.
        drop(client);
        let is_over = || log.borrow().iter().all(|seen| seen.ends_with("<end>"));
        let mut looks = 0..2000;
        while !is_over() && looks.next().is_some() {
            annulet::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(*log.borrow(), seen);
    });
}

#[test]
fn content_leaves_when_it_is_asked_for() {
    check(patient, "abc", vec![vec![Head, CONTINUE, Content(3), OK]], "200 ok", &["<asks>abc<end>"]);
    // In the chunked coding.
    let chunked = "2\r\nab\r\n1\r\nc\r\n0\r\n\r\n";
    let seen = format!("<asks>{chunked}<end>");
    check(patient, stream(), vec![vec![Head, CONTINUE, Content(chunked.len()), OK]], "200 ok", &[&seen]);
    // Interim answers that are none of it, and one that comes twice.
    let hints = Say("HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n");
    let all = vec![Head, hints, CONTINUE, Content(3), CONTINUE, OK];
    check(patient, "abc", vec![all], "200 ok", &["<asks>abc<end>"]);
}

#[test]
fn interim_answers_of_another_kind_ask_for_nothing() {
    let hints = Say("HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n");
    check(patient, "abc", vec![vec![Head, hints, OK]], "200 ok", &["<asks><end>"]);
    let endless = "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(17);
    let scripts = vec![vec![Head, Say(endless.leak())]];
    run(async move {
        let (site, _) = serve(scripts);
        let error = patient().post(&site).body("abc").expect_continue().send().await.unwrap_err();
        assert!(error.is_protocol(), "{error}");
    });
}

#[test]
fn a_server_that_says_nothing_gets_the_content_all_the_same() {
    let build = || Client::builder().continue_timeout(Duration::from_millis(20)).build();
    check(build, "abc", vec![vec![Begin, Content(3), OK]], "200 ok", &["<asks>abc<end>"]);
    let build = || Client::builder().continue_timeout(Duration::ZERO).build();
    run(async move {
        // It may come with the head.
        let (site, _) = serve(vec![vec![Content(3), OK]]);
        assert_eq!(outcome(build().post(&site).body("abc").expect_continue()).await, "200 ok");
    });
}

#[test]
fn no_longer_than_there_is_time_for_all() {
    run(async {
        let (site, log) = serve(vec![vec![Head]]);
        let client = Client::builder().continue_timeout(LONG * 2).timeout(Some(Duration::from_millis(50)));
        let error = client.build().post(&site).body("abc").expect_continue().send().await.unwrap_err();
        assert!(error.is_timeout() && error.to_string().contains("not done in time"), "{error}");
        assert!(!log.borrow()[0].contains("abc"));
        // A server that takes the content and says nothing has its own time, from there on.
        let (site, log) = serve(vec![vec![Begin, Content(3)]]);
        let client = Client::builder()
            .continue_timeout(Duration::from_millis(20))
            .head_timeout(Duration::from_millis(200));
        let error = client.build().post(&site).body("abc").expect_continue().send().await.unwrap_err();
        assert!(error.to_string().contains("no answer in time"), "{error}");
        // What was sent comes, sooner or later.
        let mut looks = 0..2000;
        while !log.borrow()[0].starts_with("<asks>abc") && looks.next().is_some() {
            annulet::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(log.borrow()[0].starts_with("<asks>abc"), "{log:?}");
    });
}

/// From the word on the server has its time, even if the content has nothing to give.
#[test]
fn the_time_for_an_answer_begins_with_the_word() {
    run(async {
        let (site, _) = serve(vec![vec![Head, CONTINUE]]);
        let client = Client::builder().continue_timeout(LONG * 4).head_timeout(Duration::from_millis(50));
        let never = Body::stream(futures_util::stream::pending::<std::io::Result<&'static str>>());
        let error = client.build().post(&site).body(never).expect_continue().send().await.unwrap_err();
        assert!(error.to_string().contains("no answer in time"), "{error}");
    });
}

#[test]
fn an_answer_that_comes_first_is_the_answer() {
    // Of whatever status: the connection cannot carry another request.
    for status in ["200 OK", "201 Created", "401 Unauthorized", "413 Content Too Large", "500 No"] {
        let text = format!("HTTP/1.1 {status}\r\ncontent-length: 2\r\n\r\nno").leak();
        let expected = format!("{} no", &status[..3]);
        check(patient, "abc", vec![vec![Head, Say(text)]], &expected, &["<asks><end>"]);
        check(patient, stream(), vec![vec![Head, Say(text)]], &expected, &["<asks><end>"]);
    }
    // Content of the answer that nobody reads does not bring the connection back either.
    run(async {
        let answer = Say("HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno");
        let (site, log) = serve(vec![vec![Head, answer], vec![Head, OK]]);
        let client = patient();
        drop(client.post(&site).body("abc").expect_continue().send().await.unwrap());
        assert_eq!(outcome(client.get(&site)).await, "200 ok");
        assert_eq!((client.stats().opened, client.stats().reused), (2, 0));
        assert_eq!(log.borrow()[1], "<head>");
    });
}

#[test]
fn an_answer_behind_the_100_ends_what_is_not_wanted_any_more() {
    let both = Say("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 413 Too Large\r\ncontent-length: 0\r\n\r\n");
    check(patient, "abc", vec![vec![Head, both]], "413 ", &["<asks><end>"]);
}

#[test]
fn a_failed_expectation_is_tried_without() {
    let failed = || Say("HTTP/1.1 417 Expectation Failed\r\ncontent-length: 0\r\n\r\n");
    let second = || vec![Head, Content(3), OK];
    check(patient, "abc", vec![vec![Head, failed()], second()], "200 ok", &["<asks><end>", "<head>abc<end>"]);
    // A stream that has not begun is as good as new.
    let chunked = "2\r\nab\r\n1\r\nc\r\n0\r\n\r\n";
    let scripts = vec![vec![Head, failed()], vec![Head, Content(chunked.len()), OK]];
    check(patient, stream(), scripts, "200 ok", &["<asks><end>", &format!("<head>{chunked}<end>")]);
    // Once.
    let scripts = vec![vec![Head, failed()], vec![Head, Content(3), failed()]];
    check(patient, "abc", scripts, "417 ", &["<asks><end>", "<head>abc<end>"]);
    // Behind a 100 it is the handler's, who has the content and may have acted on it.
    let late = vec![Head, CONTINUE, Content(3), failed()];
    check(patient, "abc", vec![late], "417 ", &["<asks>abc<end>"]);
    // Behind one that comes when the content has left already, too.
    let hasty = || Client::builder().continue_timeout(Duration::ZERO).build();
    let late = vec![Begin, Content(3), CONTINUE, failed()];
    check(hasty, "abc", vec![late], "417 ", &["<asks>abc<end>"]);
    let late = vec![Head, CONTINUE, Content(chunked.len()), failed()];
    check(patient, stream(), vec![late], "417 ", &[&format!("<asks>{chunked}<end>")]);
    // Who has not asked gets the answer.
    run(async {
        let (site, log) = serve(vec![vec![Head, Content(3), failed()]]);
        assert_eq!(outcome(patient().post(&site).body("abc")).await, "417 ");
        assert!(log.borrow()[0].starts_with("<head>abc"));
    });
}

#[test]
fn a_stream_that_was_kept_back_goes_where_a_redirection_leads() {
    let chunked = "2\r\nab\r\n1\r\nc\r\n0\r\n\r\n";
    let elsewhere = Say("HTTP/1.1 307 Elsewhere\r\nlocation: /there\r\ncontent-length: 0\r\n\r\n");
    let scripts = vec![vec![Head, elsewhere], vec![Head, CONTINUE, Content(chunked.len()), OK]];
    check(patient, stream(), scripts, "200 ok", &["<asks><end>", &format!("<asks>{chunked}<end>")]);
}

#[test]
fn a_kept_connection_that_is_dead_costs_a_stream_nothing() {
    run(async {
        let chunked = "2\r\nab\r\n1\r\nc\r\n0\r\n\r\n";
        let second = vec![Head, CONTINUE, Content(chunked.len()), OK];
        let (site, log) = serve(vec![vec![Head, OK, Head, Close], second]);
        let client = patient();
        assert_eq!(outcome(client.get(&site)).await, "200 ok");
        let request = client.request(Method::PUT, &site).body(stream()).expect_continue();
        assert_eq!(outcome(request).await, "200 ok");
        assert_eq!(log.borrow()[0], "<head><asks><close>");
        assert_eq!(log.borrow()[1], format!("<asks>{chunked}"));
        // Nobody knows what a server makes of the head of a POST.
        let (site, _) = serve(vec![vec![Head, OK, Head, Close]]);
        assert_eq!(outcome(client.get(&site)).await, "200 ok");
        let error = client.post(&site).body("abc").expect_continue().send().await.unwrap_err();
        assert!(error.is_io(), "{error}");
    });
}

#[test]
fn without_content_nothing_is_asked() {
    for body in [Body::empty(), Body::from("")] {
        check(patient, body, vec![vec![Head, OK]], "200 ok", &["<head><end>"]);
    }
    run(async {
        let error = Client::new().get("http://a/").header("Expect", "100-continue").send().await.unwrap_err();
        let why = std::error::Error::source(&error).unwrap().to_string();
        assert!(error.is_request() && why.contains("use body, sized, expect_continue"), "{why}");
    });
}

#[test]
fn another_protocol_begins_behind_the_whole_request() {
    let switched = Say("HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n");
    run(async move {
        let (site, _) = serve(vec![vec![Head, switched]]);
        let request = patient().post(&site).body("abc").expect_continue().upgrade("x");
        let error = request.send().await.unwrap_err();
        assert!(error.is_protocol(), "{error}");
    });
}

#[test]
fn our_own_server_is_asked() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let site = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new()
            .put("/echo", async |mut request: Request| request.bytes(100).await)
            .put("/no", async |_: Request| (StatusCode::FORBIDDEN, "no"))
            .put("/later", async |_: Request| {
                annulet::yield_now().await;
                Response::text("no")
            });
        drop(annulet::spawn(async move { Server::new(router).serve(listener).await }));
        let client = patient();
        let ask = |path: &str| {
            client.request(Method::PUT, format!("{site}{path}")).body(stream()).expect_continue()
        };
        for _ in 0..3 {
            assert_eq!(outcome(ask("/echo")).await, "200 abc");
        }
        assert_eq!((client.stats().opened, client.stats().reused), (1, 2));
        assert_eq!(outcome(ask("/no")).await, "403 no");
        assert_eq!(outcome(ask("/later")).await, "200 no");
        assert_eq!(outcome(ask("/nowhere")).await, "404 Not Found");
        assert_eq!(outcome(ask("/echo")).await, "200 abc");
    });
}
