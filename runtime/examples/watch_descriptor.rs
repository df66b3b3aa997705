//! A descriptor is watched until something can be read from it, and the loop ends. Python's `add_reader`, `call_soon` and
//! `remove_reader`: here the watch ends with the wait.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;

use annulet::net::AsyncFd;

#[annulet::main]
async fn main() -> io::Result<()> {
    let (reader, mut writer) = UnixStream::pair()?;
    reader.set_nonblocking(true)?;
    let reader = AsyncFd::new(reader)?;

    // Stands for data that arrive from a network.
    let writing = annulet::spawn(async move { writer.write_all(b"abc") });

    let mut bytes = [0; 100];
    let count = loop {
        let mut ready = reader.readable().await?;
        // `Err`: somebody else was faster, and the wait begins anew.
        if let Ok(count) = ready.try_io(|fd| fd.inner().read(&mut bytes)) {
            break count?;
        }
    };
    println!("Received: {}", String::from_utf8_lossy(&bytes[..count]));
    writing.await.expect("it does not panic")
}
