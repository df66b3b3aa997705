//! Answers that come before the answer, and the field that says who answers.
use std::net::Shutdown;
use std::rc::Rc;
use std::time::Duration;

use annulet::net::{TcpListener, TcpStream};
use annulet::sync::Notify;
use annulet_http::{
    HeaderName, HeaderValue, IntoResponse, Request, Response, Router, Server, StatusCode, header,
};

use crate::client::{Delivery, read_all, send, with_router};

const GET: &str = "GET /plain HTTP/1.1\r\nHost: a\r\n\r\n";

fn style() -> [(HeaderName, HeaderValue); 2] {
    // The second is not a handler's to say.
    [
        (header::LINK, HeaderValue::from_static("</a.css>; rel=preload")),
        (header::CONTENT_LENGTH, HeaderValue::from_static("9")),
    ]
}

fn router() -> Router {
    Router::new()
        .get("/plain", async |_: Request| "plain")
        .get("/now", async |_: Request| Response::early_hints(style(), async { "page" }))
        .get("/later", async |_: Request| {
            annulet::yield_now().await;
            Response::early_hints(style(), async {
                annulet::yield_now().await;
                "page"
            })
        })
        .get("/twice", async |_: Request| {
            let last = async { Response::early_hints(style(), async { "page" }) };
            Response::interim(StatusCode::PROCESSING, [], last)
        })
        .get("/panic", async |request: Request| {
            Response::early_hints(style(), async move {
                annulet::yield_now().await;
                assert!(request.query().is_some(), "on purpose");
            })
        })
        .get("/stream", async |_: Request| {
            let pieces = futures_util::stream::iter(["a", "b"].map(Ok::<_, std::io::Error>));
            Response::early_hints(style(), async { Response::stream(pieces) })
        })
        .post("/body", async |mut request: Request| {
            Response::early_hints(style(), async move { request.bytes(100).await })
        })
        .get("/created", async |_: Request| {
            (StatusCode::CREATED, Response::early_hints(style(), async { "page" }))
        })
        .get("/field", async |_: Request| {
            let field = [(header::ETAG, HeaderValue::from_static("\"1\""))];
            (field, Response::early_hints(style(), async { "page" })).into_response()
        })
        .get("/close", async |_: Request| Response::early_hints(style(), async { "page" }).with_close())
        .get("/both", async |_: Request| {
            let last = async { Response::early_hints(style(), async { "page" }) };
            Response::interim(StatusCode::PROCESSING, [], last).with_status(StatusCode::CREATED)
        })
        .post("/unread", async |_: Request| Response::early_hints(style(), async { "page" }))
}

/// Heads without dates and what is the same everywhere, and contents.
fn shown(answers: &str) -> String {
    let mut shown = String::new();
    for line in answers.split("\r\n") {
        match line.strip_prefix("HTTP/1.1 ") {
            Some(status) => shown.push_str(&format!(" {}", &status[..3])),
            None if line.starts_with("date: ") || line.starts_with("content-type: ") => {}
            None => shown.push_str(&format!("|{line}")),
        }
    }
    shown.trim_start().to_owned()
}

fn check_with(router: fn() -> Router, input: &str, expected: &str) {
    for delivery in [Delivery::Whole, Delivery::PerLine, Delivery::PerByte] {
        with_router(router(), async |_, address| {
            let stream = TcpStream::connect(address).await.unwrap();
            send(&stream, input.as_bytes(), delivery).await;
            // May fail when the server was faster.
            let _ = stream.shutdown(Shutdown::Write);
            assert_eq!(shown(&read_all(&stream).await), expected, "{delivery:?} {input:?}");
        });
    }
}

fn check(input: &str, expected: &str) {
    check_with(router, input, expected);
}

const HINT: &str = "103|link: </a.css>; rel=preload|";
const PAGE: &str = "200|content-length: 4||page";

#[test]
fn hints_come_before_the_answer() {
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
    for path in ["/now", "/later"] {
        check(&get(path), &format!("{HINT} {PAGE}"));
        check(&(get(path) + GET), &format!("{HINT} {PAGE}HTTP/1.1 200 OK|content-length: 5||plain"));
    }
    check(&get("/twice"), &format!("102| {HINT} {PAGE}"));
    check(&get("/panic"), &format!("{HINT} 500|content-length: 21||Internal Server Error"));
    check(&get("/stream"), &format!("{HINT} 200|transfer-encoding: chunked||1|a|1|b|0||"));
    check("HEAD /now HTTP/1.1\r\nHost: a\r\n\r\n", &format!("{HINT} 200|content-length: 4||"));
    // RFC 9110 section 15.2: it knows none.
    check("GET /now HTTP/1.0\r\n\r\n", "200|content-length: 4|connection: close||page");
    check("GET /twice HTTP/1.0\r\n\r\n", "200|content-length: 4|connection: close||page");
}

