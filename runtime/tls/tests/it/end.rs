//! How connections end: in order, by half, cut off, with nonsense.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use annulet::net::TcpStream;
use annulet_tls::{Plain, TlsError};

use crate::support::{Authority, TIME_MAX, tcp_pair, tls_pair};

#[annulet::test]
async fn a_close_is_an_end_and_a_drop_is_a_cut() {
    let (client, server) = tls_pair().await;
    client.write_all(b"whole").await.unwrap();
    let close = annulet::spawn(client.close(Duration::from_secs(5)));
    assert_eq!(server.recv().await.unwrap().as_deref(), Some(&b"whole"[..]));
    assert!(server.recv().await.unwrap().is_none());
    assert!(server.recv().await.unwrap().is_none(), "the end stays the end");
    drop(server);
    close.await.unwrap().unwrap();

    let (client, server) = tls_pair().await;
    // What it has not read would make the kernel reset the connection; a server's tickets come before its first byte.
    server.write_all(b"!").await.unwrap();
    client.read_exact(&mut [0]).await.unwrap();
    client.write_all(b"half of").await.unwrap();
    drop(client);
    assert_eq!(server.recv().await.unwrap().as_deref(), Some(&b"half of"[..]));
    let error = server.recv().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
    assert!(error.to_string().contains("close_notify"), "{error}");
    let again = server.read(&mut [0; 8]).await.unwrap_err();
    assert_eq!(again.kind(), ErrorKind::UnexpectedEof, "a cut stays a cut");
}

#[annulet::test]
async fn after_shutdown_the_other_direction_goes_on() {
    let (client, server) = tls_pair().await;
    client.write_all(b"question").await.unwrap();
    client.shutdown().await.unwrap();
    client.shutdown().await.unwrap();
    let error = client.write_all(b"more").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    assert!(error.to_string().contains("before `shutdown`"), "{error}");

    assert_eq!(server.recv().await.unwrap().as_deref(), Some(&b"question"[..]));
    assert!(server.recv().await.unwrap().is_none());
    server.write_all(b"answer").await.unwrap();
    server.shutdown().await.unwrap();
    let mut answer = [0; 6];
    client.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"answer");
    assert!(client.recv().await.unwrap().is_none());
}

#[annulet::test]
async fn a_deadline_ends_a_wait_and_the_connection_goes_on() {
    let (client, server) = tls_pair().await;
    server.set_recv_deadline(Some(Instant::now()));
    assert_eq!(server.recv().await.unwrap_err().kind(), ErrorKind::TimedOut);
    server.set_recv_deadline(None);
    client.write_all(b"late").await.unwrap();
    assert_eq!(server.recv().await.unwrap().as_deref(), Some(&b"late"[..]));
}

#[annulet::test]
async fn bytes_from_elsewhere_end_the_connection_after_what_came_before() {
    let (client, server) = tls_pair().await;
    client.write_all(b"true").await.unwrap();
    client.flush().await.unwrap();
    // A record of application data that was encrypted with no key at all.
    client
        .get_ref()
        .write_all(&[
            0x17, 3, 3, 0, 20, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20,
        ])
        .await
        .unwrap();
    assert_eq!(server.recv().await.unwrap().as_deref(), Some(&b"true"[..]));
    for _ in 0..2 {
        let error = server.recv().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidData, "{error}");
    }
    let error = server.write(b"answer").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidData, "{error}");
    assert_eq!(server.flush().await.unwrap_err().kind(), ErrorKind::InvalidData);
    // The alert that says so arrives.
    let error = client.recv().await.unwrap_err();
    assert!(error.to_string().contains("BadRecordMac"), "{error}");
}

/// What an acceptor says of a client that sends `bytes`, and then ends its side if it is to.
async fn accept_of(bytes: &[u8], is_ended: bool) -> std::io::Error {
    let acceptor = Authority::new().sign(&["localhost"]).acceptor().build().unwrap();
    let (client, server) = tcp_pair().await;
    let client = annulet::spawn({
        let bytes = bytes.to_vec();
        async move {
            client.write_all(&bytes).await.unwrap();
            if is_ended {
                drop(client);
            } else {
                read_to_end(&client).await;
            }
        }
    });
    let accepted = annulet::time::timeout(TIME_MAX, acceptor.accept(server)).await;
    let error = accepted.expect("a failure is told in time").unwrap_err();
    client.await.unwrap();
    error
}

async fn read_to_end(stream: &TcpStream) {
    while let Ok(Some(_)) = stream.recv().await {}
}

