//! Listening sockets: multishot accept into a bounded queue, and a pause when descriptors run out.
//!
//! ```text
//!            arm                   queue full, release            last completion
//!   Idle ----------> Armed ------------------------> Stopping ----------------------> Idle
//!    ^                 | EMFILE, ENFILE, ENOMEM, ENOBUFS
//!    '--- 50 ms ---- Pausing
//! ```

#![allow(unsafe_code)]

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::task::{Poll, Waker};

use super::{ArmedTimer, Context};
use crate::driver::uring::Feature;
use crate::driver::{Event, GENERATION_MASK, Key, Kind, Op};

/// Accepted connections that nobody has taken yet; beyond it accepting stops until half are taken.
const ACCEPTED_MAX: usize = 1024;
/// How long accepting pauses when no descriptor is left. The limit is sampled when accept is armed, so it must be armed
/// anew; a connection of ours that closes does not tell us.
const PAUSE_NS: u64 = 50_000_000;

/// Which listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ListenerId {
    slot: u32,
    generation: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Accept {
    /// The slot is free.
    Free,
    Idle,
    Armed,
    Stopping,
    Pausing,
}

#[derive(Debug)]
struct Listener {
    generation: u32,
    /// The listening descriptor; none once it is released.
    fd: Option<OwnedFd>,
    accept: Accept,
    accepted: VecDeque<OwnedFd>,
    /// An error that accepting cannot go on after; handed to the next caller.
    error: Option<i32>,
    acceptor: Option<Waker>,
    timer: ArmedTimer,
}

/// All listeners of a core.
#[derive(Debug, Default)]
pub(crate) struct Listeners {
    slots: Vec<Listener>,
    free: Vec<u32>,
    /// Pauses for want of descriptors or memory, ever.
    pub(crate) pauses: u64,
}

impl Listeners {
    /// Takes over a listening descriptor.
    pub(crate) fn insert(&mut self, fd: OwnedFd) -> ListenerId {
        if let Some(slot) = self.free.pop() {
            let listener = &mut self.slots[slot as usize];
            listener.fd = Some(fd);
            listener.accept = Accept::Idle;
            return ListenerId { slot, generation: listener.generation };
        }
        let slot = self.slots.len() as u32;
        self.slots.push(Listener {
            generation: 0,
            fd: Some(fd),
            accept: Accept::Idle,
            accepted: VecDeque::new(),
            error: None,
            acceptor: None,
            timer: None,
        });
        ListenerId { slot, generation: 0 }
    }

    fn find(&mut self, slot: u32, generation: u32) -> Option<&mut Listener> {
        self.slots.get_mut(slot as usize).filter(|listener| listener.generation == generation)
    }

    /// The descriptor, -1 once released.
    pub(crate) fn fd(&mut self, id: ListenerId) -> RawFd {
        self.find(id.slot, id.generation)
            .and_then(|listener| listener.fd.as_ref())
            .map_or(-1, AsRawFd::as_raw_fd)
    }

    /// Listeners that are not free.
    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Every listener that is not free, for shutdown.
    pub(crate) fn ids(&self) -> Vec<ListenerId> {
        let used = self.slots.iter().enumerate().filter(|(_, listener)| listener.accept != Accept::Free);
        used.map(|(slot, listener)| ListenerId { slot: slot as u32, generation: listener.generation })
            .collect()
    }

