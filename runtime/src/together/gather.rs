//! A list of futures, all of whose outputs are wanted.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use crate::future::{LocalBoxFuture, boxed_local};
use crate::task::share::Share;

/// With more futures than this each gets a waker of its own, so that a wake-up polls only the one that it is for.
/// Arbitrary: polling this many is about as much as an allocation and a lock for each.
const SHARED_WAKER_MAX: usize = 32;

/// Runs a list of futures at a time and gives their outputs, in the order of the list.
///
/// Every future runs to its end, whatever the others give: an `Err` is an output like any other. Nothing is spawned: the
/// futures are polled by the task that awaits, first in the order of the list and then as they are woken, and may borrow
/// from it. (`join_all` is another name of this function.)
///
/// # Examples
///
/// ```
/// annulet::run(async {
///     let words = ["one", "three", "five"].map(str::to_owned);
///     let lengths = annulet::gather(words.iter().map(async |word| word.len())).await;
///     assert_eq!(lengths, [3, 5, 4]);
/// });
/// ```
///
/// # Cancel safety
///
/// Dropping it drops every future that is not done, and the outputs of the others.
///
/// # Panics
///
/// A panic of one of the futures is one of the task that awaits; the others are dropped.
pub fn gather<'a, I>(futures: I) -> Gather<'a, <I::Item as Future>::Output>
where
    I: IntoIterator,
    I::Item: Future + 'a,
{
    let children: Vec<_> = futures.into_iter().map(|future| Child::Live(boxed_local(future))).collect();
    let left = children.len();
    let wakers = if left > SHARED_WAKER_MAX { Some(Wakers::new(left)) } else { None };
    Gather { children, left, wakers }
}

/// See [`gather`].
#[must_use = "gathering does nothing unless it is awaited"]
pub struct Gather<'a, T> {
    children: Vec<Child<'a, T>>,
    /// Children that are not done.
    left: usize,
    /// None: every wake-up polls all children.
    wakers: Option<Wakers>,
}

enum Child<'a, T> {
    Live(LocalBoxFuture<'a, T>),
    Done(T),
}

// The futures are boxed, and the outputs are never pinned.
impl<T> Unpin for Gather<'_, T> {}

impl<T> Gather<'_, T> {
    fn poll_child(&mut self, index: usize, share: Share, cx: &mut Context<'_>) {
        share.leave_one();
        let child = &mut self.children[index];
        if let Child::Live(future) = child
            && let Poll::Ready(output) = Pin::new(future).poll(cx)
        {
            *child = Child::Done(output);
            self.left -= 1;
        }
    }
}

impl<T> Future for Gather<'_, T> {
    type Output = Vec<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let share = Share::before();
        match &self.wakers {
            None => (0..self.children.len()).for_each(|index| self.poll_child(index, share, cx)),
            Some(wakers) => {
                let woken = wakers.take(cx.waker());
                for index in woken {
                    let waker = self.wakers.as_ref().expect("they stay").of(index);
                    self.poll_child(index, share, &mut Context::from_waker(&waker));
                }
            }
        }
        if self.left > 0 {
            return Poll::Pending;
        }
        let done = self.children.drain(..).map(|child| match child {
            Child::Done(output) => output,
            Child::Live(_) => unreachable!("no child is left"),
        });
        Poll::Ready(done.collect())
    }
}

impl<T> fmt::Debug for Gather<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gather")
            .field("futures", &self.children.len())
            .field("left", &self.left)
            .finish_non_exhaustive()
    }
}

/// Who was woken. It may be woken from any thread, hence the lock: it is not the loop's, and only long lists pay for it.
struct Wakers {
    shared: Arc<Shared>,
    children: Vec<Arc<ChildWaker>>,
}

struct Shared {
    woken: Mutex<Woken>,
}

struct Woken {
    /// Children to be polled, each at most once, in the order in which they were woken.
    children: Vec<usize>,
    /// The task that awaits; none before its first poll, and from a wake-up to the next.
    task: Option<Waker>,
}

struct ChildWaker {
    index: usize,
    /// Whether it is in `Woken::children`.
    is_woken: AtomicBool,
    shared: Arc<Shared>,
}

impl Wakers {
    fn new(count: usize) -> Self {
        // All of them are polled at first.
        let woken = Mutex::new(Woken { children: (0..count).collect(), task: None });
        let shared = Arc::new(Shared { woken });
        let child = |index| {
            Arc::new(ChildWaker { index, is_woken: AtomicBool::new(true), shared: Arc::clone(&shared) })
        };
        Wakers { children: (0..count).map(child).collect(), shared }
    }

    /// Who was woken since this was asked; from now on `task` is told.
    fn take(&self, task: &Waker) -> Vec<usize> {
        let task = task.clone();
        let mut woken = self.shared.woken.lock().unwrap_or_else(PoisonError::into_inner);
        let old = woken.task.replace(task);
        let children = std::mem::take(&mut woken.children);
        drop(woken);
        drop(old);
        // Before they are polled, so that a wake-up during the poll counts again. AcqRel pairs with the swap in `wake`: one
        // that finds the flag set is not told to anybody, so the poll to come has to see what was done before it.
        for index in &children {
            self.children[*index].is_woken.swap(false, Ordering::AcqRel);
        }
        children
    }

    fn of(&self, index: usize) -> Waker {
        Waker::from(Arc::clone(&self.children[index]))
    }
}

impl Wake for ChildWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.is_woken.swap(true, Ordering::AcqRel) {
            return;
        }
        let mut woken = self.shared.woken.lock().unwrap_or_else(PoisonError::into_inner);
        woken.children.push(self.index);
        // Taken and not cloned, and woken outside of the lock: another waker may be anything. Who comes later need not wake
        // it again: the poll to come finds every child, and leaves the task's waker anew.
        let task = woken.task.take();
        drop(woken);
        if let Some(task) = task {
            task.wake();
        }
    }
}
