//! Tasks: futures in cells of recycled memory, their wakers, and the handles that join them.
//!
//! ```text
//!             spawn            poll: Pending
//!   (none) ----------> Live <-------------------.
//!                       |  |____________________|
//!                       |  poll: Ready, panic, abort
//!                       v
//!                     Finished -- the handle takes the result or is dropped --> (free)
//! ```
//!
//! `cell` is the memory of one task, `waker` packs shard, slot and generation into the waker's data word, `memory`
//! recycles blocks by size class, `join` is the user's handle.

pub(crate) mod cell;
mod error;
mod join;
pub(crate) mod memory;
pub(crate) mod waker;

pub use error::JoinError;
pub use join::JoinHandle;

/// Which task of its shard: slot and generation. A stale id finds nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct TaskId {
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}
