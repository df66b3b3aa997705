//! Core to core: calls, channels, broadcast and sharded values between real loops.

use std::cell::{Cell, RefCell};
use std::future::pending;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use annulet::mesh::{self, Sharded};
use annulet::sync::mpsc::{TryRecvError, TrySendError};
use annulet::{Builder, Core, JoinError};

use crate::shutdown::leaves_nothing;
use crate::support::words_of_panic;

/// How long a mesh may take for what takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// `count` cores, some of them more than once if there are too few.
fn some_cores(count: usize) -> Vec<usize> {
    let cores = annulet::placement::available_cores().unwrap();
    (0..count).map(|index| cores[index % cores.len()]).collect()
}

/// Runs `main` on the first of `count` cores, `other` on the rest of them; all are asked to stop when `main` is done.
fn with_others<M, O>(count: usize, main: M, other: O)
where
    M: AsyncFnOnce(&Core) + Send + 'static,
    O: AsyncFn(&Core) + Send + Sync + 'static,
{
    let (done, finished) = mpsc::channel();
    let main = Mutex::new(Some((main, done)));
    let other = Arc::new(other);
    let loops = Builder::new()
        .cores(some_cores(count))
        .start(move |core| {
            let main = if core.index() == 0 { main.lock().unwrap().take() } else { None };
            let other = Arc::clone(&other);
            async move {
                match main {
                    Some((main, done)) => {
                        main(&core).await;
                        done.send(()).unwrap();
                    }
                    None => other(&core).await,
                }
            }
        })
        .unwrap();
    let finished = finished.recv_timeout(PATIENCE);
    loops.stop();
    loops.join().unwrap();
    finished.unwrap();
}

/// The same with others that only answer.
fn on_mesh<M: AsyncFnOnce(&Core) + Send + 'static>(count: usize, main: M) {
    with_others(count, main, async |core| core.stopped().await);
}

/// Asks again and again until it is so.
async fn until(what: &str, is_so: impl Fn() -> bool) {
    let waited = annulet::time::timeout(PATIENCE, async {
        while !is_so() {
            annulet::time::sleep(Duration::from_millis(1)).await;
        }
    });
    assert!(waited.await.is_ok(), "it did not come to pass: {what}");
}

/// Counts its drop.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn a_call_runs_there_and_its_result_comes_back() {
    on_mesh(2, async |core| {
        assert_eq!((core.index(), mesh::here(), mesh::cores()), (0, 0, 2));
        let here = std::thread::current().id();
        for to in [1, 0] {
            let (place, thread, number) = core
                .submit_to(to, move || async move {
                    // Not Send, and kept over a wait.
                    let number = Rc::new(Cell::new(1));
                    annulet::time::sleep(Duration::from_micros(1)).await;
                    number.set(number.get() + 1);
                    (mesh::here(), std::thread::current().id(), number.get())
                })
                .await
                .unwrap();
            assert_eq!((place, number), (to, 2));
            assert_eq!(thread == here, to == 0);
        }
    });
}

#[test]
fn a_panic_there_is_an_error_here() {
    on_mesh(2, async |_| {
        let is_well = std::hint::black_box(false);
        let of_closure = mesh::submit_to(1, move || {
            assert!(is_well, "of the closure");
            async {}
        });
        let of_future = mesh::submit_to(1, || async {
            annulet::yield_now().await;
            panic!("of the future");
        });
        for (call, words) in [(of_closure.await, "of the closure"), (of_future.await, "of the future")] {
            let error = call.unwrap_err();
            assert_eq!(error.to_string(), format!("the task panicked: {words}"));
            assert_eq!(error.into_panic().downcast_ref(), Some(&words));
        }
        assert_eq!(mesh::submit_to(1, async || "lives on").await.unwrap(), "lives on");
    });
}

#[test]
fn thousands_of_calls_in_every_direction() {
    const CALLS: u64 = 3000;
    async fn call_everybody() {
        let mut calls = Vec::new();
        for i in 0..CALLS {
            for to in 0..mesh::cores() {
                calls.push(mesh::submit_to(to, move || async move {
                    if i % 7 == 0 {
                        annulet::yield_now().await;
                    }
                    i
                }));
            }
        }
        let mut sum = 0;
        for call in calls {
            sum += call.await.unwrap();
        }
        assert_eq!(sum, mesh::cores() as u64 * CALLS * (CALLS - 1) / 2);
    }
    with_others(
        4,
        async |_| {
            call_everybody().await;
            let done = mesh::broadcast(|| async { DONE.load(Ordering::Relaxed) }).await;
            assert_eq!(done.len(), 4);
            until("all have called everybody", || DONE.load(Ordering::Relaxed) == 3).await;
        },
        async |core| {
            call_everybody().await;
            DONE.fetch_add(1, Ordering::Relaxed);
            core.stopped().await;
        },
    );
    static DONE: AtomicUsize = AtomicUsize::new(0);
}

