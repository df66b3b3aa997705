//! Byte buffers that go round: taken from a free list of the thread and given back when dropped, so that the steady state does
//! not allocate.
use std::cell::RefCell;
use std::fmt;
use std::ops::{Deref, DerefMut};

/// Buffers kept per thread. One is in use per answer that is being written; more only while handlers wait.
const BUFFERS_FREE_MAX: usize = 64;
/// A buffer that grew beyond this is given to the allocator instead, in bytes.
const BUFFER_BYTES_MAX: usize = 32 * 1024;

thread_local! {
    static FREE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// A growable byte buffer from the thread's free list.
#[derive(Default, PartialEq, Eq)]
pub(crate) struct Buffer(Vec<u8>);

impl Buffer {
    /// An empty buffer, with room if one is free.
    #[inline]
    pub(crate) fn take() -> Buffer {
        Buffer(FREE.try_with(|free| free.borrow_mut().pop()).ok().flatten().unwrap_or_default())
    }

    /// The bytes themselves; they do not come back to the list.
    pub(crate) fn into_vec(mut self) -> Vec<u8> {
        std::mem::take(&mut self.0)
    }
}

impl From<Vec<u8>> for Buffer {
    fn from(bytes: Vec<u8>) -> Buffer {
        Buffer(bytes)
    }
}

impl Drop for Buffer {
    #[inline]
    fn drop(&mut self) {
        if !(1..=BUFFER_BYTES_MAX).contains(&self.0.capacity()) {
            return;
        }
        let mut bytes = std::mem::take(&mut self.0);
        bytes.clear();
        // Fails only while the thread ends: then the allocator has it.
        let _ = FREE.try_with(|free| {
            let mut free = free.borrow_mut();
            if free.len() < BUFFERS_FREE_MAX {
                free.push(bytes);
            }
        });
    }
}

impl Deref for Buffer {
    type Target = Vec<u8>;

    #[inline]
    fn deref(&self) -> &Vec<u8> {
        &self.0
    }
}

impl DerefMut for Buffer {
    #[inline]
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({} bytes)", self.0.len())
    }
}

/// Formatted text goes straight in.
impl fmt::Write for Buffer {
    #[inline]
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_buffer_is_the_next_one_taken() {
        let mut buffer = Buffer::take();
        buffer.extend_from_slice(b"abc");
        let address = buffer.as_ptr();
        drop(buffer);
        let again = Buffer::take();
        assert_eq!((again.as_ptr(), again.len()), (address, 0));
    }

    #[test]
    fn the_list_is_bounded() {
        drop((0..2 * BUFFERS_FREE_MAX).map(|_| Buffer::from(vec![0])).collect::<Vec<_>>());
        drop(Buffer::from(Vec::with_capacity(BUFFER_BYTES_MAX + 1)));
        FREE.with(|free| {
            assert!(free.borrow().len() <= BUFFERS_FREE_MAX);
            assert!(free.borrow().iter().all(|bytes| bytes.capacity() <= BUFFER_BYTES_MAX));
        });
    }
}
