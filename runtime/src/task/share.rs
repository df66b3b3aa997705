//! Fairness among futures that one task polls together: a select, a join, a time limit.
//!
//! A poll of a task may complete so many operations; beyond them everything that it awaits says Pending, so that other
//! tasks have their turn. A future that always has something to do (a stream whose bytes are there already) takes all of
//! them in every poll, and those beside it would never get one: a time limit would never pass. So each of them is left one.

use crate::shard::with_current;

/// Whether the task had operations left when it began to poll several futures.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Share(bool);

impl Share {
    /// Asked before the first of the futures is polled.
    #[inline]
    pub(crate) fn before() -> Self {
        Share(with_current(|shard| shard.is_some_and(|shard| shard.executor.has_share())))
    }

    /// Before each of the others: leaves it one operation if those before it took all that there were.
    ///
    /// If there was none to begin with there is none now either. So a loop around a select ends its turn.
    #[inline]
    pub(crate) fn leave_one(self) {
        if self.0 {
            with_current(|shard| {
                if let Some(shard) = shard {
                    shard.executor.leave_one_share();
                }
            });
        }
    }
}
