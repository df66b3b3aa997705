//! The same three downloads, saved as files: one after the other with a socket that blocks, and all at once with the client, which
//! takes about a third of the time.
//!
//! ```text
//! cargo run -p annulet-http --example download_sync_async
//! ```
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// What each server needs before it answers.
const DELAY: Duration = Duration::from_millis(200);
const BYTES: usize = 100_000;

/// A server on a thread of its own, so that it serves a client that blocks too.
fn serve(nth: u8) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream?;
            // The head of the request ends with an empty line.
            for line in BufReader::new(&stream).lines() {
                if line?.is_empty() {
                    break;
                }
            }
            thread::sleep(DELAY);
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {BYTES}\r\nConnection: close\r\n\r\n")?;
            stream.write_all(&vec![nth; BYTES])?;
        }
        Ok::<(), io::Error>(())
    });
    Ok(address)
}

fn download_sync(server: SocketAddr, to: &Path) -> io::Result<()> {
    let mut stream = TcpStream::connect(server)?;
    write!(stream, "GET / HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let head = answer.windows(4).position(|window| window == b"\r\n\r\n");
    std::fs::write(to, &answer[head.ok_or(io::ErrorKind::InvalidData)? + 4..])
}

async fn download_async(server: SocketAddr, to: &Path) -> io::Result<()> {
    let content = annulet_http::get(format!("http://{server}/")).await?.bytes().await?;
    annulet::fs::write(to, content).await
}

/// How long both ways took.
fn compare(folder: &Path) -> io::Result<[Duration; 2]> {
    let servers = [serve(1)?, serve(2)?, serve(3)?];
    let names = |way: &str| [1, 2, 3].map(|nth| folder.join(format!("{way}-{nth}")));
    let (sync, at_once) = (names("sync"), names("async"));

    let begun = Instant::now();
    for (server, to) in servers.iter().zip(&sync) {
        download_sync(*server, to)?;
    }
    let sync_took = begun.elapsed();

    let begun = Instant::now();
    annulet::run(async {
        let downloads =
            servers.iter().zip(&at_once).map(async |(server, to)| download_async(*server, to).await);
        annulet::gather(downloads).await.into_iter().collect::<io::Result<()>>()
    })?;
    let async_took = begun.elapsed();

    for (one, other) in sync.iter().zip(&at_once) {
        let (one, other) = (std::fs::read(one)?, std::fs::read(other)?);
        assert!(one.len() == BYTES && one == other, "both ways bring the same");
    }
    Ok([sync_took, async_took])
}

fn main() -> io::Result<()> {
    let folder = std::env::temp_dir().join(format!("annulet-downloads-{}", std::process::id()));
    std::fs::create_dir(&folder)?;
    let took = compare(&folder);
    std::fs::remove_dir_all(&folder)?;
    let [sync, at_once] = took?;
    println!("sync: {} ms", sync.as_millis());
    println!("async: {} ms, {:.2} of it", at_once.as_millis(), at_once.as_secs_f64() / sync.as_secs_f64());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// On a busy machine once may be too few.
    const TRIES: usize = 10;

    #[test]
    fn about_a_third() {
        let folder = std::env::temp_dir().join(format!("annulet-downloads-test-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        let is_third = (0..TRIES).any(|_| {
            let [sync, at_once] = compare(&folder).unwrap();
            assert!(sync >= 3 * DELAY && at_once >= DELAY, "{sync:?} {at_once:?}");
            at_once < sync / 2
        });
        std::fs::remove_dir_all(&folder).unwrap();
        assert!(is_third, "three at once should take a third");
    }
}
