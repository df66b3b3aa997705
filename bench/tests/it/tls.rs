//! Loads over TLS.

use std::net::SocketAddr;
use std::sync::mpsc;
use std::time::Duration;

use annulet::net::TcpListener;
use annulet_tls::{TlsAcceptor, TlsStream};

use crate::support::{HELLO, run};

/// A server for 127.0.0.1 that answers every request; gives its address and its certificate, which is its own authority.
fn server() -> (SocketAddr, String) {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let acceptor = TlsAcceptor::builder()
        .certificate(certificate.as_bytes(), key.as_bytes())
        .alpn(["http/1.1"])
        .build()
        .unwrap();
    let (sender, receiver) = mpsc::channel();
    // It ends with the test's process.
    std::thread::spawn(move || {
        annulet::run(async move {
            let listener = TcpListener::bind("0.0.0.0:0").unwrap();
            let port = listener.local_addr().unwrap().port();
            sender.send(SocketAddr::from(([127, 0, 0, 1], port))).unwrap();
            loop {
                let (stream, acceptor) = (listener.accept().await.unwrap(), acceptor.clone());
                annulet::spawn(async move {
                    // A client that refuses the certificate is none of the server's business.
                    if let Ok(stream) = acceptor.accept(stream).await {
                        assert_eq!(stream.alpn(), Some(&b"http/1.1"[..]));
                        answer(&stream).await;
                    }
                });
            }
        });
    });
    (receiver.recv().unwrap(), certificate)
}

async fn answer(stream: &TlsStream) {
    let mut heads = Vec::new();
    while let Ok(Some(bytes)) = stream.recv().await {
        heads.extend_from_slice(&bytes);
        while let Some(end) = heads.windows(4).position(|end| end == b"\r\n\r\n") {
            heads.drain(..end + 4);
            stream.with_send_buffer(|buffer| buffer.extend_from_slice(HELLO));
        }
    }
}

#[test]
fn every_request_is_answered_over_tls() {
    let (address, _) = server();
    for (arguments, requests, handshakes) in [
        ("-c3 -t2 -n100", 100, 3),
        ("-c3 -t1 -n1000 --pipeline 16", 1000, 3),
        ("-c2 -t1 -n50 -R 5000", 50, 2),
    ] {
        let ran = run(&format!("load {arguments} --tls-insecure --json - https://{address}/"));
        assert_eq!(ran.code, 0, "{arguments}: {}", ran.err);
        let report = ran.json();
        assert_eq!((&report["requests"], &report["errors"]), (&requests.into(), &0.into()), "{arguments}");
        assert_eq!(report["tls"]["handshakes"], handshakes, "{arguments}");
        assert_eq!(report["tls"]["connect_time"]["count"], handshakes, "{arguments}");
    }
    let ran = run(&format!("load -c2 -t1 -n10 --tls --tls-insecure http://{address}/"));
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(ran.out.contains("TLS: 2 handshakes, "), "{}", ran.out);
}

#[test]
fn later_connections_resume_unless_they_are_not_to() {
    let (address, _) = server();
    let check = |arguments: &str| {
        let line = format!(
            "load -c1 -t1 -n40 --close-after 4 --tls-insecure {arguments} --json - https://{address}/"
        );
        let report = run(&line).json();
        assert_eq!((&report["requests"], &report["errors"]), (&40.into(), &0.into()), "{arguments}");
        let count = |name: &str| report["tls"][name].as_u64().unwrap();
        assert!(count("handshakes") >= 10, "{arguments}: {}", count("handshakes"));
        (count("handshakes"), count("resumed"))
    };
    let (handshakes, resumed) = check("");
    assert_eq!(resumed, handshakes - 1, "all but the first");
    assert_eq!(check("--tls-no-resume").1, 0);
}

#[test]
fn certificates_are_checked() {
    let (address, certificate) = server();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), certificate).unwrap();
    let root = format!("--tls-root {}", file.path().display());
    let port = address.port();

    let ran = run(&format!("load -c1 -t1 -n10 {root} https://{address}/"));
    assert_eq!(ran.code, 0, "{}", ran.err);
    // It listens on all addresses, and its certificate is for one of them.
    let ran = run(&format!("load -c1 -t1 -n10 {root} https://127.0.0.2:{port}/"));
    let words =
        "TLS: the peer's certificate is not for 127.0.0.2, but for 127.0.0.1; --tls-insecure believes it";
    assert!(ran.err.contains(words), "{}", ran.err);
    assert!(!ran.err.contains("is the server running"), "{}", ran.err);
    assert_eq!(ran.code, 3, "{}", ran.err);

    for (arguments, words) in [
        (format!("--tls-root /nowhere.pem https://{address}/"), "cannot read /nowhere.pem"),
        (format!("--tls-insecure http://{address}/"), "write https:// or --tls"),
        (format!("http://{address}/ https://{address}/"), "two runs"),
    ] {
        let ran = run(&format!("load -c1 -t1 -n10 {arguments}"));
        assert!(ran.code != 0 && ran.err.contains(words), "{arguments}: {} {}", ran.code, ran.err);
    }
}

#[test]
fn a_server_without_tls_is_told_from_one_that_is_not_there() {
    let plain = crate::support::answering(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
    let ran = run(&format!("load -c1 -t1 -n10 --timeout 1s --tls-insecure https://{plain}/"));
    assert_eq!(ran.code, 3, "{}", ran.err);
    assert!(!ran.err.is_empty());
    ran.within(Duration::from_secs(5));
}
