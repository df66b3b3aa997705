//! Task groups: all succeed, or the first failure ends the others.

use std::cell::RefCell;
use std::future::pending;
use std::rc::Rc;
use std::time::Duration;

use annulet::task::Builder;
use annulet::time::{sleep, timeout};
use annulet::{TaskGroup, spawn, yield_now};

use crate::support::{Trace, orders, pair, until, with_virtual_time, words_of_panic};

#[test]
fn a_group_waits_for_all_and_its_handles_give_the_values() {
    with_virtual_time(async {
        for order in orders(3) {
            let group = TaskGroup::<String>::new();
            let tasks: Vec<_> = order
                .iter()
                .map(|place| {
                    let seconds = *place as u64;
                    group.spawn(async move {
                        sleep(Duration::from_secs(seconds)).await;
                        Ok(seconds)
                    })
                })
                .collect();
            assert_eq!(group.len(), 3);
            group.join().await.unwrap();
            for (task, place) in tasks.into_iter().zip(order) {
                assert_eq!(task.await.unwrap(), place as u64);
            }
        }
        assert_eq!(annulet::metrics().tasks, 0);
    });
}

#[test]
fn the_first_failure_cancels_the_others_waits_for_them_and_is_returned() {
    with_virtual_time(async {
        let trace = Trace::default();
        // Who fails first is first, wherever it stands; a later failure does not count.
        for order in orders(3) {
            let group = TaskGroup::new();
            for place in order {
                let held = trace.on_drop("gone");
                group.spawn::<(), _>(async move {
                    let _held = held;
                    sleep(Duration::from_secs(1 + place as u64)).await;
                    Err(place)
                });
            }
            let held = trace.on_drop("gone");
            let waiting = group.spawn(async move {
                let _held = held;
                pending::<Result<(), usize>>().await
            });
            assert_eq!(group.join().await, Err(0));
            assert_eq!(trace.take(), "gone gone gone gone", "before join returns");
            assert!(waiting.await.unwrap_err().is_cancelled());
        }
        assert_eq!((annulet::metrics().tasks, annulet::metrics().timers), (0, 0));
    });
}

#[test]
fn two_failures_in_one_turn_give_the_first() {
    annulet::run(async {
        let group = TaskGroup::new();
        for number in 0..3 {
            group.spawn::<(), _>(async move { Err(number) });
        }
        assert_eq!(group.join().await, Err(0));
    });
}

#[test]
fn a_panic_goes_on_in_who_joins_after_the_others_are_gone() {
    annulet::run(async {
        let trace = Trace::default();
        let held = trace.on_drop("gone");
        let seen = trace.clone();
        let outer = spawn(async move {
            let group = TaskGroup::<()>::new();
            group.spawn(async move {
                let _held = held;
                pending::<Result<(), ()>>().await
            });
            group.spawn::<(), _>(async { panic!("on purpose") });
            let _after = seen.on_drop("joined");
            group.join().await
        });
        assert!(outer.await.unwrap_err().to_string().contains("on purpose"));
        assert_eq!(trace.take(), "gone joined");
        assert_eq!(annulet::metrics().tasks, 0);
    });
}

#[test]
fn dropping_a_group_drops_its_members_on_the_spot() {
    annulet::run(async {
        let trace = Trace::default();
        // Before their first poll, and while they wait.
        for turns in [0, 1] {
            let group = TaskGroup::<()>::new();
            for name in ["a", "b"] {
                let held = trace.on_drop(name);
                group.spawn(async move {
                    let _held = held;
                    pending::<Result<(), ()>>().await
                });
            }
            for _ in 0..turns {
                yield_now().await;
            }
            drop(group);
            assert_eq!(trace.take(), "a b");
            assert_eq!(annulet::metrics().tasks, 0);
        }
    });
}

#[test]
fn cancelling_who_holds_a_group_ends_nested_groups_too() {
    annulet::run(async {
        let trace = Trace::default();
        let (outer, inner) = (trace.on_drop("outer"), trace.on_drop("inner"));
        let task = spawn(TaskGroup::<()>::scope(async move |group| {
            group.spawn(TaskGroup::scope(async move |group| {
                let _outer = outer;
                group.spawn(async move {
                    let _inner = inner;
                    pending::<Result<(), ()>>().await
                });
                pending::<Result<(), ()>>().await
            }));
            pending::<Result<(), ()>>().await
        }));
        for _ in 0..3 {
            yield_now().await;
        }
        assert_eq!(annulet::metrics().tasks, 3);
        assert!(task.cancel().await.unwrap_err().is_cancelled());
        assert_eq!(trace.take(), "outer inner");
        assert_eq!(annulet::metrics().tasks, 0);
    });
}

#[test]
fn a_failure_in_a_nested_group_climbs_up() {
    annulet::run(async {
        let result = TaskGroup::scope(async |group| {
            group.spawn(TaskGroup::scope(async |group| {
                group.spawn::<(), _>(async { Err("deep") });
                pending::<Result<(), &str>>().await
            }));
            group.spawn(pending::<Result<(), &str>>());
            pending::<Result<(), &str>>().await
        })
        .await;
        assert_eq!(result, Err("deep"));
        assert_eq!(annulet::metrics().tasks, 0);
    });
}

