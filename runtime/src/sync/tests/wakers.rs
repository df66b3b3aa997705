//! Wakers that interfere.

use super::*;

thread_local! {
    static HOOK: RefCell<Option<Rc<dyn Fn()>>> = const { RefCell::new(None) };
}

/// A waker that runs the hook when it is woken and when it is dropped.
struct Meddler;

impl Meddler {
    fn waker() -> Waker {
        Waker::from(Arc::new(Meddler))
    }

    fn run() {
        let hook = HOOK.with_borrow(Clone::clone);
        if let Some(hook) = hook {
            hook();
        }
    }
}

impl Wake for Meddler {
    fn wake(self: Arc<Self>) {
        Meddler::run();
    }
}

impl Drop for Meddler {
    fn drop(&mut self) {
        Meddler::run();
    }
}

/// Polls `future` twice with meddlers, runs `meanwhile`, polls again, and drops it; `touch` is what the wakers do.
fn meddle<F: Future>(touch: impl Fn() + 'static, future: F, meanwhile: impl Fn()) {
    HOOK.set(Some(Rc::new(touch)));
    let mut future = Box::pin(future);
    for _ in 0..2 {
        let waker = Meddler::waker();
        assert!(future.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    }
    meanwhile();
    let waker = Meddler::waker();
    let polled = future.as_mut().poll(&mut Context::from_waker(&waker)).is_ready();
    drop(waker);
    drop(future);
    HOOK.set(None);
    assert!(polled, "it was to be woken meanwhile");
}

#[test]
fn wakers_may_use_what_they_wait_for() {
    let semaphore = Rc::new(Semaphore::new(0));
    let touched = Rc::clone(&semaphore);
    let touch = move || {
        touched.add_permits(1);
        drop(touched.try_acquire());
    };
    meddle(touch, semaphore.acquire_many(2), || semaphore.add_permits(2));

    let notify = Rc::new(Notify::new());
    let touched = Rc::clone(&notify);
    // (Not `notify_one`: its own waker would wake it before it was to be.)
    meddle(move || _ = poll_once(pin!(touched.notified())), notify.notified(), || notify.notify_waiters());

    let barrier = Rc::new(Barrier::new(2));
    let touched = Rc::clone(&barrier);
    meddle(move || drop(touched.wait()), barrier.wait(), || _ = poll_once(pin!(barrier.wait())));

    let shared = Rc::new((Mutex::new(()), Condvar::new()));
    let touched = Rc::clone(&shared);
    let wait = async { drop(shared.1.wait(shared.0.lock().await).await) };
    meddle(move || drop(touched.0.try_lock()), wait, || shared.1.notify_all());

    let (sender, receiver) = mpsc::channel(1);
    let (touched, receiver) = (sender.clone(), RefCell::new(receiver));
    sender.try_send(1).expect("it is empty");
    meddle(
        move || _ = touched.try_send(2),
        sender.send(3),
        || {
            receiver.borrow_mut().try_recv().expect("it is full");
        },
    );

    let (sender, mut receiver) = mpsc::unbounded_channel();
    let touched = sender.clone();
    let receive = async { receiver.recv().await };
    meddle(move || assert!(!touched.is_closed()), receive, || sender.send(3).expect("the receiver is there"));

    let (sender, receiver) = oneshot::channel();
    let sender = Rc::new(RefCell::new(Some(sender)));
    let touched = Rc::clone(&sender);
    let touch =
        move || drop(touched.try_borrow().map(|sender| sender.as_ref().map(oneshot::Sender::is_closed)));
    meddle(touch, receiver, || _ = sender.take().expect("once").send(3));

    let (sender, mut receiver) = broadcast::channel(2);
    let touched = sender.clone();
    let receive = async { receiver.recv().await };
    meddle(move || _ = touched.subscribe().try_recv(), receive, || sender.send(3).map(drop).unwrap());

    let (sender, mut receiver) = watch::channel(2);
    let touched = sender.clone();
    let receive = async { receiver.changed().await };
    meddle(move || _ = touched.subscribe().has_changed(), receive, || sender.send(3).expect("received"));
}

#[test]
fn a_waker_that_panics_does_not_keep_others_asleep() {
    struct Panics;
    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            panic!("on purpose");
        }
    }
    let notify = Notify::new();
    let (mut one, mut other) = (pin!(notify.notified()), pin!(notify.notified()));
    let (count, waker) = Count::new();
    assert!(one.as_mut().poll(&mut Context::from_waker(&Waker::from(Arc::new(Panics)))).is_pending());
    assert!(other.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    let woken = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| notify.notify_waiters()));
    assert!(woken.is_err());
    assert_eq!(count.take(), 1);
}
