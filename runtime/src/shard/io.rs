//! Everything of a shard that takes completions: the driver, the tables, the wheel. One borrow a turn.

#![allow(unsafe_code)]

use std::os::fd::RawFd;
use std::rc::Rc;
use std::sync::Arc;

use super::Remote;
use super::ringing::Ringing;
use crate::driver::Feature;
use crate::driver::{BufferGroup, Driver, Event, Key, Kind, Op};
use crate::op::{BufferPool, Ops, Shape};
use crate::socket::{Context, Listeners, Sockets, Wakes};
use crate::time::{TimerTarget, Timers};

/// See the module.
#[derive(Debug)]
pub(crate) struct Io {
    pub(crate) driver: Driver,
    pub(crate) pool: Rc<BufferPool>,
    pub(crate) sockets: Sockets,
    /// Datagram sockets, which receive into buffers of their own; made for the first of them.
    pub(crate) datagrams: Sockets,
    datagram_pool: Option<Rc<BufferPool>>,
    pub(crate) listeners: Listeners,
    pub(crate) ops: Ops,
    pub(crate) timers: Timers,
    pub(crate) wakes: Wakes,
    /// The eventfd that other threads ring.
    doorbell: RawFd,
    /// Whether the poll of the doorbell is with the kernel.
    pub(crate) doorbell_armed: bool,
    /// Messages to the rings of other loops.
    pub(super) ringing: Ringing,
    /// When the alarm rings, if one is with the kernel.
    alarm: Option<u64>,
    /// Completions so far.
    pub(crate) completions: u64,
}

impl Io {
    pub(crate) fn new(driver: Driver, pool: Rc<BufferPool>, doorbell: RawFd) -> Self {
        let mut io = Io {
            driver,
            pool,
            sockets: Sockets::default(),
            datagrams: Sockets::default(),
            datagram_pool: None,
            listeners: Listeners::default(),
            ops: Ops::default(),
            timers: Timers::default(),
            wakes: Wakes::default(),
            doorbell,
            doorbell_armed: false,
            ringing: Ringing::default(),
            alarm: None,
            completions: 0,
        };
        io.arm_doorbell();
        io
    }

    /// The tables that a socket call needs, apart from the sockets themselves.
    #[inline]
    pub(crate) fn sockets(&mut self, now: u64) -> (&mut Sockets, Context<'_>) {
        let Io { driver, pool, sockets, timers, wakes, .. } = self;
        (sockets, Context { driver, pool, timers, wakes, now })
    }

    /// The same for datagram sockets.
    #[inline]
    pub(crate) fn datagrams(&mut self, now: u64) -> (&mut Sockets, Context<'_>) {
        let Io { driver, pool, datagrams, datagram_pool, timers, wakes, .. } = self;
        // Without a pool of their own there is no such socket, and nothing for anybody to do with this one.
        let pool = datagram_pool.as_deref().unwrap_or(pool);
        (datagrams, Context { driver, pool, timers, wakes, now })
    }

    /// The buffers for datagrams. Made when first asked for, because few programs receive any.
    pub(crate) fn datagram_pool(&mut self) -> Rc<BufferPool> {
        if let Some(pool) = &self.datagram_pool {
            return Rc::clone(pool);
        }
        let make = |with_ring| Rc::new(BufferPool::new(Shape::DATAGRAM, with_ring, usize::MAX));
        let mut pool = make(self.driver.capabilities().has(Feature::MessageMultishot));
        if let Some((address, entries)) = pool.ring() {
            // SAFETY: the ring is the first field and closed first, or the shard leaks the whole of this value.
            let registered =
                unsafe { self.driver.register_buffers(BufferGroup::Datagrams, address, entries) };
            if registered.is_err() {
                // No memory to lock, for example: receive one by one, by readiness.
                pool = make(false);
            }
        }
        self.datagram_pool = Some(Rc::clone(&pool));
        pool
    }

