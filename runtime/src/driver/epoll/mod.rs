//! The same operations without a ring, by readiness: for machines on which io_uring is forbidden.
//!
//! An operation is tried when it is pushed. One that would have to wait is parked below its descriptor until epoll(7) says
//! that it may go on; what no epoll can watch, a regular file for example, is done by a few threads. Start at
//! [`Epoll::push`] and [`Epoll::wait`]. `attempt` carries operations out, `parked` knows who waits for what, `threads` does
//! what blocks.
//!
//! What it does not do: select buffers for who receives, so a stream waits for readiness and then receives; gather
//! completions; show in shared memory that there is work, so a loop cannot spin for it. It needs about four system calls for
//! a request (epoll_ctl, epoll_pwait2, recv, send) where the ring needs a fraction of one.
//!
//! Architecture invariant: memory that an operation points to is touched until its event is queued, and never after.

#![allow(unsafe_code)]

mod attempt;
mod parked;
mod threads;

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use super::{Capabilities, Event, Feature, Key, Op, Settings, Wait};
use attempt::{Attempt, attempt};
use parked::{Parked, ParkedOps};
use threads::Threads;

/// What epoll says of the bell that the threads ring.
const BELL: u64 = u64::MAX;
/// Descriptors taken from one epoll_pwait2(2).
const READY_MAX: usize = 512;
/// Connections accepted at one listener before others have their turn.
const ACCEPTS_MAX: usize = 64;
/// How long until what no readiness helps is tried again: a connect to a Unix socket with a full backlog, or what was reported
/// ready and was not.
const AGAIN_NS: u64 = 1_000_000;

/// What the operations need beyond epoll that every supported kernel has.
const FEATURES: [Feature; 6] = [
    Feature::SkipSuccess,
    Feature::AcceptMultishot,
    Feature::UdpSegment,
    Feature::Ftruncate,
    Feature::PathOps,
    Feature::WaitId,
];

/// An epoll instance and what waits for it, used by the thread that created it.
pub(crate) struct Epoll {
    epoll: OwnedFd,
    parked: ParkedOps,
    /// What has ended and was not taken.
    ready: VecDeque<Event>,
    /// When the alarm rings, under [`Key::ALARM`].
    alarm: Option<u64>,
    /// Operations that only time helps.
    again: Vec<Parked>,
    threads: Threads,
    capabilities: Capabilities,
    pushed: u64,
    enters: u64,
    /// Whether epoll_pwait2(2) (Linux 5.11) is there and allowed.
    precise: bool,
    seen: Box<[libc::epoll_event; READY_MAX]>,
}

impl std::fmt::Debug for Epoll {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Epoll")
            .field("parked", &self.parked.len())
            .field("enters", &self.enters)
            .finish_non_exhaustive()
    }
}

impl Epoll {
    /// Creates an instance for the calling thread.
    ///
    /// # Errors
    ///
    /// Without a descriptor or memory for it; those of a wrong mask.
    pub(crate) fn new(settings: &Settings) -> io::Result<Self> {
        let capabilities = Capabilities::of_epoll(settings, &FEATURES)?;
        // SAFETY: no pointers are passed.
        let epoll = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if epoll < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel just gave us this descriptor, and nobody else has it.
        let epoll = unsafe { OwnedFd::from_raw_fd(epoll) };
        let threads = Threads::new()?;
        parked::control(
            &epoll,
            libc::EPOLL_CTL_ADD,
            threads.bell(),
            (libc::EPOLLIN | libc::EPOLLET) as u32,
            BELL,
        )?;
        Ok(Epoll {
            epoll,
            parked: ParkedOps::default(),
            ready: VecDeque::new(),
            alarm: None,
            again: Vec::new(),
            threads,
            capabilities,
            pushed: 0,
            enters: 0,
            precise: true,
            seen: Box::new([libc::epoll_event { events: 0, u64: 0 }; READY_MAX]),
        })
    }

