//! Bytes that were received: where requests are looked for, and what is left of them when their buffer has to go back.
use std::ops::Deref;

use crate::recycle::Buffer;
use crate::transport::Received;

/// Bytes to look for requests in, and what becomes of those that are left over.
pub(super) trait Input: Deref<Target = [u8]> {
    fn into_rest(self, used: usize) -> Rest;
}

impl<R: Received> Input for R {
    fn into_rest(self, used: usize) -> Rest {
        let mut rest = Rest::default();
        rest.push(&self[used..]);
        rest
    }
}

impl Input for Rest {
    fn into_rest(mut self, used: usize) -> Rest {
        self.advance(used);
        self
    }
}

/// Bytes in recycled memory, taken from the front.
#[derive(Default)]
pub(super) struct Rest {
    bytes: Buffer,
    /// How many of them are gone.
    start: usize,
}

impl Rest {
    pub(super) fn push(&mut self, more: &[u8]) {
        if self.is_empty() && !more.is_empty() {
            *self = Rest { bytes: Buffer::take(), start: 0 };
        } else if self.start > 0 {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        self.bytes.extend_from_slice(more);
    }

    /// Memory goes back to the free list with the last byte.
    pub(super) fn advance(&mut self, count: usize) {
        self.start += count;
        if self.is_empty() {
            *self = Rest::default();
        }
    }
}

impl Deref for Rest {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[self.start..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rest_is_taken_from_the_front() {
        let mut rest = Rest::default();
        rest.push(b"abc");
        rest.advance(1);
        rest.push(b"d");
        assert_eq!(&*rest, b"bcd");
        rest.advance(3);
        assert_eq!((rest.len(), rest.bytes.capacity()), (0, 0));
    }
}
