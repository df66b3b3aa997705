//! The attribute macros of annulet.
