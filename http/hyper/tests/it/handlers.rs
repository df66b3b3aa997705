//! tower services within a router of annulet-http.
use annulet::net::{TcpListener, TcpStream};
use annulet_http::{Client, Request, Router, Server, StatusCode};
use axum::body::{Body, Bytes};
use axum::routing::get;
use futures_util::stream;

use crate::support::{app, read_all, run};

fn start() -> String {
    let pieces =
        || stream::iter(["a", "b", "c"].map(|piece| Ok::<_, std::convert::Infallible>(Bytes::from(piece))));
    let app = app()
        .route("/pieces", get(async move || Body::from_stream(pieces())))
        .route(
            "/never",
            get(async || Body::from_stream(stream::pending::<Result<Bytes, std::convert::Infallible>>())),
        )
        .route(
            "/trailers",
            axum::routing::post(async |request: axum::extract::Request| {
                use http_body_util::BodyExt;
                // Those of the request, behind an answer of its length.
                let collected = request.into_body().collect().await.unwrap();
                let trailers = collected.trailers().cloned();
                let length = collected.to_bytes().len().to_string();
                let body = http_body_util::Full::new(Bytes::from(length));
                ([("trailer", "x-sum")], Body::new(body.with_trailers(async move { trailers.map(Ok) })))
            }),
        )
        .route("/twice", get(async || ([("x-a", "1"), ("x-a", "2")], StatusCode::ACCEPTED.to_string())));
    let router = Router::new().get("/ours", async |_: Request| "ours").fallback(annulet_hyper::handler(app));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let site = format!("http://{}", listener.local_addr().unwrap());
    drop(annulet::spawn(async move { Server::new(router).serve(listener).await }));
    site
}

#[test]
fn an_axum_router_answers_within_ours() {
    run(async {
        let (site, client) = (start(), Client::new());
        for (path, expected) in
            [("/ours", "ours"), ("/", "index"), ("/hello/a%20b?q", "hello, a b!"), ("/pieces", "abc")]
        {
            let answer = client.get(format!("{site}{path}")).send().await.unwrap();
            assert_eq!(answer.status(), StatusCode::OK, "{path}");
            assert_eq!(answer.text().await.unwrap(), expected, "{path}");
        }
        let answer = client.post(format!("{site}/json")).json(&[1, 2, 3]).send().await.unwrap();
        assert_eq!(answer.headers()["content-type"], "application/json");
        assert_eq!(answer.text().await.unwrap(), "6");
        let long = "x".repeat(300_000);
        let answer = client.post(format!("{site}/echo")).body(long.clone()).send().await.unwrap();
        assert!(answer.text().await.unwrap() == long);
        let answer = client.get(format!("{site}/nowhere")).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::NOT_FOUND);
        assert_eq!((client.stats().opened, client.stats().open), (1, 1));
    });
}

#[test]
fn the_service_says_what_its_content_is_and_whether_it_is_the_last() {
    run(async {
        let closing = |value: &'static str| get(move || async move { [("connection", value)] });
        let app = axum::Router::new()
            .route("/bare", get(async || http::Response::new(Body::from("bare"))))
            .route(
                "/stream",
                get(async || {
                    let pieces = stream::iter([Ok::<_, std::convert::Infallible>(Bytes::from("bare"))]);
                    http::Response::new(Body::from_stream(pieces))
                }),
            )
            .route("/text", get(async || "text"))
            .route("/close", closing("close"))
            .route("/capitals", closing("Close"))
            .route("/list", closing("x-a, CLOSE"))
            .route("/other", closing("closed"));
        let router = Router::new().fallback(annulet_hyper::handler(app));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let site = format!("http://{}", listener.local_addr().unwrap());
        drop(annulet::spawn(async move { Server::new(router).serve(listener).await }));
        let text = Some("text/plain; charset=utf-8");
        for (path, kind, closes) in [
            ("/bare", None, false),
            ("/stream", None, false),
            ("/text", text, false),
            ("/close", None, true),
            ("/capitals", None, true),
            ("/list", None, true),
            ("/other", None, false),
        ] {
            let answer = Client::new().get(format!("{site}{path}")).send().await.unwrap();
            let field = |name| answer.headers().get(name).map(|value| value.to_str().unwrap());
            assert_eq!(field("content-type"), kind, "{path}");
            assert_eq!(field("connection") == Some("close"), closes, "{path}");
        }
    });
}

/// RFC 9112 section 3.2.2: an absolute target overrides Host.
#[test]
fn the_host_is_that_of_the_target() {
    run(async {
        let host = |headers: http::HeaderMap| async move {
            let hosts: Vec<_> = headers.get_all("host").iter().map(|host| host.to_str().unwrap()).collect();
            hosts.join("|")
        };
        let app = axum::Router::new().route("/host", get(host));
        let router = Router::new().fallback(annulet_hyper::handler(app));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(annulet::spawn(async move { Server::new(router).serve(listener).await }));
        for (head, expected) in [
            ("GET /host HTTP/1.1\r\nHost: a", "a"),
            ("GET http://b/host HTTP/1.1\r\nHost: a", "b"),
            ("GET http://b:1/host HTTP/1.0\r\nX: y", "b:1"),
            ("GET /host HTTP/1.0\r\nX: y", ""),
        ] {
            let stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(format!("{head}\r\nConnection: close\r\n\r\n").as_bytes()).await.unwrap();
            let answer = read_all(&stream).await;
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{head}: {answer}");
            assert_eq!(answer.split("\r\n\r\n").nth(1), Some(expected), "{head}");
        }
    });
}

#[test]
fn trailers_pass_both_ways() {
    run(async {
        let site = start();
        let stream = TcpStream::connect(site.strip_prefix("http://").unwrap()).await.unwrap();
        let head = |end: &str| {
            format!("POST /trailers HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n{end}\r\n")
        };
        let with = head("") + "3\r\nabc\r\n0\r\nX-Sum: 7\r\n\r\n";
        let without = head("Connection: close\r\n") + "1\r\na\r\n0\r\n\r\n";
        stream.write_all((with + &without).as_bytes()).await.unwrap();
        let answers = read_all(&stream).await;
        assert!(answers.contains("\r\n\r\n1\r\n3\r\n0\r\nx-sum: 7\r\n\r\nHTTP/1.1 200 "), "{answers}");
        assert_eq!(answers.matches("\r\nx-sum: 7").count(), 1, "{answers}");
    });
}

#[test]
fn heads_are_whole_and_come_at_once() {
    run(async {
        let (site, client) = (start(), Client::new());
        let answer = client.request(http::Method::HEAD, format!("{site}/hello/you")).send().await.unwrap();
        assert_eq!(answer.headers()["content-length"], "11");
        drop(answer);
        // Its first piece never comes.
        let answer = client.get(format!("{site}/never")).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        drop(answer);
        let stream = TcpStream::connect(site.strip_prefix("http://").unwrap()).await.unwrap();
        stream.write_all(b"GET /twice HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
        let answer = read_all(&stream).await;
        for field in ["x-a: ", "content-length: ", "date: "] {
            assert!(answer.contains(field), "{answer}");
        }
        assert_eq!(answer.matches("content-length").count(), 1, "{answer}");
    });
}
