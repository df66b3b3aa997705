//! A few threads for what blocks: files, and names of files.
//!
//! Started when the first such operation comes, ended with the driver. The queue is as long as the tables above have operations in
//! flight.

#![allow(unsafe_code)]

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use rustix::event::{EventfdFlags, eventfd};

use super::attempt;
use crate::driver::{Event, Key, Op};

/// Threads of one driver. As many as a disk has use for.
const THREADS_MAX: usize = 4;

/// See the module.
#[derive(Debug)]
pub(super) struct Threads {
    shared: Arc<Shared>,
    running: Vec<JoinHandle<()>>,
    /// Operations given away and not yet back.
    under_way: usize,
}

#[derive(Debug)]
struct Shared {
    queues: Mutex<Queues>,
    more: Condvar,
    /// An eventfd: something is done.
    bell: OwnedFd,
}

#[derive(Debug, Default)]
struct Queues {
    waiting: VecDeque<Job>,
    done: Vec<(Key, i32)>,
    ended: bool,
}

#[derive(Debug)]
struct Job {
    key: Key,
    op: Op,
}

// SAFETY: the memory behind the pointers stays valid and unaliased until the event of `key` is taken (see `Driver::push`), which is
// after the thread has put its result into `done`. No thread keeps a pointer beyond that.
unsafe impl Send for Job {}

impl Threads {
    pub(super) fn new() -> io::Result<Self> {
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let shared = Shared { queues: Mutex::default(), more: Condvar::new(), bell };
        Ok(Threads { shared: Arc::new(shared), running: Vec::new(), under_way: 0 })
    }

    /// What becomes readable when something is done.
    pub(super) fn bell(&self) -> RawFd {
        self.shared.bell.as_raw_fd()
    }

    /// Has `op` carried out. Without any thread for it its event, an error, is put into `ready`.
    pub(super) fn push(&mut self, op: Op, key: Key, ready: &mut VecDeque<Event>) {
        if self.under_way >= self.running.len() && self.running.len() < THREADS_MAX {
            let shared = Arc::clone(&self.shared);
            let thread = std::thread::Builder::new().name("annulet-files".to_owned());
            match thread.spawn(move || shared.work()) {
                Ok(thread) => self.running.push(thread),
                Err(error) if self.running.is_empty() => {
                    let result = -error.raw_os_error().unwrap_or(libc::EAGAIN);
                    return ready.push_back(Event {
                        key,
                        result,
                        buffer: None,
                        more: false,
                        is_notification: false,
                    });
                }
                // Those that there are do it, later.
                Err(_) => {}
            }
        }
        self.under_way += 1;
        self.shared.lock().waiting.push_back(Job { key, op });
        self.shared.more.notify_one();
    }

    /// Moves what is done into `ready`.
    pub(super) fn take_done(&mut self, ready: &mut VecDeque<Event>) {
        // Before the queue is looked at: what comes later rings again.
        let _ = rustix::io::read(&self.shared.bell, &mut [0; 8]);
        let done = std::mem::take(&mut self.shared.lock().done);
        self.under_way -= done.len();
        ready.extend(done.into_iter().map(|(key, result)| Event {
            key,
            result,
            buffer: None,
            more: false,
            is_notification: false,
        }));
    }
}

impl Drop for Threads {
    /// Waits for what is under way.
    fn drop(&mut self) {
        self.shared.lock().ended = true;
        self.shared.more.notify_all();
        for thread in self.running.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queues> {
        // Nothing that holds it can panic half-way through a change.
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The life of a thread.
    fn work(&self) {
        // It has inherited the one core of its loop.
        crate::placement::unpin_current_thread();
        let mut queues = self.lock();
        loop {
            while let Some(Job { key, op }) = queues.waiting.pop_front() {
                drop(queues);
                // SAFETY: the memory is valid as long as the operation has no event, see `Job`.
                let result = unsafe { attempt::block(&op) };
                queues = self.lock();
                queues.done.push((key, result));
                let _ = rustix::io::write(self.bell.as_fd(), &1_u64.to_ne_bytes());
            }
            if queues.ended {
                return;
            }
            queues = self.more.wait(queues).unwrap_or_else(PoisonError::into_inner);
        }
    }
}
