//! Bytes in, bytes out, over real sockets on one loop.
mod access_log;
mod answers;
mod bodies;
mod client;
mod endings;
mod extract;
mod files;
mod limits;
mod requests;
mod streaming;
