//! The ring: submission and completion queues, and the one place that enters the kernel.
//!
//! Start at [`Uring::wait`]. The set-up ladder is in `setup`, the translation of an [`Op`] into a submission entry in
//! `sqe`.
//!
//! Architecture invariant: completions are only ever taken in [`Uring::next_event`]; nothing here calls a task.

#![allow(unsafe_code)]

#[cfg(test)]
mod faults;
mod probe;
mod refusals;
mod restrict;
mod setup;
mod sqe;

use std::collections::VecDeque;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::ptr::NonNull;

use io_uring::types::Timespec;
use io_uring::{EnterFlags, IoUring, cqueue, squeue};

#[cfg(test)]
pub(crate) use faults::Fault;
#[cfg(all(test, not(annulet_loom)))]
pub(crate) use faults::inject;
pub(crate) use setup::{explain, is_forbidden};

use refusals::Refusals;

use super::{BufferGroup, Capabilities, Event, Feature, Key, Op, Settings, Wait};

/// A deadline that no machine lives to see: nanoseconds, about 146 years.
const FAR: u64 = u64::MAX / 4;

/// One io_uring instance, used by the thread that created it.
pub(crate) struct Uring {
    /// Enters the kernel; holds the registered index of the ring, which is why it is kept and not made anew.
    submitter: ManuallyDrop<io_uring::Submitter<'static>>,
    /// The submission queue with its local tail.
    sq: ManuallyDrop<squeue::SubmissionQueue<'static>>,
    /// The completion queue with its local head.
    cq: ManuallyDrop<cqueue::CompletionQueue<'static>>,
    /// INVARIANT: the allocation that the three views above borrow from; freed last, in `drop`, and touched by nothing
    /// else meanwhile.
    ring: NonNull<IoUring>,
    /// The ring's own descriptor, to look at without entering.
    fd: RawFd,
    /// Submissions that found the queue full while the kernel would not take any (EAGAIN, EBUSY). Bounded by the
    /// operations that the tables above can have in flight.
    backlog: VecDeque<squeue::Entry>,
    /// When the alarm is to ring.
    /// INVARIANT: not moved or changed while the alarm's submission is queued; it is read when that is consumed.
    alarm: Box<Timespec>,
    /// What multishot receives of datagrams ask for: the sender's address and no control bytes.
    /// INVARIANT: not changed once it is made, and freed after the ring; such requests may read it at any time.
    message: Box<libc::msghdr>,
    /// What this ring has.
    capabilities: Capabilities,
    /// Flags of every enter: NO_IOWAIT where there is one.
    enter_flags: EnterFlags,
    /// Operations pushed so far.
    pushed: u64,
    /// Entries into the kernel so far.
    enters: u64,
    /// Of these, how many left completions with the kernel because the queue was full.
    overflows: u64,
    /// Waits that the kernel has refused.
    refusals: Refusals,
}

impl std::fmt::Debug for Uring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Uring")
            .field("capabilities", &self.capabilities)
            .field("enters", &self.enters)
            .finish()
    }
}

impl Uring {
    /// Creates a ring for the calling thread.
    ///
    /// # Errors
    ///
    /// When no ring can be had; the message names the likely cause and the cure.
    pub(crate) fn new(settings: &Settings) -> io::Result<Self> {
        let capabilities = Capabilities::wanted(settings)?;
        // A ring of its own again behind each that fails: the one that was tried may still answer.
        let mut uring = Self::create(settings, capabilities)?;
        if uring.capabilities.has(Feature::SkipSuccess) && !probe::sends_that_never_wait(&mut uring)? {
            let mut capabilities = uring.capabilities;
            capabilities.remove(Feature::SkipSuccess);
            capabilities.remove(Feature::MsgRing);
            return Self::create(settings, capabilities);
        }
        if uring.capabilities.has(Feature::MsgRing) && !probe::messages_that_arrive(&mut uring)? {
            let mut capabilities = uring.capabilities;
            capabilities.remove(Feature::MsgRing);
            return Self::create(settings, capabilities);
        }
        Ok(uring)
    }

