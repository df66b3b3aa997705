//! glommio.

use std::rc::Rc;
use std::time::Instant;

use futures_lite::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use glommio::net::{TcpListener, TcpStream, UdpSocket, UnixStream};
use glommio::{LocalExecutorBuilder, Placement, Task};

use crate::rows::{self, ECHO_BYTES, Measure, Offsets, READ_BYTES, READ_DEPTH, Row, common_rows};

mod p {
    use glommio::Task;
    pub use glommio::timer::sleep;

    pub async fn yield_now() {
        glommio::executor().yield_now().await;
    }

    pub fn spawn<F: Future + 'static>(future: F) -> Task<F::Output> {
        glommio::spawn_local(future)
    }

    pub async fn join<T>(task: Task<T>) -> T {
        task.await
    }

    pub mod oneshot {
        // It has none of its own.
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
        pub use glommio::channels::local_channel::new_bounded as channel;
        use glommio::channels::local_channel::{LocalReceiver, LocalSender};

        pub async fn produce(sender: LocalSender<u64>, count: u64) {
            for i in 0..count {
                sender.send(i).await.expect("the receiver lives");
            }
        }

        pub async fn consume(receiver: LocalReceiver<u64>) -> u64 {
            let mut sum = 0;
            while let Some(i) = receiver.recv().await {
                sum += i;
            }
            sum
        }
    }

    pub mod mutex {
        /// There is no mutex; a semaphore with one unit does its work.
        #[derive(Clone)]
        pub struct Shared(std::rc::Rc<glommio::sync::Semaphore>);

        impl Shared {
            pub async fn lock(&self) -> glommio::sync::Permit<'_> {
                self.0.acquire_permit(1).await.expect("never closed")
            }
        }

        pub fn new() -> Shared {
            Shared(glommio::sync::Semaphore::new(1).into())
        }
    }
}

common_rows!();

pub fn run(row: Row, count: u64) -> Option<Measure> {
    let executor = LocalExecutorBuilder::new(Placement::Unbound).make().expect("glommio starts");
    executor.run(async move {
        match row {
            Row::Tcp => {
                let listener = TcpListener::bind("127.0.0.1:0").unwrap();
                let address = listener.local_addr().unwrap();
                let server = p::spawn(async move {
                    let stream = listener.accept().await.unwrap();
                    stream.set_nodelay(true).unwrap();
                    echo(stream, count).await;
                });
                let client = TcpStream::connect(address).await.unwrap();
                client.set_nodelay(true).unwrap();
                Some(ping(client, server, count).await)
            }
            Row::Unix => {
                let (client, server) = UnixStream::pair().unwrap();
                let server = p::spawn(echo(server, count));
                Some(ping(client, server, count).await)
            }
            Row::Udp => {
                let server = UdpSocket::bind("127.0.0.1:0").unwrap();
                let client = UdpSocket::bind("127.0.0.1:0").unwrap();
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
            Row::Read => None,
            Row::ReadDirect => Some(read(count).await),
            _ => common(row, count).await,
        }
    })
}

async fn echo<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, count: u64) {
    let mut buffer = [0; ECHO_BYTES];
    for _ in 0..count {
        stream.read_exact(&mut buffer).await.unwrap();
        stream.write_all(&buffer).await.unwrap();
    }
}

async fn ping<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, server: Task<()>, count: u64) -> Measure {
    let start = Instant::now();
    let mut buffer = [7; ECHO_BYTES];
    for _ in 0..count {
        stream.write_all(&buffer).await.unwrap();
        stream.read_exact(&mut buffer).await.unwrap();
    }
    server.await;
    Measure::since(start, count)
}

async fn read(count: u64) -> Measure {
    let (path, blocks) = rows::read_file();
    let file = Rc::new(glommio::io::DmaFile::open(path).await.unwrap());
    let start = Instant::now();
    let readers: Vec<_> = (0..READ_DEPTH)
        .map(|seed| {
            let file = Rc::clone(&file);
            p::spawn(async move {
                let mut offsets = Offsets::new(seed, blocks);
                for _ in 0..count / READ_DEPTH {
                    let block = file.read_at_aligned(offsets.next(), READ_BYTES).await.unwrap();
                    assert_eq!(block.len(), READ_BYTES);
                }
            })
        })
        .collect();
    for reader in readers {
        reader.await;
    }
    Measure::since(start, count / READ_DEPTH * READ_DEPTH)
}
