//! How tasks end: cancellation that is waited for, and callbacks on their end.

use std::cell::RefCell;
use std::future::pending;
use std::rc::Rc;
use std::time::Duration;

use annulet::task::{self, Builder};
use annulet::{JoinHandle, spawn, yield_now};

use crate::support::{Trace, pair, words_of_panic};

#[test]
fn cancel_waits_until_the_future_is_gone() {
    annulet::run(async {
        let trace = Trace::default();
        // Before its first poll, and while it waits.
        for turns in [0, 1] {
            let held = trace.on_drop("gone");
            let task = spawn(async move {
                let _held = held;
                pending::<()>().await;
            });
            for _ in 0..turns {
                yield_now().await;
            }
            assert!(task.cancel().await.unwrap_err().is_cancelled());
            assert_eq!(trace.take(), "gone");
        }
        assert_eq!(annulet::metrics().tasks, 0);
    });
}

#[test]
fn cancel_gives_what_a_finished_task_left() {
    annulet::run(async {
        let task = spawn(async { 7 });
        yield_now().await;
        assert_eq!(task.cancel().await.unwrap(), 7);
        let task = spawn(async { panic!("on purpose") });
        yield_now().await;
        assert!(task.cancel().await.unwrap_err().is_panic());
        assert_eq!(annulet::metrics().tasks, 0);
    });
}

#[test]
fn a_dropped_wait_for_a_cancelled_task_does_not_take_the_request_back() {
    annulet::run(async {
        let trace = Trace::default();
        let held = trace.on_drop("gone");
        let task = spawn(async move {
            let _held = held;
            pending::<()>().await;
        });
        yield_now().await;
        drop(task.cancel());
        yield_now().await;
        assert_eq!(trace.take(), "gone");
        assert_eq!(annulet::metrics().tasks, 0);
    });
}

#[test]
fn cancel_takes_the_kernel_operation_along() {
    annulet::run(async {
        let (client, server) = pair().await;
        let task = spawn(async move { server.recv().await.map(|lease| lease.is_some()) });
        yield_now().await;
        assert!(task.cancel().await.unwrap_err().is_cancelled());
        crate::support::until("the socket is closed", || annulet::metrics().sockets == 1).await;
        assert!(client.recv().await.unwrap().is_none(), "its peer is gone");
    });
}

#[test]
fn a_task_may_cancel_itself() {
    annulet::run(async {
        let trace = Trace::default();
        let slot: Rc<RefCell<Option<JoinHandle<()>>>> = Rc::default();
        let (inner, held) = (Rc::clone(&slot), trace.on_drop("gone"));
        let task = spawn(async move {
            let _held = held;
            let own: JoinHandle<()> = inner.borrow_mut().take().unwrap();
            let _ = own.cancel().await;
            unreachable!("it ends where it waits for its own end");
        });
        *slot.borrow_mut() = Some(task);
        for _ in 0..3 {
            yield_now().await;
        }
        assert_eq!(trace.take(), "gone");
        assert_eq!(annulet::metrics().tasks, 0);
    });
}

#[test]
fn callbacks_see_the_result_in_their_order_and_before_who_awaits_it() {
    annulet::run(async {
        let trace = Trace::default();
        let check = async |task: JoinHandle<i32>, expected: &str| {
            for place in ["first", "second"] {
                let trace = trace.clone();
                task.on_done(move |result| {
                    trace.push(match result {
                        Ok(value) => format!("{place}:{value}"),
                        Err(error) => format!("{place}:{error}"),
                    });
                });
            }
            let _ = task.await;
            trace.push("joined");
            assert_eq!(trace.take(), expected);
        };
        check(spawn(async { 7 }), "first:7 second:7 joined").await;
        let finished = spawn(async { 8 });
        yield_now().await;
        check(finished, "first:8 second:8 joined").await;
        let cancelled = spawn(pending());
        cancelled.abort();
        check(cancelled, "first:the task was cancelled second:the task was cancelled joined").await;
        check(
            spawn(async { panic!("oh") }),
            "first:the task panicked: oh second:the task panicked: oh joined",
        )
        .await;
        assert_eq!(annulet::metrics().tasks, 0);
    });
}

#[test]
fn a_callback_may_do_anything_with_its_task() {
    annulet::run(async {
        let trace = Trace::default();
        let slot: Rc<RefCell<Option<JoinHandle<String>>>> = Rc::default();
        let task = spawn(async { "value".to_owned() });
        let (inner, heard) = (Rc::clone(&slot), trace.clone());
        task.on_done(move |result| {
            let own = inner.borrow_mut().take().unwrap();
            assert!(!own.is_finished(), "it is finished when its callbacks are");
            own.abort();
            let again = heard.clone();
            own.on_done(move |result| again.push(format!("again:{}", result.unwrap())));
            let last = heard.clone();
            spawn(async move { last.push("spawned") });
            drop(own);
            heard.push(result.unwrap().clone());
        });
        *slot.borrow_mut() = Some(task);
        for _ in 0..3 {
            yield_now().await;
        }
        assert_eq!(trace.take(), "value again:value spawned");
        assert_eq!(annulet::metrics().tasks, 0);
    });
}