/// One message at a time: every one finds the other asleep, or about to be. A lost wake-up hangs this.
#[test]
fn a_sleeper_is_always_woken() {
    on_mesh(2, async |_| {
        for i in 0..5_000_u32 {
            assert_eq!(mesh::submit_to(1, async move || i + 1).await.unwrap(), i + 1);
        }
    });
}

#[test]
fn a_dropped_call_is_aborted() {
    on_mesh(2, async |_| {
        let dropped = Arc::new(AtomicUsize::new(0));
        let begun = Arc::new(AtomicUsize::new(0));
        let (counted, begins) = (Counted(Arc::clone(&dropped)), Arc::clone(&begun));
        let call = mesh::submit_to(1, move || async move {
            let _counted = counted;
            begins.fetch_add(1, Ordering::Relaxed);
            pending::<()>().await;
        });
        until("it begins", || begun.load(Ordering::Relaxed) == 1).await;
        assert_eq!(dropped.load(Ordering::Relaxed), 0);
        drop(call);
        until("its future is dropped", || dropped.load(Ordering::Relaxed) == 1).await;

        // Dropped within the turn in which it was made: whether it begins or not, its closure is dropped.
        let counted = Counted(Arc::clone(&dropped));
        drop(mesh::submit_to(1, move || async move {
            let _counted = counted;
            pending::<()>().await;
        }));
        until("its closure is dropped", || dropped.load(Ordering::Relaxed) == 2).await;
    });
}

#[test]
fn a_detached_call_goes_on() {
    on_mesh(2, async |_| {
        let done = Arc::new(AtomicUsize::new(0));
        let calls: Vec<_> = (0..3000)
            .map(|_| {
                let done = Arc::clone(&done);
                mesh::submit_to(1, move || async move {
                    annulet::yield_now().await;
                    done.fetch_add(1, Ordering::Relaxed);
                })
            })
            .collect();
        // More than can be under way: those that stand in line are detached as well.
        calls.into_iter().for_each(mesh::Call::detach);
        until("all are done", || done.load(Ordering::Relaxed) == 3000).await;
    });
}

#[test]
fn calls_under_way_are_bounded() {
    on_mesh(2, async |_| {
        const MAX: usize = 1024;
        let begun = Arc::new(AtomicUsize::new(0));
        let open = Arc::new(AtomicUsize::new(0));
        let tasks: Vec<_> = (0..MAX + 100)
            .map(|_| {
                let (begun, open) = (Arc::clone(&begun), Arc::clone(&open));
                annulet::spawn(async move {
                    mesh::submit_to(1, move || async move {
                        begun.fetch_add(1, Ordering::Relaxed);
                        until("the gate is open", || open.load(Ordering::Relaxed) == 1).await;
                    })
                    .await
                    .unwrap();
                })
            })
            .collect();
        until("as many as may be are under way", || begun.load(Ordering::Relaxed) == MAX).await;
        // The rest stands in line here; the other core is asked by a way of its own whether it has more.
        assert!(tasks.iter().all(|task| !task.is_finished()));
        open.store(1, Ordering::Relaxed);
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(begun.load(Ordering::Relaxed), MAX + 100);
    });
}

#[test]
fn a_core_that_has_ended_is_an_error() {
    let end = Arc::new(AtomicUsize::new(0));
    let ends = Arc::clone(&end);
    with_others(
        2,
        async move |_| {
            let dropped = Arc::new(AtomicUsize::new(0));
            let counted = Counted(Arc::clone(&dropped));
            let under_way = mesh::submit_to(1, move || async move {
                let _counted = counted;
                end.store(1, Ordering::Relaxed);
                pending::<()>().await;
            });
            let (sender, mut receiver) = mesh::channel::<u8>(1, 4);
            let listens = mesh::submit_to(1, move || async move {
                receiver.recv().await;
                pending::<()>().await;
            });
            sender.send(1).await.unwrap();
            let error = under_way.await.unwrap_err();
            assert!(error.is_cancelled(), "{error}");
            assert!(listens.await.unwrap_err().is_cancelled());
            assert_eq!(dropped.load(Ordering::Relaxed), 1);
            until("the channel is closed", || sender.is_closed()).await;
            assert!(sender.send(2).await.is_err());

            // While it ends calls are still taken, and cancelled.
            let refused = annulet::time::timeout(PATIENCE, async {
                loop {
                    let error: JoinError = mesh::submit_to(1, async || 1).await.unwrap_err();
                    if !error.is_cancelled() {
                        return error;
                    }
                }
            });
            let error = refused.await.unwrap();
            assert_eq!(error.to_string(), "the task was not started: the loop of core 1 has ended");
            let (sender, receiver) = mesh::channel::<u8>(1, 4);
            let lost = mesh::submit_to(1, move || async move { drop(receiver) });
            assert!(lost.await.is_err());
            until("the receiver was dropped", || sender.is_closed()).await;
            let all = mesh::broadcast(|| async { mesh::here() }).await;
            assert!(matches!(all[..], [Ok(0), Err(_)]));
        },
        async move |_| until("it is asked to end", || ends.load(Ordering::Relaxed) == 1).await,
    );
}

