//! A received datagram where the kernel put it.

use std::net::SocketAddr;
use std::ops::Deref;

use crate::op::Lease;
use crate::socket::Envelope;

/// A received datagram: its bytes, without a copy, and its sender. Dropping it gives the buffer back to the core.
///
/// Keep it short: a core has 256 such buffers, and sockets receive nothing when all of them are held.
#[derive(Debug)]
pub struct Datagram {
    lease: Lease,
    sender: SocketAddr,
    truncated: bool,
}

impl Datagram {
    /// From the bytes of a datagram socket; `None` for what no UDP socket receives.
    pub(super) fn from_lease(mut lease: Lease) -> Option<Self> {
        let (Envelope { sender, truncated }, payload) = Envelope::parse(&lease)?;
        lease.advance(payload);
        Some(Datagram { lease, sender, truncated })
    }

    /// Who sent it.
    pub fn sender(&self) -> SocketAddr {
        self.sender
    }

    /// Whether its end is missing, because it was longer than a buffer (MSG_TRUNC of recv(2)). A UDP datagram is never
    /// longer than the buffers for it.
    pub fn is_truncated(&self) -> bool {
        self.truncated
    }

    /// Its bytes and its sender.
    pub fn into_parts(self) -> (Lease, SocketAddr) {
        (self.lease, self.sender)
    }
}

impl Deref for Datagram {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.lease
    }
}

impl AsRef<[u8]> for Datagram {
    fn as_ref(&self) -> &[u8] {
        self
    }
}
