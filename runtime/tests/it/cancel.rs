//! Cancellation tokens.

use std::cell::Cell;
use std::future::pending;

use annulet::cancel::CancellationToken;
use annulet::{spawn, yield_now};

use crate::support::{Gate, Trace, orders, poll_once};

#[test]
fn cancelling_goes_down_and_never_up_or_across() {
    let check = |which: usize, expected: [bool; 4]| {
        let root = CancellationToken::new();
        let (left, right) = (root.child_token(), root.child_token());
        let leaf = left.child_token();
        let tokens = [root, left, right, leaf];
        tokens[which].cancel();
        tokens[which].clone().cancel();
        assert_eq!(tokens.each_ref().map(CancellationToken::is_cancelled), expected);
        assert_eq!(tokens.each_ref().map(|token| token.child_token().is_cancelled()), expected);
    };
    check(0, [true, true, true, true]);
    check(1, [false, true, false, true]);
    check(2, [false, false, true, false]);
    check(3, [false, false, false, true]);
}

#[test]
fn every_waiter_is_woken_in_every_order_of_waiting_dropping_and_cancelling() {
    annulet::run(async {
        // Steps: 0 and 1 begin to wait, 2 drops the first waiter, 3 cancels.
        for order in orders(4) {
            let token = CancellationToken::new();
            let mut waiters = [Some(token.cancelled()), Some(token.child_token().cancelled())];
            for step in &order {
                match step {
                    0 | 1 => {
                        if let Some(waiter) = &mut waiters[*step] {
                            assert_eq!(poll_once(waiter).await.is_some(), token.is_cancelled(), "{order:?}");
                        }
                    }
                    2 => waiters[0] = None,
                    _ => token.cancel(),
                }
            }
            for waiter in waiters.iter_mut().flatten() {
                assert!(poll_once(waiter).await.is_some(), "{order:?}");
            }
        }
    });
}

#[test]
fn a_waiting_task_is_woken() {
    annulet::run(async {
        let trace = Trace::default();
        let token = CancellationToken::new();
        for (name, token) in [("own", token.clone()), ("child", token.child_token())] {
            let trace = trace.clone();
            spawn(async move {
                token.cancelled().await;
                trace.push(name);
            });
        }
        yield_now().await;
        assert_eq!(trace.take(), "");
        token.cancel();
        yield_now().await;
        assert_eq!(trace.take(), "own child");
    });
}

#[test]
fn run_until_cancelled_drops_the_future_or_gives_its_output() {
    annulet::run(async {
        let token = CancellationToken::new();
        assert_eq!(token.run_until_cancelled(async { 7 }).await, Some(7));
        let trace = Trace::default();
        let (gate, held) = (Gate::default(), trace.on_drop("gone"));
        let mut running = Box::pin(token.run_until_cancelled(async move {
            let _held = held;
            pending::<()>().await;
        }));
        assert!(poll_once(&mut running).await.is_none());
        token.cancel();
        assert_eq!(poll_once(&mut running).await, Some(None));
        drop(running);
        assert_eq!(trace.take(), "gone");
        gate.open();
        assert_eq!(token.run_until_cancelled(gate).await, None, "if both are ready the cancellation counts");
    });
}

#[test]
fn a_drop_guard_cancels_unless_it_is_disarmed() {
    let token = CancellationToken::new();
    let same = token.clone().drop_guard().disarm();
    assert!(!same.is_cancelled());
    drop(token.clone().drop_guard());
    assert!(token.is_cancelled() && same.is_cancelled());
}

#[test]
fn wakers_may_do_anything_with_the_token() {
    use std::sync::{Arc, Mutex};
    use std::task::{Context, Wake, Waker};
    thread_local!(static HELD: Cell<Option<CancellationToken>> = const { Cell::new(None) });
    struct Nosy(Mutex<u32>);
    impl Wake for Nosy {
        fn wake(self: Arc<Self>) {
            *self.0.lock().unwrap() += 1;
            let token = HELD.take().unwrap();
            token.cancel();
            assert!(token.child_token().is_cancelled());
            drop(token.cancelled());
        }
    }
    let token = CancellationToken::new();
    HELD.set(Some(token.clone()));
    let nosy = Arc::new(Nosy(Mutex::new(0)));
    let waker = Waker::from(Arc::clone(&nosy));
    let mut waiting = Box::pin(token.cancelled());
    assert!(waiting.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    token.cancel();
    assert_eq!(*nosy.0.lock().unwrap(), 1);
}

#[test]
fn long_chains_are_cancelled_and_dropped_without_recursion() {
    let root = CancellationToken::new();
    let mut last = root.clone();
    for _ in 0..200_000 {
        last = last.child_token();
    }
    assert!(!last.is_cancelled());
    root.cancel();
    assert!(last.is_cancelled());
    drop(last);
    // Not cancelled: the drop of the last child frees all above it, one after the other.
    let mut last = CancellationToken::new();
    for _ in 0..200_000 {
        last = last.child_token();
    }
    drop(last);
}
