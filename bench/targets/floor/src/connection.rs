//! What the server knows about one connection, and what to do next with it. Does no I/O.
//!
//! A connection is addressed by its descriptor number. That is safe because the descriptor is closed only when nothing
//! is in flight on it, so no completion can arrive for a number that has been given away again.

use crate::answer::ANSWERS_PER_SEND_MAX;
use crate::terminator::Terminator;

/// State of one descriptor, open or not.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Connection {
    terminator: Terminator,
    /// Answers not yet handed to a send. Only a number: a peer that never reads costs no memory.
    owed: u64,
    /// Bytes of the send that was handed out last and that may still come back short.
    pub(crate) flying_bytes: u32,
    /// Bytes of a send that came back short, to go out before anything else.
    rest_bytes: u32,
    /// A send is in flight whose completion will come.
    pub(crate) sending: bool,
    /// The peer has closed, or the connection failed: no receive is armed any more.
    pub(crate) receive_ended: bool,
    /// Sending failed; what is owed is void.
    pub(crate) broken: bool,
    /// It stands in the list of connections to look at after the drain.
    pub(crate) listed: bool,
}

/// What a connection wants after a round of completions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Wait for the next completion.
    Wait,
    /// Send so many bytes, which are the last bytes of so many answers.
    Send { bytes: u32, answers: u32 },
    /// Nothing is in flight and nothing is owed: close the descriptor.
    Close,
}

impl Connection {
    /// Takes what was received.
    #[inline]
    pub(crate) fn handle_received(&mut self, bytes: &[u8]) {
        self.owed += u64::from(self.terminator.count(bytes));
    }

    /// Takes the result of a send of [`flying_bytes`](Self::flying_bytes).
    #[inline]
    pub(crate) fn handle_sent(&mut self, sent_bytes: u32) {
        debug_assert!(sent_bytes <= self.flying_bytes);
        self.sending = false;
        self.rest_bytes = self.flying_bytes - sent_bytes;
    }

    /// Gives up on sending.
    pub(crate) fn handle_send_failed(&mut self) {
        self.sending = false;
        self.broken = true;
        self.rest_bytes = 0;
    }

    /// Decides what comes next; a `Send` is taken as handed out.
    #[inline]
    pub(crate) fn next(&mut self, answer_bytes: u32) -> Next {
        if self.sending {
            return Next::Wait;
        }
        if self.broken || (self.rest_bytes == 0 && self.owed == 0) {
            return if self.receive_ended { Next::Close } else { Next::Wait };
        }
        if self.rest_bytes > 0 {
            let bytes = std::mem::take(&mut self.rest_bytes);
            self.flying_bytes = bytes;
            return Next::Send { bytes, answers: bytes.div_ceil(answer_bytes) };
        }
        let answers = self.owed.min(u64::from(ANSWERS_PER_SEND_MAX)) as u32;
        self.owed -= u64::from(answers);
        self.flying_bytes = answers * answer_bytes;
        Next::Send { bytes: self.flying_bytes, answers }
    }

    /// Whether a send came back short and its rest comes next.
    #[inline]
    pub(crate) fn has_rest(&self) -> bool {
        self.rest_bytes > 0
    }

    /// Whether more answers wait behind the one handed out.
    #[inline]
    pub(crate) fn has_more(&self) -> bool {
        self.owed > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_send_is_finished_before_the_next_answer() {
        let mut connection = Connection::default();
        connection.handle_received(b"\r\n\r\n\r\n\r\n");
        assert_eq!(connection.next(100), Next::Send { bytes: 200, answers: 2 });
        connection.sending = true;
        connection.handle_received(b"\r\n\r\n");
        assert_eq!(connection.next(100), Next::Wait);
        connection.handle_sent(50);
        assert_eq!(connection.next(100), Next::Send { bytes: 150, answers: 2 });
        connection.handle_sent(150);
        assert_eq!(connection.next(100), Next::Send { bytes: 100, answers: 1 });
        connection.handle_sent(100);
        assert_eq!(connection.next(100), Next::Wait);
    }

    #[test]
    fn the_end_waits_for_what_is_owed() {
        let mut connection = Connection::default();
        connection.handle_received(b"\r\n\r\n");
        connection.receive_ended = true;
        assert_eq!(connection.next(100), Next::Send { bytes: 100, answers: 1 });
        connection.sending = true;
        assert_eq!(connection.next(100), Next::Wait);
        connection.handle_sent(100);
        assert_eq!(connection.next(100), Next::Close);
    }

    #[test]
    fn a_batch_larger_than_the_block_leaves_in_parts() {
        let mut connection = Connection::default();
        connection.handle_received(&b"\r\n\r\n".repeat(ANSWERS_PER_SEND_MAX as usize + 1));
        assert_eq!(
            connection.next(1),
            Next::Send { bytes: ANSWERS_PER_SEND_MAX, answers: ANSWERS_PER_SEND_MAX }
        );
        assert!(connection.has_more());
        connection.handle_sent(ANSWERS_PER_SEND_MAX);
        assert_eq!(connection.next(1), Next::Send { bytes: 1, answers: 1 });
    }
}
