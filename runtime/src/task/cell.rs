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

use super::status::{Phase, Status};
use super::{JoinError, memory};
use crate::panics::{drop_payload, drop_quietly, quietly};

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
    /// Whether the loop waits for the task before it ends.
    is_finaliser: bool,
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
    /// None: no name, no callbacks, no finaliser.
    extra: Cell<Option<Box<Extra>>>,
    /// Who awaits the handle.
    pub(crate) waiter: Cell<Option<Waker>>,
    pub(crate) status: Status,
}

// A cache line. With the future of a sleep behind it, a task takes 112 bytes of malloc's.
const _: () = assert!(size_of::<Header>() == 64);

struct VTable {
    poll: unsafe fn(NonNull<Header>, &Waker) -> bool,
    cancel: unsafe fn(NonNull<Header>),
    take_and_free: unsafe fn(NonNull<Header>, NonNull<()>),
    peek: unsafe fn(NonNull<Header>) -> NonNull<()>,
    free: unsafe fn(NonNull<Header>),
}

#[repr(C)]
struct Body<F: Future> {
    /// First, so that a pointer to the cell is a pointer to its header.
    header: Header,
    stage: UnsafeCell<Stage<F>>,
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
                take_and_free: take_and_free::<F>,
                peek: peek::<F>,
                free: free::<F>,
            }
        };
        let Origin { name, location, now, is_finaliser } = origin;
        let extra = (name.is_some() || is_finaliser)
            .then(|| Box::new(Extra { name, on_done: Vec::new(), is_finaliser }));
        let cell = memory::allocate(Layout::new::<Body<F>>()).cast::<Body<F>>();
        let place = cell.as_ptr();
        // One field after the other, where it is to be: made on the stack and copied from there in larger words than it was
        // written in, the header would wait for its own stores (see `TaskId`).
        // SAFETY: freshly allocated with this type's layout, and nobody else has it; every field is written.
        unsafe {
            let header = &raw mut (*place).header;
            (&raw mut (*header).vtable).write(vtable);
            (&raw mut (*header).location).write(location);
            (&raw mut (*header).extra).write(Cell::new(extra));
            (&raw mut (*header).waiter).write(Cell::new(None));
            (&raw mut (*header).status).write(Status::new(now));
            (&raw mut (*place).stage).write(UnsafeCell::new(Stage::Live(future)));
        }
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
        header.status.phase.set(Phase::Busy);
        // SAFETY: the vtable is the one of this cell's type; the caller passes on the rest.
        let is_done = unsafe { (header.vtable.poll)(self.0, waker) };
        header.status.phase.set(if is_done { Phase::Finished } else { Phase::Waiting });
        is_done
    }

    /// Drops the future and makes "cancelled" the result (or a panic of its drop).
    ///
    /// # Safety
    ///
    /// The task is live and not busy.
    pub(crate) unsafe fn cancel(&self) {
        let header = self.header();
        header.status.phase.set(Phase::Busy);
        // SAFETY: as in `poll`.
        unsafe { (header.vtable.cancel)(self.0) };
        header.status.phase.set(Phase::Finished);
    }

    /// Moves the result out and gives the memory back.
    ///
    /// # Safety
    ///
    /// The task is finished, its result was not taken, and its future's output is `T`. No other name of this cell is used
    /// after this.
    #[inline]
    pub(crate) unsafe fn take_and_free<T>(self) -> Outcome<T> {
        let mut outcome = std::mem::MaybeUninit::<Outcome<T>>::uninit();
        // SAFETY: the caller vouches for `T`; that of this cell's type writes an `Outcome<T>` to the pointer.
        unsafe {
            (self.header().vtable.take_and_free)(self.0, NonNull::from(&mut outcome).cast());
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
        if self.header().status.is_finished() {
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

    /// Drops a result that nobody took, and gives the memory back.
    ///
    /// # Safety
    ///
    /// The task is finished, its result was not taken, and no other name of this cell is used after this.
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
    if cell.header.has_extra() {
        // SAFETY: the cell is of type `F` and holds an outcome.
        cell.header.call_on_done(|| unsafe { peek::<F>(NonNull::from(cell).cast()) });
    }
}

impl Header {
    /// Whether the task has anything that most have not.
    #[inline]
    fn has_extra(&self) -> bool {
        // SAFETY: a cell of this thread; nothing changes it while it is looked at.
        unsafe { (*self.extra.as_ptr()).is_some() }
    }

    fn with_extra<R>(&self, look: impl FnOnce(&Extra) -> R) -> Option<R> {
        // SAFETY: as above, for what `look` is in this file: it calls nothing that could change the cell.
        unsafe { (*self.extra.as_ptr()).as_deref() }.map(look)
    }

    /// The task's name.
    pub(crate) fn name(&self) -> Option<Rc<str>> {
        self.with_extra(|extra| extra.name.clone()).flatten()
    }

    /// Whether the loop waits for the task before it ends.
    #[inline]
    pub(crate) fn is_finaliser(&self) -> bool {
        self.has_extra() && self.with_extra(|extra| extra.is_finaliser).unwrap_or(false)
    }

    /// Calls what was registered, and what that registers. The task is not marked as finished yet, so that its result
    /// can be neither taken nor freed meanwhile.
    #[cold]
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
                quietly(|| callback(outcome));
            }
        }
    }
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
                    drop_payload(payload);
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

unsafe fn take_and_free<F: Future>(header: NonNull<Header>, to: NonNull<()>) {
    let cell = header.cast::<Body<F>>();
    // SAFETY: as in `poll`; a finished task is not polled, so this is the only reference to the stage.
    let Stage::Finished(outcome) = (unsafe { &mut *cell.as_ref().stage.get() }) else {
        unreachable!("the result of a finished task is taken once")
    };
    // SAFETY: the caller passes room for an `Outcome<F::Output>`. The one in the cell is not dropped: `release` drops the
    // header only.
    unsafe {
        // By value, not as bytes: in the words in which it was written.
        to.cast::<Outcome<F::Output>>().write(std::ptr::read(outcome));
        release::<F>(cell);
    }
}

/// Drops what a header may hold and gives the memory back.
///
/// # Safety
///
/// The stage was dropped or moved out, and nobody uses the cell any more.
#[inline]
unsafe fn release<F: Future>(cell: NonNull<Body<F>>) {
    #[cold]
    fn drop_rest(header: &Header) {
        let (extra, waiter) = (header.extra.take(), header.waiter.take());
        drop_quietly(extra);
        drop_quietly(waiter);
    }
    // SAFETY: as in `poll`.
    let header = unsafe { &cell.as_ref().header };
    // SAFETY: a cell of this thread; nothing changes it while it is looked at.
    if header.has_extra() || unsafe { (*header.waiter.as_ptr()).is_some() } {
        drop_rest(header);
    }
    // SAFETY: allocated with this layout in `TaskCell::new`. What is left in it needs no drop.
    unsafe { memory::free(cell.cast(), Layout::new::<Body<F>>()) };
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
    // SAFETY: nobody uses the cell any more, and the stage is not touched after this.
    let drop_stage = || unsafe { std::ptr::drop_in_place((*cell.as_ptr()).stage.get()) };
    // A panic in the drop of a result that nobody took has nobody left to go to.
    quietly(drop_stage);
    // SAFETY: the stage is gone.
    unsafe { release::<F>(cell) };
}
