//! Wakers without memory: shard, slot and generation in the data word. Cloning is a copy, dropping is nothing.
//!
//! A waker outlives its task and its runtime without harm: a stale slot or shard is told by its generation, and at worst
//! a task is polled once more than needed.

#![allow(unsafe_code)]

use std::task::{RawWaker, RawWakerVTable, Waker};

use super::TaskId;
use crate::shard::{self, ShardId};

/// Tasks per shard: 16 million.
pub(crate) const SLOT_BITS: u32 = 24;
/// Generations of a task slot count modulo this mask.
pub(crate) const TASK_GENERATION_MASK: u32 = (1 << 24) - 1;

static VTABLE: RawWakerVTable = RawWakerVTable::new(|data| RawWaker::new(data, &VTABLE), wake, wake, |_| {});

/// The waker of a task.
#[inline]
pub(crate) fn waker(shard: ShardId, task: TaskId) -> Waker {
    debug_assert!(task.slot < 1 << SLOT_BITS && task.generation <= TASK_GENERATION_MASK);
    let word = u64::from(shard.0) << 48 | u64::from(task.generation) << 24 | u64::from(task.slot);
    let data = std::ptr::without_provenance::<()>(word as usize);
    // SAFETY: the vtable's functions take the word as a number and never as an address; they may be called on any
    // thread, in any order, after anything was dropped.
    unsafe { Waker::from_raw(RawWaker::new(data, &VTABLE)) }
}

#[inline]
fn wake(data: *const ()) {
    let word = data as usize as u64;
    let task = TaskId {
        slot: word as u32 & ((1 << SLOT_BITS) - 1),
        generation: (word >> 24) as u32 & TASK_GENERATION_MASK,
    };
    shard::wake(ShardId((word >> 48) as u16), task);
}

#[cfg(not(target_pointer_width = "64"))]
compile_error!("annulet needs a 64-bit target: a waker packs shard, slot and generation into one word");
