//! Several futures or tasks at a time.

use std::future::pending;
use std::pin::pin;
use std::time::Duration;

use annulet::time::{now, sleep, timeout, timeout_at};
use annulet::together::Finished;
use annulet::{Either, JoinHandle, When, gather, join, join3, race, select, spawn, wait, yield_now};

use crate::support::{Gate, Trace, orders, pair, poll_once, until, with_virtual_time, words_of_panic};

/// Gathers `count` gates, opens them in an order, and checks that every output comes in its place.
async fn check_gather(count: usize, order: &[usize]) {
    let gates: Vec<Gate> = (0..count).map(|_| Gate::default()).collect();
    let mut all = gather(gates.iter().enumerate().map(async |(index, gate)| {
        gate.clone().await;
        index
    }));
    for index in order {
        assert_eq!(poll_once(&mut all).await, None, "{order:?}");
        gates[*index].open();
    }
    assert_eq!(poll_once(&mut all).await, Some((0..count).collect()), "{order:?}");
}

#[test]
fn gather_gives_outputs_in_the_order_of_the_list_whatever_ends_first() {
    annulet::run(async {
        for count in 0..5 {
            for order in orders(count) {
                check_gather(count, &order).await;
            }
        }
        // More than share one waker.
        for count in [32, 33, 100] {
            check_gather(count, &(0..count).collect::<Vec<_>>()).await;
            check_gather(count, &(0..count).rev().collect::<Vec<_>>()).await;
            check_gather(count, &(0..count).map(|index| index * 7 % count).collect::<Vec<_>>()).await;
        }
    });
}

#[test]
fn a_long_gather_polls_only_who_was_woken() {
    annulet::run(async {
        let gates: Vec<Gate> = (0..1000).map(|_| Gate::default()).collect();
        let all = spawn(gather(gates.clone()));
        yield_now().await;
        for gate in gates.iter().rev() {
            gate.open();
            yield_now().await;
        }
        assert_eq!(all.await.unwrap().len(), 1000);
        assert!(gates.iter().all(|gate| gate.polls() == 2), "once at first and once when it was woken");
    });
}

#[test]
fn a_long_gather_is_woken_from_other_threads_and_by_late_wakers() {
    annulet::run(async {
        let gates: Vec<Gate> = (0..50).map(|_| Gate::default()).collect();
        let all = spawn(gather(gates.clone()));
        yield_now().await;
        let wakers: Vec<_> = gates.iter().map(Gate::waker).collect();
        let late = wakers.clone();
        gates.iter().for_each(Gate::open_quietly);
        std::thread::spawn(move || wakers.into_iter().for_each(std::task::Waker::wake)).join().unwrap();
        assert_eq!(all.await.unwrap().len(), 50);
        late.into_iter().for_each(std::task::Waker::wake);
    });
}

#[test]
fn gathered_futures_borrow_and_are_dropped_with_the_gathering() {
    annulet::run(async {
        let trace = Trace::default();
        let all = gather((0..3).map(|index| {
            let held = trace.on_drop(&index.to_string());
            async move {
                let _held = held;
                if index > 0 {
                    pending::<()>().await;
                }
            }
        }));
        let mut all = Box::pin(all);
        assert!(poll_once(&mut all).await.is_none());
        assert_eq!(trace.take(), "0");
        drop(all);
        assert_eq!(trace.take(), "1 2");
    });
}

#[test]
fn a_panic_of_a_gathered_future_is_the_tasks_own() {
    annulet::run(async {
        let trace = Trace::default();
        let held = trace.on_drop("dropped");
        let task = spawn(async move {
            let others: [annulet::future::LocalBoxFuture<'_, ()>; 2] = [
                annulet::future::boxed_local(async move {
                    let _held = held;
                    pending::<()>().await;
                }),
                annulet::future::boxed_local(async { panic!("on purpose") }),
            ];
            gather(others).await;
        });
        assert!(task.await.unwrap_err().is_panic());
        assert_eq!(trace.take(), "dropped");
    });
}

