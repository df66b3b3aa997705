//! Who waits for a primitive of this room: a queue, first come, first served.
//!
//! Futures hold a [`WaiterId`]; request, grant and waker live here. Adding, granting and removing take constant time, and
//! an empty queue owns no memory. Grants are made while the table is borrowed, wakers are woken afterwards, one by one,
//! by [`wake_due`]: a waker may run any code.
//!
//! ```text
//!           push               grant                wake_due                 poll
//!   (free) ------> Waiting(R) ------> Granted(G) ------------> Granted(G) ----------> (free)
//!                     |                due, with its waker       |
//!                     '---------- remove: the future was dropped + its grant comes back to the primitive
//! ```
//!
//! What it does not do: decide who may be granted what.

use std::cell::RefCell;
use std::task::{Context, Poll, Waker};

use crate::task::waits::{WaitsFor, note};
use crate::task::waker;

/// No entry.
const NONE: u32 = u32::MAX;
/// An emptied table of more entries than this gives its memory back. Arbitrary: a few kilobytes.
const KEPT_ENTRIES_MAX: usize = 64;

/// A place in the queue. Its owner alone ends it, by [`Waiters::poll`] or [`Waiters::remove`].
#[derive(Debug, PartialEq, Eq)]
pub(super) struct WaiterId(u32);

/// The queue. `R` is what a waiter asks for, `G` what it is given.
#[derive(Debug)]
pub(super) struct Waiters<R, G> {
    entries: Vec<Entry<R, G>>,
    /// Free entries, linked by `next`.
    free: u32,
    /// In the order of arrival.
    waiting: List,
    /// Granted and not yet woken, in the order of their grants.
    due: List,
    /// Entries that are not free.
    used: usize,
}

#[derive(Debug)]
struct List {
    head: u32,
    tail: u32,
    len: usize,
}

#[derive(Debug)]
struct Entry<R, G> {
    state: State<R, G>,
    waker: Option<Waker>,
    previous: u32,
    next: u32,
}

#[derive(Debug)]
enum State<R, G> {
    Free,
    /// In `waiting`.
    Waiting(R),
    /// In `due` as long as it has its waker.
    Granted(G),
}

/// Wakers that are not needed any more, to be dropped when nothing is borrowed: dropping one may run any code.
#[derive(Debug, Default)]
pub(super) struct OldWakers(Option<Waker>, Option<Waker>);

/// What a dropped waiter leaves.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Removed<R, G> {
    /// It waited for this.
    Waiting(R),
    /// It was given this, and never knew.
    Granted(G),
}

impl List {
    const fn new() -> Self {
        List { head: NONE, tail: NONE, len: 0 }
    }
}

impl<R, G> Default for Waiters<R, G> {
    fn default() -> Self {
        Waiters::new()
    }
}

impl<R, G> Waiters<R, G> {
    pub(super) const fn new() -> Self {
        Waiters { entries: Vec::new(), free: NONE, waiting: List::new(), due: List::new(), used: 0 }
    }

