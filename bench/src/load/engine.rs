//! One core's load: its connections, its plan, and what it sends on them.
//!
//! The hot path is [`Engine::handle_bytes`]: answers are taken out of received bytes and the next requests are written; all that
//! is written in a turn of the loop leaves with one entry into the kernel. In open loop [`Engine::dispatch`] sends what is due on
//! connections that are free; a connection that becomes free takes what is overdue itself. From the start to the end it is
//! [`run`] that a loop runs.

mod course;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Waker;
use std::time::{Duration, Instant};

use annulet::time::sleep_until;
use annulet_http::Refusal;
use annulet_http::h1::response::Parser;

use super::config::{Config, Mode};
use super::connection::Sent;
use super::handshakes::Handshakes;
use super::latency::record;
use super::link::{self, Link};
use super::messages::Control;
use super::plan::Schedule;
use super::reader;
use super::samples::Samples;
use super::stalls::Stalls;
use super::stats::Stats;
use super::usage::RunQueue;
use super::wire::Cursor;

pub(super) use course::run;

/// What changes with every request.
#[derive(Debug)]
pub(super) struct Hot {
    pub(super) parser: Parser,
    pub(super) stats: Stats,
    cursor: Cursor,
    schedule: Option<Schedule>,
    /// Open loop: connections with room; each at most once.
    available: VecDeque<Rc<Link>>,
    /// Open loop: who sends what is due, while it waits for one of them.
    pacer: Option<Waker>,
    /// Requests that may still be sent.
    left: u64,
    /// Spinning in open loop.
    stalls: Option<Stalls>,
    /// Changes with everything that takes time: requests, answers, what the loop does for itself.
    deeds: u64,
    /// With `--samples`.
    samples: Option<Samples>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Engine {
    pub(super) config: Arc<Config>,
    control: Arc<Control>,
    pub(super) index: usize,
    pub(super) hot: RefCell<Hot>,
    pub(super) handshakes: RefCell<Handshakes>,
    /// The connections that are up, by their number.
    pub(super) links: RefCell<Vec<Option<Rc<Link>>>>,
    /// Whether requests may be sent: between the start and the end.
    is_sending: Cell<bool>,
    /// Whether nothing more is to be done, not even connecting.
    pub(super) is_over: Cell<bool>,
    /// Requests in flight on all connections.
    pub(super) in_flight: Cell<usize>,
    /// Connections that were made or failed for the first time.
    pub(super) tried: Cell<usize>,
    /// With `--connections-per-second`: when the next one may be opened.
    next_connect: Cell<Option<Instant>>,
    /// The next interval's number, and when it began.
    interval: Cell<(usize, u64)>,
    run_queue: RunQueue,
}

/// What becomes of a connection after received bytes were taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    Stay,
    Close,
}

/// What was received is no answer.
#[derive(Clone, Copy, Debug)]
pub(super) enum Nonsense {
    Refused(Refusal),
    /// Bytes although no request was in flight.
    Unasked,
}

impl Engine {
    fn new(config: Arc<Config>, control: Arc<Control>, index: usize) -> Engine {
        let connections = config.share(config.connections as u64, index) as usize;
        let hot = Hot {
            parser: Parser::new(reader::limits()),
            stats: Stats::new(matches!(config.mode, Mode::Open { .. })),
            cursor: Cursor::new(index, config.cores.len(), config.seed),
            schedule: None,
            available: VecDeque::with_capacity(connections),
            pacer: None,
            stalls: (config.spin && matches!(config.mode, Mode::Open { .. })).then(Stalls::new),
            deeds: 0,
            samples: config.samples.then(|| {
                let rate = match config.mode {
                    Mode::Open { rate, .. } => Some(rate / config.cores.len() as f64),
                    Mode::Closed => None,
                };
                Samples::new(rate, config.duration)
            }),
            left: config.requests.map_or(u64::MAX, |requests| config.share(requests, index)),
        };
        Engine {
            config,
            control,
            index,
            hot: RefCell::new(hot),
            handshakes: RefCell::new(Handshakes::new()),
            links: RefCell::new(vec![None; connections]),
            is_sending: Cell::new(false),
            is_over: Cell::new(false),
            in_flight: Cell::new(0),
            tried: Cell::new(0),
            next_connect: Cell::new(None),
            interval: Cell::new((0, 0)),
            run_queue: RunQueue::of_this_thread(),
        }
    }

    /// The time of this turn of the loop: when the completions at hand were fetched.
    #[inline]
    pub(super) fn now_ns(&self) -> u64 {
        self.ns(annulet::time::now())
    }

    /// The time at this very moment.
    fn fresh_ns(&self) -> u64 {
        self.ns(Instant::now())
    }

    fn ns(&self, instant: Instant) -> u64 {
        instant.saturating_duration_since(self.control.origin).as_nanos() as u64
    }

    fn instant(&self, ns: u64) -> Instant {
        self.control.origin + Duration::from_nanos(ns)
    }

    fn is_stopped(&self) -> bool {
        self.control.stop.load(Ordering::Relaxed) || self.control.interrupt.load(Ordering::Relaxed)
    }