    /// Creates a ring with all of `capabilities` that there is.
    fn create(settings: &Settings, mut capabilities: Capabilities) -> io::Result<Self> {
        let ring = setup::create(settings, &mut capabilities)?;
        let opcodes = probe::features(&ring, &mut capabilities)?;
        if capabilities.has(Feature::Restrictions) {
            restrict::enable(&ring.submitter(), &opcodes, &mut capabilities)?;
        }

        let fd = ring.as_raw_fd();
        let ring = NonNull::from(Box::leak(Box::new(ring)));
        // SAFETY: the allocation was leaked just now, so it lives until `drop` frees it, and these are the only views.
        let (mut submitter, sq, cq) = unsafe { &mut *ring.as_ptr() }.split();
        if capabilities.has(Feature::RingFd) && submitter.register_ring_fd().is_err() {
            capabilities.remove(Feature::RingFd);
        }
        // SAFETY: `msghdr` is plain data for which zeros are valid.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_namelen = crate::socket::DATAGRAM_NAME_BYTES as u32;
        let enter_flags =
            if capabilities.has(Feature::NoIowait) { EnterFlags::NO_IOWAIT } else { EnterFlags::empty() };
        Ok(Uring {
            submitter: ManuallyDrop::new(submitter),
            sq: ManuallyDrop::new(sq),
            cq: ManuallyDrop::new(cq),
            ring,
            fd,
            backlog: VecDeque::new(),
            alarm: Box::default(),
            message: Box::new(message),
            capabilities,
            enter_flags,
            pushed: 0,
            enters: 0,
            overflows: 0,
            refusals: Refusals::default(),
        })
    }

    /// See [`super::Driver::push`].
    ///
    /// # Safety
    ///
    /// As there.
    #[inline]
    pub(crate) unsafe fn push(&mut self, op: Op, key: Key) {
        let entry = sqe::entry(op, key, &self.capabilities, &mut self.alarm, &self.message);
        self.pushed += 1;
        // SAFETY: the caller promises that what the entry points to stays valid until its last completion.
        if self.backlog.is_empty() && unsafe { self.sq.push(&entry) }.is_ok() {
            return;
        }
        self.push_slowly(entry);
    }

    /// The queue is full: flush it; what the kernel does not take now waits in the backlog.
    #[cold]
    fn push_slowly(&mut self, entry: squeue::Entry) {
        let was_refused = !self.backlog.is_empty();
        self.backlog.push_back(entry);
        if was_refused {
            // Asked already; the next `wait` asks again.
            return;
        }
        // An error here (EAGAIN, EBUSY, ENOMEM) leaves the entries where they are; the next `wait` meets it again and reports
        // what is not transient.
        let _ = self.enter(0, EnterFlags::empty(), None);
        self.refill();
    }

    /// Moves the backlog into the queue as far as it fits.
    fn refill(&mut self) {
        while let Some(entry) = self.backlog.front() {
            // SAFETY: `push` took this entry under its contract, which still holds.
            if unsafe { self.sq.push(entry) }.is_err() {
                return;
            }
            self.backlog.pop_front();
        }
    }

    /// See [`super::Driver::wait`]. Interrupted and timed-out waits are no errors: the caller looks at what is there.
    pub(crate) fn wait(&mut self, wait: Wait) -> io::Result<()> {
        let rest_ms = self.refusals.rest_ms(wait == Wait::No);
        if rest_ms > 0 {
            self.rest(wait, rest_ms);
        }
        let entered = self.wait_once(wait)?;
        self.refusals.note(entered == Entered::Refused);
        if entered == Entered::Refused {
            // Whoever refuses a submission does not come to what the ring has deferred, which may be all that is in the way: with
            // DEFER_TASKRUN nothing else would ever post it.
            self.enter_with(0, 0, EnterFlags::GETEVENTS, None)?;
        }
        Ok(())
    }

    /// The kernel has refused more than once: leaves it alone for a while, unless something is there or becomes due.
    #[cold]
    fn rest(&mut self, wait: Wait, rest_ms: u32) {
        self.cq.sync();
        if !self.cq.is_empty() {
            return;
        }
        let deadline = match wait {
            Wait::No => None,
            Wait::Until(deadline) | Wait::Gather { deadline, .. } => deadline,
        };
        let left_ms =
            deadline.map(|deadline| deadline.saturating_sub(crate::sys::monotonic_ns()).div_ceil(1_000_000));
        let rest_ms = left_ms.unwrap_or(u64::MAX).min(rest_ms.into());
        let mut polled = libc::pollfd { fd: self.fd, events: libc::POLLIN, revents: 0 };
        // SAFETY: one entry, on this stack. Whatever it says, an error included, the kernel is asked again.
        unsafe { libc::poll(&raw mut polled, 1, rest_ms as i32) };
    }

