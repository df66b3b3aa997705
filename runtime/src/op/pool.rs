//! The receive buffers of one core: a provided buffer ring, the memory behind it, and who holds which buffer.
//!
//! A buffer is in one of three places: in the ring (the kernel may write to it), with a socket (received, not yet taken),
//! or with a [`Lease`](super::Lease). The pool starts small and grows by whole chunks when the kernel finds it empty, up
//! to [`BUFFERS_MAX`]. When all of them are held, by sockets whose bytes nobody takes, a socket with a waiting reader gets
//! one from a reserve outside of the ring: so nobody's unread bytes can stop those who do read.
//!
//! Where the kernel has no buffer rings, the same memory is handed out by [`take`](BufferPool::take).

#![allow(unsafe_code)]

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::cell::{Cell, UnsafeCell};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;

/// Bytes in one receive buffer: a page, enough for the head of nearly every request.
pub(crate) const BUFFER_BYTES: usize = 4096;
/// Distance between two buffers. One cache line more than a page, so that the first lines of all buffers do not fall
/// into the same cache set.
const BUFFER_STRIDE: usize = BUFFER_BYTES + 64;
/// Buffers that are added at a time.
const CHUNK_BUFFERS: usize = 256;
/// The most buffers of one core: 8192 × 4 KiB = 32 MiB.
pub(crate) const BUFFERS_MAX: usize = 8192;
/// The most buffers of the reserve: 4096 × 4 KiB = 16 MiB.
const RESERVE_MAX: usize = 4096;
/// Buffers from this number on are of the reserve.
const RESERVE_FIRST: usize = BUFFERS_MAX;
/// No buffer: the end of a list.
pub(crate) const NONE: u16 = u16::MAX;

/// One core's receive buffers.
pub(crate) struct BufferPool {
    /// The ring shared with the kernel, or none where the kernel has no such thing.
    /// INVARIANT: points to `BUFFERS_MAX` entries until the pool is dropped.
    ring: Option<NonNull<BufRingEntry>>,
    /// The tail that the kernel sees is this one, modulo 2^16.
    tail: Cell<u16>,
    /// Memory, one allocation a chunk.
    /// INVARIANT: chunks are only added; buffer `b` is at `chunks[b / CHUNK_BUFFERS]` until the pool is dropped.
    chunks: UnsafeCell<Vec<NonNull<u8>>>,
    /// Memory of the reserve, one allocation a chunk; INVARIANT as for `chunks`, from RESERVE_FIRST on.
    reserve: UnsafeCell<Vec<NonNull<u8>>>,
    /// Received and not yet taken: each buffer's place in its socket's list.
    notes: UnsafeCell<Vec<Note>>,
    /// Buffers that are free and not in a ring: the reserve's, and all where there is no ring.
    free: UnsafeCell<Vec<u16>>,
    /// Buffers that exist, without the reserve.
    total: Cell<usize>,
    /// Buffers outside the ring and the free list, without the reserve.
    held: Cell<usize>,
    /// The same of the reserve.
    reserve_held: Cell<usize>,
    /// The most that `total` may become.
    max: usize,
}

/// What is remembered of a buffer that waits in a socket's list.
#[derive(Clone, Copy)]
struct Note {
    /// The bytes that were received and not consumed are `start..end`.
    start: u16,
    end: u16,
    /// The next buffer of the same socket.
    next: u16,
}

impl std::fmt::Debug for BufferPool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BufferPool")
            .field("total", &self.total.get())
            .field("held", &self.held.get())
            .finish()
    }
}

const fn chunk_layout() -> Layout {
    match Layout::from_size_align(CHUNK_BUFFERS * BUFFER_STRIDE, 4096) {
        Ok(layout) => layout,
        Err(_) => panic!("a chunk has a valid layout"),
    }
}

const fn ring_layout() -> Layout {
    match Layout::from_size_align(BUFFERS_MAX * size_of::<BufRingEntry>(), 4096) {
        Ok(layout) => layout,
        Err(_) => panic!("the buffer ring has a valid layout"),
    }
}

fn allocate_chunk() -> NonNull<u8> {
    // SAFETY: the layout is not empty. The memory may be uninitialised: it is read only after the kernel wrote it, and
    // only as far as it wrote (`Lease`).
    let chunk = unsafe { alloc(chunk_layout()) };
    NonNull::new(chunk).unwrap_or_else(|| handle_alloc_error(chunk_layout()))
}

