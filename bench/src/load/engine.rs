//! One core's load: its connections, its plan, and the future that its loop runs.
//!
//! The hot path is [`Engine::handle_bytes`]: answers are taken out of received bytes and the next requests are written; all that
//! is written in a turn of the loop leaves with one entry into the kernel. In open loop [`Engine::dispatch`] sends what is due on
//! connections that are free; a connection that becomes free takes what is overdue itself.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use annulet::time::{sleep, sleep_until};
use annulet_http::Refusal;
use annulet_http::h1::response::Parser;
use hdrhistogram::Histogram;

use super::config::{Config, Mode};
use super::connection::Sent;
use super::handshakes::Handshakes;
use super::latency::record;
use super::link::{self, Link};
use super::plan::Schedule;
use super::reader;
use super::samples::Samples;
use super::stalls::Stalls;
use super::stats::Stats;
use super::usage::{RunQueue, Usage};
use super::wire::Cursor;
use crate::report::histogram;

/// How often the loop looks after itself: its timer's lag, answers that are overdue, the end.
const TICK: Duration = Duration::from_millis(5);
/// One histogram each.
pub(crate) const INTERVAL: Duration = Duration::from_secs(1);

/// What the main thread tells the loops.
#[derive(Debug)]
pub(crate) struct Control {
    /// When the load starts, in nanoseconds since `origin`; zero while that is not known.
    pub(crate) start_ns: AtomicU64,
    /// End now, and report what there is.
    pub(crate) stop: AtomicBool,
    /// The same, asked for from outside of this load.
    pub(crate) interrupt: Arc<AtomicBool>,
    /// What all times count from.
    pub(crate) origin: Instant,
}

/// What a loop tells the main thread.
#[derive(Debug)]
pub(crate) enum Message {
    /// Every connection was tried once.
    Ready { connected: usize, failure: Option<String> },
    /// An interval of the measured time is over.
    Interval(Part),
    /// The loop has ended.
    Done(Box<Outcome>),
}

/// One core's share of an interval.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) number: usize,
    /// From the start of the measured time.
    pub(crate) start_ns: u64,
    /// What passed in fact: a loop that was held up hands its part over late.
    pub(crate) duration_ns: u64,
    /// Errors so far, not those of the interval alone.
    pub(crate) errors: u64,
    pub(crate) histogram: Histogram<u64>,
}

/// What one core has to say at the end.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) core: usize,
    pub(crate) connections: usize,
    pub(crate) stats: Stats,
    pub(crate) handshakes: Handshakes,
    pub(crate) usage: Usage,
    /// The time in which it used that.
    pub(crate) used_in_ns: u64,
    pub(crate) measured_ns: u64,
    /// Planned instants that passed without a send.
    pub(crate) unsent: u64,
    /// Closed loop: requests in flight at the end, which are in no figure, and the age of the oldest.
    pub(crate) abandoned: usize,
    pub(crate) abandoned_age_ns: u64,
    /// Spinning in open loop: what the machine took.
    pub(crate) stalls: Option<Stalls>,
    pub(crate) samples: Option<Samples>,
}

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

    /// Ends the wait of connections whose oldest answer is overdue.
    fn end_overdue(&self) {
        let now_ns = self.now_ns();
        let timeout_ns = self.config.timeout.as_nanos() as u64;
        for link in self.links.borrow().iter().flatten() {
            let oldest = link.state.borrow().in_flight.oldest();
            if oldest.is_some_and(|oldest| now_ns.saturating_sub(oldest.sent_ns) >= timeout_ns) {
                link.stream.set_recv_deadline(Some(annulet::time::now()));
            }
        }
    }
}

/// Looks after the loop until it ends: the lag of its timers, answers that are overdue.
async fn watch(engine: Rc<Engine>) {
    let mut at = annulet::time::now();
    loop {
        at += TICK;
        sleep_until(at).await;
        let late = Instant::now().saturating_duration_since(at);
        {
            let hot = &mut *engine.hot.borrow_mut();
            hot.deeds += 1;
            if hot.stats.from_ns != u64::MAX {
                record(&mut hot.stats.loop_lag, late.as_nanos() as u64);
            }
        }
        engine.end_overdue();
        // A loop that was held up does not make up for lost ticks.
        at = at.max(annulet::time::now());
    }
}

