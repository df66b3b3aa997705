//! How connections end: time limits, half-closed clients, draining.
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use annulet::net::TcpStream;
use annulet::sync::Notify;
use annulet_http::{Limits, Request, Router};

use crate::client::{
    HUGE_BYTES, check, connect_narrow, limits, read_all, run_beside, summary, unhurried, with_router,
    with_server, with_server_and_limits,
};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// Sends, does not end the stream, and waits for the server to.
fn check_timeout(input: &str, expected: &str) {
    with_server(async |_, address| {
        eprintln!("{input:?}");
        let stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(input.as_bytes()).await.unwrap();
        assert_eq!(summary(&read_all(&stream).await, false), expected, "{input:?}");
    });
}

#[test]
fn time_limits() {
    check_timeout("", "");
    check_timeout(GET, "200 [<h1>Index</h1>]");
    check_timeout(&format!("{GET}\r\n"), "200 [<h1>Index</h1>]");
    check_timeout("\r\nGET", "408 close [Request Timeout]");
    check_timeout("GET", "408 close [Request Timeout]");
    check_timeout(&format!("{GET}GET"), "200 [<h1>Index</h1>] 408 close [Request Timeout]");
    check_timeout(
        "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhel",
        "408 close [Request Timeout]",
    );
    check_timeout("POST /ignore HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhel", "202 []");
}

#[test]
fn a_slow_head_has_one_time_limit() {
    with_server(async |_, address| {
        let stream = TcpStream::connect(address).await.unwrap();
        let started = annulet::time::now();
        let head = format!("GET / HTTP/1.1\r\nX: {}", "y".repeat(800));
        let mut sent = 0;
        for b in head.bytes() {
            if stream.write_all(&[b]).await.is_err() {
                break;
            }
            sent += 1;
            annulet::time::sleep(Duration::from_millis(5)).await;
        }
        // The bytes that come do not wind the clock up.
        assert!(sent < head.len(), "all of it was waited for");
        assert_eq!(summary(&read_all(&stream).await, false), "408 close [Request Timeout]");
        assert!(annulet::time::now() - started >= Duration::from_millis(50));
    });
}

/// Sends a body of which a byte comes every now and then, until the connection ends; the answers, and how long that took.
async fn drip(address: SocketAddr, path: &str) -> (String, Duration) {
    let stream = TcpStream::connect(address).await.unwrap();
    let begun = annulet::time::now();
    let head = format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 900\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answers = Vec::new();
    loop {
        match annulet::time::timeout(Duration::from_millis(10), stream.recv()).await {
            Ok(Ok(Some(lease))) => answers.extend_from_slice(&lease),
            Ok(_) => break,
            Err(_) => {
                let _ = stream.write_all(b"x").await;
            }
        }
    }
    (summary(&String::from_utf8(answers).unwrap(), false), annulet::time::now() - begun)
}

#[test]
fn a_slow_body_has_a_time_limit_for_all_of_it() {
    // However long one byte keeps another waiting, on a busy machine.
    let patient = Limits { body_timeout: Duration::from_secs(60), ..limits() };
    with_server_and_limits(patient, async |_, address| {
        let (answers, took) = drip(address, "/count").await;
        assert_eq!(answers, "408 close [Request Timeout]");
        assert!(took >= Duration::from_millis(200) && took < Duration::from_secs(20), "{took:?}");
    });
    with_server(async |_, address| {
        let (answers, took) = drip(address, "/ignore").await;
        assert_eq!(answers, "202 []");
        assert!(took >= Duration::from_millis(50) && took < Duration::from_secs(20), "{took:?}");
    });
}

#[test]
fn draining_does_not_wait_for_an_unwanted_body() {
    let limits = Limits { body_timeout: Duration::from_secs(60), ..limits() };
    with_server_and_limits(limits, async |server, address| {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"POST /ignore HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n").await.unwrap();
        assert!(stream.recv().await.unwrap().is_some());
        let drain = server.drain_handle();
        drain.start();
        drain.finished().await;
    });
}

#[test]
fn a_kept_request_does_not_keep_the_end_from_the_client() {
    with_server_and_limits(unhurried(), async |_, address| {
        let stream = TcpStream::connect(address).await.unwrap();
        let fields = "Connection: close\r\nContent-Length: 5";
        let request = format!("POST /keep HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\nhello");
        stream.write_all(request.as_bytes()).await.unwrap();
        assert_eq!(summary(&read_all(&stream).await, false), "200 close [kept]");
    });
}

