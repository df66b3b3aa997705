//! Closing that takes time, on every way out.

use std::future::pending;
use std::time::Duration;

use annulet::task::{finally, using};
use annulet::time::sleep;
use annulet::{spawn, yield_now};

use crate::support::{Trace, with_virtual_time, words_of_panic};

/// A resource whose opening and closing take a second, and a list of what happened to it.
struct Resource(Trace);

impl Resource {
    async fn close(self) {
        self.0.push("closing");
        sleep(Duration::from_secs(1)).await;
        self.0.push("closed");
    }
}

#[test]
fn a_resource_is_closed_on_every_way_out() {
    let trace = Trace::default();
    with_virtual_time(async {
        let value = using(
            Resource(trace.clone()),
            async |resource| {
                resource.0.push("used");
                Ok::<_, &str>(7)
            },
            Resource::close,
        );
        assert_eq!(value.await, Ok(7));
        assert_eq!(trace.take(), "used closing closed", "on the normal way it is waited for");
        let error = using(Resource(trace.clone()), async |_| Err::<(), _>("no"), Resource::close);
        assert_eq!(error.await, Err("no"));
        assert_eq!(trace.take(), "closing closed");
        let panics =
            spawn(using(Resource(trace.clone()), async |_| -> () { panic!("on purpose") }, Resource::close));
        assert!(panics.await.unwrap_err().is_panic());
        sleep(Duration::from_secs(2)).await;
        assert_eq!(trace.take(), "closing closed");
        let cancelled =
            spawn(using(Resource(trace.clone()), async |_| pending::<()>().await, Resource::close));
        yield_now().await;
        cancelled.cancel().await.unwrap_err();
        sleep(Duration::from_secs(2)).await;
        assert_eq!(trace.take(), "closing closed");
        assert_eq!(annulet::metrics().tasks, 0);
    });
}

#[test]
fn a_close_that_is_under_way_goes_on_when_its_waiter_is_cancelled() {
    let trace = Trace::default();
    with_virtual_time(async {
        let task = spawn(using(Resource(trace.clone()), async |_| (), Resource::close));
        sleep(Duration::from_millis(500)).await;
        assert_eq!(trace.take(), "closing");
        task.cancel().await.unwrap_err();
        sleep(Duration::from_secs(1)).await;
        assert_eq!(trace.take(), "closed");
    });
}

#[test]
fn a_task_that_never_started_closes_nothing_as_it_opened_nothing() {
    let trace = Trace::default();
    with_virtual_time(async {
        let task = spawn(using(Resource(trace.clone()), async |_| (), Resource::close));
        task.cancel().await.unwrap_err();
        sleep(Duration::from_secs(2)).await;
    });
    // The resource is dropped like any argument of a function that was never called.
    assert_eq!(trace.take(), "");
}

#[test]
fn the_end_of_the_loop_waits_for_closes() {
    let trace = Trace::default();
    with_virtual_time(async {
        // One in a task that the end cancels, one in the main future itself.
        spawn(using(Resource(trace.clone()), async |_| pending::<()>().await, Resource::close));
        yield_now().await;
        let last = trace.clone();
        let _guard = finally(async move {
            // A finaliser may use the whole loop: tasks, timers.
            spawn(sleep(Duration::from_secs(2))).await.unwrap();
            last.push("main");
        });
    });
    assert_eq!(trace.take(), "closing closed main");
}

#[test]
fn a_panic_of_the_main_future_lets_closes_end() {
    let trace = Trace::default();
    let seen = trace.clone();
    let words = words_of_panic(move || {
        with_virtual_time(async move {
            let _guard = finally(async move {
                sleep(Duration::from_secs(1)).await;
                seen.push("closed");
            });
            yield_now().await;
            panic!("on purpose");
        })
    });
    assert_eq!((words.as_str(), trace.take().as_str()), ("on purpose", "closed"));
}

#[test]
fn a_close_that_never_ends_is_dropped_in_time() {
    let trace = Trace::default();
    with_virtual_time(async {
        let held = trace.on_drop("dropped");
        drop(finally(async move {
            let _held = held;
            pending::<()>().await;
        }));
    });
    assert_eq!(trace.take(), "dropped");
}

#[test]
fn a_close_that_panics_on_the_normal_way_is_told() {
    annulet::run(async {
        let task = spawn(using((), async |()| 1, async |()| panic!("in close")));
        assert!(task.await.unwrap_err().to_string().contains("in close"));
        finally(async {}).run().await;
    });
}

#[test]
fn outside_of_a_loop_a_guard_drops_its_future() {
    let trace = Trace::default();
    let held = trace.on_drop("dropped");
    drop(finally(async move {
        let _held = held;
        unreachable!("there is no loop");
    }));
    assert_eq!(trace.take(), "dropped");
}

#[test]
fn the_end_of_the_loop_waits_for_closes_of_results_that_nobody_took() {
    let trace = Trace::default();
    with_virtual_time(async {
        let inner = trace.clone();
        // A handle that is never dropped stands for one that another thread holds.
        std::mem::forget(spawn(async {
            finally(async move {
                sleep(Duration::from_secs(1)).await;
                inner.push("closed");
            })
        }));
        yield_now().await;
    });
    assert_eq!(trace.take(), "closed");
}

#[test]
fn what_the_drop_of_a_result_spawns_is_dropped_with_the_loop() {
    struct Spawns(Trace);
    impl Drop for Spawns {
        fn drop(&mut self) {
            let held = self.0.on_drop("dropped");
            spawn(async move {
                let _held = held;
                pending::<()>().await;
            });
        }
    }
    for is_late in [false, true] {
        let trace = Trace::default();
        with_virtual_time(async {
            let result = Spawns(trace.clone());
            std::mem::forget(spawn(async { result }));
            yield_now().await;
            if is_late {
                // Its time passes, so that results are dropped when the loop takes no more work.
                drop(finally(pending()));
            }
        });
        assert_eq!(trace.take(), "dropped", "late: {is_late}");
    }
}

#[test]
fn a_waker_that_panics_when_the_loop_ends_does_not_stop_the_closes() {
    struct Panics;
    impl std::task::Wake for Panics {
        fn wake(self: std::sync::Arc<Self>) {
            panic!("on purpose");
        }
    }
    let trace = Trace::default();
    let seen = trace.clone();
    let words = words_of_panic(move || {
        with_virtual_time(async move {
            drop(finally(async move {
                let waker = std::task::Waker::from(std::sync::Arc::new(Panics));
                let mut first = std::pin::pin!(sleep(Duration::from_secs(1)));
                assert!(first.as_mut().poll(&mut std::task::Context::from_waker(&waker)).is_pending());
                sleep(Duration::from_secs(2)).await;
                seen.push("closed");
            }));
        });
    });
    assert_eq!((words.as_str(), trace.take().as_str()), ("on purpose", "closed"));
}
