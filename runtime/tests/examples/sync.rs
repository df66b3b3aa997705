//! Locks, channels and streams.

use crate::harness::check;

#[test]
fn a_future_that_another_task_resolves() {
    check(
        "future_result",
        "waiting for the result
        setting the result
        got: the answer
        never resolved: no value will come: *",
    );
}

#[test]
fn a_lock_across_an_await() {
    check(
        "lock",
        "coro 1: waiting for lock
        coro 1: holding the lock
        coro 2: waiting for lock
        coro 1: releasing the lock
        coro 2: holding the lock
        coro 2: releasing the lock",
    );
}

#[test]
fn five_tasks_three_at_a_time() {
    check("semaphore", "hello\nhello\nhello\nworld\nworld\nworld\nhello\nhello\nworld\nworld");
}

#[test]
fn a_reader_counts_to_99_and_ends() {
    let expected: String = (1..100).map(|number| format!("{number}\n")).collect();
    check("async_iteration", &(expected + "the end"));
}

#[test]
fn channels_hold_back_tell_of_lag_and_keep_the_latest() {
    check(
        "channels",
        "put 1
        put 2
        got 1
        got 2
        put 3
        put 4
        got 3
        got 4
        put 5
        got 5
        the receiver was too slow; values that it missed: 1
        heard two
        heard three
        now ready",
    );
}

#[test]
fn a_condition_of_a_shared_value() {
    check(
        "condvar",
        "waiting for three coins
        a coin: 1
        a coin: 2
        a coin: 3
        took three, 0 left
        a coin: 1",
    );
}
