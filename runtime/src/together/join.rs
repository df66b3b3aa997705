//! Two or three futures, all of whose outputs are wanted.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use crate::task::share::Share;

/// Runs two futures at a time and gives both outputs. They may be of different types, and may borrow.
///
/// # Examples
///
/// ```
/// annulet::run(async {
///     let (number, word) = annulet::join(async { 7 }, async { "seven" }).await;
///     assert_eq!((number, word), (7, "seven"));
/// });
/// ```
///
/// # Cancel safety
///
/// Dropping it drops both futures, and the output of one that was done.
pub fn join<A: Future, B: Future>(a: A, b: B) -> Join<A, B> {
    Join { a, b, a_output: None, b_output: None }
}

/// Runs three futures at a time and gives all outputs; see [`join`].
///
/// # Examples
///
/// ```
/// annulet::run(async {
///     assert_eq!(annulet::join3(async { 1 }, async { 2 }, async { 3 }).await, (1, 2, 3));
/// });
/// ```
pub fn join3<A: Future, B: Future, C: Future>(a: A, b: B, c: C) -> Join3<A, B, C> {
    Join3 { ab: join(a, b), c, ab_output: None, c_output: None }
}

pin_project! {
    /// See [`join`].
    #[must_use = "a join does nothing unless it is awaited"]
    #[derive(Debug)]
    pub struct Join<A: Future, B: Future> {
        #[pin]
        a: A,
        #[pin]
        b: B,
        a_output: Option<A::Output>,
        b_output: Option<B::Output>,
    }
}

pin_project! {
    /// See [`join3`].
    #[must_use = "a join does nothing unless it is awaited"]
    #[derive(Debug)]
    pub struct Join3<A: Future, B: Future, C: Future> {
        #[pin]
        ab: Join<A, B>,
        #[pin]
        c: C,
        ab_output: Option<(A::Output, B::Output)>,
        c_output: Option<C::Output>,
    }
}

/// Polls a future that has not given its output yet; true when it has.
fn poll_once<F: Future>(future: Pin<&mut F>, output: &mut Option<F::Output>, cx: &mut Context<'_>) -> bool {
    if output.is_none()
        && let Poll::Ready(value) = future.poll(cx)
    {
        *output = Some(value);
    }
    output.is_some()
}

impl<A: Future, B: Future> Future for Join<A, B> {
    type Output = (A::Output, B::Output);

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let share = Share::before();
        let a_is_done = poll_once(this.a, this.a_output, cx);
        share.leave_one();
        let b_is_done = poll_once(this.b, this.b_output, cx);
        if a_is_done && b_is_done {
            Poll::Ready(this.a_output.take().zip(this.b_output.take()).expect("both are done"))
        } else {
            Poll::Pending
        }
    }
}

impl<A: Future, B: Future, C: Future> Future for Join3<A, B, C> {
    type Output = (A::Output, B::Output, C::Output);

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let share = Share::before();
        let ab_is_done = poll_once(this.ab, this.ab_output, cx);
        share.leave_one();
        let c_is_done = poll_once(this.c, this.c_output, cx);
        if ab_is_done && c_is_done {
            let ((a, b), c) = this.ab_output.take().zip(this.c_output.take()).expect("all are done");
            Poll::Ready((a, b, c))
        } else {
            Poll::Pending
        }
    }
}
