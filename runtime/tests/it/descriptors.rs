//! Descriptors over Unix sockets, and Unix datagrams.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use annulet::net::{UnixDatagram, UnixStream};
use annulet::time::timeout;
use annulet::{spawn, yield_now};

const SOON: Duration = Duration::from_millis(5);
const LATE: Duration = Duration::from_secs(5);

/// With every way to receive that there is: multishot, one by one, and by readiness.
fn everywhere(test: impl AsyncFn()) {
    for mask in ["", "receive_multishot", "buffer_ring"] {
        println!("mask {mask:?}");
        let limited = async { timeout(LATE, test()).await.expect("in time") };
        annulet::Builder::new().ring_mask(mask).run_local(limited).unwrap();
    }
}

#[test]
fn datagrams_without_end_let_others_run() {
    everywhere(async || {
        let (one, other) = UnixDatagram::pair().unwrap();
        let others = spawn(async {});
        let mut sent = 0;
        while !others.is_finished() {
            one.send(b"again").await.unwrap();
            other.recv(&mut [0; 8]).await.unwrap();
            sent += 1;
            assert!(sent < 1000, "the other task has had no turn");
        }
    });
}

/// The writing ends of `count` pipes, and their readers.
fn pipes(count: usize) -> (Vec<io::PipeReader>, Vec<OwnedFd>) {
    (0..count).map(|_| io::pipe().map(|(reader, writer)| (reader, OwnedFd::from(writer))).unwrap()).unzip()
}

fn borrowed(descriptors: &[OwnedFd]) -> Vec<BorrowedFd<'_>> {
    descriptors.iter().map(AsFd::as_fd).collect()
}

/// Writes through what arrived and reads from the pipes that were sent.
fn check_pipes(arrived: Vec<OwnedFd>, readers: &mut [io::PipeReader]) {
    assert_eq!(arrived.len(), readers.len());
    for (number, (fd, reader)) in arrived.into_iter().zip(readers).enumerate() {
        let flags = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).unwrap();
        let flags = flags.lines().find_map(|line| line.strip_prefix("flags:\t")).unwrap();
        assert!(u32::from_str_radix(flags, 8).unwrap() & 0o2_000_000 != 0, "close on exec");
        File::from(fd).write_all(&[number as u8]).unwrap();
        let mut byte = [0];
        reader.read_exact(&mut byte).unwrap();
        assert_eq!(byte, [number as u8]);
    }
}

#[test]
fn descriptors_travel_with_the_bytes_of_a_stream() {
    everywhere(async || {
        let (one, other) = UnixStream::pair().unwrap();
        let (mut readers, writers) = pipes(3);
        // Written before, and sent before; the bytes with descriptors are read apart from it.
        one.write_all(b"first").await.unwrap();
        let count = one.send_with_fds(b"three", &borrowed(&writers)).await.unwrap();
        assert_eq!(count, 5);
        one.write_all(b"last").await.unwrap();
        let mut buffer = [0; 32];
        let (count, none) = other.recv_with_fds(&mut buffer).await.unwrap();
        let (mut bytes, mut arrived) = (buffer[..count].to_vec(), none);
        while bytes.len() < 14 {
            let (count, some) = other.recv_with_fds(&mut buffer).await.unwrap();
            bytes.extend_from_slice(&buffer[..count]);
            arrived.extend(some);
        }
        assert_eq!(bytes, b"firstthreelast");
        check_pipes(arrived, &mut readers);
        drop(one);
        assert_eq!(other.recv_with_fds(&mut buffer).await.unwrap().0, 0, "the end of the stream");
    });
}

#[test]
fn plain_reads_may_come_before_and_after() {
    everywhere(async || {
        let (one, other) = UnixStream::pair().unwrap();
        let (mut readers, writers) = pipes(1);
        let mut buffer = [0; 2];
        one.write_all(b"abcd").await.unwrap();
        assert_eq!(other.read(&mut buffer).await.unwrap(), 2);
        // The rest was received already and is given first; then the receive that is under way is called back.
        assert_eq!(other.recv_with_fds(&mut buffer).await.unwrap().0, 2);
        assert_eq!(&buffer, b"cd");
        assert!(timeout(SOON, other.recv_with_fds(&mut buffer)).await.is_err());
        one.send_with_fds(b"x", &borrowed(&writers)).await.unwrap();
        let (count, arrived) = other.recv_with_fds(&mut buffer).await.unwrap();
        assert_eq!(count, 1);
        check_pipes(arrived, &mut readers);
        one.write_all(b"y").await.unwrap();
        assert_eq!(&other.recv().await.unwrap().unwrap()[..], b"y");
    });
}

