//! Recycled memory by size class, for task cells and handler futures: a request or a connection allocates nothing once
//! its like has been seen.
//!
//! Blocks up to [`CLASS_MAX`] bytes come from a free list of the thread, by classes, and go back to it up to a bound;
//! everything else is the allocator's. Small classes are 16 bytes apart, which is what malloc rounds to: of many waiting
//! tasks each costs its cell and malloc's eight bytes. Larger ones are 64 bytes apart, so that more futures share them.

#![allow(unsafe_code)]

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::cell::Cell;
use std::ptr::NonNull;

/// Eight bytes beyond multiples of 16 fill a chunk of malloc's, which are multiples of 16 with eight bytes of its own.
const CLASS_OFFSET: usize = 8;
/// Between two small classes.
const SMALL_STEP: usize = 16;
/// Small classes: the last has 264 bytes.
const SMALL_CLASSES: usize = 16;
const SMALL_MAX: usize = SMALL_CLASSES * SMALL_STEP + CLASS_OFFSET;
/// Between two of the others.
const STEP: usize = 64;
/// What malloc gives without padding; a type that asks for more is not recycled.
const CLASS_ALIGN: usize = 16;
/// Blocks above this are not recycled.
const CLASS_MAX: usize = SMALL_MAX + 60 * STEP;
/// Classes.
const CLASSES: usize = SMALL_CLASSES + (CLASS_MAX - SMALL_MAX) / STEP;
/// Bytes that one class keeps.
const KEPT_BYTES_MAX: usize = 1 << 20;

/// A free block holds the address of the next.
type Free = Option<NonNull<FreeBlock>>;

struct FreeBlock {
    next: Free,
}

/// One class's free blocks.
struct Class {
    first: Cell<Free>,
    count: Cell<usize>,
}

struct Classes([Class; CLASSES]);

thread_local! {
    static FREE: Classes =
        const { Classes([const { Class { first: Cell::new(None), count: Cell::new(0) } }; CLASSES]) };
}

#[inline]
fn class_of(layout: Layout) -> Option<usize> {
    let size = layout.size();
    let fits = (1..=CLASS_MAX).contains(&size) && layout.align() <= CLASS_ALIGN;
    fits.then(|| match size {
        ..=SMALL_MAX => size.saturating_sub(CLASS_OFFSET + 1) / SMALL_STEP,
        _ => SMALL_CLASSES + (size - SMALL_MAX - 1) / STEP,
    })
}

#[inline]
fn class_layout(class: usize) -> Layout {
    let size = match class {
        ..SMALL_CLASSES => (class + 1) * SMALL_STEP + CLASS_OFFSET,
        _ => SMALL_MAX + (class + 1 - SMALL_CLASSES) * STEP,
    };
    // SAFETY: a power of two as alignment, and a size of at most CLASS_MAX.
    unsafe { Layout::from_size_align_unchecked(size, CLASS_ALIGN) }
}

/// Memory for `layout`.
#[inline]
pub(crate) fn allocate(layout: Layout) -> NonNull<u8> {
    let recycled = class_of(layout).map(|class| {
        let block = FREE.try_with(|free| {
            let class = &free.0[class];
            let block = class.first.get()?;
            // SAFETY: a block in the list is free memory of at least one class, whose first word holds the next.
            class.first.set(unsafe { block.as_ref() }.next);
            class.count.set(class.count.get() - 1);
            Some(block.cast::<u8>())
        });
        (block.ok().flatten(), class_layout(class))
    });
    let layout = match recycled {
        Some((Some(block), _)) => return block,
        Some((None, layout)) => layout,
        None if layout.size() == 0 => return NonNull::without_provenance(layout_align(layout)),
        None => layout,
    };
    // SAFETY: the layout is not empty.
    NonNull::new(unsafe { alloc(layout) }).unwrap_or_else(|| handle_alloc_error(layout))
}

fn layout_align(layout: Layout) -> std::num::NonZeroUsize {
    std::num::NonZeroUsize::new(layout.align()).expect("an alignment is a power of two")
}

/// Gives memory back.
///
/// # Safety
///
/// `block` came from [`allocate`] with the same layout, on any thread, and is used by nobody any more.
#[inline]
pub(crate) unsafe fn free(block: NonNull<u8>, layout: Layout) {
    let Some(class) = class_of(layout) else {
        if layout.size() != 0 {
            // SAFETY: the caller's promise; blocks outside the classes were allocated with their own layout.
            unsafe { dealloc(block.as_ptr(), layout) };
        }
        return;
    };
    let kept = FREE.try_with(|free| {
        let list = &free.0[class];
        if list.count.get() * class_layout(class).size() >= KEPT_BYTES_MAX {
            return false;
        }
        let block = block.cast::<FreeBlock>();
        // SAFETY: the block is free, at least 24 bytes large and aligned to 16.
        unsafe { block.write(FreeBlock { next: list.first.get() }) };
        list.first.set(Some(block));
        list.count.set(list.count.get() + 1);
        true
    });
    if !kept.unwrap_or(false) {
        // SAFETY: blocks of a class were allocated with the class's layout.
        unsafe { dealloc(block.as_ptr(), class_layout(class)) };
    }
}

impl Drop for Classes {
    fn drop(&mut self) {
        for (class, list) in self.0.iter().enumerate() {
            while let Some(block) = list.first.get() {
                // SAFETY: as in `allocate` and `free`; the thread ends, nobody else has the list.
                unsafe {
                    list.first.set(block.as_ref().next);
                    dealloc(block.as_ptr().cast(), class_layout(class));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_freed_block_is_the_next_of_its_class() {
        let (small, large) = (Layout::new::<[u64; 42]>(), Layout::new::<[u64; 49]>());
        let first = allocate(small);
        // SAFETY: allocated above with this layout.
        unsafe { free(first, small) };
        let second = allocate(large);
        assert_eq!(first, second, "336 and 392 bytes are of one class");
        // SAFETY: as above.
        unsafe { free(second, large) };
    }

    #[test]
    fn every_size_fits_its_class_closely() {
        for size in 1..=CLASS_MAX {
            let class = class_of(Layout::from_size_align(size, 8).unwrap()).expect("of a class");
            let block = class_layout(class).size();
            let waste_max = if size <= SMALL_MAX { SMALL_STEP } else { STEP };
            assert!(class < CLASSES && block >= size, "{size} bytes in {block}");
            assert!(block - size < waste_max || size < SMALL_STEP + CLASS_OFFSET, "{size} bytes in {block}");
        }
        assert_eq!(class_of(Layout::from_size_align(CLASS_MAX, 8).unwrap()), Some(CLASSES - 1));
        assert_eq!(class_of(Layout::from_size_align(CLASS_MAX + 1, 8).unwrap()), None);
    }

    #[test]
    fn odd_layouts_are_the_allocators() {
        for layout in
            [Layout::new::<()>(), Layout::new::<[u8; 100_000]>(), Layout::from_size_align(64, 128).unwrap()]
        {
            let block = allocate(layout);
            assert_eq!(block.as_ptr() as usize % layout.align(), 0);
            // SAFETY: allocated above with this layout.
            unsafe { free(block, layout) };
        }
    }
}
