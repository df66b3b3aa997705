//! The rows between two cores: a thread and a loop on each, and a number that goes from one to the other.
//!
//! | row | what is measured | the loops meanwhile |
//! |---|---|---|
//! | `core-idle` | there and back | have nothing else to do: each sleeps in the kernel until it is rung |
//! | `core-busy` | there and back | never sleep: a second task on each gives way for ever |
//! | `core-spin` | there and back | look for a millisecond before they sleep, where a runtime has such a setting |
//! | `core-stream` | one message of a stream in one direction, 1024 at most under way | as it comes |
//!
//! glommio looks at its channels between preemptions only, some milliseconds apart, when a task never waits. So its
//! `core-busy` is its `core-spin`, which is kinder to it.

mod on_annulet;
mod on_flume;
mod on_glommio;
mod on_tokio;

use std::time::{Duration, Instant};

use crate::rows::{Measure, Row};

pub use on_annulet::run as run_annulet;
pub use on_flume::run as run_flume;
pub use on_glommio::run as run_glommio;
pub use on_tokio::run as run_tokio;

/// Messages under way in the rows that go there and back; one is all it takes.
const CAPACITY: usize = 64;
/// Messages under way in a stream.
const STREAM_CAPACITY: usize = 1024;
/// Longer than anything that is waited for.
const SPIN: Duration = Duration::from_millis(1);

/// The first two cores that may be used.
fn cores() -> [usize; 2] {
    let cores = annulet::placement::available_cores().expect("the kernel tells which cores may be used");
    match cores[..] {
        [first, second, ..] => [first, second],
        _ => panic!("the rows between cores need two of them"),
    }
}

/// One end of a channel in one direction.
trait SendEnd<T> {
    async fn send(&mut self, value: T);
}

/// The other end.
trait ReceiveEnd<T> {
    /// None when nobody sends any more.
    async fn receive(&mut self) -> Option<T>;
}

/// The side that measures a way there and back.
async fn ping(mut there: impl SendEnd<u64>, mut back: impl ReceiveEnd<u64>, count: u64) -> Measure {
    let start = Instant::now();
    for i in 0..count {
        there.send(i).await;
        assert_eq!(back.receive().await, Some(i));
    }
    Measure::since(start, count)
}

/// The other side.
async fn pong(mut there: impl ReceiveEnd<u64>, mut back: impl SendEnd<u64>) {
    while let Some(i) = there.receive().await {
        back.send(i).await;
    }
}

/// The side that sends a stream; it measures until `received` tells the sum of what has arrived.
async fn stream(mut there: impl SendEnd<u64>, received: impl Future<Output = u64>, count: u64) -> Measure {
    let start = Instant::now();
    for i in 0..count {
        there.send(i).await;
    }
    drop(there);
    assert_eq!(received.await, count * (count - 1) / 2);
    Measure::since(start, count)
}

/// The side that receives it.
async fn sum(mut there: impl ReceiveEnd<u64>) -> u64 {
    let mut sum = 0;
    while let Some(i) = there.receive().await {
        sum += i;
    }
    sum
}

/// Whether a row is one of these.
pub fn is_one(row: Row) -> bool {
    matches!(row, Row::CoreIdle | Row::CoreBusy | Row::CoreSpin | Row::CoreStream)
}
