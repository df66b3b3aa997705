//! What a run leaves behind.
//!
//! [`schema`] is the versioned document that everything else reads and writes: tables, comparisons, merges and pages are made
//! from it, never from the running load.

pub(crate) mod histogram;
pub(crate) mod html;
pub(crate) mod schema;
