//! The counters of loops, read from outside, and warnings of stalls.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use annulet::metrics::{Board, Counter, Distribution, Reading, Row};
use annulet::{Builder, spawn, yield_now};

use crate::support::pair;

/// Turns of the loop, so that what was counted is published.
async fn turns() {
    for _ in 0..3 {
        annulet::time::sleep(Duration::from_micros(100)).await;
    }
}

#[test]
fn traffic_is_counted() {
    let board = Board::shared(1).unwrap();
    let read = board.clone();
    let counted = async move {
        let (a, b) = pair().await;
        a.write_all(&[7; 5000]).await.unwrap();
        let mut all = [0; 5000];
        b.read_exact(&mut all).await.unwrap();
        turns().await;
        read.read().pop().unwrap()
    };
    let reading = Builder::new().metrics_board(board.clone(), 0).run_local(counted).unwrap();
    let check = |counter, expected| assert_eq!(reading.value(counter), expected, "{counter:?}");
    check(Counter::ReceivedBytes, 5000);
    check(Counter::SentBytes, 5000);
    check(Counter::Accepts, 1);
    check(Counter::Sockets, 2);
    check(Counter::Overflows, 0);
    assert!(reading.value(Counter::BuffersFree) > 0);
    let at_least = |counter, least| {
        assert!(reading.value(counter) >= least, "{counter:?}: {}", reading.value(counter));
    };
    at_least(Counter::Turns, 3);
    at_least(Counter::Enters, 3);
    at_least(Counter::Submissions, 4);
    at_least(Counter::Completions, 3);
    at_least(Counter::Polls, 3);
    let turns = reading.value(Counter::Turns);
    for &distribution in &[Distribution::LoopLag, Distribution::CompletionsPerEnter] {
        let count = reading.count(distribution);
        assert!((turns - 1..=turns).contains(&count), "{distribution:?}: {count} of {turns} turns");
    }
    assert!(reading.count(Distribution::PollTime) >= 3);
    assert!(board.read().is_empty(), "the loop has ended");
}

#[test]
fn loops_of_a_shared_board_are_read_by_any_thread_and_have_rows_in_order() {
    let board = Board::shared(3).unwrap();
    let cores = annulet::placement::available_cores().unwrap();
    let core = cores[0];
    let loops = Builder::new()
        .cores([core, core])
        .metrics_board(board.clone(), 1)
        .start(|core| async move {
            Row::current().add(Counter::Http4xx, 40 + core.index() as u64);
            core.stopped().await;
        })
        .unwrap();
    let told = |reading: &Reading| (reading.worker(), reading.core(), reading.value(Counter::Http4xx));
    let expected = [(1, Some(core), 40), (2, Some(core), 41)];
    let until = Instant::now() + Duration::from_secs(20);
    // A loop is running before its future was polled.
    while board.read().iter().map(told).ne(expected) {
        assert!(Instant::now() < until, "{:?}", board.read().iter().map(told).collect::<Vec<_>>());
        thread::sleep(Duration::from_millis(1));
    }
    let text = annulet::metrics::prometheus(&board.read());
    let line = format!("annulet_http_requests_total{{worker=\"2\",core=\"{core}\",code=\"4xx\"}} 41\n");
    assert!(text.contains(&line), "{text}");
    loops.stop();
    loops.join().unwrap();
}

#[test]
fn a_row_that_is_not_there_is_an_error() {
    let error = Builder::new().metrics_board(Board::shared(2).unwrap(), 2).run_local(async {}).unwrap_err();
    assert!(error.to_string().contains("a board of 2 rows"), "{error}");
}

#[test]
fn a_task_that_stalls_is_named() {
    let (tell, told) = mpsc::channel();
    let builder = Builder::new()
        .stall_limit(Duration::from_millis(15))
        // The channel's end is gone when the test is over.
        .on_stall(move |stall| drop(tell.send(stall.clone())));
    let named = builder.run_local(async move {
        // First as one of those of a slow turn, then by itself, when the polls are timed one by one.
        let (mut in_turn, mut exact) = (false, false);
        let until = Instant::now() + Duration::from_secs(30);
        while !(in_turn && exact) && Instant::now() < until {
            let parser = annulet::task::Builder::new().name("parser").spawn(async {
                thread::sleep(Duration::from_millis(30));
                // It lives on beyond the turn.
                annulet::time::sleep(Duration::from_millis(1)).await;
            });
            let other = spawn(yield_now());
            let (one, two) = annulet::join(parser, other).await;
            one.and(two).unwrap();
            for stall in told.try_iter() {
                let is_parser = stall.tasks.iter().any(|task| {
                    task.name.as_deref() == Some("parser") && task.location.file().ends_with("metrics.rs")
                });
                let is_long = stall.took >= Duration::from_millis(30);
                in_turn |= is_parser && is_long && !stall.is_exact;
                exact |= is_parser && is_long && stall.is_exact && stall.tasks.len() == 1;
            }
        }
        (in_turn, exact, Board::process().read().iter().any(|row| row.value(Counter::Stalls) > 1))
    });
    assert_eq!(named.unwrap(), (true, true, true));
}

#[test]
fn nobody_is_told_of_what_virtual_time_takes() {
    let (tell, told) = mpsc::channel::<()>();
    let builder = Builder::new().virtual_clock(true).stall_limit(Duration::from_millis(1));
    builder
        .on_stall(move |_| tell.send(()).unwrap())
        .run_local(async {
            for _ in 0..3 {
                annulet::time::sleep(Duration::from_secs(100)).await;
                thread::sleep(Duration::from_millis(3));
            }
        })
        .unwrap();
    assert!(told.try_recv().is_err());
}
