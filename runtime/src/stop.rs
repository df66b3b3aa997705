//! Asking loops of other threads to stop.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

/// A switch that is set once and seen on every thread.
#[derive(Clone, Debug)]
pub(crate) struct Stop(Arc<State>);

#[derive(Debug)]
struct State {
    is_set: AtomicBool,
    /// Who waits, by the number of its `Stopped`; at most one entry each.
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    wakers: Vec<(u64, Waker)>,
}

impl Stop {
    pub(crate) fn new() -> Self {
        Stop(Arc::new(State { is_set: AtomicBool::new(false), waiting: Mutex::default() }))
    }

    pub(crate) fn stop(&self) {
        // Release pairs with the Acquire in `poll`: what was done before stopping is seen by who stops.
        self.0.is_set.store(true, Ordering::Release);
        let waiting =
            std::mem::take(&mut self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner).wakers);
        waiting.into_iter().for_each(|(_, waker)| waker.wake());
    }

    pub(crate) fn is_set(&self) -> bool {
        self.0.is_set.load(Ordering::Acquire)
    }

    pub(crate) fn stopped(&self) -> Stopped {
        Stopped { stop: self.clone(), number: None }
    }
}

/// Done when the loops are asked to stop; see [`Core::stopped`](crate::Core::stopped).
#[derive(Debug)]
#[must_use = "it does nothing unless it is awaited"]
pub struct Stopped {
    stop: Stop,
    /// Its entry among those that wait.
    number: Option<u64>,
}

impl Stopped {
    /// Whether the loops were asked to stop.
    pub fn is_stopped(&self) -> bool {
        self.stop.is_set()
    }
}

impl Clone for Stopped {
    fn clone(&self) -> Self {
        self.stop.stopped()
    }
}

impl Future for Stopped {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_stopped() {
            return Poll::Ready(());
        }
        let state = Arc::clone(&self.stop.0);
        let new = cx.waker().clone();
        let mut waiting = state.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        // Asked again under the lock: `stop` sets the flag first and takes the wakers after, so one of the two sees it.
        if self.is_stopped() {
            return Poll::Ready(());
        }
        let number = *self.number.get_or_insert_with(|| {
            waiting.next += 1;
            waiting.next
        });
        let old = match waiting.wakers.iter_mut().find(|(of, _)| *of == number) {
            Some((_, waker)) => Some(std::mem::replace(waker, new)),
            None => {
                waiting.wakers.push((number, new));
                None
            }
        };
        // Dropped without the lock: a waker may own another `Stopped`.
        drop(waiting);
        drop(old);
        Poll::Pending
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            let mut waiting = self.stop.0.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            let place = waiting.wakers.iter().position(|(of, _)| *of == number);
            let old = place.map(|place| waiting.wakers.swap_remove(place));
            // Dropped without the lock: a waker may own another `Stopped`.
            drop(waiting);
            drop(old);
        }
    }
}
