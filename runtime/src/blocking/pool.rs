//! A pool and how it is made.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

use super::queue::{Job, JobNumber, Queue, Start, Ticket};
use super::task::{BlockingTask, Full};
use super::worker;

/// Threads of a pool. Arbitrary: enough for a resolver that does not answer, few enough for their stacks.
const THREADS_MAX: usize = 128;
/// Jobs in a pool's queue. Arbitrary.
const QUEUE_MAX: usize = 4096;
/// How long a thread waits for a job before it leaves. Arbitrary: longer than the pauses within a burst.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Threads that run closures which block.
///
/// Threads are started when a job finds none asleep, up to a bound, and leave when they had nothing to do for a while.
/// They do not inherit the binding of a loop to its core. Their signal mask is that of the thread that started them, as a
/// child process that a closure starts would inherit any other.
///
/// Dropping the pool ends its threads: those that sleep at once, the others when the queue is empty. It does not wait for
/// them; [`shutdown`](Self::shutdown) does.
///
/// # Examples
///
/// ```
/// use annulet::blocking::Pool;
///
/// annulet::run(async {
///     let pool = Pool::builder().threads_max(2).queue_max(16).name("thumbnails").build().unwrap();
///     let task = pool.spawn(|| 6 * 7);
///     assert_eq!(task.await.unwrap(), 42);
///     pool.shutdown().await;
/// });
/// ```
pub struct Pool {
    shared: Arc<Shared>,
}

impl Pool {
    /// How a pool is made.
    pub fn builder() -> PoolBuilder {
        PoolBuilder {
            threads_max: THREADS_MAX,
            queue_max: QUEUE_MAX,
            keep_alive: KEEP_ALIVE,
            name: "annulet-blocking".to_owned(),
        }
    }

    /// Hands `f` to the pool.
    ///
    /// It is in the queue when this returns. If the queue is full it stays in the handle, which waits for room, first come,
    /// first served, when it is awaited; [`BlockingTask::submitted`] waits for that alone.
    ///
    /// # Cancel safety
    ///
    /// See [`BlockingTask`].
    pub fn spawn<F, T>(&self, f: F) -> BlockingTask<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        BlockingTask::spawn(&self.shared, f)
    }

    /// Hands `f` to the pool if its queue has room.
    ///
    /// # Errors
    ///
    /// [`Full`] with the closure inside, when there is no room.
    pub fn try_spawn<F, T>(&self, f: F) -> Result<BlockingTask<T>, Full<F>>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        BlockingTask::try_spawn(&self.shared, f)
    }

    /// Threads that live or are being started.
    pub fn threads(&self) -> usize {
        self.shared.queue().threads()
    }

    /// Jobs that wait for a thread.
    pub fn queued(&self) -> usize {
        self.shared.queue().len()
    }

    /// Drops the pool and waits until its last thread is about to leave: every job has run or was taken out.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the pool and leaves the threads to end by themselves.
    pub async fn shutdown(self) {
        let shared = Arc::clone(&self.shared);
        drop(self);
        poll_fn(|cx| {
            let waker = cx.waker().clone();
            let registered = shared.queue().watch_end(waker);
            registered.map_or_else(|(ended, _unused)| ended, |()| Poll::Pending)
        })
        .await;
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let sleeping = self.shared.queue().close();
        sleeping.into_iter().for_each(|(_, thread)| thread.unpark());
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("name", &self.shared.name)
            .field("threads", &self.threads())
            .field("queued", &self.queued())
            .finish()
    }
}

/// How a pool is made; see [`Pool::builder`].
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing before build is called"]
pub struct PoolBuilder {
    threads_max: usize,
    queue_max: usize,
    keep_alive: Duration,
    name: String,
}

impl PoolBuilder {
    /// The most threads that run at a time; 128 by default.
    pub fn threads_max(mut self, threads: usize) -> Self {
        self.threads_max = threads;
        self
    }

    /// The most jobs that wait for a thread; 4096 by default. Beyond it `try_spawn` refuses, and handles of `spawn` wait.
    pub fn queue_max(mut self, jobs: usize) -> Self {
        self.queue_max = jobs;
        self
    }

    /// How long a thread stays without work; ten seconds by default.
    pub fn keep_alive(mut self, keep_alive: Duration) -> Self {
        self.keep_alive = keep_alive;
        self
    }

