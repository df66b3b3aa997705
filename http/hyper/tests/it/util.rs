//! hyper-util's own server, which tells HTTP/1 from HTTP/2, on our stream, clock and tasks.
use std::net::SocketAddr;

use annulet::net::{TcpListener, TcpStream};
use annulet_http::Client;
use annulet_hyper::{Io, LocalExecutor, LoopTimer};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http2;
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;

use crate::support::{app, run};

/// Serves the tests' router by hyper-util; says where.
fn start() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(annulet::spawn(async move {
        while let Ok(stream) = listener.accept().await {
            drop(annulet::spawn(async move {
                let mut builder = auto::Builder::new(LocalExecutor);
                builder.http1().timer(LoopTimer);
                builder.http2().timer(LoopTimer);
                let service = TowerToHyperService::new(app());
                builder.serve_connection_with_upgrades(Io::new(stream), service).await.unwrap();
            }));
        }
    }));
    address
}

#[test]
fn http1() {
    run(async {
        let (client, site) = (Client::new(), format!("http://{}", start()));
        for name in ["one", "two"] {
            let answer = client.get(format!("{site}/hello/{name}")).send().await.unwrap();
            assert_eq!(answer.text().await.unwrap(), format!("hello, {name}!"));
        }
        assert_eq!(client.stats().opened, 1);
    });
}

#[test]
fn http2() {
    run(async {
        let stream = TcpStream::connect(start()).await.unwrap();
        let (mut sender, connection) = http2::handshake(LocalExecutor, Io::new(stream)).await.unwrap();
        let connection = annulet::spawn(connection);
        let long = Bytes::from("x".repeat(300_000));
        let request = http::Request::post("http://a/echo").body(Full::new(long.clone())).unwrap();
        let answer = sender.send_request(request).await.unwrap();
        assert_eq!(answer.version(), http::Version::HTTP_2);
        assert!(answer.into_body().collect().await.unwrap().to_bytes() == long);
        drop(sender);
        connection.await.unwrap().unwrap();
    });
}