#[test]
fn joined_futures_may_end_in_any_order() {
    annulet::run(async {
        for order in orders(3) {
            let gates = [Gate::default(), Gate::default(), Gate::default()];
            let [a, b, c] = gates.clone();
            let mut all = pin!(join3(
                a,
                join(
                    async {
                        b.await;
                        2
                    },
                    async { "two" }
                ),
                async {
                    c.await;
                    3
                }
            ));
            for index in order {
                assert!(poll_once(&mut all).await.is_none());
                gates[index].open();
            }
            assert_eq!(poll_once(&mut all).await, Some(((), (2, "two"), 3)));
        }
    });
}

#[test]
fn select_takes_the_first_of_those_that_are_ready() {
    annulet::run(async {
        let check = async |left_is_open: bool, right_is_open: bool, expected: Option<Either<(), ()>>| {
            let (left, right) = (Gate::default(), Gate::default());
            if left_is_open {
                left.open();
            }
            if right_is_open {
                right.open();
            }
            assert_eq!(poll_once(&mut select(left, right)).await, expected);
        };
        check(true, true, Some(Either::Left(()))).await;
        check(true, false, Some(Either::Left(()))).await;
        check(false, true, Some(Either::Right(()))).await;
        check(false, false, None).await;
        assert_eq!(Either::<_, u32>::Left(3).into_inner(), 3);
    });
}

#[test]
fn the_loser_of_a_select_is_dropped_with_its_kernel_operation() {
    annulet::run(async {
        let (client, server) = pair().await;
        let both = select(sleep(Duration::from_millis(1)), client.recv()).await;
        assert!(matches!(both, Either::Left(())));
        assert_eq!(annulet::metrics().timers, 0);
        // Its receive goes on for the stream and has lost nothing.
        server.write_all(b"late").await.unwrap();
        assert_eq!(&client.recv().await.unwrap().unwrap()[..], b"late");
    });
}

#[test]
fn a_race_gives_the_place_of_the_first() {
    annulet::run(async {
        for winner in 0..4 {
            let gates: Vec<Gate> = (0..4).map(|_| Gate::default()).collect();
            let mut race = race(gates.clone());
            assert!(poll_once(&mut race).await.is_none());
            gates[winner].open();
            gates[3].open();
            assert_eq!(poll_once(&mut race).await, Some((winner, ())));
        }
        let words = spawn(async { race(Vec::<Gate>::new()).await }).await.unwrap_err().to_string();
        assert!(words.contains("a race of no futures"), "{words}");
    });
}

/// Three tasks: 0 gives Ok at 1 s, 1 an Err at 2 s, 2 Ok at 3 s.
fn three() -> Vec<JoinHandle<Result<u64, String>>> {
    let task = |seconds| {
        spawn(async move {
            sleep(Duration::from_secs(seconds)).await;
            if seconds == 2 { Err("two".to_owned()) } else { Ok(seconds) }
        })
    };
    (1..4).map(task).collect()
}

fn places<T>(done: &[Finished<T>]) -> Vec<usize> {
    done.iter().map(|finished| finished.index).collect()
}

#[test]
fn wait_gives_both_sets_and_pending_tasks_go_on() {
    with_virtual_time(async {
        let check = async |when, limit: Option<u64>, expected_done: &[usize], took_s: u64| {
            let begin = now();
            let waiting = wait(three(), when);
            let waiting = match limit {
                Some(millis) => waiting.timeout(Duration::from_millis(millis)),
                None => waiting,
            };
            let (done, pending) = waiting.await;
            assert_eq!(places(&done), expected_done);
            assert_eq!(pending.len(), 3 - done.len());
            assert_eq!((now() - begin + Duration::from_millis(1)).as_secs(), took_s);
            for task in pending {
                assert!(task.await.is_ok(), "it went on");
            }
            assert_eq!(annulet::metrics().timers, 0);
        };
        check(When::ALL, None, &[0, 1, 2], 3).await;
        check(When::FIRST_COMPLETED, None, &[0], 1).await;
        check(When::FIRST_ERROR, None, &[0, 1], 2).await;
        check(When::ALL, Some(500), &[], 0).await;
        check(When::ALL, Some(1500), &[0], 1).await;
        check(When::ALL, Some(9000), &[0, 1, 2], 3).await;
        check(When::FIRST_ERROR, Some(1500), &[0], 1).await;
        check(When::FIRST_COMPLETED, Some(500), &[], 0).await;
    });
}

