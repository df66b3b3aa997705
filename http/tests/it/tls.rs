//! The same over TLS: the server, the client, and others on either side.
use std::cell::Cell;
use std::future::poll_fn;
use std::io::Write;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use annulet::net::{TcpListener, TcpStream};
use annulet_http::tls::{ClientAuth, TlsAcceptor, TlsConnector, TlsStream};
use annulet_http::{Client, Limits, Request, Response, Router, Server, StatusCode};

use crate::authority::Authority;
use crate::client::{limits, router, summary, unhurried};

/// Bounds whatever waits for another process or for the other side.
const TIME_MAX: Duration = Duration::from_secs(30);

/// A server that speaks TLS, and whom to believe.
struct Secure {
    authority: Authority,
    server: Server,
    address: SocketAddr,
}

impl Secure {
    /// Connects with a handshake.
    async fn connect(&self) -> TlsStream {
        let connector = TlsConnector::builder().root_pem(self.authority.root.as_bytes()).build().unwrap();
        let stream = TcpStream::connect(self.address).await.unwrap();
        connector.connect("localhost", stream).await.unwrap()
    }

    /// A client that believes it.
    fn client(&self) -> Client {
        Client::builder().add_root_pem(self.authority.root.as_bytes()).build()
    }

    fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.address.port())
    }
}

/// Runs `test` beside a server that speaks TLS.
fn with_tls<F: Future<Output = ()>>(router: Router, limits: Limits, test: impl FnOnce(Secure) -> F) {
    with_acceptor(router, limits, |_, acceptor| acceptor, test);
}

fn with_acceptor<F: Future<Output = ()>>(
    router: Router,
    limits: Limits,
    change: impl FnOnce(&Authority, annulet_http::tls::AcceptorBuilder) -> annulet_http::tls::AcceptorBuilder,
    test: impl FnOnce(Secure) -> F,
) {
    annulet::run(async {
        let authority = Authority::new("tests of TLS");
        let identity = authority.sign(&["localhost"]);
        let acceptor = TlsAcceptor::builder().certificate(identity.chain.as_bytes(), identity.key.as_bytes());
        let acceptor = change(&authority, acceptor.alpn(["http/1.1"])).build().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = Server::new(router).with_limits(limits);
        let serving = server.clone();
        annulet::spawn(async move { serving.serve_tls(listener, &acceptor).await.unwrap() });
        let test = test(Secure { authority, server, address });
        annulet::time::timeout(TIME_MAX, test).await.expect("the test takes too long");
    });
}

/// Everything up to the end, orderly or not.
async fn read_all(stream: &TlsStream) -> String {
    let mut bytes = Vec::new();
    while let Ok(Some(plaintext)) = stream.recv().await {
        bytes.extend_from_slice(&plaintext);
    }
    String::from_utf8(bytes).unwrap()
}

/// One record for all requests, and one for each byte of them.
fn check(input: &str, expected: &str) {
    for piece_bytes in [input.len(), 1] {
        with_tls(router(), unhurried(), async |secure| {
            let stream = secure.connect().await;
            for piece in input.as_bytes().chunks(piece_bytes) {
                stream.write_all(piece).await.unwrap();
            }
            assert_eq!(summary(&read_all(&stream).await, false), expected, "{piece_bytes}");
        });
    }
}

#[test]
fn requests_are_answered() {
    check(
        "GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /slow HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        "200 [<h1>Index</h1>] 200 close [slow]",
    );
    check(
        "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello\
         POST /echo HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        "200 [hello] 200 close [abc]",
    );
    check("nonsense\r\n\r\n", "400 close [Bad Request]");
}

#[test]
fn the_end_of_an_idle_connection_is_told_with_close_notify() {
    for ends in [false, true] {
        with_tls(router(), limits(), async |secure| {
            let stream = secure.connect().await;
            if ends {
                poll_fn(|cx| stream.poll_shutdown(cx)).await.unwrap();
            }
            assert!(stream.recv().await.unwrap().is_none(), "{ends}");
        });
    }
}

