//! Listening sockets: multishot accept into a bounded queue, and a pause when descriptors run out.
//!
//! ```text
//!            arm                   queue full, release            last completion
//!   Idle ----------> Armed ------------------------> Stopping ----------------------> Idle
//!    ^                 | EMFILE, ENFILE, ENOMEM, ENOBUFS
//!    '--- 50 ms ---- Pausing  (or a socket of this core was closed)
//! ```
//!
//! Ending ([`Listeners::poll_rest`]) is Stopping without arming again; what the last completion brings is still given out.
//! The wake-up for a connection goes to one of all rings that wait at a socket (the ring waits exclusively), and a
//! cancelled accept takes its wake-up with it. So whoever ends looks once more before it goes, or that connection would
//! wait in the queue, unseen by the others, until the next one comes.

#![allow(unsafe_code)]

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::task::{Poll, Waker};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{ArmedTimer, Context};
use crate::driver::Feature;
use crate::driver::{Event, GENERATION_MASK, Key, Kind, Op};

/// Accepted connections that nobody has taken yet; beyond it accepting stops until half are taken.
const ACCEPTED_MAX: usize = 1024;
/// How long accepting pauses when no descriptor is left. The limit is sampled when accept is armed, so it must be armed
/// anew. A socket of this core that closes ends the pause; a file, or another core's socket, does not tell us.
const PAUSE_NS: u64 = 50_000_000;
/// How often an ending listener looks for a connection that nobody was woken for. Each time others may have been
/// quicker; the bound is for a flood of connections, which wakes the others anyway.
const LOOKS_MAX: u8 = 64;

/// Which listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ListenerId {
    slot: u32,
    generation: u32,
}

impl ListenerId {
    /// The id as a number.
    pub(crate) fn word(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.slot)
    }

    /// The id of [`word`](Self::word).
    pub(crate) fn from_word(word: u64) -> Self {
        ListenerId { slot: word as u32, generation: (word >> 32) as u32 }
    }
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
    /// Nothing is accepted until the next wait for a connection.
    is_held: bool,
    timer: ArmedTimer,
    /// Set while no more is to be accepted: how often it was looked since.
    ending: Option<u8>,
}

/// All listeners of a core.
#[derive(Debug, Default)]
pub(crate) struct Listeners {
    slots: Vec<Listener>,
    free: Vec<u32>,
    /// Connections accepted, ever.
    pub(crate) accepts: u64,
    /// Pauses for want of descriptors or memory, ever.
    pub(crate) pauses: u64,
    /// How many sockets of the core had been closed when accepting was last resumed for it.
    closes_seen: u64,
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
            is_held: false,
            timer: None,
            ending: None,
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
        listener.ending = None;
        listener.is_held = false;
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

    /// Stops accepting until `poll_accept` is called again.
    pub(crate) fn hold(&mut self, id: ListenerId, cx: &mut Context<'_>) {
        if let Some(listener) = self.find(id.slot, id.generation) {
            listener.is_held = true;
            listener.stop(id, cx);
        }
    }