    /// See [`super::Driver::push`].
    ///
    /// # Safety
    ///
    /// As there.
    pub(crate) unsafe fn push(&mut self, op: Op, key: Key) {
        self.pushed += 1;
        match op {
            Op::Cancel { target } => self.cancel(target),
            Op::Alarm { deadline } => self.alarm = Some(deadline),
            // Who asks for nothing hears of the end of both sides alone (unlike on the ring), which is told once.
            Op::Poll { fd, events: 0, .. } => {
                self.park(Parked { key, op: Op::Poll { fd, events: 0, multishot: false }, done: 0 });
            }
            // Level-triggered interest says at once what is there already.
            Op::Poll { .. } => self.park(Parked { key, op, done: 0 }),
            // Whether the descriptor can be waited for is known once epoll was asked.
            Op::Read { offset: super::CURRENT_POSITION, .. }
            | Op::Write { offset: super::CURRENT_POSITION, .. } => {
                self.park(Parked { key, op, done: 0 });
            }
            Op::Close { fd } => {
                // Nobody should wait for it any more; who does would wait for ever.
                for parked in self.parked.close(&self.epoll, fd) {
                    self.finish(parked.key, -libc::ECANCELED);
                }
                self.start(Parked { key, op, done: 0 });
            }
            _ => self.start(Parked { key, op, done: 0 }),
        }
    }

    /// Tries, and leaves the operation where it is looked after from now on. Returns it if it has to wait for its descriptor, and
    /// whether it came any further.
    fn carry_on(&mut self, mut parked: Parked) -> Option<(Parked, bool)> {
        let done = parked.done;
        for attempts in 0..ACCEPTS_MAX {
            // SAFETY: `push` took the operation under its contract, and its event was not queued yet.
            match unsafe { attempt(&mut parked.op, &mut parked.done) } {
                Attempt::Done(result) => {
                    let more = result >= 0 && matches!(parked.op, Op::Accept { multishot: true, .. });
                    self.ready.push_back(Event {
                        key: parked.key,
                        result,
                        buffer: None,
                        more,
                        is_notification: false,
                    });
                    if !more {
                        return None;
                    }
                }
                Attempt::Silent => return None,
                Attempt::WouldBlock => return Some((parked, attempts > 0 || parked.done != done)),
                Attempt::Later => {
                    self.again.push(parked);
                    return None;
                }
                Attempt::Blocks => {
                    self.threads.push(parked.op, parked.key, &mut self.ready);
                    return None;
                }
            }
        }
        Some((parked, true))
    }

    /// Tries, and waits if need be.
    fn start(&mut self, parked: Parked) {
        if let Some((parked, _)) = self.carry_on(parked) {
            self.park(parked);
        }
    }

    /// Waits for the descriptor of an operation.
    fn park(&mut self, parked: Parked) {
        let (op, key) = (parked.op, parked.key);
        let Err(error) = self.parked.insert(&self.epoll, parked) else { return };
        let result = match (error.raw_os_error().unwrap_or(libc::EIO), op) {
            // Such a descriptor is always ready (poll(2)), and epoll has nothing to say of it.
            (libc::EPERM, Op::Poll { events, .. }) => (events & (libc::POLLIN | libc::POLLOUT) as u32) as i32,
            (libc::EPERM, Op::Read { .. } | Op::Write { .. }) => {
                return self.threads.push(op, key, &mut self.ready);
            }
            (errno, _) => -errno,
        };
        self.finish(key, result);
    }

    fn finish(&mut self, key: Key, result: i32) {
        self.ready.push_back(Event { key, result, buffer: None, more: false, is_notification: false });
    }

    fn cancel(&mut self, target: Key) {
        if target == Key::ALARM {
            if self.alarm.take().is_some() {
                self.finish(Key::ALARM, -libc::ECANCELED);
            }
            return;
        }
        let waits = self.again.iter().position(|parked| parked.key == target);
        let parked = match waits {
            Some(at) => Some(self.again.swap_remove(at)),
            None => self.parked.remove(target),
        };
        // What a thread has begun goes on to its end, as a file operation of the ring does.
        if let Some(parked) = parked {
            self.finish(target, attempt::cancelled(&parked));
        }
    }

    /// See [`super::Driver::wait`]. Like the ring's it does not return for what brings no event, unless interrupted.
    pub(crate) fn wait(&mut self, wait: Wait) -> io::Result<()> {
        loop {
            for parked in std::mem::take(&mut self.again) {
                self.start(parked);
            }
            let timeout_ns = self.timeout(wait);
            self.enters += 1;
            let Some(count) = self.enter(timeout_ns)? else { return Ok(()) };
            for at in 0..count {
                let libc::epoll_event { events, u64: data } = self.seen[at];
                if data == BELL {
                    self.threads.take_done(&mut self.ready);
                } else {
                    self.go_on(data as RawFd, events);
                }
            }
            if self.alarm.is_some_and(|alarm| alarm <= crate::sys::monotonic_ns()) {
                self.alarm = None;
                self.finish(Key::ALARM, -libc::ETIME);
            }
            if !self.ready.is_empty() || self.timeout(wait) == Some(0) {
                return Ok(());
            }
        }
    }

