//! A group of tasks that ends as a whole.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use pin_project_lite::pin_project;

use crate::shard::{self, Message};
use crate::task::{Builder, Id, JoinHandle, WaitsFor, waits};

/// Tasks of which all succeed, or the first failure ends the others: structured concurrency, as `asyncio.TaskGroup`.
///
/// - A member that gives an `Err` fails the group: the other members are cancelled, [`join`](Self::join) or
///   [`scope`](Self::scope) waits until they are gone, and gives that first error.
/// - A member that panics fails the group too; the panic goes on in the task that joins it, after the others are gone.
/// - Dropping the group cancels its members on the spot: their futures are gone when the drop returns. So no member
///   outlives its group, whether that is joined, fails, or is cancelled with the task that holds it. (One exception: a
///   member that drops its own group cannot be dropped while it runs; it ends at its next await.)
/// - A member that is cancelled from elsewhere ends alone.
///
/// Members are tasks of this loop and must be `'static`: share with them through an `Rc`. Their number has no bound but
/// that of the loop's tasks; use a `sync::Semaphore` to bound it.
///
/// # Examples
///
/// ```
/// use annulet::TaskGroup;
///
/// let sum: Result<u32, String> = annulet::run(async {
///     TaskGroup::scope(async |group| {
///         let one = group.spawn(async { Ok(1) });
///         let two = group.spawn(async { Ok(2) });
///         // A member's failure ends this body too, so a handle that is awaited here always gives a value.
///         Ok(one.await.unwrap() + two.await.unwrap())
///     })
///     .await
/// });
/// assert_eq!(sum, Ok(3));
/// ```
///
/// The first failure ends the others:
///
/// ```
/// use annulet::TaskGroup;
///
/// let result = annulet::run(async {
///     let group = TaskGroup::new();
///     group.spawn(std::future::pending::<Result<(), &str>>());
///     group.spawn::<(), _>(async { Err("no") });
///     group.join().await
/// });
/// assert_eq!(result, Err("no"));
/// ```
#[must_use = "dropping a group cancels its members; join it"]
pub struct TaskGroup<E> {
    state: Rc<State<E>>,
}

/// What a group and its members share.
struct State<E> {
    /// By the place that each has; none for a place that is free.
    members: RefCell<Vec<Option<Id>>>,
    free: RefCell<Vec<usize>>,
    /// Members whose future is not gone.
    live: Cell<usize>,
    /// Set with the first failure, or when the group is dropped: later members are cancelled at once.
    is_ending: Cell<bool>,
    failure: RefCell<Option<Failure<E>>>,
    /// Who waits for the members.
    waiter: Cell<Option<Waker>>,
}

enum Failure<E> {
    Error(E),
    Panic(Box<dyn Any + Send>),
}

impl<E> Failure<E> {
    /// # Panics
    ///
    /// With the member's panic.
    fn into_error(self) -> E {
        match self {
            Failure::Error(error) => error,
            Failure::Panic(payload) => resume_unwind(payload),
        }
    }
}

impl<E> State<E> {
    fn wake(&self) {
        if let Some(waiter) = self.waiter.take() {
            waiter.wake();
        }
    }

    /// Notes the first failure, and asks every member to end.
    fn fail(&self, failure: Failure<E>) {
        // A later failure is dropped here, when nothing is borrowed: it is the user's.
        let later = match &mut *self.failure.borrow_mut() {
            first @ None => {
                *first = Some(failure);
                None
            }
            _ => Some(failure),
        };
        self.abort_all();
        self.wake();
        drop(later);
    }

    fn abort_all(&self) {
        self.is_ending.set(true);
        let places = self.members.borrow().len();
        for place in 0..places {
            if let Some(id) = self.member(place) {
                shard::send(id.shard, Message::Abort(id.task));
            }
        }
    }

    fn member(&self, place: usize) -> Option<Id> {
        self.members.borrow().get(place).copied().flatten()
    }

    fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.live.get() == 0 {
            return Poll::Ready(());
        }
        self.register(cx);
        Poll::Pending
    }

    fn register(&self, cx: &mut Context<'_>) {
        drop(self.waiter.replace(Some(cx.waker().clone())));
    }
}

