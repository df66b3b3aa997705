//! Closures on pools of threads: their values, their bounds, and what is left of them.

use std::cell::RefCell;
use std::future::{Future, pending};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use annulet::blocking::{BlockingTask, Pool};
use annulet::{spawn, spawn_blocking, yield_now};

use crate::support::until;

/// Polls once, with a waker that does nothing.
fn poll_once<F: Future>(future: F) -> Poll<F::Output> {
    pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}

/// A pool whose only thread is busy until the sender speaks.
fn busy_pool(queue_max: usize) -> (Pool, mpsc::Sender<()>, BlockingTask<()>) {
    let pool = Pool::builder().threads_max(1).queue_max(queue_max).build().unwrap();
    let (go, gate) = mpsc::channel::<()>();
    let (tell, told) = mpsc::channel();
    let first = pool.spawn(move || {
        tell.send(()).unwrap();
        // An error is the end of the test.
        let _ = gate.recv();
    });
    told.recv().unwrap();
    (pool, go, first)
}

/// Threads of this process whose name begins with `name`, as the kernel shows it.
fn threads_named(name: &str) -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).ok());
    names.filter(|comm| comm.starts_with(name)).count()
}

#[test]
fn a_value_comes_back_while_the_loop_goes_on() {
    annulet::run(async {
        let (go, gate) = mpsc::channel();
        let task = spawn_blocking(move || {
            gate.recv().unwrap();
            thread::current().name().map(str::to_owned)
        });
        for _ in 0..10 {
            yield_now().await;
        }
        assert!(!task.is_finished());
        go.send(()).unwrap();
        let name = task.await.unwrap().unwrap();
        assert!(name.starts_with("annulet-blocking-"), "{name}");
    });
}

#[test]
fn a_panic_is_an_error_and_the_thread_goes_on() {
    annulet::run(async {
        let pool = Pool::builder().threads_max(1).build().unwrap();
        let error = pool.spawn(|| panic!("on purpose")).await.unwrap_err();
        assert!(error.is_panic());
        assert_eq!(error.to_string(), "the task panicked: on purpose");
        assert_eq!(pool.spawn(|| 1).await.unwrap(), 1);
        assert_eq!(pool.threads(), 1);
    });
}

#[test]
fn a_handle_dropped_before_the_start_takes_its_closure_along() {
    annulet::run(async {
        let (pool, go, first) = busy_pool(8);
        let ran = Arc::new(AtomicUsize::new(0));
        let mut handles: Vec<_> = (0..3)
            .map(|_| {
                let ran = Arc::clone(&ran);
                pool.spawn(move || ran.fetch_add(1, Ordering::Relaxed))
            })
            .collect();
        assert_eq!((pool.queued(), Arc::strong_count(&ran)), (3, 4));
        drop(handles.remove(1));
        assert_eq!((pool.queued(), Arc::strong_count(&ran)), (2, 3), "gone at once, on this thread");
        go.send(()).unwrap();
        first.await.unwrap();
        for handle in handles {
            handle.await.unwrap();
        }
        assert_eq!(ran.load(Ordering::Relaxed), 2);
    });
}

#[test]
fn the_value_of_a_handle_dropped_after_the_start_is_dropped_on_the_pool() {
    struct Tells(mpsc::Sender<String>);
    impl Drop for Tells {
        fn drop(&mut self) {
            self.0.send(thread::current().name().unwrap_or_default().to_owned()).unwrap();
        }
    }
    let pool = Pool::builder().name("detached").build().unwrap();
    let ((go, gate), (started, has_started), (tell, told)) =
        (mpsc::channel(), mpsc::channel(), mpsc::channel());
    let task = pool.spawn(move || {
        started.send(()).unwrap();
        gate.recv().unwrap();
        Tells(tell)
    });
    has_started.recv().unwrap();
    drop(task);
    go.send(()).unwrap();
    assert_eq!(told.recv().unwrap(), "detached-0");
}

#[test]
fn a_full_queue_refuses_and_gives_the_closure_back() {
    let (pool, _go, _first) = busy_pool(2);
    let _queued = [pool.try_spawn(|| 1).unwrap(), pool.spawn(|| 2)];
    let refused = pool.try_spawn(|| 3).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "the queue of the blocking pool is full; wait for room with spawn, or raise queue_max or threads_max"
    );
    assert_eq!((refused.0)(), 3);
    assert_eq!(pool.queued(), 2);
}