impl BufferPool {
    /// A pool of at most `max` buffers, with or without a ring.
    pub(crate) fn new(with_ring: bool, max: usize) -> Self {
        let ring = with_ring.then(|| {
            // SAFETY: the layout is not empty. Zeroed entries are valid: an entry is plain numbers.
            let memory = unsafe { std::alloc::alloc_zeroed(ring_layout()) };
            NonNull::new(memory.cast()).unwrap_or_else(|| handle_alloc_error(ring_layout()))
        });
        let pool = BufferPool {
            ring,
            tail: Cell::new(0),
            chunks: UnsafeCell::default(),
            reserve: UnsafeCell::default(),
            notes: UnsafeCell::default(),
            free: UnsafeCell::default(),
            total: Cell::new(0),
            held: Cell::new(0),
            reserve_held: Cell::new(0),
            max: max.clamp(1, BUFFERS_MAX),
        };
        pool.grow();
        pool
    }

    /// The address of the ring, for registration, and its number of entries.
    pub(crate) fn ring(&self) -> Option<(*const u8, u16)> {
        self.ring.map(|ring| (ring.as_ptr().cast_const().cast(), BUFFERS_MAX as u16))
    }

    /// Adds a chunk of buffers. False at the bound.
    pub(crate) fn grow(&self) -> bool {
        let total = self.total.get();
        let count = CHUNK_BUFFERS.min(self.max - total);
        if count == 0 {
            return false;
        }
        let chunk = allocate_chunk();
        // SAFETY: `BufferPool` is not Sync and no reference into these vectors is kept across a call.
        unsafe {
            (*self.chunks.get()).push(chunk);
            let notes = &mut *self.notes.get();
            notes.resize(notes.len().max(total + count), Note { start: 0, end: 0, next: NONE });
        }
        self.total.set(total + count);
        self.held.set(self.held.get() + count);
        for buffer in total..total + count {
            self.give_back(buffer as u16);
        }
        true
    }

    /// The first byte of a buffer.
    #[inline]
    pub(crate) fn address(&self, buffer: u16) -> NonNull<u8> {
        let buffer = usize::from(buffer);
        let (chunks, index) = match buffer.checked_sub(RESERVE_FIRST) {
            None => (&self.chunks, buffer),
            Some(index) => (&self.reserve, index),
        };
        // SAFETY: no reference into the vectors is kept across a call, so none is mutable now.
        let chunk = unsafe { &*chunks.get() }[index / CHUNK_BUFFERS];
        // SAFETY: the offset stays inside the chunk's allocation: the remainder is below CHUNK_BUFFERS.
        unsafe { chunk.add(index % CHUNK_BUFFERS * BUFFER_STRIDE) }
    }

    /// Puts a buffer back into the ring (or the free list); the kernel may write to it from here on.
    #[inline]
    pub(crate) fn give_back(&self, buffer: u16) {
        let is_reserve = usize::from(buffer) >= RESERVE_FIRST;
        let held = if is_reserve { &self.reserve_held } else { &self.held };
        held.set(held.get() - 1);
        let Some(ring) = self.ring.filter(|_| !is_reserve) else {
            // SAFETY: no reference into the vector is kept across a call.
            unsafe { &mut *self.free.get() }.push(buffer);
            return;
        };
        let address = self.address(buffer);
        let tail = self.tail.get();
        // SAFETY: the index is below the ring's length, a power of two. The kernel does not read an entry at or beyond
        // the published tail, and fewer than BUFFERS_MAX entries lie between its head and our tail, because no buffer
        // is in the ring twice. The fields are written one by one: the tail lives in a spare field of entry 0.
        unsafe {
            let entry = &mut *ring.as_ptr().add(usize::from(tail) & (BUFFERS_MAX - 1));
            entry.set_addr(address.as_ptr() as u64);
            entry.set_len(BUFFER_BYTES as u32);
            entry.set_bid(buffer);
        }
        self.tail.set(tail.wrapping_add(1));
        // SAFETY: the tail is a u16 inside entry 0, aligned, read by the kernel with an acquire load; Release makes
        // the entry visible before it.
        unsafe {
            let shared = BufRingEntry::tail(ring.as_ptr()).cast::<AtomicU16>();
            (*shared).store(tail.wrapping_add(1), Ordering::Release);
        }
    }

    /// Notes that the kernel took `buffer` out of the ring.
    #[inline]
    pub(crate) fn taken_by_kernel(&self, buffer: u16) {
        debug_assert!(usize::from(buffer) < self.total.get());
        self.held.set(self.held.get() + 1);
    }

    /// Takes a buffer that is not in a ring: any where there is none, one of the reserve else. None at the bound.
    pub(crate) fn take(&self) -> Option<u16> {
        // SAFETY: no reference into the vectors is kept across a call.
        if unsafe { &*self.free.get() }.is_empty() && !(self.ring.is_none() && self.grow()) {
            self.grow_reserve();
        }
        // SAFETY: as above.
        let buffer = unsafe { &mut *self.free.get() }.pop()?;
        let held = if usize::from(buffer) >= RESERVE_FIRST { &self.reserve_held } else { &self.held };
        held.set(held.get() + 1);
        Some(buffer)
    }