#[test]
fn what_is_said_of_hints_is_said_of_the_answer() {
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
    let next = "HTTP/1.1 200 OK|content-length: 5||plain";
    let created = "201|content-length: 4||page";
    check(&(get("/created") + GET), &format!("{HINT} {created}{next}"));
    check(&(get("/both") + GET), &format!("102| {HINT} {created}{next}"));
    check(&(get("/field") + GET), &format!("{HINT} 200|etag: \"1\"|content-length: 4||page{next}"));
    check(&(get("/close") + GET), &format!("{HINT} 200|content-length: 4|connection: close||page"));
}

#[test]
fn hints_before_a_body_is_read() {
    let post = |path: &str, fields: &str, body: &str| {
        format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n{fields}\r\n{body}", body.len())
    };
    let next = "HTTP/1.1 200 OK|content-length: 5||plain";
    check(&(post("/body", "", "abc") + GET), &format!("{HINT} 200|content-length: 3||abc{next}"));
    check(&(post("/unread", "", "abc") + GET), &format!("{HINT} {PAGE}{next}"));
    // Told to go on behind the hint, when it is read.
    with_router(router(), async |_, address| {
        let stream = TcpStream::connect(address).await.unwrap();
        let head = post("/body", "Expect: 100-continue\r\n", "abc");
        send(&stream, head.strip_suffix("abc").unwrap().as_bytes(), Delivery::Whole).await;
        let mut told = String::new();
        while told.matches("\r\n\r\n").count() < 2 {
            told += &String::from_utf8_lossy(&stream.recv().await.unwrap().unwrap());
        }
        assert_eq!(shown(&told), format!("{HINT} 100||"));
        send(&stream, b"abc", Delivery::Whole).await;
        let answer = stream.recv().await.unwrap().unwrap();
        assert_eq!(shown(&String::from_utf8_lossy(&answer)), "200|content-length: 3||abc");
    });
}

#[test]
fn what_stands_around_a_handler_has_the_answer_and_not_the_hint() {
    let router = || {
        router()
            .get("/never", async |_: Request| {
                Response::early_hints(style(), std::future::pending::<Response>())
            })
            .after(|answer| answer.with_header(header::ETAG, HeaderValue::from_static("\"a\"")))
            .with_time_limit(Duration::from_millis(20))
    };
    let page = "200|etag: \"a\"|content-length: 4||page";
    check_with(router, "GET /twice HTTP/1.1\r\nHost: a\r\n\r\n", &format!("102| {HINT} {page}"));
    check_with(
        router,
        "GET /never HTTP/1.1\r\nHost: a\r\n\r\n",
        &format!("{HINT} 503|etag: \"a\"|content-length: 19||Service Unavailable"),
    );
}

/// The hint has left before the answer is made.
#[test]
fn a_hint_does_not_wait() {
    let told = Rc::new(Notify::new());
    let wait = told.clone();
    let router = Router::new().get("/", move |_: Request| {
        let wait = wait.clone();
        async move {
            Response::early_hints(style(), async move {
                wait.notified().await;
                "page"
            })
        }
    });
    with_router(router, async |_, address| {
        let stream = TcpStream::connect(address).await.unwrap();
        send(&stream, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", Delivery::Whole).await;
        let first = stream.recv().await.unwrap().unwrap();
        assert_eq!(shown(&String::from_utf8_lossy(&first)), format!("{HINT}|"));
        told.notify_one();
        let second = stream.recv().await.unwrap().unwrap();
        assert_eq!(shown(&String::from_utf8_lossy(&second)), PAGE);
    });
}

#[test]
#[should_panic(expected = "102 to 199")]
fn only_interim_answers_come_before() {
    drop(Response::interim(StatusCode::OK, [], async {}));
}

#[test]
fn who_answers() {
    let ask = async |server: Server, input: &str| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let serving = annulet::spawn(async move { server.serve(listener).await });
        let stream = TcpStream::connect(address).await.unwrap();
        send(&stream, input.as_bytes(), Delivery::Whole).await;
        // May fail when the server was faster.
        let _ = stream.shutdown(Shutdown::Write);
        let answers = read_all(&stream).await;
        serving.abort();
        answers
    };
    annulet::run(async {
        let router = || {
            router().get("/own", async |_: Request| {
                "x".into_response().with_header(header::SERVER, HeaderValue::from_static("mine"))
            })
        };
        let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
        let all = get("/plain") + &get("/nowhere") + &get("/stream") + &get("/own") + "nonsense\r\n\r\n";
        let unnamed = ask(Server::new(router()), &all).await;
        assert_eq!(unnamed.matches("server: ").count(), 1, "off unless asked for: {unnamed}");
        let named = ask(Server::new(router()).with_server_field("annulet"), &all).await;
        assert_eq!(named.matches("\r\nserver: annulet\r\n").count(), 4, "{named}");
        assert_eq!(named.matches("\r\nserver: mine\r\n").count(), 1, "{named}");
        assert_eq!(named.matches("HTTP/1.1 103").count(), 1, "{named}");
        assert!(named.replace("server: annulet\r\n", "").len() == unnamed.len());
    });
}
