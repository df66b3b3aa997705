//! The binary from outside, as a process.
mod compare;
mod errors;
mod find;
mod flags;
mod load;
mod support;
mod tls;