#[test]
fn everybody_ends_with_calls_under_way() {
    leaves_nothing(|| {
        let calls = async |_: &Core| {
            let mut calls = Vec::new();
            for to in 0..mesh::cores() {
                for _ in 0..1500 {
                    calls.push(mesh::submit_to(to, || async {
                        annulet::time::sleep(Duration::from_secs(1000)).await;
                    }));
                }
                let (sender, mut receiver) = mesh::channel::<Vec<u8>>(to, 4);
                mesh::submit_to(to, move || async move { while receiver.recv().await.is_some() {} }).detach();
                annulet::spawn(async move { while sender.send(vec![1]).await.is_ok() {} });
            }
            annulet::time::sleep(Duration::from_millis(2)).await;
        };
        with_others(3, calls, calls);
    });
}

#[test]
fn a_channel_keeps_order_and_bound() {
    on_mesh(2, async |_| {
        let (sender, mut receiver) = mesh::channel::<u32>(1, 3);
        for i in 0..3 {
            sender.try_send(i).unwrap();
        }
        assert_eq!(sender.try_send(9), Err(TrySendError::Full(9)));
        let waiting = annulet::spawn({
            let sender = sender.clone();
            async move {
                for i in 3..10_000 {
                    sender.send(i).await.unwrap();
                }
            }
        });
        annulet::time::sleep(Duration::from_millis(1)).await;
        assert!(!waiting.is_finished(), "it waits for room");
        let all = mesh::submit_to(1, move || async move {
            let mut expected = 0;
            while let Some(number) = receiver.recv().await {
                assert_eq!(number, expected);
                expected += 1;
            }
            expected
        });
        waiting.await.unwrap();
        drop(sender);
        assert_eq!(all.await.unwrap(), 10_000);
    });
}

#[test]
fn senders_of_a_full_channel_go_in_turn() {
    on_mesh(2, async |_| {
        let (sender, mut receiver) = mesh::channel::<u32>(1, 1);
        sender.send(0).await.unwrap();
        for i in 1..=50 {
            let sender = sender.clone();
            annulet::spawn(async move { sender.send(i).await.unwrap() });
        }
        drop(sender);
        annulet::yield_now().await;
        let order = mesh::submit_to(1, move || async move {
            let mut order = Vec::new();
            while let Some(number) = receiver.recv().await {
                order.push(number);
            }
            order
        });
        assert_eq!(order.await.unwrap(), (0..=50).collect::<Vec<_>>());
    });
}

#[test]
fn a_channel_closes_from_both_ends() {
    on_mesh(2, async |_| {
        let dropped = Arc::new(AtomicUsize::new(0));
        // From the receiver's, with a value in it and a sender that waits.
        let (sender, mut receiver) = mesh::channel(1, 1);
        sender.send(Counted(Arc::clone(&dropped))).await.unwrap();
        let waiting = annulet::spawn({
            let (sender, counted) = (sender.clone(), Counted(Arc::clone(&dropped)));
            async move { sender.send(counted).await.is_err() }
        });
        annulet::yield_now().await;
        mesh::submit_to(1, move || async move {
            let got = receiver.try_recv().ok();
            drop((receiver, got));
        })
        .await
        .unwrap();
        // Either it found the receiver gone, or its value got in and was dropped there, or comes back with the channel.
        let _ = waiting.await.unwrap();
        until("it is closed", || sender.is_closed()).await;
        assert!(matches!(sender.try_send(Counted(Arc::clone(&dropped))), Err(TrySendError::Closed(_))));
        drop(sender);
        assert_eq!(dropped.load(Ordering::Relaxed), 3);

        // From the sender's.
        let (sender, mut receiver) = mesh::channel::<u8>(1, 4);
        sender.send(1).await.unwrap();
        drop(sender);
        let got = mesh::submit_to(1, move || async move {
            (receiver.recv().await, receiver.recv().await, receiver.try_recv())
        });
        assert_eq!(got.await.unwrap(), (Some(1), None, Err(TryRecvError::Disconnected)));
    });
}

