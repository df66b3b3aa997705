//! What a plan wants done, and what workers are told.

use std::time::Duration;

/// Which worker, among all that ever were.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::supervisor) struct WorkerId(pub(in crate::supervisor) u64);

/// What a worker is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::supervisor) enum Order {
    /// All serve: who is beside them may say so.
    AllServe,
    /// The end is near: say so to who asks, and go on.
    Drain,
    /// Accept no more, finish.
    Stop,
    /// The same, and another has taken the place.
    Replaced,
}

impl Order {
    pub(in crate::supervisor) const ALL: [Order; 4] =
        [Order::AllServe, Order::Drain, Order::Stop, Order::Replaced];
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::supervisor) enum Action {
    Start {
        worker: WorkerId,
        slot: usize,
    },
    Tell(WorkerId, Order),
    /// The process of a thread ends with it.
    Kill(WorkerId, Late),
    /// It cannot be killed, and the others go on.
    LeaveAlone(WorkerId, Late),
    /// Every slot serves, for the first time.
    Ready,
    /// The roll is over; not every slot has a new worker if it failed.
    Rolled {
        is_whole: bool,
    },
    /// A slot starts again after this pause.
    BackOff {
        slot: usize,
        pause: Duration,
    },
    /// A slot's workers fail to start; everything ends.
    GiveUp {
        slot: usize,
    },
}

/// What a worker was too late with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::supervisor) enum Late {
    Starting,
    Leaving,
    /// There is no more patience: a second signal, or an end in failure.
    AtOnce,
}
