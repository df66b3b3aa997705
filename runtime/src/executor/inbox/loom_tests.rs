//! The inbox in every order of its threads.
//!
//! `CARGO_TARGET_DIR=target/loom RUSTFLAGS="--cfg annulet_loom" cargo test -p annulet --lib --release inbox`

use loom::sync::atomic::AtomicUsize;
use loom::sync::{Arc, Condvar};
use loom::thread;

use super::*;

impl Message for u32 {
    type Key = u32;

    fn collapse_key(&self) -> Option<u32> {
        None
    }
}

/// An eventfd in loom's world: rings add up until they are heard.
pub(crate) struct Bell {
    unheard: Mutex<usize>,
    rung: Condvar,
    rings: AtomicUsize,
}

impl Bell {
    pub(crate) fn new() -> Self {
        Bell { unheard: Mutex::new(0), rung: Condvar::new(), rings: AtomicUsize::new(0) }
    }

    pub(crate) fn wait(&self) {
        let mut unheard = self.unheard.lock().unwrap();
        while *unheard == 0 {
            unheard = self.rung.wait(unheard).unwrap();
        }
        *unheard = 0;
    }
}

impl Doorbell for Bell {
    fn ring(&self) {
        self.rings.fetch_add(1, Ordering::Relaxed);
        *self.unheard.lock().unwrap() += 1;
        self.rung.notify_one();
    }
}

/// The owner's loop until it has all `expected` messages. A lost wake-up is a deadlock, which loom reports.
/// Gives the number of sleeps that were announced.
fn receive(inbox: &Inbox<u32, Bell>, expected: usize) -> usize {
    let mut sleeps = 0;
    let mut received = Vec::new();
    let mut batch = Vec::new();
    while received.len() < expected {
        if inbox.has_mail() {
            inbox.take(&mut batch);
            assert!(!batch.is_empty(), "mail announced, none found");
            received.append(&mut batch);
            continue;
        }
        // One that is called off may be rung as well.
        sleeps += 1;
        if inbox.prepare_sleep(|| true) {
            inbox.doorbell().wait();
            inbox.wake_up();
        }
    }
    assert_eq!(received.len(), expected);
    received.sort_unstable();
    received.dedup();
    assert_eq!(received.len(), expected, "a message twice");
    sleeps
}

fn check(senders: u32, messages_each: u32) {
    let mut model = loom::model::Builder::new();
    // All interleavings take minutes; three forced switches take seconds.
    model.preemption_bound = Some(3);
    model.check(move || {
        let inbox = Arc::new(Inbox::new(Bell::new()));
        let threads: Vec<_> = (0..senders)
            .map(|sender| {
                let inbox = Arc::clone(&inbox);
                thread::spawn(move || {
                    for i in 0..messages_each {
                        inbox.push(sender * messages_each + i).unwrap();
                    }
                })
            })
            .collect();
        let sleeps = receive(&inbox, (senders * messages_each) as usize);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        let rings = inbox.doorbell().rings.load(Ordering::Relaxed);
        assert!(rings <= sleeps, "{rings} rings for {sleeps} sleeps");
        assert!(!inbox.has_mail());
    });
}

#[test]
fn one_sender_two_messages_inbox() {
    check(1, 2);
}

#[test]
fn two_senders_one_message_inbox() {
    check(2, 1);
}

#[test]
fn a_sleep_ended_by_something_else_inbox() {
    loom::model(|| {
        let inbox = Arc::new(Inbox::new(Bell::new()));
        let sender = {
            let inbox = Arc::clone(&inbox);
            thread::spawn(move || inbox.push(1).unwrap())
        };
        // A timer's sleep: it may or may not be rung.
        let mut sleeps = 1;
        if inbox.prepare_sleep(|| true) {
            inbox.wake_up();
        }
        sleeps += receive(&inbox, 1);
        sender.join().unwrap();
        assert!(inbox.doorbell().rings.load(Ordering::Relaxed) <= sleeps);
    });
}

#[test]
fn a_closing_inbox_loses_no_message() {
    loom::model(|| {
        let inbox = Arc::new(Inbox::new(Bell::new()));
        let sender = {
            let inbox = Arc::clone(&inbox);
            thread::spawn(move || u32::from(inbox.push(1).is_err()))
        };
        let kept = inbox.close().len() as u32;
        assert_eq!(kept + sender.join().unwrap(), 1);
        assert!(!inbox.has_mail());
    });
}
