//! Limits on what all connections of a core take together, and on how many there are.
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use annulet::net::{TcpListener, TcpStream};
use annulet_http::{HeaderValue, Limits, Request, Router, Server, header};

use crate::client::{
    connect_narrow, limits, read_all, run_beside, summary, unhurried, with_router, with_server_and_limits,
};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const INDEX: &str = "200 [<h1>Index</h1>]";
const LAST: &str = "200 close [<h1>Index</h1>]";

/// Nobody says that half a head has arrived. Far more than a busy machine needs.
const HALF_ARRIVES: Duration = Duration::from_millis(400);

async fn send(address: SocketAddr, input: &str) -> TcpStream {
    let stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(input.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    stream
}

async fn answers(stream: &TcpStream) -> String {
    summary(&read_all(stream).await, false)
}

/// One answer; the connection stays.
async fn answer(stream: &TcpStream) -> String {
    summary(&String::from_utf8_lossy(&stream.recv().await.unwrap().unwrap()), false)
}

async fn wait_for_connections(server: &Server, count: usize) {
    while server.drain_handle().connections() != count {
        annulet::time::sleep(Duration::from_millis(1)).await;
    }
}

#[test]
fn requests_of_a_connection() {
    let limits = Limits { requests_per_connection: 2, ..unhurried() };
    with_server_and_limits(limits, async |_, address| {
        assert_eq!(answers(&send(address, &GET.repeat(3)).await).await, format!("{INDEX} {LAST}"));
        let stream = send(address, GET).await;
        assert_eq!(answer(&stream).await, INDEX);
        stream.write_all(GET.as_bytes()).await.unwrap();
        assert_eq!(answers(&stream).await, LAST);
        let post = "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi";
        assert_eq!(answers(&send(address, &post.repeat(3)).await).await, "200 [hi] 200 close [hi]");
    });
    let limits = Limits { requests_per_connection: 0, ..unhurried() };
    with_server_and_limits(limits, async |_, address| {
        assert_eq!(answers(&send(address, &GET.repeat(3)).await).await, LAST, "one at least");
    });
}

#[test]
fn connections_of_a_core() {
    let limits = Limits { connections: 2, ..unhurried() };
    with_server_and_limits(limits, async |server, address| {
        let [one, two] = [send(address, GET).await, send(address, GET).await];
        assert_eq!((answer(&one).await.as_str(), answer(&two).await.as_str()), (INDEX, INDEX));
        assert_eq!(answers(&send(address, GET).await).await, "503 close [Service Unavailable]");
        drop(one);
        wait_for_connections(&server, 1).await;
        assert_eq!(answer(&send(address, GET).await).await, INDEX);
    });
}

#[test]
fn connections_of_an_address() {
    let limits = Limits { connections_per_address: 1, ..unhurried() };
    with_server_and_limits(limits, async |server, address| {
        let one = send(address, GET).await;
        assert_eq!(answer(&one).await, INDEX);
        assert_eq!(answers(&send(address, GET).await).await, "429 close [Too Many Requests]");
        // Another address of this machine.
        let other = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        other.bind(&"127.0.0.2:0".parse::<SocketAddr>().unwrap().into()).unwrap();
        other.connect(&address.into()).unwrap();
        let other = TcpStream::from_std(other.into()).unwrap();
        other.write_all(GET.as_bytes()).await.unwrap();
        assert_eq!(answer(&other).await, INDEX);
        drop((one, other));
        wait_for_connections(&server, 0).await;
        assert_eq!(answer(&send(address, GET).await).await, INDEX);
    });
}

/// Sends a body in pieces, one every 5 ms, until the connection ends or the body does.
async fn drip(address: SocketAddr, piece: &str, count: usize) -> (String, Duration) {
    let length = piece.len() * count;
    let head =
        format!("POST /count HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
    let stream = send(address, &head).await;
    let begun = annulet::time::now();
    for _ in 0..count {
        if stream.write_all(piece.as_bytes()).await.is_err() || stream.flush().await.is_err() {
            break;
        }
        annulet::time::sleep(Duration::from_millis(5)).await;
    }
    (answers(&stream).await, annulet::time::now() - begun)
}

#[test]
fn the_rate_of_a_body() {
    let grace = Duration::from_millis(100);
    let limits = Limits { body_rate_min: 10_000, body_rate_grace: grace, linger: grace, ..unhurried() };
    with_server_and_limits(limits, async |_, address| {
        let (answer, took) = drip(address, "x", 400).await;
        assert_eq!(answer, "408 close [Request Timeout]");
        assert!(took >= grace, "{took:?}");
        // A thousand times as fast.
        let (answer, _) = drip(address, &"x".repeat(1000), 40).await;
        assert_eq!(answer, "200 close [40000]");
    });
}

#[test]
fn memory_for_heads() {
    let limits = Limits { memory_bytes: 9000, head_bytes: 8192, ..unhurried() };
    with_server_and_limits(limits, async |_, address| {
        let half = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "x".repeat(5000));
        let one = send(address, &half).await;
        annulet::time::sleep(HALF_ARRIVES).await;
        assert_eq!(answers(&send(address, &half).await).await, "503 close [Service Unavailable]");
        // Who needs no more than a receive buffer is served, in one piece and in two.
        assert_eq!(answer(&send(address, GET).await).await, INDEX);
        let small = send(address, "GET / HTTP/1.1\r\nHost: a\r\n").await;
        annulet::time::sleep(HALF_ARRIVES).await;
        small.write_all(b"\r\n").await.unwrap();
        assert_eq!(answer(&small).await, INDEX);
        one.write_all(b"\r\n\r\n").await.unwrap();
        assert_eq!(answer(&one).await, INDEX);
        let two = send(address, &half).await;
        annulet::time::sleep(HALF_ARRIVES).await;
        two.write_all(b"\r\n\r\n").await.unwrap();
        assert_eq!(answer(&two).await, INDEX);
    });
}

#[test]
fn memory_for_bodies() {
    let limits = Limits { memory_bytes: 20_000, ..unhurried() };
    with_server_and_limits(limits, async |_, address| {
        let post = |length: usize| {
            let body = "x".repeat(length);
            format!("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{body}")
        };
        let one = send(address, &post(10_000)).await;
        let mut got = 0;
        while got < 10_000 {
            got += one.recv().await.unwrap().unwrap().len();
        }
        let two = send(address, &post(40_000)).await;
        let answer = String::from_utf8_lossy(&two.recv().await.unwrap().unwrap()).into_owned();
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        // What was held is free again.
        let three = send(address, &(post(15_000) + GET)).await;
        three.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(answers(&three).await, format!("200 [15000 bytes] {INDEX}"));
    });
}

/// Waits until the loop has seen what the other side does.
async fn until(condition: impl Fn() -> bool) {
    for _ in 0..10_000 {
        if condition() {
            return;
        }
        annulet::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("it does not come to that");
}

/// Answers that slow clients do not take count, however short: nobody gets more than a small one while they wait.
#[test]
fn memory_for_answers_that_wait() {
    const SLOW: usize = 8;
    let page = "x".repeat(60_000);
    let router = crate::client::router().get("/page", move |_: Request| {
        let page = page.clone();
        async { page }
    });
    let limits = Limits { memory_bytes: 300_000, head_bytes: 8192, ..unhurried() };
    run_beside(router, limits, async |_, address| {
        let page = "GET /page HTTP/1.1\r\nHost: a\r\n\r\n";
        let mut slow = Vec::new();
        for _ in 0..SLOW {
            let stream = connect_narrow(address);
            // The first of them is what the client's kernel takes.
            stream.write_all(page.repeat(3).as_bytes()).await.unwrap();
            stream.flush().await.unwrap();
            slow.push(stream);
        }
        until(|| annulet::net::unsent_bytes() > 300_000).await;
        assert_eq!(answers(&send(address, page).await).await, "503 close [Service Unavailable]");
        assert_eq!(answer(&send(address, GET).await).await, INDEX);
        let head = send(address, "HEAD /page HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
        assert!(read_all(&head).await.starts_with("HTTP/1.1 200 OK\r\n"), "a head is short");
        // Small ones come as fast as they are read.
        let many = send(address, &(GET.repeat(1000) + "GET / HTTP/1.0\r\n\r\n")).await;
        assert_eq!(answers(&many).await, format!("{} {LAST}", [INDEX; 1000].join(" ")));
        // Half of a long head is not let in either; a short one is, and no longer than that.
        let half = |len| format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "x".repeat(len));
        assert_eq!(answers(&send(address, &half(5000)).await).await, "503 close [Service Unavailable]");
        let short = send(address, &half(500)).await;
        annulet::time::sleep(HALF_ARRIVES).await;
        short.write_all(b"\r\n\r\n").await.unwrap();
        assert_eq!(answer(&short).await, INDEX);
        let grows = send(address, &half(500)).await;
        annulet::time::sleep(HALF_ARRIVES).await;
        grows.write_all(&[b'x'; 4000]).await.unwrap();
        assert_eq!(answers(&grows).await, "503 close [Service Unavailable]");
        for stream in &slow {
            stream.set_zero_linger().unwrap();
        }
        drop(slow);
        until(|| annulet::net::unsent_bytes() == 0).await;
        let again = send(address, &(page.to_owned() + GET)).await;
        again.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(answers(&again).await, format!("200 [60000 bytes] {INDEX}"));
    });
}

/// What is received behind a request whose answer's head is out finds no memory: that is not told inside of the content.
#[test]
fn no_answer_stands_in_the_content_of_another() {
    let router = Router::new().get("/large", async |_: Request| "x".repeat(300_000));
    let limits = Limits { memory_bytes: 20, ..unhurried() };
    run_beside(router, limits, async |_, address| {
        let input = format!("GET /large HTTP/1.1\r\nHost: a\r\n\r\nGET /{} HT", "y".repeat(100));
        let stream = send(address, &input).await;
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let all = read_all(&stream).await;
        let (head, rest) = all.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        let content = rest.bytes().take_while(|byte| *byte == b'x').count();
        assert_eq!(content, 300_000);
    });
}

/// A trailer section that does not end counts, and what was received behind the piece that was asked for.
#[test]
fn memory_for_what_is_received_ahead_of_a_body() {
    let limits = Limits { memory_bytes: 5000, ..unhurried() };
    let router = Router::new().post("/echo", async |mut request: Request| request.bytes(100_000).await).post(
        "/first",
        async |mut request: Request| {
            let first = request.chunk().await.map(|chunk| chunk.is_some());
            if matches!(first, Ok(true)) {
                std::future::pending::<()>().await;
            }
            first.map(|_| "none")
        },
    );
    run_beside(router, limits, async |_, address| {
        let chunked = "Host: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        let trailers = format!("POST /echo HTTP/1.1\r\n{chunked}0\r\nX: ");
        let long = "x".repeat(3000);
        let many = format!("POST /first HTTP/1.1\r\n{chunked}");
        let pieces = "1\r\nx\r\n".repeat(500);
        for (first, more) in [(&trailers, &long), (&many, &pieces)] {
            let one = send(address, first).await;
            annulet::time::sleep(HALF_ARRIVES).await;
            one.write_all(more.as_bytes()).await.unwrap();
            annulet::time::sleep(HALF_ARRIVES).await;
            let two = send(address, first).await;
            annulet::time::sleep(HALF_ARRIVES).await;
            two.write_all(more.as_bytes()).await.unwrap();
            assert_eq!(answers(&two).await, "503 close [Service Unavailable]", "{first}");
            one.set_zero_linger().unwrap();
            drop(one);
        }
    });
}

#[test]
fn the_time_of_a_handler() {
    let (short, long) = (Duration::from_millis(5), Duration::from_secs(3600));
    let dropped = Rc::new(Cell::new(0));
    let drops = dropped.clone();
    let never = move |_: Request| {
        let told = OnDrop(drops.clone());
        async move {
            std::future::pending::<()>().await;
            drop(told);
        }
    };
    let router = Router::new()
        .get("/asked", async |_: Request| "it came to an answer")
        .before_async(async |_: &mut Request| std::future::pending().await)
        .get("/never", never)
        .with_time_limit(short)
        .post("/slow", async |mut request: Request| request.bytes(100).await)
        .with_time_limit(short)
        .get("/now", async |_: Request| "now")
        .get("/later", async |_: Request| {
            annulet::yield_now().await;
            "later"
        })
        .post("/body", async |mut request: Request| request.bytes(100).await)
        // The first limit of a route counts, and what comes after the handler comes after the limit.
        .with_time_limit(long)
        .after(|answer| answer.with_header(header::ETAG, HeaderValue::from_static("\"a\"")));
    with_router(router, async |_, address| {
        let get = |path: &str, end: &str| format!("GET {path} HTTP/1.1\r\nHost: a\r\n{end}\r\n");
        let all = get("/never", "")
            + &get("/now", "")
            + &get("/later", "")
            + &get("/asked", "")
            + &get("/nowhere", "")
            + &get("/never", "Connection: close\r\n");
        let answers = read_all(&send(address, &all).await).await;
        assert_eq!(answers.matches("etag: \"a\"").count(), 6, "{answers}");
        assert_eq!(
            summary(&answers, false),
            "503 [Service Unavailable] 200 [now] 200 [later] 503 [Service Unavailable] 503 [Service Unavailable] 503 close [Service Unavailable]"
        );
        assert_eq!(dropped.get(), 2, "the handlers are gone");
        // Waiting for the body is the handler's time too; the rest of it is not waited for.
        let half = |path: &str| format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nab");
        let stream = send(address, &half("/slow")).await;
        let first = String::from_utf8_lossy(&stream.recv().await.unwrap().unwrap()).into_owned();
        assert!(first.starts_with("HTTP/1.1 503 "), "{first}");
        let stream = send(address, &half("/body")).await;
        stream.write_all(b"cd").await.unwrap();
        assert_eq!(answer(&stream).await, "200 [abcd]");
    });
}

/// As above, with nothing after the handler.
#[test]
fn the_time_of_a_handler_alone() {
    let router = Router::new()
        .get("/asked", async |_: Request| "it came to an answer")
        .before_async(async |_: &mut Request| std::future::pending().await)
        .get("/never", async |_: Request| std::future::pending::<&str>().await)
        .with_time_limit(Duration::from_millis(5));
    with_router(router, async |_, address| {
        let all =
            ["/asked", "/nowhere", "/never"].map(|path| format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        let stream = send(address, &all.concat()).await;
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let answers = summary(&read_all(&stream).await, false);
        assert_eq!(answers, ["503 [Service Unavailable]"; 3].join(" "));
    });
}

/// Counts drops.
struct OnDrop(Rc<Cell<u32>>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
    }
}

#[test]
fn the_defaults_are_on() {
    let Limits { body_rate_min, connections, memory_bytes, requests_per_connection, .. } = Limits::default();
    assert!(body_rate_min > 0 && connections < usize::MAX && memory_bytes < usize::MAX);
    assert_eq!(requests_per_connection, u32::MAX, "off by default");
    assert_eq!(limits().connections_per_address, u32::MAX, "off by default");
}

/// What the kernel takes of answers for connections that were there before the server.
#[test]
fn early_clients_have_the_same_bound_of_unsent_bytes() {
    annulet::run(async {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        // Blocking: when it is connected, it is in the queue.
        let early: Vec<_> = (0..3).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
        let bounds = Rc::new(RefCell::new(Vec::new()));
        let seen = bounds.clone();
        let router = Router::new().get("/", move |request: Request| {
            let seen = seen.clone();
            let answer = request.upgrade("raw", async move |connection| {
                seen.borrow_mut().push(connection.stream.tcp().notsent_lowat().unwrap());
            });
            async move { answer.unwrap() }
        });
        let limits = Limits { unsent_bytes: 5000, ..unhurried() };
        let server = Server::new(router).with_limits(limits);
        drop(annulet::spawn(async move { server.serve(listener).await.unwrap() }));
        let late = TcpStream::connect(address).await.unwrap();
        let early = early.into_iter().map(|stream| TcpStream::from_std(stream).unwrap());
        for stream in early.chain([late]) {
            let upgrade = "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: raw\r\n\r\n";
            stream.write_all(upgrade.as_bytes()).await.unwrap();
            let answers = annulet::time::timeout(Duration::from_secs(20), read_all(&stream)).await.unwrap();
            assert!(answers.starts_with("HTTP/1.1 101 "), "{answers}");
        }
        assert_eq!(*bounds.borrow(), [5000; 4]);
    });
}