#[test]
fn a_full_queue_is_waited_for_in_line() {
    annulet::run(async {
        let (pool, go, first) = busy_pool(1);
        let order = Arc::new(Mutex::new(Vec::new()));
        let tasks: Vec<_> = (0..6)
            .map(|number| {
                let order = Arc::clone(&order);
                spawn(pool.spawn(move || order.lock().unwrap().push(number)))
            })
            .collect();
        // Every handle is polled once and stands in line, but for the first, which is in the queue.
        yield_now().await;
        yield_now().await;
        assert_eq!(pool.queued(), 1);
        tasks[3].abort();
        yield_now().await;
        drop(go);
        first.await.unwrap();
        for (number, task) in tasks.into_iter().enumerate() {
            assert_eq!(task.await.is_ok(), number != 3);
        }
        assert_eq!(*order.lock().unwrap(), [0, 1, 2, 4, 5]);
    });
}

#[test]
fn room_that_a_dropped_handle_was_given_goes_to_the_next() {
    annulet::run(async {
        let (pool, _go, _first) = busy_pool(1);
        let in_queue = pool.spawn(|| ());
        let (mut second, mut third) = (pool.spawn(|| ()), pool.spawn(|| ()));
        assert!(poll_once(second.submitted()).is_pending());
        let woken = spawn(async move {
            third.submitted().await;
            Some(third)
        });
        yield_now().await;
        // Room for the second one, which does not come for it.
        drop(in_queue);
        assert!(pool.try_spawn(|| ()).is_err(), "the room is kept");
        yield_now().await;
        assert!(!woken.is_finished());
        drop(second);
        let third = woken.await.unwrap().unwrap();
        assert_eq!(pool.queued(), 1);
        drop(third);
        assert_eq!(pool.queued(), 0);
    });
}

