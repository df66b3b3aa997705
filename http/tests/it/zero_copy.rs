//! Content that the kernel sends out of the memory in which it is.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::time::Duration;

use annulet::net::{TcpListener, TcpSocket, TcpStream};
use annulet_http::{Limits, Request, Router, Server};
use bytes::Bytes;

use crate::client::{limits, read_all, summary, unhurried};

thread_local! {
    static MADE: Cell<usize> = const { Cell::new(0) };
    static DROPS: Cell<usize> = const { Cell::new(0) };
    static POISONED: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// What still reads it behind its drop reads poison. It is not freed: that would hide it.
struct Poison(Vec<u8>);

impl AsRef<[u8]> for Poison {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Poison {
    fn drop(&mut self) {
        self.0.fill(0xdd);
        POISONED.with_borrow_mut(|all| all.push(std::mem::take(&mut self.0)));
        DROPS.set(DROPS.get() + 1);
    }
}

/// Less than the kernel takes for a client that does not read, more than such a client's window.
const LEN: usize = 200_000;
const GET: &str = "GET /content HTTP/1.1\r\nHost: a\r\n\r\n";

fn content() -> Vec<u8> {
    (0..LEN).map(|position| (position * 31 + position / 251) as u8).collect()
}

/// Runs `test` beside a server that sends content of 16 KiB and more so, if `zero_copy`.
fn run<F: Future<Output = ()>>(zero_copy: bool, limits: &Limits, test: impl FnOnce(SocketAddr) -> F) {
    let router = Router::new()
        .get("/content", async |_: Request| {
            MADE.set(MADE.get() + 1);
            Bytes::from_owner(Poison(content()))
        })
        .get("/small", async |_: Request| "small");
    MADE.set(0);
    DROPS.set(0);
    annulet::run(async {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = Server::new(router).with_limits(Limits { unsent_bytes: 0, ..limits.clone() });
        let server = if zero_copy { server.with_zero_copy(16 * 1024) } else { server };
        annulet::spawn(async move { server.serve(listener).await.unwrap() });
        annulet::time::timeout(Duration::from_secs(20), test(address))
            .await
            .expect("the test takes too long");
    });
}

/// Whether the kernel reads content where it is: with the option, and where the ring has it.
fn shows(zero_copy: bool) -> bool {
    zero_copy && annulet::capabilities().has(annulet::Feature::SendZeroCopy)
}

async fn narrow(address: SocketAddr, requests: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let client = socket.connect(address).await.unwrap();
    client.write_all(requests.as_bytes()).await.unwrap();
    client.flush().await.unwrap();
    client
}

async fn until(what: &str, mut done: impl FnMut() -> bool) {
    for _ in 0..100_000 {
        if done() {
            return;
        }
        annulet::time::sleep(Duration::from_micros(200)).await;
    }
    panic!("it did not come to pass: {what}");
}

/// Reads an answer with the content.
async fn read_content(client: &TcpStream) {
    let mut all = Vec::new();
    let head = loop {
        all.extend_from_slice(&client.recv().await.unwrap().expect("a whole answer"));
        let Some(end) = all.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        if all.len() >= end + 4 + LEN {
            break end + 4;
        }
    };
    assert!(all.starts_with(b"HTTP/1.1 200 OK\r\n"));
    assert!(all[head..] == content(), "{} bytes, or others than those of the content", all.len() - head);
}

#[test]
fn a_slow_client_gets_it_as_it_was() {
    for zero_copy in [false, true] {
        run(zero_copy, &unhurried(), async |address| {
            let client = narrow(address, GET).await;
            annulet::time::sleep(Duration::from_millis(10)).await;
            assert!(DROPS.get() == 0 || !shows(zero_copy), "the client has not got it");
            read_content(&client).await;
            until("the content is dropped", || DROPS.get() == 1).await;
            client.write_all(GET.as_bytes()).await.unwrap();
            read_content(&client).await;
            until("the second, too", || DROPS.get() == 2).await;
        });
    }
}

#[test]
fn a_client_that_goes_in_the_middle_releases_it() {
    run(true, &unhurried(), async |address| {
        let client = narrow(address, GET).await;
        client.recv().await.unwrap().expect("the beginning");
        drop(client);
        until("the content is dropped", || DROPS.get() == 1).await;
    });
}

#[test]
fn a_client_that_takes_nothing_is_reset() {
    run(true, &limits(), async |address| {
        let client = narrow(address, GET).await;
        until("the content is dropped", || DROPS.get() == 1).await;
        assert!(!shows(true) || client.read_exact(&mut vec![0; LEN]).await.is_err());
    });
}

#[test]
fn it_counts_as_memory_until_the_client_has_it() {
    for zero_copy in [false, true] {
        let limits = Limits { memory_bytes: LEN / 2, ..unhurried() };
        run(zero_copy, &limits, async |address| {
            let slow = narrow(address, GET).await;
            if shows(zero_copy) {
                // It counts from the turn on in which it is made.
                until("the content is made", || MADE.get() == 1).await;
                let refused = read_all(&narrow(address, GET).await).await;
                assert_eq!(summary(&refused, false), "503 close [Service Unavailable]");
            } else {
                until("the content is copied", || DROPS.get() == 1).await;
            }
            read_content(&slow).await;
            until("the content is dropped", || DROPS.get() >= 1).await;
            read_content(&narrow(address, GET).await).await;
        });
    }
}
