//! Panics whose payload panics when it is dropped, with a payload that does so in its turn: nobody else's task suffers.

use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll};
use std::time::Duration;

use annulet::{Builder, mesh, spawn, task, yield_now};

/// Panics when it is dropped, so many times in a row.
struct Bomb(u32);

impl Drop for Bomb {
    fn drop(&mut self) {
        if self.0 > 0 {
            panic_any(Bomb(self.0 - 1));
        }
    }
}

/// Drops what the user has, whose panics are the user's.
fn defuse<T>(value: T) {
    let mut dropped = catch_unwind(AssertUnwindSafe(|| drop(value)));
    while let Err(payload) = dropped {
        dropped = catch_unwind(AssertUnwindSafe(|| drop(payload)));
    }
}

/// A loop on which `f` goes off, and that serves others afterwards.
fn goes_on(f: impl AsyncFnOnce()) {
    annulet::run(async {
        f().await;
        for _ in 0..3 {
            yield_now().await;
        }
        assert_eq!(spawn(async { 7 }).await.unwrap(), 7);
    });
}

#[test]
fn a_task_that_nobody_awaits() {
    goes_on(async || drop(spawn(async { panic_any(Bomb(5)) })));
}

#[test]
fn a_result_that_nobody_takes() {
    goes_on(async || drop(spawn(async { Bomb(5) })));
}

/// Panics when it is polled, and again when it is dropped afterwards.
struct Twice(#[allow(dead_code, reason = "for its drop")] Bomb);

impl Future for Twice {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        panic_any(Bomb(5))
    }
}

#[test]
fn a_future_whose_drop_panics_as_well() {
    goes_on(async || {
        let error = spawn(Twice(Bomb(5))).await.unwrap_err();
        assert!(error.is_panic());
        defuse(error);
    });
}

#[test]
fn a_callback() {
    goes_on(async || {
        let task = spawn(async {});
        task.on_done(|_| panic_any(Bomb(5)));
        task.await.unwrap();
    });
}

#[test]
fn a_blocking_closure_that_nobody_awaits() {
    let pool = annulet::blocking::Pool::builder().threads_max(1).build().unwrap();
    goes_on(async || {
        let (begun, begins) = mpsc::channel();
        let (go, goes) = mpsc::channel::<()>();
        let job = pool.spawn(move || {
            begun.send(()).unwrap();
            goes.recv().unwrap();
            panic_any(Bomb(5));
        });
        // Begun, so that dropping the handle does not take it out.
        let waits = spawn(async { task_of(job).await });
        yield_now().await;
        begins.recv_timeout(Duration::from_secs(60)).unwrap();
        waits.abort();
        let _ = waits.await;
        go.send(()).unwrap();
        // The thread lives: there is one only.
        assert_eq!(pool.spawn(|| 7).await.unwrap(), 7);
    });
}

async fn task_of<T: Send + 'static>(job: annulet::blocking::BlockingTask<T>) {
    drop(job.await);
}

#[test]
fn a_call_to_another_core_that_nobody_awaits() {
    let cores = annulet::placement::available_cores().unwrap();
    let went_off = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&went_off);
    let loops = Builder::new().cores([cores[0], cores[1 % cores.len()]]).start(move |core| {
        let count = Arc::clone(&count);
        async move {
            if core.index() == 1 {
                return core.stopped().await;
            }
            mesh::submit_to(1, async || Bomb(5)).detach();
            mesh::submit_to(1, async || panic_any(Bomb(5))).detach();
            // Answers come in the order of the calls.
            for _ in 0..3 {
                mesh::submit_to(1, async || ()).await.unwrap();
            }
            count.fetch_add(1, Ordering::SeqCst);
        }
    });
    let loops = loops.unwrap();
    let start = std::time::Instant::now();
    while went_off.load(Ordering::SeqCst) == 0 {
        assert!(start.elapsed() < Duration::from_secs(60), "the loop did not go on");
        std::thread::sleep(Duration::from_millis(2));
    }
    loops.stop();
    loops.join().unwrap();
}

#[test]
fn the_end_of_a_loop() {
    let ended = catch_unwind(AssertUnwindSafe(|| {
        Builder::new().run_local(async {
            for _ in 0..3 {
                drop(spawn(async {
                    let _bomb = Bomb(5);
                    std::future::pending::<()>().await;
                }));
            }
            yield_now().await;
        })
    }));
    // A task's own panic is its own.
    ended.expect("the loop ends well").unwrap();
    // A panic of the main future goes to who runs the loop.
    let ended = catch_unwind(AssertUnwindSafe(|| {
        annulet::run(async { panic_any(Bomb(5)) });
    }));
    defuse(ended.expect_err("it panics"));
    let name = task::Builder::new().name("after");
    annulet::run(async { name.spawn(async {}).await.unwrap() });
}