#[test]
fn a_scope_gives_the_bodys_value_error_and_panic() {
    annulet::run(async {
        let trace = Trace::default();
        let member = |group: &TaskGroup<&'static str>| {
            let held = trace.on_drop("gone");
            group.spawn(async move {
                let _held = held;
                pending::<Result<(), &str>>().await
            });
        };
        let value = TaskGroup::<&str>::scope(async |group| {
            let one = group.spawn(async { Ok(1) });
            let two = group.spawn(async { Ok(2) });
            Ok(one.await.unwrap() + two.await.unwrap())
        });
        assert_eq!(value.await, Ok(3));
        let error = TaskGroup::scope(async |group| {
            member(group);
            yield_now().await;
            Err::<(), _>("body")
        });
        assert_eq!(error.await, Err("body"));
        assert_eq!(trace.take(), "gone");
        let held = [trace.on_drop("gone")];
        let panic = spawn(TaskGroup::<()>::scope(async move |group| {
            let [held] = held;
            group.spawn(async move {
                let _held = held;
                pending::<Result<(), ()>>().await
            });
            yield_now().await;
            assert!(group.is_empty(), "on purpose");
            Ok(())
        }));
        assert!(panic.await.unwrap_err().is_panic());
        assert_eq!(trace.take(), "gone");
        assert_eq!(annulet::metrics().tasks, 0);
    });
}

#[test]
fn a_failed_member_ends_the_body_where_it_waits() {
    annulet::run(async {
        let trace = Trace::default();
        let result = TaskGroup::scope(async |group| {
            let _held = trace.on_drop("body");
            let failing = group.spawn(async { Err::<(), _>("member") });
            // It never sees the failure: it is gone by then.
            failing.await.unwrap();
            Ok(())
        })
        .await;
        assert_eq!((result, trace.take().as_str()), (Err("member"), "body"));
    });
}

#[test]
fn a_member_that_is_cancelled_from_elsewhere_ends_alone() {
    annulet::run(async {
        let group = TaskGroup::<()>::new();
        let one = group.spawn(pending::<Result<(), ()>>());
        let two = group.spawn(async { Ok(2) });
        one.abort();
        group.join().await.unwrap();
        assert!(one.await.unwrap_err().is_cancelled());
        assert_eq!(two.await.unwrap(), 2);
    });
}

#[test]
fn abort_all_is_no_failure_and_later_members_do_not_start() {
    annulet::run(async {
        let group = TaskGroup::<()>::new();
        group.spawn(pending::<Result<(), ()>>());
        yield_now().await;
        group.abort_all();
        let late = group.spawn(async { unreachable!("it is cancelled before it starts") });
        group.join().await.unwrap();
        let late: annulet::JoinHandle<()> = late;
        assert!(late.await.unwrap_err().is_cancelled());
    });
}

#[test]
fn a_member_may_drop_its_own_group() {
    annulet::run(async {
        let trace = Trace::default();
        let slot: Rc<RefCell<Option<TaskGroup<()>>>> = Rc::default();
        let group = TaskGroup::new();
        let (inner, held, other) = (Rc::clone(&slot), trace.on_drop("own"), trace.on_drop("other"));
        group.spawn::<(), _>(async move {
            let _held = held;
            drop(inner.borrow_mut().take());
            yield_now().await;
            unreachable!("it ends at its next await");
        });
        group.spawn(async move {
            let _other = other;
            pending::<Result<(), ()>>().await
        });
        *slot.borrow_mut() = Some(group);
        for _ in 0..3 {
            yield_now().await;
        }
        assert_eq!(trace.take(), "other own");
        assert_eq!(annulet::metrics().tasks, 0);
    });
}

#[test]
fn members_whose_drops_end_each_other_end_once() {
    annulet::run(async {
        // The drop of each drops a group that the other is a member of.
        let slots: [Rc<RefCell<Option<TaskGroup<()>>>>; 2] = [Rc::default(), Rc::default()];
        for place in 0..2 {
            let group = TaskGroup::new();
            let other = Rc::clone(&slots[1 - place]);
            struct DropsOther(Rc<RefCell<Option<TaskGroup<()>>>>);
            impl Drop for DropsOther {
                fn drop(&mut self) {
                    let other = self.0.borrow_mut().take();
                    drop(other);
                }
            }
            let held = DropsOther(other);
            group.spawn(async move {
                let _held = held;
                pending::<Result<(), ()>>().await
            });
            *slots[place].borrow_mut() = Some(group);
        }
        yield_now().await;
        let first = slots[0].borrow_mut().take();
        drop(first);
        assert!(slots[1].borrow().is_none());
        yield_now().await;
        assert_eq!(annulet::metrics().tasks, 0);
    });
}

#[test]
fn a_long_lived_group_uses_its_places_again() {
    annulet::run(async {
        let group = TaskGroup::<()>::new();
        for _ in 0..1000 {
            drop(group.spawn(async { Ok(()) }));
            yield_now().await;
            yield_now().await;
        }
        assert!(group.is_empty());
        group.join().await.unwrap();
        assert_eq!(annulet::metrics().tasks, 0);
    });
}

#[test]
fn a_time_limit_on_a_group_ends_members_and_their_sockets() {
    annulet::run(async {
        let (client, server) = pair().await;
        let limited = timeout(
            Duration::from_millis(1),
            TaskGroup::<std::io::Error>::scope(async move |group| {
                group.spawn_with(Builder::new().name("reader"), async move {
                    server.recv().await?;
                    Ok(())
                });
                pending().await
            }),
        );
        let limited: Result<Result<(), _>, _> = limited.await;
        assert!(limited.is_err());
        assert_eq!((annulet::metrics().tasks, annulet::metrics().timers), (0, 0));
        until("the member's socket is closed", || annulet::metrics().sockets == 1).await;
        drop(client);
    });
}

#[test]
fn a_group_may_outlive_its_loop() {
    let group = annulet::run(async {
        let group = TaskGroup::<()>::new();
        group.spawn(pending::<Result<(), ()>>());
        group
    });
    assert!(group.is_empty());
    let words = words_of_panic(|| group.spawn(async { Ok(()) }));
    assert!(words.contains("annulet::run"), "{words}");
    assert!(group.is_empty());
    drop(group);
}
