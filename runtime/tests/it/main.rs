//! The runtime from outside, on the real ring.

mod corners;
mod net;
mod shutdown;
mod support;
mod task;
mod time;