    fn wait_once(&mut self, wait: Wait) -> io::Result<Entered> {
        if !self.backlog.is_empty() {
            self.refill();
            if !self.backlog.is_empty() {
                if self.enter(0, EnterFlags::GETEVENTS, None)? == Entered::Refused {
                    return Ok(Entered::Refused);
                }
                self.refill();
            }
            if !self.backlog.is_empty() {
                // What is not handed over will not complete: no sleep before it is.
                return self.poll();
            }
        }
        self.cq.sync();
        let (deadline, min_wait_us, count) = match wait {
            Wait::No => return self.poll(),
            // Completions that the last enter left behind come first.
            _ if !self.cq.is_empty() => return self.poll(),
            Wait::Until(deadline) => (deadline, 0, 1),
            // Without a deadline the kernel ends the wait after the gathering time even with nothing there.
            Wait::Gather { deadline, gather_us, count } if self.capabilities.has(Feature::MinWait) => {
                (deadline.or(Some(FAR)), gather_us, count)
            }
            Wait::Gather { deadline, .. } => (deadline, 0, 1),
        };
        let mut arguments = GetEventsArgument { min_wait_us, ..GetEventsArgument::default() };
        let mut flags = EnterFlags::GETEVENTS;
        let timespec;
        if let Some(deadline) = deadline {
            timespec = if self.capabilities.has(Feature::AbsTimer) {
                flags |= EnterFlags::ABS_TIMER;
                sqe::timespec(deadline)
            } else {
                sqe::timespec(deadline.saturating_sub(crate::sys::monotonic_ns()))
            };
            arguments.timespec = std::ptr::from_ref(&timespec) as u64;
        }
        self.enter(count, flags, Some(&arguments))
    }

    /// Submits, and lets the kernel post what it deferred, without sleeping.
    fn poll(&mut self) -> io::Result<Entered> {
        // Without the flag in shared memory only the kernel knows whether it deferred something.
        let deferred = !self.capabilities.has(Feature::TaskrunFlag) || self.sq.taskrun();
        if self.sq.is_empty() && !deferred && !self.sq.cq_overflow() {
            return Ok(Entered::Done);
        }
        self.enter(0, EnterFlags::GETEVENTS, None)
    }

    /// Submits everything, and waits as told.
    fn enter(
        &mut self,
        count: u32,
        flags: EnterFlags,
        argument: Option<&GetEventsArgument>,
    ) -> io::Result<Entered> {
        self.sq.sync();
        let to_submit = self.sq.len() as u32;
        #[cfg(test)]
        let (to_submit, count, argument) = match faults::next() {
            None => (to_submit, count, argument),
            Some(Fault::Short(most)) => (to_submit.min(most), 0, None),
            Some(Fault::Refused(error)) => {
                return refused(io::Error::from_raw_os_error(error));
            }
        };
        self.enter_with(to_submit, count, flags, argument)
    }

    /// The only place that enters the kernel.
    fn enter_with(
        &mut self,
        to_submit: u32,
        count: u32,
        flags: EnterFlags,
        argument: Option<&GetEventsArgument>,
    ) -> io::Result<Entered> {
        self.enters += 1;
        let flags = flags | self.enter_flags;
        let entered = match argument {
            // SAFETY: the argument has the layout of `struct io_uring_getevents_arg`, and it and the timespec it points
            // to live on the stack of `wait` until the call returns.
            Some(_) => unsafe {
                self.submitter.enter(to_submit, count, (flags | EnterFlags::EXT_ARG).bits(), argument)
            },
            // SAFETY: no argument is passed; `sigset_t` is what the kernel would read there.
            None => unsafe { self.submitter.enter::<libc::sigset_t>(to_submit, count, flags.bits(), None) },
        };
        self.sq.sync();
        // The kernel's own counter of overflows stays zero where nothing is dropped; the flag shows them.
        self.overflows += u64::from(self.sq.cq_overflow());
        entered.map_or_else(refused, |_| Ok(Entered::Done))
    }

    /// See [`super::Driver::next_event`].
    #[inline]
    pub(crate) fn next_event(&mut self) -> Option<Event> {
        let entry = match self.cq.next() {
            Some(entry) => entry,
            None => {
                self.cq.sync();
                self.cq.next()?
            }
        };
        let flags = entry.flags();
        Some(Event {
            key: Key::from_bits(entry.user_data()),
            result: entry.result(),
            buffer: cqueue::buffer_select(flags),
            more: cqueue::more(flags),
            is_notification: cqueue::notif(flags),
        })
    }

    /// The kernel refused the buffer ring: do without it.
    pub(crate) fn without_buffer_ring(&mut self) {
        self.capabilities.remove(Feature::BufferRing);
        self.capabilities.remove(Feature::ReceiveMultishot);
        self.capabilities.remove(Feature::MessageMultishot);
    }

