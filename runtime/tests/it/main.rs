//! The runtime from outside, on the real ring.

mod async_fd;
mod blocking;
mod cancel;
mod corners;
mod descriptors;
mod finally;
mod foreign_channels;
mod fs;
mod group;
mod io;
mod io_traits;
mod net;
mod process;
mod resolve;
mod shutdown;
mod signal;
mod support;
mod sync;
mod task;
mod task_dump;
mod task_end;
mod tcp_socket;
mod time;
mod together;
mod udp;
mod unix;
