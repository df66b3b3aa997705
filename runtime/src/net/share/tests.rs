use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Waker;

use super::*;

fn check(policy: AcceptPolicy, max: usize, live: &[usize], here: usize, expected: Option<usize>) {
    let group = Group::new(live.len(), policy, max);
    for (seat, &count) in group.seats.iter().zip(live) {
        seat.live.store(count, Ordering::SeqCst);
        seat.open.store(1, Ordering::SeqCst);
    }
    assert_eq!(group.choose(here, 0), expected, "{policy:?}, at most {max}, {live:?} at {here}");
    if let Some(chosen) = expected {
        assert_eq!(group.live(chosen), live[chosen] + 1);
    }
}

#[test]
fn who_is_chosen() {
    use AcceptPolicy::{Balance, Reuseport, Steer};
    check(Reuseport, 100, &[50, 0], 0, Some(0));
    check(Steer, 100, &[50, 0], 0, Some(0));
    check(Balance, 100, &[0, 0], 1, Some(1));
    check(Balance, 100, &[1, 0], 0, Some(1));
    check(Balance, 100, &[1, 0], 1, Some(1));
    check(Balance, 1000, &[7, 5, 6], 2, Some(1));
    // A little more is no reason to move.
    check(Balance, 1000, &[100, 97], 0, Some(0));
    check(Balance, 1000, &[100, 96], 0, Some(1));
    // At the limit everybody hands over.
    check(Reuseport, 50, &[50, 49, 48], 0, Some(2));
    check(Reuseport, 50, &[50, 50, 50], 0, None);
    check(Balance, 50, &[50, 50, 50], 0, None);
}

#[test]
fn who_has_closed_is_not_chosen() {
    let group = Group::new(2, AcceptPolicy::Balance, 1000);
    group.seats[0].live.store(500, Ordering::SeqCst);
    assert_eq!(group.choose(0, 0), Some(0));
    // Nor who has closed this address and listens on others.
    group.open(1, 1, 0);
    group.open(1, 2, 1);
    group.close(1, 1, 0);
    assert_eq!([0, 1, 2, 63, 64].map(|address| group.choose(0, address).unwrap()), [0, 0, 1, 0, 0]);
    group.open(1, 63, 2);
    group.open(1, 64, 3);
    assert_eq!([63, 64].map(|address| group.choose(0, address).unwrap()), [1, 0]);
}

/// Who is woken, and how often.
#[derive(Default)]
struct Count(AtomicUsize);

impl std::task::Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn room_on_a_core_that_takes_nothing_over_is_none() {
    let group = Group::new(2, AcceptPolicy::Reuseport, 1);
    assert_eq!((group.is_full(0, 0), group.choose(0, 0)), (false, Some(0)));
    // The other one has room and does not listen: to say that there is room would be asked forever.
    assert_eq!((group.is_full(0, 0), group.choose(0, 0)), (true, None));
    let count = Arc::new(Count::default());
    assert!(!group.wait(0, 0, 7, Waker::from(Arc::clone(&count))));
    group.open(1, 0, 8);
    assert_eq!(count.0.load(Ordering::Relaxed), 1);
    assert_eq!((group.is_full(0, 0), group.choose(0, 0)), (false, Some(1)));
}

#[test]
fn room_wakes_the_listeners_of_all_addresses() {
    let group = Group::new(1, AcceptPolicy::Reuseport, 1);
    assert!(group.enter(0));
    let counts = [(); 2].map(|()| Arc::new(Count::default()));
    for _ in 0..3 {
        for (address, count) in counts.iter().enumerate() {
            assert!(!group.wait(0, address, address as u64, Waker::from(Arc::clone(count))));
        }
    }
    group.leave(0);
    assert_eq!(counts.map(|count| count.0.load(Ordering::Relaxed)), [1, 1]);
    assert_eq!(group.waiters.load(Ordering::SeqCst), 0);
}

fn connection() -> OwnedFd {
    std::os::unix::net::UnixStream::pair().unwrap().0.into()
}

/// Hands one connection over from core 0.
fn hand_over(group: &Arc<Group>) {
    assert!(group.enter(1));
    let counted = Box::new(Counted { group: Arc::clone(group), core: 1 });
    group.hand_in(1, 0, (connection(), counted)).expect("core 1 is open");
}

fn taken(share: &Share, count: &Arc<Count>) -> usize {
    let waker = Waker::from(Arc::clone(count));
    let cx = Context::from_waker(&waker);
    std::iter::from_fn(|| match share.poll_take(&cx) {
        Poll::Ready((_, counted)) => Some(counted),
        Poll::Pending => None,
    })
    .collect::<Vec<_>>()
    .len()
}

