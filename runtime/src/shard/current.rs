//! The shard of the calling thread.

#![allow(unsafe_code)]

use std::cell::Cell;
use std::ptr;
use std::rc::Rc;

use super::Shard;

thread_local! {
    /// Null outside of the run loop.
    static CURRENT: Cell<*const Shard> = const { Cell::new(ptr::null()) };
}

/// Makes a shard the thread's current one until it is dropped.
#[derive(Debug)]
pub(crate) struct Entered {
    /// Keeps the shard alive as long as the thread points to it.
    shard: Rc<Shard>,
}

impl Entered {
    /// # Panics
    ///
    /// When the thread is inside another one: a loop inside a loop would stop the outer one.
    pub(crate) fn new(shard: Rc<Shard>) -> Self {
        assert_no_loop();
        CURRENT.set(Rc::as_ptr(&shard));
        Entered { shard }
    }

    pub(crate) fn shard(&self) -> &Rc<Shard> {
        &self.shard
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        CURRENT.with(|current| current.set(ptr::null()));
    }
}

/// # Panics
///
/// Inside of a loop.
pub(crate) fn assert_no_loop() {
    assert!(
        CURRENT.get().is_null(),
        "annulet::run was called from inside a running loop; await the future or spawn it instead"
    );
}

/// Calls `f` with the thread's shard, if it has one.
#[inline]
pub(crate) fn with_current<R>(f: impl FnOnce(Option<&Shard>) -> R) -> R {
    let current = CURRENT.get();
    // SAFETY: not null only while an `Entered` on this thread holds the shard; it can be dropped only after `f`, which
    // runs on the same thread: `Entered` lives on the stack of the run loop, below this frame.
    f(unsafe { current.as_ref() })
}

/// The thread's shard, to be kept.
pub(crate) fn try_current() -> Option<Rc<Shard>> {
    with_current(|current| {
        current.map(|shard| {
            let shard: *const Shard = shard;
            // SAFETY: the pointer came from an Rc that lives (see `with_current`), so its count may be raised.
            unsafe {
                Rc::increment_strong_count(shard);
                Rc::from_raw(shard)
            }
        })
    })
}

/// The thread's shard, to be kept.
///
/// # Panics
///
/// Outside of the run loop.
#[track_caller]
pub(crate) fn current() -> Rc<Shard> {
    // Not a closure: the panic names the caller's line.
    match try_current() {
        Some(shard) => shard,
        None => no_loop(),
    }
}

/// # Panics
///
/// That there is no loop.
#[cold]
#[track_caller]
pub(crate) fn no_loop() -> ! {
    panic!(
        "there is no annulet loop on this thread; call this from inside annulet::run or a #[annulet::main] function"
    )
}
