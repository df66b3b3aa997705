//! The index and hello server.
fn main() {}