#[annulet::test]
async fn nonsense_instead_of_a_client_hello() {
    for nonsense in [
        &b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"[..],
        b"\0\0\0\0\0\0\0\0",
        &[0xff; 5000],
        b"SSH-2.0-OpenSSH\r\n",
    ] {
        let error = accept_of(nonsense, false).await;
        assert_eq!(error.kind(), ErrorKind::InvalidData, "{error}");
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>()).unwrap();
        assert!(inner.is_not_tls(), "{inner}");
        assert!(inner.to_string().contains("not TLS"), "{inner}");
    }
}

#[annulet::test]
async fn a_client_without_tls_hears_an_alert_or_is_given_back() {
    let acceptor = Authority::new().sign(&["localhost"]).acceptor().build().unwrap();
    for is_given_back in [false, true] {
        let (client, server) = tcp_pair().await;
        client.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        let heard = annulet::spawn(async move {
            let mut heard = Vec::new();
            while let Some(bytes) = client.recv().await.unwrap() {
                heard.extend_from_slice(&bytes);
            }
            heard
        });
        if is_given_back {
            let Plain { stream, received } = acceptor.accept_or_plain(server).await.unwrap().unwrap_err();
            assert_eq!(&received[..], b"GET / HTTP/1.1\r\n\r\n");
            drop(received);
            stream.write_all(b"without").await.unwrap();
            stream.close(TIME_MAX).await.unwrap();
            assert_eq!(heard.await.unwrap(), b"without");
        } else {
            acceptor.accept(server).await.unwrap_err();
            // decode_error, and fatal (RFC 8446 section 6).
            assert_eq!(heard.await.unwrap(), [21, 3, 3, 0, 2, 2, 50]);
        }
    }
}

#[annulet::test]
async fn a_client_that_leaves_in_the_middle_of_the_handshake() {
    // The beginning of a ClientHello: a handshake record of 512 bytes, of which 9 are there.
    for beginning in [&[][..], &[0x16], &[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3, 1, 2, 3]] {
        let error = accept_of(beginning, true).await;
        assert_eq!(error.kind(), ErrorKind::UnexpectedEof, "{error}");
        assert!(error.to_string().contains("middle of the TLS handshake"), "{error}");
    }
}

#[annulet::test]
async fn a_server_that_leaves_in_the_middle_of_the_handshake() {
    let connector = Authority::new().connector().build().unwrap();
    let (client, server) = tcp_pair().await;
    let server = annulet::spawn(async move { drop(server.recv().await.unwrap()) });
    let error = connector.connect("localhost", client).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnexpectedEof, "{error}");
    server.await.unwrap();
}

#[annulet::test]
async fn a_client_that_says_nothing_is_the_callers_timeout() {
    let acceptor = Authority::new().sign(&["localhost"]).acceptor().build().unwrap();
    let (client, server) = tcp_pair().await;
    let accepted = annulet::time::timeout(Duration::from_millis(20), acceptor.accept(server)).await;
    assert!(accepted.is_err());
    // Dropping the handshake closed the connection.
    assert!(client.recv().await.unwrap().is_none());
}

#[annulet::test]
async fn a_handshake_over_bytes_that_come_one_by_one() {
    let authority = Authority::new();
    let acceptor = authority.sign(&["localhost"]).acceptor().build().unwrap();
    let connector = authority.connector().build().unwrap();
    // (client, near) ─ a relay that passes single bytes ─ (far, server)
    let (client, near) = tcp_pair().await;
    let (far, server) = tcp_pair().await;
    near.set_nodelay(true).unwrap();
    far.set_nodelay(true).unwrap();
    let relay = annulet::spawn(async move {
        annulet::select(pass(&near, &far), pass(&far, &near)).await;
    });
    let both = annulet::join(connector.connect("localhost", client), acceptor.accept(server));
    let (client, server) = annulet::time::timeout(TIME_MAX, both).await.unwrap();
    let (client, server) = (client.unwrap(), server.unwrap());
    client.write_all(b"drop by drop").await.unwrap();
    let mut all = [0; 12];
    server.read_exact(&mut all).await.unwrap();
    assert_eq!(&all, b"drop by drop");
    drop(client);
    relay.await.unwrap();
}

async fn pass(from: &TcpStream, to: &TcpStream) {
    while let Ok(Some(bytes)) = from.recv().await {
        for byte in &bytes[..] {
            // So that it leaves alone. Who is gone does not take the server's tickets any more.
            if to.write_all(std::slice::from_ref(byte)).await.is_err() || to.flush().await.is_err() {
                return;
            }
        }
    }
}
