//! Datagrams over IP (udp(7)).
//!
//! Receiving is a multishot request that brings each datagram with its sender, whole, in a buffer of the core; sending is
//! one system call that never waits, so that the error of a datagram is told to who sent it.

mod datagram;
mod options;
mod segments;
mod socket;

pub use datagram::Datagram;
pub use socket::UdpSocket;
