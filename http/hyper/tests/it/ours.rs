//! Our routers as tower services: behind hyper with HTTP/1 and HTTP/2, and behind nothing at all.
use std::convert::Infallible;

use annulet::net::{TcpListener, TcpStream};
use annulet_http::{
    Client, HeaderValue, IntoResponse, Limits, Method, Request, Response, Router, RouterService, StatusCode,
    header,
};
use annulet_hyper::{Io, LocalExecutor, LoopTimer};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http2;
use tower_service::Service;

use crate::support::run;

fn pieces() -> impl futures_util::Stream<Item = Result<&'static str, Infallible>> {
    futures_util::stream::iter(["ab", "", "c"].map(Ok))
}

fn service() -> RouterService {
    let router = Router::new()
        .get("/", async |_: Request| Response::html("<h1>Index</h1>"))
        .get("/hello/{name}", async |request: Request| {
            annulet::yield_now().await;
            format!("hello, {} of {}", request.param("name").unwrap_or_default(), request.host())
        })
        .post("/echo", async |mut request: Request| request.bytes(usize::MAX).await)
        .post("/trailers", async |mut request: Request| {
            request.bytes(usize::MAX).await?;
            let trailers = request.trailers();
            Ok::<_, annulet_http::Error>(Response::stream(pieces()).with_trailers(move || trailers))
        })
        .get("/pieces", async |_: Request| Response::stream(pieces()))
        .get("/counted", async |_: Request| Response::stream(pieces()).with_length(3))
        .get("/long", async |_: Request| Response::stream(pieces()).with_length(2))
        .get("/short", async |_: Request| Response::stream(pieces()).with_length(4))
        .get("/nothing", async |_: Request| StatusCode::NO_CONTENT)
        .get("/odd", async |_: Request| Response::text("x").with_status(StatusCode::CONTINUE))
        .get("/fields", async |_: Request| {
            let lies = [(header::CONTENT_LENGTH, "9"), (header::CONNECTION, "x"), (header::ETAG, "\"a\"")];
            lies.into_iter().fold("body".into_response(), |answer, (name, value)| {
                answer.with_header(name, HeaderValue::from_static(value))
            })
        })
        .get("/who", async |request: Request| {
            let Some(tls) = request.tls() else { return request.scheme().to_owned() };
            let alpn = tls.alpn().map(String::from_utf8_lossy);
            format!(
                "{} {:?} {:?} {}",
                request.scheme(),
                tls.server_name(),
                alpn,
                tls.peer_certificates().len()
            )
        })
        .get("/hint", async |_: Request| {
            Response::early_hints([], async {
                annulet::yield_now().await;
                "page"
            })
        })
        .post("/kept", async |mut request: Request| {
            let first = request.bytes(usize::MAX).await.is_err();
            let again = request.chunk().await.is_err();
            format!("{first} {again}")
        })
        .get("/close", async |_: Request| Response::text("bye").with_close())
        .get("/panic", async |request: Request| assert!(request.query().is_some(), "on purpose"))
        .get("/up", async |request: Request| request.upgrade("x", async |_| ()));
    router.into_service(Limits { body_bytes: 100_000, ..Limits::default() })
}

/// Status, fields that are looked for, and content.
async fn ask(request: http::Request<Full<Bytes>>) -> String {
    let Ok(answer) = service().call(request).await;
    let fields = ["content-type", "content-length", "allow", "etag", "connection"];
    let fields = fields
        .iter()
        .filter_map(|name| Some(format!("{name}: {};", answer.headers().get(*name)?.to_str().ok()?)));
    let head = format!("{} {}", answer.status().as_u16(), fields.collect::<String>());
    match answer.into_body().collect().await {
        Ok(content) => format!("{head} [{}]", String::from_utf8_lossy(&content.to_bytes())),
        Err(error) => format!("{head} {error}"),
    }
}

/// Without any server.
fn check(method: Method, target: &str, expected: &str) {
    run(async {
        let request = http::Request::builder().method(method).uri(target).header("host", "a");
        assert_eq!(ask(request.body(Full::default()).unwrap()).await, expected, "{target}");
    });
}

