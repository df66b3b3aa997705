//! A client that sends raw bytes in pieces and looks at what comes back.
use annulet::net::{TcpListener, TcpStream};
use annulet_http::{Limits, Request, Response, Router, Server, StatusCode, escape};
use std::time::Duration;

/// Small limits, so that tests need few bytes and little time.
pub(crate) fn limits() -> Limits {
    Limits {
        head_bytes: 1024,
        target_bytes: 256,
        headers: 8,
        body_bytes: 100_000,
        drain_bytes: 1000,
        head_timeout: Duration::from_millis(50),
        body_timeout: Duration::from_millis(50),
        body_total_timeout: Duration::from_millis(200),
        keep_alive_timeout: Duration::from_millis(100),
        write_timeout: Duration::from_millis(100),
        linger: Duration::from_millis(100),
        ..Limits::default()
    }
}

/// The same without hurry, for what is not about time: the machine may be busy with other things.
pub(crate) fn unhurried() -> Limits {
    let long = Duration::from_secs(10);
    Limits {
        head_timeout: long,
        body_timeout: long,
        body_total_timeout: long,
        keep_alive_timeout: long,
        write_timeout: long,
        ..limits()
    }
}

/// More than the kernel takes for a client that does not read.
pub(crate) const HUGE_BYTES: usize = 16 * 1024 * 1024;

pub(crate) fn router() -> Router {
    Router::new()
        .get("/", async |_: Request| Response::html("<h1>Index</h1>"))
        .get("/hello/{name}", async |request: Request| {
            Response::html_fmt(format_args!(
                "<h1>hello, {}!</h1>",
                escape(request.param("name").unwrap_or_default())
            ))
        })
        .get("/slow", async |_: Request| {
            annulet::time::sleep(Duration::from_millis(5)).await;
            "slow"
        })
        .get("/panic", async |request: Request| assert!(request.query().is_some(), "on purpose"))
        .get("/panic/later", async |request: Request| {
            annulet::yield_now().await;
            assert!(request.query().is_some(), "on purpose");
        })
        .get("/close", async |_: Request| Response::text("bye").with_close())
        .get("/large", async |_: Request| "x".repeat(40_000))
        .get("/huge", async |_: Request| "x".repeat(HUGE_BYTES))
        .get("/forever", |_| std::future::pending::<()>())
        .post("/echo", async |mut request: Request| match request.bytes(50_000).await {
            Ok(bytes) => Ok(bytes),
            Err(error) => Err(error),
        })
        .post("/count", async |mut request: Request| {
            let mut count = 0;
            while let Some(chunk) = request.chunk().await? {
                count += chunk.len();
            }
            Ok::<_, annulet_http::Error>(count.to_string())
        })
        .post("/keep", async |request: Request| {
            annulet::spawn(async move {
                let _kept = request;
                std::future::pending::<()>().await;
            });
            "kept"
        })
        .get("/pieces", async |_: Request| {
            Response::stream(futures_util::stream::iter(["ab", "", "cde"].map(Ok::<_, std::io::Error>)))
        })
        .get("/hint", async |_: Request| Response::early_hints([], async { "page" }))
        .post("/hint", async |_: Request| Response::early_hints([], async { "page" }))
        .post("/ignore", async |_: Request| StatusCode::ACCEPTED)
        .post("/first", async |mut request: Request| {
            let first = request.chunk().await?;
            Ok::<_, annulet_http::Error>(format!("{}", first.is_some()))
        })
}

/// Runs `test` beside a server with these routes.
pub(crate) fn with_router<F: Future<Output = ()>>(
    router: Router,
    test: impl FnOnce(Server, std::net::SocketAddr) -> F,
) {
    run_beside(router, unhurried(), test);
}

/// Runs `test` beside a server with [`router`] and [`limits`].
pub(crate) fn with_server<F: Future<Output = ()>>(test: impl FnOnce(Server, std::net::SocketAddr) -> F) {
    with_server_and_limits(limits(), test);
}

