//! The handle that awaits a task.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use super::{Id, JoinError, TaskId, WaitsFor, waits};
use crate::shard::{self, Message, ShardId, ShardKey};

/// In the highest bit of the shard's serial, which counts in those below.
const TAKEN: u32 = 1 << 31;
const _: () = assert!(TAKEN & ShardKey::SERIAL_MAX == 0);

/// Awaits a task and gives its result; made by [`spawn`](crate::spawn).
///
/// Dropping the handle detaches the task: it goes on, and its result is dropped. The handle holds only the task's
/// number, so it may be sent to another thread, aborted and dropped there; it can be awaited on the task's own core only.
///
/// # Examples
///
/// ```
/// annulet::run(async {
///     let task = annulet::spawn(async { 6 * 7 });
///     assert_eq!(task.await.unwrap(), 42);
/// });
/// ```
///
/// # Cancel safety
///
/// Dropping the future of `&mut handle` loses nothing; the result stays until it is taken.
///
/// # Panics
///
/// Awaiting panics on another thread than the task's, and after the result was taken.
//
// Twelve bytes, so that a move of it is two loads of what was stored by two stores. With sixteen it is one load, which has to
// wait until both stores have left the processor's store buffer: four nanoseconds for each `async fn` that it is passed to.
#[repr(C, packed(4))]
pub struct JoinHandle<T> {
    /// The shard's id above the task's.
    word: u64,
    /// The shard's serial, with `TAKEN` when the result was taken: the slot is free then.
    serial: u32,
    /// The handle yields a `T` but holds none.
    result: PhantomData<fn() -> T>,
}

const _: () = assert!(size_of::<JoinHandle<[u8; 100]>>() == 12);

impl<T> JoinHandle<T> {
    pub(crate) fn new(shard: ShardKey, task: TaskId) -> Self {
        let word = u64::from(shard.id().0) << TaskId::BITS | task.word();
        JoinHandle { word, serial: shard.serial(), result: PhantomData }
    }

    #[inline]
    fn task(&self) -> TaskId {
        TaskId::from_word(self.word)
    }

    #[inline]
    fn is_taken(&self) -> bool {
        self.serial & TAKEN != 0
    }

    #[inline]
    fn shard(&self) -> ShardKey {
        ShardKey::new(ShardId((self.word >> TaskId::BITS) as u16), self.serial & !TAKEN)
    }

    /// Asks the task to end: its future is dropped at its next turn instead of polled. Awaiting it then gives a
    /// [`JoinError`] with [`is_cancelled`](JoinError::is_cancelled), unless it had finished before.
    pub fn abort(&self) {
        if !self.is_taken() {
            shard::send(self.shard(), Message::Abort(self.task()));
        }
    }

    /// Asks the task to end and waits until its future is gone, with all that it held.
    ///
    /// The task is asked at once, whether the wait is awaited or not. The wait gives the task's value if it had finished
    /// before, and otherwise a [`JoinError`] with [`is_cancelled`](JoinError::is_cancelled).
    ///
    /// # Errors
    ///
    /// That the task was cancelled, or that it panicked.
    ///
    /// # Examples
    ///
    /// ```
    /// annulet::run(async {
    ///     let task = annulet::spawn(std::future::pending::<()>());
    ///     assert!(task.cancel().await.unwrap_err().is_cancelled());
    /// });
    /// ```
    ///
    /// # Cancel safety
    ///
    /// A dropped wait does not take the request back.
    ///
    /// # Panics
    ///
    /// Awaiting panics where awaiting the handle does.
    pub fn cancel(self) -> impl Future<Output = Result<T, JoinError>> {
        self.abort();
        self
    }

    /// Calls `callback` on the task's loop when the task has ended, with its value or why there is none; at once if it has
    /// ended already.
    ///
    /// Callbacks run in the order in which they were registered, before whoever awaits the handle; the handle may be
    /// dropped meanwhile. A panic of a callback ends that callback only.
    ///
    /// # Examples
    ///
    /// ```
    /// annulet::run(async {
    ///     let task = annulet::spawn(async { 7 });
    ///     task.on_done(|result| println!("it gave {:?}", result.unwrap()));
    ///     task.await.unwrap();
    /// });
    /// ```
    ///
    /// # Panics
    ///
    /// On another thread than the task's, and after the handle gave its result.
    pub fn on_done(&self, callback: impl FnOnce(Result<&T, &JoinError>) + 'static) {
        assert!(
            !self.is_taken(),
            "on_done was called on a JoinHandle that gave its result before; there is none to see"
        );
        // `T` is the output of this task, as in `poll`; the handle is lent for the call.
        shard::on_done::<T>(self.shard(), self.task(), move |outcome| callback(outcome.as_ref()));
    }

    /// The task's name, if it has one and has not ended. None on another thread than the task's.
    pub fn name(&self) -> Option<Rc<str>> {
        shard::with_current(|current| {
            let current = current.filter(|current| current.key == self.shard())?;
            current.executor.see(current.key, self.task())?.name
        })
    }

    /// The task's id.
    pub fn id(&self) -> Id {
        Id { shard: self.shard(), task: self.task() }
    }

    /// Whether the task has ended. False on another thread than the task's as long as its runtime lives.
    pub fn is_finished(&self) -> bool {
        self.is_taken() || shard::is_finished(self.shard(), self.task())
    }
}

impl<T> Future for JoinHandle<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        assert!(!self.is_taken(), "a JoinHandle was awaited again after it gave its result");
        // `T` is the output of this task: `new` is called by `spawn` only, with the same type.
        let outcome = shard::poll_join::<T>(self.shard(), self.task(), cx);
        if outcome.is_ready() {
            self.serial |= TAKEN;
        } else {
            waits::note(WaitsFor::Task(self.id()));
        }
        outcome
    }
}

impl<T> Drop for JoinHandle<T> {
    fn drop(&mut self) {
        if !self.is_taken() {
            shard::send(self.shard(), Message::Detach(self.task()));
        }
    }
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinHandle").field("id", &self.id()).finish()
    }
}
