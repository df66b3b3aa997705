//! hyper, tower and axum on annulet's loops, over real sockets.
mod bridge;
mod handlers;
mod http1;
mod http2;
mod ours;
mod support;
mod util;
