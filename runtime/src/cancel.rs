//! Cancellation tokens: a switch that many tasks of a loop watch, with children that can be cancelled alone.
//!
//! A token asks; it drops nothing. What ends a task from outside is [`JoinHandle::abort`](crate::JoinHandle::abort), what
//! ends many is a [`TaskGroup`](crate::TaskGroup). Tokens are of one loop; to ask the loops of other threads there is
//! [`Core::stopped`](crate::Core::stopped).

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};

use crate::task::{WaitsFor, waits, waker};

/// A switch that is set once; clones are the same switch.
///
/// # Examples
///
/// ```
/// use annulet::cancel::CancellationToken;
///
/// annulet::run(async {
///     let token = CancellationToken::new();
///     let child = token.child_token();
///     let task = annulet::spawn(async move {
///         child.run_until_cancelled(std::future::pending::<()>()).await
///     });
///     token.cancel();
///     assert_eq!(task.await.unwrap(), None);
/// });
/// ```
#[derive(Clone)]
pub struct CancellationToken {
    node: Rc<Node>,
}

#[derive(Default)]
struct Node {
    is_cancelled: Cell<bool>,
    waiters: RefCell<Places<Waker>>,
    /// Children that live, and were not cancelled by this token.
    children: RefCell<Places<Weak<Node>>>,
    /// The token above, and this one's place among its children.
    parent: RefCell<Option<(Rc<Node>, usize)>>,
}

/// Values that keep their place until they are taken.
struct Places<T> {
    places: Vec<Option<T>>,
    free: Vec<usize>,
}

impl<T> Default for Places<T> {
    fn default() -> Self {
        Places { places: Vec::new(), free: Vec::new() }
    }
}

impl<T> Places<T> {
    fn insert(&mut self, value: T) -> usize {
        match self.free.pop() {
            Some(place) => {
                self.places[place] = Some(value);
                place
            }
            None => {
                self.places.push(Some(value));
                self.places.len() - 1
            }
        }
    }

    fn remove(&mut self, place: usize) -> Option<T> {
        let value = self.places.get_mut(place)?.take()?;
        self.free.push(place);
        Some(value)
    }

    fn take_all(&mut self) -> impl Iterator<Item = T> + use<T> {
        self.free.clear();
        std::mem::take(&mut self.places).into_iter().flatten()
    }
}

impl CancellationToken {
    /// A token that is not cancelled.
    pub fn new() -> Self {
        CancellationToken { node: Rc::default() }
    }

    /// A token that is cancelled with this one, and may be cancelled alone. A child of a cancelled token is cancelled.
    pub fn child_token(&self) -> CancellationToken {
        let child = CancellationToken::new();
        if self.is_cancelled() {
            child.node.is_cancelled.set(true);
        } else {
            let place = self.node.children.borrow_mut().insert(Rc::downgrade(&child.node));
            child.node.parent.replace(Some((Rc::clone(&self.node), place)));
        }
        child
    }

    /// Sets the switch of this token and of all below it, and wakes who waits for them. The second time it does nothing.
    pub fn cancel(&self) {
        // All switches first, then the wakers: whoever is woken finds every token below in its new state.
        let mut wakers = Vec::new();
        let mut nodes = vec![Rc::clone(&self.node)];
        while let Some(node) = nodes.pop() {
            if node.is_cancelled.replace(true) {
                continue;
            }
            wakers.extend(node.waiters.borrow_mut().take_all());
            nodes.extend(node.children.borrow_mut().take_all().filter_map(|child| child.upgrade()));
        }
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Whether it was cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.node.is_cancelled.get()
    }

    /// Waits until it is cancelled.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future removes its waker. It holds the token, not the task's place in a line: every waiter is woken.
    pub fn cancelled(&self) -> Cancelled {
        Cancelled { token: self.clone(), place: None }
    }

    /// Runs `future` until it is done, or until the token is cancelled: then `future` is dropped and this gives `None`. If
    /// both are so, the cancellation counts.
    ///
    /// # Cancel safety
    ///
    /// That of `future`.
    pub async fn run_until_cancelled<F: Future>(&self, future: F) -> Option<F::Output> {
        match crate::select(self.cancelled(), future).await {
            crate::Either::Left(()) => None,
            crate::Either::Right(output) => Some(output),
        }
    }

    /// A guard that cancels the token when it is dropped.
    pub fn drop_guard(self) -> DropGuard {
        DropGuard { token: Some(self) }
    }
}

impl Default for CancellationToken {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for CancellationToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CancellationToken")
            .field("is_cancelled", &self.is_cancelled())
            .finish_non_exhaustive()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // A loop, not a recursion: a chain of tokens may be as long as memory allows.
        let mut above = self.parent.take();
        while let Some((parent, place)) = above {
            // A weak reference to a node that is gone: dropping it runs nothing of anybody's.
            parent.children.borrow_mut().remove(place);
            above = Rc::into_inner(parent).and_then(|parent| parent.parent.take());
        }
    }
}

/// Done when its token is cancelled; made by [`CancellationToken::cancelled`].
#[must_use = "it does nothing unless it is awaited"]
#[derive(Debug)]
pub struct Cancelled {
    token: CancellationToken,
    /// Its place among the waiters.
    place: Option<usize>,
}

impl Future for Cancelled {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        // Before the look: cloning it is anybody's code, which may cancel.
        let waker = waker::clone(cx.waker());
        if self.token.is_cancelled() {
            self.place = None;
            return Poll::Ready(());
        }
        let node = Rc::clone(&self.token.node);
        let mut waiters = node.waiters.borrow_mut();
        let old = match self.place {
            Some(place) => waiters.places[place].replace(waker),
            None => {
                self.place = Some(waiters.insert(waker));
                None
            }
        };
        drop(waiters);
        drop(old);
        waits::note(WaitsFor::Lock("CancellationToken"));
        Poll::Pending
    }
}

impl Drop for Cancelled {
    fn drop(&mut self) {
        if let Some(place) = self.place
            && !self.token.is_cancelled()
        {
            let waker = self.token.node.waiters.borrow_mut().remove(place);
            drop(waker);
        }
    }
}

/// Cancels its token when it is dropped; made by [`CancellationToken::drop_guard`].
#[must_use = "dropping the guard cancels the token"]
#[derive(Debug)]
pub struct DropGuard {
    token: Option<CancellationToken>,
}

impl DropGuard {
    /// Gives the token back, and does not cancel it.
    pub fn disarm(mut self) -> CancellationToken {
        self.token.take().expect("a guard holds its token until it is disarmed")
    }
}

impl Drop for DropGuard {
    fn drop(&mut self) {
        if let Some(token) = &self.token {
            token.cancel();
        }
    }
}
