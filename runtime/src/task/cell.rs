//! The memory of one task: a header that does not know the future's type, and the future or its result.

#![allow(unsafe_code)]

use std::alloc::Layout;
use std::cell::{Cell, UnsafeCell};
use std::future::Future;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::pin::Pin;
use std::ptr::NonNull;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use super::{JoinError, WaitsFor, memory};

/// What a task became.
pub(crate) type Outcome<T> = Result<T, JoinError>;

/// Runs when a task has ended; the pointer is to its `Outcome<T>`.
type OnDone = Box<dyn FnOnce(NonNull<()>)>;

/// What few tasks have. Its memory is taken only by those.
#[derive(Default)]
struct Extra {
    name: Option<Rc<str>>,
    /// In the order in which they are called.
    on_done: Vec<OnDone>,
}

/// What a task is made with, apart from its future.
pub(crate) struct Origin {
    pub(crate) name: Option<Rc<str>>,
    /// Where it was spawned.
    pub(crate) location: &'static Location<'static>,
    /// When, by the loop's clock.
    pub(crate) now: u64,
    /// Whether the loop waits for it before it ends.
    pub(crate) is_finaliser: bool,
}

/// The part of a cell that does not depend on the future's type.
pub(crate) struct Header {
    vtable: &'static VTable,
    /// Where the task was spawned.
    pub(crate) location: &'static Location<'static>,
    /// None: no name and no callbacks.
    extra: Cell<Option<Box<Extra>>>,
    /// Whether a handle will come for the result.
    pub(crate) joined: Cell<bool>,
    /// Whether the loop waits for it before it ends.
    pub(crate) is_finaliser: bool,
    /// Whether the future is to be dropped instead of polled.
    pub(crate) aborted: Cell<bool>,
    /// Whether the future is being polled or dropped: then it cannot be dropped.
    pub(crate) is_busy: Cell<bool>,
    /// Whether the future is gone and the result is here (or was taken).
    pub(crate) finished: Cell<bool>,
    /// Who awaits the handle.
    pub(crate) waiter: Cell<Option<Waker>>,
    /// What its last poll waited for.
    pub(crate) waits: Cell<WaitsFor>,
    /// When it was polled last, by the loop's clock; when it was spawned, before that.
    pub(crate) polled_at: Cell<u64>,
}

struct VTable {
    poll: unsafe fn(NonNull<Header>, &Waker) -> bool,
    cancel: unsafe fn(NonNull<Header>),
    take: unsafe fn(NonNull<Header>, NonNull<()>),
    peek: unsafe fn(NonNull<Header>) -> NonNull<()>,
    free: unsafe fn(NonNull<Header>),
}

#[repr(C)]
struct Body<F: Future> {
    /// First, so that a pointer to the cell is a pointer to its header.
    header: Header,
    stage: UnsafeCell<Stage<F>>,
}

impl<F: Future> Body<F> {
    /// Whether there is something to be dropped. Most often the result was taken, and nothing else was there.
    ///
    /// # Safety
    ///
    /// Nobody has a unique reference to the stage.
    unsafe fn holds_anything(&self) -> bool {
        // SAFETY: the caller's promise.
        let is_empty = matches!(unsafe { &*self.stage.get() }, Stage::Empty);
        // SAFETY: cells of one thread; nothing changes them while they are looked at.
        let (extra, waiter) = unsafe { (&*self.header.extra.as_ptr(), &*self.header.waiter.as_ptr()) };
        !is_empty || extra.is_some() || waiter.is_some()
    }
}

enum Stage<F: Future> {
    Live(F),
    Finished(Outcome<F::Output>),
    Empty,
}

/// Owns the memory of one task, on the thread that made it.
#[derive(Debug)]
pub(crate) struct TaskCell(NonNull<Header>);

