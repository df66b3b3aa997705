//! Datagrams, descriptors, Unix sockets and readiness: dropped at every await point, nothing is lost and nothing stays.

use std::cell::Cell;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use annulet::net::{AsyncFd, UdpSocket, UnixDatagram, UnixListener, UnixStream};
use annulet::time::sleep;

use super::{Random, allocator, alone, attempt, descriptors};

/// Numbers in order, of which none may be lost or come twice.
#[derive(Default)]
struct Count {
    sent: u32,
    received: u32,
}

impl Count {
    fn take(&mut self, bytes: &[u8]) {
        assert_eq!(bytes, self.received.to_ne_bytes(), "a datagram was lost or came twice");
        self.received += 1;
    }

    fn waiting(&self) -> u32 {
        self.sent - self.received
    }
}

/// Few enough that neither the kernel's buffers nor its queues are full.
const WAITING_MAX: u32 = 8;

async fn drop_everywhere(random: &Random, rounds: u64) {
    let name = format!("\0annulet-cancel-{}", std::process::id());
    let listener = UnixListener::bind(&name).unwrap();
    let (udp, udp_peer) = (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
    udp.connect(udp_peer.local_addr().unwrap()).await.unwrap();
    let (unix, unix_peer) = UnixDatagram::pair().unwrap();
    let (stream, stream_peer) = UnixStream::pair().unwrap();
    let (pipe, mut pipe_peer) = std::io::pipe().unwrap();
    let pipe = AsyncFd::new(pipe).unwrap();
    let (mut udp_count, mut unix_count, mut stream_count, mut passed) =
        (Count::default(), Count::default(), Count::default(), 0_u32);
    for _ in 0..rounds {
        let polls = random.below(4);
        let mut buffer = [0; 64];
        match random.below(12) {
            // A dropped send of a datagram has sent nothing, and one that needs no waiting is done at its first poll.
            0 if udp_count.waiting() < WAITING_MAX => {
                let sent = attempt(udp.send(&udp_count.sent.to_ne_bytes()), polls).await;
                udp_count.sent += u32::from(sent.is_some_and(|sent| sent.is_ok()));
            }
            1 => {
                if let Some(received) = attempt(udp_peer.recv_from(&mut buffer), polls).await {
                    udp_count.take(&buffer[..received.unwrap().0]);
                }
            }
            2 => {
                if let Some(datagram) = attempt(udp_peer.recv_datagram(), polls).await {
                    udp_count.take(&datagram.unwrap());
                }
            }
            3 => drop(attempt(udp_peer.peek_from(&mut buffer), polls).await),
            4 if unix_count.waiting() < WAITING_MAX => {
                let sent = attempt(unix.send(&unix_count.sent.to_ne_bytes()), polls).await;
                unix_count.sent += u32::from(sent.is_some_and(|sent| sent.is_ok()));
            }
            5 => {
                if let Some(count) = attempt(unix_peer.recv(&mut buffer), polls).await {
                    unix_count.take(&buffer[..count.unwrap()]);
                }
            }
            6 if stream_count.waiting() < WAITING_MAX => {
                // Each number travels with a pipe of its own.
                let (_, writer) = std::io::pipe().unwrap();
                let (bytes, writer) = (stream_count.sent.to_ne_bytes(), OwnedFd::from(writer));
                let sent = attempt(stream.send_with_fds(&bytes, &[writer.as_fd()]), polls).await;
                stream_count.sent += u32::from(sent.is_some_and(|sent| sent.is_ok()));
            }
            7 | 8 => {
                if let Some(received) = attempt(stream_peer.recv_with_fds(&mut buffer), polls).await {
                    let (count, descriptors) = received.unwrap();
                    stream_count.take(&buffer[..count]);
                    passed += descriptors.len() as u32;
                }
            }
            9 => {
                drop(attempt(UnixStream::connect(&name), polls).await);
                drop(attempt(listener.accept(), random.below(4)).await);
            }
            10 => {
                // Something to read half of the time.
                if random.below(2) == 0 {
                    pipe_peer.write_all(b"x").unwrap();
                }
                if attempt(pipe.readable(), polls).await.is_some() {
                    pipe.inner().read_exact(&mut [0]).unwrap();
                }
            }
            _ => drop(attempt(UnixDatagram::unbound().unwrap().recv(&mut buffer), polls).await),
        }
    }
    while udp_count.waiting() > 0 {
        udp_count.take(&udp_peer.recv_datagram().await.unwrap());
    }
    let mut buffer = [0; 64];
    while unix_count.waiting() > 0 {
        let count = unix_peer.recv(&mut buffer).await.unwrap();
        unix_count.take(&buffer[..count]);
    }
    while stream_count.waiting() > 0 {
        let (count, descriptors) = stream_peer.recv_with_fds(&mut buffer).await.unwrap();
        stream_count.take(&buffer[..count]);
        passed += descriptors.len() as u32;
    }
    assert_eq!(passed, stream_count.sent, "a descriptor was lost");
    assert!(udp_count.sent > 0 && unix_count.sent > 0 && passed > 0, "something was sent");
}

#[test]
fn datagrams_and_descriptors_survive_dropped_waits() {
    let _alone = alone();
    let variable = |name: &str| std::env::var(name).ok().map(|value| value.parse::<u64>().unwrap());
    let rounds = variable("ANNULET_CANCEL_ROUNDS").unwrap_or(100_000) / 5;
    let seed = variable("ANNULET_SEED").unwrap_or_else(|| u64::from(std::process::id()) << 17 | 1);
    println!("ANNULET_SEED={seed}, {rounds} futures");
    annulet::run(async {});
    let before = descriptors();
    let random = Random(Cell::new(seed));
    for mask in ["", "message_multishot", "buffer_ring"] {
        println!("mask {mask:?}");
        let test = async {
            drop_everywhere(&random, rounds / 3).await;
            for _ in 0..10_000 {
                let metrics = annulet::metrics();
                if (metrics.sockets, metrics.listeners, metrics.operations) == (0, 0, 0) {
                    break;
                }
                sleep(Duration::from_micros(100)).await;
            }
            let metrics = annulet::metrics();
            assert_eq!((metrics.sockets, metrics.listeners, metrics.operations), (0, 0, 0), "{metrics:?}");
            assert_eq!((metrics.buffers_held, metrics.timers, metrics.tasks), (0, 0, 0), "{metrics:?}");
        };
        annulet::Builder::new().ring_mask(mask).run_local(test).unwrap();
    }
    assert_eq!(descriptors(), before, "descriptors leaked");
    let (_, damaged) = allocator::inspect();
    assert_eq!(damaged, 0, "memory was written to after it was freed");
}

#[test]
fn descriptors_beyond_the_limit_are_told_and_closed() {
    let _alone = alone();
    annulet::run(async {
        let (one, other) = UnixStream::pair().unwrap();
        let (_, writer) = std::io::pipe().unwrap();
        one.send_with_fds(b"x", &[writer.as_fd(); 5]).await.unwrap();
        let before = descriptors();
        // Room for two more; the reading of /proc above had one of its own.
        let limits = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        let lowest_free = OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        let current = std::os::fd::AsRawFd::as_raw_fd(&lowest_free) as u64 + 2;
        drop(lowest_free);
        let low = rustix::process::Rlimit { current: Some(current), maximum: limits.maximum };
        rustix::process::setrlimit(rustix::process::Resource::Nofile, low).unwrap();
        let lost = other.recv_with_fds(&mut [0; 8]).await;
        rustix::process::setrlimit(rustix::process::Resource::Nofile, limits).unwrap();
        let text = lost.unwrap_err().to_string();
        assert!(text.contains("ulimit -n"), "{text}");
        assert_eq!(descriptors(), before, "what arrived was closed");
    });
}
