//! Channels of other crates: their wakers are called on other threads and wake tasks of a loop, also one that sleeps.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use annulet::time::timeout;

const VALUES: u32 = 1000;

/// A lost wake-up would be an endless sleep of the loop.
async fn in_time<F: Future>(future: F) -> F::Output {
    timeout(Duration::from_secs(30), future).await.expect("a wake-up was lost")
}

/// Runs `send` on a plain thread and as a task of another loop.
fn from_elsewhere(mut receive: impl FnMut(bool)) {
    receive(false);
    receive(true);
}

/// Sends from a plain thread, or from a loop of its own.
fn start<F: Future<Output = ()>>(
    on_a_loop: bool,
    send: impl FnOnce() -> F + Send + 'static,
) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        if on_a_loop {
            annulet::run(send());
        } else {
            // A waker that does nothing is enough: these senders never wait.
            let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
            assert!(std::pin::pin!(send()).poll(&mut cx).is_ready());
        }
    })
}

#[test]
fn tokio_oneshot() {
    from_elsewhere(|on_a_loop| {
        annulet::run(in_time(async {
            for number in 0..20 {
                let (sender, receiver) = tokio::sync::oneshot::channel();
                let thread = start(on_a_loop, move || async move { sender.send(number).unwrap() });
                assert_eq!(receiver.await.unwrap(), number);
                thread.join().unwrap();
            }
        }));
    });
}

#[test]
fn tokio_mpsc_with_back_pressure_between_loops() {
    annulet::run(in_time(async {
        let (sender, mut receiver) = tokio::sync::mpsc::channel(2);
        let thread = start(true, move || async move {
            for number in 0..VALUES {
                sender.send(number).await.unwrap();
            }
        });
        for number in 0..VALUES {
            assert_eq!(receiver.recv().await, Some(number));
        }
        assert_eq!(receiver.recv().await, None);
        thread.join().unwrap();
    }));
}

#[test]
fn tokio_unbounded_mpsc() {
    from_elsewhere(|on_a_loop| {
        annulet::run(in_time(async {
            let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
            let thread = start(on_a_loop, move || async move {
                (0..VALUES).for_each(|number| sender.send(number).unwrap());
            });
            for number in 0..VALUES {
                assert_eq!(receiver.recv().await, Some(number));
            }
            thread.join().unwrap();
        }));
    });
}

#[test]
fn tokio_notify_to_and_fro() {
    annulet::run(in_time(async {
        let (there, back) = (Arc::new(tokio::sync::Notify::new()), Arc::new(tokio::sync::Notify::new()));
        let (heard, answer) = (Arc::clone(&there), Arc::clone(&back));
        let thread = start(true, move || async move {
            for _ in 0..100 {
                heard.notified().await;
                answer.notify_one();
            }
        });
        for _ in 0..100 {
            there.notify_one();
            back.notified().await;
        }
        thread.join().unwrap();
    }));
}

#[test]
fn async_channel_bounded() {
    annulet::run(in_time(async {
        let (sender, receiver) = async_channel::bounded(2);
        let thread = start(true, move || async move {
            for number in 0..VALUES {
                sender.send(number).await.unwrap();
            }
        });
        for number in 0..VALUES {
            assert_eq!(receiver.recv().await, Ok(number));
        }
        assert!(receiver.recv().await.is_err());
        thread.join().unwrap();
    }));
}

#[test]
fn flume_from_a_thread_and_from_a_loop() {
    from_elsewhere(|on_a_loop| {
        annulet::run(in_time(async {
            let (sender, receiver) = flume::bounded(2);
            let thread = start(on_a_loop, move || async move {
                for number in 0..VALUES {
                    if on_a_loop {
                        sender.send_async(number).await.unwrap();
                    } else {
                        // Blocks its thread while the channel is full.
                        sender.send(number).unwrap();
                    }
                }
            });
            for number in 0..VALUES {
                assert_eq!(receiver.recv_async().await, Ok(number));
            }
            thread.join().unwrap();
        }));
    });
}
