//! Tasks, handles and wakers.

use std::cell::{Cell, RefCell};
use std::future::{Future, pending, poll_fn};
use std::rc::Rc;
use std::sync::mpsc;
use std::task::Poll;
use std::thread;
use std::time::Duration;

use annulet::{spawn, yield_now};

#[test]
fn a_task_gives_its_value() {
    let sum = annulet::run(async {
        let tasks: Vec<_> = (0..100_u64).map(|number| spawn(async move { number * number })).collect();
        let mut sum = 0;
        for task in tasks {
            sum += task.await.unwrap();
        }
        sum
    });
    assert_eq!(sum, 328_350);
}

#[test]
fn tasks_interleave_at_their_yields() {
    let trace = Rc::new(RefCell::new(Vec::new()));
    annulet::run(async {
        let tasks: Vec<_> = ["A", "B"]
            .map(|name| {
                let trace = Rc::clone(&trace);
                spawn(async move {
                    for round in 0..3 {
                        trace.borrow_mut().push(format!("{name}{round}"));
                        yield_now().await;
                    }
                })
            })
            .into();
        for task in tasks {
            task.await.unwrap();
        }
    });
    assert_eq!(*trace.borrow(), ["A0", "B0", "A1", "B1", "A2", "B2"]);
}

#[test]
fn a_panic_stays_in_its_task() {
    annulet::run(async {
        let error = spawn(async { panic!("on purpose") }).await.unwrap_err();
        assert!(error.is_panic() && !error.is_cancelled());
        assert!(error.to_string().contains("on purpose"), "{error}");
        assert_eq!(spawn(async { 1 }).await.unwrap(), 1, "the loop goes on");
    });
}

#[test]
fn an_aborted_task_drops_its_future_and_says_so() {
    struct Told(Rc<Cell<bool>>);
    impl Drop for Told {
        fn drop(&mut self) {
            self.0.set(true);
        }
    }
    annulet::run(async {
        let dropped = Rc::new(Cell::new(false));
        let told = Told(Rc::clone(&dropped));
        let task = spawn(async move {
            let _told = told;
            pending::<()>().await;
        });
        yield_now().await;
        assert!(!task.is_finished());
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
        assert!(dropped.get());
    });
}

#[test]
fn a_dropped_handle_detaches() {
    annulet::run(async {
        let done = Rc::new(Cell::new(false));
        let flag = Rc::clone(&done);
        drop(spawn(async move {
            yield_now().await;
            flag.set(true);
        }));
        for _ in 0..5 {
            yield_now().await;
        }
        assert!(done.get());
        assert_eq!(annulet::metrics().tasks, 0);
    });
}

#[test]
fn tasks_that_finish_free_their_slots() {
    annulet::run(async {
        for _ in 0..1000 {
            spawn(async {}).await.unwrap();
        }
        assert_eq!(annulet::metrics().tasks, 0);
    });
}

#[test]
fn another_thread_wakes_a_sleeping_loop() {
    annulet::run(async {
        for delay_us in [0, 10, 1000, 20_000] {
            let (sender, receiver) = mpsc::channel();
            let mut thread = None;
            let mut sender = Some(sender);
            poll_fn(|cx| {
                if let Some(sender) = sender.take() {
                    let waker = cx.waker().clone();
                    thread = Some(thread::spawn(move || {
                        thread::sleep(Duration::from_micros(delay_us));
                        sender.send(()).unwrap();
                        waker.wake();
                    }));
                }
                if receiver.try_recv().is_ok() { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
            thread.unwrap().join().unwrap();
        }
    });
}

#[test]
fn a_busy_task_does_not_starve_the_ring() {
    annulet::run(async {
        let stop = Rc::new(Cell::new(false));
        let flag = Rc::clone(&stop);
        let busy = spawn(async move {
            while !flag.get() {
                yield_now().await;
            }
        });
        annulet::time::sleep(Duration::from_millis(5)).await;
        let (client, server) = crate::support::pair().await;
        client.write_all(b"x").await.unwrap();
        server.recv().await.unwrap();
        stop.set(true);
        busy.await.unwrap();
    });
}

#[test]
fn what_was_written_leaves_where_a_turn_is_ended() {
    for ends in [false, true] {
        annulet::run(async {
            let (ours, mut theirs) = std::os::unix::net::UnixStream::pair().unwrap();
            theirs.set_nonblocking(true).unwrap();
            let stream = annulet::net::UnixStream::from_std(ours).unwrap();
            // Both are ready in the same round.
            let writer = spawn(async move {
                stream.write_all(b"now").await.unwrap();
                if ends {
                    annulet::future::end_turn();
                }
                stream
            });
            let reader = spawn(async move { std::io::Read::read(&mut theirs, &mut [0; 8]).is_ok() });
            assert_eq!(reader.await.unwrap(), ends, "it left before the next task was polled");
            drop(writer.await.unwrap());
        });
    }
    annulet::future::end_turn();
}

#[test]
fn a_task_that_never_waits_still_lets_others_run() {
    annulet::run(async {
        let (client, server) = crate::support::pair().await;
        // Always ready: each read finds bytes. Without a share per poll this task would never be pending.
        let writer = spawn(async move {
            for _ in 0..2000 {
                client.write_all(&[0; 1000]).await.unwrap();
            }
        });
        let reads = Rc::new(Cell::new(0_u32));
        let counter = Rc::clone(&reads);
        let reader = spawn(async move {
            let mut byte = [0; 1];
            while server.read(&mut byte).await.unwrap() == 1 {
                counter.set(counter.get() + 1);
            }
        });
        let mut last = 0;
        let mut turns_between = Vec::new();
        while reads.get() < 100_000 {
            yield_now().await;
            turns_between.push(reads.get() - last);
            last = reads.get();
        }
        // A turn does up to 64 polls, each with a share of 128 operations.
        assert!(turns_between.iter().max().unwrap() <= &(64 * 128), "one poll reads at most its share");
        reader.abort();
        drop(writer);
    });
}

#[test]
fn awaiting_a_handle_on_another_thread_is_refused_with_words() {
    let (sender, receiver) = mpsc::channel();
    annulet::run(async {
        let task = spawn(pending::<()>());
        let other = thread::spawn(move || {
            let waker = std::task::Waker::noop();
            let mut task = std::pin::pin!(task);
            let refused = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                let _ = task.as_mut().poll(&mut std::task::Context::from_waker(waker));
            }));
            let words =
                refused.unwrap_err().downcast::<&'static str>().map(|words| *words).unwrap_or_default();
            sender.send(words).unwrap();
        });
        other.join().unwrap();
        annulet::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(
            annulet::metrics().tasks,
            1,
            "detached, not gone: its handle was dropped on the other thread"
        );
    });
    assert!(receiver.recv().unwrap().contains("another thread"));
}

#[test]
fn spawning_outside_of_a_loop_is_refused_with_words() {
    let refused = std::panic::catch_unwind(|| drop(spawn(async {}))).unwrap_err();
    assert!(refused.downcast::<&str>().unwrap().contains("annulet::run"));
}
