//! Signals as streams. Each test has a real-time signal of its own, because all may run in one process.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::mpsc;
use std::task::{Context, Waker};
use std::thread;
use std::time::Duration;

use annulet::signal::unix::{SignalKind, signal};
use annulet::signal::{Signal, Termination};
use annulet::time::timeout;
use annulet::{spawn, yield_now};

use crate::support::{descriptors, until};

/// A signal that no other test uses.
fn own(number: i32) -> SignalKind {
    SignalKind::from_raw(libc::SIGRTMIN() + number)
}

fn raise(kind: SignalKind) {
    let status = std::process::Command::new("kill")
        .args([format!("-{}", kind.as_raw_value()), std::process::id().to_string()])
        .status();
    assert!(status.unwrap().success());
}

#[test]
fn every_listener_on_every_loop_hears_it() {
    let (heard, hears) = mpsc::channel();
    let (ready, is_ready) = mpsc::channel();
    let threads: Vec<_> = (0..2)
        .map(|_| {
            let (heard, ready) = (heard.clone(), ready.clone());
            thread::spawn(move || {
                annulet::run(async move {
                    let (mut one, mut other) = (signal(own(0)).unwrap(), signal(own(0)).unwrap());
                    ready.send(()).unwrap();
                    one.recv().await;
                    other.recv().await;
                    heard.send(()).unwrap();
                });
            })
        })
        .collect();
    (0..2).for_each(|_| is_ready.recv().unwrap());
    raise(own(0));
    (0..2).for_each(|_| hears.recv_timeout(Duration::from_secs(10)).unwrap());
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

#[test]
fn signals_that_nobody_waits_for_are_kept_as_one() {
    annulet::run(async {
        // The handler marks listeners in the order in which they were made: what the second has heard, the first has.
        let (mut listener, mut witness) = (signal(own(1)).unwrap(), signal(own(1)).unwrap());
        for _ in 0..2 {
            raise(own(1));
            witness.recv().await;
        }
        listener.recv().await;
        assert!(timeout(Duration::from_millis(5), listener.recv()).await.is_err(), "both were one");
        raise(own(1));
        listener.recv().await;
    });
}

#[test]
fn no_signal_is_lost_however_the_loop_is() {
    annulet::run(async {
        let mut listener = signal(SignalKind::user_defined2()).unwrap();
        let (go, gate) = mpsc::channel();
        let (tell, told) = mpsc::channel::<()>();
        let sender = thread::spawn(move || {
            let own_process = rustix::process::getpid();
            while gate.recv().is_ok() {
                rustix::process::kill_process(own_process, rustix::process::Signal::USR2).unwrap();
                tell.send(()).unwrap();
            }
        });
        for round in 0..2000_u32 {
            go.send(()).unwrap();
            // At times the loop is awake when it comes, at times it is about to sleep, at times it sleeps.
            for _ in 0..round % 7 {
                yield_now().await;
            }
            timeout(Duration::from_secs(10), listener.recv())
                .await
                .unwrap_or_else(|_| panic!("lost in {round}"));
            told.recv().unwrap();
        }
        drop(go);
        sender.join().unwrap();
    });
}

#[test]
fn a_dropped_wait_or_listener_leaves_nothing() {
    annulet::run(async {
        // What the first listener of a process sets up stays.
        drop(signal(own(3)).unwrap());
        let before = descriptors();
        for _ in 0..100 {
            let mut listener = signal(own(3)).unwrap();
            let wait = spawn(async move { listener.recv().await });
            yield_now().await;
            assert_eq!(annulet::metrics().signal_listeners, 1);
            wait.abort();
            assert!(wait.await.unwrap_err().is_cancelled());
        }
        assert_eq!(annulet::metrics().signal_listeners, 0);
        // Other tests of the process open some at the same time; a leak is one for each of the hundred.
        until("no descriptor stays", || descriptors() < before + 100).await;
        // Nobody listens any more, and the process lives.
        raise(own(3));
        // Which thread's handler gets it, and when, nobody tells. Far more than a busy machine needs.
        annulet::time::sleep(Duration::from_millis(500)).await;

        let mut listener = signal(own(3)).unwrap();
        assert!(timeout(Duration::from_millis(1), listener.recv()).await.is_err(), "not for one made later");
        raise(own(3));
        listener.recv().await;
    });
}

#[test]
fn a_listener_is_a_stream() {
    use futures_core::Stream;
    annulet::run(async {
        let mut listener = signal(own(4)).unwrap();
        let count = Rc::new(Cell::new(0));
        let counter = Rc::clone(&count);
        let task = spawn(async move {
            while std::future::poll_fn(|cx| Pin::new(&mut listener).poll_next(cx)).await == Some(()) {
                counter.set(counter.get() + 1);
            }
        });
        for expected in 1..4 {
            raise(own(4));
            until("it is heard", || count.get() == expected).await;
        }
        task.abort();
    });
}

#[test]
fn a_task_that_waits_says_so_in_the_dump() {
    annulet::run(async {
        let waiting = spawn(async { signal(SignalKind::hangup()).unwrap().recv().await });
        yield_now().await;
        let dump = annulet::task::dump();
        assert_eq!(dump.tasks[1].waits_for.unwrap().to_string(), "SIGHUP");
        waiting.abort();
    });
}

#[test]
fn signals_that_cannot_be_heard_are_refused_with_words() {
    let check = |raw: i32, expected: &str| {
        let error = annulet::run(async { signal(SignalKind::from_raw(raw)).unwrap_err() });
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
        assert_eq!(error.to_string(), expected);
        assert_eq!(annulet::run(async { annulet::metrics().signal_listeners }), 0);
    };
    check(libc::SIGKILL, "SIGKILL cannot be listened for: the kernel lets no program catch it");
    check(libc::SIGSTOP, "SIGSTOP cannot be listened for: the kernel lets no program catch it");
    for (raw, name) in [
        (libc::SIGSEGV, "SIGSEGV"),
        (libc::SIGBUS, "SIGBUS"),
        (libc::SIGILL, "SIGILL"),
        (libc::SIGFPE, "SIGFPE"),
    ] {
        check(
            raw,
            &format!(
                "{name} cannot be listened for: it means that an instruction has failed, which would be repeated for ever \
                 if the handler returned; let the process end"
            ),
        );
    }
    for raw in [-1, 0, 32, 65, 1000] {
        check(
            raw,
            &format!(
                "signal {raw} cannot be listened for: there is no such signal for programs; see signal(7)"
            ),
        );
    }
}

#[test]
fn listening_outside_of_the_loop_is_refused_with_words() {
    let refused = catch_unwind(|| signal(own(5)).is_ok()).unwrap_err();
    assert!(refused.downcast::<&str>().unwrap().contains("annulet::run"));
    let mut stray = annulet::run(async { signal(own(5)).unwrap() });
    let refused = catch_unwind(AssertUnwindSafe(|| stray.poll_recv(&mut Context::from_waker(Waker::noop()))))
        .unwrap_err();
    assert!(refused.downcast::<&str>().unwrap().contains("listen anew with signal()"));
}

#[test]
fn a_thread_that_waits_for_the_end_and_listeners_hear_the_same() {
    let termination = Termination::catch().unwrap();
    let (tell, told) = mpsc::channel();
    let loop_thread = thread::spawn(move || {
        annulet::run(async {
            let mut terminate = signal(SignalKind::terminate()).unwrap();
            let interrupted = spawn(annulet::signal::ctrl_c());
            yield_now().await;
            tell.send(()).unwrap();
            terminate.recv().await;
            interrupted.await.unwrap().unwrap();
        });
    });
    told.recv().unwrap();
    raise(SignalKind::terminate());
    assert_eq!(termination.wait().unwrap(), Signal::Terminate);
    raise(SignalKind::interrupt());
    assert_eq!(termination.wait().unwrap(), Signal::Interrupt);
    loop_thread.join().unwrap();
}