#[test]
fn who_comes_later_takes_what_lies_there_and_who_was_there_before_nothing_more() {
    let group = Group::watched(2, AcceptPolicy::Balance, 100);
    let [old_woken, new_woken] = [(); 2].map(|()| Arc::new(Count::default()));
    let old = Share::enter(&group, 1, 0);
    assert_eq!(taken(&old, &old_woken), 0);
    hand_over(&group);
    assert_eq!(old_woken.0.load(Ordering::Relaxed), 1);
    let new = Share::enter(&group, 1, 0);
    assert_eq!((taken(&old, &old_woken), taken(&new, &new_woken)), (0, 1));
    // The old one goes, and the new one is still found.
    old.close();
    assert!(old.take_left().is_none());
    drop(old);
    hand_over(&group);
    assert_eq!(new_woken.0.load(Ordering::Relaxed), 1);
    assert_eq!(taken(&new, &new_woken), 1);
    assert_eq!(group.live(1), 0);
}

#[test]
fn a_worker_that_was_there_before_comes_back_into_its_rights() {
    let group = Group::watched(2, AcceptPolicy::Balance, 100);
    let woken = Arc::new(Count::default());
    let old = Share::enter(&group, 1, 0);
    // The new one dies at once.
    drop(Share::enter(&group, 1, 0));
    assert!(!group.is_open(1, 0));
    // Somebody else waits for room meanwhile.
    let room = Arc::new(Count::default());
    group.waiting.lock().unwrap().push((u64::MAX, Waker::from(Arc::clone(&room))));
    group.waiters.store(1, Ordering::SeqCst);
    assert_eq!(taken(&old, &woken), 0);
    assert_eq!(room.0.load(Ordering::Relaxed), 1, "who waits for room is told that there is some again");
    hand_over(&group);
    assert_eq!((woken.0.load(Ordering::Relaxed), taken(&old, &woken)), (1, 1));
}

#[test]
fn what_waits_for_a_worker_that_never_comes_is_closed_with_the_supervisor() {
    let group = Group::watched(2, AcceptPolicy::Balance, 100);
    let share = Share::enter(&group, 1, 0);
    hand_over(&group);
    drop(share);
    assert_eq!(group.live(1), 1);
    group.clear();
    assert_eq!((group.live(1), Arc::strong_count(&group)), (0, 1));
}

#[test]
fn what_a_listener_leaves_behind_finds_another_or_waits() {
    let group = Group::watched(2, AcceptPolicy::Balance, 2);
    let [first_woken, second_woken] = [(); 2].map(|()| Arc::new(Count::default()));
    let first = Share::enter(&group, 0, 0);
    assert_eq!(taken(&first, &first_woken), 0);
    let second = Share::enter(&group, 1, 0);
    hand_over(&group);
    second.parked.set(Some(connection()));
    drop(second);
    assert_eq!((group.live(0), group.live(1), first_woken.0.load(Ordering::Relaxed)), (2, 0, 1));
    assert_eq!(taken(&first, &first_woken), 2);
    // Nobody is there: it waits, and is counted where it does.
    drop(first);
    let second = Share::enter(&group, 1, 0);
    hand_over(&group);
    drop(second);
    assert_eq!((group.live(0), group.live(1)), (0, 1));
    assert_eq!(taken(&Share::enter(&group, 1, 0), &second_woken), 1);
    // Without a supervisor nobody will come.
    let group = Group::new(2, AcceptPolicy::Balance, 2);
    let second = Share::enter(&group, 1, 0);
    hand_over(&group);
    drop(second);
    assert_eq!((group.live(1), Arc::strong_count(&group)), (0, 1));
}

#[test]
fn who_has_closed_waits_for_no_room() {
    let group = Group::new(1, AcceptPolicy::Reuseport, 1);
    let share = Share::enter(&group, 0, 0);
    assert!(group.enter(0));
    let waker = Waker::from(Arc::new(Count::default()));
    assert!(share.poll_room(&Context::from_waker(&waker)).is_pending());
    share.close();
    assert_eq!(group.waiters.load(Ordering::SeqCst), 0);
}

#[test]
fn what_lay_there_when_it_closed_is_the_rest() {
    let group = Group::new(2, AcceptPolicy::Balance, 2);
    let share = Share::enter(&group, 1, 0);
    hand_over(&group);
    share.close();
    assert!(group.hand_in(1, 0, (connection(), group.count(1))).is_err());
    assert!(share.take_left().is_some());
    assert!(share.take_left().is_none());
}

#[test]
fn skews() {
    for (live, expected) in
        [(&[][..], 0.0), (&[0, 0], 0.0), (&[100, 100], 0.0), (&[105, 95], 0.05), (&[3, 0, 0], 2.0)]
    {
        assert!((skew(live) - expected).abs() < 1e-9, "{live:?}: {}", skew(live));
    }
}