/// Hands the histogram of each interval over.
async fn report(engine: Rc<Engine>, from_ns: u64, sender: Sender<Message>) {
    for number in 1.. {
        sleep_until(engine.instant(from_ns) + INTERVAL * number).await;
        let part = engine.take_part(from_ns, engine.fresh_ns());
        // The main thread takes messages until every loop has ended.
        let _ = sender.send(Message::Interval(part));
    }
}

impl Engine {
    /// The interval that ends at `now_ns`. Ticks that were missed follow as intervals without length.
    fn take_part(&self, from_ns: u64, now_ns: u64) -> Part {
        let Hot { stats, deeds, .. } = &mut *self.hot.borrow_mut();
        *deeds += 1;
        let (number, began_ns) = self.interval.get();
        let start_ns = began_ns.max(from_ns) - from_ns;
        let end_ns = now_ns.saturating_sub(from_ns).max(start_ns);
        self.interval.set((number + 1, from_ns + end_ns));
        Part {
            number,
            start_ns,
            duration_ns: end_ns - start_ns,
            errors: stats.errors.sum(),
            histogram: std::mem::replace(&mut stats.interval, histogram::empty()),
        }
    }

    /// Waits until it is known when to start. `None` if it is not to.
    async fn wait_for_start(&self) -> Option<u64> {
        loop {
            match self.control.start_ns.load(Ordering::Acquire) {
                0 if self.is_stopped() => return None,
                0 => sleep(Duration::from_micros(500)).await,
                start_ns => return Some(start_ns),
            }
        }
    }

    /// Whether a limit on requests, if there is one, was reached and every answer has come.
    fn is_complete(&self) -> bool {
        self.hot.borrow().left == 0 && self.in_flight.get() == 0
    }

    async fn closed_loop(&self, end_ns: u64) {
        while !self.is_stopped() && !self.is_complete() && self.now_ns() < end_ns {
            sleep_until(self.instant(end_ns.min(self.now_ns() + TICK.as_nanos() as u64 / 2))).await;
        }
    }

    async fn open_loop(&self, end_ns: u64) {
        while !self.is_stopped() && self.fresh_ns() < end_ns && self.hot.borrow().left > 0 {
            let next_ns = self.dispatch();
            if self.config.spin {
                self.look_at_the_clock();
                annulet::yield_now().await;
                continue;
            }
            let now_ns = self.now_ns();
            let latest_ns = end_ns.min(now_ns + TICK.as_nanos() as u64);
            if next_ns > now_ns {
                sleep_until(self.instant(next_ns.min(latest_ns))).await;
            } else {
                // What is overdue is taken by the first connection that becomes free. What is due after that is ours again.
                self.wait_for_free_connection(latest_ns).await;
            }
        }
    }

    /// Spinning: has anybody taken time of this core since the last look?
    fn look_at_the_clock(&self) {
        let now_ns = self.fresh_ns();
        let Hot { stats, stalls, samples, deeds, .. } = &mut *self.hot.borrow_mut();
        if let Some(stalls) = stalls
            && now_ns >= stats.from_ns
            && let Some(gap) = stalls.look(now_ns, *deeds, || self.run_queue.waited_ns())
            && let Some(samples) = samples
        {
            samples.take_gap(gap);
        }
    }

    async fn wait_for_free_connection(&self, until_ns: u64) {
        let mut sleep = pin!(sleep_until(self.instant(until_ns)));
        poll_fn(|cx| {
            {
                let hot = &mut *self.hot.borrow_mut();
                if !hot.available.is_empty() {
                    return Poll::Ready(());
                }
                hot.pacer = Some(cx.waker().clone());
            }
            sleep.as_mut().poll(cx)
        })
        .await;
    }