/// As [`with_server`], with other limits.
pub(crate) fn with_server_and_limits<F: Future<Output = ()>>(
    limits: Limits,
    test: impl FnOnce(Server, std::net::SocketAddr) -> F,
) {
    run_beside(router(), limits, test);
}

/// Runs `test` beside a server with these routes and limits.
pub(crate) fn run_beside<F: Future<Output = ()>>(
    router: Router,
    limits: Limits,
    test: impl FnOnce(Server, std::net::SocketAddr) -> F,
) {
    annulet::run(async {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = Server::new(router).with_limits(limits);
        let serving = server.clone();
        annulet::spawn(async move { serving.serve(listener).await.unwrap() });
        let test = test(server, address);
        annulet::time::timeout(Duration::from_secs(20), test).await.expect("the test takes too long");
    });
}

/// A client whose kernel takes little before its program reads.
pub(crate) fn connect_narrow(address: std::net::SocketAddr) -> TcpStream {
    let stream = std::net::TcpStream::connect(address).unwrap();
    rustix::net::sockopt::set_socket_recv_buffer_size(&stream, 4096).unwrap();
    TcpStream::from_std(stream).unwrap()
}

/// How a request is delivered.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Delivery {
    Whole,
    PerLine,
    PerByte,
}

pub(crate) async fn send(stream: &TcpStream, input: &[u8], delivery: Delivery) {
    let pieces: Vec<&[u8]> = match delivery {
        Delivery::Whole => vec![input],
        Delivery::PerLine => input.split_inclusive(|&b| b == b'\n').collect(),
        Delivery::PerByte => input.chunks(1).collect(),
    };
    for piece in pieces {
        // An error means that the server has had enough: what it said is what counts.
        if stream.write_all(piece).await.is_err() || stream.flush().await.is_err() {
            return;
        }
        annulet::yield_now().await;
    }
}

/// Everything up to the end of the stream.
pub(crate) async fn read_all(stream: &TcpStream) -> String {
    let mut bytes = Vec::new();
    while let Ok(Some(lease)) = stream.recv().await {
        bytes.extend_from_slice(&lease);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Status, `close` if the answer says so, and content, for each answer.
pub(crate) fn summary(answers: &str, is_head: bool) -> String {
    let mut rest = answers;
    let mut lines = Vec::new();
    while let Some((head, after)) = rest.split_once("\r\n\r\n") {
        let status = head.strip_prefix("HTTP/1.1 ").expect("a status line")[..3].to_owned();
        let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
        let length: usize = field("content-length: ").map_or(0, |length| length.parse().unwrap());
        let (content, after) = after.split_at(if is_head { 0 } else { length });
        let allow = field("allow: ").map(|allow| format!(" allow: {allow}")).unwrap_or_default();
        let connection = field("connection: ").map(|option| format!(" {option}")).unwrap_or_default();
        let content =
            if content.len() > 60 { format!("{} bytes", content.len()) } else { content.to_owned() };
        lines.push(format!("{status}{allow}{connection} [{content}]"));
        if status != "100" {
            assert!(head.contains("\r\ndate: "), "no date: {head}");
        }
        rest = after;
    }
    assert_eq!(rest, "", "half an answer");
    lines.join(" ")
}

/// Sends a request, ends the stream, and compares the answers. The outcome must not depend on the delivery.
pub(crate) fn check(input: &str, expected: &str) {
    check_bytes(input.as_bytes(), expected);
}

pub(crate) fn check_bytes(input: &[u8], expected: &str) {
    for delivery in [Delivery::Whole, Delivery::PerLine, Delivery::PerByte] {
        with_server_and_limits(unhurried(), async |_, address| {
            let stream = TcpStream::connect(address).await.unwrap();
            stream.set_nodelay(true).unwrap();
            send(&stream, input, delivery).await;
            // May fail when the server was faster.
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let answers = read_all(&stream).await;
            let is_head = input.trim_ascii_start().starts_with(b"HEAD");
            assert_eq!(
                summary(&answers, is_head),
                expected,
                "{delivery:?} {:?}",
                String::from_utf8_lossy(&input[..input.len().min(300)])
            );
        });
    }
}