#[test]
fn a_full_socket_makes_the_sender_wait() {
    everywhere(async || {
        let (one, other) = UnixStream::pair().unwrap();
        let (mut readers, writers) = pipes(1);
        let total = 4 << 20;
        let sender = spawn(async move {
            one.write_all(&vec![b'.'; total]).await.unwrap();
            one.send_with_fds(b"!", &borrowed(&writers)).await.unwrap();
        });
        let mut buffer = vec![0; 1 << 16];
        let mut left = total;
        loop {
            let (count, arrived) = other.recv_with_fds(&mut buffer).await.unwrap();
            if !arrived.is_empty() {
                assert_eq!((left, &buffer[..count]), (0, &b"!"[..]));
                check_pipes(arrived, &mut readers);
                break;
            }
            left -= count;
        }
        sender.await.unwrap();
    });
}

#[test]
fn what_the_kernel_would_drop_is_refused() {
    annulet::run(async {
        let (one, other) = UnixStream::pair().unwrap();
        let (_readers, writers) = pipes(1);
        let check = |error: io::Error, expected: &str| {
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
            assert!(error.to_string().contains(expected), "{error}");
        };
        let many = vec![writers[0].as_fd(); 254];
        check(one.send_with_fds(b"x", &many).await.unwrap_err(), "254 descriptors are too many");
        check(one.send_with_fds(b"", &many[..1]).await.unwrap_err(), "at least one");
        check(other.recv_with_fds(&mut []).await.unwrap_err(), "at least one");
        assert_eq!(one.send_with_fds(b"x", &many[..253]).await.unwrap(), 1);
        let (_, arrived) = other.recv_with_fds(&mut [0; 8]).await.unwrap();
        assert_eq!(arrived.len(), 253);
    });
}

#[test]
fn datagrams_of_a_pair_keep_their_bounds() {
    everywhere(async || {
        let (one, other) = UnixDatagram::pair().unwrap();
        let (mut readers, writers) = pipes(2);
        for len in [3, 0, 100_000] {
            assert_eq!(one.send(&vec![b'.'; len]).await.unwrap(), len);
        }
        one.send_with_fds(b"two", &borrowed(&writers)).await.unwrap();
        let mut buffer = vec![0; 100_001];
        for len in [3, 0, 100_000] {
            assert_eq!(other.recv(&mut buffer).await.unwrap(), len);
        }
        let (count, arrived) = other.recv_with_fds(&mut buffer).await.unwrap();
        assert_eq!(&buffer[..count], b"two");
        check_pipes(arrived, &mut readers);
        let error = one.send(&vec![0; 10 << 20]).await.unwrap_err();
        assert!(error.to_string().contains("SO_SNDBUF"), "{error}");
    });
}

#[test]
fn a_name_is_sent_to_and_answered() {
    everywhere(async || {
        let name = |role: &str| format!("\0annulet-{}-{role}", std::process::id());
        let server = UnixDatagram::bind(name("server")).unwrap();
        let client = UnixDatagram::bind(name("client")).unwrap();
        client.send_to(b"ping", name("server")).await.unwrap();
        let mut buffer = [0; 8];
        let (count, sender) = server.recv_from(&mut buffer).await.unwrap();
        use std::os::linux::net::SocketAddrExt;
        assert_eq!(sender.as_abstract_name().unwrap(), &name("client").as_bytes()[1..]);
        server.connect(name("client")).unwrap();
        server.send(&buffer[..count]).await.unwrap();
        assert_eq!(client.recv(&mut buffer).await.unwrap(), 4);
        let error = client.send_to(b"x", name("nobody")).await.unwrap_err();
        assert!(error.to_string().starts_with("cannot send to @annulet-"), "{error}");
        let error = UnixDatagram::bind(name("client")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    });
}

/// More than `net.unix.max_dgram_qlen` lets wait.
const MANY: u32 = 2000;

#[test]
fn a_full_queue_makes_senders_wait_and_loses_nothing() {
    everywhere(async || {
        for connected in [false, true] {
            let name = format!("\0annulet-{}-full-{connected}", std::process::id());
            let server = UnixDatagram::bind(&name).unwrap();
            let sender = spawn(async move {
                let client = UnixDatagram::unbound().unwrap();
                if connected {
                    client.connect(&name).unwrap();
                }
                for number in 0..MANY {
                    let bytes = number.to_ne_bytes();
                    match connected {
                        true => client.send(&bytes).await.unwrap(),
                        false => client.send_to(&bytes, &name).await.unwrap(),
                    };
                }
            });
            yield_now().await;
            for number in 0..MANY {
                let mut bytes = [0; 4];
                assert_eq!(server.recv(&mut bytes).await.unwrap(), 4);
                assert_eq!(u32::from_ne_bytes(bytes), number);
            }
            sender.await.unwrap();
        }
    });
}
