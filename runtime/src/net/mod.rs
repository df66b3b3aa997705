//! Sockets.
//!
//! Two tiers. The borrowed one, [`TcpStream::read`] and [`TcpStream::write_all`], copies between your memory and buffers
//! that the core owns, which is what makes a plain `&mut [u8]` sound and every wait safe to drop. The zero-copy one,
//! [`TcpStream::recv`] and [`TcpStream::send`], hands out the received bytes where they lie, and sends from a vector
//! that it owns meanwhile.

mod address;
mod async_fd;
mod bind;
mod byte_stream;
mod connect;
mod descriptors;
mod incoming;
mod listener;
mod reset;
mod resolve;
mod send_file;
mod send_progress;
mod share;
mod split;
mod stream;
mod tcp;
mod tcp_socket;
mod traits;
mod travel;
mod udp;
mod unix;

pub use address::ToSocketAddrs;
pub use async_fd::{AsyncFd, Interest, ReadyGuard, TryIoError};
pub use bind::{ListenOptions, bind_group, bind_one};
pub(crate) use bind::{extend_group, steer, unsteer};
pub(crate) use descriptors::make_room_first;
pub use incoming::Incoming;
pub use listener::TcpListener;
pub use reset::ResetByPeer;
pub use resolve::lookup_host;
pub use send_progress::SendProgress;
pub use share::{AcceptPolicy, Connections};
pub(crate) use share::{Group, Share, skew};
pub(crate) use split::ByteStream;
pub use split::{OwnedReadHalf, OwnedWriteHalf, ReadHalf, WriteHalf};
pub use stream::unsent_bytes;
pub use tcp::TcpStream;
pub use tcp_socket::{Keepalive, TcpSocket};
pub use travel::Departed;
pub use udp::{Datagram, UdpSocket};
pub use unix::{PeerCredentials, UnixDatagram, UnixListener, UnixStream};
