//! HTTP/1 by our `serve`.
use annulet::net::{TcpStream, UnixListener, UnixStream};
use annulet_http::Client;
use annulet_hyper::{Io, Server};
use axum::Router;
use axum::extract::Request;
use axum::routing::get;
use http::{Response, StatusCode, header};
use send_wrapper::SendWrapper;

use crate::support::{app, read_all, run, start};

#[test]
fn an_axum_router_answers() {
    run(async {
        let (_, address) = start(app());
        let (client, site) = (Client::new(), format!("http://{address}"));
        let answer = client.get(format!("{site}/hello/you")).send().await.unwrap();
        assert_eq!(answer.text().await.unwrap(), "hello, you!");
        let answer = client.post(format!("{site}/json")).json(&[1, 2, 3]).send().await.unwrap();
        assert_eq!(answer.text().await.unwrap(), "6");
        // Longer than any buffer on the way.
        let long = "x".repeat(300_000);
        let answer = client.post(format!("{site}/echo")).body(long.clone()).send().await.unwrap();
        assert!(answer.text().await.unwrap() == long);
        let answer = client.get(format!("{site}/nowhere")).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::NOT_FOUND);
        assert_eq!(client.stats().opened, 1);
    });
}

#[test]
fn pipelined_requests_are_answered_in_their_order() {
    for piece_bytes in [usize::MAX, 1] {
        run(async {
            let (_, address) = start(app());
            let stream = TcpStream::connect(address).await.unwrap();
            let mut requests = String::new();
            for number in 0..15 {
                requests += &format!("GET /hello/{number} HTTP/1.1\r\nHost: a\r\n\r\n");
            }
            requests += "GET /hello/15 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
            for piece in requests.as_bytes().chunks(piece_bytes.min(requests.len())) {
                stream.write_all(piece).await.unwrap();
                stream.flush().await.unwrap();
            }
            let answers = read_all(&stream).await;
            let mut rest = answers.as_str();
            for number in 0..16 {
                let hello = format!("hello, {number}!");
                rest = rest.split_once(&hello).unwrap_or_else(|| panic!("no {hello:?} in {answers:?}")).1;
            }
            assert_eq!(rest, "");
        });
    }
}

#[test]
fn a_unix_socket_is_as_good() {
    run(async {
        let folder = std::env::temp_dir().join(format!("annulet-hyper-{}", std::process::id()));
        let _ = std::fs::remove_file(&folder);
        let listener = UnixListener::bind(&folder).unwrap();
        drop(annulet::spawn(annulet_hyper::serve(listener, app())));
        let stream = UnixStream::connect(&folder).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        while let Some(lease) = stream.recv().await.unwrap() {
            answer.extend_from_slice(&lease);
        }
        assert!(answer.ends_with(b"index"), "{:?}", String::from_utf8_lossy(&answer));
        std::fs::remove_file(&folder).unwrap();
    });
}

