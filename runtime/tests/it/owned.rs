//! Owned bytes leave without a copy, in order, and are dropped when nothing is borrowed.

use std::cell::{Cell, RefCell};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use annulet::net::{TcpSocket, TcpStream};
use bytes::Bytes;

use crate::support::{pair, until, with_virtual_time};

fn pattern(from: usize, len: usize) -> Vec<u8> {
    (from..from + len).map(|position| (position * 31 + position / 251) as u8).collect()
}

async fn read_all(server: &TcpStream, pause: bool) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some(lease) = server.recv().await.unwrap() {
        all.extend_from_slice(&lease);
        if pause && all.len() % 5 == 0 {
            annulet::time::sleep(Duration::from_micros(100)).await;
        }
    }
    all
}

fn try_send(stream: &TcpStream, bytes: Bytes, zero_copy: bool) -> Result<(), Bytes> {
    if zero_copy { stream.try_send_zero_copy(bytes) } else { stream.try_send_bytes(bytes) }
}

/// Writes pieces, owned (true) and copied; what arrives has to be all of them in order.
fn check(pieces: &'static [(bool, usize)], zero_copy: bool, pause: bool, dropped_early: bool) {
    annulet::run(async move {
        let (client, server) = pair().await;
        let total: usize = pieces.iter().map(|piece| piece.1).sum();
        let writer = annulet::spawn(async move {
            let mut position = 0;
            for &(is_owned, len) in pieces {
                let bytes = pattern(position, len);
                position += len;
                if !is_owned {
                    client.with_send_buffer(|buffer| buffer.extend_from_slice(&bytes));
                    continue;
                }
                let mut bytes = Bytes::from(bytes);
                while let Err(refused) = try_send(&client, bytes, zero_copy) {
                    bytes = refused;
                    client.flush().await.unwrap();
                }
            }
            assert!(client.send_buffered() <= total);
            if !dropped_early {
                client.flush().await.unwrap();
                assert_eq!(client.send_buffered(), 0);
                client.released().await.unwrap();
                assert_eq!(client.unreleased(), 0);
            }
        });
        let all = read_all(&server, pause).await;
        assert!(all == pattern(0, total), "{pieces:?}: {} of {total} bytes", all.len());
        writer.await.unwrap();
    });
}

#[test]
fn what_is_written_around_owned_bytes_keeps_its_place() {
    const CASES: [&[(bool, usize)]; 7] = [
        &[(true, 1)],
        &[(true, 100_000)],
        &[(false, 100), (true, 100_000)],
        &[(false, 100), (true, 100_000), (false, 200)],
        &[(false, 100), (true, 6 << 20), (false, 70_000), (true, 300_000), (true, 5), (false, 1)],
        &[(false, 400_000), (true, 400_000), (false, 400_000)],
        &[(true, 0), (false, 10), (true, 20_000), (true, 0), (true, 20_000)],
    ];
    for pieces in CASES {
        for (pause, dropped_early) in [(false, false), (true, false), (false, true), (true, true)] {
            check(pieces, false, pause, dropped_early);
            check(pieces, true, pause, dropped_early);
        }
    }
}

thread_local! {
    static DROPS: Cell<u32> = const { Cell::new(0) };
}

/// Its drop is counted, and asks the loop something, which fails while the loop's tables are borrowed.
struct Marked(Vec<u8>);