    /// The next of the connections that were accepted already; none after the last. No more are accepted from the first
    /// call on, until `poll_accept` is called again. Registers `waker` as that does.
    pub(crate) fn poll_rest(
        &mut self,
        id: ListenerId,
        waker: Waker,
        old: &mut Option<Waker>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<OwnedFd>> {
        let listener = self.find(id.slot, id.generation).expect("a listener outlives its handle's calls");
        if listener.ending.is_none() {
            listener.ending = Some(0);
            if let Some(timer) = listener.timer.take() {
                cx.timers.remove(timer);
                listener.accept = Accept::Idle;
            }
            match listener.accept {
                Accept::Idle => listener.look(id, cx),
                _ => listener.stop(id, cx),
            }
        }
        if let Some(fd) = listener.accepted.pop_front() {
            *old = Some(waker);
            return Poll::Ready(Some(fd));
        }
        if listener.accept == Accept::Idle {
            *old = Some(waker);
            return Poll::Ready(None);
        }
        *old = listener.acceptor.replace(waker);
        Poll::Pending
    }

    /// Cancels every accept that waits; it is armed anew with its last completion, and takes a connection that nobody was
    /// woken for.
    pub(crate) fn look_again(&mut self, cx: &mut Context<'_>) {
        for (slot, listener) in self.slots.iter_mut().enumerate() {
            if listener.ending.is_none() {
                listener.stop(ListenerId { slot: slot as u32, generation: listener.generation }, cx);
            }
        }
    }

    /// Takes a completion of an accept in.
    pub(crate) fn handle_event(&mut self, event: Event, cx: &mut Context<'_>) {
        let id = ListenerId { slot: event.key.slot(), generation: event.key.generation() };
        self.accepts += u64::from(event.result >= 0);
        // SAFETY: the kernel made this descriptor for us and told nobody else.
        let accepted = (event.result >= 0).then(|| unsafe { OwnedFd::from_raw_fd(event.result) });
        // Before Linux 6.1 what did not fit into the completion queue may come behind the last completion.
        let Some(listener) = self.find(id.slot, id.generation) else { return };
        // Without a handle nobody will ever take it, and it is closed here.
        if let Some(fd) = accepted.filter(|_| listener.fd.is_some()) {
            listener.accepted.push_back(fd);
            cx.wakes.push(&mut listener.acceptor);
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
        if listener.ending.is_some() {
            // An error ends it no sooner: nobody is going to accept any more.
            listener.look(id, cx);
            if listener.accept == Accept::Idle {
                cx.wakes.push(&mut listener.acceptor);
            }
            return;
        }
        match -event.result {
            // EAGAIN: somebody has made the socket non-blocking meanwhile, a process with another driver for example.
            libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOBUFS | libc::EAGAIN => {
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
                if listener.accepted.len() <= ACCEPTED_MAX / 2 && !listener.is_held {
                    listener.arm(id, cx);
                }
            }
            // Errors of one connection (accept(2) lists them), not of the listener.
            libc::ECONNABORTED
            | libc::EINTR
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
                if listener.accepted.len() < ACCEPTED_MAX && !listener.is_held {
                    listener.arm(id, cx);
                }
            }
        }
    }

    /// So many sockets of this core have been closed by now. If that is more than it was, paused listeners try again: their
    /// requests follow those that close, so they find a descriptor.
    pub(crate) fn resume(&mut self, closes: u64, cx: &mut Context<'_>) {
        if closes == self.closes_seen {
            return;
        }
        self.closes_seen = closes;
        for slot in 0..self.slots.len() {
            let listener = &mut self.slots[slot];
            if listener.accept != Accept::Pausing || listener.fd.is_none() {
                continue;
            }
            let id = ListenerId { slot: slot as u32, generation: listener.generation };
            if let Some(timer) = listener.timer.take() {
                cx.timers.remove(timer);
            }
            listener.end_pause(id, cx);
        }
    }

    /// The pause is over.
    pub(crate) fn handle_timer(&mut self, id: ListenerId, cx: &mut Context<'_>) {
        let Some(listener) = self.find(id.slot, id.generation) else { return };
        listener.timer = None;
        if listener.accept == Accept::Pausing && listener.fd.is_some() {
            listener.end_pause(id, cx);
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
            listener.ending = None;
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

    /// After a lack of descriptors: accepts again, unless that is held back for another reason.
    fn end_pause(&mut self, id: ListenerId, cx: &mut Context<'_>) {
        self.accept = Accept::Idle;
        if !self.is_held {
            self.arm(id, cx);
        }
    }

    /// While ending: takes one more connection if one waits, without waiting for it.
    fn look(&mut self, id: ListenerId, cx: &mut Context<'_>) {
        let (Some(fd), Some(looks)) = (&self.fd, &mut self.ending) else { return };
        if *looks == LOOKS_MAX || !is_readable(fd) {
            return;
        }
        *looks += 1;
        // Accepting tries first and waits afterwards; the cancellation behind it ends the waiting.
        let op = Op::Accept { fd: fd.as_raw_fd(), multishot: false };
        // SAFETY: as in `arm`.
        unsafe { cx.driver.push(op, Key::new(Kind::Accept, id.slot, id.generation)) };
        self.accept = Accept::Armed;
        self.stop(id, cx);
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

/// Whether a connection waits in the kernel's queue.
fn is_readable(listener: &OwnedFd) -> bool {
    let mut entry = [PollFd::new(listener, PollFlags::IN)];
    // It does not wait; an error says that there is nothing to be had.
    matches!(poll(&mut entry, Some(&Timespec::default())), Ok(1))
        && entry[0].revents().contains(PollFlags::IN)
}
