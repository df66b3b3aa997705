//! Notify, Barrier and Condvar against models.

use super::*;

fn notify_against_model(choose: &mut Choose, wakers: &Wakers) {
    const WAITERS: usize = 3;
    #[derive(Clone, Copy, PartialEq, Eq)]
    enum Has {
        Nothing,
        One,
        All,
    }
    let notify = Notify::new();
    let mut waits: Vec<_> = (0..WAITERS).map(|_| Some(notify.notified())).collect();
    let (mut stored, mut called) = (false, false);
    let mut queue: VecDeque<usize> = VecDeque::new();
    let mut has = [Has::Nothing; WAITERS];
    let mut woken = [0; WAITERS];
    while choose.goes_on() {
        let alive: Vec<_> = (0..WAITERS).filter(|number| waits[*number].is_some()).collect();
        let choice = choose.one_of(2 * alive.len() + 2);
        let mut notify_one =
            |queue: &mut VecDeque<usize>, has: &mut [Has], stored: &mut bool| match queue.pop_front() {
                Some(front) => {
                    has[front] = Has::One;
                    woken[front] += 1;
                }
                None => *stored = true,
            };
        if choice < alive.len() {
            let number = alive[choice];
            let polled = wakers.poll(number, Pin::new(waits[number].as_mut().expect("alive")));
            let expected = if has[number] != Has::Nothing {
                has[number] = Has::Nothing;
                true
            } else if queue.contains(&number) {
                false
            } else if called || std::mem::take(&mut stored) {
                true
            } else {
                queue.push_back(number);
                false
            };
            assert_eq!(polled.is_ready(), expected, "poll of {number}");
            if expected {
                waits[number] = None;
            }
        } else if choice < 2 * alive.len() {
            let number = alive[choice - alive.len()];
            waits[number] = None;
            queue.retain(|other| *other != number);
            if std::mem::replace(&mut has[number], Has::Nothing) == Has::One {
                notify_one(&mut queue, &mut has, &mut stored);
            }
        } else if choice == 2 * alive.len() {
            notify.notify_one();
            notify_one(&mut queue, &mut has, &mut stored);
        } else {
            notify.notify_waiters();
            called = true;
            for number in queue.drain(..) {
                has[number] = Has::All;
                woken[number] += 1;
            }
        }
        wakers.check(&woken);
        woken = [0; WAITERS];
    }
    drop(waits);
    wakers.0.iter().for_each(|(count, _)| _ = count.take());
    assert_eq!(notify.waiters(), 0);
    // A notification that nobody took is still there.
    let left = stored || has.contains(&Has::One);
    assert_eq!(poll_once(pin!(notify.notified())).is_ready(), left);
}

#[test]
fn notifications_go_in_order_and_are_never_lost() {
    let wakers = Wakers::new(3);
    let runs = explore(7, |choose| notify_against_model(choose, &wakers));
    println!("{runs} orders");
    assert!(runs > 100_000, "{runs}");
}

