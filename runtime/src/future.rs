//! Small futures, and boxes for large ones.

#![allow(unsafe_code)]

use std::alloc::Layout;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::ptr::NonNull;
use std::task::{Context, Poll};

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
