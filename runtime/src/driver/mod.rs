//! The seam to a kernel: submit, wait, complete.
//!
//! Above this module hardly anybody knows which kernel interface does the work: what the kernel can do
//! ([`Feature`]) is asked by who has a fallback of its own, and who adopts a listening socket asks whether it has to be non-blocking. The shard hands owned [`Op`]s in, each under a
//! [`Key`], enters the kernel once a turn with [`Driver::wait`], and takes [`Event`]s out with [`Driver::next_event`].
//! The driver is an enum, so that the readiness driver stands beside the ring without a generic parameter in any public type.
//!
//! What it does not do: own memory that the kernel may touch (the tables above do), wake tasks, read a clock but to turn a deadline into a duration where
//! the kernel takes nothing else.

#![allow(unsafe_code)]

mod capabilities;
mod epoll;
mod key;
mod kind;
mod settings;
pub(crate) mod uring;

use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

pub use capabilities::{Capabilities, Feature};
pub(crate) use key::{GENERATION_MASK, Key, Kind};
pub use kind::DriverKind;
pub(crate) use settings::Settings;

/// The offset that stands for the file's own position; the only one for pipes and the like.
pub(crate) const CURRENT_POSITION: u64 = u64::MAX;

/// One operation for the kernel. Descriptors are borrowed, pointers stay owned by the table that holds the key.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Op {
    /// Accept one connection, or (multishot) every connection until cancelled. The result is a descriptor.
    Accept { fd: RawFd, multishot: bool },
    /// Connect a stream socket. `address` stays valid until the completion.
    Connect { fd: RawFd, address: *const libc::sockaddr, address_len: u32 },
    /// Receive into a buffer that the kernel takes from a buffer ring of the core when bytes have arrived.
    ReceiveSelect { fd: RawFd, group: BufferGroup, multishot: bool },
    /// Receive datagrams with their senders' addresses, each into a buffer of the core's ring for datagrams, until
    /// cancelled.
    ReceiveMessages { fd: RawFd },
    /// Receive into one given buffer; used only after readiness was seen.
    ReceiveInto { fd: RawFd, buffer: *mut u8, len: u32 },
    /// Send all bytes; completes when the kernel has taken them or on an error.
    Send { fd: RawFd, bytes: *const u8, len: u32 },
    /// Send what the socket takes at once. No event at all means that every byte was taken by the time the submission
    /// was consumed; an event carries the short count or the error. See [`Driver::settled`].
    SendNow { fd: RawFd, bytes: *const u8, len: u32 },
    /// Send all bytes without copying them: one event says what was taken, and, if it says that there is more, another one, with
    /// [`Event::is_notification`], that they are read no more. Where [`Feature::SendZeroCopy`] is.
    SendZeroCopy { fd: RawFd, bytes: *const u8, len: u32 },
    /// Send of the message's parts what the socket takes, once it takes some: so a slow reader's progress shows.
    SendMessage { fd: RawFd, message: *const libc::msghdr },
    /// recvmsg(2), with MSG_CMSG_CLOEXEC and `flags`.
    ReceiveMessage { fd: RawFd, message: *mut libc::msghdr, flags: u32 },
    /// openat(2) with O_CLOEXEC and O_LARGEFILE; relative to the working directory. The result is a descriptor.
    Open { path: *const libc::c_char, flags: i32, mode: u32 },
    /// pread(2), or read(2) for the offset [`CURRENT_POSITION`].
    Read { fd: RawFd, buffer: *mut u8, len: u32, offset: u64 },
    /// pwrite(2), or write(2) for the offset [`CURRENT_POSITION`].
    Write { fd: RawFd, bytes: *const u8, len: u32, offset: u64 },
    /// fsync(2), or fdatasync(2).
    Sync { fd: RawFd, data_only: bool },
    /// ftruncate(2); where [`Feature::Ftruncate`] is.
    Truncate { fd: RawFd, len: u64 },
    /// statx(2) with the basic fields and the birth time; of the descriptor if the path is empty.
    Status { fd: RawFd, path: *const libc::c_char, flags: i32, status: *mut libc::statx },
    /// renameat2(2).
    Rename { from: *const libc::c_char, to: *const libc::c_char },
    /// unlinkat(2); `flags` may hold AT_REMOVEDIR.
    Unlink { path: *const libc::c_char, flags: i32 },
    /// mkdirat(2); where [`Feature::PathOps`] is, like the next two.
    MakeDirectory { path: *const libc::c_char, mode: u32 },
    /// symlinkat(2).
    Symlink { target: *const libc::c_char, path: *const libc::c_char },
    /// linkat(2).
    Link { from: *const libc::c_char, to: *const libc::c_char },
    /// waitid(2) of the child behind a pidfd, with WEXITED; where [`Feature::WaitId`] is.
    WaitChild { pidfd: RawFd, info: *mut libc::siginfo_t },
    /// Wait for readiness (poll(2) bits), once or again and again.
    Poll { fd: RawFd, events: u32, multishot: bool },
    /// End the sleep of the loop whose ring this is, with an event under [`Key::IGNORED`] there; where
    /// [`Feature::MsgRing`] is. Tried while it is submitted. No event here means that it went well, as
    /// for [`Op::SendNow`].
    Ring { fd: RawFd },
    /// Answer at a time, in nanoseconds of CLOCK_MONOTONIC.
    Alarm { deadline: u64 },
    /// Close a descriptor.
    Close { fd: RawFd },
    /// Cancel the operation submitted under `target`.
    Cancel { target: Key },
}

