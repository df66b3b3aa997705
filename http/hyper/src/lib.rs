//! hyper on annulet's loops: its runtime traits for our streams, clock and tasks, and a server for tower services, an axum
//! `Router` among them, unchanged.
//!
//! [`serve`] and [`Server`] are for most programs. [`Io`], [`LoopTimer`] and [`LocalExecutor`] are what hyper asks of a runtime, for
//! those that call hyper themselves. With the feature `handlers`, `handler` puts a tower service into a router of
//! `annulet-http`, which is the faster server for HTTP/1.1. The other way, `annulet_http::Router::into_service` (its feature `tower`)
//! makes a tower service of such a router, which then speaks HTTP/2 too.
//!
//! It does HTTP/1 and HTTP/2 (by ALPN, or known beforehand: "h2c"), upgrades, and draining. A timer is always there, so hyper's limits
//! hold: 30 s for a head, for example. It does not have the other limits of `annulet-http`.
//!
//! Services stay on their core and need not be `Send`, nor do their futures and bodies. (axum asks for `Send` itself.)
//!
//! # What still needs tokio
//!
//! A handler written for axum on tokio runs unchanged unless it, or a library that it uses, calls tokio's own runtime. These do:
//!
//! - `axum::serve` and `tokio::net`: use [`serve`] and `annulet::net`;
//! - `tokio::time` (and with it `tower::timeout`, `tower_http::timeout`): use `annulet::time`;
//! - `tokio::fs` and `tokio::process` (and with them `tower_http::services::ServeDir`): use `annulet::fs`, `annulet::process`, or
//!   `annulet_http::ServeDir` beside the service;
//! - `tokio::spawn`, `tokio::task::spawn_blocking` (and with them axum's `ws` and `Sse::keep_alive`, `tower::buffer`): use
//!   `annulet::spawn` and `annulet::spawn_blocking`;
//! - database drivers and clients that bring their own connections over `tokio::net`.
//!
//! They panic with "there is no reactor running". `tokio::sync`, `tokio::select!` and `tokio::join!` need no runtime and work here.
//! What has to stay on tokio can be given a runtime of its own on another thread, and be spoken to over `tokio::sync`.
#![forbid(unsafe_code)]

mod executor;
#[cfg(feature = "handlers")]
mod handler;
mod io;
mod known;
#[cfg(feature = "tls")]
mod plain;
mod protocol;
mod server;
mod timer;
mod tower;

pub use executor::LocalExecutor;
#[cfg(feature = "handlers")]
pub use handler::{RequestBody, handler};
pub use io::{Io, Transport};
pub use server::{Listener, Server, serve};
pub use timer::LoopTimer;
pub use tower::TowerService;