#[test]
fn the_end_is_told_with_close_notify() {
    with_tls(router(), unhurried(), async |secure| {
        let stream = secure.connect().await;
        stream.write_all(b"GET /close HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        while let Some(_answer) = stream.recv().await.unwrap() {}
    });
}

#[test]
fn only_http_1_1_is_agreed_upon() {
    with_tls(router(), unhurried(), async |secure| {
        let root = secure.authority.root.as_bytes();
        for (offered, expected) in [(&["h2", "http/1.1"][..], Some(&b"http/1.1"[..])), (&[], None)] {
            let connector = TlsConnector::builder().root_pem(root).alpn(offered).build().unwrap();
            let stream = TcpStream::connect(secure.address).await.unwrap();
            let stream = connector.connect("localhost", stream).await.unwrap();
            assert_eq!(stream.alpn(), expected);
        }
        let connector = TlsConnector::builder().root_pem(root).alpn(["h2"]).build().unwrap();
        let stream = TcpStream::connect(secure.address).await.unwrap();
        let error = connector.connect("localhost", stream).await.unwrap_err();
        assert!(error.to_string().contains("ALPN"), "{error}");
    });
}

#[test]
fn another_protocol_is_not_served() {
    with_acceptor(
        router(),
        unhurried(),
        |_, acceptor| acceptor.alpn(["h2"]),
        async |secure| {
            let root = secure.authority.root.as_bytes();
            let connector = TlsConnector::builder().root_pem(root).alpn(["h2"]).build().unwrap();
            let stream = TcpStream::connect(secure.address).await.unwrap();
            let stream = connector.connect("localhost", stream).await.unwrap();
            stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
            assert_eq!(read_all(&stream).await, "");
        },
    );
}

/// A connector of the program's own may offer what this client does not speak.
#[test]
fn a_client_that_has_agreed_on_another_protocol_says_so() {
    for (offered, is_ours) in [(&["h2", "http/1.1"][..], false), (&["http/1.1"], true), (&[], true)] {
        with_acceptor(
            router(),
            unhurried(),
            |_, acceptor| acceptor.alpn(["h2", "http/1.1"]),
            async |secure| {
                let root = secure.authority.root.as_bytes();
                let connector = TlsConnector::builder().root_pem(root).alpn(offered).build().unwrap();
                let client = Client::builder().tls(connector).build();
                match client.get(secure.url("/")).send().await {
                    Ok(answer) => assert!(is_ours && answer.status() == StatusCode::OK, "{offered:?}"),
                    Err(error) => {
                        assert!(!is_ours && error.is_tls(), "{offered:?}: {error:?}");
                        let text = std::io::Error::from(error).to_string();
                        assert!(text.contains("h2") && text.contains(".alpn([\"http/1.1\"])"), "{text}");
                    }
                }
            },
        );
    }
}

#[test]
fn a_client_that_says_nothing_has_the_time_of_a_head() {
    with_tls(router(), limits(), async |secure| {
        let stream = TcpStream::connect(secure.address).await.unwrap();
        assert!(stream.recv().await.unwrap().is_none());
        assert_eq!(secure.server.drain_handle().connections(), 0);
    });
}

#[test]
fn who_speaks_http_without_tls_is_told_where_it_is() {
    let exchange = async |secure: &Secure, pieces: &[&[u8]]| {
        let stream = TcpStream::connect(secure.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        for piece in pieces {
            stream.write_all(piece).await.unwrap();
            stream.flush().await.unwrap();
        }
        let mut answer = Vec::new();
        while let Some(bytes) = stream.recv().await.unwrap() {
            answer.extend_from_slice(&bytes);
        }
        answer
    };
    with_tls(router(), unhurried(), async |secure| {
        let told = "400 close [HTTP without TLS, to a port that expects TLS: use https://\n]";
        for pieces in
            [&[&b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..]][..], &[b"P", b"OST / HTTP/1.1\r\nHost: a\r\n\r\n"]]
        {
            let answer = exchange(&secure, pieces).await;
            assert_eq!(summary(&String::from_utf8(answer).unwrap(), false), told);
        }
        // HEAD has no content (RFC 9110 section 9.3.2), but the length that it would have.
        let answer = exchange(&secure, &[b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"]).await;
        let answer = String::from_utf8(answer).unwrap();
        assert_eq!(summary(&answer, true), "400 close []");
        assert!(answer.contains("content-length: 59\r\n"), "{answer}");
        // A load balancer's header before TLS (version 1, and the signature of version 2).
        for header in [&b"PROXY TCP4 192.0.2.1 192.0.2.2 4000 443\r\n"[..], b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"]
        {
            let answer = exchange(&secure, &[&[header, b"\x16\x03\x01\x02\0"].concat()]).await;
            assert_eq!(
                summary(&String::from_utf8(answer).unwrap(), false),
                "400 close [a PROXY header, which this server does not expect\n]"
            );
        }
        // An alert (RFC 8446 section 6), for who may speak something else.
        for pieces in [&[&b"get / HTTP/1.1\r\n\r\n"[..]][..], &[b"\x16", b"GET / HTTP/1.1\r\n\r\n"]] {
            let answer = exchange(&secure, pieces).await;
            assert_eq!((answer[0], answer.len()), (21, 7), "{answer:?}");
        }
        // Others are served as before.
        assert_eq!(secure.client().get(secure.url("/")).send().await.unwrap().status(), StatusCode::OK);
        assert_eq!(secure.server.drain_handle().connections(), 1);
    });
}

#[test]
fn handshakes_count_as_connections() {
    with_tls(router(), Limits { connections: 1, ..unhurried() }, async |secure| {
        let first = TcpStream::connect(secure.address).await.unwrap();
        let drain = secure.server.drain_handle();
        while drain.connections() == 0 {
            annulet::time::sleep(Duration::from_millis(1)).await;
        }
        let second = TcpStream::connect(secure.address).await.unwrap();
        assert!(second.recv().await.unwrap().is_none());
        drop(first);
        while drain.connections() > 0 {
            annulet::time::sleep(Duration::from_millis(1)).await;
        }
        assert!(secure.client().get(secure.url("/")).send().await.is_ok());
    });
}

/// Nobody sees what is not decrypted, but it is in memory.
#[test]
fn records_that_do_not_come_whole_are_held() {
    let limits = Limits { memory_bytes: 8 * 1024, ..unhurried() };
    with_tls(router(), limits, async |secure| {
        // Half a ClientHello of a length that is allowed, and then nothing.
        let begun =
            |bytes: usize| [&b"\x16\x03\x01\x40\x00\x01\x00\x3f\xfc\x03\x03"[..], &vec![0; bytes]].concat();
        let small = TcpStream::connect(secure.address).await.unwrap();
        small.write_all(&begun(3000)).await.unwrap();
        small.flush().await.unwrap();
        let large = TcpStream::connect(secure.address).await.unwrap();
        let _ = large.write_all(&begun(12_000)).await;
        assert!(!matches!(large.recv().await, Ok(Some(_))), "the server hangs up");
        // Half a record of a connection that is idle.
        let record = |bytes: usize| [&b"\x17\x03\x03\x40\x00"[..], &vec![0; bytes]].concat();
        let stream = secure.connect().await;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        assert!(stream.recv().await.unwrap().is_some(), "who needs little is served");
        let _ = stream.get_ref().write_all(&record(12_000)).await;
        assert_eq!(summary(&read_all(&stream).await, false), "503 close [Service Unavailable]");
        // All has gone back, but for the small one's.
        assert!(annulet_tls::undecrypted_bytes() < 4096, "{}", annulet_tls::undecrypted_bytes());
        let stream = secure.connect().await;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
        assert_eq!(summary(&read_all(&stream).await, false), "200 close [<h1>Index</h1>]");
        drop(small);
    });
}

/// A program's own clients are on the same thread. What their servers send is none of its clients' doing.
#[test]
fn records_of_other_servers_are_not_held_against_clients() {
    let limits = Limits { memory_bytes: 8 * 1024, ..unhurried() };
    with_tls(router(), limits, async |secure| {
        let identity = secure.authority.sign(&["localhost"]);
        let acceptor = TlsAcceptor::builder().certificate(identity.chain.as_bytes(), identity.key.as_bytes());
        let (acceptor, listener) = (acceptor.build().unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let connector = TlsConnector::builder().root_pem(secure.authority.root.as_bytes()).build().unwrap();
        let accepted = listener.accept().await.unwrap();
        let (client, other) =
            annulet::join(connector.connect("localhost", stream), acceptor.accept(accepted)).await;
        let (client, other) = (client.unwrap(), other.unwrap());
        other.get_ref().write_all(&[&b"\x17\x03\x03\x40\x00"[..], &[0; 12_000]].concat()).await.unwrap();
        other.flush().await.unwrap();
        let mut received = std::pin::pin!(client.recv());
        poll_fn(|cx| {
            assert!(received.as_mut().poll(cx).is_pending());
            if client.undecrypted() < 12_000 { Poll::Pending } else { Poll::Ready(()) }
        })
        .await;
        let stream = secure.connect().await;
        let body = "x".repeat(6000);
        let head = "POST /echo HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 6000\r\n\r\n";
        stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
        assert_eq!(summary(&read_all(&stream).await, false), "200 close [6000 bytes]");
    });
}

/// RFC 9110 section 7.4: over TLS it is where it belongs.
#[test]
fn an_https_uri_is_a_target() {
    check("GET https://a/ HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "200 close [<h1>Index</h1>]");
}

#[test]
fn a_handshake_does_not_hold_the_drain_up() {
    with_tls(router(), unhurried(), async |secure| {
        let stream = TcpStream::connect(secure.address).await.unwrap();
        let drain = secure.server.drain_handle();
        while drain.connections() == 0 {
            annulet::time::sleep(Duration::from_millis(1)).await;
        }
        drain.start();
        drain.finished().await;
        assert!(stream.recv().await.unwrap().is_none());
    });
}

/// What was encrypted and not taken counts for what a connection may have waiting.
#[test]
fn a_client_that_does_not_read_gets_no_further_answers_made() {
    // Of 40 kB each: more than the kernel takes for both sides.
    const REQUESTS: usize = 600;
    let called = Rc::new(Cell::new(0));
    let calls = called.clone();
    let router = Router::new().get("/large", move |_: Request| {
        calls.set(calls.get() + 1);
        async { "x".repeat(40_000) }
    });
    with_tls(router, unhurried(), async |secure| {
        let stream = secure.connect().await;
        let mut is_held = false;
        for number in 1..=REQUESTS {
            let end = if number == REQUESTS { "Connection: close\r\n\r\n" } else { "\r\n" };
            stream.write_all(format!("GET /large HTTP/1.1\r\nHost: a\r\n{end}").as_bytes()).await.unwrap();
            stream.flush().await.unwrap();
            // Each by itself, for as long as they are answered: what the answers before it have left unsent is all that can hold it back.
            for _ in 0..400 {
                if is_held || called.get() == number {
                    break;
                }
                annulet::time::sleep(Duration::from_millis(1)).await;
            }
            is_held |= called.get() < number;
        }
        // Until no more are made. If nothing held them back, all of them would be.
        let mut before = usize::MAX;
        while before != called.get() {
            before = called.get();
            annulet::time::sleep(Duration::from_millis(400)).await;
        }
        assert!(called.get() < REQUESTS, "all {REQUESTS} answers were made");
        let answers = read_all(&stream).await;
        assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), REQUESTS);
    });
}

#[test]
fn a_client_keeps_its_connection() {
    with_tls(router(), unhurried(), async |secure| {
        let client = secure.client();
        for round in 0..3 {
            let answer = client.get(secure.url("/hello/you")).send().await.unwrap();
            assert_eq!(answer.text().await.unwrap(), "<h1>hello, you!</h1>");
            assert_eq!((client.stats().opened, client.stats().reused), (1, round));
        }
        let answer = client.post(secure.url("/count")).body("x".repeat(90_000)).send().await.unwrap();
        assert_eq!(answer.text().await.unwrap(), "90000");
        let answer = client.get(secure.url("/huge")).send().await.unwrap();
        assert_eq!(answer.bytes().await.unwrap().len(), crate::client::HUGE_BYTES);
        assert_eq!((client.stats().opened, client.stats().idle), (1, 1));
    });
}

#[test]
fn schemes_do_not_share_connections() {
    with_tls(router(), unhurried(), async |secure| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let plain = format!("http://localhost:{}/", listener.local_addr().unwrap().port());
        let server = secure.server.clone();
        annulet::spawn(async move { server.serve(listener).await.unwrap() });
        let client = secure.client();
        for url in [secure.url("/"), plain] {
            let answer = client.get(&url).send().await.unwrap();
            assert_eq!(answer.text().await.unwrap(), "<h1>Index</h1>", "{url}");
        }
        assert_eq!((client.stats().opened, client.stats().idle), (2, 2));
        // The port of one with the scheme of the other.
        let answer = client.get(secure.url("/").replace("https", "http")).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
    });
}

#[test]
fn whom_a_client_does_not_believe() {
    with_tls(router(), unhurried(), async |secure| {
        let check = async |client: Client, url: String, expected: &str| {
            let error = client.get(url).send().await.unwrap_err();
            assert!(error.is_tls() && error.is_connect(), "{error}");
            let text = std::io::Error::from(error).to_string();
            assert!(text.contains(expected), "{text}");
        };
        let other = Authority::new("another");
        let believes_other = Client::builder().add_root_pem(other.root.as_bytes()).build();
        check(believes_other, secure.url("/"), "root_pem").await;
        let by_address = secure.url("/").replace("localhost", "127.0.0.1");
        check(secure.client(), by_address.clone(), "not for 127.0.0.1, but for localhost").await;
        check(Client::builder().add_root_pem(b"nothing").build(), secure.url("/"), "BEGIN CERTIFICATE").await;
        let plain = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("https://{}/", plain.local_addr().unwrap());
        let server = secure.server.clone();
        annulet::spawn(async move { server.serve(plain).await.unwrap() });
        check(secure.client(), url, "not TLS").await;
        let client = Client::builder().danger_accept_invalid_certificates().build();
        assert_eq!(client.get(by_address).send().await.unwrap().status(), StatusCode::OK);
    });
}

#[test]
fn clients_show_certificates() {
    with_acceptor(
        router(),
        unhurried(),
        |authority, acceptor| acceptor.client_roots(authority.root.as_bytes(), ClientAuth::Required),
        async |secure| {
            let root = secure.authority.root.as_bytes();
            let nobody = secure.client().get(secure.url("/")).send().await.unwrap_err();
            let text = std::io::Error::from(nobody).to_string();
            assert!(text.contains("client certificate"), "{text}");
            let identity = secure.authority.sign(&["somebody"]);
            let connector = TlsConnector::builder()
                .root_pem(root)
                .certificate(identity.chain.as_bytes(), identity.key.as_bytes());
            let client = Client::builder().tls(connector.build().unwrap()).build();
            assert_eq!(client.get(secure.url("/")).send().await.unwrap().status(), StatusCode::OK);
        },
    );
}

#[test]
fn handlers_see_who_is_there() {
    let who = async |mut request: Request| {
        let length = request.bytes(100).await?.len();
        let Some(tls) = request.tls() else { return Ok(format!("{} {length}", request.scheme())) };
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok::<_, annulet_http::Error>(format!(
            "{} {length} {:?} {:?} {:?} {}",
            request.scheme(),
            tls.server_name(),
            tls.alpn().map(text),
            tls.version(),
            tls.peer_certificates().len()
        ))
    };
    let router = Router::new().get("/who", who).post("/who", who);
    with_acceptor(
        router,
        unhurried(),
        |authority, acceptor| acceptor.client_roots(authority.root.as_bytes(), ClientAuth::Optional),
        async |secure| {
            let root = secure.authority.root.as_bytes();
            let identity = secure.authority.sign(&["somebody"]);
            let connector = TlsConnector::builder()
                .root_pem(root)
                .certificate(identity.chain.as_bytes(), identity.key.as_bytes());
            let shown = Client::builder().tls(connector.build().unwrap()).build();
            for (client, expected) in [
                (secure.client(), "https 0 Some(\"localhost\") Some(\"http/1.1\") Tls13 0"),
                (shown, "https 0 Some(\"localhost\") None Tls13 1"),
            ] {
                for _ in 0..2 {
                    let answer = client.get(secure.url("/who")).send().await.unwrap();
                    assert_eq!(answer.text().await.unwrap(), expected);
                    // A request with a body goes another way to its handler.
                    let answer = client.post(secure.url("/who")).body("abc").send().await.unwrap();
                    assert_eq!(answer.text().await.unwrap(), expected.replace(" 0 Some", " 3 Some"));
                }
                assert_eq!(client.stats().opened, 1);
            }
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let plain = format!("http://{}/who", listener.local_addr().unwrap());
            let server = secure.server.clone();
            annulet::spawn(async move { server.serve(listener).await.unwrap() });
            let answer = Client::new().get(&plain).header("x-forwarded-proto", "https").send().await.unwrap();
            assert_eq!(answer.text().await.unwrap(), "http 0", "and nobody else is believed");
        },
    );
}

#[test]
fn a_connection_leaves_http_and_stays_safe() {
    let router = Router::new().get("/shout", async |request: Request| {
        let answer = request.upgrade("shout", async |connection| {
            assert!(connection.stream.is_secure() && connection.stream.tls().is_some());
            while let Ok(Some(heard)) = connection.stream.recv().await {
                connection.stream.write_all(&heard.to_ascii_uppercase()).await.unwrap();
            }
            connection.stream.close(TIME_MAX).await.unwrap();
        });
        answer.unwrap_or_else(|| Response::upgrade_required("shout"))
    });
    with_tls(router, unhurried(), async |secure| {
        let answer = secure.client().get(secure.url("/shout")).upgrade("shout").send().await.unwrap();
        let connection = answer.upgraded().unwrap();
        assert!(connection.stream.into_tcp().is_err());
        let answer = secure.client().get(secure.url("/shout")).upgrade("shout").send().await.unwrap();
        let connection = answer.upgraded().unwrap();
        connection.stream.write_all(b"hello").await.unwrap();
        let mut heard = Vec::new();
        while heard.len() < 5 {
            heard.extend_from_slice(&connection.stream.recv().await.unwrap().unwrap());
        }
        assert_eq!(heard, b"HELLO");
        connection.stream.shutdown().await.unwrap();
        assert!(connection.stream.recv().await.unwrap().is_none());
    });
}

/// Whether a program is there; says so if it is not.
fn is_there(program: &str, argument: &str) -> bool {
    let found = Command::new(program).arg(argument).output().is_ok_and(|output| output.status.success());
    if !found {
        eprintln!("skipped: there is no `{program}` on this machine");
    }
    found
}

#[test]
fn curl_talks_to_our_server() {
    if !is_there("curl", "--version") {
        return;
    }
    with_tls(router(), unhurried(), async |secure| {
        let root = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(root.path(), &secure.authority.root).unwrap();
        let mut command = Command::new("curl");
        command.args(["-sS", "--max-time", "20", "--noproxy", "*", "--http1.1", "--cacert"]).arg(root.path());
        command.args(["--resolve", &format!("localhost:{}:127.0.0.1", secure.address.port())]);
        // Two on one connection.
        command.args([secure.url("/hello/curl"), secure.url("/")]);
        let output = annulet::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "<h1>hello, curl!</h1><h1>Index</h1>", "{said}");
    });
}

#[test]
fn s_client_talks_to_our_server() {
    if !is_there("openssl", "version") {
        return;
    }
    for version in ["-tls1_3", "-tls1_2"] {
        with_tls(router(), unhurried(), async |secure| {
            let root = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(root.path(), &secure.authority.root).unwrap();
            let mut command = Command::new("openssl");
            command.args(["s_client", "-connect", &secure.address.to_string(), "-servername", "localhost"]);
            command
                .args(["-alpn", "http/1.1", "-verify_return_error", "-quiet", version, "-CAfile"])
                .arg(root.path());
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
            let output = annulet::spawn_blocking(move || {
                let mut child = command.spawn().unwrap();
                let request = b"GET /hello/openssl HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
                let mut stdin = child.stdin.take().unwrap();
                stdin.write_all(request).unwrap();
                let output = child.wait_with_output().unwrap();
                drop(stdin);
                output
            });
            let said = String::from_utf8(output.await.unwrap().stdout).unwrap();
            assert!(
                said.starts_with("HTTP/1.1 200 OK\r\n") && said.ends_with("<h1>hello, openssl!</h1>"),
                "{said}"
            );
        });
    }
}

/// One certificate for each of two names.
#[test]
fn the_name_chooses_the_certificate() {
    let second = Authority::new("the second");
    let root = second.root.clone();
    with_acceptor(
        router(),
        unhurried(),
        |_, acceptor| {
            let identity = second.sign(&["second.localhost"]);
            acceptor.certificate(identity.chain.as_bytes(), identity.key.as_bytes())
        },
        async |secure| {
            let connector = TlsConnector::builder().root_pem(root.as_bytes()).build().unwrap();
            let stream = TcpStream::connect(secure.address).await.unwrap();
            assert!(connector.connect("second.localhost", stream).await.is_ok());
            assert!(secure.client().get(secure.url("/")).send().await.is_ok());
        },
    );
}

/// A refusal for want of memory is of the request at hand: what follows it, or its body, says nothing of its method.
#[test]
fn a_refusal_for_memory_has_the_right_method() {
    let router = Router::new().any("/wait", async |_: Request| {
        annulet::yield_now().await;
        "late"
    });
    let ahead = format!("HEAD /{} HT", "y".repeat(8000));
    with_tls(router, Limits { memory_bytes: 20, ..unhurried() }, async |secure| {
        for (head, content) in [
            ("HEAD /wait HTTP/1.1\r\nHost: a\r\n\r\n", ""),
            ("GET /wait HTTP/1.1\r\nHost: a\r\n\r\n", "Service Unavailable"),
            ("POST /wait HTTP/1.1\r\nHost: a\r\nContent-Length: 9000\r\n\r\n", "Service Unavailable"),
        ] {
            let stream = secure.connect().await;
            stream.write_all(format!("{head}{ahead}").as_bytes()).await.unwrap();
            stream.flush().await.unwrap();
            let all = read_all(&stream).await;
            let (answer, rest) = all.split_once("\r\n\r\n").unwrap();
            assert!(answer.starts_with("HTTP/1.1 503 "), "{head:?}: {answer}");
            assert_eq!(rest, content, "{head:?}");
        }
    });
}

/// Whose server gets an answer that is made by hand, and then waits for the end.
#[test]
fn a_client_ends_its_idle_connections_in_order() {
    annulet::run(async {
        let authority = Authority::new("tests of TLS");
        let identity = authority.sign(&["localhost"]);
        let acceptor = TlsAcceptor::builder().certificate(identity.chain.as_bytes(), identity.key.as_bytes());
        let acceptor = acceptor.alpn(["http/1.1"]).build().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("https://localhost:{}/", listener.local_addr().unwrap().port());
        let builder = || Client::builder().add_root_pem(authority.root.as_bytes());
        // The time is up; the client goes; another host needs the place.
        for way in 0..3 {
            let idle = Duration::from_millis(if way == 0 { 20 } else { 60_000 });
            let client = builder().idle_timeout(idle).connections(1).build();
            let serve = async {
                let stream = acceptor.accept(listener.accept().await.unwrap()).await.unwrap();
                assert!(stream.recv().await.unwrap().is_some());
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi").await.unwrap();
                stream.flush().await.unwrap();
                // `UnexpectedEof` where nobody says that it is the end.
                stream.recv().await.map(|plaintext| plaintext.is_some())
            };
            let ask = async {
                assert_eq!(client.get(&url).send().await.unwrap().text().await.unwrap(), "hi");
                assert_eq!(client.stats().idle, 1);
                match way {
                    0 => std::future::pending().await,
                    1 => drop(client),
                    _ => {
                        let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
                        client.get(format!("http://{nobody}/")).send().await.unwrap_err();
                    }
                }
                std::future::pending::<()>().await;
            };
            let ended = annulet::time::timeout(TIME_MAX, annulet::select(serve, ask)).await;
            let Ok(annulet::Either::Left(ended)) = ended else { panic!("the end does not come: {way}") };
            assert!(!ended.unwrap(), "{way}");
        }
    });
}