#[test]
fn called_by_itself() {
    const TEXT: &str = "content-type: text/plain; charset=utf-8;";
    let get = |target: &str, expected: &str| check(Method::GET, target, expected);
    get("/", "200 content-type: text/html; charset=utf-8; [<h1>Index</h1>]");
    get("/hello/a%20b?c", &format!("200 {TEXT} [hello, a b of a]"));
    // RFC 9112 section 3.2.2: the Host field is not heard.
    get("http://b/hello/x", &format!("200 {TEXT} [hello, x of b]"));
    get("/pieces", "200 content-type: application/octet-stream; [abc]");
    get("/counted", "200 content-type: application/octet-stream; [abc]");
    get("/long", "200 content-type: application/octet-stream; more content than with_length announced");
    get("/short", "200 content-type: application/octet-stream; less content than with_length announced");
    get("/nothing", "204  []");
    get("/odd", &format!("500 {TEXT} [x]"));
    get("/fields", &format!("200 {TEXT}etag: \"a\"; [body]"));
    get("/close", &format!("200 {TEXT}connection: close; [bye]"));
    get("/panic", &format!("500 {TEXT} [Internal Server Error]"));
    get("/hint", &format!("200 {TEXT} [page]"));
    get("/who", &format!("200 {TEXT} [http]"));
    get("/nowhere", &format!("404 {TEXT} [Not Found]"));
    get("/hello/%ff", &format!("400 {TEXT} [Bad Request]"));
    check(Method::POST, "/", &format!("405 {TEXT}allow: GET, HEAD, OPTIONS; [Method Not Allowed]"));
    check(Method::OPTIONS, "*", "204 allow: GET, HEAD, POST, OPTIONS; []");
    check(Method::CONNECT, "a:1", &format!("501 {TEXT} [Not Implemented]"));
    check(Method::HEAD, "/", "200 content-type: text/html; charset=utf-8;content-length: 14; []");
    check(Method::HEAD, "/counted", "200 content-type: application/octet-stream;content-length: 3; []");
    check(Method::HEAD, "/pieces", "200 content-type: application/octet-stream; []");
}

#[test]
fn what_a_request_has_to_have_and_may() {
    run(async {
        let bare = http::Request::get("/hello/x").body(Full::default()).unwrap();
        assert!(ask(bare).await.starts_with("400 "), "no host");
        let absolute = http::Request::get("http://user@b:80/hello/x").body(Full::default()).unwrap();
        assert!(ask(absolute).await.ends_with("[hello, x of b:80]"));
        let old =
            http::Request::get("/hello/x").version(http::Version::HTTP_10).body(Full::default()).unwrap();
        assert!(ask(old).await.ends_with("[hello, x of ]"));
        let up = http::Request::get("/up")
            .header("host", "a")
            .header("connection", "upgrade")
            .header("upgrade", "x");
        assert_eq!(ask(up.body(Full::default()).unwrap()).await, "501  []");
        for (length, expected) in [(100_000, "200 "), (100_001, "413 ")] {
            let body = Full::from("x".repeat(length));
            let post = http::Request::post("http://a/echo").body(body).unwrap();
            assert!(ask(post).await.starts_with(expected), "{length}");
        }
        // A length that lies is not the body's.
        let lies = http::Request::post("http://a/echo")
            .header("content-length", "1")
            .header("transfer-encoding", "x");
        assert!(ask(lies.body(Full::from("abc")).unwrap()).await.ends_with("[abc]"));
    });
}

/// A body that has failed does not come to an end.
#[test]
fn what_fails_of_a_body() {
    run(async {
        let check = async |pieces: Vec<Result<http_body::Frame<Bytes>, &'static str>>, expected: &str| {
            let body = http_body_util::StreamBody::new(futures_util::stream::iter(pieces));
            let request = http::Request::post("http://a/kept").body(body).unwrap();
            let Ok(answer) = service().call(request).await;
            assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), expected);
        };
        let data = |length: usize| Ok(http_body::Frame::data(Bytes::from("x".repeat(length))));
        check(vec![data(3), data(4)], "false false").await;
        check(vec![data(3), Err("broken"), data(4)], "true true").await;
        check(vec![data(60_000), data(60_000)], "true true").await;
    });
}

/// Fields about framing and routing are no trailers, whoever sends them (RFC 9110 section 6.5.1).
#[test]
fn which_trailers_a_handler_sees() {
    run(async {
        let fields =
            [("x-sum", "7"), ("host", "b"), ("content-length", "9"), ("x-sum", "8"), ("content-type", "a")];
        let fields = fields
            .map(|(name, value)| (http::HeaderName::from_static(name), HeaderValue::from_static(value)));
        let body = Full::<Bytes>::from("abc")
            .with_trailers(std::future::ready(Some(Ok(http::HeaderMap::from_iter(fields)))));
        let router = Router::new().post("/", async |mut request: Request| {
            request.bytes(100).await?;
            let names = request.trailers().into_iter().map(|(name, value)| format!("{name}={value:?}"));
            Ok::<_, annulet_http::Error>(names.collect::<Vec<_>>().join(" "))
        });
        let request = http::Request::post("http://a/").body(body).unwrap();
        let Ok(answer) = router.into_service(Limits::default()).call(request).await;
        let seen = answer.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(seen, "x-sum=\"7\" x-sum=\"8\"");
    });
}