    /// What the threads are called; a number is added. The kernel shows the first 15 bytes of it.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Makes the pool. No thread is started yet.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a pool without threads or without a queue, or a name with a zero byte.
    pub fn build(self) -> io::Result<Pool> {
        let wrong = if self.threads_max == 0 {
            Some(
                "a blocking pool needs at least one thread, or its jobs would wait for ever; raise threads_max",
            )
        } else if self.queue_max == 0 {
            Some(
                "a blocking pool needs a queue of at least one job, because each job passes through it to its thread; \
                 raise queue_max",
            )
        } else if self.name.contains('\0') {
            Some("a thread's name cannot contain a zero byte; choose another name for the blocking pool")
        } else {
            None
        };
        if let Some(wrong) = wrong {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, wrong));
        }
        let queue = Mutex::new(Queue::new(self.threads_max, self.queue_max));
        Ok(Pool { shared: Arc::new(Shared { queue, keep_alive: self.keep_alive, name: self.name }) })
    }
}

/// What the pool, its threads and its handles share.
pub(super) struct Shared {
    queue: Mutex<Queue>,
    pub(super) keep_alive: Duration,
    name: String,
}

impl Shared {
    /// The lock is held for a few moves only; no user code runs under it, so it is never poisoned.
    pub(super) fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a job and finds it a thread.
    ///
    /// # Errors
    ///
    /// The job, when there is no room.
    pub(super) fn submit(
        self: &Arc<Self>,
        job: Box<dyn Job>,
        ticket: Option<Ticket>,
    ) -> Result<JobNumber, Box<dyn Job>> {
        let (number, start) = self.queue().submit(job, ticket)?;
        self.start(start);
        Ok(number)
    }

    /// As [`submit`](Self::submit); when there is no room, stands in line.
    pub(super) fn submit_or_wait(
        self: &Arc<Self>,
        job: Box<dyn Job>,
        ticket: &mut Option<Ticket>,
        waker: Waker,
    ) -> Result<JobNumber, Box<dyn Job>> {
        let mut queue = self.queue();
        match queue.submit(job, *ticket) {
            Ok((number, start)) => {
                drop(queue);
                self.start(start);
                Ok(number)
            }
            Err(job) => {
                let old = queue.stand_in_line(ticket, waker);
                drop(queue);
                drop(old);
                Err(job)
            }
        }
    }

    fn start(self: &Arc<Self>, start: Start) {
        match start {
            Start::Nothing => {}
            Start::Unpark(thread) => thread.unpark(),
            Start::Spawn(number) => {
                let shared = Arc::clone(self);
                let named = std::thread::Builder::new().name(format!("{}-{number}", self.name));
                if let Err(error) = named.spawn(move || worker::work(&shared, number)) {
                    self.no_thread(number, &error);
                }
            }
        }
    }

    /// A thread could not be started. With others the job waits for them; without any it can never run.
    fn no_thread(&self, number: usize, error: &io::Error) {
        let mut queue = self.queue();
        let watchers = queue.leave(number);
        let (jobs, woken) = if queue.threads() == 0 { queue.give_up() } else { Default::default() };
        drop(queue);
        jobs.into_iter().for_each(|job| job.refuse(error));
        woken.into_iter().chain(watchers).for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Notes what becomes of it.
    struct Told(Arc<Mutex<Vec<String>>>);

    impl Job for Told {
        fn run(self: Box<Self>) {
            self.0.lock().unwrap().push("ran".to_owned());
        }

        fn refuse(self: Box<Self>, why: &io::Error) {
            self.0.lock().unwrap().push(why.to_string());
        }
    }

    #[test]
    fn without_any_thread_the_queue_is_given_up_and_with_one_it_waits() {
        let told = Arc::new(Mutex::new(Vec::new()));
        let job = || Box::new(Told(Arc::clone(&told)));
        let pool = Pool::builder().threads_max(2).build().unwrap();
        let refused = io::Error::other("no more threads");
        // Submitted, but their threads are not started: that is what this test does in place of the pool.
        let start = |expected| match pool.shared.queue().submit(job(), None) {
            Ok((_, Start::Spawn(number))) => assert_eq!(number, expected),
            _ => panic!("each needs a thread"),
        };
        start(0);
        start(1);
        pool.shared.no_thread(1, &refused);
        assert_eq!((pool.queued(), pool.threads()), (2, 1), "the other thread will come for both");
        pool.shared.no_thread(0, &refused);
        assert_eq!((pool.queued(), pool.threads()), (0, 0));
        assert_eq!(*told.lock().unwrap(), ["no more threads", "no more threads"]);
    }
}
