//! The remote inbox: how other threads reach a shard.
//!
//! Any thread pushes messages; the owner, one shard, takes them all at once. A push rings the doorbell (a write to
//! an eventfd, say) only when the owner sleeps, and only the first push of a sleep does: no system call while the
//! owner is awake. The inbox neither blocks nor knows what a doorbell is. Start at [`Inbox`].
//!
//! Queues beside the inbox (those of the mesh) share its sleep: their senders [`nudge`](Inbox::nudge), and the owner
//! looks at them in [`prepare_sleep`](Inbox::prepare_sleep).
//!
//! # The owner's side
//!
//! ```text
//! loop {
//!     run tasks
//!     if inbox.has_mail() { inbox.take(&mut batch); handle batch; continue }
//!     if inbox.prepare_sleep(|| queues beside it are empty) { wait in the kernel, which the doorbell ends; inbox.wake_up() }
//! }
//! ```

#![deny(unsafe_code)]

use std::collections::HashSet;
use std::fmt;
use std::hash::Hash;
use std::mem;

use crate::sync_shim::{AtomicBool, AtomicU8, Mutex, Ordering, fence};

/// At this many messages a push looks for repeated ones. Arbitrary: more than a shard leaves lying between two turns
/// of its loop, and some ten microseconds to look through.
const COLLAPSE_AT: usize = 1024;

/// The owner looks at the inbox by itself.
const AWAKE: u8 = 0;
/// The owner sleeps, or is about to: it must be rung.
const SLEEPING: u8 = 1;
/// The owner sleeps and somebody rings, or has rung.
const RUNG: u8 = 2;

/// Ends the owner's wait in the kernel.
pub(crate) trait Doorbell {
    /// Called by any thread, at most once for each sleep that the owner announces, after the message is in the inbox.
    fn ring(&self);
}

/// What an inbox carries. One with a key is dropped under the inbox's lock, so dropping it must not push.
pub(crate) trait Message {
    /// Names what repeated messages have in common.
    type Key: Eq + Hash;

    /// Of several messages with the same key in one batch the first is enough. None: each one counts.
    fn collapse_key(&self) -> Option<Self::Key>;
}

/// A message was pushed after the owner had closed the inbox. Gives it back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Closed<M>(pub(crate) M);

/// Many senders, one owner.
///
/// ```text
///           wake_up                 wake_up
///        .-----------> Awake <------------------.
///        |               | prepare_sleep        |
///        |               v                      |
///        '---------- Sleeping -------------> Rung
///                              nudge: rings
/// ```
///
/// The owner changes its state with plain stores; only who finds it asleep makes an atomic exchange, once a sleep. A sleep is
/// announced before the last look for mail: one that is called off may have been rung.
///
/// # Bound
///
/// Where a push finds [`COLLAPSE_AT`] messages, it drops those whose key an earlier one has (amortised O(1) a push).
/// So with `n` messages that are no repetition the inbox holds at most `max(COLLAPSE_AT, 2 n)`. Keys are bounded by
/// what they name, tasks and their handles; messages without a key by whoever sends them.
pub(crate) struct Inbox<M, D> {
    /// `AWAKE`, `SLEEPING` or `RUNG`.
    state: AtomicU8,
    /// Whether there are messages. Changed only under the lock of the queue, so that it agrees with the queue.
    has_mail: AtomicBool,
    queue: Mutex<Queue<M>>,
    doorbell: D,
}

struct Queue<M> {
    messages: Vec<M>,
    /// The number of messages at which repeated ones are looked for next.
    collapse_at: usize,
    /// Set once, by the owner; never cleared.
    is_closed: bool,
}

impl<M: Message, D: Doorbell> Inbox<M, D> {
    /// An empty inbox whose owner is awake.
    pub(crate) fn new(doorbell: D) -> Self {
        let queue = Queue { messages: Vec::new(), collapse_at: COLLAPSE_AT, is_closed: false };
        Inbox {
            state: AtomicU8::new(AWAKE),
            has_mail: AtomicBool::new(false),
            queue: Mutex::new(queue),
            doorbell,
        }
    }

    /// Any thread: leaves a message, and rings if the owner sleeps and nobody has rung before.
    ///
    /// # Errors
    ///
    /// The message, if the owner has closed the inbox.
    pub(crate) fn push(&self, message: M) -> Result<(), Closed<M>> {
        let is_first = {
            let mut queue = self.lock();
            if queue.is_closed {
                return Err(Closed(message));
            }
            let is_first = queue.messages.is_empty();
            queue.push(message);
            // Relaxed: that the owner sees the message follows from the lock, see `has_mail`; that it does not sleep over
            // it from the fence in `nudge`.
            self.has_mail.store(true, Ordering::Relaxed);
            is_first
        };
        // Outside of the lock: a system call, and the woken owner takes the lock at once. Who comes second leaves the
        // ringing to the first.
        if is_first {
            self.nudge();
        }
        Ok(())
    }

    /// Any thread: rings if the owner sleeps and nobody has rung before. What it is to find must have been written before.
    #[inline]
    pub(crate) fn nudge(&self) {
        // Pairs with the fence in `prepare_sleep`: either the owner sees there what was written before this one, or this
        // sees it asleep.
        fence(Ordering::SeqCst);
        self.nudge_behind_fence();
    }