    /// Receive buffers outside the rings: queued at a socket, or leased.
    pub(crate) fn buffers_held(&self) -> usize {
        self.pool.held() + self.datagram_pool.as_ref().map_or(0, |pool| pool.held())
    }

    /// Whether something is left to be done that no event would end a sleep for.
    #[inline]
    pub(crate) fn is_unsettled(&self) -> bool {
        self.sockets.is_unsettled() || !self.wakes.is_empty()
    }

    /// Whether there are starved sockets that could be fed now.
    #[inline]
    pub(crate) fn is_hungry(&self) -> bool {
        self.sockets.is_hungry(&self.pool)
            || self.datagram_pool.as_ref().is_some_and(|pool| self.datagrams.is_hungry(pool))
    }

    /// The same for listeners.
    pub(crate) fn listeners(&mut self, now: u64) -> (&mut Listeners, Context<'_>) {
        let Io { driver, pool, listeners, timers, wakes, .. } = self;
        (listeners, Context { driver, pool, timers, wakes, now })
    }

    /// The same for one-shot operations.
    pub(crate) fn ops(&mut self) -> (&mut Ops, &mut Driver, &mut Wakes) {
        (&mut self.ops, &mut self.driver, &mut self.wakes)
    }

    /// Hands over what was gathered during the turn.
    #[inline]
    pub(crate) fn flush(&mut self, now: u64) {
        let (sockets, mut cx) = self.sockets(now);
        sockets.feed_starved(&mut cx);
        sockets.flush(&mut cx);
        if self.datagram_pool.is_some() {
            let (datagrams, mut cx) = self.datagrams(now);
            datagrams.feed_starved(&mut cx);
        }
        if self.listeners.pauses != 0 {
            let closes = self.sockets.closes + self.datagrams.closes;
            let (listeners, mut cx) = self.listeners(now);
            listeners.resume(closes, &mut cx);
        }
    }

    /// Takes every completion into its table. Returns how many there were, and whether the doorbell rang.
    #[inline]
    pub(crate) fn drain(&mut self, now: u64) -> (u32, bool) {
        let mut events = 0;
        let mut rang = false;
        while let Some(event) = self.driver.next_event() {
            events += 1;
            rang |= event.key.kind() == Kind::Doorbell;
            self.handle_event(event, now);
        }
        self.completions += u64::from(events);
        let (sockets, mut cx) = self.sockets(now);
        sockets.settle(&mut cx);
        self.ringing.settle(&self.driver);
        (events, rang)
    }

    #[inline]
    fn handle_event(&mut self, event: Event, now: u64) {
        match event.key.kind() {
            Kind::Receive | Kind::Send => {
                let (sockets, mut cx) = self.sockets(now);
                sockets.handle_event(event, &mut cx);
            }
            Kind::ZeroCopy => {
                let (sockets, mut cx) = self.sockets(now);
                sockets.handle_zero_copy(event, &mut cx);
            }
            Kind::Datagram => {
                let (datagrams, mut cx) = self.datagrams(now);
                datagrams.handle_event(event, &mut cx);
            }
            Kind::Accept => {
                let (listeners, mut cx) = self.listeners(now);
                listeners.handle_event(event, &mut cx);
            }
            Kind::Op => self.ops.handle_event(event, &mut self.driver, &mut self.wakes),
            Kind::Alarm => self.alarm = None,
            Kind::Doorbell => self.doorbell_armed = event.more,
            Kind::Ring => self.ringing.handle_event(event),
            Kind::Ignored => {}
        }
    }

    /// Fires what is due.
    #[inline]
    pub(crate) fn expire(&mut self, now: u64) {
        let mut due = self.timers.expire(now);
        for target in due.drain(..) {
            match target.into() {
                TimerTarget::Waker(waker) => self.wakes.push(&mut Some(waker)),
                TimerTarget::Socket(id) => {
                    let (sockets, mut cx) = self.sockets(now);
                    sockets.handle_timer(id, &mut cx);
                }
                TimerTarget::Listener(id) => {
                    let (listeners, mut cx) = self.listeners(now);
                    listeners.handle_timer(id, &mut cx);
                }
            }
        }
        self.timers.put_back(due);
    }