#[test]
fn a_receiver_that_sleeps_hears_of_the_end() {
    on_mesh(2, async |_| {
        let (sender, mut receiver) = mesh::channel::<u8>(1, 4);
        let waits = Arc::new(AtomicUsize::new(0));
        let ends = {
            let waits = Arc::clone(&waits);
            mesh::submit_to(1, move || async move {
                waits.store(1, Ordering::Relaxed);
                receiver.recv().await
            })
        };
        until("it waits", || waits.load(Ordering::Relaxed) == 1).await;
        drop(sender);
        assert_eq!(ends.await.unwrap(), None);
    });
}

#[test]
fn wrong_use_says_what_is_wrong() {
    annulet::run(async {
        let words = words_of_panic(|| mesh::submit_to(0, async || ()));
        assert!(words.starts_with("this loop has no other cores beside it"), "{words}");
        assert!(words.ends_with("start several together with Builder::start"), "{words}");
    });
    on_mesh(2, async |_| {
        let words = words_of_panic(|| mesh::submit_to(2, async || ()));
        assert!(words.starts_with("there is no core 2 in this mesh: it has 2"), "{words}");
        let (_sender, mut receiver) = mesh::channel::<u8>(1, 1);
        let words = words_of_panic(|| receiver.try_recv());
        assert!(words.starts_with("this channel leads to core 1 of its mesh"), "{words}");
        let words = words_of_panic(|| mesh::channel::<u8>(1, 0));
        assert_eq!(words, "the capacity of a queue between cores is 1 to 2^31");
    });
    let words = words_of_panic(|| mesh::submit_to(0, async || ()));
    assert!(words.starts_with("there is no annulet loop on this thread"), "{words}");
}

#[test]
fn broadcast_asks_every_core_once() {
    on_mesh(4, async |_| {
        let sum = Arc::new(AtomicU64::new(0));
        let asked = Arc::clone(&sum);
        let places = mesh::broadcast(move || async move {
            asked.fetch_add(1 << (8 * mesh::here()), Ordering::Relaxed);
            mesh::here()
        });
        let places: Vec<_> = places.await.into_iter().map(Result::unwrap).collect();
        assert_eq!(places, [0, 1, 2, 3]);
        assert_eq!(sum.load(Ordering::Relaxed), 0x0101_0101);
    });
}

#[test]
fn a_sharded_value_stays_on_its_cores() {
    struct Tally {
        counts: RefCell<Vec<u32>>,
        thread: std::thread::ThreadId,
        _counted: Counted,
        /// Not Send.
        _rc: Rc<()>,
    }
    impl Drop for Tally {
        fn drop(&mut self) {
            assert_eq!(self.thread, std::thread::current().id());
        }
    }
    on_mesh(3, async |_| {
        let dropped = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&dropped);
        let tallies = Sharded::new(move |core| Tally {
            counts: RefCell::new(vec![core as u32]),
            thread: std::thread::current().id(),
            _counted: Counted(counted),
            _rc: Rc::default(),
        });
        let tallies = tallies.await.unwrap();
        tallies.local(|tally| tally.counts.borrow_mut().push(10));
        for core in 0..3 {
            tallies.with(core, move |tally| tally.counts.borrow_mut().push(100)).await.unwrap();
        }
        // A handle that travels, and a future that holds the value over a wait.
        let handle = tallies.clone();
        mesh::submit_to(2, move || async move {
            let own = handle.submit_to(mesh::here(), |tally| async move {
                annulet::yield_now().await;
                tally.counts.borrow_mut().push(1000);
            });
            own.await.unwrap();
        })
        .await
        .unwrap();
        let sums = tallies.map_reduce(
            |tally| tally.counts.borrow().iter().sum::<u32>(),
            Vec::new(),
            |mut sums, sum| {
                sums.push(sum);
                sums
            },
        );
        assert_eq!(sums.await.unwrap(), [110, 101, 1102]);
        assert_eq!(dropped.load(Ordering::Relaxed), 0);
        drop(tallies);
        until("every core has dropped its own", || dropped.load(Ordering::Relaxed) == 3).await;

        // One that cannot be made everywhere is kept nowhere.
        dropped.store(0, Ordering::Relaxed);
        let counted = Arc::clone(&dropped);
        let failed = Sharded::new(move |core| {
            assert!(core != 1, "not here");
            Counted(counted)
        });
        assert!(failed.await.unwrap_err().is_panic());
        until("what was made is dropped", || dropped.load(Ordering::Relaxed) == 2).await;
    });
}
