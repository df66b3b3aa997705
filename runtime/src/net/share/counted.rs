//! A connection's place at a core.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Group;
use crate::shard::with_current;

/// One connection's count, given up when it is dropped.
pub(crate) struct Counted {
    pub(super) group: Arc<Group>,
    pub(super) core: usize,
}

impl Counted {
    /// For a connection that has moved here: counted anew, at this core.
    pub(in crate::net) fn moved(group: &Arc<Group>) -> Option<Box<Self>> {
        let seat = with_current(|shard| shard.and_then(|shard| shard.seat.get()));
        let core = seat.filter(|&core| core < group.seats.len())?;
        group.seats[core].served.fetch_add(1, Ordering::Relaxed);
        Some(group.count(core))
    }

    pub(in crate::net) fn group(&self) -> Arc<Group> {
        Arc::clone(&self.group)
    }
}

impl fmt::Debug for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Counted").field("core", &self.core).finish_non_exhaustive()
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.group.leave(self.core);
    }
}