    /// The next connection. Registers `waker` when there is none; the one registered before comes back in `old`.
    pub(crate) fn poll_accept(
        &mut self,
        id: ListenerId,
        waker: Waker,
        old: &mut Option<Waker>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<OwnedFd>> {
        let listener = self.find(id.slot, id.generation).expect("a listener outlives its handle's calls");
        if let Some(fd) = listener.accepted.pop_front() {
            *old = Some(waker);
            if listener.accept == Accept::Idle && listener.accepted.len() <= ACCEPTED_MAX / 2 {
                listener.arm(id, cx);
            }
            return Poll::Ready(Ok(fd));
        }
        if let Some(errno) = listener.error.take() {
            *old = Some(waker);
            return Poll::Ready(Err(io::Error::from_raw_os_error(errno)));
        }
        if listener.accept == Accept::Idle {
            listener.arm(id, cx);
        }
        *old = listener.acceptor.replace(waker);
        Poll::Pending
    }

    /// Takes a completion of an accept in.
    pub(crate) fn handle_event(&mut self, event: Event, cx: &mut Context<'_>) {
        let id = ListenerId { slot: event.key.slot(), generation: event.key.generation() };
        let listener =
            self.find(id.slot, id.generation).expect("a completion arrives before its slot is reused");
        if event.result >= 0 {
            // SAFETY: the kernel made this descriptor for us and told nobody else.
            let fd = unsafe { OwnedFd::from_raw_fd(event.result) };
            // Without a handle nobody will ever take it, and it is closed here.
            if listener.fd.is_some() {
                listener.accepted.push_back(fd);
                cx.wakes.push(&mut listener.acceptor);
            }
        }
        if event.more {
            if listener.accepted.len() >= ACCEPTED_MAX && listener.accept == Accept::Armed {
                listener.stop(id, cx);
            }
            return;
        }
        listener.accept = Accept::Idle;
        if listener.fd.is_none() {
            return self.free_if_quiet(id);
        }
        match -event.result {
            libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOBUFS => {
                listener.accept = Accept::Pausing;
                listener.timer = Some(cx.timers.insert_listener(cx.now + PAUSE_NS, id));
                self.pauses += 1;
                if self.pauses == 1 {
                    eprintln!(
                        "annulet: accepting pauses: {} (raise the nofile limit, `ulimit -n`; said once)",
                        io::Error::from_raw_os_error(-event.result)
                    );
                }
            }
            // Our own stop; the queue decides when to go on.
            libc::ECANCELED => {
                if listener.accepted.len() <= ACCEPTED_MAX / 2 {
                    listener.arm(id, cx);
                }
            }
            // Errors of one connection (accept(2) lists them), not of the listener.
            libc::ECONNABORTED
            | libc::EINTR
            | libc::EAGAIN
            | libc::EPROTO
            | libc::EPERM
            | libc::ETIMEDOUT
            | libc::ENETDOWN
            | libc::ENOPROTOOPT
            | libc::EHOSTDOWN
            | libc::EHOSTUNREACH
            | libc::ENETUNREACH => {
                listener.arm(id, cx);
            }
            errno if event.result < 0 => {
                listener.error = Some(errno);
                cx.wakes.push(&mut listener.acceptor);
            }
            // A good result was the last of its request: one-shot accept, or the kernel ended the multishot.
            _ => {
                if listener.accepted.len() < ACCEPTED_MAX {
                    listener.arm(id, cx);
                }
            }
        }
    }

    /// The pause is over.
    pub(crate) fn handle_timer(&mut self, id: ListenerId, cx: &mut Context<'_>) {
        let Some(listener) = self.find(id.slot, id.generation) else { return };
        listener.timer = None;
        if listener.accept == Accept::Pausing && listener.fd.is_some() {
            listener.accept = Accept::Idle;
            listener.arm(id, cx);
        }
    }

    /// The handle is gone: what was accepted and not taken is closed, and so is the listener. Returns the waker.
    pub(crate) fn release(&mut self, id: ListenerId, cx: &mut Context<'_>) -> Option<Waker> {
        let listener = self.find(id.slot, id.generation)?;
        let waker = listener.acceptor.take();
        listener.accepted.clear();
        listener.stop(id, cx);
        if let Some(timer) = listener.timer.take() {
            cx.timers.remove(timer);
        }
        if listener.accept == Accept::Pausing {
            listener.accept = Accept::Idle;
        }
        if let Some(fd) = listener.fd.take() {
            // Through the ring, behind the accept and its cancellation: were it closed here and now, its number could
            // be another file's by the time they are submitted.
            // SAFETY: closing points to no memory; the slot gives its descriptor away here.
            unsafe { cx.driver.push(Op::Close { fd: fd.into_raw_fd() }, Key::IGNORED) };
        }
        self.free_if_quiet(id);
        waker
    }

    fn free_if_quiet(&mut self, id: ListenerId) {
        let listener = &mut self.slots[id.slot as usize];
        if listener.fd.is_none() && listener.accept == Accept::Idle {
            listener.accept = Accept::Free;
            listener.generation = listener.generation.wrapping_add(1) & GENERATION_MASK;
            listener.error = None;
            self.free.push(id.slot);
        }
    }
}

impl Listener {
    fn arm(&mut self, id: ListenerId, cx: &mut Context<'_>) {
        let Some(fd) = &self.fd else { return };
        let multishot = cx.driver.capabilities().has(Feature::AcceptMultishot);
        let op = Op::Accept { fd: fd.as_raw_fd(), multishot };
        // SAFETY: no address is asked for, so the operation points to no memory.
        unsafe { cx.driver.push(op, Key::new(Kind::Accept, id.slot, id.generation)) };
        self.accept = Accept::Armed;
    }

    fn stop(&mut self, id: ListenerId, cx: &mut Context<'_>) {
        if self.accept == Accept::Armed {
            let target = Key::new(Kind::Accept, id.slot, id.generation);
            // SAFETY: a cancellation points to no memory.
            unsafe { cx.driver.push(Op::Cancel { target }, Key::IGNORED) };
            self.accept = Accept::Stopping;
        }
    }
}