    /// Adds a chunk to the reserve, unless it is at its bound.
    #[cold]
    fn grow_reserve(&self) {
        // SAFETY: no reference into the vectors is kept across a call.
        let reserve = unsafe { &mut *self.reserve.get() };
        // SAFETY: as above.
        let (notes, free) = unsafe { (&mut *self.notes.get(), &mut *self.free.get()) };
        let first = RESERVE_FIRST + reserve.len() * CHUNK_BUFFERS;
        if first < RESERVE_FIRST + RESERVE_MAX {
            reserve.push(allocate_chunk());
            notes.resize(first + CHUNK_BUFFERS, Note { start: 0, end: 0, next: NONE });
            free.extend((first..first + CHUNK_BUFFERS).map(|buffer| buffer as u16));
        }
    }

    /// Whether [`take`](Self::take) would find one.
    pub(crate) fn has_reserve(&self) -> bool {
        self.reserve_held.get() < RESERVE_MAX
    }

    /// Buffers that the kernel could fill now.
    #[inline]
    pub(crate) fn available(&self) -> usize {
        self.total.get() - self.held.get()
    }

    /// Buffers with sockets and leases.
    pub(crate) fn held(&self) -> usize {
        self.held.get() + self.reserve_held.get()
    }

    /// Whether less than a quarter of all the buffers that there can be is left.
    #[inline]
    pub(crate) fn is_scarce(&self) -> bool {
        self.max - self.held.get() < self.max / 4
    }

    /// Remembers which bytes `buffer` holds while it waits in a list, and what follows it there.
    #[inline]
    pub(crate) fn note(&self, buffer: u16, start: u16, end: u16, next: u16) {
        debug_assert!(start <= end && usize::from(end) <= BUFFER_BYTES);
        // SAFETY: no reference into the vector is kept across a call.
        let notes = unsafe { &mut *self.notes.get() };
        notes[usize::from(buffer)] = Note { start, end, next };
    }

    /// Links `next` behind `buffer`.
    #[inline]
    pub(crate) fn link(&self, buffer: u16, next: u16) {
        // SAFETY: no reference into the vector is kept across a call.
        let notes = unsafe { &mut *self.notes.get() };
        notes[usize::from(buffer)].next = next;
    }

    /// The bytes in `buffer`, as `start..end`, and the buffer behind it.
    #[inline]
    pub(crate) fn noted(&self, buffer: u16) -> (u16, u16, u16) {
        // SAFETY: no reference into the vector is kept across a call.
        let note = unsafe { &*self.notes.get() }[usize::from(buffer)];
        (note.start, note.end, note.next)
    }
}

impl Drop for BufferPool {
    fn drop(&mut self) {
        // The ring that was registered with the kernel is closed by now, or its shard leaked its share of this pool.
        for chunk in self.chunks.get_mut().iter().chain(self.reserve.get_mut().iter()) {
            // SAFETY: allocated by `allocate_chunk` with this layout, freed once.
            unsafe { dealloc(chunk.as_ptr(), chunk_layout()) };
        }
        if let Some(ring) = self.ring {
            // SAFETY: allocated in `new` with this layout, freed once.
            unsafe { dealloc(ring.as_ptr().cast(), ring_layout()) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_ring_the_pool_grows_to_its_bound_and_then_by_its_reserve() {
        let pool = BufferPool::new(false, 300);
        let taken: Vec<_> = std::iter::from_fn(|| pool.take()).collect();
        assert_eq!(taken.len(), 300 + RESERVE_MAX);
        assert_eq!((pool.available(), pool.held(), pool.has_reserve()), (0, 300 + RESERVE_MAX, false));
        let mut addresses: Vec<_> =
            taken.iter().map(|buffer| pool.address(*buffer).as_ptr() as usize).collect();
        addresses.sort_unstable();
        assert!(addresses.windows(2).all(|pair| pair[1] - pair[0] >= BUFFER_BYTES));
        taken.into_iter().for_each(|buffer| pool.give_back(buffer));
        assert_eq!((pool.available(), pool.held(), pool.has_reserve()), (300, 0, true));
    }

    #[test]
    fn with_a_ring_only_the_reserve_is_handed_out() {
        let pool = BufferPool::new(true, 100);
        assert_eq!(pool.available(), 100);
        let buffer = pool.take().unwrap();
        assert!(usize::from(buffer) >= RESERVE_FIRST);
        assert_eq!((pool.available(), pool.held()), (100, 1));
        pool.give_back(buffer);
        assert_eq!(pool.held(), 0);
    }

    #[test]
    fn buffers_do_not_overlap() {
        let pool = BufferPool::new(false, 600);
        while pool.grow() {}
        let mut addresses: Vec<_> = (0..600).map(|buffer| pool.address(buffer).as_ptr() as usize).collect();
        addresses.sort_unstable();
        assert!(addresses.windows(2).all(|pair| pair[1] - pair[0] >= BUFFER_BYTES));
    }
}
