//! tokio, current_thread.

use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::sync::Arc;
use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket, UnixStream};

use crate::rows::{self, ECHO_BYTES, Measure, Offsets, READ_BYTES, READ_DEPTH, Row, common_rows};

mod p {
    pub use tokio::task::yield_now;
    pub use tokio::time::sleep;

    pub fn spawn<F: Future<Output: Send> + Send + 'static>(future: F) -> tokio::task::JoinHandle<F::Output> {
        tokio::spawn(future)
    }

    pub async fn join<T>(task: tokio::task::JoinHandle<T>) -> T {
        task.await.expect("the task ends well")
    }

    pub mod oneshot {
        pub use tokio::sync::oneshot::channel;
        use tokio::sync::oneshot::{Receiver, Sender};

        pub fn send(sender: Sender<u64>, value: u64) {
            sender.send(value).expect("the receiver waits");
        }

        pub async fn receive(receiver: Receiver<u64>) -> u64 {
            receiver.await.expect("the sender sends")
        }
    }

    pub mod mpsc {
        pub use tokio::sync::mpsc::channel;
        use tokio::sync::mpsc::{Receiver, Sender};

        pub async fn produce(sender: Sender<u64>, count: u64) {
            for i in 0..count {
                sender.send(i).await.expect("the receiver lives");
            }
        }

        pub async fn consume(mut receiver: Receiver<u64>) -> u64 {
            let mut sum = 0;
            while let Some(i) = receiver.recv().await {
                sum += i;
            }
            sum
        }
    }

    pub mod mutex {
        pub type Shared = std::sync::Arc<tokio::sync::Mutex<()>>;

        pub fn new() -> Shared {
            Shared::default()
        }
    }
}

common_rows!();

pub fn run(row: Row, count: u64) -> Option<Measure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("tokio starts");
    runtime.block_on(async move {
        match row {
            Row::Tcp => {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                let address = listener.local_addr().unwrap();
                let server = tokio::spawn(async move {
                    let (stream, _) = listener.accept().await.unwrap();
                    stream.set_nodelay(true).unwrap();
                    echo(stream, count).await;
                });
                let client = TcpStream::connect(address).await.unwrap();
                client.set_nodelay(true).unwrap();
                Some(ping(client, server, count).await)
            }
            Row::Unix => {
                let (client, server) = UnixStream::pair().unwrap();
                let server = tokio::spawn(echo(server, count));
                Some(ping(client, server, count).await)
            }
            Row::Udp => {
                let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
                let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
                client.connect(server.local_addr().unwrap()).await.unwrap();
                let echo = tokio::spawn(async move {
                    let mut buffer = [0; ECHO_BYTES];
                    for _ in 0..count {
                        let (n, from) = server.recv_from(&mut buffer).await.unwrap();
                        server.send_to(&buffer[..n], from).await.unwrap();
                    }
                });
                let start = Instant::now();
                let mut buffer = [7; ECHO_BYTES];
                for _ in 0..count {
                    client.send(&buffer).await.unwrap();
                    assert_eq!(client.recv(&mut buffer).await.unwrap(), ECHO_BYTES);
                }
                echo.await.unwrap();
                Some(Measure::since(start, count))
            }
            Row::Read | Row::ReadDirect => Some(read(row, count).await),
            _ => common(row, count).await,
        }
    })
}

async fn echo<S: AsyncReadExt + AsyncWriteExt + Unpin>(mut stream: S, count: u64) {
    let mut buffer = [0; ECHO_BYTES];
    for _ in 0..count {
        stream.read_exact(&mut buffer).await.unwrap();
        stream.write_all(&buffer).await.unwrap();
    }
}

async fn ping<S: AsyncReadExt + AsyncWriteExt + Unpin>(
    mut stream: S,
    server: tokio::task::JoinHandle<()>,
    count: u64,
) -> Measure {
    let start = Instant::now();
    let mut buffer = [7; ECHO_BYTES];
    for _ in 0..count {
        stream.write_all(&buffer).await.unwrap();
        stream.read_exact(&mut buffer).await.unwrap();
    }
    server.await.unwrap();
    Measure::since(start, count)
}

/// A block of memory that O_DIRECT takes.
#[repr(align(4096))]
struct Block([u8; READ_BYTES]);

async fn read(row: Row, count: u64) -> Measure {
    let (path, blocks) = rows::read_file();
    let flags = if row == Row::ReadDirect { libc_o_direct() } else { 0 };
    let file = std::fs::OpenOptions::new().read(true).custom_flags(flags).open(path).unwrap();
    let file = Arc::new(file);
    let start = Instant::now();
    let readers: Vec<_> = (0..READ_DEPTH)
        .map(|seed| {
            let file = Arc::clone(&file);
            tokio::spawn(async move {
                let mut offsets = Offsets::new(seed, blocks);
                let mut block = Box::new(Block([0; READ_BYTES]));
                for _ in 0..count / READ_DEPTH {
                    let (file, offset) = (Arc::clone(&file), offsets.next());
                    block = tokio::task::spawn_blocking(move || {
                        file.read_exact_at(&mut block.0, offset).unwrap();
                        block
                    })
                    .await
                    .unwrap();
                }
            })
        })
        .collect();
    for reader in readers {
        reader.await.unwrap();
    }
    Measure::since(start, count / READ_DEPTH * READ_DEPTH)
}

fn libc_o_direct() -> i32 {
    0o40000
}
