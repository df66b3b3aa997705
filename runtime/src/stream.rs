//! Values that come one after the other: [`Stream`], the trait that other crates know too, and `next` for all of them.
//!
//! What it does not do: map, filter, merge. Bring `futures-util` or `tokio-stream` for that.
//!
//! # Examples
//!
//! A stream of one's own, for what Python writes `__aiter__` and `__anext__`:
//!
//! ```
//! use std::pin::Pin;
//! use std::task::{Context, Poll};
//! use annulet::stream::{Stream, StreamExt};
//!
//! struct Countdown(u32);
//!
//! impl Stream for Countdown {
//!     type Item = u32;
//!
//!     fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<u32>> {
//!         self.0 = self.0.saturating_sub(1);
//!         Poll::Ready((self.0 > 0).then_some(self.0))
//!     }
//! }
//!
//! annulet::run(async {
//!     let mut countdown = Countdown(4);
//!     let mut sum = 0;
//!     while let Some(number) = countdown.next().await {
//!         sum += number;
//!     }
//!     assert_eq!(sum, 3 + 2 + 1);
//! });
//! ```

use std::pin::Pin;
use std::task::{Context, Poll};

pub use futures_core::Stream;

/// `next` for every [`Stream`]. The streams of this crate have it as a method of their own; do not import this trait
/// beside the one of the same name of `futures-util` or `tokio-stream`, which have it too.
pub trait StreamExt: Stream {
    /// Waits for the next value; `None` at the end. A stream that is not `Unpin` is pinned first, with `std::pin::pin!`.
    ///
    /// # Cancel safety
    ///
    /// A dropped wait loses no value.
    fn next(&mut self) -> Next<'_, Self>
    where
        Self: Unpin,
    {
        Next(self)
    }
}

impl<S: Stream + ?Sized> StreamExt for S {}

/// See [`StreamExt::next`].
#[must_use = "it does nothing unless it is awaited"]
#[derive(Debug)]
pub struct Next<'a, S: ?Sized>(&'a mut S);

impl<S: Stream + Unpin + ?Sized> Future for Next<'_, S> {
    type Output = Option<S::Item>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut *self.0).poll_next(cx)
    }
}