    /// Takes received bytes in and writes the next requests.
    #[inline]
    pub(super) fn handle_bytes(&self, link: &Rc<Link>, bytes: &[u8]) -> Result<Next, Nonsense> {
        let now_ns = self.now_ns();
        let hot = &mut *self.hot.borrow_mut();
        let state = &mut *link.state.borrow_mut();
        hot.deeds += 1;
        if now_ns >= hot.stats.from_ns {
            hot.stats.bytes_received += bytes.len() as u64;
        }
        let before = state.in_flight.len();
        let mut rest = bytes;
        let mut next = Next::Stay;
        while !rest.is_empty() {
            let sent = state.in_flight.oldest().ok_or(Nonsense::Unasked)?;
            let answer =
                state.reader.next(&mut hot.parser, &mut rest, sent.is_head).map_err(Nonsense::Refused)?;
            let Some(answer) = answer else { break };
            state.in_flight.pop();
            hot.stats.take_answer(sent, now_ns, answer.status);
            if let Some(samples) = &mut hot.samples
                && sent.planned_ns >= hot.stats.from_ns
            {
                samples.take_answer(sent, now_ns);
            }
            if !answer.keep_alive {
                next = Next::Close;
                break;
            }
        }
        self.in_flight.set(self.in_flight.get() - (before - state.in_flight.len()));
        if state.unsent == 0 && state.in_flight.is_empty() {
            next = Next::Close;
        }
        if next == Next::Stay {
            self.send_next(hot, link, state, now_ns);
        }
        Ok(next)
    }

    /// Sends what a connection that has room is to send now.
    #[inline]
    pub(super) fn send_next(&self, hot: &mut Hot, link: &Rc<Link>, state: &mut link::State, now_ns: u64) {
        if !self.is_sending.get() {
            return;
        }
        let mut room = (state.in_flight.room() as u64).min(state.unsent).min(hot.left);
        if room == 0 {
            return;
        }
        let Some(schedule) = &mut hot.schedule else {
            self.send(hot, link, state, room as usize, || now_ns, now_ns);
            return;
        };
        // A schedule is cheap to look at twice, and the common case is that nothing is overdue.
        if schedule.peek() <= now_ns {
            let fresh_ns = self.fresh_ns();
            while room > 0 && hot.schedule.as_ref().is_some_and(|schedule| schedule.peek() <= fresh_ns) {
                let planned = hot.schedule.as_mut().map_or(0, Schedule::pop);
                self.send(hot, link, state, 1, || planned, fresh_ns);
                room -= 1;
            }
        }
        if room > 0 && !state.is_queued {
            state.is_queued = true;
            hot.available.push_back(Rc::clone(link));
            if let Some(pacer) = hot.pacer.take() {
                pacer.wake();
            }
        }
    }

    #[inline]
    fn send(
        &self,
        hot: &mut Hot,
        link: &Link,
        state: &mut link::State,
        count: usize,
        planned_ns: impl Fn() -> u64,
        sent_ns: u64,
    ) {
        let Hot { cursor, stats, .. } = hot;
        let wire = &self.config.wire;
        let bytes = link.stream.with_send_buffer(|buffer| {
            let before = buffer.len();
            for _ in 0..count {
                let is_head = wire.write(cursor, buffer);
                state.in_flight.push(Sent { planned_ns: planned_ns(), sent_ns, is_head });
            }
            buffer.len() - before
        });
        if sent_ns >= stats.from_ns {
            stats.bytes_sent += bytes as u64;
        }
        hot.deeds += 1;
        hot.left -= count as u64;
        state.unsent -= count as u64;
        self.in_flight.set(self.in_flight.get() + count);
    }

    /// Open loop: sends what is due on connections that are free. Gives the next planned instant.
    fn dispatch(&self) -> u64 {
        let hot = &mut *self.hot.borrow_mut();
        loop {
            let now_ns = self.fresh_ns();
            let Some(schedule) = &mut hot.schedule else { return u64::MAX };
            let planned_ns = schedule.peek();
            if planned_ns > now_ns || hot.left == 0 {
                return planned_ns;
            }
            let Some(link) = hot.available.pop_front() else { return planned_ns };
            let state = &mut *link.state.borrow_mut();
            state.is_queued = false;
            if !state.is_up || state.unsent == 0 || state.in_flight.room() == 0 {
                continue;
            }
            schedule.pop();
            if planned_ns >= hot.stats.from_ns {
                record(&mut hot.stats.own_lag, now_ns - planned_ns);
            }
            self.send(hot, &link, state, 1, || planned_ns, now_ns);
            if state.unsent > 0 && state.in_flight.room() > 0 {
                state.is_queued = true;
                hot.available.push_back(Rc::clone(&link));
            }
        }
    }

    /// Lets a connection that has come up take part.
    pub(super) fn admit(&self, link: &Rc<Link>) {
        let now_ns = self.now_ns();
        let hot = &mut *self.hot.borrow_mut();
        self.send_next(hot, link, &mut link.state.borrow_mut(), now_ns);
    }

    /// The connection has ended: perhaps that ends an answer. Gives whether it does.
    pub(super) fn handle_end(&self, link: &Link) -> bool {
        let now_ns = self.now_ns();
        let state = &mut *link.state.borrow_mut();
        let Ok(Some(answer)) = state.reader.end() else { return false };
        let Some(sent) = state.in_flight.pop() else { return false };
        self.in_flight.set(self.in_flight.get() - 1);
        self.hot.borrow_mut().stats.take_answer(sent, now_ns, answer.status);
        true
    }

    /// Waits until another connection may be opened, `gap` after the last.
    pub(super) async fn wait_for_connect_turn(&self, gap: Duration) {
        let at = self.next_connect.get().map_or_else(annulet::time::now, |at| at.max(annulet::time::now()));
        self.next_connect.set(Some(at + gap));
        sleep_until(at).await;
    }
}
