//! A lease on a receive buffer: the bytes where the kernel put them, without a copy.

#![allow(unsafe_code)]

use std::fmt;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::rc::Rc;

use super::pool::BufferPool;

/// Received bytes in a buffer of the core's pool. Dropping the lease gives the buffer back.
///
/// Keep it short: the pool is shared by all connections of the core. Copy what must last.
///
/// # Examples
///
/// ```
/// # annulet::run(async {
/// # let listener = annulet::net::TcpListener::bind("127.0.0.1:0").unwrap();
/// # let client = annulet::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
/// # let server = listener.accept().await.unwrap();
/// client.write_all(b"hello").await.unwrap();
/// let lease = server.recv().await.unwrap().expect("the client has not closed");
/// assert_eq!(&lease[..], b"hello");
/// # });
/// ```
pub struct Lease {
    /// Who gets the buffer back.
    pool: Rc<BufferPool>,
    /// The buffer.
    /// INVARIANT: held by this lease alone, outside the ring, until drop.
    buffer: u16,
    /// The first byte that is not consumed yet.
    start: u32,
    /// One past the last byte that the kernel wrote.
    /// INVARIANT: start <= end <= the buffer's bytes, and everything below `end` is initialised.
    end: u32,
}

impl Lease {
    /// Takes over the bytes `start..end` of `buffer`.
    ///
    /// # Safety
    ///
    /// The buffer is outside the ring, in nobody else's hands, and its first `end` bytes were written.
    #[inline]
    pub(crate) unsafe fn new(pool: Rc<BufferPool>, buffer: u16, start: u32, end: u32) -> Self {
        debug_assert!(start <= end && end as usize <= pool.bytes_of(buffer));
        Lease { pool, buffer, start, end }
    }

    /// Gives the buffer up without returning it to the pool.
    pub(crate) fn into_parts(self) -> (u16, u32, u32) {
        let mut this = ManuallyDrop::new(self);
        let parts = (this.buffer, this.start, this.end);
        // SAFETY: the lease is not used or dropped after this; its share of the pool is dropped here.
        unsafe { std::ptr::drop_in_place(&raw mut this.pool) };
        parts
    }

    /// Drops the first `count` bytes from view.
    ///
    /// # Panics
    ///
    /// When there are fewer.
    #[inline]
    pub fn advance(&mut self, count: usize) {
        assert!(count <= self.len(), "cannot advance by {count}: the lease holds {} bytes", self.len());
        self.start += count as u32;
    }
}

impl Deref for Lease {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        // SAFETY: by the invariants on the fields, the range was written, lies in the buffer, and neither the kernel
        // nor anybody else writes to it before drop.
        unsafe {
            let first = self.pool.address(self.buffer).as_ptr().add(self.start as usize);
            std::slice::from_raw_parts(first, (self.end - self.start) as usize)
        }
    }
}

impl AsRef<[u8]> for Lease {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("buffer", &self.buffer).field("len", &self.len()).finish()
    }
}

impl Drop for Lease {
    #[inline]
    fn drop(&mut self) {
        self.pool.give_back(self.buffer);
    }
}
