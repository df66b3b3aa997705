//! Coroutines without a loop: functions that stop half-way, give a value out, and go on with one that comes in.
//!
//! A [`Generator`] is written as async code, so it is an ordinary state machine of the compiler's, without a stack of its
//! own. It runs only while it is resumed, on the thread that resumes it, and needs no runtime. What it does not do: wait
//! for anything but its [`Yielder`]. A coroutine that stops from within plain function calls needs a stack of its own;
//! `examples/greenlet.rs` shows one with the crate corosensei.

use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// What a generator came to when it was resumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State<Y, T> {
    /// It gave a value out and waits to be resumed.
    Yielded(Y),
    /// It is done.
    Complete(T),
}

/// A function that can stop half-way: each [`resume`](Self::resume) gives a value in (`R`) and gets one out (`Y`), until it
/// returns (`T`).
///
/// Nothing runs before the first `resume`, whose value is the second argument of the closure; each later one is what
/// [`yield_`](Yielder::yield_) returns. Dropping the generator where it stands drops what it holds: that is how it is closed.
///
/// # Examples
///
/// ```
/// use annulet::coroutine::{Generator, State};
///
/// // Python: `total = 0.0; while True: number = yield total; total += number`
/// let mut sum = Generator::new(async |co, mut number: u32| {
///     let mut total = 0;
///     while number != 0 {
///         total += number;
///         number = co.yield_(total).await;
///     }
///     "done"
/// });
/// assert_eq!(sum.resume(3), State::Yielded(3));
/// assert_eq!(sum.resume(4), State::Yielded(7));
/// assert_eq!(sum.resume(0), State::Complete("done"));
/// ```
///
/// One that takes nothing in is an iterator:
///
/// ```
/// use annulet::coroutine::Generator;
///
/// let countdown = Generator::new(async |co, ()| {
///     for number in (1..=3).rev() {
///         co.yield_(number).await;
///     }
/// });
/// assert_eq!(countdown.collect::<Vec<_>>(), [3, 2, 1]);
/// ```
pub struct Generator<'a, R, Y, T> {
    channel: Rc<Channel<R, Y>>,
    stage: Stage<'a, R, Y, T>,
}

type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// Makes the future, given the first value.
type Start<'a, R, Y, T> = Box<dyn FnOnce(Yielder<R, Y>, R) -> BoxFuture<'a, T> + 'a>;

/// ```text
///   New ── resume ──► Started ── resume: Complete, or a panic ──► Done
///                        └──── resume: Yielded ─┘ (Started)
/// ```
enum Stage<'a, R, Y, T> {
    New(Start<'a, R, Y, T>),
    Started(BoxFuture<'a, T>),
    Done,
}

/// The values on their way; each cell is empty but for the moment between the two sides.
struct Channel<R, Y> {
    yielded: Cell<Option<Y>>,
    resumed: Cell<Option<R>>,
}

impl<'a, R: 'a, Y: 'a, T: 'a> Generator<'a, R, Y, T> {
    /// Makes a generator from an async closure that takes its [`Yielder`] and the value of the first `resume`.
    pub fn new<F>(f: F) -> Self
    where
        F: AsyncFnOnce(Yielder<R, Y>, R) -> T + 'a,
    {
        let channel = Rc::new(Channel { yielded: Cell::new(None), resumed: Cell::new(None) });
        let start = move |co, first| -> BoxFuture<'a, T> { Box::pin(async move { f(co, first).await }) };
        Generator { channel, stage: Stage::New(Box::new(start)) }
    }
}

impl<R, Y, T> Generator<'_, R, Y, T> {
    /// Runs it up to its next `yield_` or its end.
    ///
    /// # Panics
    ///
    /// When it is done already, and when it awaits anything but its `yield_`. A panic inside passes through, and the
    /// generator is done then.
    pub fn resume(&mut self, value: R) -> State<Y, T> {
        let mut future = match std::mem::replace(&mut self.stage, Stage::Done) {
            Stage::New(start) => start(Yielder { channel: Rc::clone(&self.channel) }, value),
            Stage::Started(future) => {
                self.channel.resumed.set(Some(value));
                future
            }
            Stage::Done => panic!("a generator was resumed after it was done; ask is_done first"),
        };
        match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => State::Complete(value),
            Poll::Pending => {
                let Some(yielded) = self.channel.yielded.take() else {
                    panic!(
                        "a generator awaited something else than its yield_; it runs without a loop, so nothing could \
                         wake it: use a task and a channel for what waits"
                    )
                };
                self.stage = Stage::Started(future);
                State::Yielded(yielded)
            }
        }
    }

    /// Whether it has returned (or panicked), so that it cannot be resumed.
    pub fn is_done(&self) -> bool {
        matches!(self.stage, Stage::Done)
    }
}

impl<Y, T> Iterator for Generator<'_, (), Y, T> {
    type Item = Y;

    /// The next value; what the generator returns at its end is dropped.
    fn next(&mut self) -> Option<Y> {
        if self.is_done() {
            return None;
        }
        match self.resume(()) {
            State::Yielded(value) => Some(value),
            State::Complete(_) => None,
        }
    }
}

impl<R, Y, T> fmt::Debug for Generator<'_, R, Y, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stage = match self.stage {
            Stage::New(_) => "new",
            Stage::Started(_) => "started",
            Stage::Done => "done",
        };
        f.debug_struct("Generator").field("stage", &stage).finish()
    }
}

/// The inner side of a [`Generator`]: what it yields through.
pub struct Yielder<R, Y> {
    channel: Rc<Channel<R, Y>>,
}

