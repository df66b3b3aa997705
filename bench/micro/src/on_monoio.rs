//! monoio on io_uring, with the local-sync crate of its authors.

use std::os::unix::fs::OpenOptionsExt;
use std::rc::Rc;
use std::time::Instant;

use monoio::io::{AsyncReadRent, AsyncReadRentExt, AsyncWriteRent, AsyncWriteRentExt};
use monoio::net::udp::UdpSocket;
use monoio::net::{TcpListener, TcpStream, UnixStream};

use crate::rows::{self, ECHO_BYTES, Measure, Offsets, READ_BYTES, READ_DEPTH, Row, common_rows};

mod p {
    pub use crate::rows::give_way as yield_now;
    pub use monoio::time::sleep;

    pub fn spawn<F: Future + 'static>(future: F) -> monoio::task::JoinHandle<F::Output> {
        monoio::spawn(future)
    }

    pub async fn join<T>(task: monoio::task::JoinHandle<T>) -> T {
        task.await
    }

    pub mod oneshot {
        pub use local_sync::oneshot::channel;
        use local_sync::oneshot::{Receiver, Sender};

        pub fn send(sender: Sender<u64>, value: u64) {
            sender.send(value).expect("the receiver waits");
        }

        pub async fn receive(receiver: Receiver<u64>) -> u64 {
            receiver.await.expect("the sender sends")
        }
    }

    pub mod mpsc {
        pub use local_sync::mpsc::bounded::channel;
        use local_sync::mpsc::bounded::{Rx, Tx};

        pub async fn produce(sender: Tx<u64>, count: u64) {
            for i in 0..count {
                sender.send(i).await.unwrap_or_else(|_| panic!("the receiver lives"));
            }
        }

        pub async fn consume(mut receiver: Rx<u64>) -> u64 {
            let mut sum = 0;
            while let Some(i) = receiver.recv().await {
                sum += i;
            }
            sum
        }
    }

    pub mod mutex {
        /// There is no mutex; a semaphore with one permit does its work.
        #[derive(Clone)]
        pub struct Shared(std::rc::Rc<local_sync::semaphore::Semaphore>);

        impl Shared {
            pub async fn lock(&self) -> impl Drop + '_ {
                self.0.acquire().await.expect("never closed")
            }
        }

        pub fn new() -> Shared {
            Shared(std::rc::Rc::new(local_sync::semaphore::Semaphore::new(1)))
        }
    }
}

common_rows!();

pub fn run(row: Row, count: u64) -> Option<Measure> {
    let mut runtime = monoio::RuntimeBuilder::<monoio::IoUringDriver>::new()
        .with_entries(1024)
        .enable_timer()
        .build()
        .expect("monoio starts");
    runtime.block_on(async move {
        match row {
            Row::Tcp => {
                let listener = TcpListener::bind("127.0.0.1:0").unwrap();
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
                let (client, server) = UnixStream::pair().unwrap();
                let server = p::spawn(echo(server, count));
                Some(ping(client, server, count).await)
            }
            Row::Udp => {
                let server = UdpSocket::bind("127.0.0.1:0").unwrap();
                let client = UdpSocket::bind("127.0.0.1:0").unwrap();
                client.connect(server.local_addr().unwrap()).await.unwrap();
                let echo = p::spawn(async move {
                    let mut buffer = vec![0; ECHO_BYTES];
                    for _ in 0..count {
                        let (got, back) = server.recv_from(buffer).await;
                        let (_, from) = got.unwrap();
                        let (sent, back) = server.send_to(back, from).await;
                        sent.unwrap();
                        buffer = back;
                    }
                });
                let start = Instant::now();
                let mut buffer = vec![7; ECHO_BYTES];
                for _ in 0..count {
                    let (sent, back) = client.send(buffer).await;
                    sent.unwrap();
                    let (got, back) = client.recv(back).await;
                    assert_eq!(got.unwrap(), ECHO_BYTES);
                    buffer = back;
                }
                echo.await;
                Some(Measure::since(start, count))
            }
            Row::Read | Row::ReadDirect => Some(read(row, count).await),
            // A task that wakes itself is the next to be polled again: by yielding it hands nothing over.
            Row::Mutex => None,
            _ => common(row, count).await,
        }
    })
}

async fn echo<S: AsyncReadRent + AsyncWriteRent>(mut stream: S, count: u64) {
    let mut buffer = vec![0; ECHO_BYTES];
    for _ in 0..count {
        let (got, back) = stream.read_exact(buffer).await;
        got.unwrap();
        let (sent, back) = stream.write_all(back).await;
        sent.unwrap();
        buffer = back;
    }
}

async fn ping<S: AsyncReadRent + AsyncWriteRent>(
    mut stream: S,
    server: monoio::task::JoinHandle<()>,
    count: u64,
) -> Measure {
    let start = Instant::now();
    let mut buffer = vec![7; ECHO_BYTES];
    for _ in 0..count {
        let (sent, back) = stream.write_all(buffer).await;
        sent.unwrap();
        let (got, back) = stream.read_exact(back).await;
        got.unwrap();
        buffer = back;
    }
    server.await;
    Measure::since(start, count)
}

/// A buffer in a larger one, so that it begins where O_DIRECT takes it.
fn aligned() -> monoio::buf::SliceMut<Vec<u8>> {
    use monoio::buf::IoBufMut;
    let memory = vec![0; 2 * READ_BYTES];
    let start = memory.as_ptr().align_offset(READ_BYTES);
    memory.slice_mut(start..start + READ_BYTES)
}

async fn read(row: Row, count: u64) -> Measure {
    let (path, blocks) = rows::read_file();
    let flags = if row == Row::ReadDirect { 0o40000 } else { 0 };
    let file = std::fs::OpenOptions::new().read(true).custom_flags(flags).open(path).unwrap();
    let file = Rc::new(monoio::fs::File::from_std(file).unwrap());
    let start = Instant::now();
    let readers: Vec<_> = (0..READ_DEPTH)
        .map(|seed| {
            let file = Rc::clone(&file);
            p::spawn(async move {
                let mut offsets = Offsets::new(seed, blocks);
                let mut buffer = aligned();
                for _ in 0..count / READ_DEPTH {
                    let (got, back) = file.read_at(buffer, offsets.next()).await;
                    assert_eq!(got.unwrap(), READ_BYTES);
                    buffer = back;
                }
            })
        })
        .collect();
    for reader in readers {
        reader.await;
    }
    Measure::since(start, count / READ_DEPTH * READ_DEPTH)
}
