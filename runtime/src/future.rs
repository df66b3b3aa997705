//! Small futures, and boxes for large ones.

#![allow(unsafe_code)]

use std::alloc::Layout;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::ptr::NonNull;
use std::task::{Context, Poll};

use crate::shard::{ShardKey, with_current};
use crate::task::memory;

/// Lets every other ready task run once before this one goes on.
///
/// # Examples
///
/// ```
/// annulet::run(async {
///     annulet::yield_now().await;
/// });
/// ```
pub async fn yield_now() {
    let mut yielded = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Lets the loop's turn end with the poll that calls this: what was written until now leaves before other tasks are polled, and
/// what has come meanwhile is taken.
///
/// Written bytes leave at the end of a turn, which is cheapest for tasks that are quick. A task that computes for a tenth of a
/// millisecond and more in a poll, as a TLS handshake does, keeps its own bytes and those of all others waiting for as many of its kind
/// as are ready: their peers idle, and come back all at once. The price is one entry into the kernel. Outside of a loop it does nothing.
///
/// # Examples
///
/// ```
/// use annulet::net::TcpStream;
///
/// async fn answer(stream: &TcpStream, question: &[u8]) -> std::io::Result<()> {
/// #   fn compute_for_long(question: &[u8]) -> Vec<u8> { question.to_vec() }
///     stream.write_all(&compute_for_long(question)).await?;
///     annulet::future::end_turn();
///     Ok(())
/// }
/// ```
pub fn end_turn() {
    with_current(|shard| {
        if let Some(shard) = shard {
            shard.executor.end_round();
        }
    });
}

/// Whether the running task may complete another operation in this poll.
///
/// A task that always finds something ready would keep the loop to itself, so each poll has its share of operations; who has had it is
/// told [`Pending`](std::task::Poll::Pending) by any further one, and polled again behind the others. Who has a share left and is told so
/// has to wait indeed. True outside of a loop.
///
/// # Examples
///
/// ```
/// assert!(annulet::run(async { annulet::future::has_share() }));
/// ```
#[inline]
pub fn has_share() -> bool {
    with_current(|shard| shard.is_none_or(|shard| shard.executor.has_share()))
}

/// A turn of a loop: equal to itself alone, in this process. See [`turn`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Turn {
    shard: ShardKey,
    number: u64,
}

/// Which turn of which loop this is; `None` outside of one. It costs next to nothing.
///
/// What the kernel has completed is taken between two turns, so that within one nothing arrives from a socket. What other threads share
/// may: channels of the [mesh](crate::mesh), results of the [blocking pool](crate::blocking).
///
/// # Examples
///
/// ```
/// annulet::run(async {
///     let now = annulet::future::turn();
///     assert_eq!(annulet::future::turn(), now);
///     annulet::future::end_turn();
///     annulet::yield_now().await;
///     assert_ne!(annulet::future::turn(), now);
/// });
/// assert_eq!(annulet::future::turn(), None);
/// ```
#[inline]
pub fn turn() -> Option<Turn> {
    with_current(|shard| shard.map(|shard| Turn { shard: shard.key, number: shard.turns() }))
}

/// A boxed future in recycled memory of this thread: what `futures`' type of the same name is, without an allocation
/// once its like has been seen. Made by [`boxed_local`].
pub struct LocalBoxFuture<'a, T> {
    /// INVARIANT: owned, pinned, allocated by `memory::allocate` with the layout of the value.
    future: NonNull<dyn Future<Output = T> + 'a>,
}

/// Moves `future` into recycled memory.
///
/// # Examples
///
/// ```
/// let future: annulet::future::LocalBoxFuture<'_, u32> = annulet::future::boxed_local(async { 7 });
/// assert_eq!(annulet::run(future), 7);
/// ```
#[inline]
pub fn boxed_local<'a, F: Future + 'a>(future: F) -> LocalBoxFuture<'a, F::Output> {
    let place = memory::allocate(Layout::new::<F>()).cast::<F>();
    // SAFETY: freshly allocated with this type's layout.
    unsafe { place.write(future) };
    LocalBoxFuture { future: place }
}

impl<T> Future for LocalBoxFuture<'_, T> {
    type Output = T;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        // SAFETY: the box owns the value alone, and never moves it until it drops it in place.
        unsafe { Pin::new_unchecked(self.future.as_mut()) }.poll(cx)
    }
}

impl<T> Drop for LocalBoxFuture<'_, T> {
    #[inline]
    fn drop(&mut self) {
        struct Free(NonNull<u8>, Layout);
        impl Drop for Free {
            fn drop(&mut self) {
                // SAFETY: the value is gone (or unwinding out of its drop), its memory was allocated with this layout.
                unsafe { memory::free(self.0, self.1) };
            }
        }
        // SAFETY: the box owns a valid value.
        let layout = Layout::for_value(unsafe { self.future.as_ref() });
        let _free = Free(self.future.cast(), layout);
        // SAFETY: dropped once, here, in place.
        unsafe { self.future.drop_in_place() };
    }
}

impl<T> fmt::Debug for LocalBoxFuture<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalBoxFuture").finish_non_exhaustive()
    }
}

// A box may move while its value stays where it is.
impl<T> Unpin for LocalBoxFuture<'_, T> {}
