//! The synchronisation primitives that modules with loom tests use: the standard library's, or under
//! `--cfg loom` loom's models of them, which run a test under every interleaving.

#[cfg(loom)]
pub(crate) use loom::sync::{
    Mutex,
    atomic::{AtomicU8, Ordering},
};
#[cfg(not(loom))]
pub(crate) use std::sync::{
    Mutex,
    atomic::{AtomicU8, Ordering},
};
