//! Calls: a closure that travels to another core, the future that it makes there, and the result's way back.
//!
//! One box makes the whole way: it leaves with the closure and comes back with the result, so that it is freed by the thread
//! that allocated it.

use std::any::Any;
use std::fmt;
use std::future::{Future, poll_fn};
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use super::port::Port;
use crate::shard::current;
use crate::sync::{AcquireError, OwnedSemaphorePermit};
use crate::task::cell::Origin;
use crate::task::waits::{WaitsFor, note};
use crate::task::{JoinError, TaskId};

/// A call's place in the table of the core that made it.
pub(super) type Ticket = u32;

/// What lies in the queues between cores.
#[derive(Debug)]
pub(super) enum Parcel {
    /// Start this.
    Run(Ticket, Box<dyn Job>),
    /// End the call, if it has not ended: nobody wants its result.
    Abort(Ticket),
    /// A call of the receiver's is over.
    Reply(Ticket, Box<dyn Job>),
}

/// A call as it travels.
pub(super) trait Job: Send {
    /// Begins it here, as a task.
    fn start(self: Box<Self>, port: &Rc<Port>, from: usize, ticket: Ticket) -> TaskId;

    /// `Option<Result<R, JoinError>>`; something once it is over.
    fn outcome(&mut self) -> &mut dyn Any;
}

impl fmt::Debug for dyn Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Job")
    }
}

struct JobOf<F, Fut, R> {
    closure: Option<F>,
    outcome: Option<Result<R, JoinError>>,
    /// Where the call was made, for the task dump.
    location: &'static Location<'static>,
    _future: PhantomData<fn() -> Fut>,
}

impl<F, Fut, R> Job for JobOf<F, Fut, R>
where
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = R> + 'static,
    R: Send + 'static,
{
    fn start(mut self: Box<Self>, port: &Rc<Port>, from: usize, ticket: Ticket) -> TaskId {
        let closure = self.closure.take().expect("a job is started once");
        let location = self.location;
        let mut running = Running { job: Some(self), port: Rc::clone(port), from, ticket };
        spawn_detached(location, async move {
            let outcome = caught(closure).await;
            running.answer(outcome);
        })
    }

    fn outcome(&mut self) -> &mut dyn Any {
        &mut self.outcome
    }
}

/// Runs what the user gave, and catches its panics: they belong to who called.
async fn caught<F: FnOnce() -> Fut, Fut: Future>(closure: F) -> Result<Fut::Output, JoinError> {
    let mut future = pin!(async move { closure().await });
    poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
        Ok(polled) => polled.map(Ok),
        Err(payload) => Poll::Ready(Err(JoinError::panicked(payload))),
    })
    .await
}

/// A call at work. Answers, also when its task is dropped.
struct Running<F, Fut, R>
where
    JobOf<F, Fut, R>: Job + 'static,
{
    job: Option<Box<JobOf<F, Fut, R>>>,
    port: Rc<Port>,
    from: usize,
    ticket: Ticket,
}

impl<F, Fut, R> Running<F, Fut, R>
where
    JobOf<F, Fut, R>: Job + 'static,
{
    fn answer(&mut self, outcome: Result<R, JoinError>) {
        if let Some(mut job) = self.job.take() {
            job.outcome = Some(outcome);
            self.port.reply(self.from, self.ticket, job);
        }
    }
}

impl<F, Fut, R> Drop for Running<F, Fut, R>
where
    JobOf<F, Fut, R>: Job + 'static,
{
    fn drop(&mut self) {
        self.answer(Err(JoinError::cancelled()));
    }
}

/// Runs a closure and the future that it makes on another core of this mesh, and brings the result back.
///
/// The closure travels and must be `Send`; the future stays where it was made and need not be. It runs there as a task of its
/// own. `core` is the place among the cores that were started, from zero; this core's own is allowed.
///
/// The call is sent at once, awaited or not; behind 1024 calls to the same core that are under way it waits in line, and is sent
/// when it is awaited. What is sent in one turn of the loop is taken in that order, and a sleeping core is rung once for all of
/// it, at the end of the turn.
///
/// # Errors
///
/// The result is a [`JoinError`] when the closure or its future panicked, and when the core's loop ended before it was done
/// ([`is_cancelled`](JoinError::is_cancelled)) or had ended before it was sent.
///
/// # Cancel safety
///
/// Dropping the call aborts it: if it has not begun it will not, if it waits there its future is dropped where it waits, as with
/// [`JoinHandle::abort`](crate::JoinHandle::abort). What it has done stays done. [`Call::detach`] lets it go on.
///
/// # Panics
///
/// On a loop that is not part of a mesh, and when there is no such core.
///
/// # Examples
///
/// ```
/// let loops = annulet::Builder::new()
/// #   .cores([annulet::placement::available_cores().unwrap()[0]])
///     .start(|core| async move {
///         let answer = annulet::mesh::submit_to(0, || async { 6 * 7 }).await;
///         assert_eq!(answer.unwrap(), 42);
///         let panicked = annulet::mesh::submit_to(0, || async { panic!("oh") }).await;
///         assert!(panicked.is_err_and(|error: annulet::JoinError| error.is_panic()));
///     })
///     .unwrap();
/// loops.join().unwrap();
/// ```
#[track_caller]
pub fn submit_to<F, Fut>(core: usize, closure: F) -> Call<Fut::Output>
where
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future + 'static,
    Fut::Output: Send + 'static,
{
    let port = super::port();
    port.check(core);
    let job = Box::new(JobOf {
        closure: Some(closure),
        outcome: None::<Result<Fut::Output, JoinError>>,
        location: Location::caller(),
        _future: PhantomData::<fn() -> Fut>,
    });
    Call { state: port.begin(core, job), port, core, _result: PhantomData }
}

