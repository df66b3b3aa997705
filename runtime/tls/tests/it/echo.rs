//! Bytes there and back, in any slicing.

use std::rc::Rc;

use annulet::net::{UnixListener, UnixStream};
use annulet_tls::{TlsStream, Transport, Version};
use futures_util::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{Authority, pattern, stretch, tls_pair};

async fn echo<S: Transport>(stream: TlsStream<S>) {
    while let Some(bytes) = stream.recv().await.unwrap() {
        stream.write_all(&bytes).await.unwrap();
    }
    stream.shutdown().await.unwrap();
}

/// Writes `total` bytes in pieces of `piece` and reads them back through a buffer of `buffer`.
async fn check(total: usize, piece: usize, buffer: usize) {
    let (client, server) = tls_pair().await;
    let server = annulet::spawn(echo(server));
    let client = Rc::new(client);
    let writer = annulet::spawn({
        let client = Rc::clone(&client);
        async move {
            for part in stretch(0, total).chunks(piece) {
                client.write_all(part).await.unwrap();
            }
            client.shutdown().await.unwrap();
        }
    });
    let mut buffer = vec![0; buffer];
    let mut position = 0;
    loop {
        let count = client.read(&mut buffer).await.unwrap();
        if count == 0 {
            break;
        }
        for byte in &buffer[..count] {
            assert_eq!(*byte, pattern(position), "byte {position} of {total} by {piece}");
            position += 1;
        }
    }
    assert_eq!(position, total, "{total} by {piece}");
    writer.await.unwrap();
    server.await.unwrap();
}

#[annulet::test]
async fn what_is_sent_comes_back_in_any_slicing() {
    check(0, 1, 1).await;
    check(1, 1, 1).await;
    check(300, 1, 7).await;
    check(16 * 1024, 16 * 1024, 16 * 1024).await;
    check(16 * 1024 + 1, 16 * 1024 + 1, 100_000).await;
    check(50_000, 4095, 333).await;
    check(1 << 20, 1 << 20, 4096).await;
    check(1 << 20, 10_007, 65_536).await;
}

#[annulet::test]
async fn many_small_records_arrive_in_one_lease_and_come_out_one_by_one() {
    let (client, server) = tls_pair().await;
    for word in ["one", "two", "three"] {
        client.with_send_buffer(|buffer| buffer.extend_from_slice(word.as_bytes()));
    }
    client.flush().await.unwrap();
    let mut all = [0; 11];
    server.read_exact(&mut all).await.unwrap();
    assert_eq!(&all, b"onetwothree");
}

#[annulet::test]
async fn the_send_buffer_takes_more_than_a_record() {
    let (client, server) = tls_pair().await;
    let bytes = stretch(0, 100_000);
    client.with_send_buffer(|buffer| buffer.extend_from_slice(&bytes));
    let mut received = vec![0; bytes.len()];
    server.read_exact(&mut received).await.unwrap();
    assert_eq!(received, bytes);
}

#[annulet::test]
async fn a_writer_waits_for_a_reader_that_does_not_read() {
    let (client, server) = tls_pair().await;
    let bytes = stretch(0, 64 << 20);
    // More than the kernel and this side hold together.
    let written = annulet::time::timeout(std::time::Duration::from_millis(300), async {
        let mut written = 0;
        while written < bytes.len() {
            written += client.write(&bytes[written..]).await.unwrap();
        }
    });
    assert!(written.await.is_err(), "64 MiB went somewhere although nobody read");
    // The mark, and what 64 KiB of plaintext are when encrypted.
    assert!(client.send_buffered() <= 2 * 66 * 1024, "{}", client.send_buffered());
    drop(server);
}

#[annulet::test]
async fn unix_sockets_carry_it_too() {
    let name = format!("\0annulet-tls-test-{}", std::process::id());
    let listener = UnixListener::bind(&name).unwrap();
    let authority = Authority::new();
    let acceptor = authority.sign(&["localhost"]).acceptor().build().unwrap();
    let server = annulet::spawn(async move {
        echo(acceptor.accept(listener.accept().await.unwrap()).await.unwrap()).await;
    });
    let stream = UnixStream::connect(&name).await.unwrap();
    let client = authority.connector().build().unwrap().connect("localhost", stream).await.unwrap();
    client.write_all(b"over a Unix socket").await.unwrap();
    let mut answer = [0; 18];
    client.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"over a Unix socket");
    assert_eq!(client.version(), Version::Tls13);
    client.shutdown().await.unwrap();
    server.await.unwrap();
}

#[annulet::test]
async fn the_traits_of_futures_io() {
    let (client, server) = tls_pair().await;
    let server = annulet::spawn(echo(server));
    let mut client = client;
    client.write_all(b"hello").await.unwrap();
    AsyncWriteExt::close(&mut client).await.unwrap();
    let mut answer = String::new();
    AsyncReadExt::read_to_string(&mut client, &mut answer).await.unwrap();
    assert_eq!(answer, "hello");
    server.await.unwrap();
}

#[annulet::test]
async fn the_traits_of_tokio() {
    let (client, server) = tls_pair().await;
    let server = annulet::spawn(echo(server));
    let mut client = client;
    tokio::io::AsyncWriteExt::write_all(&mut client, b"hello").await.unwrap();
    tokio::io::AsyncWriteExt::shutdown(&mut client).await.unwrap();
    let mut answer = Vec::new();
    tokio::io::AsyncReadExt::read_to_end(&mut client, &mut answer).await.unwrap();
    assert_eq!(answer, b"hello");
    server.await.unwrap();
}
