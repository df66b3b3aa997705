//! Sockets of this machine: addresses are paths or abstract names (unix(7)).
//!
//! A path stays in the file system when its socket is closed. Nobody removes it in silence: whether the server that made
//! it has ended or still runs is for the program to know.

mod address;
mod datagram;
mod descriptors;
mod listener;
mod message;
mod stream;

pub use datagram::UnixDatagram;
pub use listener::UnixListener;
pub use stream::{PeerCredentials, UnixStream};
