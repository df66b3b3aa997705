//! The rows, and what they have in common: each runtime brings its primitives as a module `p`, the loops are the same.

use std::fmt;
use std::fs::File;
use std::future::poll_fn;
use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU8, AtomicU64};
use std::task::Poll;
use std::time::{Duration, Instant};

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Row {
    /// Spawn a task and await its handle.
    Spawn,
    /// The same with a task that yields once, so that it goes through the queue also where `spawn` polls it at once.
    SpawnYield,
    /// Two tasks that yield to each other: one yield.
    Yield,
    /// There and back through two oneshot channels that are made for it.
    Oneshot,
    /// One message of a producer to a consumer through a bounded channel of 64.
    Mpsc,
    /// A contended mutex goes from one task to another, with two yields.
    Mutex,
    /// A sleep is started and dropped.
    Timer,
    /// So many tasks sleep for half a second at once.
    Sleepers,
    /// 64 bytes there and back, two tasks of one loop, over TCP.
    Tcp,
    /// The same over UDP.
    Udp,
    /// The same over a Unix stream.
    Unix,
    /// A random read of 4 KiB out of the page cache, 32 at a time.
    Read,
    /// The same from the device, with O_DIRECT.
    ReadDirect,
    /// From one core to another and back; both sleep in between. This and the next three: see `cross`.
    CoreIdle,
    /// The same; neither sleeps.
    CoreBusy,
    /// The same; both look for a while before they sleep.
    CoreSpin,
    /// One message of a stream from one core to another.
    CoreStream,
}

const ROWS: &[(&str, Row)] = &[
    ("spawn", Row::Spawn),
    ("spawn-yield", Row::SpawnYield),
    ("yield", Row::Yield),
    ("oneshot", Row::Oneshot),
    ("mpsc", Row::Mpsc),
    ("mutex", Row::Mutex),
    ("timer", Row::Timer),
    ("sleepers", Row::Sleepers),
    ("tcp", Row::Tcp),
    ("udp", Row::Udp),
    ("unix", Row::Unix),
    ("read", Row::Read),
    ("read-direct", Row::ReadDirect),
    ("core-idle", Row::CoreIdle),
    ("core-busy", Row::CoreBusy),
    ("core-spin", Row::CoreSpin),
    ("core-stream", Row::CoreStream),
];

impl Row {
    pub fn named(name: &str) -> Option<Row> {
        ROWS.iter().find(|(known, _)| *known == name).map(|(_, row)| *row)
    }

    pub fn names() -> String {
        ROWS.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(" ")
    }
}

/// What came out.
#[derive(Clone, Copy, Debug)]
pub enum Measure {
    /// Nanoseconds of one operation.
    Each(f64),
    /// Of the sleepers: when the last was done, from the first's start, and resident bytes of each.
    Sleepers { elapsed: Duration, bytes_each: f64 },
}

impl fmt::Display for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Measure::Each(nanos) => write!(f, "{nanos:.1}"),
            Measure::Sleepers { elapsed, bytes_each } => {
                write!(f, "{:.1} {bytes_each:.0}", elapsed.as_secs_f64() * 1e3)
            }
        }
    }
}

impl Measure {
    /// The time since `start`, of `count` operations.
    pub fn since(start: Instant, count: u64) -> Measure {
        Measure::Each(start.elapsed().as_nanos() as f64 / count as f64)
    }
}

/// Payload of the echo rows.
pub const ECHO_BYTES: usize = 64;
/// What is read at a time.
pub const READ_BYTES: usize = 4096;
/// Reads in flight.
pub const READ_DEPTH: u64 = 32;
/// Pairs of oneshot channels that exist at a time.
pub const CHANNELS: u64 = 256;
/// How long the sleepers sleep.
pub const SLEEP: Duration = Duration::from_millis(500);

/// Who held the lock last: a lock that goes to whoever asks first, and not to who waits, may hand nothing over.
#[derive(Debug)]
pub struct Turns {
    last: AtomicU8,
    repeated: AtomicU64,
}

pub static TURNS: Turns = Turns { last: AtomicU8::new(0), repeated: AtomicU64::new(0) };

impl Turns {
    /// Plain loads and stores: there is one thread.
    pub fn take(&self, task: u8) {
        if self.last.load(Relaxed) == task {
            self.repeated.store(self.repeated.load(Relaxed) + 1, Relaxed);
        }
        self.last.store(task, Relaxed);
    }

    /// # Panics
    ///
    /// When the lock was not handed over each time, but for the ends.
    pub fn check(&self) {
        let repeated = self.repeated.load(Relaxed);
        assert!(repeated <= 4, "the same task took the lock again {repeated} times: that is no hand-over");
    }
}

/// Gives way once, for runtimes that bring nothing of their own for it.
pub async fn give_way() {
    let mut given = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut given, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Resident memory of this process, in bytes.
pub fn resident_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").expect("/proc is mounted");
    let pages: u64 =
        text.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("statm has a second field");
    pages * 4096
}