    /// How long to sleep; `None` for as long as it takes.
    fn timeout(&self, wait: Wait) -> Option<u64> {
        let deadline = match wait {
            Wait::No => return Some(0),
            _ if !self.ready.is_empty() => return Some(0),
            Wait::Until(deadline) | Wait::Gather { deadline, .. } => deadline,
        };
        let first = deadline.into_iter().chain(self.alarm).min();
        let left = first.map(|first| first.saturating_sub(crate::sys::monotonic_ns()));
        if self.again.is_empty() { left } else { Some(left.unwrap_or(AGAIN_NS).min(AGAIN_NS)) }
    }

    /// The only place that waits. Returns how many descriptors are ready; none if it was interrupted.
    fn enter(&mut self, timeout_ns: Option<u64>) -> io::Result<Option<usize>> {
        loop {
            let count =
                if self.precise { self.enter_precisely(timeout_ns) } else { self.enter_plainly(timeout_ns) };
            if count >= 0 {
                return Ok(Some(count as usize));
            }
            match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => return Ok(None),
                error if self.precise && matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => {
                    self.precise = false;
                }
                error => return Err(error),
            }
        }
    }

    fn enter_precisely(&mut self, timeout_ns: Option<u64>) -> libc::c_long {
        let timeout = timeout_ns.map(|ns| libc::timespec {
            tv_sec: (ns / 1_000_000_000) as libc::time_t,
            tv_nsec: (ns % 1_000_000_000) as libc::c_long,
        });
        let timeout = timeout.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        // SAFETY: the array has room for as many events as are asked for, the timeout lives until the call returns, and no
        // signal mask is given.
        unsafe {
            libc::syscall(
                libc::SYS_epoll_pwait2,
                self.epoll.as_raw_fd(),
                self.seen.as_mut_ptr(),
                READY_MAX,
                timeout,
                std::ptr::null::<libc::sigset_t>(),
                0_usize,
            )
        }
    }

    /// With milliseconds, rounded up.
    fn enter_plainly(&mut self, timeout_ns: Option<u64>) -> libc::c_long {
        let timeout_ms = timeout_ns.map_or(-1, |ns| ns.div_ceil(1_000_000).min(i32::MAX as u64) as i32);
        // SAFETY: the array has room for as many events as are asked for.
        let count = unsafe {
            libc::epoll_wait(self.epoll.as_raw_fd(), self.seen.as_mut_ptr(), READY_MAX as i32, timeout_ms)
        };
        count.into()
    }

    /// A descriptor is ready for something.
    fn go_on(&mut self, fd: RawFd, events: u32) {
        let mut waiting = self.parked.disarm(fd);
        for parked in waiting.drain(..) {
            match parked.op {
                op if events & (parked::interest(&op) | parked::ALWAYS) == 0 => self.park(parked),
                Op::Poll { events: wanted, multishot, .. } => {
                    let result = (events & (wanted | parked::ALWAYS)) as i32;
                    self.ready.push_back(Event {
                        key: parked.key,
                        result,
                        buffer: None,
                        more: multishot,
                        is_notification: false,
                    });
                    if multishot {
                        self.parked.go_on(parked);
                    }
                }
                _ => match self.carry_on(parked) {
                    // Reported again at once, and again, if it were parked as it is.
                    Some((parked, false)) => self.again.push(parked),
                    Some((parked, true)) => self.park(parked),
                    None => {}
                },
            }
        }
        self.parked.give_back(waiting);
    }

    /// See [`super::Driver::next_event`].
    #[inline]
    pub(crate) fn next_event(&mut self) -> Option<Event> {
        self.ready.pop_front()
    }

    /// See [`super::Driver::ticket`].
    pub(crate) fn ticket(&self) -> u64 {
        self.pushed
    }

    /// See [`super::Driver::settled`]. What never waits is carried out by `push` itself.
    pub(crate) fn settled(&self, ticket: u64) -> bool {
        self.pushed >= ticket && self.ready.is_empty()
    }

    /// See [`super::Driver::has_work`].
    pub(crate) fn has_work(&self) -> bool {
        !self.ready.is_empty()
    }

    pub(crate) fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    pub(crate) fn enters(&self) -> u64 {
        self.enters
    }
}
