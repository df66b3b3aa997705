//! Futures are dropped at every await point, over and over: no byte is lost, nothing leaks, and the kernel writes to no
//! memory that was freed.
//!
//! `ANNULET_CANCEL_ROUNDS` sets the number of dropped futures (100 000), `ANNULET_SEED` repeats a run.

#![allow(unsafe_code)]

mod allocator;
mod files;
mod net;
mod process;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use annulet::net::{TcpListener, TcpStream};
use annulet::task::using;
use annulet::time::sleep;
use annulet::{TaskGroup, When, gather, select, spawn, wait, yield_now};

#[global_allocator]
static ALLOCATOR: allocator::Poisoning = allocator::Poisoning;

/// xorshift64*: enough to choose what to do next, and repeatable.
struct Random(Cell<u64>);

impl Random {
    fn below(&self, bound: u64) -> u64 {
        let mut state = self.0.get();
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        self.0.set(state);
        (state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32) % bound
    }
}

/// Polls `future` at most `polls` times, with a turn of the loop between two, and drops it.
async fn attempt<F: Future>(future: F, polls: u64) -> Option<F::Output> {
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

/// The byte at a place of the endless stream that every connection carries.
fn pattern(position: u64) -> u8 {
    (position.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8
}

fn stretch(from: u64, len: u64) -> Vec<u8> {
    (from..from + len).map(pattern).collect()
}

fn check(bytes: &[u8], position: &mut u64) {
    for byte in bytes {
        assert_eq!(*byte, pattern(*position), "byte {position} arrived wrong, twice or not at all");
        *position += 1;
    }
}

/// A connection with a continuous stream of known bytes from client to server.
struct Link {
    client: TcpStream,
    server: TcpStream,
    written: u64,
    read: u64,
}

impl Link {
    async fn new(listener: &TcpListener, address: SocketAddr) -> Link {
        let client = TcpStream::connect(address).await.unwrap();
        let server = accept_of(listener, &client).await;
        Link { client, server, written: 0, read: 0 }
    }

    async fn step(&mut self, random: &Random, dropped: &mut BTreeMap<&'static str, u64>) {
        let polls = random.below(4);
        let mut note = |what, done: bool| {
            if !done {
                *dropped.entry(what).or_default() += 1;
            }
        };
        match random.below(8) {
            0 => {
                // A `write` that is dropped has written nothing; one that is done tells how much.
                let bytes = stretch(self.written, 1 + random.below(3000));
                let count = attempt(self.client.write(&bytes), polls).await;
                note("write", count.is_some());
                self.written += count.map_or(0, |count| count.unwrap() as u64);
            }
            1 => {
                let bytes = stretch(self.written, 40_000);
                let count = attempt(self.client.write(&bytes), polls).await;
                note("write", count.is_some());
                self.written += count.map_or(0, |count| count.unwrap() as u64);
            }
            2 => note("flush", attempt(self.client.flush(), polls).await.is_some()),
            3 => {
                let lease = attempt(self.server.recv(), polls).await;
                note("recv", lease.is_some());
                if let Some(lease) = lease {
                    check(&lease.unwrap().expect("the client is open"), &mut self.read);
                }
            }
            4 | 5 => {
                let mut bytes = vec![0; 1 + random.below(5000) as usize];
                let count = attempt(self.server.read(&mut bytes), polls).await;
                note("read", count.is_some());
                if let Some(count) = count {
                    check(&bytes[..count.unwrap()], &mut self.read);
                }
            }
            6 => self.server.expect_recv(random.below(200_000)),
            _ => {
                // The peer's direction, which carries nothing: always pending, so its drop always cancels.
                let lease = attempt(self.client.recv(), polls.max(1)).await;
                note("recv (nothing to receive)", lease.is_some());
            }
        }
    }

    /// Reads what is still under way, and compares the counts.
    async fn finish(mut self) {
        self.client.flush().await.unwrap();
        while self.read < self.written {
            let lease = self.server.recv().await.unwrap().expect("the client is open");
            check(&lease, &mut self.read);
        }
        assert_eq!(self.read, self.written);
        assert!(self.server.try_recv().is_none());
    }
}

/// The server's side of `client`. Connections whose client gave up wait in the queue as well.
async fn accept_of(listener: &TcpListener, client: &TcpStream) -> TcpStream {
    let address = client.local_addr().unwrap();
    loop {
        let server = listener.accept().await.unwrap();
        if server.peer_addr().is_ok_and(|peer| peer == address) {
            return server;
        }
    }
}

/// Several futures or tasks at a time, dropped as one: what it was, and whether it was done.
async fn several(random: &Random, address: SocketAddr) -> (&'static str, bool) {
    let polls = random.below(4);
    let micros = |micros| sleep(Duration::from_micros(micros));
    match random.below(5) {
        0 => {
            let group = TaskGroup::<std::io::Error>::scope(async |group| {
                group.spawn(async move { TcpStream::connect(address).await.map(drop) });
                group.spawn(async move {
                    micros(60_000_000).await;
                    Ok(())
                });
                micros(300).await;
                Err::<(), _>(std::io::ErrorKind::Other.into())
            });
            ("group", attempt(group, polls).await.is_some())
        }
        1 => ("gather", attempt(gather((0..40).map(micros)), polls).await.is_some()),
        2 => {
            let connecting = select(TcpStream::connect(address), micros(random.below(300)));
            ("select", attempt(connecting, polls).await.is_some())
        }
        3 => {
            let tasks = [100, 200].map(|time| spawn(micros(time)));
            let waiting = wait(tasks, When::FIRST_COMPLETED).timeout(Duration::from_micros(150));
            ("wait", attempt(waiting, polls).await.is_some())
        }
        _ => {
            let closing = using(
                address,
                async |_| micros(100).await,
                async |address| {
                    drop(TcpStream::connect(address).await);
                },
            );
            ("using", attempt(closing, polls).await.is_some())
        }
    }
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// One test at a time: both count what the process holds.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn futures_can_be_dropped_at_every_await_point() {
    let _alone = alone();
    let variable = |name: &str| std::env::var(name).ok().map(|value| value.parse::<u64>().unwrap());
    let rounds = variable("ANNULET_CANCEL_ROUNDS").unwrap_or(100_000);
    let seed = variable("ANNULET_SEED").unwrap_or_else(|| u64::from(std::process::id()) << 17 | 1);
    println!("ANNULET_SEED={seed}, {rounds} futures");
    annulet::run(async {});
    let before = descriptors();
    let random = Random(Cell::new(seed));
    let mut dropped = BTreeMap::new();
    // Few buffers, so that streams are paused and starved too.
    let builder = annulet::Builder::new().receive_buffers_max(64);
    builder
        .run_local(async {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let mut links = Vec::new();
            for _ in 0..8 {
                links.push(Link::new(&listener, address).await);
            }
            for _ in 0..rounds {
                match random.below(20) {
                    0 => {
                        let connected = attempt(TcpStream::connect(address), random.below(4)).await;
                        *dropped.entry("connect").or_default() += u64::from(connected.is_none());
                    }
                    1 => {
                        let accepted = attempt(listener.accept(), random.below(4)).await;
                        *dropped.entry("accept").or_default() += u64::from(accepted.is_none());
                    }
                    2 => {
                        // Some would outlast the test: their timers must go with them.
                        let time =
                            Duration::from_micros([random.below(300), 60_000_000][random.below(2) as usize]);
                        let slept = attempt(sleep(time), random.below(4)).await;
                        *dropped.entry("sleep").or_default() += u64::from(slept.is_none());
                    }
                    3 => {
                        // Lent bytes: the future is dropped while the kernel may be reading them. The stream's position
                        // is unknown then, so the link is given up, half-sent bytes and all.
                        let index = random.below(links.len() as u64) as usize;
                        let bytes = stretch(links[index].written, 1 + random.below(100_000));
                        let len = bytes.len() as u64;
                        match attempt(links[index].client.send(bytes), random.below(4)).await {
                            Some((result, bytes)) => {
                                result.unwrap();
                                assert_eq!(bytes.len() as u64, len);
                                links[index].written += len;
                            }
                            None => {
                                *dropped.entry("send").or_default() += 1;
                                let old =
                                    std::mem::replace(&mut links[index], Link::new(&listener, address).await);
                                let mut read = old.read;
                                if let Some(Ok(Some(lease))) = attempt(old.server.recv(), 2).await {
                                    check(&lease, &mut read);
                                }
                            }
                        }
                    }
                    4 => {
                        // A stream is dropped with whatever it has in flight.
                        let index = random.below(links.len() as u64) as usize;
                        links[index] = Link::new(&listener, address).await;
                    }
                    5 => {
                        let index = random.below(links.len() as u64) as usize;
                        let old = std::mem::replace(&mut links[index], Link::new(&listener, address).await);
                        let closed =
                            attempt(old.client.close(Duration::from_millis(1)), random.below(4)).await;
                        *dropped.entry("close").or_default() += u64::from(closed.is_none());
                    }
                    6 => {
                        let (what, done) = several(&random, address).await;
                        *dropped.entry(what).or_default() += u64::from(!done);
                    }
                    _ => {
                        let index = random.below(links.len() as u64) as usize;
                        links[index].step(&random, &mut dropped).await;
                    }
                }
            }
            for link in links {
                link.finish().await;
            }
            drop(listener);
            for _ in 0..10_000 {
                let metrics = annulet::metrics();
                if (metrics.sockets, metrics.listeners, metrics.operations, metrics.tasks) == (0, 0, 0, 0) {
                    break;
                }
                sleep(Duration::from_micros(100)).await;
            }
            let metrics = annulet::metrics();
            assert_eq!((metrics.sockets, metrics.listeners, metrics.operations), (0, 0, 0), "{metrics:?}");
            assert_eq!((metrics.buffers_held, metrics.timers, metrics.tasks), (0, 0, 0), "{metrics:?}");
        })
        .unwrap();
    assert_eq!(descriptors(), before, "descriptors leaked");
    let (checked, damaged) = allocator::inspect();
    println!("dropped: {dropped:?}; {checked} freed blocks looked at, {damaged} damaged");
    assert_eq!(damaged, 0, "memory was written to after it was freed");
    for what in [
        "connect", "accept", "sleep", "send", "close", "write", "flush", "recv", "read", "group", "gather",
        "select", "wait", "using",
    ] {
        assert!(
            dropped.get(what).is_some_and(|count| *count > rounds / 10_000),
            "{what} was hardly ever dropped"
        );
    }
}

/// More than a socket takes at once, so that the kernel still reads it when its owner is gone.
const TOO_MUCH: u64 = 12 << 20;

#[test]
fn bytes_in_flight_outlive_their_future_and_their_stream() {
    let _alone = alone();
    annulet::run(async {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        for drops_stream in [false, true] {
            for polls in 1..4 {
                let Link { client, server, .. } = Link::new(&listener, address).await;
                assert!(attempt(client.send(stretch(0, TOO_MUCH)), polls).await.is_none(), "it does not fit");
                let client = if drops_stream {
                    drop(client);
                    None
                } else {
                    Some(client)
                };
                let mut position = 0;
                while position < TOO_MUCH {
                    check(&server.recv().await.unwrap().expect("all of it arrives"), &mut position);
                }
                drop(client);
                assert!(server.recv().await.unwrap().is_none());
            }
        }
    });
    let (_, damaged) = allocator::inspect();
    assert_eq!(damaged, 0, "memory was written to after it was freed");
}