    /// See [`super::Driver::ticket`].
    #[inline]
    pub(crate) fn ticket(&self) -> u64 {
        self.pushed
    }

    /// See [`super::Driver::settled`]. The queues are first in, first out, so what is left in them was pushed last.
    #[inline]
    pub(crate) fn settled(&self, ticket: u64) -> bool {
        let left = self.sq.len() + self.backlog.len();
        self.pushed - left as u64 >= ticket && self.cq.is_empty() && !self.sq.cq_overflow()
    }

    /// See [`super::Driver::is_prompt`].
    #[inline]
    pub(crate) fn is_prompt(&self) -> bool {
        self.backlog.is_empty() && self.refusals.is_none()
    }

    /// See [`super::Driver::bell`].
    pub(crate) fn bell(&self) -> Option<OwnedFd> {
        if !self.capabilities.has(Feature::MsgRing) {
            return None;
        }
        // SAFETY: the ring is open as long as this value lives.
        let ring = unsafe { BorrowedFd::borrow_raw(self.fd) };
        // Without a descriptor for it others ring the eventfd.
        ring.try_clone_to_owned().ok()
    }

    /// See [`super::Driver::has_work`].
    #[inline]
    pub(crate) fn has_work(&mut self) -> bool {
        self.cq.sync();
        !self.cq.is_empty() || self.sq.taskrun() || self.sq.cq_overflow()
    }

    /// See [`super::Driver::shows_work`].
    pub(crate) fn shows_work(&self) -> bool {
        // In plain mode completion work interrupts the loop and posts by itself.
        let has = |feature| self.capabilities.has(feature);
        has(Feature::TaskrunFlag) || !(has(Feature::DeferTaskrun) || has(Feature::CoopTaskrun))
    }

    pub(crate) fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    pub(crate) fn enters(&self) -> u64 {
        self.enters
    }

    /// See [`super::Driver::overflows`].
    pub(crate) fn overflows(&self) -> u64 {
        self.overflows
    }

    /// See [`super::Driver::register_buffers`].
    ///
    /// # Safety
    ///
    /// As there.
    pub(crate) unsafe fn register_buffers(
        &mut self,
        group: BufferGroup,
        address: *const u8,
        entries: u16,
    ) -> io::Result<()> {
        // SAFETY: the caller promises that the ring's memory outlives this io_uring.
        unsafe { self.submitter.register_buf_ring_with_flags(address as u64, entries, group as u16, 0) }
    }
}

impl Drop for Uring {
    fn drop(&mut self) {
        if self.capabilities.has(Feature::RingFd) {
            // A thread has sixteen places for registered rings, and closing a ring does not free its own. A failure
            // costs the next loops of this thread a descriptor look-up an enter, nothing else.
            let _ = self.submitter.unregister_ring_fd();
        }
        // SAFETY: each view is dropped once, here, and before the ring that it borrows from.
        unsafe {
            ManuallyDrop::drop(&mut self.submitter);
            ManuallyDrop::drop(&mut self.sq);
            ManuallyDrop::drop(&mut self.cq);
            drop(Box::from_raw(self.ring.as_ptr()));
        }
    }
}

/// How an entry into the kernel went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Entered {
    Done,
    /// It may have taken nothing; see [`Refusals`].
    Refused,
}

/// Tells errors that pass from those that do not. In all cases the caller takes what is there and comes again.
fn refused(error: io::Error) -> io::Result<Entered> {
    match error.raw_os_error() {
        // ETIME: the deadline passed. EINTR: a signal.
        Some(libc::ETIME | libc::EINTR) => Ok(Entered::Done),
        // EBUSY: completions wait in the overflow list and must be drained first. EAGAIN, ENOMEM: no memory just now.
        Some(libc::EBUSY | libc::EAGAIN | libc::ENOMEM) => Ok(Entered::Refused),
        // It stays so, and whoever waits for what is lost would wait for ever, on memory that may never be given back.
        Some(libc::EBADR) => Err(io::Error::other(
            "completions are lost, because the completion queue was full and there was no memory to keep them elsewhere (EBADR); \
             give the machine more memory, or the loop a larger completion queue (Builder::ring_entries)",
        )),
        _ => Err(error),
    }
}

/// `struct io_uring_getevents_arg` of io_uring_enter(2).
#[repr(C)]
#[derive(Default)]
struct GetEventsArgument {
    sigmask: u64,
    sigmask_len: u32,
    min_wait_us: u32,
    timespec: u64,
}
