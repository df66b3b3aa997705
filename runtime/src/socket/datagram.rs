//! A received datagram in its buffer: what the kernel writes before the payload, and how to ask for one by hand.
//!
//! ```text
//!   0            16                 44                                   65600       65728
//!   | header     | sender's address | payload ...                        | request   |
//! ```
//!
//! Header, address and payload are laid out as multishot recvmsg does it (io_uring_prep_recvmsg_multishot(3)). Without it
//! one datagram at a time is asked for by recvmsg; the request, `msghdr` and `iovec`, stands behind the payload then, so
//! that everything the kernel touches is in the buffer, and the header is written here.

#![allow(unsafe_code)]

use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};

use crate::op::BufferPool;

/// `struct io_uring_recvmsg_out`: lengths of name, control and payload, and the flags.
const HEADER_BYTES: usize = 16;
/// `struct sockaddr_in6`, the longest address of a UDP socket.
pub(crate) const NAME_BYTES: usize = 28;
/// Where the payload begins.
const PAYLOAD: usize = HEADER_BYTES + NAME_BYTES;
/// Where the request stands.
const REQUEST: usize = 65_600;

/// A request for one datagram.
#[repr(C)]
struct Request {
    header: libc::msghdr,
    vector: libc::iovec,
}

const _: () = assert!(size_of::<Request>() <= 128 && REQUEST.is_multiple_of(align_of::<Request>()));
const _: () = assert!(PAYLOAD + 65_535 <= REQUEST);

/// Writes a request into `buffer`, which the caller took out of the pool.
pub(super) fn prepare(pool: &BufferPool, buffer: u16) -> *mut libc::msghdr {
    debug_assert!(pool.bytes() >= REQUEST + size_of::<Request>());
    let first = pool.address(buffer).as_ptr();
    // SAFETY: the offsets lie in the buffer (asserted above), the request's is aligned (buffers are a multiple of 64 apart
    // and begin at a page), and nobody else uses a buffer that was taken out. `msghdr` is plain data, valid as zeros.
    unsafe {
        let request = first.add(REQUEST).cast::<Request>();
        request.write(std::mem::zeroed());
        (*request).vector = libc::iovec { iov_base: first.add(PAYLOAD).cast(), iov_len: REQUEST - PAYLOAD };
        (*request).header.msg_name = first.add(HEADER_BYTES).cast();
        (*request).header.msg_namelen = NAME_BYTES as u32;
        (*request).header.msg_iov = &raw mut (*request).vector;
        (*request).header.msg_iovlen = 1;
        &raw mut (*request).header
    }
}

/// Writes the header of a datagram that was received by [`prepare`]'s request. Gives the end of its bytes.
pub(super) fn finish(pool: &BufferPool, buffer: u16, payload: u32) -> u32 {
    let first = pool.address(buffer).as_ptr();
    // SAFETY: as in `prepare`, which wrote this request; the kernel is done with it.
    unsafe {
        let request = &*first.add(REQUEST).cast::<Request>();
        let header = [request.header.msg_namelen, 0, payload, request.header.msg_flags as u32];
        first.cast::<[u32; 4]>().write(header);
    }
    PAYLOAD as u32 + payload
}

/// What stands before a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Envelope {
    pub(crate) sender: SocketAddr,
    /// The payload was longer than the buffer.
    pub(crate) truncated: bool,
}

impl Envelope {
    /// Reads it from the front of a datagram's bytes. Gives the payload's place too; `None` for what no UDP socket receives.
    pub(crate) fn parse(bytes: &[u8]) -> Option<(Self, usize)> {
        let number = |at: usize| -> Option<u32> {
            Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().expect("four bytes")))
        };
        let name = bytes.get(HEADER_BYTES..PAYLOAD)?;
        let family = u16::from_ne_bytes([name[0], name[1]]);
        let port = u16::from_be_bytes([name[2], name[3]]);
        // `struct sockaddr_in` and `sockaddr_in6` of ip(7) and ipv6(7).
        let sender = match i32::from(family) {
            libc::AF_INET => {
                let ip: [u8; 4] = name[4..8].try_into().expect("four bytes");
                SocketAddr::new(IpAddr::from(ip), port)
            }
            libc::AF_INET6 => {
                let ip: [u8; 16] = name[8..24].try_into().expect("sixteen bytes");
                let flow = number(HEADER_BYTES + 4)?;
                SocketAddr::V6(SocketAddrV6::new(Ipv6Addr::from(ip), port, flow, number(HEADER_BYTES + 24)?))
            }
            _ => return None,
        };
        let truncated = number(12)? & libc::MSG_TRUNC as u32 != 0;
        Some((Envelope { sender, truncated }, PAYLOAD))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::Shape;

    #[test]
    fn an_envelope_is_read_as_the_kernel_writes_it() {
        let check = |name: &[u8], flags: u32, expected: Option<(&str, bool)>| {
            let mut bytes = [[0; 12].as_slice(), &flags.to_ne_bytes(), name].concat();
            bytes.resize(PAYLOAD, 0);
            let parsed = Envelope::parse(&bytes).map(|(envelope, at)| {
                assert_eq!(at, PAYLOAD);
                (envelope.sender.to_string(), envelope.truncated)
            });
            assert_eq!(parsed, expected.map(|(sender, truncated)| (sender.to_owned(), truncated)));
        };
        let v4 = [&(libc::AF_INET as u16).to_ne_bytes()[..], &[0x1f, 0x90, 127, 0, 0, 1]].concat();
        check(&v4, 0, Some(("127.0.0.1:8080", false)));
        check(&v4, libc::MSG_TRUNC as u32, Some(("127.0.0.1:8080", true)));
        let mut v6 = [&(libc::AF_INET6 as u16).to_ne_bytes()[..], &[0, 53], &[0; 20]].concat();
        v6[23] = 1;
        v6.extend(7_u32.to_ne_bytes());
        check(&v6, 0, Some(("[::1%7]:53", false)));
        check(&[0; 28], 0, None);
        assert_eq!(Envelope::parse(&[0; PAYLOAD - 1]), None);
    }

    #[test]
    fn a_request_and_its_answer_share_a_buffer() {
        let pool = BufferPool::new(Shape::DATAGRAM, false, 2);
        let buffer = pool.take().unwrap();
        let header = prepare(&pool, buffer);
        // SAFETY: `prepare` wrote it into the buffer, which is not freed before the pool.
        let (name, len) = unsafe { ((*header).msg_name.cast::<u8>(), (*(*header).msg_iov).iov_len) };
        assert!(len >= 65_535);
        // SAFETY: the name's place has NAME_BYTES bytes in the same buffer.
        unsafe { name.cast::<u16>().write(libc::AF_INET as u16) };
        assert_eq!(finish(&pool, buffer, 5) as usize, PAYLOAD + 5);
        pool.give_back(buffer);
    }
}
