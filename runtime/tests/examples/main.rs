//! The examples of this package, each started as a process, its output compared.
//!
//! `harness` starts them; the other modules have a line or two for each example, by topic. Cargo builds the examples for
//! `cargo test`; after `cargo test --test examples` alone they may be missing or old, and the harness says so: `cargo build
//! --examples` first.

mod files;
mod guide;
mod harness;
mod net;
mod outside;
mod sync;
mod tasks;
