//! Wakers without memory: shard, slot and generation in the data word. Cloning is a copy, dropping is nothing.
//!
//! A waker outlives its task and its runtime without harm: a stale slot or shard is told by its generation, and at worst
//! a task is polled once more than needed.

#![allow(unsafe_code)]

use std::task::{RawWaker, RawWakerVTable, Waker};

use super::TaskId;
use crate::shard::{self, ShardId};

static VTABLE: RawWakerVTable = RawWakerVTable::new(|data| RawWaker::new(data, &VTABLE), wake, wake, |_| {});

/// The waker of a task.
#[inline]
pub(crate) fn waker(shard: ShardId, task: TaskId) -> Waker {
    debug_assert!(task.word() >> TaskId::BITS == 0);
    let word = u64::from(shard.0) << TaskId::BITS | task.word();
    let data = std::ptr::without_provenance::<()>(word as usize);
    // SAFETY: the vtable's functions take the word as a number and never as an address; they may be called on any
    // thread, in any order, after anything was dropped.
    unsafe { Waker::from_raw(RawWaker::new(data, &VTABLE)) }
}

#[inline]
fn parts(data: *const ()) -> (ShardId, TaskId) {
    let word = data.addr() as u64;
    (ShardId((word >> TaskId::BITS) as u16), TaskId::from_word(word))
}

/// Whether a waker is one of these, and not of another crate.
#[inline]
fn is_ours(waker: &Waker) -> bool {
    std::ptr::eq(waker.vtable(), &VTABLE)
}

/// The task of `shard` that a waker wakes, if it is one: waking it is then a matter of this thread.
#[inline]
pub(crate) fn task_of(waker: &Waker, shard: ShardId) -> Option<TaskId> {
    let (its_shard, task) = parts(waker.data());
    (is_ours(waker) && its_shard == shard).then_some(task)
}

/// `waker.clone()`, without the call through its table where it is one of these.
#[inline]
pub(crate) fn clone(waker: &Waker) -> Waker {
    if !is_ours(waker) {
        return waker.clone();
    }
    // SAFETY: as in `waker`: the data is a number, and copying it is what `clone` of the table does.
    unsafe { Waker::from_raw(RawWaker::new(waker.data(), &VTABLE)) }
}

#[inline]
fn wake(data: *const ()) {
    let (shard, task) = parts(data);
    shard::wake(shard, task);
}

#[cfg(not(target_pointer_width = "64"))]
compile_error!("annulet needs a 64-bit target: a waker packs shard, slot and generation into one word");
