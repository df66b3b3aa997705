//! The course of one core's load: connect, wait for the word, send until the end, hand over what was counted.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;
use std::task::Poll;
use std::time::{Duration, Instant};

use annulet::time::{sleep, sleep_until};

use super::{Engine, Hot};
use crate::load::config::{Config, Mode};
use crate::load::handshakes::Handshakes;
use crate::load::latency::record;
use crate::load::link::{self, Link};
use crate::load::messages::{Control, Message, Outcome, Part};
use crate::load::plan::Schedule;
use crate::load::stats::Stats;
use crate::load::usage::Usage;
use crate::report::histogram;

/// How often the loop looks after itself: its timer's lag, answers that are overdue, the end.
const TICK: Duration = Duration::from_millis(5);
/// One histogram each.
const INTERVAL: Duration = Duration::from_secs(1);

/// What the loop of one core runs.
pub(in crate::load) async fn run(
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
