//! Wakers whose clone does something: between a look at what is waited for and the wait nothing may be missed.

#![allow(unsafe_code)]

use std::cell::Cell;
use std::ptr;
use std::task::{RawWaker, RawWakerVTable};

use super::*;
use crate::cancel::CancellationToken;
use crate::task;
use crate::task::waits::WaitsFor;

thread_local! {
    /// What the next clone does.
    static HOOK: Cell<Option<Box<dyn FnOnce()>>> = const { Cell::new(None) };
    /// What the next wake-up does.
    static ON_WAKE: Cell<Option<Box<dyn FnOnce()>>> = const { Cell::new(None) };
    static WOKEN: Cell<usize> = const { Cell::new(0) };
}

fn wake() {
    WOKEN.set(WOKEN.get() + 1);
    if let Some(hook) = ON_WAKE.take() {
        hook();
    }
}

static VTABLE: RawWakerVTable = RawWakerVTable::new(
    |_| {
        if let Some(hook) = HOOK.take() {
            hook();
        }
        RawWaker::new(ptr::null(), &VTABLE)
    },
    |_| wake(),
    |_| wake(),
    |_| {},
);

/// Polls with a waker that runs `hook` when it is cloned.
fn poll_hooked<F: Future>(hook: impl FnOnce() + 'static, future: Pin<&mut F>) -> Poll<F::Output> {
    HOOK.set(Some(Box::new(hook)));
    WOKEN.set(0);
    let polled = poll_counted(future);
    assert!(HOOK.take().is_none(), "the waker was not cloned");
    polled
}

/// Polls with a waker that counts how often it is woken.
fn poll_counted<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    // SAFETY: it has no data; what its functions touch is of the thread that calls them.
    let waker = unsafe { Waker::from_raw(RawWaker::new(ptr::null(), &VTABLE)) };
    future.poll(&mut Context::from_waker(&waker))
}

/// What `hook` does while the waker is cloned makes `future` ready, at once or by waking it.
#[track_caller]
fn check<F: Future>(hook: impl FnOnce() + 'static, future: F) -> F::Output {
    let mut future = pin!(future);
    match poll_hooked(hook, future.as_mut()) {
        Poll::Ready(output) => output,
        Poll::Pending => {
            assert!(WOKEN.get() > 0, "a wake-up was lost");
            let Poll::Ready(output) = poll_once(future) else { panic!("it was woken for nothing") };
            output
        }
    }
}

#[test]
fn permits_that_come_or_end_meanwhile() {
    const DUMP: &WaitsFor = &WaitsFor::Lock("test");
    let permits = Rc::new(Permits::new(0));
    let hook = |run: fn(&Permits)| {
        let permits = Rc::clone(&permits);
        move || run(&permits)
    };
    assert_eq!(check(hook(|permits| permits.release(1)), permits.acquire(1, DUMP)), Ok(()));
    // One permit comes for two; the other for who was there first.
    let mut first = pin!(permits.acquire(2, DUMP));
    assert!(poll_once(first.as_mut()).is_pending());
    let mut second = pin!(permits.acquire(1, DUMP));
    assert!(poll_hooked(hook(|permits| permits.release(1)), second.as_mut()).is_pending());
    assert_eq!((WOKEN.get(), permits.available()), (0, 1), "not in its turn");
    // Its turn comes while it is polled again.
    assert_eq!(poll_hooked(hook(|permits| permits.release(2)), second.as_mut()), Poll::Ready(Ok(())));
    assert_eq!(poll_once(first), Poll::Ready(Ok(())));
    // Closed before it is in the queue, and while it is.
    let mut waits = pin!(permits.acquire(1, DUMP));
    assert!(poll_once(waits.as_mut()).is_pending());
    assert_eq!(poll_hooked(hook(Permits::close), waits), Poll::Ready(Err(Closed)));
    let permits = Rc::new(Permits::new(0));
    let closed = Rc::clone(&permits);
    assert_eq!(poll_hooked(move || closed.close(), pin!(permits.acquire(1, DUMP))), Poll::Ready(Err(Closed)));
    assert_eq!((permits.waiters(), permits.available()), (0, 0));
}