#[test]
fn wait_counts_panics_and_cancellations_as_errors() {
    with_virtual_time(async {
        for aborts in [false, true] {
            let tasks: Vec<JoinHandle<Result<(), ()>>> = vec![
                spawn(async move {
                    if aborts {
                        pending::<()>().await;
                    }
                    panic!("on purpose")
                }),
                spawn(pending()),
            ];
            if aborts {
                tasks[0].abort();
            }
            let (done, pending) = wait(tasks, When::FIRST_ERROR).await;
            assert_eq!((places(&done), pending.len()), (vec![0], 1));
            assert_eq!(done[0].result.as_ref().unwrap_err().is_panic(), !aborts);
        }
    });
}

#[test]
fn wait_for_nothing_is_over_at_once_and_a_dropped_wait_detaches() {
    with_virtual_time(async {
        let (done, pending) = wait(Vec::<JoinHandle<()>>::new(), When::ALL).await;
        assert!(done.is_empty() && pending.is_empty());
        let mut waiting = wait(three(), When::ALL).timeout(Duration::from_secs(10));
        assert!(poll_once(&mut waiting).await.is_none());
        drop(waiting);
        assert_eq!(annulet::metrics().tasks, 3);
        sleep(Duration::from_secs(4)).await;
        assert_eq!((annulet::metrics().tasks, annulet::metrics().timers), (0, 0));
    });
}

#[test]
fn a_time_limit_cancels_the_kernel_operation() {
    annulet::run(async {
        // Nobody accepts, and one connection is all that the queue takes: later ones stay under way.
        let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        listener.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        let connect = || annulet::net::TcpStream::connect(address);
        let mut streams = Vec::new();
        let mut limits = 0;
        for attempt in 0..6 {
            let limit = Duration::from_millis(20);
            let result = match attempt % 2 {
                0 => timeout(limit, connect()).await,
                _ => timeout_at(now() + limit, connect()).await,
            };
            match result {
                Ok(stream) => streams.push(stream.unwrap()),
                Err(_) => limits += 1,
            }
        }
        assert!(limits > 2, "{limits} of 6 connects did not answer");
        until("every connect is cancelled", || annulet::metrics().operations == 0).await;
        assert_eq!(annulet::metrics().timers, 0);
    });
}

#[test]
fn wrong_use_is_told_with_its_cure() {
    let words =
        words_of_panic(|| drop(wait(Vec::<JoinHandle<()>>::new(), When::ALL).timeout(Duration::ZERO)));
    assert!(words.contains("no annulet loop on this thread"), "{words}");
}

/// Uses every share that the task gets, for ever, as a stream does whose bytes are always there.
async fn busy() {
    loop {
        sleep(Duration::ZERO).await;
    }
}

#[test]
fn a_busy_future_cannot_keep_others_of_its_task_from_their_share() {
    annulet::run(async {
        let limit = || sleep(Duration::from_millis(1));
        // Bounded by its own counting, as the time limit is what is tested.
        let polls = std::cell::Cell::new(0);
        let check = async |what: &str, future: std::pin::Pin<Box<dyn Future<Output = ()>>>| {
            polls.set(0);
            let mut future = future;
            std::future::poll_fn(|cx| {
                polls.set(polls.get() + 1);
                assert!(polls.get() < 200_000, "{what} starved");
                future.as_mut().poll(cx)
            })
            .await;
        };
        check(
            "timeout",
            Box::pin(async {
                timeout(Duration::from_millis(1), busy()).await.unwrap_err();
            }),
        )
        .await;
        check(
            "select",
            Box::pin(async move {
                select(busy(), limit()).await;
            }),
        )
        .await;
        check(
            "race",
            Box::pin(async move {
                race([annulet::future::boxed_local(busy()), annulet::future::boxed_local(limit())]).await;
            }),
        )
        .await;
        check(
            "join",
            Box::pin(async move {
                select(join(busy(), async {}), limit()).await;
            }),
        )
        .await;
    });
}
