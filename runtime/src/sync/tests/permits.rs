//! Permits against a model, and what is made of them.

use super::*;
use crate::task::waits::WaitsFor;

struct PermitsModel {
    available: usize,
    closed: bool,
    sizes: Vec<usize>,
    is: Vec<Is>,
    queue: VecDeque<usize>,
    woken: Vec<usize>,
}

impl PermitsModel {
    fn hand_out(&mut self) {
        while let Some(&front) = self.queue.front()
            && self.sizes[front] <= self.available
        {
            self.queue.pop_front();
            self.available -= self.sizes[front];
            self.is[front] = Is::Granted;
            self.woken[front] += 1;
        }
    }

    fn poll(&mut self, number: usize) -> Poll<Result<(), Closed>> {
        match self.is[number] {
            Is::New if self.closed => self.is[number] = Is::Refused,
            Is::New if self.queue.is_empty() && self.sizes[number] <= self.available => {
                self.available -= self.sizes[number];
                self.is[number] = Is::Granted;
            }
            Is::New => {
                self.queue.push_back(number);
                self.is[number] = Is::Waiting;
            }
            _ => {}
        }
        match self.is[number] {
            Is::Granted => {
                self.is[number] = Is::Holding;
                Poll::Ready(Ok(()))
            }
            Is::Refused => {
                self.is[number] = Is::Gone;
                Poll::Ready(Err(Closed))
            }
            _ => Poll::Pending,
        }
    }

    fn drop(&mut self, number: usize) {
        if matches!(self.is[number], Is::Granted | Is::Holding) {
            self.available += self.sizes[number];
        }
        self.queue.retain(|other| *other != number);
        self.is[number] = Is::Gone;
        self.hand_out();
    }

    fn close(&mut self) {
        self.closed = true;
        for number in self.queue.drain(..) {
            self.is[number] = Is::Refused;
            self.woken[number] += 1;
        }
    }
}

fn permits_against_model(choose: &mut Choose, wakers: &Wakers, total: usize, sizes: &[usize], close: bool) {
    let permits = Permits::new(total);
    let mut waits: Vec<Option<Acquire<'_>>> =
        sizes.iter().map(|size| Some(permits.acquire(*size, &WaitsFor::Lock("test")))).collect();
    let mut model = PermitsModel {
        available: total,
        closed: false,
        sizes: sizes.to_vec(),
        is: vec![Is::New; sizes.len()],
        queue: VecDeque::new(),
        woken: vec![0; sizes.len()],
    };
    while choose.goes_on() {
        let mut steps = Vec::new();
        for number in 0..sizes.len() {
            match model.is[number] {
                Is::Gone => {}
                Is::Holding => steps.push((number, "drop")),
                Is::New => steps.push((number, "poll")),
                _ => steps.extend([(number, "poll"), (number, "drop")]),
            }
        }
        if close && !model.closed {
            steps.push((0, "close"));
        }
        if steps.is_empty() {
            break;
        }
        let (number, step) = steps[choose.one_of(steps.len())];
        match step {
            "poll" => {
                let wait = waits[number].as_mut().expect("it is not gone");
                let expected = model.poll(number);
                assert_eq!(wakers.poll(number, Pin::new(wait)), expected, "poll of {number}");
                if expected.is_ready() {
                    waits[number] = None;
                }
            }
            "drop" => {
                // A future that still waits, or permits that are held.
                if waits[number].take().is_none() {
                    permits.release(sizes[number]);
                }
                model.drop(number);
            }
            _ => {
                permits.close();
                model.close();
            }
        }
        wakers.check(&std::mem::replace(&mut model.woken, vec![0; sizes.len()]));
        assert_eq!(permits.available(), model.available);
        // Nobody overtakes who waits.
        let expected = match model.closed {
            true => Err(NoPermits::Closed),
            false if model.available == 0 || !model.queue.is_empty() => Err(NoPermits::Busy),
            false => Ok(()),
        };
        assert_eq!(permits.try_acquire(1), expected);
        if expected.is_ok() {
            permits.release(1);
        }
    }
    drop(waits);
    wakers.0.iter().for_each(|(count, _)| _ = count.take());
    let held: usize =
        (0..sizes.len()).filter(|number| model.is[*number] == Is::Holding).map(|number| sizes[number]).sum();
    assert_eq!((permits.available() + held, permits.waiters()), (total, 0), "something leaked");
}

#[test]
fn permits_go_in_order_and_are_never_lost() {
    let mut runs = 0;
    for (steps, total, sizes, close) in [
        (10, 1, vec![1, 1, 1], false),
        (9, 2, vec![2, 1, 1], false),
        (9, 2, vec![1, 2, 1], false),
        (9, 3, vec![1, 3, 2], false),
        (8, 1, vec![1, 1, 1, 1], false),
        (8, 3, vec![1, 3, 1, 1], false),
        (7, 1, vec![1, 1, 1], true),
        (7, 2, vec![1, 2, 1], true),
    ] {
        let wakers = Wakers::new(sizes.len());
        runs += explore(steps, |choose| permits_against_model(choose, &wakers, total, &sizes, close));
    }
    println!("{runs} orders");
    assert!(runs > 100_000, "{runs}");
}

#[test]
fn readers_go_together_and_a_writer_is_not_overtaken() {
    let lock = RwLock::new(1);
    let first = lock.try_read().expect("it is free");
    let mut write = Box::pin(lock.write());
    assert!(poll_once(write.as_mut()).is_pending());
    let mut second = Box::pin(lock.read());
    assert!(poll_once(second.as_mut()).is_pending(), "behind the writer");
    assert!(lock.try_read().is_err());
    drop(first);
    let Poll::Ready(mut guard) = poll_once(write.as_mut()) else { panic!("the writer is next") };
    *guard += 1;
    let read = guard.downgrade();
    let Poll::Ready(other) = poll_once(second.as_mut()) else { panic!("readers go together") };
    assert_eq!((*read, *other), (2, 2));
    drop((read, other));
    // A writer that gives up lets the readers behind it go on.
    let first = lock.try_read().expect("it is free");
    let mut write = Box::pin(lock.write());
    let mut second = Box::pin(lock.read());
    assert!(poll_once(write.as_mut()).is_pending() && poll_once(second.as_mut()).is_pending());
    drop(write);
    assert!(poll_once(second.as_mut()).is_ready());
    drop(first);
}

#[test]
fn permits_are_split_merged_and_forgotten() {
    let semaphore = Rc::new(Semaphore::new(3));
    let mut all = Rc::clone(&semaphore).try_acquire_many_owned(3).expect("free");
    let one = all.split(1).expect("it has three");
    assert!(all.split(3).is_none());
    drop(one);
    assert_eq!((all.num_permits(), semaphore.available_permits()), (2, 1));
    all.merge(Rc::clone(&semaphore).try_acquire_owned().expect("free"));
    all.forget();
    assert_eq!((semaphore.available_permits(), semaphore.forget_permits(9)), (0, 0));
    semaphore.add_permits(2);
    assert_eq!(semaphore.forget_permits(9), 2);
}
