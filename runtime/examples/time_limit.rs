//! A time limit cancels the work inside, and what the kernel does for it. Python's `aiohttp.Timeout(10)` and
//! `asyncio.timeout`.

use std::net::SocketAddr;
use std::time::Duration;

use annulet::net::TcpStream;
use annulet::time::{now, sleep, timeout, timeout_at};

/// A listener that takes one connection into its queue and leaves the next ones waiting.
fn full_listener() -> std::io::Result<socket2::Socket> {
    let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())?;
    listener.listen(0)?;
    Ok(listener)
}

#[annulet::main]
async fn main() -> std::io::Result<()> {
    let quick = timeout(Duration::from_secs(10), async { "in time" }).await;
    println!("quick work: {quick:?}");
    let slow = timeout_at(now() + Duration::from_millis(10), sleep(Duration::from_secs(60))).await;
    println!("slow work: {}", slow.unwrap_err());

    let listener = full_listener()?;
    let address = listener.local_addr()?.as_socket().expect("an IPv4 address");
    let mut streams = Vec::new();
    loop {
        match timeout(Duration::from_millis(100), TcpStream::connect(address)).await {
            Ok(stream) => streams.push(stream?),
            Err(elapsed) => {
                println!("a connect that nobody answers: {elapsed}");
                break;
            }
        }
    }
    // The kernel tells that it gave the connect up.
    while annulet::metrics().operations > 0 {
        annulet::yield_now().await;
    }
    println!("operations in the kernel: {}", annulet::metrics().operations);
    Ok(())
}
