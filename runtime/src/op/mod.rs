//! Operations in flight and the memory that the kernel may touch meanwhile.
//!
//! `request` has one function for each one-shot operation and gives an `operation`, its future; `table` holds those that
//! are under way with their `payload`s; `lifecycle` is the pure state machine of one of them.
//!
//! `pool` the core's receive buffers, `lease` the user's hold on one of those. Streams of completions (accept, receive)
//! live with their sockets in [`socket`](crate::socket).
//!
//! Architecture invariant: memory that the kernel may touch is owned by these tables and never by a future. Dropping a
//! future cancels its operation; its memory stays until the last completion.

mod aligned;
mod lease;
mod lifecycle;
mod operation;
mod payload;
mod pool;
pub(crate) mod request;
mod table;

pub use aligned::AlignedBuf;
pub use lease::Lease;
pub(crate) use operation::{Operation, close_shared, ended};
pub(crate) use payload::{Descriptor, Memory};
pub(crate) use pool::{BUFFERS_MAX, BufferPool, NONE as NO_BUFFER, Shape};
pub(crate) use table::Ops;
