//! An allocator that poisons what is freed and looks at it later: memory that the kernel still writes to shows.
//!
//! AddressSanitizer does not see the kernel's writes. So freed blocks are filled with a pattern and kept in a quarantine;
//! when they leave it, the pattern must be intact. Bytes that the kernel still reads show as well: the pattern arrives at
//! the peer, which checks every byte.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What freed memory is filled with.
const POISON: u8 = 0xA5;
/// Freed blocks that are kept.
const QUARANTINE_BLOCKS: usize = 4096;
/// Blocks above this are poisoned but not kept: arbitrary, above every buffer of the runtime but its pools.
const KEPT_BYTES_MAX: usize = 256 * 1024;

pub(crate) struct Poisoning;

/// Freed blocks, oldest first.
struct Quarantine {
    blocks: [(usize, usize, usize); QUARANTINE_BLOCKS],
    next: usize,
}

/// A spin lock: a mutex of std may allocate.
static LOCKED: AtomicBool = AtomicBool::new(false);
static mut QUARANTINE: Quarantine = Quarantine { blocks: [(0, 0, 0); QUARANTINE_BLOCKS], next: 0 };
/// Blocks that were written to after they were freed.
static DAMAGED: AtomicU64 = AtomicU64::new(0);
/// Blocks that were looked at.
static CHECKED: AtomicU64 = AtomicU64::new(0);

fn with_quarantine<R>(f: impl FnOnce(&mut Quarantine) -> R) -> R {
    while LOCKED.swap(true, Ordering::Acquire) {
        std::hint::spin_loop();
    }
    // SAFETY: the lock is held, and `f` neither allocates nor panics.
    let result = f(unsafe { &mut *std::ptr::addr_of_mut!(QUARANTINE) });
    LOCKED.store(false, Ordering::Release);
    result
}

/// Looks at a block that leaves the quarantine, and frees it.
fn release((address, size, align): (usize, usize, usize)) {
    if size == 0 {
        return;
    }
    let block = address as *mut u8;
    // SAFETY: the quarantine owns the block, which has this size.
    let bytes = unsafe { std::slice::from_raw_parts(block, size) };
    CHECKED.fetch_add(1, Ordering::Relaxed);
    if bytes.iter().any(|byte| *byte != POISON) {
        DAMAGED.fetch_add(1, Ordering::Relaxed);
    }
    // SAFETY: allocated by `System` with this layout, freed once: it has left the quarantine.
    unsafe { System.dealloc(block, Layout::from_size_align_unchecked(size, align)) };
}

// SAFETY: every block comes from `System` and goes back to it once, later than it was freed.
unsafe impl GlobalAlloc for Poisoning {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller gives the block up; it has this size.
        unsafe { block.write_bytes(POISON, layout.size()) };
        if layout.size() > KEPT_BYTES_MAX {
            // SAFETY: the caller's promise.
            return unsafe { System.dealloc(block, layout) };
        }
        let oldest = with_quarantine(|quarantine| {
            let next = quarantine.next;
            quarantine.next = (next + 1) % QUARANTINE_BLOCKS;
            std::mem::replace(&mut quarantine.blocks[next], (block as usize, layout.size(), layout.align()))
        });
        release(oldest);
    }
}

/// Empties the quarantine. Gives the blocks looked at so far, and how many of them were written to after their end.
pub(crate) fn inspect() -> (u64, u64) {
    for index in 0..QUARANTINE_BLOCKS {
        let block = with_quarantine(|quarantine| std::mem::take(&mut quarantine.blocks[index]));
        release(block);
    }
    (CHECKED.load(Ordering::Relaxed), DAMAGED.load(Ordering::Relaxed))
}