#[test]
fn threads_leave_when_there_is_nothing_to_do() {
    annulet::run(async {
        let pool = Pool::builder().name("shrinks").keep_alive(Duration::from_millis(1)).build().unwrap();
        let gate = Arc::new(std::sync::Barrier::new(4));
        let tasks: Vec<_> = (0..4)
            .map(|_| {
                let gate = Arc::clone(&gate);
                pool.spawn(move || gate.wait().is_leader())
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        until("idle threads leave", || pool.threads() == 0).await;
        until("and are gone for the kernel", || threads_named("shrinks-") == 0).await;
        assert_eq!(pool.spawn(|| 1).await.unwrap(), 1, "and others come when they are needed");
    });
}

#[test]
fn a_dropped_pool_ends_its_threads_and_finishes_its_queue() {
    annulet::run(async {
        let pool = Pool::builder().name("dropped").threads_max(3).build().unwrap();
        let tasks: Vec<_> = (0..20).map(|number| pool.spawn(move || number)).collect();
        drop(pool);
        for (number, task) in tasks.into_iter().enumerate() {
            assert_eq!(task.await.unwrap(), number);
        }
        until("the threads are gone", || threads_named("dropped-") == 0).await;
    });
}

#[test]
fn shutdown_waits_for_the_closures() {
    annulet::run(async {
        let pool = Pool::builder().name("closes").threads_max(2).build().unwrap();
        let ran = Arc::new(AtomicUsize::new(0));
        let tasks: Vec<_> = (0..10)
            .map(|_| {
                let ran = Arc::clone(&ran);
                spawn(pool.spawn(move || ran.fetch_add(1, Ordering::Relaxed)))
            })
            .collect();
        pool.shutdown().await;
        assert_eq!(ran.load(Ordering::Relaxed), 10);
        drop(tasks);
        Pool::builder().build().unwrap().shutdown().await;
        until("the threads are gone", || threads_named("closes-") == 0).await;
    });
}

#[test]
fn pools_that_could_not_work_are_refused_with_words() {
    let check = |pool: annulet::blocking::PoolBuilder, expected: &str| {
        let error = pool.build().unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
        assert_eq!(error.to_string(), expected);
    };
    check(
        Pool::builder().threads_max(0),
        "a blocking pool needs at least one thread, or its jobs would wait for ever; raise threads_max",
    );
    check(
        Pool::builder().queue_max(0),
        "a blocking pool needs a queue of at least one job, because each job passes through it to its thread; raise \
         queue_max",
    );
    check(
        Pool::builder().name("a\0b"),
        "a thread's name cannot contain a zero byte; choose another name for the blocking pool",
    );
}

#[test]
fn awaiting_twice_is_refused_with_words() {
    annulet::run(async {
        let mut task = spawn_blocking(|| ());
        (&mut task).await.unwrap();
        let refused = catch_unwind(AssertUnwindSafe(|| poll_once(&mut task))).unwrap_err();
        assert!(refused.downcast::<&str>().unwrap().contains("after it gave its value"));
    });
}

#[test]
fn the_pool_of_a_pinned_loop_is_not_pinned() {
    let all = annulet::placement::available_cores().unwrap();
    let (tell, told) = mpsc::channel();
    let loops = annulet::Builder::new()
        .cores([all[0]])
        .start(move |_| {
            let tell = tell.clone();
            async move {
                let pool = Pool::builder().build().unwrap();
                let cores = pool.spawn(|| annulet::placement::available_cores().unwrap());
                tell.send((annulet::placement::available_cores().unwrap(), cores.await.unwrap())).unwrap();
            }
        })
        .unwrap();
    loops.join().unwrap();
    assert_eq!(told.recv().unwrap(), (vec![all[0]], all));
}

/// A child process would inherit it, and could not be ended by SIGTERM.
#[test]
fn no_signal_is_blocked_on_the_pool_that_is_not_blocked_here() {
    let blocked = || {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        status.lines().find_map(|line| line.strip_prefix("SigBlk:")).unwrap().to_owned()
    };
    let pool = Pool::builder().build().unwrap();
    assert_eq!(annulet::run(pool.spawn(blocked)).unwrap(), blocked());
}

#[test]
fn a_handle_may_be_awaited_on_another_loop() {
    let task = spawn_blocking(|| 6 * 7);
    let value = thread::spawn(|| annulet::run(async { task.await.unwrap() })).join().unwrap();
    assert_eq!(value, 42);
}

#[test]
fn a_task_that_waits_says_so_in_the_dump() {
    annulet::run(async {
        let (pool, go, first) = busy_pool(1);
        let waiting = spawn(first);
        let (_in_queue, in_line) = (pool.spawn(|| ()), spawn(pool.spawn(|| ())));
        yield_now().await;
        let waits: Vec<_> = annulet::task::dump().tasks.iter().skip(1).map(|task| task.waits_for).collect();
        assert_eq!(waits, [Some(annulet::task::WaitsFor::Blocking); 2]);
        drop(go);
        waiting.await.unwrap().unwrap();
        in_line.abort();
    });
}

#[annulet::test(start_paused = true)]
async fn virtual_time_stands_still_for_a_closure() {
    // Work that takes longer than a virtual clock waits for the machine.
    let work = spawn_blocking(|| thread::sleep(Duration::from_millis(10)));
    annulet::time::timeout(Duration::from_secs(1), work).await.expect("no time has passed").unwrap();
    let waits = annulet::time::timeout(Duration::from_secs(3600), pending::<()>());
    assert!(waits.await.is_err(), "and time moves again");
}

#[test]
fn handles_dropped_at_any_time_leave_nothing() {
    // A generator of its own: a failing run can be repeated from its seed.
    let seed = 0x9e37_79b9_7f4a_7c15_u64;
    println!("seed {seed:#x}");
    let random = Rc::new(RefCell::new(seed));
    let next = move || {
        let mut state = random.borrow_mut();
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        *state
    };
    annulet::run(async {
        let pool = Pool::builder().name("churn").threads_max(3).queue_max(2).build().unwrap();
        let alive = Arc::new(());
        for _ in 0..300 {
            let tasks: Vec<_> = (0..next() % 8)
                .map(|_| {
                    let (alive, spins) = (Arc::clone(&alive), next() % 200);
                    let task = pool.spawn(move || (0..spins).for_each(|_| drop(Arc::clone(&alive))));
                    spawn(task)
                })
                .collect();
            for _ in 0..next() % 4 {
                yield_now().await;
            }
            for task in tasks {
                if next() % 2 == 0 {
                    task.abort();
                }
                let _ = task.await;
            }
        }
        until("no closure is left", || Arc::strong_count(&alive) == 1).await;
        assert_eq!(pool.queued(), 0);
        pool.shutdown().await;
        until("no thread is left", || threads_named("churn-") == 0).await;
    });
}
