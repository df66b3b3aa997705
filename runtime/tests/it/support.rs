//! What the tests share.

use annulet::net::{TcpListener, TcpStream};

/// A connected pair on this loop: (client, server).
pub(crate) async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let client = annulet::spawn(async move { TcpStream::connect(address).await.unwrap() });
    let server = listener.accept().await.unwrap();
    (client.await.unwrap(), server)
}

/// Turns the loop until `done`, at most a few thousand times.
pub(crate) async fn until(what: &str, mut done: impl FnMut() -> bool) {
    for _ in 0..2000 {
        if done() {
            return;
        }
        annulet::time::sleep(std::time::Duration::from_micros(200)).await;
    }
    panic!("it did not come to pass: {what}; {:?}", annulet::metrics());
}

/// Open descriptors of this process.
pub(crate) fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}
