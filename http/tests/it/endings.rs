//! How connections end: time limits, half-closed clients, draining.
use annulet::net::TcpStream;

use crate::client::{check, read_all, summary, with_server};

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
        for b in "GET / HTTP/1.1\r\nX: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy".bytes() {
            if stream.write_all(&[b]).await.is_err() {
                break;
            }
            annulet::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        assert_eq!(summary(&read_all(&stream).await, false), "408 close [Request Timeout]");
        assert!(annulet::time::now() - started >= std::time::Duration::from_millis(50));
    });
}

#[test]
fn half_closed_clients_get_their_answers() {
    check("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n", "200 [slow]");
    check("", "");
}

#[test]
fn draining() {
    with_server(async |server, address| {
        let idle = TcpStream::connect(address).await.unwrap();
        idle.write_all(GET.as_bytes()).await.unwrap();
        assert!(idle.recv().await.unwrap().is_some());
        let busy = TcpStream::connect(address).await.unwrap();
        busy.write_all(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        let drain = server.drain_handle();
        while drain.connections() < 2 {
            annulet::yield_now().await;
        }
        // One more turn, so that the slow handler has begun.
        annulet::time::sleep(std::time::Duration::from_millis(1)).await;
        drain.start();
        assert_eq!(read_all(&idle).await, "");
        assert_eq!(summary(&read_all(&busy).await, false), "200 close [slow]");
        drop((idle, busy));
        drain.finished().await;
        assert_eq!(drain.connections(), 0);
    });
}
