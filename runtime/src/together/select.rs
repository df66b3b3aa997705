//! Several futures, of which the first output is wanted.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use crate::future::{LocalBoxFuture, boxed_local};
use crate::task::share::Share;

/// Which of two futures was done first, with its output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Either<A, B> {
    /// The first of the two.
    Left(A),
    /// The second of the two.
    Right(B),
}

impl<T> Either<T, T> {
    /// The output, whichever it is.
    pub fn into_inner(self) -> T {
        match self {
            Either::Left(output) | Either::Right(output) => output,
        }
    }
}

/// Runs two futures at a time until one is done; the other is dropped, and its kernel operations are cancelled with it.
///
/// It is biased, not fair: the futures are polled in the order in which they are given, so if both are ready the first
/// one wins, always. Put what must not be missed (a cancellation, a time limit) first. In a loop a first future that is
/// always ready keeps the second from ever being asked.
///
/// To keep the future that was not done, pass a reference: `select(&mut a, b)`.
///
/// # Examples
///
/// ```
/// use annulet::Either;
/// use std::time::Duration;
///
/// annulet::run(async {
///     let tick = annulet::time::sleep(Duration::from_millis(1));
///     let first = annulet::select(std::future::pending::<u32>(), tick).await;
///     assert_eq!(first, Either::Right(()));
/// });
/// ```
///
/// # Cancel safety
///
/// The future that loses is dropped: what that loses, its own documentation says.
pub fn select<A: Future, B: Future>(a: A, b: B) -> Select<A, B> {
    Select { a, b }
}

pin_project! {
    /// See [`select`].
    #[must_use = "a select does nothing unless it is awaited"]
    #[derive(Debug)]
    pub struct Select<A, B> {
        #[pin]
        a: A,
        #[pin]
        b: B,
    }
}

impl<A: Future, B: Future> Future for Select<A, B> {
    type Output = Either<A::Output, B::Output>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let share = Share::before();
        if let Poll::Ready(output) = this.a.poll(cx) {
            return Poll::Ready(Either::Left(output));
        }
        share.leave_one();
        this.b.poll(cx).map(Either::Right)
    }
}

/// Runs a list of futures at a time until one is done, and gives its place in the list and its output; the others are
/// dropped.
///
/// It is biased as [`select`] is: of several that are ready the first of the list wins. Each wake-up polls every future
/// of the list, so it is meant for some dozens.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// annulet::run(async {
///     let sleeps = [50, 1, 100].map(|millis| annulet::time::sleep(Duration::from_millis(millis)));
///     assert_eq!(annulet::race(sleeps).await, (1, ()));
/// });
/// ```
///
/// # Panics
///
/// When awaited with an empty list: nothing could ever be first.
///
/// # Cancel safety
///
/// The futures that lose are dropped: what that loses, their own documentation says.
pub fn race<'a, I>(futures: I) -> Race<'a, <I::Item as Future>::Output>
where
    I: IntoIterator,
    I::Item: Future + 'a,
{
    Race { futures: futures.into_iter().map(boxed_local).collect() }
}

/// See [`race`].
#[must_use = "a race does nothing unless it is awaited"]
#[derive(Debug)]
pub struct Race<'a, T> {
    futures: Vec<LocalBoxFuture<'a, T>>,
}

impl<T> Future for Race<'_, T> {
    type Output = (usize, T);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        assert!(!self.futures.is_empty(), "a race of no futures has no first one; check the list before");
        let share = Share::before();
        for (index, future) in self.futures.iter_mut().enumerate() {
            share.leave_one();
            if let Poll::Ready(output) = Pin::new(future).poll(cx) {
                return Poll::Ready((index, output));
            }
        }
        Poll::Pending
    }
}
