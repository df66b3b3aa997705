//! The ring: how it is set up, how entries go in, how the loop waits.
//!
//! No fallbacks: the floor is for machines that have what it asks for (Linux 6.6 and newer; `NO_IOWAIT` from 6.15 and
//! min-wait from 6.12 are used where they are there).

use std::io;
use std::time::{Duration, Instant};

use io_uring::types::{SubmitArgs, Timespec};
use io_uring::{CompletionQueue, EnterFlags, IoUring, SubmissionQueue, Submitter, cqueue, squeue};

/// Two sends for each of 512 connections; a full queue is flushed early.
const SUBMISSIONS: u32 = 1024;
/// Room for a receive and a send of each of some thousand connections before the kernel has to allocate.
const COMPLETIONS: u32 = 8192;
/// The overall time limit of a wait that collects. Without one the kernel returns at the end of the min-wait even when
/// nothing has come, so that an idle loop would turn every few microseconds. An hour is arbitrary.
const COLLECTING_WAIT_MAX: Timespec = Timespec::new().sec(3600);

/// Sets the ring up the way that costs the least for one thread that both submits and reaps.
pub(crate) fn build() -> io::Result<IoUring> {
    IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_taskrun_flag()
        .setup_submit_all()
        .setup_no_sqarray()
        .setup_cqsize(COMPLETIONS)
        .build(SUBMISSIONS)
        .map_err(|error| {
            io::Error::new(
                error.kind(),
                format!("io_uring: {error} (is it forbidden, or the kernel older than 6.6?)"),
            )
        })
}

/// How the loop waits for completions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WaitPolicy {
    /// Look for work this long before sleeping.
    pub(crate) spin: Duration,
    /// Collect completions for so long after the wait began …
    pub(crate) min_wait_us: u32,
    /// … unless so many are there.
    pub(crate) min_wait_count: u32,
}

/// The three ends of one ring. One `Submitter` for its whole life, because it carries the registered index.
pub(crate) struct Ring<'a> {
    submitter: Submitter<'a>,
    submissions: SubmissionQueue<'a>,
    completions: CompletionQueue<'a>,
    /// Flags of every enter that waits.
    wait_flags: EnterFlags,
}

impl<'a> Ring<'a> {
    pub(crate) fn new(uring: &'a mut IoUring) -> io::Result<Ring<'a>> {
        let mut wait_flags = EnterFlags::GETEVENTS;
        if uring.params().is_feature_no_iowait() {
            wait_flags |= EnterFlags::NO_IOWAIT;
        }
        let (mut submitter, submissions, completions) = uring.split();
        submitter.register_ring_fd()?;
        Ok(Ring { submitter, submissions, completions, wait_flags })
    }

    pub(crate) fn submitter(&self) -> &Submitter<'a> {
        &self.submitter
    }

    /// Queues an entry; a full queue is submitted first.
    ///
    /// # Safety
    ///
    /// What the entry points to stays valid until its last completion, or, for an entry that cannot wait, until the
    /// enter that submits it has returned.
    #[inline]
    pub(crate) unsafe fn push(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        // SAFETY: the caller's promise.
        while unsafe { self.submissions.push(entry) }.is_err() {
            self.enter(0, EnterFlags::empty(), 0)?;
        }
        Ok(())
    }

    /// Submits what is queued and waits for at least one completion.
    #[inline]
    pub(crate) fn wait(&mut self, policy: &WaitPolicy) -> io::Result<()> {
        if !policy.spin.is_zero() && self.spin(policy.spin)? {
            return Ok(());
        }
        if policy.min_wait_us > 0 {
            self.enter(policy.min_wait_count, self.wait_flags | EnterFlags::EXT_ARG, policy.min_wait_us)
        } else {
            self.enter(1, self.wait_flags, 0)
        }
    }

    /// The next completion of the round that the last wait brought.
    #[inline]
    pub(crate) fn next_completion(&mut self) -> Option<cqueue::Entry> {
        self.completions.next()
    }

    /// Submits, then watches for deferred work without entering the kernel. Whether there is a completion to take.
    fn spin(&mut self, limit: Duration) -> io::Result<bool> {
        self.submissions.sync();
        if !self.submissions.is_empty() || self.submissions.taskrun() {
            self.enter(0, EnterFlags::GETEVENTS, 0)?;
        }
        let start = Instant::now();
        loop {
            if !self.completions.is_empty() {
                return Ok(true);
            }
            if self.submissions.taskrun() {
                self.enter(0, EnterFlags::GETEVENTS, 0)?;
                continue;
            }
            if start.elapsed() >= limit {
                return Ok(false);
            }
            std::hint::spin_loop();
        }
    }

    #[inline]
    fn enter(&mut self, want: u32, flags: EnterFlags, min_wait_us: u32) -> io::Result<()> {
        self.submissions.sync();
        self.completions.sync();
        let queued = self.submissions.len() as u32;
        let arguments = SubmitArgs::new().min_wait_usec(min_wait_us).timespec(&COLLECTING_WAIT_MAX);
        let arguments = flags.contains(EnterFlags::EXT_ARG).then_some(&arguments);
        // SAFETY: the arguments are the struct EXT_ARG announces, and absent without it.
        let result = unsafe { self.submitter.enter(queued, want, flags.bits(), arguments) };
        self.submissions.sync();
        self.completions.sync();
        match result {
            Ok(_) => Ok(()),
            Err(error) => match error.raw_os_error() {
                // A signal; the time of the min-wait; completions that must be taken first.
                Some(libc::EINTR | libc::ETIME | libc::EBUSY | libc::EAGAIN) => Ok(()),
                _ => Err(error),
            },
        }
    }
}
