//! Which HTTP a client speaks, from its first bytes.
use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::task::ready;
use std::time::Duration;

use crate::io::Transport;

/// What every connection of HTTP/2 begins with (RFC 9113 section 3.4). In HTTP/1 it is no request that anybody serves.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http1,
    Http2,
}

/// The first bytes of a connection: as many as it took to know the protocol.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Prefix {
    bytes: [u8; PREFACE.len()],
    start: usize,
    end: usize,
}

impl Prefix {
    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// The next bytes, at most so many.
    pub(crate) fn take(&mut self, count_max: usize) -> &[u8] {
        let start = self.start;
        self.start = self.end.min(start.saturating_add(count_max));
        &self.bytes[start..self.start]
    }

    fn push(&mut self, bytes: &[u8]) {
        self.bytes[self.end..self.end + bytes.len()].copy_from_slice(bytes);
        self.end += bytes.len();
    }

    /// `None` when more is needed.
    fn protocol(&self) -> Option<Protocol> {
        match &self.bytes[..self.end] {
            seen if seen == PREFACE => Some(Protocol::Http2),
            seen if PREFACE.starts_with(seen) => None,
            _ => Some(Protocol::Http1),
        }
    }
}

/// Reads as little as tells the protocol. A client that closes before it has said anything speaks HTTP/1, as far as anybody knows.
/// `has_begun` is set with the first byte.
///
/// # Errors
///
/// What recv(2) says; `TimedOut` when the client takes longer than `at_most`.
pub(crate) async fn detect(
    stream: &impl Transport,
    at_most: Duration,
    has_begun: &Cell<bool>,
) -> io::Result<(Protocol, Prefix)> {
    match stream.alpn() {
        Some(b"h2") => return Ok((Protocol::Http2, Prefix::default())),
        Some(b"http/1.1") => return Ok((Protocol::Http1, Prefix::default())),
        _ => {}
    }
    stream.set_recv_deadline(annulet::time::now().checked_add(at_most));
    let mut prefix = Prefix::default();
    let protocol = poll_fn(|cx| {
        loop {
            if let Some(protocol) = prefix.protocol() {
                return Ok(protocol).into();
            }
            let room = PREFACE.len() - prefix.end;
            if ready!(stream.poll_read_with(cx, room, |bytes| prefix.push(bytes)))? == 0 {
                return io::Result::Ok(Protocol::Http1).into();
            }
            has_begun.set(true);
        }
    })
    .await?;
    stream.set_recv_deadline(None);
    Ok((protocol, prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_bytes() {
        let check = |bytes: &[u8], expected: Option<Protocol>| {
            let mut prefix = Prefix::default();
            prefix.push(bytes);
            assert_eq!(prefix.protocol(), expected, "{bytes:?}");
        };
        check(b"", None);
        check(b"P", None);
        check(b"PR", None);
        check(b"PUT / HTTP/1.1\r\n", Some(Protocol::Http1));
        check(b"GET / HTTP/1.1\r\n", Some(Protocol::Http1));
        check(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r", None);
        check(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Some(Protocol::Http2));
        check(b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", Some(Protocol::Http1));
    }

    #[test]
    fn a_prefix_is_given_in_pieces() {
        let mut prefix = Prefix::default();
        prefix.push(b"abcde");
        assert_eq!(prefix.take(2), b"ab");
        assert_eq!(prefix.take(9), b"cde");
        assert!(prefix.is_empty() && prefix.take(9).is_empty());
    }
}