impl TaskCell {
    pub(crate) fn new<F: Future>(future: F, origin: Origin) -> Self {
        let vtable: &'static VTable = const {
            &VTable {
                poll: poll::<F>,
                cancel: cancel::<F>,
                take: take::<F>,
                peek: peek::<F>,
                free: free::<F>,
            }
        };
        let extra = origin.name.map(|name| Box::new(Extra { name: Some(name), on_done: Vec::new() }));
        let header = Header {
            vtable,
            location: origin.location,
            extra: Cell::new(extra),
            joined: Cell::new(true),
            is_finaliser: origin.is_finaliser,
            aborted: Cell::new(false),
            is_busy: Cell::new(false),
            finished: Cell::new(false),
            waiter: Cell::new(None),
            waits: Cell::default(),
            polled_at: Cell::new(origin.now),
        };
        let cell = memory::allocate(Layout::new::<Body<F>>()).cast::<Body<F>>();
        // SAFETY: freshly allocated with this type's layout.
        unsafe { cell.write(Body { header, stage: UnsafeCell::new(Stage::Live(future)) }) };
        TaskCell(cell.cast())
    }

    /// A second name for the same cell, valid until [`free`](Self::free); the executor's slot owns it.
    pub(crate) fn alias(&self) -> TaskCell {
        TaskCell(self.0)
    }

    pub(crate) fn header(&self) -> &Header {
        // SAFETY: the cell is valid until `free`, which takes the last name of it; headers are only shared, their
        // fields are cells.
        unsafe { self.0.as_ref() }
    }

    /// Polls the future; true when it is done, for better or worse. A panic becomes the result.
    ///
    /// # Safety
    ///
    /// The task is live and not busy.
    #[inline]
    pub(crate) unsafe fn poll(&self, waker: &Waker) -> bool {
        let header = self.header();
        header.is_busy.set(true);
        // SAFETY: the vtable is the one of this cell's type; the caller passes on the rest.
        let is_done = unsafe { (header.vtable.poll)(self.0, waker) };
        header.is_busy.set(false);
        is_done
    }

    /// Drops the future and makes "cancelled" the result (or a panic of its drop).
    ///
    /// # Safety
    ///
    /// The task is live and not busy.
    pub(crate) unsafe fn cancel(&self) {
        let header = self.header();
        header.is_busy.set(true);
        // SAFETY: as in `poll`.
        unsafe { (header.vtable.cancel)(self.0) };
        header.is_busy.set(false);
    }

    /// Moves the result out.
    ///
    /// # Safety
    ///
    /// The task is finished, its result was not taken, and its future's output is `T`.
    pub(crate) unsafe fn take<T>(&self) -> Outcome<T> {
        let mut outcome = std::mem::MaybeUninit::<Outcome<T>>::uninit();
        // SAFETY: the caller vouches for `T`; `take` of this cell's type writes an `Outcome<T>` to the pointer.
        unsafe {
            (self.header().vtable.take)(self.0, NonNull::from(&mut outcome).cast());
            outcome.assume_init()
        }
    }

    /// Calls `callback` with the result when the task ends; at once if it has.
    ///
    /// # Safety
    ///
    /// The future's output is `T`. If the task is finished, its result was not taken, and it is not taken or freed
    /// while `callback` runs.
    pub(crate) unsafe fn on_done<T>(&self, callback: impl FnOnce(&Outcome<T>) + 'static) {
        if self.header().finished.get() {
            // SAFETY: finished and not taken, by the caller's promise, so there is an outcome of this type.
            let outcome = unsafe { (self.header().vtable.peek)(self.0).cast::<Outcome<T>>().as_ref() };
            return callback(outcome);
        }
        let callback: OnDone = Box::new(move |outcome| {
            // SAFETY: `finish` of this cell's type passes its outcome, which stays while callbacks run.
            callback(unsafe { outcome.cast::<Outcome<T>>().as_ref() });
        });
        let mut extra = self.header().extra.take().unwrap_or_default();
        extra.on_done.push(callback);
        self.header().extra.set(Some(extra));
    }

    /// Drops what is left (a result nobody took) and gives the memory back.
    ///
    /// # Safety
    ///
    /// No other name of this cell is used after this, and the task is not being polled.
    pub(crate) unsafe fn free(self) {
        // SAFETY: as in `poll`.
        unsafe { (self.header().vtable.free)(self.0) }
    }
}

/// Empties a stage when it goes out of scope, also while a future's drop unwinds.
struct Vacate<F: Future>(*mut Stage<F>);

impl<F: Future> Drop for Vacate<F> {
    fn drop(&mut self) {
        // SAFETY: the stage's old content was dropped in place, or is being unwound out of.
        unsafe { self.0.write(Stage::Empty) };
    }
}

/// Drops the future in place: it may be pinned. Its drop may panic; `Empty` takes its place all the same.
///
/// # Safety
///
/// The cell is of type `F`, nobody refers to its stage, and the future is not touched after this.
unsafe fn drop_future<F: Future>(cell: &Body<F>) {
    let vacate = Vacate(cell.stage.get());
    // SAFETY: the caller's promise.
    unsafe { std::ptr::drop_in_place(vacate.0) };
}

/// Puts the outcome where the future was.
///
/// # Safety
///
/// The cell is of type `F`, its stage is `Empty`, and nobody refers to it.
unsafe fn finish<F: Future>(cell: &Body<F>, outcome: Outcome<F::Output>) {
    // SAFETY: the caller's promise; `Empty` needs no drop.
    unsafe { cell.stage.get().write(Stage::Finished(outcome)) };
    cell.header.call_on_done(|| {
        // SAFETY: the cell is of type `F` and holds an outcome.
        unsafe { peek::<F>(NonNull::from(cell).cast()) }
    });
    cell.header.finished.set(true);
}

impl Header {
    /// The task's name.
    pub(crate) fn name(&self) -> Option<Rc<str>> {
        let extra = self.extra.take();
        let name = extra.as_ref().and_then(|extra| extra.name.clone());
        self.extra.set(extra);
        name
    }

