//! An echo server over TLS and its clients, on one loop. Python's `asyncio.start_server(…, ssl=context)` and
//! `asyncio.open_connection(…, ssl=context)`.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use annulet::net::{TcpListener, TcpStream};
use annulet::spawn;
use annulet::time::timeout;
use annulet_tls::{TlsAcceptor, TlsConnector, TlsStream};

/// For a handshake, and for the last bytes of a connection.
const TIME_MAX: Duration = Duration::from_secs(10);

async fn serve(listener: TcpListener, acceptor: TlsAcceptor) -> io::Result<()> {
    loop {
        let stream = listener.accept().await?;
        let acceptor = acceptor.clone();
        spawn(async move {
            // A client that never finishes its handshake must not hold a connection for ever.
            let stream = timeout(TIME_MAX, acceptor.accept(stream)).await??;
            while let Some(bytes) = stream.recv().await? {
                stream.write_all(&bytes).await?;
            }
            stream.close(TIME_MAX).await
        });
    }
}

async fn connect(connector: &TlsConnector, address: SocketAddr, name: &str) -> io::Result<TlsStream> {
    let stream = TcpStream::connect(address).await?;
    timeout(TIME_MAX, connector.connect(name, stream)).await?
}

#[annulet::main]
async fn main() -> io::Result<()> {
    // A real server reads files: `TlsAcceptor::builder().certificate_files("chain.pem", "key.pem")`.
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).map_err(io::Error::other)?;
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let acceptor = TlsAcceptor::builder().certificate(certificate.as_bytes(), key.as_bytes()).build()?;
    // A client of the public internet trusts whom the system trusts: `TlsConnector::builder().native_roots()`.
    let connector = TlsConnector::builder().root_pem(certificate.as_bytes()).build()?;

    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    spawn(serve(listener, acceptor));

    for words in ["hello over TLS", "hello again"] {
        let stream = connect(&connector, address, "localhost").await?;
        println!("connected over {:?}, handshake {:?}", stream.version(), stream.handshake_kind());
        stream.write_all(words.as_bytes()).await?;
        // The server sees the end, and closes when it has sent everything back.
        stream.shutdown().await?;
        let mut answer = Vec::new();
        while let Some(bytes) = stream.recv().await? {
            answer.extend_from_slice(&bytes);
        }
        println!("echo: {}", String::from_utf8_lossy(&answer));
    }

    let error = connect(&connector, address, "other.example").await.expect_err("the name is not its own");
    println!("somebody else: {error}");
    Ok(())
}
