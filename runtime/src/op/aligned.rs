//! A buffer whose address is a multiple of something: what O_DIRECT asks for.

#![allow(unsafe_code)]

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

/// A buffer of fixed length whose address is aligned, for files that are opened with
/// [`direct`](crate::fs::OpenOptions::direct).
///
/// It starts as zeros and reads like a slice. See open(2) under O_DIRECT.
///
/// # Examples
///
/// ```
/// let mut buffer = annulet::fs::AlignedBuf::new(8192);
/// buffer[..5].copy_from_slice(b"hello");
/// assert_eq!(buffer.as_ptr() as usize % annulet::fs::AlignedBuf::ALIGNMENT, 0);
/// assert_eq!((buffer.len(), &buffer[..6]), (8192, &b"hello\0"[..]));
/// ```
pub struct AlignedBuf {
    /// INVARIANT: an allocation of `layout`, initialised, owned by this buffer alone; dangling if the length is zero.
    bytes: NonNull<u8>,
    layout: Layout,
}

impl AlignedBuf {
    /// The alignment of [`new`](Self::new): a page, which every file system and device takes.
    pub const ALIGNMENT: usize = 4096;

    /// `len` zeros, aligned to [`ALIGNMENT`](Self::ALIGNMENT).
    ///
    /// # Panics
    ///
    /// When there is no memory of that size.
    pub fn new(len: usize) -> Self {
        Self::with_alignment(len, Self::ALIGNMENT)
    }

    /// `len` zeros, aligned to `alignment`.
    ///
    /// # Panics
    ///
    /// When `alignment` is no power of two, or there is no memory of that size.
    pub fn with_alignment(len: usize, alignment: usize) -> Self {
        let layout = Layout::from_size_align(len, alignment).unwrap_or_else(|_| {
            panic!("no buffer of {len} bytes can be aligned to {alignment}; give a power of two")
        });
        if len == 0 {
            return AlignedBuf { bytes: NonNull::dangling(), layout };
        }
        // SAFETY: the size is not zero.
        let bytes = unsafe { alloc_zeroed(layout) };
        let bytes = NonNull::new(bytes).unwrap_or_else(|| handle_alloc_error(layout));
        AlignedBuf { bytes, layout }
    }
}

impl Deref for AlignedBuf {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        // SAFETY: by the invariant, that many initialised bytes are there and borrowed with the buffer.
        unsafe { std::slice::from_raw_parts(self.bytes.as_ptr(), self.layout.size()) }
    }
}

impl DerefMut for AlignedBuf {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and nobody else has the buffer.
        unsafe { std::slice::from_raw_parts_mut(self.bytes.as_ptr(), self.layout.size()) }
    }
}

impl AsRef<[u8]> for AlignedBuf {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Default for AlignedBuf {
    fn default() -> Self {
        Self::new(0)
    }
}

impl fmt::Debug for AlignedBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let alignment = self.layout.align();
        f.debug_struct("AlignedBuf").field("len", &self.len()).field("alignment", &alignment).finish()
    }
}

impl Drop for AlignedBuf {
    fn drop(&mut self) {
        if self.layout.size() > 0 {
            // SAFETY: by the invariant, allocated with this layout and not used after this.
            unsafe { dealloc(self.bytes.as_ptr(), self.layout) };
        }
    }
}

// SAFETY: the buffer owns plain bytes, like a `Box<[u8]>`.
unsafe impl Send for AlignedBuf {}
// SAFETY: as above; shared access only reads.
unsafe impl Sync for AlignedBuf {}
