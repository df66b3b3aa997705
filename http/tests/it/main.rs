//! Bytes in, bytes out, over real sockets on one loop.
mod access_log;
mod admin;
mod answers;
#[cfg(feature = "tls")]
#[path = "../common/authority.rs"]
mod authority;
mod bodies;
mod client;
mod endings;
mod expect;
mod extract;
mod files;
mod hints;
mod kept;
mod limits;
mod proxy;
mod requests;
#[cfg(feature = "tracing")]
mod spans;
mod streaming;
#[cfg(feature = "tls")]
mod tls;
mod zero_copy;