/// Calls the closure on every core of this mesh, this one among them, and gives the results in the order of the cores.
///
/// # Errors
///
/// As [`submit_to`], each for itself.
///
/// # Cancel safety
///
/// As [`submit_to`]: dropping it aborts the calls that are not done.
///
/// # Panics
///
/// On a loop that is not part of a mesh.
///
/// # Examples
///
/// ```
/// let loops = annulet::Builder::new()
/// #   .cores([annulet::placement::available_cores().unwrap()[0]])
///     .start(|core| async move {
///         let tasks = annulet::mesh::broadcast(|| async { annulet::metrics().tasks }).await;
///         assert_eq!(tasks.len(), annulet::mesh::cores());
///     })
///     .unwrap();
/// loops.join().unwrap();
/// ```
#[track_caller]
pub fn broadcast<F, Fut>(closure: F) -> impl Future<Output = Vec<Result<Fut::Output, JoinError>>>
where
    F: FnOnce() -> Fut + Clone + Send + 'static,
    Fut: Future + 'static,
    Fut::Output: Send + 'static,
{
    let cores = super::cores();
    // All are sent before the first is waited for. Not a closure: the location is the caller's.
    let mut calls = Vec::with_capacity(cores);
    for core in 0..cores {
        calls.push(submit_to(core, closure.clone()));
    }
    async move {
        let mut results = Vec::with_capacity(calls.len());
        for call in calls {
            results.push(call.await);
        }
        results
    }
}

/// A call under way on another core; see [`submit_to`].
#[must_use = "dropping a call aborts it; await it, or let it go on with `detach`"]
pub struct Call<R> {
    port: Rc<Port>,
    core: usize,
    state: State,
    _result: PhantomData<fn() -> R>,
}

/// How far a call has come, at the core that made it.
pub(super) enum State {
    /// In line for a place among the calls under way.
    InLine(Box<dyn Job>, Pin<Box<dyn Future<Output = Result<OwnedSemaphorePermit, AcquireError>>>>),
    Sent(Ticket),
    /// The core had ended before it could be sent.
    Refused,
    /// The result was given, or the call let go.
    Over,
}

impl<R> Call<R> {
    /// The core that it was sent to.
    pub fn core(&self) -> usize {
        self.core
    }

    /// Lets the call go on, and its result be dropped. One that stands in line goes on standing there.
    pub fn detach(mut self)
    where
        R: Send + 'static,
    {
        match std::mem::replace(&mut self.state, State::Over) {
            State::Sent(ticket) => self.port.abandon(self.core, ticket, false),
            state @ State::InLine(..) => {
                let call =
                    Call::<R> { port: Rc::clone(&self.port), core: self.core, state, _result: PhantomData };
                drop(crate::spawn(call));
            }
            State::Refused | State::Over => {}
        }
    }
}

impl<R: Send + 'static> Future for Call<R> {
    type Output = Result<R, JoinError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if let State::InLine(_, place) = &mut this.state {
            let permit = match place.as_mut().poll(cx) {
                Poll::Ready(permit) => permit,
                Poll::Pending => {
                    note(WaitsFor::Channel("mesh::submit_to"));
                    return Poll::Pending;
                }
            };
            let State::InLine(job, _) = std::mem::replace(&mut this.state, State::Refused) else {
                unreachable!("looked at above")
            };
            if let Ok(permit) = permit {
                permit.forget();
                this.state = this.port.send(this.core, job);
            }
        }
        let outcome = match this.state {
            State::Sent(ticket) => match ready!(this.port.poll_call(this.core, ticket, cx)) {
                Some(mut job) => job
                    .outcome()
                    .downcast_mut::<Option<Result<R, JoinError>>>()
                    .and_then(Option::take)
                    .expect("an answered job has an outcome of the call's type"),
                // Whether it had begun there nobody can say any more.
                None => Err(JoinError::cancelled()),
            },
            State::Refused => {
                Err(JoinError::not_started(format!("the loop of core {} has ended", this.core)))
            }
            State::InLine(..) => unreachable!("it has left the line above"),
            State::Over => panic!("a call was polled after it had given its result"),
        };
        this.state = State::Over;
        Poll::Ready(outcome)
    }
}

impl<R> Drop for Call<R> {
    fn drop(&mut self) {
        if let State::Sent(ticket) = self.state {
            self.port.abandon(self.core, ticket, true);
        }
    }
}

impl<R> fmt::Debug for Call<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::InLine(..) => "in line",
            State::Sent(_) => "under way",
            State::Refused => "refused",
            State::Over => "over",
        };
        f.debug_struct("Call").field("core", &self.core).field("state", &state).finish()
    }
}

/// Starts a task that nobody joins.
fn spawn_detached(
    location: &'static Location<'static>,
    future: impl Future<Output = ()> + 'static,
) -> TaskId {
    let shard = current();
    let origin = Origin { name: None, location, now: shard.clock.now(), is_finaliser: false };
    let task = shard.executor.spawn(future, origin);
    if shard.is_closing() {
        shard.executor.abort(task);
    }
    shard.executor.detach(task);
    task
}