    /// Those that wait; granted ones do not count.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len
    }

    /// What the first in the queue asks for.
    pub(super) fn front(&self) -> Option<&R> {
        let entry = self.entries.get(self.waiting.head as usize)?;
        match &entry.state {
            State::Waiting(request) => Some(request),
            _ => unreachable!("only waiting entries are in the list"),
        }
    }

    /// Joins the end of the queue.
    pub(super) fn push(&mut self, request: R, waker: Waker) -> WaiterId {
        let index = self.free;
        let index = if index == NONE {
            let index = u32::try_from(self.entries.len()).ok().filter(|index| *index != NONE);
            let (state, waker) = (State::Waiting(request), Some(waker));
            self.entries.push(Entry { state, waker, previous: NONE, next: NONE });
            index.expect("fewer than four thousand million waiters")
        } else {
            let entry = &mut self.entries[index as usize];
            self.free = entry.next;
            entry.state = State::Waiting(request);
            entry.waker = Some(waker);
            index
        };
        self.used += 1;
        link(&mut self.entries, &mut self.waiting, index);
        WaiterId(index)
    }

    /// Gives `grant` to the first in the queue and marks it to be woken by [`wake_due`]. False if nobody waits.
    pub(super) fn grant_front(&mut self, grant: G) -> bool {
        let index = self.waiting.head;
        if index == NONE {
            return false;
        }
        unlink(&mut self.entries, &mut self.waiting, index);
        self.entries[index as usize].state = State::Granted(grant);
        link(&mut self.entries, &mut self.due, index);
        true
    }

    /// Gives `grant` to the first in the queue. Its waker is not due: it is given out, to be woken when nothing is borrowed,
    /// before those that are due.
    pub(super) fn grant_front_now(&mut self, grant: G) -> Option<Waker> {
        let index = self.waiting.head;
        if index == NONE {
            return None;
        }
        unlink(&mut self.entries, &mut self.waiting, index);
        let entry = &mut self.entries[index as usize];
        entry.state = State::Granted(grant);
        entry.waker.take()
    }

    /// Whether somebody's grant is due.
    pub(super) fn has_due(&self) -> bool {
        self.due.head != NONE
    }

    /// Gives `grant` to everybody who waits now.
    pub(super) fn grant_all(&mut self, grant: G)
    where
        G: Copy,
    {
        while self.grant_front(grant) {}
    }

    /// The waker of the next waiter that was granted something and does not know yet.
    pub(super) fn take_due(&mut self) -> Option<Waker> {
        let index = self.due.head;
        if index == NONE {
            return None;
        }
        unlink(&mut self.entries, &mut self.due, index);
        self.entries[index as usize].waker.take()
    }

    /// Takes the grant and ends the wait, if there is one. With it comes a waker that was not woken yet, to be dropped when
    /// nothing is borrowed.
    #[inline]
    pub(super) fn take_granted(&mut self, id: &mut Option<WaiterId>) -> Option<(G, Option<Waker>)> {
        let index = id.as_ref().expect("a waiter is not polled after it was done").0;
        if let State::Waiting(_) = self.entries[index as usize].state {
            return None;
        }
        *id = None;
        let State::Granted(grant) = std::mem::replace(&mut self.entries[index as usize].state, State::Free)
        else {
            unreachable!("an id is used once")
        };
        if self.entries[index as usize].waker.is_some() {
            unlink(&mut self.entries, &mut self.due, index);
        }
        Some((grant, self.vacate(index)))
    }

    /// Takes the grant and ends the wait, or keeps `waker`.
    pub(super) fn poll(&mut self, id: &mut Option<WaiterId>, waker: Waker, old: &mut OldWakers) -> Poll<G> {
        let index = id.as_ref().expect("a waiter is not polled after it was done").0;
        let entry = &mut self.entries[index as usize];
        if let State::Waiting(_) = entry.state {
            old.0 = entry.waker.replace(waker);
            return Poll::Pending;
        }
        old.0 = Some(waker);
        let (grant, unwoken) = self.take_granted(id).expect("seen to be granted above");
        old.1 = unwoken;
        Poll::Ready(grant)
    }

    /// Waits with `waker`, whether `id` is new, waits already, or was granted something that is of no use.
    pub(super) fn wait(&mut self, id: &mut Option<WaiterId>, request: R, waker: Waker, old: &mut OldWakers) {
        if let Some(WaiterId(index)) = id {
            let entry = &mut self.entries[*index as usize];
            if let State::Waiting(_) = entry.state {
                old.0 = entry.waker.replace(waker);
                return;
            }
            old.0 = self.remove(id).and_then(|(_, unwoken)| unwoken);
        }
        *id = Some(self.push(request, waker));
    }

    /// Ends a wait. The waker is to be dropped when nothing is borrowed.
    pub(super) fn remove(&mut self, id: &mut Option<WaiterId>) -> Option<(Removed<R, G>, Option<Waker>)> {
        let index = id.take()?.0;
        let removed = match std::mem::replace(&mut self.entries[index as usize].state, State::Free) {
            State::Waiting(request) => {
                unlink(&mut self.entries, &mut self.waiting, index);
                Removed::Waiting(request)
            }
            State::Granted(grant) => {
                if self.entries[index as usize].waker.is_some() {
                    unlink(&mut self.entries, &mut self.due, index);
                }
                Removed::Granted(grant)
            }
            State::Free => unreachable!("an id is used once"),
        };
        Some((removed, self.vacate(index)))
    }

    /// Puts an entry, which is in no list any more, among the free ones. Its waker, if it has one still, comes out.
    #[inline]
    fn vacate(&mut self, index: u32) -> Option<Waker> {
        let entry = &mut self.entries[index as usize];
        let waker = entry.waker.take();
        entry.next = self.free;
        self.free = index;
        self.used -= 1;
        if self.used == 0 && self.entries.len() > KEPT_ENTRIES_MAX {
            self.entries = Vec::new();
            self.free = NONE;
        }
        waker
    }

    /// Entries in use, waiting or granted.
    #[cfg(test)]
    pub(super) fn used(&self) -> usize {
        self.used
    }
}