/// The file that the read rows read: `ANNULET_MICRO_FILE`, made beforehand by the script.
pub fn read_file() -> (PathBuf, u64) {
    let path = PathBuf::from(
        std::env::var_os("ANNULET_MICRO_FILE").expect("ANNULET_MICRO_FILE names the file to read"),
    );
    let blocks = File::open(&path).and_then(|file| file.metadata()).expect("the file is there").len()
        / READ_BYTES as u64;
    (path, blocks)
}

/// Offsets of random blocks (xorshift64): the same for every runtime.
#[derive(Clone, Debug)]
pub struct Offsets {
    state: u64,
    blocks: u64,
}

impl Offsets {
    pub fn new(seed: u64, blocks: u64) -> Self {
        Offsets { state: 0x9e37_79b9_7f4a_7c15 ^ (seed + 1).wrapping_mul(0x2545_f491_4f6c_dd1d), blocks }
    }

    pub fn next(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        (self.state % self.blocks) * READ_BYTES as u64
    }
}

/// The rows without I/O. Expects `p` with `spawn`, `join`, `yield_now`, `sleep`, and modules `oneshot`, `mpsc`, `mutex`
/// of the runtime's usual channels and lock, each with the functions that are used here.
macro_rules! common_rows {
    () => {
        async fn common(row: Row, count: u64) -> Option<Measure> {
            use std::time::Instant;
            let start = Instant::now();
            match row {
                Row::Spawn => {
                    let mut sum = 0;
                    for i in 0..count {
                        sum += p::join(p::spawn(async move { i })).await;
                    }
                    assert_eq!(sum, count * (count - 1) / 2);
                }
                Row::SpawnYield => {
                    let mut sum = 0;
                    for i in 0..count {
                        let task = p::spawn(async move {
                            p::yield_now().await;
                            i
                        });
                        sum += p::join(task).await;
                    }
                    assert_eq!(sum, count * (count - 1) / 2);
                }
                Row::Yield => {
                    let half = count / 2;
                    let other = p::spawn(async move {
                        for _ in 0..half {
                            p::yield_now().await;
                        }
                    });
                    for _ in 0..half {
                        p::yield_now().await;
                    }
                    p::join(other).await;
                }
                Row::Oneshot => {
                    // A few at a time: it is the channel that is measured, not how far apart in memory a million lie.
                    for _ in 0..count / rows::CHANNELS {
                        let channels = || (0..rows::CHANNELS).map(|_| p::oneshot::channel());
                        let (there, to): (Vec<_>, Vec<_>) = channels().unzip();
                        let (back, from): (Vec<_>, Vec<_>) = channels().unzip();
                        let other = p::spawn(async move {
                            for (to, back) in to.into_iter().zip(back) {
                                let value: u64 = p::oneshot::receive(to).await;
                                p::oneshot::send(back, value);
                            }
                        });
                        for (i, (there, from)) in there.into_iter().zip(from).enumerate() {
                            p::oneshot::send(there, i as u64);
                            assert_eq!(p::oneshot::receive(from).await, i as u64);
                        }
                        p::join(other).await;
                    }
                    return Some(Measure::since(start, count / rows::CHANNELS * rows::CHANNELS));
                }
                Row::Mpsc => {
                    let (sender, receiver) = p::mpsc::channel(64);
                    let other = p::spawn(p::mpsc::produce(sender, count));
                    assert_eq!(p::mpsc::consume(receiver).await, count * (count - 1) / 2);
                    p::join(other).await;
                }
                Row::Mutex => {
                    let mutex = p::mutex::new();
                    let tasks = [1, 2].map(|me| {
                        let mutex = mutex.clone();
                        p::spawn(async move {
                            for _ in 0..count / 2 {
                                let guard = mutex.lock().await;
                                rows::TURNS.take(me);
                                // The other one comes to wait meanwhile, so that the lock is handed over,
                                p::yield_now().await;
                                drop(guard);
                                // and has its turn also where a lock is for whoever asks first.
                                p::yield_now().await;
                            }
                        })
                    });
                    for task in tasks {
                        p::join(task).await;
                    }
                    rows::TURNS.check();
                }
                Row::Timer => {
                    for _ in 0..count {
                        let mut sleep = Box::pin(p::sleep(std::time::Duration::from_secs(10)));
                        std::future::poll_fn(|cx| {
                            assert!(sleep.as_mut().poll(cx).is_pending());
                            std::task::Poll::Ready(())
                        })
                        .await;
                    }
                }
                Row::Sleepers => {
                    let before = rows::resident_bytes();
                    let mut tasks = Vec::with_capacity(count as usize);
                    for _ in 0..count {
                        tasks.push(p::spawn(p::sleep(rows::SLEEP)));
                    }
                    // Every one of them has been polled when this one is polled again.
                    p::yield_now().await;
                    let bytes_each = (rows::resident_bytes() - before) as f64 / count as f64;
                    for task in tasks {
                        p::join(task).await;
                    }
                    return Some(Measure::Sleepers { elapsed: start.elapsed(), bytes_each });
                }
                _ => return None,
            }
            Some(Measure::since(start, count))
        }
    };
}

pub(crate) use common_rows;
