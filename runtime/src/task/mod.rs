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
//! `cell` is the memory of one task, `id` names it, `waits` notes what it waits for, `waker` packs shard, slot and generation into the waker's data word, `memory`
//! recycles blocks by size class, `join` is the user's handle.

pub(crate) mod cell;
mod error;
mod id;
mod join;
pub(crate) mod memory;
pub(crate) mod waits;
pub(crate) mod waker;

pub use error::JoinError;
pub use id::Id;
pub(crate) use id::TaskId;
pub use join::JoinHandle;
pub use waits::WaitsFor;
