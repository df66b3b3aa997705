//! Locks and channels between tasks of a loop: what they wait for, in the dump, and what dropped tasks leave.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use annulet::sync::{Barrier, Condvar, Mutex, Notify, RwLock, Semaphore, broadcast, mpsc, oneshot, watch};
use annulet::{spawn, yield_now};

/// Spawns `wait`, looks at what the dump says of it, and aborts it.
async fn check_wait<F: Future + 'static>(wait: F, expected: &str) {
    let task = spawn(async move { drop(wait.await) });
    yield_now().await;
    let dump = annulet::task::dump().to_string();
    assert!(dump.contains(expected), "{expected} in {dump}");
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
}

#[test]
fn the_dump_names_what_a_task_waits_for() {
    annulet::run(async {
        let mutex = Rc::new(Mutex::new(()));
        let guard = Rc::clone(&mutex).lock_owned().await;
        check_wait(Rc::clone(&mutex).lock_owned(), "lock Mutex").await;
        drop(guard);
        assert!(mutex.try_lock().is_ok(), "the aborted task has left the queue");

        let lock = Rc::new(RwLock::new(()));
        let guard = Rc::clone(&lock).read_owned().await;
        check_wait(Rc::clone(&lock).write_owned(), "lock RwLock (write)").await;
        assert!(lock.try_read().is_ok(), "the aborted writer has left the queue");
        drop(guard);

        check_wait(Rc::new(Semaphore::new(0)).acquire_owned(), "lock Semaphore").await;
        let notify = Notify::new();
        check_wait(async move { notify.notified().await }, "lock Notify").await;
        let barrier = Barrier::new(2);
        check_wait(async move { barrier.wait().await }, "lock Barrier").await;
        check_wait(
            async move {
                let (condvar, mutex) = (Condvar::new(), Mutex::new(()));
                drop(condvar.wait(mutex.lock().await).await);
            },
            "lock Condvar",
        )
        .await;
        let (_sender, receiver) = oneshot::channel::<()>();
        check_wait(receiver, "channel oneshot").await;
        let (sender, mut receiver) = mpsc::channel::<u8>(1);
        check_wait(async move { receiver.recv().await }, "channel mpsc").await;
        drop(sender);
        let (sender, _receiver) = mpsc::channel::<u8>(1);
        sender.try_send(1).unwrap();
        check_wait(async move { sender.send(2).await }, "channel mpsc (send)").await;
        let (_sender, mut receiver) = broadcast::channel::<u8>(1);
        check_wait(async move { receiver.recv().await }, "channel broadcast").await;
        let (_sender, mut receiver) = watch::channel(1);
        check_wait(async move { receiver.changed().await }, "channel watch").await;
    });
}

#[test]
fn aborted_holders_free_what_they_hold_in_every_order() {
    // Five tasks want three permits; each is aborted after a different number of turns.
    for seed in 0..200_u64 {
        annulet::run(async move {
            let semaphore = Rc::new(Semaphore::new(3));
            let inside = Rc::new(Cell::new(0_i32));
            let tasks: Vec<_> = (0..5)
                .map(|number| {
                    let (semaphore, inside) = (Rc::clone(&semaphore), Rc::clone(&inside));
                    spawn(async move {
                        for _ in 0..4 {
                            let permit = semaphore.acquire_many(1 + number % 3).await.unwrap();
                            inside.set(inside.get() + permit.num_permits() as i32);
                            assert!(inside.get() <= 3);
                            struct Out(Rc<Cell<i32>>, i32);
                            impl Drop for Out {
                                fn drop(&mut self) {
                                    self.0.set(self.0.get() - self.1);
                                }
                            }
                            let _out = Out(Rc::clone(&inside), permit.num_permits() as i32);
                            yield_now().await;
                        }
                    })
                })
                .collect();
            let mut state = seed;
            for _ in 0..5 {
                yield_now().await;
                tasks[(state % 5) as usize].abort();
                state /= 5;
            }
            for task in tasks {
                // Cancelled or done.
                let _ = task.await;
            }
            assert_eq!((semaphore.available_permits(), inside.get()), (3, 0));
        });
    }
}

#[annulet::test(start_paused = true)]
async fn a_time_limit_leaves_the_queue() {
    let mutex = Rc::new(Mutex::new(()));
    let guard = mutex.lock().await;
    assert!(annulet::time::timeout(Duration::from_secs(1), mutex.lock()).await.is_err());
    drop(guard);
    assert!(mutex.try_lock().is_ok());
}
