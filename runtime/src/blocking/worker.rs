//! The life of a pool's thread.

use std::sync::Arc;
use std::task::Waker;
use std::thread;
use std::time::Instant;

use super::pool::Shared;
use crate::placement;

/// Runs jobs until there was none for the time that the pool keeps a thread.
pub(super) fn work(shared: &Arc<Shared>, number: usize) {
    // A loop's thread is bound to one core, and whom it starts inherits that: there the job would stand in its way.
    placement::unpin_current_thread();
    let mut queue = shared.queue();
    loop {
        if let Some((job, woken)) = queue.take() {
            drop(queue);
            woken.into_iter().for_each(Waker::wake);
            job.run();
            queue = shared.queue();
            continue;
        }
        if queue.is_closed() {
            break;
        }
        queue.lie_down(number, thread::current());
        let lain_down = Instant::now();
        loop {
            drop(queue);
            // Wakes also for no reason, or for one that a job left behind.
            thread::park_timeout(shared.keep_alive.saturating_sub(lain_down.elapsed()));
            queue = shared.queue();
            if !queue.is_idle(number) {
                break;
            }
            if lain_down.elapsed() >= shared.keep_alive {
                let watchers = queue.leave(number);
                drop(queue);
                watchers.into_iter().for_each(Waker::wake);
                return;
            }
        }
    }
    let watchers = queue.leave(number);
    drop(queue);
    watchers.into_iter().for_each(Waker::wake);
}
