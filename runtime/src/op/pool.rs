//! The receive buffers of one core: a provided buffer ring, the memory behind it, and who holds which buffer.
//!
//! A buffer is in one of three places: in the ring (the kernel may write to it), with a socket (received, not yet taken),
//! or with a [`Lease`](super::Lease). The pool starts small and grows by whole chunks when the kernel finds it empty, up
//! to [`BUFFERS_MAX`]. When all of them are held, by sockets whose bytes nobody takes, a socket with a waiting reader gets
//! one from a reserve outside of the ring: so nobody's unread bytes can stop those who do read.
//!
//! Where the kernel has no buffer rings, the same memory is handed out by [`take`](BufferPool::take).
//!
//! For streams of which much is expected there are larger buffers, in a pool of their own behind this one. Their numbers
//! begin at [`BULK_FIRST`], so that one socket's list may hold both.

#![allow(unsafe_code)]

use std::alloc::{Layout, alloc, alloc_zeroed, dealloc, handle_alloc_error};
use std::cell::{Cell, OnceCell, UnsafeCell};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;

/// Bytes in one receive buffer of a stream: a page, enough for the head of nearly every request.
const BUFFER_BYTES: usize = 4096;
/// The most buffers of one core for streams: 8192 × 4 KiB = 32 MiB.
pub(crate) const BUFFERS_MAX: usize = 8192;
/// Buffers from this number on are of the reserve.
const RESERVE_FIRST: usize = BUFFERS_MAX;
/// Buffers from this number on are large ones, behind the largest reserve.
const BULK_FIRST: usize = RESERVE_FIRST + RESERVE_MAX;
/// The most buffers of a reserve.
const RESERVE_MAX: usize = 4096;

/// How many buffers of what size.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// Bytes that the kernel may fill.
    bytes: usize,
    /// Distance between two buffers. An odd number of cache lines, so that the first lines of all buffers do not fall into
    /// the same cache set.
    stride: usize,
    /// Buffers that are added at a time: two to this power.
    chunk_shift: u32,
    /// The most buffers, a power of two: the entries of the ring.
    max: usize,
    /// The most buffers of the reserve.
    reserve_max: usize,
    /// Whether fresh memory is zeroed, because the kernel leaves gaps in what it writes.
    zeroed: bool,
    /// What the kernel calls the first buffer.
    first: usize,
}

impl Shape {
    /// For streams. Grows by 256; its reserve is 4096 × 4 KiB = 16 MiB at the most.
    pub(crate) const STREAM: Shape = Shape {
        bytes: BUFFER_BYTES,
        stride: BUFFER_BYTES + 64,
        chunk_shift: 8,
        max: BUFFERS_MAX,
        reserve_max: RESERVE_MAX,
        zeroed: false,
        first: 0,
    };
    /// For streams of which much is expected: 128 buffers of 64 KiB, 8 MiB at the most. No reserve: who finds none goes on
    /// with the small ones.
    pub(crate) const BULK: Shape = Shape {
        bytes: BULK_BYTES,
        stride: BULK_BYTES + 64,
        chunk_shift: 2,
        max: 128,
        reserve_max: 0,
        zeroed: false,
        first: BULK_FIRST,
    };
    /// For datagrams, which arrive whole or not at all: 256 buffers of 64 KiB and 64 in the reserve, 20 MiB of address
    /// space. Only pages that a datagram was written to are memory.
    pub(crate) const DATAGRAM: Shape = Shape {
        bytes: DATAGRAM_BYTES,
        stride: DATAGRAM_BYTES + 128,
        chunk_shift: 4,
        max: 256,
        reserve_max: 64,
        zeroed: true,
        first: 0,
    };

    /// Bytes that a buffer holds.
    pub(crate) const fn bytes(self) -> usize {
        self.bytes
    }

    const fn chunk(self) -> usize {
        1 << self.chunk_shift
    }

    const fn chunk_layout(self) -> Layout {
        match Layout::from_size_align(self.chunk() * self.stride, 4096) {
            Ok(layout) => layout,
            Err(_) => panic!("a chunk has a valid layout"),
        }
    }

