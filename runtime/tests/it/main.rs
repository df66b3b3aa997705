//! The runtime from outside, on the real ring.

mod blocking;
mod corners;
mod net;
mod shutdown;
mod support;
mod task;
mod time;
