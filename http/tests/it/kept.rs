//! Requests that a handler keeps beyond their answer: the connection goes on, and ends, as if they were gone.
use std::cell::{Cell, RefCell};
use std::net::Shutdown;
use std::rc::Rc;
use std::time::Duration;

use annulet::net::TcpStream;
use annulet_http::{Limits, Request, Response, Router};

use crate::client::{read_all, run_beside, summary, unhurried, with_router};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const INDEX: &str = "200 [index]";

fn post(path: &str, fields: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n{fields}\r\nhello")
}

/// Requests to `/keep` stay here; `/read` has a task that goes on reading when the answer is out, and notes how that ends.
#[derive(Clone, Default)]
struct Keeper {
    kept: Rc<RefCell<Vec<Request>>>,
    ended: Rc<RefCell<Vec<String>>>,
    is_reading: Rc<Cell<bool>>,
}

impl Keeper {
    fn router(&self) -> Router {
        let (keeper, reader) = (self.clone(), self.clone());
        Router::new()
            .get("/", async |_: Request| "index")
            .post("/keep", move |request: Request| {
                keeper.kept.borrow_mut().push(request);
                async { "kept" }
            })
            .post("/read", move |mut request: Request| {
                let Keeper { ended, is_reading, .. } = reader.clone();
                let begins = is_reading.clone();
                drop(annulet::spawn(async move {
                    begins.set(true);
                    let read = request.bytes(100).await;
                    let error = read.expect_err("not all of it has come");
                    ended.borrow_mut().push(format!("{} {}", error.is_gone(), error.is_io()));
                }));
                async move {
                    while !is_reading.get() {
                        annulet::yield_now().await;
                    }
                    "reading"
                }
            })
            .get("/shout", async |request: Request| {
                let shout = async |connection: annulet_http::Upgraded| {
                    connection.stream.write_all(b"HELLO.").await.unwrap();
                    connection.stream.flush().await.unwrap();
                };
                request.upgrade("shout", shout).unwrap_or_else(|| Response::upgrade_required("shout"))
            })
    }
}

/// What all of a connection's requests are answered, from the end of which the client has to hear: it waits for that.
async fn converse(stream: &TcpStream, input: &str, ends_first: bool) -> String {
    stream.write_all(input.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    if ends_first {
        stream.shutdown(Shutdown::Write).unwrap();
    }
    summary(&read_all(stream).await, false)
}

async fn within_a_minute(is_so: impl Fn() -> bool) {
    let waits = async {
        while !is_so() {
            annulet::time::sleep(Duration::from_millis(1)).await;
        }
    };
    annulet::time::timeout(Duration::from_secs(60), waits).await.expect("it comes to pass");
}

/// One connection for each address: the place of one that is over is free.
#[test]
fn the_end_of_the_connection_is_not_kept() {
    let keeper = Keeper::default();
    // The shortest linger: nobody waits for it here but who does not end by itself.
    let linger = Duration::from_millis(20);
    let limits = Limits { connections_per_address: 1, linger, ..unhurried() };
    let kept = keeper.kept.clone();
    run_beside(keeper.router(), limits, async |server, address| {
        for (input, ends_first, expected) in [
            (post("/keep", ""), true, "200 [kept]"),
            (post("/keep", "") + GET, true, &*format!("200 [kept] {INDEX}")),
            (post("/keep", "Connection: close\r\n"), false, "200 close [kept]"),
            (GET.to_owned(), true, INDEX),
        ] {
            let stream = TcpStream::connect(address).await.unwrap();
            assert_eq!(converse(&stream, &input, ends_first).await, expected, "{input:?}");
            // Who does not end by itself is read from for a while.
            within_a_minute(|| server.drain_handle().connections() == 0).await;
        }
    });
    assert_eq!(kept.borrow().len(), 3, "they were kept all the time");
}

#[test]
fn an_idle_connection_ends_in_its_time() {
    let keeper = Keeper::default();
    let limits = Limits { keep_alive_timeout: Duration::from_millis(50), ..unhurried() };
    run_beside(keeper.router(), limits, async |_, address| {
        let stream = TcpStream::connect(address).await.unwrap();
        assert_eq!(converse(&stream, &post("/keep", ""), false).await, "200 [kept]");
    });
}

#[test]
fn the_connection_can_be_passed_on() {
    let keeper = Keeper::default();
    with_router(keeper.router(), async |_, address| {
        let stream = TcpStream::connect(address).await.unwrap();
        let upgrade = "GET /shout HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: shout\r\n\r\n";
        stream.write_all((post("/keep", "") + upgrade).as_bytes()).await.unwrap();
        let answers = read_all(&stream).await;
        assert!(answers.contains("HTTP/1.1 101 ") && answers.ends_with("\r\n\r\nHELLO."), "{answers}");
    });
}

#[test]
fn who_reads_on_when_the_answer_is_out_is_told_that_the_content_is_gone() {
    let keeper = Keeper::default();
    let ended = keeper.ended.clone();
    with_router(keeper.router(), async |_, address| {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"POST /read HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhel").await.unwrap();
        assert!(stream.recv().await.unwrap().is_some());
        within_a_minute(|| !ended.borrow().is_empty()).await;
        assert_eq!(*ended.borrow(), ["true false"]);
        // What is left of it is nobody's, and the next request is answered.
        assert_eq!(converse(&stream, &format!("lo{GET}"), true).await, INDEX);
    });
}
