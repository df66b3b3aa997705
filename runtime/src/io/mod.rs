//! Buffered reading and writing over any byte stream, lines, and copying.
//!
//! Everything here works on the traits of `futures-io`, which this crate's streams implement, and streams of other crates
//! too. With the feature `tokio-io` the sockets also implement tokio's traits; then `tokio::io` and `tokio-util` do all
//! of this as well.
//!
//! # Examples
//!
//! ```
//! use annulet::io::BufReader;
//! use annulet::net::{TcpListener, TcpStream};
//!
//! annulet::run(async {
//!     let listener = TcpListener::bind("127.0.0.1:0").unwrap();
//!     let address = listener.local_addr().unwrap();
//!     annulet::spawn(async move {
//!         let stream = listener.accept().await.unwrap();
//!         stream.write_all(b"first\r\nsecond\n").await.unwrap();
//!     });
//!     let mut lines = BufReader::new(TcpStream::connect(address).await.unwrap()).lines();
//!     let mut seen = Vec::new();
//!     while let Some(line) = lines.next().await {
//!         seen.push(line.unwrap());
//!     }
//!     assert_eq!(seen, ["first", "second"]);
//! });
//! ```

mod copy;
mod lines;
mod read;
mod write;

pub use copy::{copy, copy_bidirectional, relay};
pub use lines::Lines;
pub use read::{BufReader, LINE_BYTES_MAX};
pub use write::BufWriter;

pub use futures_io::{AsyncBufRead, AsyncRead, AsyncWrite};