    /// [`nudge`](Self::nudge) of a caller that has made a sequentially consistent fence since it wrote: one fence for
    /// several owners.
    #[inline]
    pub(crate) fn nudge_behind_fence(&self) {
        if self.is_to_be_rung_behind_fence() {
            self.doorbell.ring();
        }
    }

    /// As [`nudge_behind_fence`](Self::nudge_behind_fence), but leaves the ringing to the caller: if true, nobody else will, and the
    /// owner sleeps until the caller has.
    #[inline]
    #[must_use]
    pub(crate) fn is_to_be_rung_behind_fence(&self) -> bool {
        // A plain look first: while the owner is awake its cache line stays where it is.
        self.state.load(Ordering::Relaxed) == SLEEPING && self.win_ring()
    }

    #[cold]
    fn win_ring(&self) -> bool {
        // Relaxed: one variable, and it carries no data. Who wins rings, so that there is one ring a sleep.
        self.state.compare_exchange(SLEEPING, RUNG, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Owner: whether there are messages. As cheap as reading a field while there are none.
    #[inline]
    pub(crate) fn has_mail(&self) -> bool {
        // Relaxed: `push` sets it inside the lock. Having seen it, the owner's `take` locks after that `push` did
        // (or else its unlock would come before the write that was seen here), and finds the message.
        self.has_mail.load(Ordering::Relaxed)
    }

    /// Owner: moves all messages, in the order of their pushes, to the empty `batch`, and leaves its memory for those
    /// to come.
    ///
    /// # Panics
    ///
    /// If `batch` is not empty.
    pub(crate) fn take(&self, batch: &mut Vec<M>) {
        assert!(batch.is_empty(), "messages of the batch before were not handled");
        let mut queue = self.lock();
        mem::swap(&mut queue.messages, batch);
        queue.collapse_at = COLLAPSE_AT;
        // Relaxed: as in `push`; under the lock it cannot wipe out the mark of a message that was not taken.
        self.has_mail.store(false, Ordering::Relaxed);
    }

    /// Owner: announces a sleep. False if there is mail, or `is_quiet` says that something else is there, whose senders
    /// nudge: do not sleep. If true, the next push or nudge rings, and the owner calls [`wake_up`](Self::wake_up) when it is
    /// awake again, whatever woke it.
    #[inline]
    #[must_use]
    pub(crate) fn prepare_sleep(&self, is_quiet: impl FnOnce() -> bool) -> bool {
        self.state.store(SLEEPING, Ordering::Relaxed);
        // Pairs with the fence in `nudge`, see there.
        fence(Ordering::SeqCst);
        if self.has_mail() || !is_quiet() {
            // Who has seen the announcement by now rings, and that ends the next sleep early.
            self.wake_up();
            return false;
        }
        true
    }

    /// Owner: the sleep is over, pushes do not ring any more. One that saw it asleep may still be about to: its ring
    /// then comes while the owner is awake, or ends its next sleep early.
    #[inline]
    pub(crate) fn wake_up(&self) {
        // Relaxed: a push that still sees the sleep rings once too often; what it left is found before the next sleep.
        self.state.store(AWAKE, Ordering::Relaxed);
    }

    /// Owner: refuses further messages and gives back those that were not taken. Wakers outlive their runtime; their
    /// messages must not pile up.
    pub(crate) fn close(&self) -> Vec<M> {
        let mut queue = self.lock();
        queue.is_closed = true;
        self.has_mail.store(false, Ordering::Relaxed);
        mem::take(&mut queue.messages)
    }

    /// The doorbell, for the owner to read it out.
    pub(crate) fn doorbell(&self) -> &D {
        &self.doorbell
    }

    #[cfg(not(annulet_loom))]
    fn lock(&self) -> std::sync::MutexGuard<'_, Queue<M>> {
        // A panic under the lock can come only from a message's `Eq` or `Hash`, between two whole steps.
        self.queue.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    #[cfg(annulet_loom)]
    fn lock(&self) -> loom::sync::MutexGuard<'_, Queue<M>> {
        self.queue.lock().unwrap()
    }
}

impl<M: Message> Queue<M> {
    fn push(&mut self, message: M) {
        if self.messages.len() >= self.collapse_at {
            self.collapse();
        }
        self.messages.push(message);
    }

    /// Drops messages whose key an earlier one has.
    #[cold]
    fn collapse(&mut self) {
        let mut seen = HashSet::new();
        self.messages.retain(|message| message.collapse_key().is_none_or(|key| seen.insert(key)));
        // Twice what is left: the work is paid for by as many pushes.
        self.collapse_at = (2 * self.messages.len()).max(COLLAPSE_AT);
    }
}

impl<M, D> fmt::Debug for Inbox<M, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state.load(Ordering::Relaxed) {
            AWAKE => "Awake",
            SLEEPING => "Sleeping",
            _ => "Rung",
        };
        f.debug_struct("Inbox").field("state", &state).finish_non_exhaustive()
    }
}

#[cfg(all(test, not(annulet_loom)))]
mod tests;

#[cfg(all(test, annulet_loom))]
pub(crate) mod loom_tests;
