//! Owned bytes leave without a copy, in order, and are dropped when nothing is borrowed.

use std::cell::Cell;
use std::time::Duration;

use annulet::net::TcpStream;
use bytes::Bytes;

use crate::support::{pair, until};

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

/// Writes pieces, owned (true) and copied; what arrives has to be all of them in order.
fn check(pieces: &'static [(bool, usize)], pause: bool, dropped_early: bool) {
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
                while let Err(refused) = client.try_send_bytes(bytes) {
                    bytes = refused;
                    client.flush().await.unwrap();
                }
            }
            assert!(client.send_buffered() <= total);
            if !dropped_early {
                client.flush().await.unwrap();
                assert_eq!(client.send_buffered(), 0);
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
            check(pieces, pause, dropped_early);
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
