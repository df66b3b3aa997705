//! The runtime from outside, on the real ring.

mod async_fd;
mod blocking;
mod cancel;
mod corners;
mod finally;
mod fs;
mod group;
mod net;
mod resolve;
mod shutdown;
mod signal;
mod support;
mod task;
mod task_dump;
mod task_end;
mod tcp_socket;
mod time;
mod together;
mod udp;
mod unix;
