//! An async runtime for Linux: one pinned event loop and one io_uring per core.
//!
//! ```
//! annulet::run(async {
//!     let listener = annulet::net::TcpListener::bind("127.0.0.1:0").unwrap();
//!     let address = listener.local_addr().unwrap();
//!     let server = annulet::spawn(async move {
//!         let stream = listener.accept().await.unwrap();
//!         stream.write_all(b"hello").await.unwrap();
//!     });
//!     let client = annulet::net::TcpStream::connect(address).await.unwrap();
//!     let mut word = [0; 5];
//!     client.read_exact(&mut word).await.unwrap();
//!     assert_eq!(&word, b"hello");
//!     server.await.unwrap();
//! });
//! ```
//!
//! # The rules of the loop
//!
//! - Everything on a loop stays on its thread: futures and sockets need not be `Send`.
//! - Memory that the kernel may touch belongs to the loop's tables, never to a future. Every wait can be dropped.
//! - Nothing blocks: a handler that computes for long calls [`yield_now`] now and then.
//!
//! `docs/ARCHITECTURE.md` is the map of the source.

#![deny(unsafe_code)]

pub mod blocking;
pub mod cancel;
pub mod coroutine;
mod driver;
mod executor;
pub mod fs;
pub mod future;
pub mod io;
pub mod mesh;
pub mod metrics;
pub mod net;
mod op;
mod panics;
pub mod placement;
pub mod process;
mod readiness;
mod runtime;
mod shard;
pub mod signal;
mod socket;
mod stop;
pub mod stream;
mod supervisor;
pub mod sync;
mod sync_shim;
mod sys;
pub mod task;
pub mod time;
pub mod together;

#[cfg(feature = "macros")]
pub use annulet_macros::{main, test};
pub use blocking::spawn_blocking;
pub use driver::DriverKind;
pub use driver::{Capabilities, Feature};
pub use future::yield_now;
pub use metrics::{Metrics, metrics};
pub use op::Lease;
pub use readiness::{Readiness, ReadinessState};
pub use runtime::{Builder, Core, Loops, capabilities, run, spawn};
pub use shard::{Batch, LoopPolicy};
pub use stop::Stopped;
pub use supervisor::{Beside, Ended, Started, Workers};
pub use task::{JoinError, JoinHandle};
pub use together::gather as join_all;
pub use together::{Either, TaskGroup, When, gather, join, join3, race, select, wait};

/// What the macros expand to; no part of the interface.
#[doc(hidden)]
pub mod __private {
    /// Runs an async test on a loop of its own.
    pub fn run_test<F: Future>(future: F, start_paused: bool) -> F::Output {
        match crate::Builder::new().virtual_clock(start_paused).run_local(future) {
            Ok(output) => output,
            Err(error) => panic!("annulet: {error}"),
        }
    }
}