#[test]
fn half_closed_clients_get_their_answers() {
    check("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n", "200 [slow]");
    check("", "");
}

/// A client that asks and never reads; what is sent is `input`.
async fn check_never_reads(server: annulet_http::Server, address: SocketAddr, input: String) {
    let stream = connect_narrow(address);
    stream.write_all(input.as_bytes()).await.unwrap();
    let drain = server.drain_handle();
    while drain.connections() == 0 {
        annulet::yield_now().await;
    }
    while drain.connections() > 0 {
        annulet::time::sleep(Duration::from_millis(5)).await;
    }
}

#[test]
fn a_client_that_never_reads_is_cut() {
    let large = "GET /large HTTP/1.1\r\nHost: a\r\n\r\n".repeat(500);
    with_server(async |server, address| check_never_reads(server, address, large).await);
    let huge = "GET /huge HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".to_owned();
    with_server(async |server, address| check_never_reads(server, address, huge).await);
}

#[test]
fn draining_does_not_wait_for_a_client_that_never_reads() {
    let limits = Limits { write_timeout: Duration::from_secs(60), ..unhurried() };
    with_server_and_limits(limits, async |server, address| {
        let stream = connect_narrow(address);
        let large = "GET /large HTTP/1.1\r\nHost: a\r\n\r\n".repeat(500);
        stream.write_all(large.as_bytes()).await.unwrap();
        let drain = server.drain_handle();
        while drain.connections() == 0 {
            annulet::time::sleep(Duration::from_millis(1)).await;
        }
        // Time for the kernel to have its fill; without it the test is a weaker one, not a broken one.
        annulet::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(drain.connections(), 1);
        drain.start();
        drain.finished().await;
    });
}

/// Reads up to so many bytes of `/`, a little every second, from a server that drains and has so many seconds of patience. How many
/// have come.
fn read_slowly_while_draining(router: Router, zero_copy_min: usize, linger: u32, enough: usize) -> usize {
    let second = Duration::from_secs(1);
    let limits = Limits { write_timeout: 600 * second, linger: linger * second, ..unhurried() };
    // Time passes when everything waits.
    let ran = annulet::Builder::new().virtual_clock(true).run_local(async move {
        let listener = annulet::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = annulet_http::Server::new(router).with_limits(limits).with_zero_copy(zero_copy_min);
        let serving = server.clone();
        drop(annulet::spawn(async move { serving.serve(listener).await.unwrap() }));
        // Before it connects: otherwise its kernel has promised more than that already. Short segments, so that what it reads is told
        // in small steps.
        let client = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        client.set_recv_buffer_size(4096).unwrap();
        client.set_tcp_mss(536).unwrap();
        client.connect(&address.into()).unwrap();
        let mut client = std::net::TcpStream::from(client);
        client.write_all(GET.as_bytes()).unwrap();
        client.set_nonblocking(true).unwrap();
        let drain = server.drain_handle();
        // The answer has begun. The kernel takes its time, which must not pass here: as long as something is ready it does not.
        let begun = std::time::Instant::now();
        let wait = async |count: usize| {
            assert!(begun.elapsed() < Duration::from_secs(100), "{count} bytes have come");
            std::thread::sleep(Duration::from_millis(1));
            annulet::yield_now().await;
        };
        while client.peek(&mut [0]).is_err() {
            wait(0).await;
        }
        drain.start();
        let (mut bytes, mut count) = ([0; 1024], 0);
        loop {
            match client.read(&mut bytes) {
                Ok(0) => return count,
                Ok(_) if count >= enough => return count,
                Ok(more) => count += more,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    wait(count).await;
                    continue;
                }
                Err(error) => panic!("cut after {count} bytes: {error}"),
            }
            annulet::time::sleep(second).await;
        }
    });
    ran.unwrap()
}

