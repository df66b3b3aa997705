//! The synchronisation primitives that modules with loom tests use: the standard library's, or under
//! `--cfg annulet_loom` loom's models of them, which run a test under every interleaving.

#[cfg(annulet_loom)]
pub(crate) use loom::sync::{
    Mutex,
    atomic::{AtomicU8, Ordering},
};
#[cfg(not(annulet_loom))]
pub(crate) use std::sync::{
    Mutex,
    atomic::{AtomicU8, Ordering},
};