/// Over TLS, behind hyper and within our own server.
#[test]
fn what_the_handshake_came_to() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let acceptor = annulet_tls::TlsAcceptor::builder().certificate(certificate.as_bytes(), key.as_bytes());
    let acceptor = acceptor.alpn(["http/1.1"]).build().unwrap();
    run(async move {
        let listen = || {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let port = listener.local_addr().unwrap().port();
            (listener, format!("https://localhost:{port}/who"))
        };
        let (behind, (ours, axums)) = (listen(), (acceptor.clone(), listen()));
        drop(annulet::spawn(async move {
            annulet_hyper::Server::new(service()).serve_tls(behind.0, &acceptor).await
        }));
        let app = axum::Router::new().route(
            "/who",
            axum::routing::get(async |axum::Extension(tls): axum::Extension<annulet_tls::TlsInfo>| {
                format!("{:?}", tls.server_name())
            }),
        );
        let router = Router::new().fallback(annulet_hyper::handler(app));
        drop(annulet::spawn(
            async move { annulet_http::Server::new(router).serve_tls(axums.0, &ours).await },
        ));
        let client = Client::builder().add_root_pem(certificate.as_bytes()).build();
        let text = async |url: &str| client.get(url).send().await.unwrap().text().await.unwrap();
        assert_eq!(text(&behind.1).await, "https Some(\"localhost\") Some(\"http/1.1\") 0");
        assert_eq!(text(&axums.1).await, "Some(\"localhost\")");
    });
}

#[test]
fn behind_http1() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let site = format!("http://{}", listener.local_addr().unwrap());
        drop(annulet::spawn(annulet_hyper::serve(listener, service())));
        let client = Client::new();
        for (path, expected) in
            [("/", "<h1>Index</h1>"), ("/pieces", "abc"), ("/counted", "abc"), ("/nothing", "")]
        {
            let answer = client.get(format!("{site}{path}")).send().await.unwrap();
            assert_eq!(answer.text().await.unwrap(), expected, "{path}");
        }
        let long = "x".repeat(90_000);
        let answer = client.post(format!("{site}/echo")).body(long.clone()).send().await.unwrap();
        assert!(answer.text().await.unwrap() == long);
        let head = client.request(Method::HEAD, format!("{site}/")).send().await.unwrap();
        assert_eq!(head.headers()["content-length"], "14");
        drop(head);
        let answer = client.post(format!("{site}/echo")).body("x".repeat(100_001)).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE);
    });
}

#[test]
fn behind_http2() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(annulet::spawn(annulet_hyper::serve(listener, service())));
        let mut builder = http2::Builder::new(LocalExecutor);
        builder.timer(LoopTimer);
        let stream = TcpStream::connect(address).await.unwrap();
        let (mut sender, connection) = builder.handshake(Io::new(stream)).await.unwrap();
        drop(annulet::spawn(connection));
        let mut ask = async |request: http::request::Builder,
                             content: &str,
                             trailer: Option<&'static str>| {
            let trailers = trailer.map(|value| {
                Ok(http::HeaderMap::from_iter([(
                    http::HeaderName::from_static("x-sum"),
                    HeaderValue::from_static(value),
                )]))
            });
            let body = Full::<Bytes>::from(content.to_owned()).with_trailers(std::future::ready(trailers));
            let answer = sender.send_request(request.body(body).unwrap()).await.unwrap();
            let status = answer.status().as_u16();
            let length = answer
                .headers()
                .get("content-length")
                .map(|length| format!(" of {length:?}"))
                .unwrap_or_default();
            let content = answer.into_body().collect().await.unwrap();
            let trailer = content.trailers().and_then(|trailers| trailers.get("x-sum").cloned());
            format!("{status}{length} [{}] {trailer:?}", String::from_utf8_lossy(&content.to_bytes()))
        };
        let get = |path: &str| http::Request::get(format!("http://b{path}"));
        let post = |path: &str| http::Request::post(format!("http://b{path}"));
        assert_eq!(ask(get("/hello/you"), "", None).await, "200 of \"15\" [hello, you of b] None");
        assert_eq!(ask(post("/echo"), "abc", None).await, "200 of \"3\" [abc] None");
        assert_eq!(ask(post("/trailers"), "abc", Some("7")).await, "200 [abc] Some(\"7\")");
        assert_eq!(ask(get("/counted"), "", None).await, "200 of \"3\" [abc] None");
        assert_eq!(ask(get("/").method("HEAD"), "", None).await, "200 of \"14\" [] None");
        assert_eq!(ask(get("/nothing"), "", None).await, "204 [] None");
        assert!(ask(get("/close"), "", None).await.starts_with("200 "));
    });
}
