//! Channels against models.

use super::*;

#[test]
fn a_bounded_channel_keeps_the_order_and_wakes_who_may_go_on() {
    let wakers = Wakers::new(4);
    for capacity in 1..=2 {
        explore(7, |choose| {
            const RECEIVER: usize = 3;
            let (sender, mut receiver) = mpsc::channel::<usize>(capacity);
            let mut sends: Vec<Option<Boxed<'_, _>>> =
                (0..3).map(|number| Some(Box::pin(sender.send(number)) as Boxed<'_, _>)).collect();
            // The model: values in the channel, then who waits to send.
            let mut values: VecDeque<usize> = VecDeque::new();
            let mut granted: Vec<usize> = Vec::new();
            let mut queue: VecDeque<usize> = VecDeque::new();
            let mut receiver_waits = false;
            let mut woken = [0; 4];
            while choose.goes_on() {
                let alive: Vec<_> = (0..3).filter(|number| sends[*number].is_some()).collect();
                let choice = choose.one_of(2 * alive.len() + 1);
                if choice == 2 * alive.len() {
                    let polled = {
                        let mut receive = pin!(receiver.recv());
                        wakers.poll(RECEIVER, receive.as_mut())
                    };
                    match values.pop_front() {
                        Some(value) => assert_eq!(polled, Poll::Ready(Some(value))),
                        None => {
                            assert!(polled.is_pending());
                            receiver_waits = true;
                        }
                    }
                } else {
                    let number = alive[choice / 2];
                    let was_new = !queue.contains(&number) && !granted.contains(&number);
                    if choice % 2 == 1 {
                        sends[number] = None;
                        queue.retain(|other| *other != number);
                        granted.retain(|other| *other != number);
                    } else {
                        let polled = wakers.poll(number, sends[number].as_mut().expect("alive").as_mut());
                        if was_new {
                            queue.push_back(number);
                            if queue.len() == 1 && values.len() + granted.len() < capacity {
                                queue.pop_front();
                                granted.push(number);
                            }
                        }
                        let goes = granted.contains(&number);
                        assert_eq!(polled.is_ready(), goes);
                        if goes {
                            granted.retain(|other| *other != number);
                            values.push_back(number);
                            sends[number] = None;
                            woken[RECEIVER] += usize::from(std::mem::take(&mut receiver_waits));
                        }
                    }
                }
                while values.len() + granted.len() < capacity
                    && let Some(front) = queue.pop_front()
                {
                    granted.push(front);
                    woken[front] += 1;
                }
                wakers.check(&std::mem::take(&mut woken));
                assert_eq!(sender.capacity(), capacity - values.len() - granted.len());
            }
            drop(sends);
            wakers.0.iter().for_each(|(count, _)| _ = count.take());
            assert_eq!(sender.capacity(), capacity - values.len(), "room was lost");
            for value in values {
                assert_eq!(receiver.try_recv(), Ok(value));
            }
        });
    }
}

#[test]
fn a_closed_channel_gives_what_was_promised_and_then_ends() {
    let (sender, mut receiver) = mpsc::channel(2);
    let permit = sender.try_reserve().expect("it is empty");
    sender.try_send(1).expect("there is room for one more");
    let mut blocked = Box::pin(sender.send(9));
    assert!(poll_once(blocked.as_mut()).is_pending());
    receiver.close();
    assert!(matches!(poll_once(blocked.as_mut()), Poll::Ready(Err(mpsc::SendError(9)))));
    drop(blocked);
    assert_eq!(poll_once(pin!(receiver.recv())), Poll::Ready(Some(1)));
    let (count, waker) = Count::new();
    {
        let mut receive = pin!(receiver.recv());
        assert!(
            receive.as_mut().poll(&mut Context::from_waker(&waker)).is_pending(),
            "a permit is still out"
        );
    }
    drop(permit);
    assert_eq!(count.take(), 1);
    assert_eq!(poll_once(pin!(receiver.recv())), Poll::Ready(None));
}

#[test]
fn a_dropped_receiver_drops_the_values_and_tells_the_senders() {
    let value = Rc::new(());
    let (sender, receiver) = mpsc::channel(2);
    sender.try_send(Rc::clone(&value)).expect("it is empty");
    let permit = sender.try_reserve().expect("there is room for one more");
    let (count, waker) = Count::new();
    let mut closed = Box::pin(sender.closed());
    assert!(closed.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    drop(receiver);
    assert_eq!((Rc::strong_count(&value), count.take()), (1, 1));
    assert!(poll_once(closed.as_mut()).is_ready());
    permit.send(Rc::clone(&value));
    assert_eq!(Rc::strong_count(&value), 1, "it is dropped, because nobody will take it");
    assert_eq!(sender.capacity(), 2);
}

#[test]
fn weak_senders_do_not_keep_a_channel_open() {
    let (sender, mut receiver) = mpsc::channel(1);
    let weak = sender.downgrade();
    weak.upgrade().expect("a sender is alive").try_send(5).expect("it is empty");
    drop(sender);
    assert!(weak.upgrade().is_none());
    assert_eq!(receiver.try_recv(), Ok(5));
    assert_eq!(receiver.try_recv(), Err(mpsc::TryRecvError::Disconnected));
}

#[test]
fn a_broadcast_in_every_order_of_steps() {
    explore(8, |choose| {
        let (sender, receiver) = broadcast::channel::<u64>(2);
        // Each receiver with the number that it has next in the model.
        let mut receivers = vec![(receiver, 0)];
        let mut sent = 0_u64;
        while choose.goes_on() {
            match choose.one_of(3 + receivers.len()) {
                0 => {
                    let told = sender.send(sent);
                    assert_eq!(told.ok(), (!receivers.is_empty()).then_some(receivers.len()));
                    sent += u64::from(!receivers.is_empty());
                }
                1 if receivers.len() < 3 => receivers.push((sender.subscribe(), sent)),
                2 if !receivers.is_empty() => drop(receivers.remove(0)),
                choice if choice >= 3 => {
                    let (receiver, next) = &mut receivers[choice - 3];
                    let oldest = sent.saturating_sub(2);
                    let expected = if *next < oldest {
                        let missed = oldest - *next;
                        *next = oldest;
                        Err(broadcast::TryRecvError::Lagged(missed))
                    } else if *next == sent {
                        Err(broadcast::TryRecvError::Empty)
                    } else {
                        *next += 1;
                        Ok(*next - 1)
                    };
                    assert_eq!(receiver.try_recv(), expected);
                }
                _ => return,
            }
            let unseen = receivers
                .iter()
                .map(|(_, next)| *next)
                .min()
                .map_or(0, |slowest| sent - slowest.max(sent.saturating_sub(2)));
            assert_eq!(sender.len() as u64, unseen, "values are dropped as soon as everybody has seen them");
        }
    });
}

#[test]
fn broadcast_wakes_everybody_and_ends_with_the_last_sender() {
    let (sender, mut one) = broadcast::channel(2);
    let mut other = sender.subscribe();
    let (count, waker) = Count::new();
    let mut cx = Context::from_waker(&waker);
    {
        let (mut one, mut other) = (pin!(one.recv()), pin!(other.recv()));
        assert!(one.as_mut().poll(&mut cx).is_pending() && other.as_mut().poll(&mut cx).is_pending());
        assert_eq!(sender.send("word"), Ok(2));
        assert_eq!(count.take(), 2);
        assert_eq!(one.as_mut().poll(&mut cx), Poll::Ready(Ok("word")));
        assert_eq!(other.as_mut().poll(&mut cx), Poll::Ready(Ok("word")));
    }
    let mut last = pin!(one.recv());
    assert!(last.as_mut().poll(&mut cx).is_pending());
    drop(sender);
    assert_eq!(count.take(), 1);
    assert_eq!(last.as_mut().poll(&mut cx), Poll::Ready(Err(broadcast::RecvError::Closed)));
}

#[test]
fn watch_tells_of_changes_once() {
    let (sender, mut receiver) = watch::channel(0);
    let mut late = receiver.clone();
    let (count, waker) = Count::new();
    let mut cx = Context::from_waker(&waker);
    {
        let mut changed = pin!(receiver.changed());
        assert!(changed.as_mut().poll(&mut cx).is_pending());
        assert!(!sender.send_if_modified(|_| false));
        assert_eq!(count.take(), 0, "not changed");
        sender.send(1).expect("there are receivers");
        assert_eq!(count.take(), 1);
        assert_eq!(changed.as_mut().poll(&mut cx), Poll::Ready(Ok(())));
    }
    assert!(pin!(receiver.changed()).poll(&mut cx).is_pending(), "seen");
    assert_eq!(late.has_changed(), Ok(true));
    assert_eq!(*late.borrow_and_update(), 1);
    assert_eq!(late.has_changed(), Ok(false));
    {
        let mut three = pin!(late.wait_for(|value| *value == 3));
        assert!(three.as_mut().poll(&mut cx).is_pending());
        sender.send_modify(|value| *value += 1);
        assert!(three.as_mut().poll(&mut cx).is_pending());
        sender.send_modify(|value| *value += 1);
        assert!(matches!(three.as_mut().poll(&mut cx), Poll::Ready(Ok(value)) if *value == 3));
    }
    let mut closed = Box::pin(sender.closed());
    assert!(poll_once(closed.as_mut()).is_pending());
    drop(receiver);
    assert!(poll_once(closed.as_mut()).is_pending());
    drop(late);
    assert!(poll_once(closed.as_mut()).is_ready());
    drop(closed);
    assert!(sender.send(4).is_err());
    assert_eq!(sender.send_replace(5), 3);
}

#[test]
fn oneshot_in_every_order_of_steps() {
    let wakers = Wakers::new(2);
    explore(7, |choose| {
        let (sender, receiver) = oneshot::channel::<u32>();
        let (mut sender, mut receiver) = (Some(sender), Some(receiver));
        let (mut sent, mut closed, mut taken) = (false, false, false);
        // Who waits: the sender for the end, the receiver for the value.
        let mut waits = [false; 2];
        while choose.goes_on() {
            let mut woken = [0; 2];
            match choose.one_of(6) {
                0 if sender.is_some() => {
                    sent = sender.take().expect("asked above").send(7).is_ok();
                    assert_eq!(sent, !closed);
                    woken[1] = usize::from(std::mem::take(&mut waits[1]));
                }
                1 if sender.is_some() => {
                    sender = None;
                    woken[1] = usize::from(std::mem::take(&mut waits[1]));
                }
                2 if let Some(sender) = &mut sender => {
                    assert_eq!(wakers.poll(0, pin!(sender.closed())).is_ready(), closed);
                    waits[0] = !closed;
                }
                3 if let Some(receiver) = &mut receiver => {
                    let expected = match () {
                        () if sent && !taken => Poll::Ready(Some(7)),
                        () if sender.is_none() || closed => Poll::Ready(None),
                        () => Poll::Pending,
                    };
                    assert_eq!(wakers.poll(1, Pin::new(receiver)).map(Result::ok), expected);
                    taken |= expected == Poll::Ready(Some(7));
                    waits[1] = expected.is_pending();
                }
                choice @ (4 | 5) if receiver.is_some() => {
                    if choice == 4 {
                        receiver.as_mut().expect("asked above").close();
                    } else {
                        receiver = None;
                    }
                    waits[1] = false;
                    closed = true;
                    woken[0] = usize::from(std::mem::take(&mut waits[0]));
                }
                _ => return drop(wakers.0.iter().map(|(count, _)| count.take()).collect::<Vec<_>>()),
            }
            if sender.is_none() {
                waits[0] = false;
            }
            wakers.check(&woken);
        }
        drop((sender, receiver));
        wakers.0.iter().for_each(|(count, _)| _ = count.take());
    });
}

#[test]
fn dropped_waits_leave_the_channels() {
    let (sender, mut receiver) = broadcast::channel::<u8>(1);
    assert!(poll_once(pin!(receiver.recv())).is_pending());
    assert_eq!(sender.waiters(), 0);
    assert!(Pin::new(&mut receiver).poll_recv(&mut Context::from_waker(Waker::noop())).is_pending());
    assert_eq!(sender.waiters(), 1, "polled, so it waits until it is dropped");
    drop(receiver);
    assert_eq!(sender.waiters(), 0);
    let (sender, mut receiver) = watch::channel(1);
    assert!(poll_once(pin!(receiver.changed())).is_pending());
    assert!(poll_once(pin!(receiver.wait_for(|value| *value == 2))).is_pending());
    assert!(poll_once(pin!(sender.closed())).is_pending());
    assert_eq!(sender.waiters(), 0);
}

#[test]
fn the_last_sender_of_a_watch_ends_the_wait() {
    let (sender, mut receiver) = watch::channel(1);
    let other = sender.clone();
    let (count, waker) = Count::new();
    let mut cx = Context::from_waker(&waker);
    let mut changed = pin!(receiver.changed());
    assert!(changed.as_mut().poll(&mut cx).is_pending());
    drop(sender);
    assert_eq!(count.take(), 0);
    drop(other);
    assert_eq!(count.take(), 1);
    assert!(matches!(changed.as_mut().poll(&mut cx), Poll::Ready(Err(_))));
}

#[test]
fn room_that_comes_back_to_a_closed_channel_ends_the_receivers_wait() {
    let (sender, mut receiver) = mpsc::channel(1);
    sender.try_send(1).expect("it is empty");
    let mut send = Box::pin(sender.send(2));
    assert!(poll_once(send.as_mut()).is_pending());
    // The room goes to the sender that waits, which could still use it after the close.
    assert_eq!(receiver.try_recv(), Ok(1));
    receiver.close();
    let (count, waker) = Count::new();
    let mut cx = Context::from_waker(&waker);
    assert!(receiver.poll_recv(&mut cx).is_pending());
    drop(send);
    assert_eq!(count.take(), 1, "nothing can come any more");
    assert_eq!(receiver.poll_recv(&mut cx), Poll::Ready(None));
}

#[test]
fn a_value_that_sends_when_it_is_dropped_spoils_no_count() {
    /// Sends as many values more, when it is dropped.
    struct Sends(u32, RefCell<Option<broadcast::Sender<Rc<Sends>>>>);
    impl Drop for Sends {
        fn drop(&mut self) {
            if let Some(sender) = self.1.take() {
                for number in 0..self.0 {
                    let value = Rc::new(Sends(number, RefCell::new(None)));
                    sender.send(value).map(drop).unwrap_or_else(|_| unreachable!("one receiver is left"));
                }
            }
        }
    }
    let (sender, slow) = broadcast::channel(2);
    let mut fast = sender.subscribe();
    for again in [Some(sender.clone()), None] {
        assert!(sender.send(Rc::new(Sends(2, RefCell::new(again)))).is_ok());
        assert!(fast.try_recv().is_ok());
    }
    drop(slow);
    let numbers: Vec<_> = (0..2).map(|_| fast.try_recv().map(|value| value.0)).collect();
    assert_eq!(numbers, [Ok(0), Ok(1)]);
    assert_eq!(fast.try_recv().map(|value| value.0), Err(broadcast::TryRecvError::Empty));
}
