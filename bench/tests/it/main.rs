//! The binary from outside, as a process.
mod errors;
mod load;
mod support;