fn link<R, G>(entries: &mut [Entry<R, G>], list: &mut List, index: u32) {
    let entry = &mut entries[index as usize];
    entry.previous = list.tail;
    entry.next = NONE;
    match list.tail {
        NONE => list.head = index,
        tail => entries[tail as usize].next = index,
    }
    list.tail = index;
    list.len += 1;
}

fn unlink<R, G>(entries: &mut [Entry<R, G>], list: &mut List, index: u32) {
    let Entry { previous, next, .. } = entries[index as usize];
    match previous {
        NONE => list.head = next,
        previous => entries[previous as usize].next = next,
    }
    match next {
        NONE => list.tail = previous,
        next => entries[next as usize].previous = previous,
    }
    list.len -= 1;
}

/// Wakes everybody whose grant is due; `take` borrows the table for one step. A waker that panics does not keep the
/// others from being woken.
pub(super) fn wake_due(take: impl Fn() -> Option<Waker>) {
    wake_first_and_due(None, take);
}

/// Wakes `first`, then everybody whose grant is due, as [`wake_due`] does.
pub(super) fn wake_first_and_due(first: Option<Waker>, take: impl Fn() -> Option<Waker>) {
    struct Rest<F: Fn() -> Option<Waker>>(F);
    impl<F: Fn() -> Option<Waker>> Drop for Rest<F> {
        fn drop(&mut self) {
            while let Some(waker) = (self.0)() {
                waker.wake();
            }
        }
    }
    let rest = Rest(take);
    if let Some(first) = first {
        first.wake();
    }
    while let Some(waker) = (rest.0)() {
        waker.wake();
    }
}

/// Waiters for a condition that concerns all of them: everybody is woken and looks again.
#[derive(Debug)]
pub(super) struct Watchers {
    waiters: RefCell<Waiters<(), ()>>,
    /// What a task dump calls the channel.
    name: &'static str,
}

impl Watchers {
    pub(super) const fn new(name: &'static str) -> Self {
        Watchers { waiters: RefCell::new(Waiters::new()), name }
    }

    /// Wakes everybody who waits now.
    pub(super) fn wake_all(&self) {
        let mut waiters = self.waiters.borrow_mut();
        if waiters.waiting() == 0 {
            return;
        }
        waiters.grant_all(());
        drop(waiters);
        wake_due(|| self.waiters.borrow_mut().take_due());
    }

    /// Waits to be woken by the next [`wake_all`](Self::wake_all). The condition is looked at before, by the caller, and
    /// after the waker was cloned: that is anybody's code, which may have changed it.
    pub(super) fn register(&self, id: &mut Option<WaiterId>, waker: Waker) {
        let mut old = OldWakers::default();
        self.waiters.borrow_mut().wait(id, (), waker, &mut old);
        note(WaitsFor::Channel(self.name));
    }

    /// Ends a wait.
    pub(super) fn forget(&self, id: &mut Option<WaiterId>) {
        if id.is_some() {
            let removed = self.waiters.borrow_mut().remove(id);
            drop(removed);
        }
    }

