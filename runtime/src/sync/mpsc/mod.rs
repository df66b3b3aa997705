//! A queue of values from many tasks to one.
//!
//! [`channel`] has a bound: who sends into a full one waits, in the order of arrival. [`unbounded_channel`] has none: use
//! it where something else bounds what is sent, or memory is the bound.
//!
//! # Examples
//!
//! ```
//! use annulet::sync::mpsc;
//!
//! annulet::run(async {
//!     let (sender, mut receiver) = mpsc::channel(2);
//!     annulet::spawn(async move {
//!         for number in 0..5 {
//!             sender.send(number).await.unwrap(); // waits while two are in the queue
//!         }
//!     });
//!     let mut sum = 0;
//!     while let Some(number) = receiver.recv().await {
//!         sum += number;
//!     }
//!     assert_eq!(sum, 10);
//! });
//! ```

mod bounded;
mod error;
mod queue;
mod unbounded;

pub use bounded::{OwnedPermit, Permit, Receiver, Sender, WeakSender, channel};
pub use error::{SendError, TryRecvError, TrySendError};
pub use unbounded::{UnboundedReceiver, UnboundedSender, unbounded_channel};