    const fn ring_layout(self) -> Layout {
        match Layout::from_size_align(self.max * size_of::<BufRingEntry>(), 4096) {
            Ok(layout) => layout,
            Err(_) => panic!("the buffer ring has a valid layout"),
        }
    }
}

/// The longest UDP datagram (65 535 bytes less its headers), what the kernel writes before it, and what it takes to ask
/// for one: see `socket/datagram.rs`.
const DATAGRAM_BYTES: usize = 65_536 + 192;
/// Bytes in a large buffer of a stream.
pub(crate) const BULK_BYTES: usize = 64 * 1024;
/// No buffer: the end of a list.
pub(crate) const NONE: u16 = u16::MAX;

/// One core's receive buffers of one shape.
pub(crate) struct BufferPool {
    shape: Shape,
    /// The ring shared with the kernel, or none where the kernel has no such thing.
    /// INVARIANT: points to `shape.max` entries until the pool is dropped.
    ring: Option<NonNull<BufRingEntry>>,
    /// The tail that the kernel sees is this one, modulo 2^16.
    tail: Cell<u16>,
    /// Memory, one allocation a chunk.
    /// INVARIANT: chunks are only added; buffer `b` is at `chunks[b >> shape.chunk_shift]` until the pool is dropped.
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
    /// The large buffers, made when they are first asked for.
    bulk: OnceCell<Box<BufferPool>>,
}

/// What is remembered of a buffer that waits in a socket's list.
#[derive(Clone, Copy)]
struct Note {
    /// The bytes that were received and not consumed are `start..end`.
    start: u32,
    end: u32,
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

/// The place of a large buffer in its own pool.
fn bulk_index(buffer: u16) -> u16 {
    buffer - BULK_FIRST as u16
}

fn allocate_chunk(shape: Shape) -> NonNull<u8> {
    let layout = shape.chunk_layout();
    // SAFETY: the layout is not empty. Where the memory is not initialised, it is read only after the kernel wrote it, and
    // only as far as it wrote (`Lease`).
    let chunk = unsafe { if shape.zeroed { alloc_zeroed(layout) } else { alloc(layout) } };
    NonNull::new(chunk).unwrap_or_else(|| handle_alloc_error(layout))
}

impl BufferPool {
    /// A pool of at most `max` buffers, with or without a ring.
    pub(crate) fn new(shape: Shape, with_ring: bool, max: usize) -> Self {
        let ring = with_ring.then(|| {
            // SAFETY: the layout is not empty. Zeroed entries are valid: an entry is plain numbers.
            let memory = unsafe { alloc_zeroed(shape.ring_layout()) };
            NonNull::new(memory.cast()).unwrap_or_else(|| handle_alloc_error(shape.ring_layout()))
        });
        let pool = BufferPool {
            shape,
            ring,
            tail: Cell::new(0),
            chunks: UnsafeCell::default(),
            reserve: UnsafeCell::default(),
            notes: UnsafeCell::default(),
            free: UnsafeCell::default(),
            total: Cell::new(0),
            held: Cell::new(0),
            reserve_held: Cell::new(0),
            max: max.clamp(1, shape.max),
            bulk: OnceCell::new(),
        };
        pool.grow();
        pool
    }

    /// The address of the ring, for registration, and its number of entries.
    pub(crate) fn ring(&self) -> Option<(*const u8, u16)> {
        self.ring.map(|ring| (ring.as_ptr().cast_const().cast(), self.shape.max as u16))
    }

