//! How many received bytes a session keeps of which nothing has come yet: the beginning of a record, and whole records that are a part
//! of a handshake message. rustls does not tell, so the lengths of the records are followed, and the buffer into which it receives:
//! that grows with what is kept, and stays as it is until nothing is.

use std::cell::Cell;

/// What stands before a record: its kind, a version, its length in two bytes (RFC 8446 section 5.1).
const HEADER_BYTES: usize = 5;

/// rustls makes room for so much more than it keeps, and every connection has so much: not counted.
const READ_BYTES: usize = 4096;

/// rustls makes its buffer no larger for a record.
const RECORD_BYTES_MAX: usize = HEADER_BYTES + (1 << 14) + 2048;

/// rustls keeps no more of a handshake message.
const MESSAGE_BYTES_MAX: usize = 0xffff;

thread_local! {
    static TOTAL: Cell<usize> = const { Cell::new(0) };
}

/// The bytes that all [accepted](crate::TlsAcceptor) streams and handshakes of this thread have received and could not decrypt yet, as
/// the records are not whole, or the handshake messages in them. They lie in memory; see
/// [`TlsStream::undecrypted`](crate::TlsStream::undecrypted).
///
/// Connected ones are not among them: what another server sends is to take nothing from the clients of this one. There are as many as the
/// program makes.
pub fn undecrypted_bytes() -> usize {
    TOTAL.get()
}

/// See the module.
pub(crate) struct Withheld {
    /// Whether it is counted in the thread's total, until it is dropped.
    is_accepted: bool,
    /// Whole records of which nothing has come.
    whole: usize,
    /// The record that has begun.
    begun: usize,
    /// How long rustls's buffer was when it received last. It may have taken up to twice as much.
    buffer: usize,
    /// What its header has told of its length so far.
    len: u16,
    counted: usize,
}

impl Withheld {
    pub(crate) fn new(is_accepted: bool) -> Withheld {
        Withheld { is_accepted, whole: 0, begun: 0, buffer: 0, len: 0, counted: 0 }
    }

    /// In bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.counted
    }

    /// rustls was given these; `has_come` says whether something has come of the whole records.
    pub(crate) fn follow(&mut self, mut bytes: &[u8], has_come: bool) {
        if !bytes.is_empty() {
            self.grow();
        }
        while let [first, rest @ ..] = bytes {
            if self.begun < HEADER_BYTES {
                // Only the last two stay.
                self.len = self.len << 8 | u16::from(*first);
                self.begun += 1;
                bytes = rest;
            } else {
                let count = bytes.len().min(HEADER_BYTES + usize::from(self.len) - self.begun);
                self.begun += count;
                bytes = &bytes[count..];
            }
            if self.begun == HEADER_BYTES + usize::from(self.len) && self.begun >= HEADER_BYTES {
                self.whole += std::mem::take(&mut self.begun);
            }
        }
        if has_come {
            self.whole = 0;
        }
        self.whole = self.whole.min(MESSAGE_BYTES_MAX);
        let kept = self.whole + self.begun;
        self.count(if kept == 0 { 0 } else { kept.max(self.buffer - READ_BYTES) });
    }

    /// What rustls does before it receives (its `prepare_read`).
    fn grow(&mut self) {
        let kept = self.whole + self.begun;
        let most = if self.whole > 0 { MESSAGE_BYTES_MAX } else { RECORD_BYTES_MAX };
        let wanted = (kept + READ_BYTES).min(most);
        if wanted > self.buffer || kept == 0 || self.buffer > most {
            self.buffer = wanted;
        }
    }

    /// Nothing is kept any more.
    pub(crate) fn clear(&mut self) {
        (self.whole, self.begun) = (0, 0);
        self.count(0);
    }

    fn count(&mut self, bytes: usize) {
        if bytes != self.counted {
            if self.is_accepted {
                TOTAL.set((TOTAL.get() + bytes).saturating_sub(self.counted));
            }
            self.counted = bytes;
        }
    }
}

impl Drop for Withheld {
    fn drop(&mut self) {
        self.count(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_followed_in_any_cut() {
        let record = |len: u16| [&[23, 3, 3][..], &len.to_be_bytes(), &vec![7; usize::from(len)]].concat();
        let check = |bytes: &[u8], whole: usize, begun: usize| {
            for piece in [1, 2, 4, 7, bytes.len()] {
                let mut withheld = Withheld::new(true);
                for bytes in bytes.chunks(piece) {
                    withheld.follow(bytes, false);
                }
                assert_eq!(
                    (withheld.bytes(), undecrypted_bytes()),
                    (whole + begun, whole + begun),
                    "{piece}"
                );
                withheld.follow(&[], true);
                // In small pieces the buffer has grown with what was whole, and stays until nothing is kept.
                let most = if begun == 0 { 0 } else { whole + begun };
                assert!((begun..=most).contains(&withheld.bytes()), "{piece}: {}", withheld.bytes());
                assert_eq!(undecrypted_bytes(), withheld.bytes());
                drop(withheld);
                assert_eq!(undecrypted_bytes(), 0);
            }
        };
        check(&record(300), 305, 0);
        check(&record(0), 5, 0);
        check(&[record(300), record(0), record(1)].concat(), 316, 0);
        check(&[record(300), record(259)[..258].to_vec()].concat(), 305, 258);
        check(&[record(3000), record(9)[..1].to_vec()].concat(), 3005, 1);
        check(&record(300)[..4], 0, 4);
        check(&record(300)[..5], 0, 5);
        check(&[record(16384), record(16384), record(16384), record(16384)].concat(), 0xffff, 0);
    }

    /// The buffer of the record stays, for a byte.
    #[test]
    fn a_large_record_is_counted_until_nothing_is_kept() {
        let mut withheld = Withheld::new(true);
        let record = [&[23, 3, 3, 0x40, 0][..], &[7; 1 << 14], &[23]].concat();
        for bytes in record.chunks(4000) {
            withheld.follow(bytes, false);
        }
        withheld.follow(&[], true);
        assert_eq!(withheld.bytes(), RECORD_BYTES_MAX - READ_BYTES);
        withheld.follow(&[3, 3, 0, 1, 7], true);
        assert_eq!(withheld.bytes(), 0);
        withheld.follow(&[23], false);
        assert_eq!(withheld.bytes(), 1);
    }
}