impl Op {
    /// Whether the result is a new descriptor.
    #[inline]
    pub(crate) fn opens(&self) -> bool {
        matches!(self, Op::Accept { .. } | Op::Open { .. })
    }
}

/// What came back for one operation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Event {
    /// The key it was submitted under.
    pub(crate) key: Key,
    /// The result: a count, a descriptor, or a negated errno.
    pub(crate) result: i32,
    /// The receive buffer that holds the bytes, if one was taken.
    pub(crate) buffer: Option<u16>,
    /// Whether the same operation will answer again.
    pub(crate) more: bool,
    /// Not a result: what an [`Op::SendZeroCopy`] was given is let go.
    pub(crate) is_notification: bool,
}

/// Which buffer ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub(crate) enum BufferGroup {
    /// For what streams receive.
    Streams = 0,
    /// For datagrams.
    Datagrams = 1,
    /// For streams of which much is expected.
    Bulk = 2,
}

/// How long one entry into the kernel may last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// Submit and take what is there.
    No,
    /// Sleep until something completes, or until the deadline (nanoseconds of CLOCK_MONOTONIC).
    Until(Option<u64>),
    /// Like `Until`, but gather: return when `count` completions are there, or after `gather_us` if there is any.
    Gather { deadline: Option<u64>, gather_us: u32, count: u32 },
}

/// A kernel interface.
#[derive(Debug)]
pub(crate) enum Driver {
    /// io_uring.
    Uring(uring::Uring),
    /// epoll(7), where io_uring is forbidden.
    Epoll(Box<epoll::Epoll>),
}

impl Driver {
    /// The driver that the settings name; without a name the ring, and epoll where this machine forbids rings.
    ///
    /// # Errors
    ///
    /// When it cannot be had; the message names the likely cause and the cure.
    pub(crate) fn new(settings: &Settings) -> io::Result<Self> {
        let kind = settings.driver.map_or_else(DriverKind::of_environment, |kind| Ok(Some(kind)))?;
        if kind != Some(DriverKind::Epoll) {
            match uring::Uring::new(settings) {
                Ok(uring) => return Ok(Driver::Uring(uring)),
                Err(error) if kind.is_some() || !uring::is_forbidden(&error) => return Err(error),
                Err(error) => say_once(&error),
            }
        }
        Ok(Driver::Epoll(Box::new(epoll::Epoll::new(settings)?)))
    }

    /// Hands one operation to the kernel with the next [`wait`](Self::wait), earlier if the queue is full.
    ///
    /// # Safety
    ///
    /// Memory that `op` points to stays valid and unaliased until the last event of `key`, or for
    /// [`Op::SendNow`] until [`settled`](Self::settled) says so after this call.
    #[inline]
    pub(crate) unsafe fn push(&mut self, op: Op, key: Key) {
        match self {
            // SAFETY: the caller's promise is passed on unchanged.
            Driver::Uring(uring) => unsafe { uring.push(op, key) },
            // SAFETY: the same.
            Driver::Epoll(epoll) => unsafe { epoll.push(op, key) },
        }
    }

