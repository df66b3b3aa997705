//! Load and latency instrument for annulet.
#![forbid(unsafe_code)]