    /// Adds a chunk of buffers. False at the bound.
    pub(crate) fn grow(&self) -> bool {
        let total = self.total.get();
        let count = self.shape.chunk().min(self.max - total);
        if count == 0 {
            return false;
        }
        let chunk = allocate_chunk(self.shape);
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

    /// Bytes of one buffer.
    #[inline]
    pub(crate) fn bytes(&self) -> usize {
        self.shape.bytes
    }

    /// The first byte of a buffer.
    #[inline]
    pub(crate) fn address(&self, buffer: u16) -> NonNull<u8> {
        let number = usize::from(buffer);
        let (chunks, index) = match number.checked_sub(RESERVE_FIRST) {
            None => (&self.chunks, number),
            Some(_) if number >= BULK_FIRST => return self.bulk_of(buffer).address(bulk_index(buffer)),
            Some(index) => (&self.reserve, index),
        };
        // SAFETY: no reference into the vectors is kept across a call, so none is mutable now.
        let chunk = unsafe { &*chunks.get() }[index >> self.shape.chunk_shift];
        // SAFETY: the offset stays inside the chunk's allocation: the remainder is below the chunk's count.
        unsafe { chunk.add((index & (self.shape.chunk() - 1)) * self.shape.stride) }
    }

    /// Puts a buffer back into the ring (or the free list); the kernel may write to it from here on.
    #[inline]
    pub(crate) fn give_back(&self, buffer: u16) {
        let is_reserve = usize::from(buffer) >= RESERVE_FIRST;
        if is_reserve && usize::from(buffer) >= BULK_FIRST {
            return self.bulk_of(buffer).give_back(bulk_index(buffer));
        }
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
        // the published tail, and fewer than `shape.max` entries lie between its head and our tail, because no buffer
        // is in the ring twice. The fields are written one by one: the tail lives in a spare field of entry 0.
        unsafe {
            let entry = &mut *ring.as_ptr().add(usize::from(tail) & (self.shape.max - 1));
            entry.set_addr(address.as_ptr() as u64);
            entry.set_len(self.shape.bytes as u32);
            entry.set_bid(buffer + self.shape.first as u16);
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
        if usize::from(buffer) >= BULK_FIRST {
            return self.bulk_of(buffer).taken_by_kernel(bulk_index(buffer));
        }
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

    /// The pool of large buffers, which `make` makes for the first who asks.
    pub(crate) fn bulk(&self, make: impl FnOnce() -> BufferPool) -> &BufferPool {
        self.bulk.get_or_init(|| Box::new(make()))
    }

    /// Takes a large buffer that is not in a ring; there are some where the kernel has no rings only.
    pub(crate) fn take_bulk(&self) -> Option<u16> {
        let index = self.bulk.get()?.take()?;
        Some(index + BULK_FIRST as u16)
    }

    /// Adds large buffers. False at the bound.
    pub(crate) fn grow_bulk(&self) -> bool {
        self.bulk.get().is_some_and(|bulk| bulk.grow())
    }

    /// The pool that a large buffer is of.
    #[cold]
    fn bulk_of(&self, buffer: u16) -> &BufferPool {
        debug_assert!(usize::from(buffer) >= BULK_FIRST);
        self.bulk.get().expect("who has a large buffer has it from there")
    }

    /// Adds a chunk to the reserve, unless it is at its bound.
    #[cold]
    fn grow_reserve(&self) {
        // SAFETY: no reference into the vectors is kept across a call.
        let reserve = unsafe { &mut *self.reserve.get() };
        // SAFETY: as above.
        let (notes, free) = unsafe { (&mut *self.notes.get(), &mut *self.free.get()) };
        let count = self.shape.chunk();
        let first = RESERVE_FIRST + reserve.len() * count;
        if first < RESERVE_FIRST + self.shape.reserve_max {
            reserve.push(allocate_chunk(self.shape));
            notes.resize(notes.len().max(first + count), Note { start: 0, end: 0, next: NONE });
            free.extend((first..first + count).map(|buffer| buffer as u16));
        }
    }

    /// Whether [`take`](Self::take) would find one.
    pub(crate) fn has_reserve(&self) -> bool {
        self.reserve_held.get() < self.shape.reserve_max
    }

    /// Buffers that the kernel could fill now.
    #[inline]
    pub(crate) fn available(&self) -> usize {
        self.total.get() - self.held.get()
    }

    /// Buffers with sockets and leases.
    pub(crate) fn held(&self) -> usize {
        self.held.get() + self.reserve_held.get() + self.bulk.get().map_or(0, |bulk| bulk.held())
    }

    /// Whether less than a quarter of all the buffers that there can be is left.
    #[inline]
    pub(crate) fn is_scarce(&self) -> bool {
        self.max - self.held.get() < self.max / 4
    }

    /// Bytes that `buffer` has room for.
    pub(crate) fn bytes_of(&self, buffer: u16) -> usize {
        if usize::from(buffer) >= BULK_FIRST { BULK_BYTES } else { self.shape.bytes }
    }

    /// Remembers which bytes `buffer` holds while it waits in a list, and what follows it there.
    #[inline]
    pub(crate) fn note(&self, buffer: u16, start: u32, end: u32, next: u16) {
        debug_assert!(start <= end && end as usize <= self.bytes_of(buffer));
        self.note_of(buffer, |note| *note = Note { start, end, next });
    }

    /// Links `next` behind `buffer`.
    #[inline]
    pub(crate) fn link(&self, buffer: u16, next: u16) {
        self.note_of(buffer, |note| note.next = next);
    }

    /// The bytes in `buffer`, as `start..end`, and the buffer behind it.
    #[inline]
    pub(crate) fn noted(&self, buffer: u16) -> (u32, u32, u16) {
        self.note_of(buffer, |note| (note.start, note.end, note.next))
    }

    #[inline]
    fn note_of<R>(&self, buffer: u16, f: impl FnOnce(&mut Note) -> R) -> R {
        let (notes, index) = match usize::from(buffer) {
            number if number >= BULK_FIRST => (&self.bulk_of(buffer).notes, number - BULK_FIRST),
            number => (&self.notes, number),
        };
        // SAFETY: no reference into the vector is kept across a call, and `f`, a closure of this file, makes none.
        f(&mut unsafe { &mut *notes.get() }[index])
    }
}

impl Drop for BufferPool {
    fn drop(&mut self) {
        // The ring that was registered with the kernel is closed by now, or its shard leaked its share of this pool.
        for chunk in self.chunks.get_mut().iter().chain(self.reserve.get_mut().iter()) {
            // SAFETY: allocated by `allocate_chunk` with this layout, freed once.
            unsafe { dealloc(chunk.as_ptr(), self.shape.chunk_layout()) };
        }
        if let Some(ring) = self.ring {
            // SAFETY: allocated in `new` with this layout, freed once.
            unsafe { dealloc(ring.as_ptr().cast(), self.shape.ring_layout()) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_ring_the_pool_grows_to_its_bound_and_then_by_its_reserve() {
        let pool = BufferPool::new(Shape::STREAM, false, 300);
        let taken: Vec<_> = std::iter::from_fn(|| pool.take()).collect();
        assert_eq!(taken.len(), 300 + Shape::STREAM.reserve_max);
        assert_eq!(
            (pool.available(), pool.held(), pool.has_reserve()),
            (0, 300 + Shape::STREAM.reserve_max, false)
        );
        let mut addresses: Vec<_> =
            taken.iter().map(|buffer| pool.address(*buffer).as_ptr() as usize).collect();
        addresses.sort_unstable();
        assert!(addresses.windows(2).all(|pair| pair[1] - pair[0] >= BUFFER_BYTES));
        taken.into_iter().for_each(|buffer| pool.give_back(buffer));
        assert_eq!((pool.available(), pool.held(), pool.has_reserve()), (300, 0, true));
    }

    #[test]
    fn with_a_ring_only_the_reserve_is_handed_out() {
        let pool = BufferPool::new(Shape::STREAM, true, 100);
        assert_eq!(pool.available(), 100);
        let buffer = pool.take().unwrap();
        assert!(usize::from(buffer) >= RESERVE_FIRST);
        assert_eq!((pool.available(), pool.held()), (100, 1));
        pool.give_back(buffer);
        assert_eq!(pool.held(), 0);
    }

    #[test]
    fn buffers_do_not_overlap() {
        for (shape, count) in [(Shape::STREAM, 600), (Shape::DATAGRAM, 250)] {
            let pool = BufferPool::new(shape, false, count.into());
            while pool.grow() {}
            let mut addresses: Vec<_> =
                (0..count).map(|buffer| pool.address(buffer).as_ptr() as usize).collect();
            addresses.sort_unstable();
            assert!(addresses.windows(2).all(|pair| pair[1] - pair[0] >= shape.bytes));
        }
    }
}