    /// Lets the kernel watch the doorbell.
    pub(crate) fn arm_doorbell(&mut self) {
        let op = Op::Poll { fd: self.doorbell, events: libc::POLLIN as u32, multishot: true };
        // SAFETY: a poll points to no memory.
        unsafe { self.driver.push(op, Key::DOORBELL) };
        self.doorbell_armed = true;
    }

    /// Rings a loop that sleeps, and that nobody else will ring: with the next entry into the kernel, which the caller makes now.
    pub(super) fn ring(&mut self, remote: &Arc<Remote>) {
        self.ringing.ring(remote, &mut self.driver);
    }

    /// How to wait for the next deadline. A far one is given to the kernel once, as an alarm, and not with every wait:
    /// most deadlines are those of connections, which are put off before they pass, and setting a timer up and taking it
    /// down costs more than a system call.
    #[inline]
    pub(crate) fn deadline_of_wait(&mut self, now: u64) -> Option<u64> {
        let deadline = self.timers.next_deadline()?;
        match self.alarm {
            Some(alarm) if alarm <= deadline => return None,
            None if deadline > now.saturating_add(ALARM_AFTER_NS) => {}
            _ => return Some(deadline),
        }
        // SAFETY: the alarm points to no memory of ours.
        unsafe { self.driver.push(Op::Alarm { deadline }, Key::ALARM) };
        self.alarm = Some(deadline);
        None
    }

    /// Ends the watch of the doorbell and the alarm, for shutdown.
    pub(crate) fn stop_watching(&mut self) {
        if self.alarm.is_some() {
            // SAFETY: a cancellation points to no memory.
            unsafe { self.driver.push(Op::Cancel { target: Key::ALARM }, Key::IGNORED) };
        }
        if self.doorbell_armed {
            // SAFETY: a cancellation points to no memory.
            unsafe { self.driver.push(Op::Cancel { target: Key::DOORBELL }, Key::IGNORED) };
        }
    }

    /// Whether the kernel holds nothing of ours and will answer nothing more.
    pub(crate) fn is_quiet(&self) -> bool {
        self.sockets.len() == 0
            && !self.sockets.is_pinned()
            && self.datagrams.len() == 0
            && self.listeners.len() == 0
            && self.ops.len() == 0
            && !self.doorbell_armed
            && self.alarm.is_none()
    }
}

/// Deadlines beyond this are waited for by an alarm. Arbitrary: far above a turn, far below a connection's deadlines.
const ALARM_AFTER_NS: u64 = 20_000_000;

#[cfg(all(test, not(annulet_loom)))]
mod tests {
    use std::io::Read;
    use std::os::fd::IntoRawFd;
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::shard::{Shard, ShardSettings};

    /// Of slots that are free, or another's by now: nobody else gets what was meant for them.
    #[test]
    fn what_comes_behind_the_last_completion_is_nobody_s() {
        let shard = Shard::new(&ShardSettings::default(), None).unwrap();
        for kind in [Kind::Accept, Kind::Receive, Kind::Send] {
            for more in [true, false] {
                let (peer, accepted) = UnixStream::pair().unwrap();
                peer.set_nonblocking(true).unwrap();
                let result = match kind {
                    Kind::Accept => accepted.into_raw_fd(),
                    _ => {
                        drop(accepted);
                        5
                    }
                };
                let key = Key::new(kind, 3, 7);
                let event = Event { key, result, buffer: None, more, is_notification: false };
                shard.io.borrow_mut().handle_event(event, 0);
                assert_eq!((&peer).read(&mut [0]).unwrap(), 0, "closed: {kind:?}");
            }
        }
        let io = shard.io.borrow();
        assert_eq!((io.sockets.len(), io.listeners.len()), (0, 0));
    }
}