    /// What came of it.
    fn finish(&self, from_ns: u64, stopped_ns: u64, sender: &Sender<Message>) -> Outcome {
        let is_complete = self.is_complete();
        // A run that ends with its last answer is as long as that took.
        let last_answer_ns = self.hot.borrow().stats.last_answer_ns;
        let ended_ns = if is_complete { last_answer_ns } else { stopped_ns }.max(from_ns);
        let measured_ns = ended_ns - from_ns;
        // The main thread takes messages until every loop has ended.
        let _ = sender.send(Message::Interval(self.take_part(from_ns, ended_ns)));
        let hot = &mut *self.hot.borrow_mut();
        let unsent = match &mut hot.schedule {
            // What a limit on requests left out was not to be sent.
            Some(schedule) if hot.left > 0 => schedule.skip_until(ended_ns).min(hot.left),
            _ => 0,
        };
        let oldest = |link: &Rc<Link>| link.state.borrow().in_flight.oldest().map(|sent| sent.sent_ns);
        let oldest_ns = self.links.borrow().iter().flatten().filter_map(oldest).min();
        Outcome {
            core: 0,
            connections: 0,
            stats: std::mem::replace(&mut hot.stats, Stats::new(false)),
            handshakes: self.handshakes.replace(Handshakes::new()),
            usage: Usage::default(),
            used_in_ns: 0,
            measured_ns,
            unsent,
            stalls: hot.stalls.take(),
            samples: hot.samples.take(),
            abandoned: self.in_flight.get(),
            abandoned_age_ns: oldest_ns.map_or(0, |oldest_ns| ended_ns.saturating_sub(oldest_ns)),
        }
    }

    /// Nothing more is sent; answers that are due may still come.
    async fn drain(&self) {
        self.is_sending.set(false);
        // Overdue answers are given up by `watch`, so this ends.
        while self.in_flight.get() > 0 && !self.is_stopped() {
            sleep(TICK / 10).await;
        }
    }
}

/// What the loop of one core runs.
pub(crate) async fn run(
    core: annulet::Core,
    config: Arc<Config>,
    control: Arc<Control>,
    sender: Sender<Message>,
) {
    let engine = Rc::new(Engine::new(Arc::clone(&config), control, core.index()));
    let connections = engine.links.borrow().len();
    for number in 0..connections {
        drop(annulet::spawn(link::run(Rc::clone(&engine), number)));
    }
    drop(annulet::spawn(watch(Rc::clone(&engine))));
    // Connections that are opened slowly on purpose belong to the load.
    while config.connections_per_second.is_none() && engine.tried.get() < connections && !engine.is_stopped()
    {
        sleep(Duration::from_millis(1)).await;
    }
    let connected = engine.links.borrow().iter().flatten().count();
    let failure = engine.hot.borrow().stats.first_error.clone();
    let _ = sender.send(Message::Ready { connected, failure });
    let Some(start_ns) = engine.wait_for_start().await else { return };

    let from_ns = start_ns + config.warmup.as_nanos() as u64;
    let end_ns = from_ns + config.duration.as_nanos() as u64;
    if let Mode::Open { rate, arrivals } = config.mode {
        let place = (core.index(), config.cores.len());
        engine.hot.borrow_mut().schedule = Some(Schedule::new(start_ns, rate, arrivals, place, config.seed));
    }
    sleep_until(engine.instant(start_ns)).await;
    let before = Rc::new(Cell::new(Usage::default()));
    let begin = {
        let (engine, before, sender) = (Rc::clone(&engine), Rc::clone(&before), sender.clone());
        async move {
            sleep_until(engine.instant(from_ns)).await;
            engine.hot.borrow_mut().stats.start(from_ns);
            before.set(Usage::of_this_thread());
            report(engine, from_ns, sender).await;
        }
    };
    if config.warmup.is_zero() {
        // Not one request may slip out before the counting begins.
        engine.hot.borrow_mut().stats.start(from_ns);
        before.set(Usage::of_this_thread());
        drop(annulet::spawn(report(Rc::clone(&engine), from_ns, sender.clone())));
    } else {
        drop(annulet::spawn(begin));
    }
    engine.is_sending.set(true);
    let links: Vec<_> = engine.links.borrow().iter().flatten().cloned().collect();
    links.iter().for_each(|link| engine.admit(link));
    drop(links);

    let is_open = matches!(config.mode, Mode::Open { .. });
    if is_open {
        engine.open_loop(end_ns).await;
    } else {
        engine.closed_loop(end_ns).await;
    }
    let usage = Usage::of_this_thread().since(before.get());
    let used_in_ns = engine.fresh_ns().saturating_sub(from_ns);
    let stopped_ns = engine.fresh_ns().min(end_ns);
    if is_open {
        engine.drain().await;
    }
    engine.is_sending.set(false);
    engine.is_over.set(true);
    let outcome = engine.finish(from_ns, stopped_ns, &sender);
    let _ = sender.send(Message::Done(Box::new(Outcome {
        core: core.core(),
        connections,
        usage,
        used_in_ns,
        ..outcome
    })));
}
