//! annulet.

use std::rc::Rc;
use std::time::Instant;

use annulet::fs::{AlignedBuf, OpenOptions};
use annulet::net::{TcpListener, TcpStream, UdpSocket, UnixStream};

use crate::rows::{self, ECHO_BYTES, Measure, Offsets, READ_BYTES, READ_DEPTH, Row, common_rows};

mod p {
    pub use annulet::time::sleep;
    pub use annulet::yield_now;

    pub fn spawn<F: Future + 'static>(future: F) -> annulet::JoinHandle<F::Output> {
        annulet::spawn(future)
    }

    pub async fn join<T>(task: annulet::JoinHandle<T>) -> T {
        task.await.expect("the task ends well")
    }

    pub mod oneshot {
        pub use annulet::sync::oneshot::channel;
        use annulet::sync::oneshot::{Receiver, Sender};

        pub fn send(sender: Sender<u64>, value: u64) {
            sender.send(value).expect("the receiver waits");
        }

        pub async fn receive(receiver: Receiver<u64>) -> u64 {
            receiver.await.expect("the sender sends")
        }
    }

    pub mod mpsc {
        pub use annulet::sync::mpsc::channel;
        use annulet::sync::mpsc::{Receiver, Sender};

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
        pub type Shared = std::rc::Rc<annulet::sync::Mutex<()>>;

        pub fn new() -> Shared {
            Shared::default()
        }
    }
}

common_rows!();

pub fn run(row: Row, count: u64) -> Option<Measure> {
    annulet::run(async move {
        match row {
            Row::Tcp => {
                let listener = TcpListener::bind("127.0.0.1:0").unwrap();
                let address = listener.local_addr().unwrap();
                let server = annulet::spawn(async move {
                    let stream = listener.accept().await.unwrap();
                    stream.set_nodelay(true).unwrap();
                    let mut buffer = [0; ECHO_BYTES];
                    for _ in 0..count {
                        stream.read_exact(&mut buffer).await.unwrap();
                        stream.write_all(&buffer).await.unwrap();
                    }
                });
                let client = TcpStream::connect(address).await.unwrap();
                client.set_nodelay(true).unwrap();
                let start = Instant::now();
                let mut buffer = [7; ECHO_BYTES];
                for _ in 0..count {
                    client.write_all(&buffer).await.unwrap();
                    client.read_exact(&mut buffer).await.unwrap();
                }
                server.await.unwrap();
                Some(Measure::since(start, count))
            }
            Row::Unix => {
                let (client, server) = UnixStream::pair().unwrap();
                let server = annulet::spawn(async move {
                    let mut buffer = [0; ECHO_BYTES];
                    for _ in 0..count {
                        server.read_exact(&mut buffer).await.unwrap();
                        server.write_all(&buffer).await.unwrap();
                    }
                });
                let start = Instant::now();
                let mut buffer = [7; ECHO_BYTES];
                for _ in 0..count {
                    client.write_all(&buffer).await.unwrap();
                    client.read_exact(&mut buffer).await.unwrap();
                }
                server.await.unwrap();
                Some(Measure::since(start, count))
            }
            Row::Udp => {
                let server = UdpSocket::bind("127.0.0.1:0").unwrap();
                let client = UdpSocket::bind("127.0.0.1:0").unwrap();
                client.connect(server.local_addr().unwrap()).await.unwrap();
                let echo = annulet::spawn(async move {
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

async fn read(row: Row, count: u64) -> Measure {
    let (path, blocks) = rows::read_file();
    let file = OpenOptions::new().read(true).direct(row == Row::ReadDirect).open(path).await.unwrap();
    let file = Rc::new(file);
    let start = Instant::now();
    let readers: Vec<_> = (0..READ_DEPTH)
        .map(|seed| {
            let file = Rc::clone(&file);
            annulet::spawn(async move {
                let mut offsets = Offsets::new(seed, blocks);
                let mut buffer = AlignedBuf::new(READ_BYTES);
                for _ in 0..count / READ_DEPTH {
                    let (got, back) = file.read_at(buffer, offsets.next()).await;
                    assert_eq!(got.unwrap(), READ_BYTES);
                    buffer = back;
                }
            })
        })
        .collect();
    for reader in readers {
        reader.await.unwrap();
    }
    Measure::since(start, count / READ_DEPTH * READ_DEPTH)
}
