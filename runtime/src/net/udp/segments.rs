//! Many datagrams with one call: UDP segmentation (UDP_SEGMENT of udp(7), Linux 4.18).

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};

use socket2::SockAddr;

use super::UdpSocket;
use super::socket::explain;
use crate::driver::Feature;
use crate::net::stream::borrow;

/// Segments of one call: UDP_MAX_SEGMENTS of the kernel when the option came. Newer ones take 128.
const SEGMENTS_MAX: usize = 64;
/// Bytes of one call: what fits into an IPv4 packet with its headers.
const BYTES_MAX: usize = 65_507;

/// Whether the kernel could not cut, while it may send one by one: the way out has no checksum offload (EIO), or a segment
/// is longer than its packets, so that it would be sent in fragments (EINVAL; EMSGSIZE since Linux 6.14).
fn is_about_cutting(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EIO | libc::EINVAL | libc::EMSGSIZE))
}

impl UdpSocket {
    /// Sends `bytes` as datagrams of `segment` bytes each, the last one shorter, to `address` or to the connected peer.
    /// Gives the count of datagrams.
    ///
    /// The kernel, or the network card, does the cutting, 64 datagrams or 64 KiB at a time. Where it cannot, they are sent
    /// one by one.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send); `InvalidInput` when `segment` is zero. How many left before the error is not told.
    ///
    /// # Cancel safety
    ///
    /// None: how many left before the drop is not told. A datagram leaves whole or not at all.
    pub async fn send_segments(
        &self,
        bytes: &[u8],
        segment: u16,
        address: Option<SocketAddr>,
    ) -> io::Result<usize> {
        let step = usize::from(segment);
        if step == 0 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "segments of no bytes: give the size of a datagram",
            ));
        }
        let mut segmented = self.shard.io.borrow().driver.capabilities().has(Feature::UdpSegment);
        let to = address.map(SockAddr::from);
        let mut rest = bytes;
        while !rest.is_empty() {
            let together = SEGMENTS_MAX.min(BYTES_MAX / step).max(1) * step;
            let batch = &rest[..rest.len().min(if segmented { together } else { step })];
            let sent = if segmented && batch.len() > step {
                self.retry(|| {
                    borrow(self.as_raw_fd(), |socket| {
                        crate::sys::send_segments(socket.as_fd(), batch, segment, to.as_ref())
                    })
                })
                .await
            } else {
                self.retry(|| match address {
                    Some(address) => self.try_send_to(batch, address),
                    None => self.try_send(batch),
                })
                .await
            };
            match sent {
                Ok(_) => rest = &rest[batch.len()..],
                Err(error) if segmented && batch.len() > step && is_about_cutting(&error) => {
                    segmented = false;
                }
                Err(error) => return Err(explain(error, step)),
            }
        }
        Ok(bytes.len().div_ceil(step))
    }
}
