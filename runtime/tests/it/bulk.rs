//! Much of what was announced comes in large buffers, whole and in order, and no buffer is held where nothing comes.

use std::time::Duration;

use annulet::net::{TcpListener, TcpStream};

use crate::support::{pair, until};

/// Bytes of a small buffer.
const SMALL: usize = 4096;

fn pattern(position: usize) -> u8 {
    (position * 31 + position / 251) as u8
}

async fn write_pattern(client: &TcpStream, total: usize, piece: usize) {
    let mut position = 0;
    while position < total {
        let bytes: Vec<u8> = (position..total.min(position + piece)).map(pattern).collect();
        client.write_all(&bytes).await.unwrap();
        position += bytes.len();
    }
    client.flush().await.unwrap();
}

/// Reads `total` bytes of which `announced` are announced; gives the length of the longest lease.
fn check(total: usize, announced: usize, piece: usize, pause_every: usize) -> usize {
    annulet::run(async move {
        let (client, server) = pair().await;
        let writer = annulet::spawn(async move {
            write_pattern(&client, total, piece).await;
            client
        });
        server.expect_recv(announced as u64);
        let (mut position, mut longest, mut leases) = (0, 0, 0);
        while position < total {
            let lease = server.recv().await.unwrap().expect("not all has come");
            for byte in &lease[..] {
                assert_eq!(*byte, pattern(position), "byte {position} of {total}");
                position += 1;
            }
            longest = longest.max(lease.len());
            leases += 1;
            drop(lease);
            if pause_every > 0 && leases % pause_every == 0 {
                annulet::time::sleep(Duration::from_micros(200)).await;
            }
        }
        let client = writer.await.unwrap();
        assert_eq!(annulet::metrics().buffers_held, 0, "an idle stream holds no buffer");
        // What follows is of no announced length.
        client.write_all(b"next").await.unwrap();
        client.flush().await.unwrap();
        assert_eq!(&server.recv().await.unwrap().unwrap()[..], b"next");
        drop(client);
        assert!(server.recv().await.unwrap().is_none());
        longest
    })
}

#[test]
fn what_was_announced_comes_in_large_pieces() {
    for (piece, pause_every) in [(1 << 20, 0), (1 << 20, 3), (50_000, 1), (100_000, 0)] {
        let longest = check(4 << 20, 4 << 20, piece, pause_every);
        assert!(longest > SMALL, "pieces of {piece}: the longest lease held {longest} bytes");
    }
}

#[test]
fn hints_may_be_wrong() {
    for announced in [0, 1, 40_000, 100_000, 200_000, 1 << 40] {
        check(150_000, announced, 150_000, 0);
        check(150_000, announced, 7_000, 5);
    }
}

#[test]
fn nothing_is_held_while_an_announced_body_does_not_come() {
    annulet::run(async {
        let (client, server) = pair().await;
        server.start_recv();
        server.expect_recv(1 << 30);
        for _ in 0..10 {
            client.write_all(b"drop").await.unwrap();
            client.flush().await.unwrap();
            assert_eq!(&server.recv().await.unwrap().unwrap()[..], b"drop");
            annulet::yield_now().await;
            assert_eq!(annulet::metrics().buffers_held, 0);
        }
    });
}

#[test]
fn who_finds_no_large_buffer_goes_on_with_small_ones() {
    /// Each may hold two of the 128 large ones.
    const STREAMS: usize = 80;
    const BYTES: usize = 150_000;
    annulet::run(async {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut servers = Vec::new();
        let mut writers = Vec::new();
        for _ in 0..STREAMS {
            let client = TcpStream::connect(address).await.unwrap();
            let server = listener.accept().await.unwrap();
            server.expect_recv(1 << 30);
            server.start_recv();
            writers.push(annulet::spawn(async move { write_pattern(&client, BYTES, BYTES).await }));
            servers.push(server);
        }
        // All that may be held is held before anybody reads.
        let held = || annulet::metrics().buffers_held;
        until("buffers fill", || held() >= 128).await;
        for server in &servers {
            let mut position = 0;
            while position < BYTES {
                let lease = server.recv().await.unwrap().expect("not all has come");
                assert!(lease.iter().enumerate().all(|(at, byte)| *byte == pattern(position + at)));
                position += lease.len();
            }
        }
        for writer in writers {
            writer.await.unwrap();
        }
        assert_eq!(held(), 0);
    });
}

async fn turns() {
    for _ in 0..10 {
        annulet::yield_now().await;
    }
}

#[test]
fn what_follows_a_large_body_is_received_when_it_is_asked_for() {
    /// Fits into the kernel's buffers while nobody reads.
    const BYTES: usize = 50_000;
    /// Arrivals behind a large body by which the socket is known to be one of small requests again.
    const ONE_BY_ONE: usize = 4;
    annulet::run(async {
        let (client, server) = pair().await;
        let held = || annulet::metrics().buffers_held;
        let read = async |mut bytes: usize| {
            while bytes > 0 {
                bytes -= server.recv().await.unwrap().expect("not all has come").len();
            }
        };
        for _ in 0..3 {
            server.expect_recv(BYTES as u64);
            write_pattern(&client, BYTES, BYTES).await;
            read(BYTES).await;
            // Of the next one nobody knows yet how long it is.
            write_pattern(&client, BYTES, BYTES).await;
            turns().await;
            assert_eq!(held(), 0, "nobody waits for bytes");
            let mut left = BYTES;
            for arrival in 1..=ONE_BY_ONE {
                let lease = server.recv().await.unwrap().unwrap();
                assert!(lease.len() <= SMALL, "{} bytes", lease.len());
                left -= lease.len();
                drop(lease);
                turns().await;
                assert!(held() == 0 || arrival == ONE_BY_ONE, "{} held behind arrival {arrival}", held());
            }
            until("it is received ahead again", || held() > 0).await;
            read(left).await;
        }
    });
}
