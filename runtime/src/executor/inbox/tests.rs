//! The inbox by itself: rings, repeated wakes, the end, and threads that push.

use std::cell::Cell;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, mpsc};
use std::thread;

use super::*;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Letter {
    Wake(u32),
    Count(u32),
}

impl Message for Letter {
    type Key = u32;

    fn collapse_key(&self) -> Option<u32> {
        match *self {
            Letter::Wake(task) => Some(task),
            Letter::Count(_) => None,
        }
    }
}

#[derive(Default)]
struct Rings(Cell<usize>);

impl Doorbell for Rings {
    fn ring(&self) {
        self.0.set(self.0.get() + 1);
    }
}

fn take<M: Message, D: Doorbell>(inbox: &Inbox<M, D>) -> Vec<M> {
    let mut batch = Vec::new();
    inbox.take(&mut batch);
    batch
}

#[test]
fn no_ring_while_awake_and_one_a_sleep() {
    let inbox = Inbox::new(Rings::default());
    let rings = || inbox.doorbell().0.get();
    inbox.push(Letter::Count(0)).unwrap();
    inbox.push(Letter::Count(1)).unwrap();
    assert!(inbox.has_mail() && !inbox.prepare_sleep(|| true) && rings() == 0);
    assert_eq!(take(&inbox), [Letter::Count(0), Letter::Count(1)]);
    assert!(!inbox.has_mail());

    for sleep in 1..=3 {
        assert!(inbox.prepare_sleep(|| true));
        for i in 0..5 {
            inbox.push(Letter::Count(i)).unwrap();
            assert_eq!(rings(), sleep);
        }
        inbox.wake_up();
        inbox.push(Letter::Count(5)).unwrap();
        assert_eq!(rings(), sleep);
        assert!(!inbox.prepare_sleep(|| true));
        assert_eq!(take(&inbox), (0..=5).map(Letter::Count).collect::<Vec<_>>());
    }
}

#[test]
fn queues_beside_it_share_its_sleep() {
    let inbox = Inbox::<Letter, _>::new(Rings::default());
    let rings = || inbox.doorbell().0.get();
    inbox.nudge();
    assert_eq!(rings(), 0, "awake");
    assert!(!inbox.prepare_sleep(|| false), "something is there");
    inbox.nudge();
    assert_eq!(rings(), 0, "it did not go to sleep");
    assert!(inbox.prepare_sleep(|| true));
    inbox.nudge();
    inbox.nudge();
    inbox.push(Letter::Count(0)).unwrap();
    assert_eq!(rings(), 1, "one ring a sleep");
    inbox.wake_up();
    inbox.nudge();
    assert_eq!(rings(), 1);
}

#[test]
fn a_sleep_that_something_else_ended_leaves_nothing_behind() {
    let inbox = Inbox::new(Rings::default());
    assert!(inbox.prepare_sleep(|| true));
    inbox.wake_up();
    inbox.push(Letter::Count(0)).unwrap();
    assert_eq!(inbox.doorbell().0.get(), 0);
    assert_eq!(take(&inbox).len(), 1);
    assert!(inbox.prepare_sleep(|| true));
}

#[test]
fn repeated_wakes_do_not_pile_up() {
    let inbox = Inbox::new(Rings::default());
    for i in 0..1_000_000 {
        inbox.push(Letter::Wake(i % 700)).unwrap();
    }
    let batch = take(&inbox);
    assert!(batch.len() <= COLLAPSE_AT.max(2 * 700), "{}", batch.len());
    // The first of each is kept, in order.
    assert_eq!(batch[..700], (0..700).map(Letter::Wake).collect::<Vec<_>>());
}

#[test]
fn messages_without_a_key_are_all_kept() {
    let inbox = Inbox::new(Rings::default());
    for i in 0..10_000 {
        inbox.push(Letter::Wake(7)).unwrap();
        inbox.push(Letter::Count(i)).unwrap();
    }
    let counts = take(&inbox).into_iter().filter(|letter| matches!(letter, Letter::Count(_)));
    assert!(counts.eq((0..10_000).map(Letter::Count)));
}

#[test]
fn memory_goes_back_and_forth() {
    let inbox = Inbox::new(Rings::default());
    let mut batch = Vec::with_capacity(64);
    let mut capacities = Vec::new();
    for _ in 0..4 {
        for i in 0..64 {
            inbox.push(Letter::Count(i)).unwrap();
        }
        inbox.take(&mut batch);
        capacities.push(batch.capacity());
        batch.clear();
    }
    assert!(capacities.iter().all(|&capacity| capacity == 64), "{capacities:?}");
}

#[test]
fn a_closed_inbox_gives_everything_back() {
    let inbox = Inbox::new(Rings::default());
    inbox.push(Letter::Count(0)).unwrap();
    assert_eq!(inbox.close(), [Letter::Count(0)]);
    assert_eq!(inbox.push(Letter::Count(1)), Err(Closed(Letter::Count(1))));
    assert!(!inbox.has_mail());
}

/// The real thing under load: a lost wake-up hangs this test.
#[test]
fn four_threads_and_a_sleeper() {
    struct Bell(mpsc::SyncSender<()>, AtomicUsize);
    impl Doorbell for Bell {
        fn ring(&self) {
            self.1.fetch_add(1, Ordering::Relaxed);
            // A late ring may find an earlier one unheard: one is enough.
            let _ = self.0.try_send(());
        }
    }
    const SENDERS: u32 = 4;
    const EACH: u32 = 50_000;
    let (bell, heard) = mpsc::sync_channel(1);
    let inbox = Arc::new(Inbox::new(Bell(bell, AtomicUsize::new(0))));
    let threads: Vec<_> = (0..SENDERS)
        .map(|_| {
            let inbox = Arc::clone(&inbox);
            thread::spawn(move || {
                for i in 0..EACH {
                    inbox.push(Letter::Count(i)).unwrap();
                    if i % 64 == 0 {
                        thread::yield_now();
                    }
                }
            })
        })
        .collect();
    // A sleep that is announced and called off may be rung as well.
    let (mut received, mut sleeps) = (0, 0);
    let mut batch = Vec::new();
    while received < SENDERS * EACH {
        if inbox.has_mail() {
            inbox.take(&mut batch);
            received += batch.drain(..).len() as u32;
            continue;
        }
        sleeps += 1;
        if inbox.prepare_sleep(|| true) {
            heard.recv().unwrap();
            inbox.wake_up();
        }
    }
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let rings = inbox.doorbell().1.load(Ordering::Relaxed);
    println!("{received} messages, {sleeps} sleeps, {rings} rings");
    assert!(rings <= sleeps);
}