#[test]
fn a_barrier_opens_for_those_who_are_there() {
    for size in 1..=3 {
        let wakers = Wakers::new(4);
        explore(8, |choose| {
            let barrier = Barrier::new(size);
            let mut waits: Vec<Option<Boxed<'_, BarrierWaitResult>>> =
                (0..4).map(|_| Some(Box::pin(barrier.wait()) as Boxed<'_, _>)).collect();
            let mut is = [Is::New; 4];
            let mut woken = [0; 4];
            while choose.goes_on() {
                let alive: Vec<_> = (0..4).filter(|number| waits[*number].is_some()).collect();
                if alive.is_empty() {
                    break;
                }
                let choice = choose.one_of(2 * alive.len());
                let number = alive[choice / 2];
                if choice % 2 == 1 {
                    waits[number] = None;
                    is[number] = Is::Gone;
                } else {
                    let polled = wakers.poll(number, waits[number].as_mut().expect("alive").as_mut());
                    if is[number] == Is::New {
                        is[number] = Is::Waiting;
                        let waiting: Vec<_> = (0..4).filter(|other| is[*other] == Is::Waiting).collect();
                        if waiting.len() == size {
                            for other in waiting {
                                is[other] = Is::Granted;
                                woken[other] += usize::from(other != number);
                            }
                            assert!(matches!(polled, Poll::Ready(result) if result.is_leader()));
                        } else {
                            assert!(polled.is_pending());
                        }
                    } else {
                        let open = is[number] == Is::Granted;
                        assert_eq!(
                            polled.map(|result| !result.is_leader()),
                            match open {
                                true => Poll::Ready(true),
                                false => Poll::Pending,
                            }
                        );
                    }
                    if is[number] == Is::Granted {
                        waits[number] = None;
                        is[number] = Is::Gone;
                    }
                }
                wakers.check(&std::mem::take(&mut woken));
            }
            drop(waits);
            wakers.0.iter().for_each(|(count, _)| _ = count.take());
            assert_eq!(barrier.waiters(), 0);
        });
    }
}

#[test]
fn a_condvar_loses_no_notification() {
    let wakers = Wakers::new(3);
    explore(8, |choose| {
        let (mutex, condvar) = (Mutex::new(()), Condvar::new());
        let mut waits: Vec<Option<Boxed<'_, ()>>> = (0..3)
            .map(|_| {
                let (mutex, condvar) = (&mutex, &condvar);
                Some(Box::pin(async move { drop(condvar.wait(mutex.lock().await).await) }) as Boxed<'_, ()>)
            })
            .collect();
        // What each waiter has: 1 from notify_one, 2 from notify_all.
        let mut has = [0; 3];
        let mut queue: VecDeque<usize> = VecDeque::new();
        let mut woken = [0; 3];
        while choose.goes_on() {
            let alive: Vec<_> = (0..3).filter(|number| waits[*number].is_some()).collect();
            let choice = choose.one_of(2 * alive.len() + 2);
            let mut give = |queue: &mut VecDeque<usize>, has: &mut [i32], what| {
                if let Some(front) = queue.pop_front() {
                    has[front] = what;
                    woken[front] += 1;
                }
            };
            if choice < alive.len() {
                let number = alive[choice];
                let polled = wakers.poll(number, waits[number].as_mut().expect("alive").as_mut());
                assert_eq!(polled.is_ready(), has[number] != 0);
                if polled.is_ready() {
                    waits[number] = None;
                    has[number] = 0;
                } else if !queue.contains(&number) {
                    queue.push_back(number);
                }
                assert!(mutex.try_lock().is_ok(), "a waiter does not hold the mutex");
            } else if choice < 2 * alive.len() {
                let number = alive[choice - alive.len()];
                waits[number] = None;
                queue.retain(|other| *other != number);
                if std::mem::take(&mut has[number]) == 1 {
                    give(&mut queue, &mut has, 1);
                }
            } else if choice == 2 * alive.len() {
                condvar.notify_one();
                give(&mut queue, &mut has, 1);
            } else {
                condvar.notify_all();
                while !queue.is_empty() {
                    give(&mut queue, &mut has, 2);
                }
            }
            wakers.check(&std::mem::take(&mut woken));
        }
        drop(waits);
        wakers.0.iter().for_each(|(count, _)| _ = count.take());
        assert_eq!(condvar.waiters(), 0);
    });
}

#[test]
fn a_notification_is_passed_on_by_who_is_dropped_while_it_waits_for_the_mutex() {
    let (mutex, condvar) = (Mutex::new(()), Condvar::new());
    let wait = || Box::pin(async { drop(condvar.wait(mutex.lock().await).await) });
    let (mut first, mut second) = (wait(), wait());
    assert!(poll_once(first.as_mut()).is_pending() && poll_once(second.as_mut()).is_pending());
    let guard = mutex.try_lock().expect("both have freed it");
    condvar.notify_one();
    assert!(poll_once(first.as_mut()).is_pending(), "notified, but the mutex is held");
    drop(first);
    drop(guard);
    assert!(poll_once(second.as_mut()).is_ready(), "the notification must not be lost");
}