    /// Calls what was registered, and what that registers. The task is not marked as finished yet, so that its result
    /// can be neither taken nor freed meanwhile.
    fn call_on_done(&self, outcome: impl Fn() -> NonNull<()>) {
        loop {
            let Some(mut extra) = self.extra.take() else { return };
            let callbacks = std::mem::take(&mut extra.on_done);
            self.extra.set(Some(extra));
            if callbacks.is_empty() {
                return;
            }
            for callback in callbacks {
                let outcome = outcome();
                // A panic was told by the hook, and the task's result is not the callback's to spoil.
                let _ = catch_unwind(AssertUnwindSafe(|| callback(outcome)));
            }
        }
    }
}

/// Drops a value of the user's; a panic in its drop has nobody left to go to.
fn drop_quietly<T>(value: T) {
    let _ = catch_unwind(AssertUnwindSafe(|| drop(value)));
}

unsafe fn poll<F: Future>(header: NonNull<Header>, waker: &Waker) -> bool {
    // SAFETY: the header is the first field of a `Body<F>` (repr(C)).
    let cell = unsafe { header.cast::<Body<F>>().as_ref() };
    // Outside of the closure: it is dropped with care if the future's drop panics.
    let mut value = None;
    let polled = catch_unwind(AssertUnwindSafe(|| {
        // SAFETY: the task is live and not being polled, so this is the only reference to the stage.
        let Stage::Live(future) = (unsafe { &mut *cell.stage.get() }) else {
            unreachable!("a live task holds its future")
        };
        // SAFETY: the future never moves: its cell is not moved, and it is dropped in place.
        let future = unsafe { Pin::new_unchecked(future) };
        let Poll::Ready(ready) = future.poll(&mut Context::from_waker(waker)) else { return false };
        value = Some(ready);
        // SAFETY: the reference above is not used any more.
        unsafe { drop_future(cell) };
        true
    }));
    let outcome = match (polled, value) {
        (Ok(false), _) => return false,
        (Ok(true), value) => Ok(value.expect("it was put there")),
        (Err(payload), None) => {
            // SAFETY: the poll unwound, so nobody refers to the stage; the future is not touched after this.
            match catch_unwind(AssertUnwindSafe(|| unsafe { drop_future(cell) })) {
                Ok(()) => Err(JoinError::panicked(payload)),
                Err(second) => {
                    drop_quietly(payload);
                    Err(JoinError::panicked(second))
                }
            }
        }
        (Err(payload), Some(value)) => {
            drop_quietly(value);
            Err(JoinError::panicked(payload))
        }
    };
    // SAFETY: the future was dropped, the stage is `Empty`.
    unsafe { finish(cell, outcome) };
    true
}

unsafe fn cancel<F: Future>(header: NonNull<Header>) {
    // SAFETY: as in `poll`.
    let cell = unsafe { header.cast::<Body<F>>().as_ref() };
    // SAFETY: live and not busy, so nobody refers to the stage; the future is not touched after this.
    let dropped = catch_unwind(AssertUnwindSafe(|| unsafe { drop_future(cell) }));
    let error = dropped.map_or_else(JoinError::panicked, |()| JoinError::cancelled());
    // SAFETY: the future was dropped, the stage is `Empty`.
    unsafe { finish(cell, Err(error)) };
}

unsafe fn take<F: Future>(header: NonNull<Header>, to: NonNull<()>) {
    // SAFETY: as in `poll`; a finished task is not polled, so this is the only reference to the stage.
    let stage = unsafe { &mut *header.cast::<Body<F>>().as_ref().stage.get() };
    match std::mem::replace(stage, Stage::Empty) {
        // SAFETY: the caller passes room for an `Outcome<F::Output>`.
        Stage::Finished(outcome) => unsafe { to.cast::<Outcome<F::Output>>().write(outcome) },
        _ => unreachable!("the result of a finished task is taken once"),
    }
}

/// The outcome of a finished task.
unsafe fn peek<F: Future>(header: NonNull<Header>) -> NonNull<()> {
    // SAFETY: as in `poll`; a finished task's stage is only read until its outcome is taken.
    match unsafe { &*header.cast::<Body<F>>().as_ref().stage.get() } {
        Stage::Finished(outcome) => NonNull::from(outcome).cast(),
        _ => unreachable!("a finished task has its result until that is taken"),
    }
}

unsafe fn free<F: Future>(header: NonNull<Header>) {
    let cell = header.cast::<Body<F>>();
    // SAFETY: as in `poll`.
    if unsafe { cell.as_ref().holds_anything() } {
        // SAFETY: nobody uses the cell any more.
        let _ = catch_unwind(AssertUnwindSafe(|| unsafe { std::ptr::drop_in_place(cell.as_ptr()) }));
    }
    // SAFETY: allocated with this layout in `TaskCell::new`.
    unsafe { memory::free(cell.cast(), Layout::new::<Body<F>>()) };
}
