//! A queue between cores and the inbox's sleep together, under every interleaving: nobody sleeps over a value, or over room.
//!
//! `CARGO_TARGET_DIR=target/loom RUSTFLAGS="--cfg annulet_loom" cargo test -p annulet --lib --release mesh::loom_tests`

use loom::sync::Arc;
use loom::thread;

use super::ring::{Refused, ring};
use crate::executor::inbox::Inbox;
use crate::executor::inbox::loom_tests::Bell;
use crate::sync_shim::{Ordering, fence};

type Sleep = Inbox<u32, Bell>;

/// Sleeps once, if `is_quiet`.
fn sleep(inbox: &Sleep, is_quiet: impl FnOnce() -> bool) {
    if inbox.prepare_sleep(is_quiet) {
        inbox.doorbell().wait();
        inbox.wake_up();
    }
}

/// As the loops do it: values are put in, then one fence, then the receiver is nudged.
#[test]
fn a_receiver_does_not_sleep_over_a_value() {
    for (values, at_once) in [(1, 1), (2, 1), (2, 2)] {
        loom::model(move || {
            let inbox = Arc::new(Sleep::new(Bell::new()));
            let (mut producer, mut consumer) = ring(2);
            let sender = {
                let inbox = Arc::clone(&inbox);
                thread::spawn(move || {
                    for first in (0..values).step_by(at_once) {
                        for value in first..first + at_once {
                            producer.push(value).unwrap();
                        }
                        fence(Ordering::SeqCst);
                        inbox.nudge_behind_fence();
                    }
                })
            };
            let mut expected = 0;
            while expected < values {
                match consumer.pop() {
                    Some(value) => {
                        assert_eq!(value, expected);
                        expected += 1;
                    }
                    None => sleep(&inbox, || !consumer.has_items()),
                }
            }
            sender.join().unwrap();
        });
    }
}

/// The sender of a full queue announces that it waits; the receiver asks behind its fence.
#[test]
fn a_sender_does_not_sleep_over_room() {
    loom::model(|| {
        let senders = Arc::new(Sleep::new(Bell::new()));
        let (mut producer, mut consumer) = ring(1);
        producer.push(0).unwrap();
        let receiver = {
            let senders = Arc::clone(&senders);
            thread::spawn(move || {
                assert_eq!(consumer.pop(), Some(0));
                fence(Ordering::SeqCst);
                if consumer.is_waited_for() {
                    senders.nudge_behind_fence();
                }
                consumer
            })
        };
        let mut value = 1;
        while let Err(Refused::Full(same)) = producer.push(value) {
            value = same;
            producer.set_waits(true);
            sleep(&senders, || !producer.has_room());
        }
        let mut consumer = receiver.join().unwrap();
        assert_eq!(consumer.pop(), Some(1));
    });
}

/// Mail and queues end the same sleep.
#[test]
fn mail_and_a_value_race() {
    let mut model = loom::model::Builder::new();
    // Three threads: all their interleavings take minutes. Two forced switches are enough for every known kind of lost wake-up.
    model.preemption_bound = Some(2);
    model.check(|| {
        let inbox = Arc::new(Sleep::new(Bell::new()));
        let (mut producer, mut consumer) = ring(1);
        let writer = {
            let inbox = Arc::clone(&inbox);
            thread::spawn(move || inbox.push(7).unwrap())
        };
        let sender = {
            let inbox = Arc::clone(&inbox);
            thread::spawn(move || {
                producer.push(1).unwrap();
                inbox.nudge();
            })
        };
        let (mut mail, mut values) = (0, 0);
        let mut batch = Vec::new();
        while mail + values < 2 {
            if inbox.has_mail() {
                inbox.take(&mut batch);
                mail += batch.drain(..).count();
            } else if consumer.pop().is_some() {
                values += 1;
            } else {
                sleep(&inbox, || !consumer.has_items());
            }
        }
        assert_eq!((mail, values), (1, 1));
        writer.join().unwrap();
        sender.join().unwrap();
    });
}
