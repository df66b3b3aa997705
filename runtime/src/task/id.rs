//! What names a task.

use std::fmt;

use crate::shard::ShardKey;

/// Which task of its shard: slot and generation. A stale id finds nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct TaskId {
    pub(crate) slot: u32,
    pub(crate) generation: u32,
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
            TaskId { slot, generation } => write!(f, "{slot}.{generation}"),
        }
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Id({self})")
    }
}
