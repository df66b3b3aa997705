//! The binary from outside, as a process.
mod compare;
mod errors;
mod load;
mod support;
mod tls;
