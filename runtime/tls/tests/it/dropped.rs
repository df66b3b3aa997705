//! Futures that are dropped at every await point: no byte is lost, and the records that follow are whole.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use annulet::yield_now;
use annulet_tls::TlsStream;

use crate::support::{Authority, pattern, shake, stretch, tcp_pair, tls_pair};

/// Polls `future` at most `polls` times, with a turn of the loop between two, and drops it.
async fn attempt<F: Future>(future: F, polls: usize) -> Option<F::Output> {
    let mut future = pin!(future);
    for _ in 0..polls {
        let polled = poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await;
        if let Poll::Ready(output) = polled {
            return Some(output);
        }
        yield_now().await;
    }
    None
}

/// xorshift64*.
struct Random(Cell<u64>);

impl Random {
    fn below(&self, bound: usize) -> usize {
        let mut state = self.0.get();
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        self.0.set(state);
        ((state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32) % bound as u64) as usize
    }
}

#[annulet::test]
async fn handshakes_that_are_dropped_after_any_number_of_polls() {
    let authority = Authority::new();
    let acceptor = authority.sign(&["localhost"]).acceptor().build().unwrap();
    let connector = authority.connector().build().unwrap();
    let mut dropped = 0;
    for (client_polls, server_polls) in (0..12).flat_map(|a| (0..12).map(move |b| (a, b))) {
        let (client, server) = tcp_pair().await;
        let both = annulet::join(
            attempt(connector.connect("localhost", client), client_polls),
            attempt(acceptor.accept(server), server_polls),
        );
        let (client, server) = annulet::time::timeout(crate::support::TIME_MAX, both).await.unwrap();
        dropped += usize::from(client.is_none()) + usize::from(server.is_none());
        if let (Some(Ok(client)), Some(Ok(server))) = (client, server) {
            client.write_all(b"whole").await.unwrap();
            assert_eq!(server.recv().await.unwrap().as_deref(), Some(&b"whole"[..]));
        }
    }
    // How many finish depends on how busy the machine is; those that may not even begin do not.
    assert!(dropped >= 24, "{dropped} were dropped");
    // Neither side has suffered.
    let (client, server) = shake(&connector, "localhost", &acceptor).await;
    client.unwrap();
    server.unwrap();
}

/// One direction of a connection: how far the writer and the reader are.
#[derive(Default)]
struct Direction {
    written: usize,
    read: usize,
}

impl Direction {
    async fn step(&mut self, from: &TlsStream, to: &TlsStream, random: &Random, dropped: &mut [usize; 4]) {
        let polls = random.below(4);
        match random.below(4) {
            0 => {
                let bytes = stretch(self.written, 1 + random.below(40_000));
                match attempt(from.write(&bytes), polls).await {
                    Some(written) => self.written += written.unwrap(),
                    None => dropped[0] += 1,
                }
            }
            1 => {
                let mut buffer = vec![0; 1 + random.below(30_000)];
                match attempt(to.read(&mut buffer), polls).await {
                    Some(count) => self.take(&buffer[..count.unwrap()]),
                    None => dropped[1] += 1,
                }
            }
            2 => match attempt(to.recv(), polls).await {
                Some(bytes) => self.take(&bytes.unwrap().expect("nobody has closed")),
                None => dropped[2] += 1,
            },
            _ => match attempt(from.flush(), polls).await {
                Some(flushed) => flushed.unwrap(),
                None => dropped[3] += 1,
            },
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        for byte in bytes {
            assert_eq!(*byte, pattern(self.read), "byte {} arrived wrong, twice or not at all", self.read);
            self.read += 1;
        }
    }
}

#[annulet::test]
async fn reads_and_writes_that_are_dropped_lose_nothing() {
    let (client, server) = tls_pair().await;
    let random = Random(Cell::new(0x5EED));
    let (mut there, mut back) = (Direction::default(), Direction::default());
    let mut dropped = [0; 4];
    for _ in 0..3000 {
        there.step(&client, &server, &random, &mut dropped).await;
        back.step(&server, &client, &random, &mut dropped).await;
    }
    for (direction, from, to) in [(&mut there, &client, &server), (&mut back, &server, &client)] {
        // At once: what was written may be more than the kernel keeps for a reader that does not read.
        let read = async {
            while let Some(bytes) = to.recv().await.unwrap() {
                direction.take(&bytes);
            }
        };
        annulet::join(async { from.shutdown().await.unwrap() }, read).await;
        assert_eq!(direction.read, direction.written);
        assert!(direction.read > 100_000, "{}", direction.read);
    }
    assert!(dropped.iter().all(|&count| count > 20), "{dropped:?}");
}

#[annulet::test]
async fn a_dropped_write_all_leaves_whole_records_behind() {
    let bytes = stretch(0, 1 << 20);
    for polls in 0..20 {
        let (client, server) = tls_pair().await;
        let is_whole = attempt(client.write_all(&bytes), polls).await.is_some();
        let close = annulet::spawn(async move { client.shutdown().await.map(|()| client) });
        let mut read = 0;
        while let Some(part) = server.recv().await.unwrap() {
            assert_eq!(part[..], bytes[read..read + part.len()]);
            read += part.len();
        }
        assert!(if is_whole { read == bytes.len() } else { read < bytes.len() }, "{polls}: {read}");
        assert_eq!(read > 0, polls > 0);
        drop(close.await.unwrap().unwrap());
    }
}

#[annulet::test]
async fn a_dropped_shutdown_says_close_notify_once() {
    for polls in 0..4 {
        let (client, server) = tls_pair().await;
        client.write_all(&stretch(0, 60_000)).await.unwrap();
        attempt(client.shutdown(), polls).await;
        let reader = annulet::spawn(async move {
            let mut read = 0;
            while let Some(part) = server.recv().await.unwrap() {
                read += part.len();
            }
            read
        });
        client.shutdown().await.unwrap();
        assert_eq!(reader.await.unwrap(), 60_000);
    }
}
