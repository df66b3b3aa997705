//! A worker whose loop panics is replaced by another; its listening socket stays open meanwhile, so whoever connects waits.

use std::io::{self, Read};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};

use annulet::placement::available_cores;
use annulet::{Builder, Core};

/// Loops so far; the threads share memory.
static LOOPS: AtomicU32 = AtomicU32::new(0);

async fn serve(mut core: Core) {
    let number = 1 + LOOPS.fetch_add(1, Ordering::Relaxed);
    let listener = core.take_listeners().pop().expect("one was asked for");
    let stream = listener.accept().await.expect("it listens");
    assert!(number > 1, "the first loop fails on purpose");
    stream.write_all(format!("hello from loop {number}").as_bytes()).await.expect("the client reads");
    stream.close(std::time::Duration::from_secs(10)).await.expect("it read everything");
}

fn ask(address: SocketAddr) -> io::Result<()> {
    for _ in 0..2 {
        let mut answer = String::new();
        // The panic ends the first connection, one way or another.
        let read = TcpStream::connect(address)?.read_to_string(&mut answer);
        println!("answer: {answer:?}, without an error: {}", read.is_ok() && !answer.is_empty());
    }
    Ok(())
}

fn main() -> io::Result<()> {
    let core = available_cores()?[0];
    let mut client = None;
    let ended = Builder::new().cores([core]).listen("127.0.0.1:0".parse().expect("an address")).supervise(
        |started| {
            let address = started.addresses[0];
            client = Some(std::thread::spawn(move || ask(address)));
        },
        serve,
    )?;
    client.expect("it was ready").join().expect("it does not panic")?;
    println!("{ended:?}, after {} loops", LOOPS.load(Ordering::Relaxed));
    Ok(())
}
