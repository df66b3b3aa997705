//! Connecting a stream socket through the ring, whatever its family.

use std::io;
use std::os::fd::OwnedFd;

use socket2::{SockAddr, Socket};

use super::stream::Stream;
use crate::op::{Descriptor, request};
use crate::shard::current;

/// Connects `socket`. Dropping the future cancels the connect and closes the socket.
pub(super) async fn connect(socket: Socket, address: SockAddr) -> io::Result<Stream> {
    let shard = current();
    let outcome = request::connect(&shard, OwnedFd::from(socket), address).await;
    outcome.result?;
    let Descriptor::Owned(socket) = outcome.payload.descriptor else {
        unreachable!("connect gives its socket back")
    };
    Ok(Stream::from_fd(shard, socket))
}