impl<R, Y> Yielder<R, Y> {
    /// Gives a value out, and stops until the generator is resumed. Gives the value that comes in.
    ///
    /// # Panics
    ///
    /// When it is awaited together with another `yield_` of the same generator: only one value can leave at a time.
    pub async fn yield_(&self, value: Y) -> R {
        let full = self.channel.yielded.replace(Some(value));
        assert!(full.is_none(), "a generator yields one value at a time; await one yield_ after the other");
        let mut is_first = true;
        std::future::poll_fn(|_| {
            // Polled for the first time right after the value was left; from then on by `resume` only.
            if std::mem::take(&mut is_first) {
                return Poll::Pending;
            }
            self.channel.resumed.take().map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    /// Runs another generator to its end as a part of this one: its values go out from here, and what comes in goes to
    /// it. Gives what it returns. Python's `yield from`.
    ///
    /// # Examples
    ///
    /// ```
    /// use annulet::coroutine::Generator;
    ///
    /// let outer = Generator::new(async |co, ()| {
    ///     co.yield_(1).await;
    ///     let inner = Generator::new(async |co, ()| {
    ///         co.yield_(3).await;
    ///         co.yield_(4).await;
    ///     });
    ///     co.yield_from(inner, ()).await;
    ///     co.yield_(2).await;
    /// });
    /// assert_eq!(outer.collect::<Vec<_>>(), [1, 3, 4, 2]);
    /// ```
    ///
    /// # Panics
    ///
    /// As [`Generator::resume`].
    pub async fn yield_from<T>(&self, mut inner: Generator<'_, R, Y, T>, first: R) -> T {
        let mut value = first;
        loop {
            match inner.resume(value) {
                State::Yielded(yielded) => value = self.yield_(yielded).await,
                State::Complete(result) => return result,
            }
        }
    }
}

impl<R, Y> fmt::Debug for Yielder<R, Y> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Yielder").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::future::pending;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    /// The words of a panic.
    fn words<T>(f: impl FnOnce() -> T) -> String {
        let payload = catch_unwind(AssertUnwindSafe(f)).err().expect("it panics");
        match payload.downcast::<&str>() {
            Ok(words) => (*words).to_owned(),
            Err(payload) => *payload.downcast::<String>().unwrap(),
        }
    }

    #[test]
    fn values_cross_in_both_directions() {
        let trace = RefCell::new(Vec::new());
        let mut generator = Generator::new(async |co, first: u32| {
            trace.borrow_mut().push(first);
            let second = co.yield_("a").await;
            trace.borrow_mut().push(second);
            let third = co.yield_("b").await;
            trace.borrow_mut().push(third);
            'c'
        });
        assert_eq!(*trace.borrow(), [0; 0], "nothing runs before it is resumed");
        assert_eq!(generator.resume(1), State::Yielded("a"));
        assert_eq!(generator.resume(2), State::Yielded("b"));
        assert!(!generator.is_done());
        assert_eq!(generator.resume(3), State::Complete('c'));
        assert!(generator.is_done());
        drop(generator);
        assert_eq!(trace.into_inner(), [1, 2, 3]);
    }

    #[test]
    fn delegation_carries_values_in_and_the_result_out() {
        let mut outer = Generator::new(async |co, first: u32| {
            let inner = Generator::new(async |co, first: u32| {
                let second: u32 = co.yield_(first * 10).await;
                co.yield_(second * 10).await
            });
            let third = co.yield_from(inner, first).await;
            co.yield_(third).await
        });
        let states: Vec<_> = (1..=4).map(|value| outer.resume(value)).collect();
        assert_eq!(states, [State::Yielded(10), State::Yielded(20), State::Yielded(3), State::Complete(4)]);
    }

    #[test]
    fn a_dropped_generator_drops_what_it_holds_wherever_it_stands() {
        for resumes in 0..4 {
            let held = Rc::new(());
            let inside = Rc::clone(&held);
            let mut generator = Generator::new(async move |co, ()| {
                let _inside = inside;
                co.yield_(Rc::clone(&_inside)).await;
                co.yield_(Rc::clone(&_inside)).await;
            });
            for _ in 0..resumes {
                generator.resume(());
            }
            drop(generator);
            assert_eq!(Rc::strong_count(&held), 1, "after {resumes}");
        }
    }

    #[test]
    fn an_iterator_ends_and_stays_at_its_end() {
        let mut once = Generator::new(async |co, ()| co.yield_(1).await);
        assert_eq!([once.next(), once.next(), once.next()], [Some(1), None, None]);
    }

    #[test]
    fn a_panic_passes_through_and_ends_it() {
        let mut generator: Generator<'_, (), (), ()> = Generator::new(async |_, ()| panic!("on purpose"));
        assert_eq!(words(|| generator.resume(())), "on purpose");
        assert!(generator.is_done());
    }

    #[test]
    fn wrong_use_is_refused_with_words() {
        let mut done: Generator<'_, (), (), ()> = Generator::new(async |_, ()| ());
        done.resume(());
        assert!(words(|| done.resume(())).contains("after it was done"));

        let mut waits: Generator<'_, (), (), ()> = Generator::new(async |_, ()| pending().await);
        assert!(words(|| waits.resume(())).contains("awaited something else than its yield_"));

        let mut two = Generator::new(async |co: Yielder<(), u32>, ()| {
            let (mut a, mut b) = (Box::pin(co.yield_(1)), Box::pin(co.yield_(2)));
            std::future::poll_fn(|cx| {
                let _ = (a.as_mut().poll(cx), b.as_mut().poll(cx));
                Poll::<()>::Pending
            })
            .await;
        });
        assert!(words(|| two.resume(())).contains("one value at a time"));
    }
}
