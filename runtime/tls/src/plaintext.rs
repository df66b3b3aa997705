//! Buffers for decrypted bytes, recycled per thread. An idle connection holds none.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::ops::Deref;

/// Bytes of the largest record (RFC 8446 section 5.1), so that one buffer takes a whole one.
pub(crate) const RECORD_MAX: usize = 16 * 1024;

/// Buffers that a thread keeps for the next reader; further ones go to the allocator. Arbitrary: 256 KiB a thread.
const KEPT_MAX: usize = 16;

/// Capacity of the writer's buffer that a thread keeps.
const SCRATCH_MAX: usize = 64 * 1024;

thread_local! {
    static KEPT: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Received and decrypted bytes, at most 16 KiB. Dropping it gives the buffer back to the thread.
///
/// The counterpart of [`Lease`](annulet::Lease); it may be kept for longer, because it comes from the allocator.
pub struct Plaintext {
    /// `RECORD_MAX` bytes; empty once it has been given back.
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Plaintext {
    /// Filled by `read`, which gives the count.
    pub(crate) fn filled<E>(read: impl FnOnce(&mut [u8]) -> Result<usize, E>) -> Result<Plaintext, E> {
        let kept = KEPT.with_borrow_mut(Vec::pop);
        let buffer = kept.unwrap_or_else(|| vec![0; RECORD_MAX].into_boxed_slice());
        let mut plaintext = Plaintext { buffer, start: 0, end: 0 };
        plaintext.end = read(&mut plaintext.buffer)?;
        Ok(plaintext)
    }

    /// Drops the first `count` bytes from view.
    ///
    /// # Panics
    ///
    /// When there are fewer.
    pub fn advance(&mut self, count: usize) {
        assert!(count <= self.len(), "cannot advance by {count}: there are {} bytes", self.len());
        self.start += count;
    }
}

impl Deref for Plaintext {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }
}

impl AsRef<[u8]> for Plaintext {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for Plaintext {
    /// Without the bytes: they were secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plaintext").field("len", &self.len()).finish()
    }
}

impl Drop for Plaintext {
    fn drop(&mut self) {
        let buffer = std::mem::take(&mut self.buffer);
        // On a thread that ends there is nobody to keep it for.
        let _ = KEPT.try_with(|kept| {
            let mut kept = kept.borrow_mut();
            if kept.len() < KEPT_MAX {
                kept.push(buffer);
            }
        });
    }
}

/// Lets `fill` write into the thread's buffer, then `take` have what it wrote.
pub(crate) fn with_scratch<R>(fill: impl FnOnce(&mut Vec<u8>) -> R, take: impl FnOnce(&[u8])) -> R {
    // Out of the cell meanwhile: `fill` is the user's code and may come here again.
    let mut scratch = SCRATCH.take();
    let result = fill(&mut scratch);
    take(&scratch);
    if scratch.capacity() <= SCRATCH_MAX {
        scratch.clear();
        SCRATCH.set(scratch);
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(with: &[u8]) -> Plaintext {
        Plaintext::filled(|buffer| {
            buffer[..with.len()].copy_from_slice(with);
            Ok::<_, ()>(with.len())
        })
        .unwrap()
    }

    #[test]
    fn shows_what_was_filled_in_and_nothing_of_the_last_use() {
        drop(filled(b"secret"));
        let mut plaintext = filled(b"abc");
        assert_eq!(&plaintext[..], b"abc");
        plaintext.advance(2);
        assert_eq!(&plaintext[..], b"c");
        assert_eq!(format!("{plaintext:?}"), "Plaintext { len: 1 }");
    }

    #[test]
    fn a_thread_keeps_so_many_and_no_more() {
        drop(Vec::from_iter((0..2 * KEPT_MAX).map(|_| filled(b"a"))));
        assert_eq!(KEPT.with_borrow(Vec::len), KEPT_MAX);
    }

    #[test]
    fn the_scratch_is_empty_each_time_also_within_itself() {
        let mut seen = Vec::new();
        with_scratch(
            |outer| {
                outer.extend_from_slice(b"outer");
                with_scratch(|inner| inner.extend_from_slice(b"inner"), |bytes| assert_eq!(bytes, b"inner"));
            },
            |bytes| seen.extend_from_slice(bytes),
        );
        assert_eq!(seen, b"outer");
        with_scratch(|buffer| assert!(buffer.is_empty()), |bytes| assert!(bytes.is_empty()));
    }
}