    /// Submits everything and waits as told.
    #[inline]
    pub(crate) fn wait(&mut self, wait: Wait) -> io::Result<()> {
        match self {
            Driver::Uring(uring) => uring.wait(wait),
            Driver::Epoll(epoll) => epoll.wait(wait),
        }
    }

    /// The next completion that is there.
    #[inline]
    pub(crate) fn next_event(&mut self) -> Option<Event> {
        match self {
            Driver::Uring(uring) => uring.next_event(),
            Driver::Epoll(epoll) => epoll.next_event(),
        }
    }

    /// The place in line of the next operation to be pushed.
    #[inline]
    pub(crate) fn ticket(&self) -> u64 {
        match self {
            Driver::Uring(uring) => uring.ticket(),
            Driver::Epoll(epoll) => epoll.ticket(),
        }
    }

    /// Whether every operation pushed before `ticket` was consumed by the kernel, and every event that it answered at
    /// once has been taken: from here on the absence of an event for [`Op::SendNow`] means success.
    #[inline]
    pub(crate) fn settled(&self, ticket: u64) -> bool {
        match self {
            Driver::Uring(uring) => uring.settled(ticket),
            Driver::Epoll(epoll) => epoll.settled(ticket),
        }
    }

    /// Whether entering the kernel now would bring something (completions, or work that it deferred).
    #[inline]
    pub(crate) fn has_work(&mut self) -> bool {
        match self {
            Driver::Uring(uring) => uring.has_work(),
            Driver::Epoll(epoll) => epoll.has_work(),
        }
    }

    /// Whether the next [`wait`](Self::wait) is likely to hand over at once what is pushed now.
    #[inline]
    pub(crate) fn is_prompt(&self) -> bool {
        match self {
            Driver::Uring(uring) => uring.is_prompt(),
            Driver::Epoll(_) => false,
        }
    }

    /// The descriptor of the ring, for others to ring it; none where the kernel or the mask has no [`Op::Ring`].
    pub(crate) fn bell(&self) -> Option<OwnedFd> {
        match self {
            Driver::Uring(uring) => uring.bell(),
            Driver::Epoll(_) => None,
        }
    }

    /// Whether [`has_work`](Self::has_work) sees all there is without entering the kernel.
    pub(crate) fn shows_work(&self) -> bool {
        match self {
            Driver::Uring(uring) => uring.shows_work(),
            // The kernel has no memory that shows it.
            Driver::Epoll(_) => false,
        }
    }

    /// What this kernel offers and the mask leaves.
    #[inline]
    pub(crate) fn capabilities(&self) -> &Capabilities {
        match self {
            Driver::Uring(uring) => uring.capabilities(),
            Driver::Epoll(epoll) => epoll.capabilities(),
        }
    }

    /// How often the kernel was entered.
    #[inline]
    pub(crate) fn enters(&self) -> u64 {
        match self {
            Driver::Uring(uring) => uring.enters(),
            Driver::Epoll(epoll) => epoll.enters(),
        }
    }

    /// How often completions were seen to wait in the kernel, because the completion queue was full.
    #[inline]
    pub(crate) fn overflows(&self) -> u64 {
        match self {
            Driver::Uring(uring) => uring.overflows(),
            Driver::Epoll(_) => 0,
        }
    }

    /// Makes the buffer ring at `address` known to the kernel, as that of `group`.
    ///
    /// # Safety
    ///
    /// The ring's memory outlives this driver.
    pub(crate) unsafe fn register_buffers(
        &mut self,
        group: BufferGroup,
        address: *const u8,
        entries: u16,
    ) -> io::Result<()> {
        match self {
            // SAFETY: the caller's promise is passed on unchanged.
            Driver::Uring(uring) => unsafe { uring.register_buffers(group, address, entries) },
            Driver::Epoll(_) => Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP)),
        }
    }
    /// The kernel refused the buffer ring: do without it.
    pub(crate) fn without_buffer_ring(&mut self) {
        match self {
            Driver::Uring(uring) => uring.without_buffer_ring(),
            // It never had one.
            Driver::Epoll(_) => {}
        }
    }
}

/// That a program stands on something else than it was made for should not be a riddle.
fn say_once(error: &io::Error) {
    static SAID: AtomicBool = AtomicBool::new(false);
    if !SAID.swap(true, Ordering::Relaxed) {
        eprintln!("annulet: {error}; loops stand on epoll instead, which is slower (said once)");
    }
}
