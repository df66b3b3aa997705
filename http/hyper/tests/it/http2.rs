//! HTTP/2: known beforehand, by ALPN, with hyper's client and curl on the other side.
use std::process::Command;

use annulet::net::{TcpListener, TcpStream};
use annulet_hyper::{Io, LocalExecutor, LoopTimer, Server, Transport};
use annulet_tls::{TlsAcceptor, TlsConnector};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http2;

use crate::support::{app, read_all, run, start};

/// Requests side by side on one connection.
async fn check<S: Transport>(stream: S) {
    let mut builder = http2::Builder::new(LocalExecutor);
    builder.timer(LoopTimer);
    let (sender, connection) = builder.handshake(Io::new(stream)).await.unwrap();
    let connection = annulet::spawn(connection);
    let hellos = (0..20).map(|number| {
        let mut sender = sender.clone();
        async move {
            let request =
                http::Request::get(format!("http://a/hello/{number}")).body(Full::default()).unwrap();
            let answer = sender.send_request(request).await.unwrap();
            assert_eq!(answer.version(), http::Version::HTTP_2);
            let content = answer.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(content, format!("hello, {number}!"));
        }
    });
    annulet::gather(hellos.collect::<Vec<_>>()).await;
    let long = Bytes::from("x".repeat(300_000));
    let request = http::Request::post("http://a/echo").body(Full::new(long.clone())).unwrap();
    let answer = sender.clone().send_request(request).await.unwrap();
    assert!(answer.into_body().collect().await.unwrap().to_bytes() == long);
    drop(sender);
    connection.await.unwrap().unwrap();
}

#[test]
fn known_beforehand() {
    run(async {
        let (_, address) = start(app());
        check(TcpStream::connect(address).await.unwrap()).await;
    });
}

#[test]
fn by_alpn() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let acceptor = TlsAcceptor::builder().certificate(certificate.as_bytes(), key.as_bytes());
    let acceptor = acceptor.alpn(["h2", "http/1.1"]).build().unwrap();
    run(async move {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = Server::new(app());
        let serving = server.clone();
        drop(annulet::spawn(async move { serving.serve_tls(listener, &acceptor).await }));
        let connector = TlsConnector::builder().root_pem(certificate.as_bytes());
        let h2 = connector.clone().alpn(["h2"]).build().unwrap();
        let stream = h2.connect("localhost", TcpStream::connect(address).await.unwrap()).await.unwrap();
        check(stream).await;
        // And the other protocol on the same port, agreed upon or not.
        for alpn in [&["http/1.1"][..], &[]] {
            let connector = connector.clone().alpn(alpn).build().unwrap();
            let client = annulet_http::Client::builder().tls(connector).build();
            let url = format!("https://localhost:{}/hello/you", address.port());
            let answer = client.get(url).send().await.unwrap();
            assert_eq!(answer.text().await.unwrap(), "hello, you!");
        }
        // Who speaks without TLS is told so.
        let stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        let told = read_all(&stream).await;
        assert!(told.starts_with("HTTP/1.1 400 ") && told.ends_with("use https://\n"), "{told:?}");
        drop(stream);
        server.start_drain();
        server.drained().await;
    });
}

#[test]
fn curl_talks_http2() {
    let version = Command::new("curl").arg("--version").output();
    if !version.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains("HTTP2")) {
        eprintln!("skipped: there is no `curl` with HTTP/2 on this machine");
        return;
    }
    run(async {
        let (_, address) = start(app());
        let mut command = Command::new("curl");
        command.args([
            "-sS",
            "--max-time",
            "20",
            "--noproxy",
            "*",
            "--http2-prior-knowledge",
            "-w",
            " %{http_version}",
        ]);
        command.arg(format!("http://{address}/hello/curl"));
        let output = annulet::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "hello, curl! 2");
    });
}