impl<E: 'static> TaskGroup<E> {
    /// A group without members.
    pub fn new() -> Self {
        TaskGroup {
            state: Rc::new(State {
                members: RefCell::default(),
                free: RefCell::default(),
                live: Cell::new(0),
                is_ending: Cell::new(false),
                failure: RefCell::new(None),
                waiter: Cell::new(None),
            }),
        }
    }

    /// Runs `body` with a group, then waits for the members. Gives the body's value if everything succeeded, and otherwise
    /// the first failure, of a member or of the body, after the others are gone.
    ///
    /// A member's failure drops the body where it waits.
    ///
    /// # Errors
    ///
    /// The first error.
    ///
    /// # Panics
    ///
    /// With the panic of a member, after the others are gone.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the body and every member.
    pub async fn scope<R, B>(body: B) -> Result<R, E>
    where
        B: AsyncFnOnce(&TaskGroup<E>) -> Result<R, E>,
    {
        let group = TaskGroup::new();
        let output = {
            let mut body = pin!(body(&group));
            poll_fn(|cx| {
                // A failure first: what the body would do next is not wanted any more.
                if group.state.failure.borrow().is_some() {
                    return Poll::Ready(None);
                }
                group.state.register(cx);
                body.as_mut().poll(cx).map(Some)
            })
            .await
        };
        let value = match output {
            Some(Ok(value)) => Some(value),
            Some(Err(error)) => {
                group.state.fail(Failure::Error(error));
                None
            }
            None => None,
        };
        group.join().await?;
        Ok(value.expect("a group that did not fail has a body that gave a value"))
    }

    /// Starts a member. Its value comes from the handle; an `Err` fails the group, and the handle then says that the member
    /// was cancelled. A member of a group that has failed is cancelled before it starts.
    ///
    /// Dropping the handle leaves the member in the group.
    ///
    /// # Panics
    ///
    /// Outside of a loop.
    #[track_caller]
    pub fn spawn<T, F>(&self, future: F) -> JoinHandle<T>
    where
        T: 'static,
        F: Future<Output = Result<T, E>> + 'static,
    {
        self.spawn_with(Builder::new(), future)
    }

    /// Starts a member with a name; see [`spawn`](Self::spawn).
    ///
    /// # Panics
    ///
    /// Outside of a loop.
    #[track_caller]
    pub fn spawn_with<T, F>(&self, builder: Builder<'_>, future: F) -> JoinHandle<T>
    where
        T: 'static,
        F: Future<Output = Result<T, E>> + 'static,
    {
        let place = self.state.free.borrow_mut().pop().unwrap_or_else(|| {
            self.state.members.borrow_mut().push(None);
            self.state.members.borrow().len() - 1
        });
        self.state.live.set(self.state.live.get() + 1);
        let seat = Seat { state: Rc::clone(&self.state), place };
        let handle = builder.spawn(Member { future, has_failed: false, seat });
        self.state.members.borrow_mut()[place] = Some(handle.id());
        if self.state.is_ending.get() {
            handle.abort();
        }
        handle
    }

    /// Members that have not ended.
    pub fn len(&self) -> usize {
        self.state.live.get()
    }

    /// Whether every member has ended.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Asks every member to end, without a failure. Members that are spawned later are cancelled before they start.
    pub fn abort_all(&self) {
        self.state.abort_all();
    }

    /// Waits until every member has ended.
    ///
    /// # Errors
    ///
    /// The first error of a member, after the others are gone.
    ///
    /// # Panics
    ///
    /// With the panic of a member, after the others are gone.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the group, and with it every member.
    pub async fn join(self) -> Result<(), E> {
        poll_fn(|cx| {
            let gone = self.state.poll_gone(cx);
            if gone.is_pending() {
                waits::note(WaitsFor::Lock("TaskGroup"));
            }
            gone
        })
        .await;
        let failure = self.state.failure.borrow_mut().take();
        failure.map_or(Ok(()), |failure| Err(failure.into_error()))
    }
}

impl<E: 'static> Default for TaskGroup<E> {
    fn default() -> Self {
        Self::new()
    }
}

impl<E> Drop for TaskGroup<E> {
    fn drop(&mut self) {
        self.state.is_ending.set(true);
        // A member's drop may do anything with the others: each is looked up when its turn comes.
        let mut place = 0;
        while place < self.state.members.borrow().len() {
            if let Some(id) = self.state.member(place) {
                shard::end(id.shard, id.task);
            }
            place += 1;
        }
    }
}

impl<E> fmt::Debug for TaskGroup<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskGroup").field("live", &self.state.live.get()).finish_non_exhaustive()
    }
}

pin_project! {
    /// A member's future: a failure goes to the group, and ends the task as cancelled.
    struct Member<F, E> {
        // Dropped before the seat is given up.
        #[pin]
        future: F,
        has_failed: bool,
        seat: Seat<E>,
    }
}

/// A member's place in its group, until its future is gone.
struct Seat<E> {
    state: Rc<State<E>>,
    place: usize,
}

impl<E> Drop for Seat<E> {
    fn drop(&mut self) {
        if let Some(member) = self.state.members.borrow_mut().get_mut(self.place) {
            *member = None;
        }
        self.state.free.borrow_mut().push(self.place);
        self.state.live.set(self.state.live.get() - 1);
        self.state.wake();
    }
}

impl<T, E, F: Future<Output = Result<T, E>>> Future for Member<F, E> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let this = self.project();
        if *this.has_failed {
            // Asked to end already; polled once more before it does.
            return Poll::Pending;
        }
        let failure = match catch_unwind(AssertUnwindSafe(|| this.future.poll(cx))) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(Ok(value))) => return Poll::Ready(value),
            Ok(Poll::Ready(Err(error))) => Failure::Error(error),
            Err(payload) => Failure::Panic(payload),
        };
        *this.has_failed = true;
        this.seat.state.fail(failure);
        Poll::Pending
    }
}
