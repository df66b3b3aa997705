//! The link between a supervisor and one worker or successor: a pair of stream sockets.
//!
//! Orders go down and reports come up, a byte each (a report of readiness has the ring's features behind it). The end of
//! the stream is a message as well: the other side is gone.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;

use super::plan::Order;
use crate::Capabilities;

/// Down: answer, to show that the loop turns.
pub(super) const PING: u8 = b'p';
/// Up: the answer.
pub(super) const PONG: u8 = b'P';
/// Up: there is nothing more to do, although nobody has asked for the end.
pub(super) const FINISHED: u8 = b'F';
/// Up: somebody has asked this worker alone to end.
pub(super) const LEAVING: u8 = b'L';
/// Up: ready; [`Capabilities::BYTES`] bytes follow.
pub(super) const READY: u8 = b'R';

/// What comes up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Report {
    Ready(Capabilities),
    Pong,
    Finished,
    Leaving,
}

impl Order {
    pub(super) fn byte(self) -> u8 {
        match self {
            Order::AllServe => b'a',
            Order::Drain => b'r',
            Order::Stop => b's',
            Order::Replaced => b'x',
        }
    }

    pub(super) fn from_byte(byte: u8) -> Option<Order> {
        Order::ALL.into_iter().find(|order| order.byte() == byte)
    }
}

/// What a worker says when it is ready.
pub(super) fn ready(capabilities: &Capabilities) -> Vec<u8> {
    let mut bytes = vec![READY];
    bytes.extend(capabilities.to_bytes());
    bytes
}

/// The supervisor's end, which never waits.
#[derive(Debug)]
pub(super) struct Link {
    stream: UnixStream,
    /// The beginning of a report.
    received: Vec<u8>,
    is_open: bool,
}

impl Link {
    /// # Errors
    ///
    /// What fcntl(2) says.
    pub(super) fn new(stream: UnixStream) -> io::Result<Link> {
        stream.set_nonblocking(true)?;
        Ok(Link { stream, received: Vec::new(), is_open: true })
    }

    pub(super) fn stream(&self) -> &UnixStream {
        &self.stream
    }

    /// Whether there is anybody at the other end.
    pub(super) fn is_open(&self) -> bool {
        self.is_open
    }

    pub(super) fn send(&mut self, byte: u8) {
        // Refused if the other side is gone, or has not read for hundreds of orders: both are seen by other means.
        let _ = self.stream.write(&[byte]);
    }

    /// What has come.
    pub(super) fn receive(&mut self) -> Vec<Report> {
        self.fill();
        take_reports(&mut self.received)
    }

    /// Whether anything has come; of a successor there is only one thing to hear.
    pub(super) fn receive_any(&mut self) -> bool {
        self.fill();
        !std::mem::take(&mut self.received).is_empty()
    }

    fn fill(&mut self) {
        let mut bytes = [0; 256];
        loop {
            match self.stream.read(&mut bytes) {
                Ok(0) => self.is_open = false,
                Ok(count) => {
                    self.received.extend_from_slice(&bytes[..count]);
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // A reset: there were orders that nobody has read.
                Err(_) => self.is_open = false,
            }
            return;
        }
    }
}

fn take_reports(received: &mut Vec<u8>) -> Vec<Report> {
    let mut reports = Vec::new();
    let mut used = 0;
    while let [kind, rest @ ..] = &received[used..] {
        let report = match *kind {
            PONG => Some(Report::Pong),
            FINISHED => Some(Report::Finished),
            LEAVING => Some(Report::Leaving),
            READY => match rest.first_chunk() {
                Some(bytes) => {
                    used += Capabilities::BYTES;
                    Some(Report::Ready(Capabilities::from_bytes(bytes)))
                }
                None => break,
            },
            // Of a later version.
            _ => None,
        };
        reports.extend(report);
        used += 1;
    }
    received.drain(..used);
    reports
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_come_in_any_pieces() {
        let capabilities = Capabilities::all();
        let mut sent = ready(&capabilities);
        sent.extend([PONG, b'?', LEAVING, FINISHED]);
        for first in 0..sent.len() {
            let mut received = sent[..first].to_vec();
            let mut reports = take_reports(&mut received);
            received.extend_from_slice(&sent[first..]);
            reports.extend(take_reports(&mut received));
            let expected = [Report::Ready(capabilities), Report::Pong, Report::Leaving, Report::Finished];
            assert_eq!(reports, expected, "{first}");
            assert!(received.is_empty());
        }
    }

    #[test]
    fn orders() {
        for order in Order::ALL {
            assert_eq!(Order::from_byte(order.byte()), Some(order));
        }
        assert_eq!(Order::from_byte(PING), None);
    }

    #[test]
    fn the_end_of_a_link_is_seen_after_what_came_before() {
        let (one, mut other) = UnixStream::pair().unwrap();
        let mut link = Link::new(one).unwrap();
        assert_eq!(link.receive(), []);
        other.write_all(&[PONG]).unwrap();
        link.send(PING);
        drop(other);
        assert_eq!((link.receive(), link.is_open()), (vec![Report::Pong], false));
        link.send(PING);
    }
}