#[test]
fn a_callback_that_panics_spoils_nothing() {
    annulet::run(async {
        let trace = Trace::default();
        let task = spawn(async { 7 });
        task.on_done(|_| panic!("on purpose"));
        let heard = trace.clone();
        task.on_done(move |_| heard.push("called"));
        assert_eq!(task.await.unwrap(), 7);
        assert_eq!(trace.take(), "called");
    });
}

#[test]
fn callbacks_of_detached_tasks_are_called_also_when_the_loop_ends() {
    let trace = Trace::default();
    annulet::run(async {
        for (name, sleeps) in [("done", false), ("left", true)] {
            let heard = trace.clone();
            let task = spawn(async move {
                if sleeps {
                    pending::<()>().await;
                }
            });
            task.on_done(move |result| heard.push(format!("{name}:{}", result.is_ok())));
        }
        yield_now().await;
    });
    assert_eq!(trace.take(), "done:true left:false");
}

#[test]
fn handles_that_outlive_their_loop_say_that_their_task_was_cancelled() {
    let mut handle = None;
    annulet::run(async { handle = Some(spawn(pending::<()>())) });
    let trace = Trace::default();
    let heard = trace.clone();
    handle.unwrap().on_done(move |result| heard.push(result.unwrap_err().to_string()));
    assert_eq!(trace.take(), "the task was cancelled");
}

#[test]
fn a_task_knows_its_name_and_its_place() {
    annulet::run(async {
        let main = task::current();
        assert_eq!((main.id().to_string().as_str(), main.name()), ("main", None));
        assert!(main.location().file().ends_with("task_end.rs"));
        let line = line!() + 1;
        let named = Builder::new().name("worker").spawn(async { task::current() });
        assert_eq!(named.name().as_deref(), Some("worker"));
        let id = named.id();
        let seen = named.await.unwrap();
        assert_eq!((seen.id(), seen.name().as_deref()), (id, Some("worker")));
        assert_eq!((seen.location().file(), seen.location().line()), (file!(), line));
        assert!(seen.is_finished() && !main.is_finished());
        seen.abort();
        main.abort();
        let unnamed = spawn(async { task::current().name() });
        assert_ne!(unnamed.id(), id, "the slot is the same, its generation is not");
        assert_eq!((unnamed.name(), unnamed.await.unwrap()), (None, None));
    });
}

#[test]
fn all_lists_live_tasks_and_each_can_be_aborted() {
    annulet::run(async {
        let names = |tasks: Vec<task::Task>| {
            let names = tasks.iter().map(|task| task.name().map_or("-".to_owned(), |name| name.to_string()));
            names.collect::<Vec<_>>().join(" ")
        };
        let waiting = Builder::new().name("waiting").spawn(pending::<()>());
        let finished = Builder::new().name("finished").spawn(async {});
        assert_eq!(names(task::all()), "- waiting finished");
        yield_now().await;
        assert_eq!(names(task::all()), "- waiting", "a result that waits to be taken is no live task");
        task::all().iter().for_each(task::Task::abort);
        assert!(waiting.await.unwrap_err().is_cancelled());
        assert_eq!(names(task::all()), "-");
        drop(finished);
    });
}

#[test]
fn wrong_use_is_told_with_its_cure() {
    let check =
        |words: String, cure: &str| assert!(words.contains(cure), "{words:?} says nothing of {cure:?}");
    check(words_of_panic(task::current), "from inside of a task");
    check(words_of_panic(task::all), "annulet::run");
    check(words_of_panic(task::dump), "annulet::run");
    check(words_of_panic(|| Builder::new().name("x").spawn(async {})), "annulet::run");
    assert!(task::try_current().is_none());
    annulet::run(async {
        let task = spawn(pending::<()>());
        let words = std::thread::spawn(move || words_of_panic(|| task.on_done(|_| {}))).join().unwrap();
        check(words, "where the task was spawned");
        let mut task = spawn(async {});
        (&mut task).await.unwrap();
        check(words_of_panic(|| task.on_done(|_| {})), "gave its result before");
    });
}

#[test]
fn a_time_limit_on_a_handle_ends_the_wait_and_not_the_task() {
    annulet::Builder::new()
        .virtual_clock(true)
        .run_local(async {
            let trace = Trace::default();
            let task = spawn(pending::<()>());
            let heard = trace.clone();
            task.on_done(move |result| heard.push(result.unwrap_err().to_string()));
            let mut task = task;
            assert!(annulet::time::timeout(Duration::from_secs(1), &mut task).await.is_err());
            assert_eq!(trace.take(), "");
            task.cancel().await.unwrap_err();
            assert_eq!(trace.take(), "the task was cancelled");
        })
        .unwrap();
}
