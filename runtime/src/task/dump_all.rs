//! The task dumps of all loops of the process, gathered by one of them.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::{Dump, dump};
use crate::shard::{self, Message, ShardKey};

/// The dumps of the loops of a process; made by [`dump_all`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Dumps {
    /// Those that came in time, by the names of their threads.
    pub loops: Vec<Dump>,
    /// Loops that did not answer in time. Such a loop is stuck in a poll, or has ended meanwhile.
    pub silent: usize,
}

/// What every live task of every loop of the process is doing. Loops that do not answer within `at_most` are left out, and
/// counted.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// annulet::run(async {
///     let dumps = annulet::task::dump_all(Duration::from_secs(1)).await;
///     dumps.loops.iter().for_each(|dump| print!("{dump}"));
/// });
/// ```
///
/// # Panics
///
/// Outside of a loop.
///
/// # Cancel safety
///
/// Safe; nothing is gathered any more once it is dropped.
pub async fn dump_all(at_most: Duration) -> Dumps {
    let asking = Asking::begin();
    let asked = shard::send_to_all(Message::Gather);
    // Late is as good as never: what came in time is told.
    let _ = crate::time::timeout(at_most, poll_fn(|cx| asking.0.poll_full(asked, cx))).await;
    let mut dumps = std::mem::take(&mut asking.0.lock().dumps);
    dumps.sort_by(|(_, one), (_, two)| one.thread.cmp(&two.thread));
    let silent = asked.saturating_sub(dumps.len());
    Dumps { loops: dumps.into_iter().map(|(_, dump)| dump).collect(), silent }
}

/// Gatherings under way, of all loops.
static ASKING: Mutex<Vec<Arc<Gathering>>> = Mutex::new(Vec::new());

fn asking() -> MutexGuard<'static, Vec<Arc<Gathering>>> {
    ASKING.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Debug, Default)]
struct Gathering(Mutex<Gathered>);

#[derive(Debug, Default)]
struct Gathered {
    dumps: Vec<(ShardKey, Dump)>,
    waker: Option<Waker>,
}

impl Gathering {
    fn lock(&self) -> MutexGuard<'_, Gathered> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn poll_full(&self, asked: usize, cx: &Context<'_>) -> Poll<()> {
        // Outside of the lock: it may be anybody's code.
        let waker = cx.waker().clone();
        let mut gathered = self.lock();
        if gathered.dumps.len() >= asked {
            drop(gathered);
            return Poll::Ready(());
        }
        let old = gathered.waker.replace(waker);
        drop(gathered);
        drop(old);
        Poll::Pending
    }
}

/// A gathering among the others, until it is dropped.
struct Asking(Arc<Gathering>);

impl Asking {
    fn begin() -> Self {
        let gathering = Arc::<Gathering>::default();
        asking().push(Arc::clone(&gathering));
        Asking(gathering)
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        asking().retain(|other| !Arc::ptr_eq(other, &self.0));
    }
}

/// On a loop that was asked: gives its dump to all who want it.
pub(crate) fn give(shard: ShardKey) {
    let wanted = asking().clone();
    for gathering in wanted {
        if gathering.lock().dumps.iter().any(|(from, _)| *from == shard) {
            continue;
        }
        let dump = dump();
        let mut gathered = gathering.lock();
        gathered.dumps.push((shard, dump));
        let waker = gathered.waker.take();
        drop(gathered);
        waker.into_iter().for_each(Waker::wake);
    }
}
