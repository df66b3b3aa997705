//! Every order of polls, drops and releases, against models; wakers that interfere; wrong use. What the tests share.

mod channels;
mod clones;
mod notify;
mod permits;
mod wakers;
mod wrong_use;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use super::orders::{Choose, Count, explore};
use super::permits::{Acquire, Closed, NoPermits, Permits};
use super::{
    Barrier, BarrierWaitResult, Condvar, Mutex, Notify, RwLock, Semaphore, broadcast, mpsc, oneshot, watch,
};

type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// Counting wakers, one for each waiter.
struct Wakers(Vec<(Arc<Count>, Waker)>);

impl Wakers {
    fn new(count: usize) -> Self {
        Wakers((0..count).map(|_| Count::new()).collect())
    }

    fn poll<F: Future + ?Sized>(&self, number: usize, future: Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(&self.0[number].1))
    }

    /// Checks that each waiter was woken so many times since the last call.
    fn check(&self, expected: &[usize]) {
        let woken: Vec<_> = self.0.iter().map(|(count, _)| count.take()).collect();
        assert_eq!(woken, expected, "wake-ups");
    }
}

fn poll_once<F: Future + ?Sized>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// One waiter of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Is {
    New,
    Waiting,
    Granted,
    Refused,
    Holding,
    Gone,
}
