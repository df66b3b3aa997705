//! TLS over annulet's streams, by rustls.
//!
//! [`TlsAcceptor`] and [`TlsConnector`] make a [`TlsStream`] of a connected stream; its methods are those of
//! [`TcpStream`](annulet::net::TcpStream). Both can be cloned and shared by all loops.
//!
//! A crate of its own, so that programs without TLS compile no cryptography. It speaks TLS 1.2 and 1.3, with ring as
//! the provider of cryptography. It does not do early data (0-RTT), encrypted client hello or kernel TLS; who needs one of
//! rustls's other settings makes the configuration with rustls and gives it to `from_rustls_config`.
//!
//! A handshake costs a good part of a millisecond of computing on the loop that does it.
//!
//! ```
//! use annulet::net::{TcpListener, TcpStream};
//! use annulet_tls::{TlsAcceptor, TlsConnector};
//!
//! # let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
//! # let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
//! let acceptor = TlsAcceptor::builder().certificate(certificate.as_bytes(), key.as_bytes()).build().unwrap();
//! let connector = TlsConnector::builder().root_pem(certificate.as_bytes()).build().unwrap();
//! annulet::run(async {
//!     let listener = TcpListener::bind("127.0.0.1:0").unwrap();
//!     let address = listener.local_addr().unwrap();
//!     let server = annulet::spawn(async move {
//!         let stream = acceptor.accept(listener.accept().await.unwrap()).await.unwrap();
//!         stream.write_all(b"hello").await.unwrap();
//!         stream.close(std::time::Duration::from_secs(1)).await.unwrap();
//!     });
//!     let stream = TcpStream::connect(address).await.unwrap();
//!     let stream = connector.connect("localhost", stream).await.unwrap();
//!     let mut word = [0; 5];
//!     stream.read_exact(&mut word).await.unwrap();
//!     assert_eq!(&word, b"hello");
//!     assert_eq!(stream.read(&mut word).await.unwrap(), 0); // an orderly end
//!     drop(stream);
//!     server.await.unwrap();
//! });
//! ```

#![forbid(unsafe_code)]

mod acceptor;
mod connector;
mod error;
mod handshake;
mod info;
mod insecure;
mod pem;
mod plaintext;
mod resolver;
mod session;
mod stream;
mod traits;
mod transport;
mod withheld;

pub use acceptor::{AcceptorBuilder, ClientAuth, Plain, TlsAcceptor};
pub use connector::{ConnectorBuilder, TlsConnector};
pub use error::TlsError;
pub use handshake::{HandshakeKind, Version};
pub use info::TlsInfo;
pub use plaintext::Plaintext;
pub use stream::TlsStream;
pub use transport::Transport;
pub use withheld::undecrypted_bytes;

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

/// The cryptography of configurations that are made here. rustls's process-wide default is neither read nor set.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
