//! The load and latency instrument of annulet.
//!
//! What is here so far is the floor server in `bench/targets/floor`, a package of its own, and the scripts that measure
//! against it (`scripts/floor`, `scripts/syscalls`). The load generator is not written yet; until then wrk is the load.
#![forbid(unsafe_code)]
