//! Tasks: futures that run by themselves on their loop, and what can be asked of them.
//!
//! [`spawn`](crate::spawn) starts one, [`Builder`] one with a name. A task is polled when its loop has its next turn, not
//! before. It ends with its future, with a panic of it, or when it is cancelled: then its future is dropped where it
//! waits, and the kernel operations that it waited for are cancelled. [`dump`] tells what every task is doing.
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
//! `cell` is the memory of one task, `id` names it, `waits` notes what it waits for,
//! `status` keeps that with the executor's marks, `waker` packs shard, slot and generation into the waker's data word, `memory`
//! recycles blocks by size class, `join` is the user's handle, `finally` closes asynchronously, `live` and `dump` tell of all,
//! `share` is fair among futures that one task polls together.

mod builder;
pub(crate) mod cell;
mod dump;
mod dump_all;
mod error;
mod finally;
mod id;
mod join;
mod live;
pub(crate) mod memory;
pub(crate) mod share;
pub(crate) mod status;
pub(crate) mod waits;
pub(crate) mod waker;

pub use builder::Builder;
pub use dump::{Dump, State, TaskDump, dump, print_all};
pub(crate) use dump_all::give as give_dump;
pub use dump_all::{Dumps, dump_all};
pub use error::JoinError;
pub use finally::{Finally, finally, using};
pub use id::Id;
pub(crate) use id::{GENERATION_MASK, SLOT_MAX, TaskId};
pub use join::JoinHandle;
pub use live::{Task, all, current, try_current};
pub use waits::WaitsFor;
