//! Downloads three images with a library that blocks, at the same time, and saves them. Python's `requests.get` in
//! `loop.run_in_executor`.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use annulet::spawn_blocking;

const NAMES: [&str; 3] = ["cat.png", "dog.png", "owl.png"];

/// What the server has under a name: bytes of all values, of another length each.
fn image(name: &str) -> Vec<u8> {
    let len = 100_000 * (1 + NAMES.iter().position(|known| *known == name).expect("a name of ours"));
    (0..len).map(|index| (index * 31 + len) as u8).collect()
}

/// The library that blocks: HTTP/1.0 over std's sockets.
fn get(server: SocketAddr, name: &str) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server)?;
    write!(stream, "GET /{name} HTTP/1.0\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let head = answer.windows(4).position(|window| window == b"\r\n\r\n");
    Ok(answer.split_off(head.ok_or(io::ErrorKind::InvalidData)? + 4))
}

async fn download(server: SocketAddr, name: &'static str, folder: &Path) -> io::Result<PathBuf> {
    println!("downloading {name}");
    let bytes = spawn_blocking(move || get(server, name)).await??;
    println!("downloaded {name}: {} bytes", bytes.len());
    let path = folder.join(name);
    annulet::fs::write(&path, bytes).await?;
    Ok(path)
}

#[annulet::main]
async fn main() -> io::Result<()> {
    let server = serve()?;
    let folder = std::env::temp_dir().join(format!("annulet-images-{}", std::process::id()));
    annulet::fs::create_dir(&folder).await?;
    let started = Instant::now();
    let tasks = NAMES.map(|name| {
        let folder = folder.clone();
        annulet::spawn(async move { download(server, name, &folder).await })
    });
    for (task, name) in tasks.into_iter().zip(NAMES) {
        let path = task.await??;
        println!("saved {name}, byte for byte: {}", annulet::fs::read(path).await? == image(name));
    }
    println!("took {} ms; the slowest takes {} ms", started.elapsed().as_millis(), SLOWEST.as_millis());
    annulet::fs::remove_dir_all(folder).await
}

const SLOWEST: Duration = Duration::from_millis(150);

/// A slow server on threads of its own. It answers when all three requests are there: one after the other would get
/// nothing.
fn serve() -> io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let all_there = Arc::new(Barrier::new(NAMES.len()));
    thread::spawn(move || {
        for (stream, share) in listener.incoming().zip(1..=NAMES.len() as u32) {
            let all_there = Arc::clone(&all_there);
            thread::spawn(move || answer(stream?, &all_there, SLOWEST * share / NAMES.len() as u32));
        }
    });
    Ok(address)
}

fn answer(mut stream: TcpStream, all_there: &Barrier, delay: Duration) -> io::Result<()> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let line = String::from_utf8_lossy(&head);
    let name = line.split(' ').nth(1).and_then(|target| target.strip_prefix('/'));
    let bytes = image(name.ok_or(io::ErrorKind::InvalidData)?);
    all_there.wait();
    thread::sleep(delay);
    write!(stream, "HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n", bytes.len())?;
    stream.write_all(&bytes)
}
