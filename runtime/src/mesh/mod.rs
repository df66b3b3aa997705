//! Between the cores of one program: calls, bounded channels, and state that every core has a piece of.
//!
//! Loops that [`Builder::start`](crate::Builder::start) started together are a mesh. Between each two of them lies a bounded
//! queue, made when it is first used; what crosses is moved, never shared. A loop that is awake looks at its queues once a
//! turn; one that sleeps is rung. So while the receiver is awake a message costs no system call, no lock and no atomic
//! read-modify-write, and what a task sends in one turn costs one ring at most.
//!
//! - [`submit_to`] runs a closure, and the future that it makes, on another core and brings the result back;
//!   [`broadcast`] does so on all of them.
//! - [`channel`] is for many values in one direction.
//! - [`Sharded`] is a value per core that need not be `Send`.
//!
//! Cores are named by their place among those that were started, from zero ([`here`], [`cores`]).
//!
//! What it does not do: reach other processes (descriptors and bytes can be sent there, closures cannot), and serve threads
//! that run no loop: those take a channel of another crate, whose wakers go through the loop's inbox.
//!
//! # Examples
//!
//! ```
//! use annulet::mesh;
//!
//! let loops = annulet::Builder::new()
//! #   .cores([annulet::placement::available_cores().unwrap()[0]])
//!     .start(|core| async move {
//!         if core.index() == 0 {
//!             for other in 0..mesh::cores() {
//!                 // The closure travels; the future is made and polled there.
//!                 let place = mesh::submit_to(other, move || async { mesh::here() }).await;
//!                 assert_eq!(place.unwrap(), other);
//!             }
//!         }
//!     })
//!     .unwrap();
//! loops.join().unwrap();
//! ```
//!
//! `ring` is the queue, `lobby` what is shared between the loops, `port` one loop's side of it, `call` what travels for
//! [`submit_to`].

mod call;
mod channel;
mod lobby;
mod outgoing;
mod port;
mod ring;
mod sharded;

#[cfg(all(test, annulet_loom))]
mod loom_tests;

pub use call::{Call, broadcast, submit_to};
pub use channel::{Receiver, Sender, channel};
pub(crate) use lobby::{Lobby, Membership};
pub(crate) use port::Port;
pub use sharded::Sharded;

use crate::shard::current;
use std::rc::Rc;

/// The place of this core in its mesh, from zero.
///
/// # Panics
///
/// On a loop that is not part of a mesh.
#[track_caller]
pub fn here() -> usize {
    port().index()
}

/// The number of cores in this mesh.
///
/// # Panics
///
/// On a loop that is not part of a mesh.
#[track_caller]
pub fn cores() -> usize {
    port().cores()
}

/// The port of this thread's loop.
#[track_caller]
fn port() -> Rc<Port> {
    match current().port() {
        Some(port) => Rc::clone(port),
        None => panic!(
            "this loop has no other cores beside it: annulet::run and Builder::run_local make a loop that is alone; start \
             several together with Builder::start"
        ),
    }
}
