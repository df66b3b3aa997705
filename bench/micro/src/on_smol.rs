//! smol: a LocalExecutor under async-io.

use std::cell::OnceCell;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use smol::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use smol::net::unix::UnixStream;
use smol::net::{TcpListener, TcpStream, UdpSocket};

use crate::rows::{self, ECHO_BYTES, Measure, Offsets, READ_BYTES, READ_DEPTH, Row, common_rows};

thread_local! {
    static EXECUTOR: OnceCell<Rc<smol::LocalExecutor<'static>>> = const { OnceCell::new() };
}

mod p {
    pub use smol::future::yield_now;

    pub fn spawn<F: Future + 'static>(future: F) -> smol::Task<F::Output> {
        super::EXECUTOR.with(|executor| executor.get().expect("set before").spawn(future))
    }

    pub async fn join<T>(task: smol::Task<T>) -> T {
        task.await
    }

    pub async fn sleep(duration: std::time::Duration) {
        smol::Timer::after(duration).await;
    }

    pub mod oneshot {
        pub use futures::channel::oneshot::channel;
        use futures::channel::oneshot::{Receiver, Sender};

        pub fn send(sender: Sender<u64>, value: u64) {
            sender.send(value).expect("the receiver waits");
        }

        pub async fn receive(receiver: Receiver<u64>) -> u64 {
            receiver.await.expect("the sender sends")
        }
    }

    pub mod mpsc {
        pub use async_channel::bounded as channel;
        use async_channel::{Receiver, Sender};

        pub async fn produce(sender: Sender<u64>, count: u64) {
            for i in 0..count {
                sender.send(i).await.expect("the receiver lives");
            }
        }

        pub async fn consume(receiver: Receiver<u64>) -> u64 {
            let mut sum = 0;
            while let Ok(i) = receiver.recv().await {
                sum += i;
            }
            sum
        }
    }

    pub mod mutex {
        pub type Shared = std::rc::Rc<async_lock::Mutex<()>>;

        pub fn new() -> Shared {
            Shared::default()
        }
    }
}

common_rows!();

pub fn run(row: Row, count: u64) -> Option<Measure> {
    let executor = Rc::new(smol::LocalExecutor::new());
    EXECUTOR.with(|cell| cell.set(Rc::clone(&executor)).expect("set once"));
    smol::block_on(executor.run(async move {
        match row {
            Row::Tcp => {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                let address = listener.local_addr().unwrap();
                let server = p::spawn(async move {
                    let (stream, _) = listener.accept().await.unwrap();
                    stream.set_nodelay(true).unwrap();
                    echo(stream, count).await;
                });
                let client = TcpStream::connect(address).await.unwrap();
                client.set_nodelay(true).unwrap();
                Some(ping(client, server, count).await)
            }
            Row::Unix => {
                let (client, server) = StdUnixStream::pair().unwrap();
                let server = p::spawn(echo(UnixStream::try_from(server).unwrap(), count));
                Some(ping(UnixStream::try_from(client).unwrap(), server, count).await)
            }
            Row::Udp => {
                let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
                let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
                client.connect(server.local_addr().unwrap()).await.unwrap();
                let echo = p::spawn(async move {
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
                echo.await;
                Some(Measure::since(start, count))
            }
            Row::Read | Row::ReadDirect => Some(read(row, count).await),
            _ => common(row, count).await,
        }
    }))
}

async fn echo<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, count: u64) {
    let mut buffer = [0; ECHO_BYTES];
    for _ in 0..count {
        stream.read_exact(&mut buffer).await.unwrap();
        stream.write_all(&buffer).await.unwrap();
    }
}

async fn ping<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    server: smol::Task<()>,
    count: u64,
) -> Measure {
    let start = Instant::now();
    let mut buffer = [7; ECHO_BYTES];
    for _ in 0..count {
        stream.write_all(&buffer).await.unwrap();
        stream.read_exact(&mut buffer).await.unwrap();
    }
    server.await;
    Measure::since(start, count)
}

/// A block of memory that O_DIRECT takes.
#[repr(align(4096))]
struct Block([u8; READ_BYTES]);

async fn read(row: Row, count: u64) -> Measure {
    let (path, blocks) = rows::read_file();
    let flags = if row == Row::ReadDirect { 0o40000 } else { 0 };
    let file = Arc::new(std::fs::OpenOptions::new().read(true).custom_flags(flags).open(path).unwrap());
    let start = Instant::now();
    let readers: Vec<_> = (0..READ_DEPTH)
        .map(|seed| {
            let file = Arc::clone(&file);
            p::spawn(async move {
                let mut offsets = Offsets::new(seed, blocks);
                let mut block = Box::new(Block([0; READ_BYTES]));
                for _ in 0..count / READ_DEPTH {
                    let (file, offset) = (Arc::clone(&file), offsets.next());
                    block = smol::unblock(move || {
                        file.read_exact_at(&mut block.0, offset).unwrap();
                        block
                    })
                    .await;
                }
            })
        })
        .collect();
    for reader in readers {
        reader.await;
    }
    Measure::since(start, count / READ_DEPTH * READ_DEPTH)
}
