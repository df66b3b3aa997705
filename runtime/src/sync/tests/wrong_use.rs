//! Wrong use is told with its cause and its cure.

use super::*;

#[track_caller]
fn check_panic(expected: &str, wrong: impl FnOnce()) {
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(wrong)).expect_err("it should panic");
    let text = match panic.downcast_ref::<String>() {
        Some(text) => text.as_str(),
        None => panic.downcast_ref::<&str>().expect("panics carry text"),
    };
    assert!(text.contains(expected), "{text}");
}

#[test]
fn wrong_use_is_told_with_its_cure() {
    check_panic("capacity above zero", || drop(mpsc::channel::<()>(0)));
    check_panic("capacity above zero", || drop(broadcast::channel::<()>(0)));
    check_panic("may not have more than", || drop(Semaphore::new(usize::MAX)));
    check_panic("has at most", || Semaphore::new(1).add_permits(Semaphore::MAX_PERMITS));
    check_panic("different semaphores", || {
        let (one, other) = (Semaphore::new(1), Semaphore::new(1));
        let mut permit = one.try_acquire().expect("free");
        permit.merge(other.try_acquire().expect("free"));
    });
    check_panic("clone the value", || {
        let (sender, receiver) = watch::channel(1);
        let _look = receiver.borrow();
        sender.send(2).unwrap();
    });
    assert!(matches!(poll_once(pin!(Barrier::new(0).wait())), Poll::Ready(result) if result.is_leader()));
}

#[test]
fn errors_say_what_is_closed() {
    #[track_caller]
    fn check(error: impl std::error::Error, expected: &str) {
        assert!(error.to_string().contains(expected), "{error}");
    }
    let semaphore = Semaphore::new(1);
    semaphore.close();
    let Poll::Ready(Err(error)) = poll_once(pin!(semaphore.acquire())) else { panic!("it is closed") };
    check(error, "Semaphore::close was called");
    check(semaphore.try_acquire().expect_err("closed"), "closed");
    let (sender, receiver) = mpsc::channel(1);
    sender.try_send(1).expect("it is empty");
    check(sender.try_send(2).expect_err("full"), "await send");
    drop(receiver);
    check(sender.try_send(3).expect_err("closed"), "receiver was dropped");
    let Poll::Ready(Err(error)) = poll_once(pin!(sender.send(4))) else { panic!("it is closed") };
    check(error, "receiver was dropped");
    let (sender, mut receiver) = oneshot::channel::<()>();
    drop(sender);
    let Poll::Ready(Err(error)) = poll_once(Pin::new(&mut receiver)) else { panic!("the sender is gone") };
    check(error, "dropped without sending");
    let (sender, mut receiver) = watch::channel(1);
    drop(sender);
    let Poll::Ready(Err(error)) = poll_once(pin!(receiver.changed())) else { panic!("the sender is gone") };
    check(error, "every sender was dropped");
    let mutex = Mutex::new(1);
    let _guard = mutex.try_lock();
    check(mutex.try_lock().expect_err("held"), "held");
}
