//! Code of the user's that runs where a panic of it has nobody left to go to: drops, callbacks, results that nobody took.
//!
//! The panic hook has told of such a panic; its payload is dropped. That is the user's code as well and may panic in its turn,
//! with a payload whose drop panics, and so on: std aborts there (`std::thread`, "thread result panicked on drop"). Here a loop goes
//! on for the sake of its other tasks, and what never comes to an end is leaked.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Payloads that are dropped, each thrown by the drop of the one before. Arbitrary: one is rare.
const PAYLOADS_MAX: u32 = 16;

/// Runs `f`; its panic ends here. None if it panicked.
pub(crate) fn quietly<R>(f: impl FnOnce() -> R) -> Option<R> {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(result) => Some(result),
        Err(payload) => {
            drop_payload(payload);
            None
        }
    }
}

/// Drops what a panic was made with.
pub(crate) fn drop_payload(mut payload: Box<dyn Any + Send>) {
    for _ in 0..PAYLOADS_MAX {
        match catch_unwind(AssertUnwindSafe(|| drop(payload))) {
            Ok(()) => return,
            Err(next) => payload = next,
        }
    }
    std::mem::forget(payload);
}

/// Drops a value of the user's.
pub(crate) fn drop_quietly<T>(value: T) {
    quietly(|| drop(value));
}