    /// Waits until `ready` gives something; it is asked after each [`wake_all`](Self::wake_all).
    pub(super) fn wait<T, F: FnMut() -> Option<T>>(&self, ready: F) -> Wait<'_, F> {
        Wait { watchers: self, ready, id: None }
    }

    #[cfg(test)]
    pub(super) fn used(&self) -> usize {
        self.waiters.borrow().used()
    }
}

/// See [`Watchers::wait`].
#[derive(Debug)]
pub(super) struct Wait<'a, F> {
    watchers: &'a Watchers,
    ready: F,
    id: Option<WaiterId>,
}

impl<T, F: FnMut() -> Option<T> + Unpin> Future for Wait<'_, F> {
    type Output = T;

    fn poll(mut self: std::pin::Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let this = &mut *self;
        if let Some(value) = (this.ready)() {
            return Poll::Ready(value);
        }
        let waker = waker::clone(cx.waker());
        if let Some(value) = (this.ready)() {
            return Poll::Ready(value);
        }
        this.watchers.register(&mut this.id, waker);
        Poll::Pending
    }
}

impl<F> Drop for Wait<'_, F> {
    fn drop(&mut self) {
        self.watchers.forget(&mut self.id);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::task::Waker;

    use super::{KEPT_ENTRIES_MAX, Removed, Waiters};

    #[test]
    fn every_order_of_steps_agrees_with_a_list() {
        crate::sync::orders::explore(7, |choose| {
            let mut waiters: Waiters<u32, char> = Waiters::new();
            let mut ids = Vec::new();
            let mut model: VecDeque<u32> = VecDeque::new();
            let mut due: VecDeque<u32> = VecDeque::new();
            let mut next = 0;
            while choose.goes_on() {
                match choose.one_of(5) {
                    0 if next < 4 => {
                        ids.push((next, Some(waiters.push(next, Waker::noop().clone()))));
                        model.push_back(next);
                        next += 1;
                    }
                    1 => {
                        let granted = model.pop_front();
                        assert_eq!(waiters.grant_front('g'), granted.is_some());
                        due.extend(granted);
                    }
                    2 => assert_eq!(waiters.take_due().is_some(), due.pop_front().is_some()),
                    3 if !ids.is_empty() => {
                        let (number, mut id) = ids.remove(choose.one_of(ids.len()));
                        let (removed, waker) = waiters.remove(&mut id).expect("it was in");
                        match removed {
                            Removed::Waiting(request) => {
                                assert_eq!(request, number);
                                assert!(waker.is_some() && model.contains(&number));
                            }
                            Removed::Granted(_) => assert_eq!(waker.is_some(), due.contains(&number)),
                        }
                        model.retain(|other| *other != number);
                        due.retain(|other| *other != number);
                    }
                    4 if !ids.is_empty() => {
                        let place = choose.one_of(ids.len());
                        let (number, id) = &mut ids[place];
                        let granted = waiters.take_granted(id);
                        assert_eq!(granted.is_none(), model.contains(number));
                        if let Some((_, unwoken)) = granted {
                            assert_eq!((unwoken.is_some(), &id), (due.contains(number), &&mut None));
                            due.retain(|other| other != number);
                            ids.remove(place);
                        }
                    }
                    _ => return,
                }
                assert_eq!((waiters.has_due(), waiters.due.len), (!due.is_empty(), due.len()));
                assert_eq!(waiters.front(), model.front());
                assert_eq!(waiters.waiting(), model.len());
                assert_eq!(waiters.used(), ids.len());
            }
        });
    }

    #[test]
    fn a_table_that_was_large_gives_its_memory_back() {
        let mut waiters: Waiters<(), ()> = Waiters::new();
        let ids: Vec<_> = (0..=KEPT_ENTRIES_MAX).map(|_| waiters.push((), Waker::noop().clone())).collect();
        for id in ids {
            waiters.remove(&mut Some(id));
        }
        assert_eq!((waiters.used(), waiters.entries.capacity()), (0, 0));
        let mut id = Some(waiters.push((), Waker::noop().clone()));
        assert!(waiters.remove(&mut id).is_some());
    }
}