/// The kernel asks for more when a good part of what it had has gone; who reads less than that within the patience reads all the
/// same.
#[test]
fn draining_waits_for_a_client_that_reads_a_little_at_a_time() {
    for zero_copy_min in [usize::MAX, 0] {
        let page = Router::new().get("/", async |_: Request| "x".repeat(256 * 1024));
        assert!(read_slowly_while_draining(page, zero_copy_min, 30, usize::MAX) > 256 * 1024);
    }
}

/// Its bytes go from the kernel to the kernel, and it is waited for in the same way. There is room for more of them once a minute, and
/// its client's kernel thanks for some when half of its buffer is free.
#[test]
fn draining_waits_for_a_client_that_reads_a_file_a_little_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::File::create(dir.path().join("index.html")).unwrap().set_len(HUGE_BYTES as u64).unwrap();
    let files = Router::new().fallback(annulet_http::ServeDir::new(dir.path()).unwrap());
    let enough = 512 * 1024;
    assert!(read_slowly_while_draining(files, usize::MAX, 30, enough) >= enough);
}

/// Reads a long answer in small steps and says for how long the server kept the connection.
async fn time_with_slow_reader(
    server: &annulet_http::Server,
    address: SocketAddr,
    fields: &str,
    ends_stream: bool,
) -> Duration {
    let request = format!("GET /huge HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    let reader = std::thread::spawn(move || {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        if ends_stream {
            stream.shutdown(std::net::Shutdown::Write).unwrap();
        }
        let (mut step, mut count) = (vec![0; 256 * 1024], 0);
        loop {
            match stream.read(&mut step).unwrap() {
                0 => return count,
                more => count += more,
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    });
    let drain = server.drain_handle();
    while drain.connections() == 0 {
        annulet::yield_now().await;
    }
    let begun = annulet::time::now();
    while drain.connections() > 0 {
        annulet::time::sleep(Duration::from_millis(1)).await;
    }
    let lived = annulet::time::now() - begun;
    while !reader.is_finished() {
        annulet::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(reader.join().unwrap() > HUGE_BYTES);
    lived
}

#[test]
fn a_slow_reader_is_waited_for() {
    let short = Duration::from_millis(20);
    let write_timeout = Duration::from_secs(2);
    let limits = Limits { keep_alive_timeout: short, linger: short, write_timeout, ..limits() };
    for (fields, ends_stream) in [("", false), ("", true), ("Connection: close\r\n", false)] {
        with_server_and_limits(limits.clone(), async |server, address| {
            let lived = time_with_slow_reader(&server, address, fields, ends_stream).await;
            // The kernel takes some of the answer at once; the rest needs many steps of 10 ms.
            assert!(lived > short * 5, "{fields:?} {ends_stream} {lived:?}");
        });
    }
}

/// Its bytes are not kept for it: not in the server, and not in the kernel.
#[test]
fn a_client_that_reads_nothing_is_reset() {
    let limits = Limits { write_timeout: Duration::from_millis(50), ..limits() };
    with_server_and_limits(limits, async |server, address| {
        let mut client = std::net::TcpStream::connect(address).unwrap();
        client.write_all(b"GET /huge HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        let drain = server.drain_handle();
        while drain.connections() == 0 {
            annulet::yield_now().await;
        }
        while drain.connections() > 0 {
            annulet::time::sleep(Duration::from_millis(1)).await;
        }
        // The close itself goes through the ring.
        let read = annulet::spawn_blocking(move || client.read_to_end(&mut Vec::new()));
        assert_eq!(read.await.unwrap().unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    });
}

/// Connects a client that reads nothing, sends `input`, and waits until the server has let it go.
async fn check_is_let_go(server: &annulet_http::Server, address: SocketAddr, input: &str) {
    let drain = server.drain_handle();
    // What the kernel takes is bounded for those who come when the server is there.
    drop(TcpStream::connect(address).await.unwrap());
    while drain.connections() == 0 {
        annulet::yield_now().await;
    }
    while drain.connections() > 0 {
        annulet::time::sleep(Duration::from_millis(1)).await;
    }
    // Before it connects: otherwise its kernel has promised more than that already.
    let client = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    client.set_recv_buffer_size(4096).unwrap();
    client.connect(&address.into()).unwrap();
    let mut client = std::net::TcpStream::from(client);
    client.write_all(input.as_bytes()).unwrap();
    while drain.connections() == 0 {
        annulet::yield_now().await;
    }
    while drain.connections() > 0 {
        annulet::time::sleep(Duration::from_millis(1)).await;
    }
}

const FULL: &str = "GET /full HTTP/1.1\r\nHost: a\r\n\r\n";

/// An answer that fills what a client's kernel takes, and is made all the same; and one that is never made.
fn full_and_never() -> Router {
    Router::new()
        .get("/full", async |_: Request| "x".repeat(60 * 1024))
        .get("/never", async |_: Request| std::future::pending::<&str>().await)
}

#[test]
fn an_answer_that_waits_has_its_time_while_another_is_made() {
    let limits = Limits { write_timeout: Duration::from_millis(50), ..unhurried() };
    run_beside(full_and_never(), limits, async |server, address| {
        // The kernel takes a part of the first; the rest waits here, and is too little to keep the second from being made.
        let both = format!("{FULL}GET /never HTTP/1.1\r\nHost: a\r\n\r\n");
        check_is_let_go(&server, address, &both).await;
    });
}

#[test]
fn an_answer_that_waits_has_its_time_when_nothing_more_is_asked() {
    let (write_timeout, keep_alive_timeout) = (Duration::from_millis(50), Duration::from_secs(600));
    let limits = Limits { write_timeout, keep_alive_timeout, ..unhurried() };
    // As above; with two, more waits than an answer is made behind.
    for count in [1, 2] {
        run_beside(full_and_never(), limits.clone(), async |server, address| {
            check_is_let_go(&server, address, &FULL.repeat(count)).await;
        });
    }
}

#[test]
fn who_has_taken_all_is_idle_for_as_long_as_it_may() {
    let (write_timeout, keep_alive_timeout) = (Duration::from_millis(200), Duration::from_secs(1));
    let limits = Limits { write_timeout, keep_alive_timeout, ..unhurried() };
    with_server_and_limits(limits, async |_, address| {
        let begun = annulet::time::now();
        let stream = TcpStream::connect(address).await.unwrap();
        // The second time the clock starts anew.
        for count in 1..=2 {
            stream.write_all(GET.as_bytes()).await.unwrap();
            assert!(stream.recv().await.unwrap().is_some());
            annulet::time::sleep(write_timeout * 2).await;
            assert!(annulet::time::now() - begun >= write_timeout * 2 * count, "it is still there");
        }
        assert_eq!(read_all(&stream).await, "");
        assert!(annulet::time::now() - begun >= write_timeout * 2 + keep_alive_timeout);
    });
}

/// Tells of its drop.
struct Dropped(Rc<Notify>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

#[test]
fn a_reset_drops_what_waits_before_the_handler() {
    for head in
        ["GET / HTTP/1.1\r\nHost: a\r\n\r\n", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhe"]
    {
        let (begun, dropped) = (Rc::new(Notify::new()), Rc::new(Notify::new()));
        let (begins, drops) = (begun.clone(), dropped.clone());
        let router = Router::new()
            .any("/", async |_: Request| "nobody lets it pass")
            .before_async(async move |_: &mut Request| {
                let _held = Dropped(drops.clone());
                begins.notify_one();
                std::future::pending().await
            })
            .after(|answer| answer);
        with_router(router, async |_, address| {
            let mut client = std::net::TcpStream::connect(address).unwrap();
            client.write_all(head.as_bytes()).unwrap();
            begun.notified().await;
            socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
            drop(client);
            dropped.notified().await;
        });
    }
}

#[test]
fn a_reset_behind_a_half_close_drops_the_handler() {
    for head in ["GET /", "POST /"] {
        let (begun, dropped) = (Rc::new(Notify::new()), Rc::new(Notify::new()));
        let (begins, drops) = (begun.clone(), dropped.clone());
        let held = move |mut request: Request| {
            let (begins, held) = (begins.clone(), Dropped(drops.clone()));
            async move {
                let _held = held;
                request.bytes(100).await.unwrap();
                begins.notify_one();
                std::future::pending::<&str>().await
            }
        };
        let router = Router::new().get("/", held.clone()).post("/", held);
        with_router(router, async |server, address| {
            let mut client = std::net::TcpStream::connect(address).unwrap();
            let request = format!("{head} HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello");
            client.write_all(request.as_bytes()).unwrap();
            client.shutdown(std::net::Shutdown::Write).unwrap();
            begun.notified().await;
            // It is here to be answered, for all that is known.
            for _ in 0..10 {
                annulet::time::sleep(Duration::from_millis(1)).await;
            }
            assert_eq!(server.drain_handle().connections(), 1);
            socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
            drop(client);
            dropped.notified().await;
        });
    }
}

#[test]
fn draining() {
    // The handler waits in the middle until the test lets it go on.
    let (begun, go_on) = (Rc::new(Notify::new()), Rc::new(Notify::new()));
    let (begins, goes_on) = (begun.clone(), go_on.clone());
    let router = Router::new().get("/", async |_: Request| "index").get("/held", move |_: Request| {
        let (begins, goes_on) = (begins.clone(), goes_on.clone());
        async move {
            begins.notify_one();
            goes_on.notified().await;
            "held"
        }
    });
    with_router(router, async |server, address| {
        let idle = TcpStream::connect(address).await.unwrap();
        idle.write_all(GET.as_bytes()).await.unwrap();
        assert!(idle.recv().await.unwrap().is_some());
        let busy = TcpStream::connect(address).await.unwrap();
        busy.write_all(b"GET /held HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        begun.notified().await;
        let drain = server.drain_handle();
        assert_eq!(drain.connections(), 2);
        drain.start();
        assert_eq!(read_all(&idle).await, "");
        go_on.notify_one();
        assert_eq!(summary(&read_all(&busy).await, false), "200 close [held]");
        drop((idle, busy));
        drain.finished().await;
        assert_eq!(drain.connections(), 0);
    });
}

#[test]
fn an_announced_end_is_told_with_the_next_answer_and_lets_new_clients_in() {
    with_server_and_limits(unhurried(), async |server, address| {
        let kept = TcpStream::connect(address).await.unwrap();
        kept.write_all(GET.as_bytes()).await.unwrap();
        assert!(kept.recv().await.unwrap().is_some());
        server.drain_handle().announce();
        // Not closed: it is idle, and may ask once more.
        kept.write_all(GET.as_bytes()).await.unwrap();
        assert_eq!(summary(&read_all(&kept).await, false), "200 close [<h1>Index</h1>]");
        let new = TcpStream::connect(address).await.unwrap();
        new.write_all(GET.as_bytes()).await.unwrap();
        assert_eq!(summary(&read_all(&new).await, false), "200 close [<h1>Index</h1>]");
    });
}

#[test]
fn a_gentle_end_serves_whom_the_listener_has_and_who_asks_once_more() {
    // What waits is in nobody's hands but the kernel's when the end begins: a blocking connect has put it there in this turn.
    let limits = Limits { head_timeout: Duration::from_secs(60), ..unhurried() };
    with_server_and_limits(limits, async |server, address| {
        let idle = TcpStream::connect(address).await.unwrap();
        idle.write_all(GET.as_bytes()).await.unwrap();
        assert!(idle.recv().await.unwrap().is_some());
        let waits: Vec<_> = (0..3).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
        let drain = server.drain_handle();
        let ends = annulet::spawn(async move { drain.gently(Duration::from_secs(3600)).await });
        // Its first step has been taken.
        annulet::yield_now().await;
        for stream in waits {
            let stream = TcpStream::from_std(stream).unwrap();
            stream.write_all(GET.as_bytes()).await.unwrap();
            assert_eq!(summary(&read_all(&stream).await, false), "200 close [<h1>Index</h1>]");
        }
        assert!(!ends.is_finished(), "an idle connection is left");
        idle.write_all(GET.as_bytes()).await.unwrap();
        assert_eq!(summary(&read_all(&idle).await, false), "200 close [<h1>Index</h1>]");
        drop(idle);
        ends.await.unwrap();
    });
}

#[test]
fn a_gentle_end_closes_who_stays_silent() {
    with_server(async |server, address| {
        let silent = TcpStream::connect(address).await.unwrap();
        while server.drain_handle().connections() == 0 {
            annulet::time::sleep(Duration::from_millis(1)).await;
        }
        let drain = server.drain_handle();
        let ends = annulet::spawn(async move { drain.gently(Duration::from_millis(5)).await });
        assert_eq!(read_all(&silent).await, "");
        drop(silent);
        ends.await.unwrap();
    });
}
