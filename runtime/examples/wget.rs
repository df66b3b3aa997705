//! Three hosts are asked at once, on one thread; the lines of their headers come as they arrive. Python's
//! `open_connection`, `write`, `drain`, `readline`, `close`.
//!
//! The hosts are servers of this program, so that it needs no network: each sends a line when all have sent the last.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use annulet::net::{TcpListener, TcpStream};
use annulet::spawn;
use annulet::sync::Barrier;

const HOSTS: [&str; 3] = ["www.example.com", "www.example.net", "www.example.org"];

async fn wget(host: &str, address: SocketAddr) -> io::Result<()> {
    println!("wget {host}...");
    let stream = TcpStream::connect(address).await?;
    stream.write_all(format!("GET / HTTP/1.0\r\nHost: {host}\r\n\r\n").as_bytes()).await?;
    stream.flush().await?;
    let mut lines = Lines { stream: &stream, received: Vec::new() };
    while let Some(line) = lines.next().await? {
        if line.is_empty() {
            break;
        }
        println!("{host} header > {line}");
    }
    // The body is of no interest: dropping the stream closes it.
    Ok(())
}

/// What a stream brings, line by line.
struct Lines<'a> {
    stream: &'a TcpStream,
    received: Vec<u8>,
}

impl Lines<'_> {
    async fn next(&mut self) -> io::Result<Option<String>> {
        loop {
            if let Some(end) = self.received.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.received.drain(..=end).collect();
                return Ok(Some(String::from_utf8_lossy(&line).trim_end().to_owned()));
            }
            match self.stream.recv().await? {
                Some(bytes) => self.received.extend_from_slice(&bytes),
                None => return Ok(None),
            }
        }
    }
}

async fn serve(listener: TcpListener, host: &str, together: Rc<Barrier>) -> io::Result<()> {
    let stream = listener.accept().await?;
    while let Some(bytes) = stream.recv().await? {
        if bytes.ends_with(b"\r\n\r\n") {
            break;
        }
    }
    for line in ["HTTP/1.0 200 OK", &format!("Server: {host}"), "Content-Length: 5", "", "hello"] {
        together.wait().await;
        stream.write_all(format!("{line}\r\n").as_bytes()).await?;
        stream.flush().await?;
    }
    Ok(())
}

#[annulet::main]
async fn main() -> io::Result<()> {
    let together = Rc::new(Barrier::new(HOSTS.len()));
    let mut fetching = Vec::new();
    for host in HOSTS {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        spawn(serve(listener, host, Rc::clone(&together)));
        fetching.push(spawn(wget(host, address)));
    }
    for fetch in fetching {
        fetch.await.expect("it does not panic")?;
    }
    Ok(())
}