impl AsRef<[u8]> for Marked {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Marked {
    fn drop(&mut self) {
        let _ = annulet::metrics();
        DROPS.with(|drops| drops.set(drops.get() + 1));
    }
}

fn marked(len: usize) -> Bytes {
    Bytes::from_owner(Marked(vec![7; len]))
}

#[test]
fn the_owner_is_dropped_when_its_bytes_have_left_or_never_will() {
    annulet::run(async {
        let (client, server) = pair().await;
        client.try_send_bytes(marked(100_000)).unwrap();
        let second = client.try_send_bytes(marked(10)).expect_err("one at a time");
        assert_eq!((second.len(), DROPS.get()), (10, 0));
        drop(second);
        let mut left = 100_000;
        while left > 0 {
            left -= server.recv().await.unwrap().expect("more is to come").len();
        }
        until("the owner is dropped", || DROPS.get() == 2).await;

        // The peer takes nothing and goes: what is on its way is dropped with the error.
        client.try_send_bytes(marked(8 << 20)).unwrap();
        annulet::yield_now().await;
        client.with_send_buffer(|buffer| buffer.push(1));
        drop(server);
        assert!(client.flush().await.is_err());
        until("the owner is dropped", || DROPS.get() == 3).await;
        client.try_send_bytes(marked(10)).unwrap();
        assert_eq!(DROPS.get(), 4, "after an error bytes are dropped at once");
    });
}

/// A connected pair of which the client's socket takes no more bytes: they are copied, and in the kernel's hands.
async fn full() -> (TcpStream, TcpStream) {
    let (client, server) = pair().await;
    client.with_send_buffer(|buffer| buffer.resize(8 << 20, 1));
    annulet::yield_now().await;
    (client, server)
}

#[test]
fn waiting_bytes_are_dropped_with_the_error() {
    annulet::run(async {
        let (client, server) = full().await;
        client.try_send_bytes(marked(100)).unwrap();
        annulet::yield_now().await;
        assert_eq!(DROPS.get(), 0);
        drop(server);
        assert!(client.flush().await.is_err());
        until("the owner is dropped", || DROPS.get() == 1).await;
    });
}

#[test]
fn waiting_bytes_are_dropped_with_a_reset() {
    for is_waiting in [true, false] {
        annulet::run(async move {
            let (client, server) = if is_waiting { full().await } else { pair().await };
            let before = DROPS.get();
            client.try_send_bytes(marked(8 << 20)).unwrap();
            annulet::yield_now().await;
            client.set_zero_linger().unwrap();
            drop(client);
            until("the owner is dropped", || DROPS.get() == before + 1).await;
            drop(server);
        });
    }
}

#[test]
fn the_end_of_the_loop_drops_them() {
    for is_waiting in [true, false] {
        let before = DROPS.get();
        annulet::run(async move {
            let (client, server) = if is_waiting { full().await } else { pair().await };
            client.try_send_bytes(marked(8 << 20)).unwrap();
            annulet::yield_now().await;
            // Both end with the loop.
            drop(annulet::spawn(async move {
                let _streams = (client, server);
                std::future::pending::<()>().await;
            }));
        });
        assert_eq!(DROPS.get(), before + 1);
    }
}

#[test]
fn what_is_taken_back_from_the_send_buffer_is_not_missed() {
    annulet::run(async {
        let (client, server) = pair().await;
        client.with_send_buffer(|buffer| buffer.extend_from_slice(b"abcd"));
        client.try_send_bytes(Bytes::from_static(b"owned")).unwrap();
        client.with_send_buffer(|buffer| buffer.truncate(2));
        client.with_send_buffer(|buffer| buffer.extend_from_slice(b"ef"));
        client.flush().await.unwrap();
        drop(client);
        assert_eq!(read_all(&server, false).await, b"abownedef");
    });
}

#[test]
fn lent_bytes_and_owned_ones_take_turns() {
    annulet::run(async {
        let (client, server) = pair().await;
        client.try_send_bytes(Bytes::from(pattern(0, 300_000))).unwrap();
        let reader = annulet::spawn(async move { read_all(&server, false).await });
        let (result, _) = client.send(pattern(300_000, 100)).await;
        result.unwrap();
        client.try_send_bytes(Bytes::from(pattern(300_100, 1000))).unwrap();
        drop(client);
        assert!(reader.await.unwrap() == pattern(0, 301_100));
    });
}

/// Whether sends without a copy are to be seen here.
fn has_zero_copy() -> bool {
    let has = annulet::capabilities().has(annulet::Feature::SendZeroCopy);
    if !has {
        println!("in part: the ring has no send_zc here (the mask, the driver, or the kernel)");
    }
    has
}

thread_local! {
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
    }
}

fn drops() -> usize {
    POISONED.with_borrow(Vec::len)
}

/// More than the window below, less than a send buffer.
const SENT_BYTES: usize = 256 * 1024;

/// A client whose peer has a window of a few bytes.
async fn window(send_buffer: usize) -> (TcpStream, TcpStream) {
    let socket = TcpSocket::new_v4().unwrap();
    // Inherited by its connections. The kernel makes more of it, and the window is less.
    socket.set_recv_buffer_size(4096).unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let client = annulet::spawn(async move {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_send_buffer_size(send_buffer).unwrap();
        socket.connect(address).await.unwrap()
    });
    let server = listener.accept().await.unwrap();
    (client.await.unwrap(), server)
}

/// A client that has sent bytes, in a window that takes a few of them; the others are the kernel's to read. Without the feature
/// they are copied.
async fn sent() -> (TcpStream, TcpStream) {
    let (client, server) = window(4 << 20).await;
    client.with_send_buffer(|buffer| buffer.extend_from_slice(b"head"));
    client.try_send_zero_copy(Bytes::from_owner(Poison(pattern(0, SENT_BYTES)))).unwrap();
    client.flush().await.unwrap();
    if has_zero_copy() {
        assert!(client.unreleased() > SENT_BYTES / 2, "{} bytes", client.unreleased());
        assert_eq!(drops(), 0, "the kernel has to read it again");
    } else {
        until("the owner of copied bytes is dropped", || drops() == 1).await;
    }
    (client, server)
}

async fn check_sent(server: &TcpStream) {
    let all = read_all(server, false).await;
    assert_eq!(all[..4], *b"head");
    assert!(all[4..] == pattern(0, SENT_BYTES), "{} bytes, or others than were sent", all.len());
}

#[test]
fn the_owner_is_kept_until_the_peer_has_taken_all() {
    annulet::run(async {
        let (client, server) = sent().await;
        let reader = annulet::spawn(async move { check_sent(&server).await });
        client.released().await.unwrap();
        assert_eq!(client.unreleased(), 0);
        until("the owner is dropped", || drops() == 1).await;
        drop(client);
        reader.await.unwrap();
    });
}

