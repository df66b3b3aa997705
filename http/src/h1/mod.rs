//! HTTP/1.1 as a protocol: bytes in, facts and bytes out. No I/O, no clock, no allocation of its own.
//!
//! Start at [`head::Parser`] for the way in and at [`encode::response`] for the way out, as a server, or at
//! [`response::Parser`] for what a client reads; [`connection::Exchange`] keeps
//! the order of events between the two. Whether a message's framing may be believed is decided in one place only,
//! [`framing::decide`].
mod beginning;
pub mod chunked;
pub mod connection;
pub mod encode;
mod error;
pub mod framing;
mod gathered;
pub mod head;
mod limits;
mod lines;
pub mod outgoing;
mod plain;
pub mod response;
mod span;
mod syntax;
mod target;
mod version;

pub(crate) use beginning::{is_empty_lines, is_head_request};
pub use error::Refusal;
pub use limits::Limits;
pub(crate) use syntax::same;
