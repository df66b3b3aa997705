//! tokio: a current_thread runtime with its I/O driver on each of two pinned threads, and its `mpsc`.

use std::thread;

use rustix::thread::{CpuSet, sched_setaffinity};
use tokio::sync::{mpsc, oneshot};

use super::{CAPACITY, ReceiveEnd, STREAM_CAPACITY, SendEnd, cores};
use crate::rows::{Measure, Row};

impl SendEnd<u64> for mpsc::Sender<u64> {
    async fn send(&mut self, value: u64) {
        mpsc::Sender::send(self, value).await.expect("the other core receives");
    }
}

impl ReceiveEnd<u64> for mpsc::Receiver<u64> {
    async fn receive(&mut self) -> Option<u64> {
        self.recv().await
    }
}

pub fn run(row: Row, count: u64) -> Option<Measure> {
    with(row, count, mpsc::channel)
}

/// The rows with the channels that `channel` makes, on tokio's loops.
pub(super) fn with<S, R>(row: Row, count: u64, channel: impl Fn(usize) -> (S, R)) -> Option<Measure>
where
    S: SendEnd<u64> + Send,
    R: ReceiveEnd<u64> + Send,
{
    let measure = match row {
        Row::CoreIdle | Row::CoreBusy => {
            let ((there, receiver), (sender, back)) = (channel(CAPACITY), channel(CAPACITY));
            let is_busy = row == Row::CoreBusy;
            on_two_cores(
                is_busy,
                move || super::ping(there, back, count),
                move || super::pong(receiver, sender),
            )
        }
        Row::CoreStream => {
            let (there, receiver) = channel(STREAM_CAPACITY);
            let (told, sum) = oneshot::channel();
            on_two_cores(
                false,
                move || super::stream(there, async { sum.await.expect("it is told") }, count),
                move || async move { told.send(super::sum(receiver).await).expect("somebody asks") },
            )
        }
        // There is no such setting.
        _ => return None,
    };
    Some(measure)
}

/// Runs a future on each core; gives what the first says.
fn on_two_cores<A, B, T>(
    is_busy: bool,
    first: impl FnOnce() -> A + Send,
    second: impl FnOnce() -> B + Send,
) -> T
where
    A: Future<Output = T>,
    B: Future<Output = ()>,
    T: Send,
{
    thread::scope(|scope| {
        let [here, there] = cores();
        let second = scope.spawn(move || block_on(there, is_busy, second()));
        let first = scope.spawn(move || block_on(here, is_busy, first()));
        second.join().expect("the second core ends well");
        first.join().expect("the first core ends well")
    })
}

fn block_on<T>(core: usize, is_busy: bool, future: impl Future<Output = T>) -> T {
    let mut mask = CpuSet::new();
    mask.set(core);
    sched_setaffinity(None, &mask).expect("the core may be used");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("tokio starts");
    runtime.block_on(async {
        if is_busy {
            tokio::spawn(async {
                loop {
                    tokio::task::yield_now().await;
                }
            });
        }
        future.await
    })
}