#[test]
fn the_owner_is_kept_when_the_stream_is_dropped() {
    annulet::run(async {
        let (client, server) = sent().await;
        drop(client);
        annulet::time::sleep(Duration::from_millis(5)).await;
        assert!(drops() == 0 || !has_zero_copy());
        check_sent(&server).await;
        until("the owner is dropped", || drops() == 1).await;
    });
}

#[test]
fn a_peer_that_goes_releases() {
    annulet::run(async {
        let (client, server) = sent().await;
        drop(server);
        // Free, not delivered: an error is told if there was something left to send.
        let _ = client.released().await;
        assert_eq!(client.unreleased(), 0);
        until("the owner is dropped", || drops() == 1).await;
    });
}

#[test]
fn a_reset_releases() {
    annulet::run(async {
        let (client, server) = sent().await;
        client.set_zero_linger().unwrap();
        drop(client);
        until("the owner is dropped", || drops() == 1).await;
        // Copied bytes are let go before the reset, which then races with the reader.
        if has_zero_copy() {
            assert!(server.read_exact(&mut vec![0; SENT_BYTES + 4]).await.is_err());
        }
    });
}

#[test]
fn a_peer_that_reads_nothing_of_a_dropped_stream_is_reset() {
    with_virtual_time(async {
        let (client, server) = sent().await;
        drop(client);
        annulet::time::sleep(Duration::from_secs(31)).await;
        // A step of this clock takes a millisecond.
        for _ in 0..10_000 {
            if drops() == 1 {
                break;
            }
            annulet::time::sleep(Duration::from_micros(200)).await;
        }
        assert_eq!(drops(), 1, "owners dropped");
        // What was copied is the kernel's to deliver.
        if has_zero_copy() {
            assert!(server.read_exact(&mut vec![0; SENT_BYTES + 4]).await.is_err());
        }
    });
}

#[test]
fn a_socket_that_refuses_gets_copies() {
    annulet::run(async {
        // Of a Unix socket the kernel sends no memory of others.
        let (client, server) = std::os::unix::net::UnixStream::pair().unwrap();
        let of = |socket| TcpStream::from_std(std::net::TcpStream::from(OwnedFd::from(socket))).unwrap();
        let (client, server) = (of(client), of(server));
        let reader = annulet::spawn(async move { read_all(&server, false).await });
        for start in [0, 300_000] {
            client.try_send_zero_copy(Bytes::from(pattern(start, 300_000))).unwrap();
            client.released().await.unwrap();
            assert_eq!(client.unreleased(), 0);
        }
        drop(client);
        assert!(reader.await.unwrap() == pattern(0, 600_000));
    });
}

#[test]
fn a_departure_waits_until_all_is_released() {
    annulet::run(async {
        let (client, server) = sent().await;
        let is_gone = Rc::new(Cell::new(false));
        let departing = annulet::spawn({
            let is_gone = Rc::clone(&is_gone);
            async move {
                let departed = client.depart().await.unwrap();
                is_gone.set(true);
                departed
            }
        });
        if has_zero_copy() {
            for _ in 0..10 {
                annulet::time::sleep(Duration::from_millis(1)).await;
                assert!(!is_gone.get(), "this core has to hear what the kernel says of its memory");
            }
        }
        let mut all = vec![0; 4 + SENT_BYTES];
        server.read_exact(&mut all).await.unwrap();
        assert!(all[4..] == pattern(0, SENT_BYTES));
        let (client, _) = departing.await.unwrap().arrive();
        assert_eq!((drops(), client.unreleased()), (1, 0));
        client.write_all(b"from there").await.unwrap();
        drop(client);
        assert_eq!(read_all(&server, false).await, b"from there");
    });
}

#[test]
fn the_end_of_the_loop_releases() {
    annulet::run(async {
        let streams = sent().await;
        // Both end with the loop: neither reads.
        drop(annulet::spawn(async move {
            let _streams = streams;
            std::future::pending::<()>().await;
        }));
    });
    assert_eq!(drops(), 1);
}

#[test]
fn what_the_kernel_may_read_of_a_socket_is_bounded() {
    const TOTAL: usize = 24 << 20;
    annulet::run(async {
        let (client, server) = pair().await;
        client.try_send_zero_copy(Bytes::from_owner(Poison(pattern(0, TOTAL)))).unwrap();
        // Nobody reads: the kernel takes what it can. Dropped in the middle, and the peer reads on.
        annulet::time::sleep(Duration::from_millis(20)).await;
        assert!(client.unreleased() <= 4 << 20, "{} bytes", client.unreleased());
        assert!(client.send_buffered() > 0);
        drop(client);
        let all = read_all(&server, false).await;
        assert!(all == pattern(0, TOTAL), "{} bytes, or others than were sent", all.len());
        until("the owner is dropped", || drops() == 1).await;
    });
}
