//! The same program on io_uring and on epoll (row 27: uvloop is another loop below the same code).
//!
//!     cargo run -p annulet --example drivers
//!
//! Which one a loop stands on is one line of set-up. The program below knows nothing of it.

use std::time::Instant;

use annulet::net::{TcpListener, TcpStream};
use annulet::{Builder, DriverKind};

const WORDS: u32 = 1000;

/// Sends words to an echo on this loop, one after the other.
async fn program() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    annulet::spawn(async move {
        let stream = listener.accept().await.unwrap();
        let mut word = [0; 4];
        while stream.read_exact(&mut word).await.is_ok() {
            stream.write_all(&word).await.unwrap();
        }
    });
    let stream = TcpStream::connect(address).await.unwrap();
    for word in 0..WORDS {
        stream.write_all(&word.to_be_bytes()).await.unwrap();
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(u32::from_be_bytes(answer), word);
    }
}

fn main() -> std::io::Result<()> {
    for driver in [DriverKind::IoUring, DriverKind::Epoll] {
        let began = Instant::now();
        let enters = Builder::new().driver(driver).run_local(async {
            program().await;
            annulet::metrics().enters
        })?;
        println!("{driver}: {WORDS} words and back, {enters} waits in the kernel, {:.1?}", began.elapsed());
    }
    Ok(())
}