#[test]
fn draining_ends_idle_connections_and_waits_for_the_others() {
    run(async {
        let (begun, begins) = annulet::sync::oneshot::channel();
        let begun = once(begun);
        let slow = async move || {
            if let Some(begun) = begun.lock().unwrap().take() {
                begun();
            }
            annulet::time::sleep(std::time::Duration::from_millis(50)).await;
            "late"
        };
        let app = app().route("/slow", get(slow));
        let (server, address) = start(app);
        let idle = TcpStream::connect(address).await.unwrap();
        idle.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        assert!(idle.recv().await.unwrap().unwrap().ends_with(b"index"));
        let silent = TcpStream::connect(address).await.unwrap();
        let busy = TcpStream::connect(address).await.unwrap();
        busy.write_all(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        begins.await.unwrap();
        server.start_drain();
        server.drained().await;
        assert!(read_all(&busy).await.ends_with("late"));
        assert_eq!((read_all(&idle).await, read_all(&silent).await), (String::new(), String::new()));
    });
}

/// What was sent before the drain is answered, though the server has not looked at it yet.
#[test]
fn draining_answers_what_has_come() {
    use std::io::{Read, Write};
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::task::{Context, Waker};

    struct Flag(AtomicBool);
    impl std::task::Wake for Flag {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    run(async {
        if annulet::capabilities().driver() != annulet::DriverKind::IoUring {
            return println!("skipped: only a ring accepts before it is asked for a connection");
        }
        let listener = annulet::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let accepted = std::sync::Arc::new(Flag(AtomicBool::new(false)));
        let waker = Waker::from(accepted.clone());
        assert!(listener.poll_accept(&mut Context::from_waker(&waker)).is_pending());
        let mut client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        while !accepted.0.load(Ordering::Relaxed) {
            annulet::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        let server = Server::new(app());
        server.start_drain();
        server.serve(listener).await.unwrap();
        server.drained().await;
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert!(answer.ends_with("index"), "{answer:?}");
    });
}

/// One byte is not enough to tell the protocol, but it is a request that has begun.
#[test]
fn draining_waits_for_a_head_that_has_begun() {
    run(async {
        let (server, address) = start(app());
        let client = TcpStream::connect(address).await.unwrap();
        client.write_all(b"P").await.unwrap();
        while !format!("{server:?}").contains("connections: 1") {
            annulet::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        server.start_drain();
        let rest = b"OST /length HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab";
        client.write_all(rest).await.unwrap();
        assert!(read_all(&client).await.ends_with("\r\n\r\n2"));
        server.drained().await;
    });
}

/// However long the rest takes, within what the first bytes are given.
#[test]
fn draining_waits_for_the_rest_of_a_head() {
    use annulet::metrics::{Board, Counter};
    use std::time::Duration;

    let board = Board::shared(1).unwrap();
    let seen = board.clone();
    let run = annulet::Builder::new().virtual_clock(true).metrics_board(board, 0).run_local(async move {
        let (server, address) = start(app());
        let client = TcpStream::connect(address).await.unwrap();
        client.write_all(b"P").await.unwrap();
        // Nobody else receives anything here.
        while seen.read().pop().is_none_or(|row| row.value(Counter::ReceivedBytes) == 0) {
            annulet::time::sleep(Duration::from_millis(1)).await;
        }
        server.start_drain();
        annulet::time::sleep(Duration::from_secs(10)).await;
        client.write_all(b"OST /length HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab").await.unwrap();
        assert!(read_all(&client).await.ends_with("\r\n\r\n2"));
        server.drained().await;
    });
    run.unwrap();
}

/// A call of a sender that axum's handlers, which are `Send` and shared, can hold.
type Once = std::sync::Arc<std::sync::Mutex<Option<Box<dyn FnOnce() + Send>>>>;

fn once(sender: annulet::sync::oneshot::Sender<()>) -> Once {
    let sender = SendWrapper::new(sender);
    std::sync::Arc::new(std::sync::Mutex::new(Some(Box::new(move || {
        let _ = sender.take().send(());
    }))))
}

#[test]
fn one_connection_too_many_is_closed() {
    run(async {
        let listener = annulet::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = Server::new(app()).connections(1);
        drop(annulet::spawn(async move { server.serve(listener).await }));
        let first = TcpStream::connect(address).await.unwrap();
        first.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        assert!(first.recv().await.unwrap().is_some());
        let second = TcpStream::connect(address).await.unwrap();
        assert_eq!(read_all(&second).await, "");
    });
}

/// A head that does not come, and one that comes half: hyper and we have a timer, whoever serves.
#[annulet::test(start_paused = true)]
async fn slow_heads_are_not_waited_for() {
    for beginning in ["", "P", "GET / HTTP/1.1\r\nHost"] {
        let (_, address) = start(app());
        let stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(beginning.as_bytes()).await.unwrap();
        let start = annulet::time::now();
        let _ = read_all(&stream).await;
        let waited = annulet::time::now() - start;
        assert!((29..=61).contains(&waited.as_secs()), "{beginning:?}: {waited:?}");
    }
}

#[test]
fn a_connection_leaves_http() {
    /// Asks hyper for the connection, as on tokio, and takes the socket out of it.
    async fn shout(request: Request) -> Response<axum::body::Body> {
        drop(annulet::spawn(async move {
            let upgraded = hyper::upgrade::on(request).await.unwrap();
            let parts = upgraded.downcast::<Io<TcpStream>>().unwrap();
            let stream = parts.io.into_inner();
            stream.write_all(&parts.read_buf.to_ascii_uppercase()).await.unwrap();
            while let Ok(Some(heard)) = stream.recv().await {
                stream.write_all(&heard.to_ascii_uppercase()).await.unwrap();
            }
        }));
        Response::builder()
            .status(StatusCode::SWITCHING_PROTOCOLS)
            .header(header::CONNECTION, "upgrade")
            .header(header::UPGRADE, "shout")
            .body(axum::body::Body::empty())
            .unwrap()
    }
    run(async {
        let (_, address) = start(Router::new().route("/", get(shout)));
        let answer = Client::new().get(format!("http://{address}/")).upgrade("shout").send().await.unwrap();
        let connection = answer.upgraded().unwrap();
        connection.stream.write_all(b"hello").await.unwrap();
        connection.stream.shutdown().await.unwrap();
        let mut heard = connection.buffered.to_vec();
        while let Some(bytes) = connection.stream.recv().await.unwrap() {
            heard.extend_from_slice(&bytes);
        }
        assert_eq!(heard, b"HELLO");
    });
}
