//! Sleeping, intervals and time limits.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use annulet::spawn;
use annulet::time::{MissedTickBehavior, interval, now, sleep, sleep_until, timeout};

fn with_virtual_time<F: Future>(future: F) -> F::Output {
    annulet::Builder::new().virtual_clock(true).run_local(future).unwrap()
}

#[test]
fn a_sleep_is_never_early() {
    annulet::run(async {
        for micros in [1, 50, 1000, 20_000] {
            let (start, duration) = (Instant::now(), Duration::from_micros(micros));
            sleep(duration).await;
            // The loop's clock is read once a turn, so a sleep may have begun a turn before `start`; one turn of this
            // idle loop is far below a millisecond.
            assert!(start.elapsed() + Duration::from_millis(1) > duration, "{micros} µs");
        }
    });
}

#[test]
fn virtual_time_jumps_to_the_next_deadline() {
    let start = Instant::now();
    with_virtual_time(async {
        let begin = now();
        sleep(Duration::from_secs(3600)).await;
        assert!(now() - begin >= Duration::from_secs(3600));
    });
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[test]
fn sleepers_wake_in_the_order_of_their_deadlines() {
    let order = Rc::new(RefCell::new(Vec::new()));
    with_virtual_time(async {
        let tasks: Vec<_> = [500, 20, 300, 1, 999]
            .map(|millis| {
                let order = Rc::clone(&order);
                spawn(async move {
                    sleep(Duration::from_millis(millis)).await;
                    order.borrow_mut().push(millis);
                })
            })
            .into();
        for task in tasks {
            task.await.unwrap();
        }
    });
    assert_eq!(*order.borrow(), [1, 20, 300, 500, 999]);
}

#[test]
fn a_timeout_gives_the_value_or_elapses() {
    with_virtual_time(async {
        assert_eq!(timeout(Duration::from_secs(1), async { 5 }).await, Ok(5));
        let late = timeout(Duration::from_secs(1), sleep(Duration::from_secs(2))).await;
        assert!(late.is_err());
        assert_eq!(annulet::metrics().timers, 0, "both timers are gone");
    });
}

#[test]
fn dropped_sleeps_leave_no_timer() {
    annulet::run(async {
        let mut sleeps = Vec::new();
        for _ in 0..100 {
            let mut sleep = Box::pin(sleep(Duration::from_secs(60)));
            std::future::poll_fn(|cx| {
                let _ = sleep.as_mut().poll(cx);
                std::task::Poll::Ready(())
            })
            .await;
            sleeps.push(sleep);
        }
        assert_eq!(annulet::metrics().timers, 100);
        drop(sleeps);
        assert_eq!(annulet::metrics().timers, 0);
    });
}

#[test]
fn an_interval_ticks_at_its_period_and_handles_missed_ticks() {
    with_virtual_time(async {
        let begin = now();
        let at = |instant: Instant| (instant - begin).as_millis();
        let mut ticks = Vec::new();
        let mut every = interval(Duration::from_millis(10));
        ticks.push(at(every.tick().await));
        ticks.push(at(every.tick().await));
        sleep_until(begin + Duration::from_millis(45)).await;
        every.set_missed_tick_behavior(MissedTickBehavior::Skip);
        ticks.push(at(every.tick().await));
        ticks.push(at(every.tick().await));
        assert_eq!(ticks, [0, 10, 20, 50]);
    });
}

#[test]
fn ten_thousand_sleepers_are_done_together() {
    let start = Instant::now();
    annulet::run(async {
        let tasks: Vec<_> = (0..10_000).map(|_| spawn(sleep(Duration::from_millis(100)))).collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[annulet::test(start_paused = true)]
async fn a_paused_test_sleeps_for_a_day_at_once() {
    let (start, begin) = (Instant::now(), now());
    sleep(Duration::from_secs(86_400)).await;
    assert!(now() - begin >= Duration::from_secs(86_400) && start.elapsed() < Duration::from_secs(5));
}

#[annulet::test]
async fn a_test_may_fail_with_an_error() -> std::io::Result<()> {
    sleep(Duration::from_micros(10)).await;
    Ok(())
}