/// Three are granted something at once; the waker of the first polls the second, whose own is not woken yet.
#[test]
fn a_grant_that_is_found_early_keeps_nobody_from_being_woken() {
    let permits = Rc::new(Permits::new(0));
    let waits = || {
        let permits = Rc::clone(&permits);
        Box::pin(async move { permits.acquire(1, &WaitsFor::Lock("test")).await })
    };
    let (mut first, second, mut third) = (waits(), Rc::new(RefCell::new(waits())), waits());
    for future in [&mut first, &mut *second.borrow_mut(), &mut third] {
        assert!(poll_counted(future.as_mut()).is_pending());
    }
    WOKEN.set(0);
    let early = Rc::clone(&second);
    ON_WAKE.set(Some(Box::new(move || {
        assert_eq!(poll_counted(early.borrow_mut().as_mut()), Poll::Ready(Ok(())));
    })));
    permits.release(3);
    assert!(ON_WAKE.take().is_none());
    assert_eq!(WOKEN.get(), 2, "the first and the third");
    for mut future in [first, third] {
        assert_eq!(poll_once(future.as_mut()), Poll::Ready(Ok(())));
    }
    // The table is in order: whoever comes next waits and is woken.
    let mut next = waits();
    assert!(poll_counted(next.as_mut()).is_pending());
    permits.release(1);
    assert_eq!((WOKEN.get(), poll_once(next.as_mut())), (3, Poll::Ready(Ok(()))));
    assert_eq!((permits.waiters(), permits.available()), (0, 0));
}

#[test]
fn what_is_sent_or_closed_meanwhile_is_not_missed() {
    let (sender, receiver) = oneshot::channel();
    assert_eq!(check(move || sender.send(3).unwrap(), receiver), Ok(3));
    let (sender, receiver) = oneshot::channel::<u32>();
    assert!(check(move || drop(sender), receiver).is_err());
    let (mut sender, receiver) = oneshot::channel::<u32>();
    check(move || drop(receiver), sender.closed());

    let (sender, mut receiver) = mpsc::channel(1);
    let other = sender.clone();
    assert_eq!(check(move || other.try_send(3).unwrap(), receiver.recv()), Some(3));
    assert_eq!(check(move || drop(sender), receiver.recv()), None);
    let (sender, receiver) = mpsc::unbounded_channel::<u32>();
    check(move || drop(receiver), sender.closed());

    let (sender, mut receiver) = broadcast::channel(2);
    let other = sender.clone();
    assert_eq!(check(move || _ = other.send(3).unwrap(), receiver.recv()), Ok(3));
    assert_eq!(check(move || drop(sender), receiver.recv()), Err(broadcast::RecvError::Closed));

    let (sender, mut receiver) = watch::channel(2);
    let sender = Rc::new(sender);
    let other = Rc::clone(&sender);
    check(move || other.send(3).unwrap(), receiver.changed()).unwrap();
    check(move || drop(receiver), sender.closed());
}

#[test]
fn what_is_told_meanwhile_is_not_missed() {
    for tell in [Notify::notify_one, Notify::notify_waiters] {
        let notify = Rc::new(Notify::new());
        let told = Rc::clone(&notify);
        check(move || tell(&told), notify.notified());
    }
    let token = CancellationToken::new();
    let told = token.clone();
    check(move || told.cancel(), token.cancelled());

    let barrier = Rc::new(Barrier::new(2));
    let other = Rc::clone(&barrier);
    let first = Rc::new(RefCell::new(Box::pin(async move { other.wait().await })));
    let hooked = Rc::clone(&first);
    check(move || assert!(poll_once(hooked.borrow_mut().as_mut()).is_pending()), barrier.wait());
    assert!(poll_once(first.borrow_mut().as_mut()).is_ready());
}

#[test]
fn a_task_that_is_ended_meanwhile_is_not_missed() {
    crate::run(async {
        let task = task::Builder::new().spawn(std::future::pending::<()>());
        let id = task.id();
        let ended = check(move || crate::shard::end(id.shard, id.task), task);
        assert!(ended.unwrap_err().is_cancelled());
    });
}
