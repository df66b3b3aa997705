//! What names a task.

use std::fmt;

use crate::shard::ShardKey;

/// Bits of a slot's number: 16 million tasks a shard.
const SLOT_BITS: u32 = 24;
const SLOT_MASK: u64 = (1 << SLOT_BITS) - 1;
/// The largest slot.
pub(crate) const SLOT_MAX: u32 = SLOT_MASK as u32;
/// Generations of a slot count modulo this mask.
pub(crate) const GENERATION_MASK: u32 = (1 << 24) - 1;

/// Which task of its shard: slot and generation. A stale id finds nothing.
///
/// One word, because a handle made of smaller fields is written piece by piece and read back whole when it is moved, which
/// a processor cannot forward from its store buffer: some five nanoseconds each time.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct TaskId(u64);

impl TaskId {
    /// Bits of [`word`](Self::word).
    pub(crate) const BITS: u32 = 48;
    /// No task.
    pub(crate) const NONE: TaskId = TaskId(u64::MAX);

    #[inline]
    pub(crate) const fn new(slot: u32, generation: u32) -> Self {
        debug_assert!(slot <= SLOT_MAX && generation <= GENERATION_MASK);
        TaskId((generation as u64) << SLOT_BITS | slot as u64)
    }

    #[inline]
    pub(crate) const fn slot(self) -> u32 {
        (self.0 & SLOT_MASK) as u32
    }

    #[inline]
    pub(crate) const fn generation(self) -> u32 {
        (self.0 >> SLOT_BITS) as u32
    }

    /// The id in [`BITS`](Self::BITS) bits.
    #[inline]
    pub(crate) const fn word(self) -> u64 {
        self.0
    }

    /// The id in the lowest [`BITS`](Self::BITS) bits of `word`.
    #[inline]
    pub(crate) const fn from_word(word: u64) -> Self {
        TaskId(word & ((1 << Self::BITS) - 1))
    }
}

impl fmt::Debug for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TaskId({}.{})", self.slot(), self.generation())
    }
}

/// Names a task among all tasks of the process. It is never that of another live task; a loop gives it anew after its
/// slot was used 16 million times.
///
/// As text it is `SLOT.GENERATION`: the task's place in its loop, and how often that place was used before. The future
/// that [`run`](crate::run) was called with is `main`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Id {
    pub(crate) shard: ShardKey,
    pub(crate) task: TaskId,
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.task {
            crate::executor::MAIN => f.write_str("main"),
            task => write!(f, "{}.{}", task.slot(), task.generation()),
        }
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Id({self})")
    }
}
