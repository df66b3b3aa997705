//! Files to connections without a copy: every byte, in order, whatever the page cache has and however slowly the peer reads.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use annulet::fs::File;
use annulet::net::{TcpListener, TcpSocket, TcpStream};

use crate::support::{pair, until};

/// A file of its own; gone with it.
struct Content(PathBuf);

impl Content {
    fn new(name: &str, len: usize) -> Content {
        let path = std::env::temp_dir().join(format!("annulet-send-file-{name}-{}", std::process::id()));
        std::fs::write(&path, (0..len).map(pattern).collect::<Vec<u8>>()).unwrap();
        Content(path)
    }

    /// Asks the kernel to forget what it has read; on a file system in memory it will not.
    fn forget(&self) {
        let file = std::fs::File::open(&self.0).unwrap();
        file.sync_all().unwrap();
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
    }
}

impl Drop for Content {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn pattern(position: usize) -> u8 {
    (position * 31 + position / 251) as u8
}

/// Sends a range; gives how many bytes left before the end of the file.
async fn send_range(stream: &TcpStream, file: &File, from: usize, len: usize) -> usize {
    let mut sent = 0;
    while sent < len {
        match stream.send_file(file, (from + sent) as u64, len - sent).await.unwrap() {
            0 => break,
            count => sent += count,
        }
    }
    sent
}

/// Sends `from..from + len` of a file of a million bytes between two words; `expected` bytes of it arrive.
fn check(name: &str, from: usize, len: usize, expected: usize, forgotten: bool) {
    let content = Content::new(name, 1_000_000);
    if forgotten {
        content.forget();
    }
    annulet::run(async {
        let (client, server) = pair().await;
        let file = File::open(&content.0).await.unwrap();
        let sender = annulet::spawn(async move {
            server.write_all(b"before ").await.unwrap();
            let sent = send_range(&server, &file, from, len).await;
            server.write_all(b" behind").await.unwrap();
            server.flush().await.unwrap();
            sent
        });
        let mut got = Vec::new();
        while let Some(lease) = client.recv().await.unwrap() {
            got.extend_from_slice(&lease);
        }
        assert_eq!(sender.await.unwrap(), expected);
        let wanted = (from..from + expected).map(pattern);
        let wanted: Vec<u8> = b"before ".iter().copied().chain(wanted).chain(*b" behind").collect();
        assert!(got == wanted, "{} bytes of {} came, or others", got.len(), wanted.len());
    });
}

#[test]
fn what_is_in_the_page_cache() {
    check("all", 0, 1_000_000, 1_000_000, false);
    check("inside", 4097, 300_001, 300_001, false);
    check("one", 999_999, 1, 1, false);
    check("none", 5, 0, 0, false);
    check("beyond", 900_000, 200_000, 100_000, false);
    check("behind", 2_000_000, 10, 0, false);
}

#[test]
fn what_is_not() {
    check("cold", 0, 1_000_000, 1_000_000, true);
    check("cold-inside", 123_456, 654_321, 654_321, true);
}

/// A client with a small receive buffer, which the server's sends outrun.
async fn narrow_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_notsent_lowat(4096).unwrap();
    let address = listener.local_addr().unwrap();
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let client = annulet::spawn(async move { socket.connect(address).await.unwrap() });
    let server = listener.accept().await.unwrap();
    (client.await.unwrap(), server)
}

#[test]
fn a_slow_reader_gets_it_all() {
    let content = Content::new("slow", 300_000);
    annulet::run(async {
        let (client, server) = narrow_pair().await;
        assert_eq!(server.notsent_lowat().unwrap(), 4096, "inherited from the listener");
        let file = File::open(&content.0).await.unwrap();
        let sender = annulet::spawn(async move { send_range(&server, &file, 0, 300_000).await });
        annulet::time::sleep(Duration::from_millis(5)).await;
        assert!(!sender.is_finished(), "the kernel has taken it all");
        let mut position = 0;
        while let Some(lease) = client.recv().await.unwrap() {
            for byte in &lease[..] {
                assert_eq!(*byte, pattern(position), "byte {position}");
                position += 1;
            }
        }
        assert_eq!((position, sender.await.unwrap()), (300_000, 300_000));
    });
}

#[test]
fn a_dropped_wait_leaves_the_stream_as_it_was() {
    let content = Content::new("dropped", 300_000);
    annulet::run(async {
        let (client, server) = narrow_pair().await;
        let file = File::open(&content.0).await.unwrap();
        let mut sent = 0;
        // Until there is no room for more, so that the wait is dropped.
        while let Ok(count) =
            annulet::time::timeout(Duration::from_millis(50), server.send_file(&file, sent, 300_000)).await
        {
            sent += count.unwrap() as u64;
            assert!(sent < 300_000, "the kernel has taken it all");
        }
        let receiver = annulet::spawn(async move {
            let mut got = Vec::new();
            while let Some(lease) = client.recv().await.unwrap() {
                got.extend_from_slice(&lease);
            }
            got
        });
        // The socket waits again, as the ring needs it.
        server.write_all(b"behind").await.unwrap();
        server.flush().await.unwrap();
        drop(server);
        let got = receiver.await.unwrap();
        let wanted: Vec<u8> = (0..sent as usize).map(pattern).chain(*b"behind").collect();
        assert!(got == wanted, "{} bytes of {}", got.len(), wanted.len());
    });
}

#[test]
fn a_file_that_becomes_shorter_ends() {
    let content = Content::new("shorter", 500_000);
    annulet::run(async {
        let (client, server) = pair().await;
        let receiver = annulet::spawn(async move {
            let mut got = Vec::new();
            while let Some(lease) = client.recv().await.unwrap() {
                got.extend_from_slice(&lease);
            }
            got
        });
        let file = File::open(&content.0).await.unwrap();
        assert_eq!(send_range(&server, &file, 0, 100_000).await, 100_000);
        std::fs::File::options().write(true).open(&content.0).unwrap().set_len(150_000).unwrap();
        assert_eq!(send_range(&server, &file, 100_000, 400_000).await, 50_000, "what is left, then the end");
        drop(server);
        let got = receiver.await.unwrap();
        assert!(got == (0..150_000).map(pattern).collect::<Vec<u8>>(), "{} bytes came, or others", got.len());
    });
}

#[test]
fn a_peer_that_is_gone_is_an_error() {
    let content = Content::new("gone", 300_000);
    annulet::run(async {
        let (client, server) = narrow_pair().await;
        let file = File::open(&content.0).await.unwrap();
        let sender = annulet::spawn(async move {
            loop {
                if let Err(error) = server.send_file(&file, 0, 300_000).await {
                    return error.kind();
                }
            }
        });
        client.set_zero_linger().unwrap();
        drop(client);
        until("the sender learns of the reset", || sender.is_finished()).await;
        let kind = sender.await.unwrap();
        assert!(matches!(kind, io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe), "{kind:?}");
    });
}

#[test]
fn a_direct_file_is_refused() {
    let content = Content::new("direct", 4096);
    annulet::run(async {
        let (_client, server) = pair().await;
        let Ok(file) = File::options().read(true).direct(true).open(&content.0).await else {
            println!("skipped: this file system has no O_DIRECT");
            return;
        };
        let error = server.send_file(&file, 0, 4096).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert!(error.to_string().contains("use read_at"), "{error}");
    });
}
