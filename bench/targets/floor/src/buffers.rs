//! The provided buffer ring: memory the kernel chooses receive buffers from.
//!
//! A buffer is lent to a completion and goes back within the same drain; the server never holds one across an enter.

use std::alloc::{Layout, alloc_zeroed, handle_alloc_error};
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::Submitter;
use io_uring::types::BufRingEntry;

/// A power of two, as the kernel demands.
const BUFFERS: u16 = 1024;
/// One page: room for a batch of some hundred small requests.
const BUFFER_BYTES: usize = 4096;
const PAGE_BYTES: usize = 4096;

/// The ring's entries and the buffers they point to. Never freed: both live as long as the process.
#[derive(Debug)]
pub(crate) struct Buffers {
    /// INVARIANT: `BUFFERS` entries, page-aligned, written by this thread only.
    entries: NonNull<BufRingEntry>,
    /// INVARIANT: `BUFFERS * BUFFER_BYTES` bytes.
    memory: NonNull<u8>,
    /// Where the next buffer is returned; the kernel sees it at `publish`.
    tail: u16,
}

impl Buffers {
    /// The group all receives choose from.
    pub(crate) const GROUP: u16 = 0;

    /// Allocates, fills and registers the ring.
    pub(crate) fn register(submitter: &Submitter<'_>) -> io::Result<Buffers> {
        let entries = pages(usize::from(BUFFERS) * size_of::<BufRingEntry>()).cast::<BufRingEntry>();
        let memory = pages(usize::from(BUFFERS) * BUFFER_BYTES);
        // SAFETY: the entries are page-aligned, zeroed, `BUFFERS` long and never freed.
        unsafe {
            submitter.register_buf_ring_with_flags(entries.as_ptr() as u64, BUFFERS, Self::GROUP, 0)?;
        }
        let mut buffers = Buffers { entries, memory, tail: 0 };
        for id in 0..BUFFERS {
            buffers.give_back(id);
        }
        buffers.publish();
        Ok(buffers)
    }

    /// The bytes a completion says are in a buffer.
    #[inline]
    pub(crate) fn received(&self, id: u16, bytes: usize) -> &[u8] {
        assert!(id < BUFFERS && bytes <= BUFFER_BYTES);
        // SAFETY: inside `memory` by the assertion. The kernel does not write to it before it is given back and
        // published, which needs `&mut self`.
        unsafe { std::slice::from_raw_parts(self.memory.as_ptr().add(usize::from(id) * BUFFER_BYTES), bytes) }
    }

    /// Puts a buffer back; the kernel may take it after the next `publish`.
    #[inline]
    pub(crate) fn give_back(&mut self, id: u16) {
        assert!(id < BUFFERS);
        // SAFETY: both offsets are inside their allocations, by the assertion and by the mask. The entry behind the
        // published tail is not read by the kernel, and entry 0's tail field is not touched by these setters.
        unsafe {
            let entry = &mut *self.entries.as_ptr().add(usize::from(self.tail & (BUFFERS - 1)));
            entry.set_addr(self.memory.as_ptr().add(usize::from(id) * BUFFER_BYTES) as u64);
            entry.set_len(BUFFER_BYTES as u32);
            entry.set_bid(id);
        }
        self.tail = self.tail.wrapping_add(1);
    }

    /// Shows the kernel everything that was given back.
    #[inline]
    pub(crate) fn publish(&self) {
        // SAFETY: the tail lies in entry 0, is aligned, and is only ever accessed as an atomic on this side.
        let tail = unsafe { AtomicU16::from_ptr(BufRingEntry::tail(self.entries.as_ptr()).cast_mut()) };
        // Release: pairs with the kernel's acquire load of the tail when it selects a buffer.
        tail.store(self.tail, Ordering::Release);
    }
}

/// Zeroed, page-aligned memory that is never freed.
fn pages(bytes: usize) -> NonNull<u8> {
    let layout = Layout::from_size_align(bytes, PAGE_BYTES).expect("a constant size");
    // SAFETY: the layout is not empty.
    NonNull::new(unsafe { alloc_zeroed(layout) }).unwrap_or_else(|| handle_alloc_error(layout))
}
