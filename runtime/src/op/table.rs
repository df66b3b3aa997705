//! The slab of one-shot operations: who waits, what came back, and the memory that the kernel may touch.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::task::{Poll, Waker};

use super::lifecycle::{Lifecycle, OnCompletion, OnDrop};
use super::operation::Outcome;
use super::payload::{Memory, Payload};
use super::request;
use crate::driver::{Driver, Event, GENERATION_MASK, Key, Kind, Op};
use crate::socket::Wakes;

/// Which operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OpId {
    slot: u32,
    generation: u32,
}

#[derive(Debug)]
struct Slot {
    generation: u32,
    /// None while the slot is free.
    lifecycle: Option<Lifecycle>,
    waiter: Option<Waker>,
    /// Empty while the slot is free.
    payload: Payload,
    /// Whether the result is a descriptor, which is closed if nobody takes it.
    opens: bool,
}

/// All one-shot operations of a core.
#[derive(Debug, Default)]
pub(crate) struct Ops {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

impl Ops {
    /// Submits an operation on `payload`; `op` describes it, given the descriptor's number and the memory.
    ///
    /// # Safety
    ///
    /// Every pointer in the operation points to memory that the payload owns on the heap, with its true length.
    #[inline]
    pub(crate) unsafe fn submit(
        &mut self,
        payload: Payload,
        op: impl FnOnce(RawFd, &mut Memory) -> Op,
        driver: &mut Driver,
    ) -> OpId {
        let slot = self.free.pop().unwrap_or_else(|| {
            let payload = Payload::default();
            self.slots.push(Slot { generation: 0, lifecycle: None, waiter: None, payload, opens: false });
            (self.slots.len() - 1) as u32
        });
        let entry = &mut self.slots[slot as usize];
        entry.lifecycle = Some(Lifecycle::Submitted);
        entry.payload = payload;
        let op = op(entry.payload.descriptor.number(), &mut entry.payload.memory);
        entry.opens = op.opens();
        let id = OpId { slot, generation: entry.generation };
        // SAFETY: what `op` points to is owned by the payload on the heap and stays until the last completion.
        unsafe { driver.push(op, id.key()) };
        id
    }

    /// The outcome, once it is there. The waker that was registered before comes back in `old`.
    #[inline]
    pub(crate) fn poll(&mut self, id: OpId, waker: Waker, old: &mut Option<Waker>) -> Poll<Outcome> {
        let slot = self.find(id).expect("an operation lives as long as its future");
        let Some(result) = slot.lifecycle().handle_poll() else {
            *old = slot.waiter.replace(waker);
            return Poll::Pending;
        };
        *old = Some(waker);
        let opens = slot.opens;
        let payload = self.free(id);
        let opened = (opens && result >= 0).then(|| {
            // SAFETY: such an operation gives a new descriptor, and nobody else saw this result.
            unsafe { OwnedFd::from_raw_fd(result) }
        });
        let result = u32::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result));
        Poll::Ready(Outcome { result, opened, payload })
    }

    /// The future is gone: the operation is cancelled. Returns its waker, to be dropped when nothing is borrowed.
    pub(crate) fn forget(&mut self, id: OpId, driver: &mut Driver) -> Option<Waker> {
        let (waker, under_way) = self.leave(id, driver);
        if under_way {
            // SAFETY: a cancellation points to no memory.
            unsafe { driver.push(Op::Cancel { target: id.key() }, Key::IGNORED) };
        }
        waker
    }

    /// The future is gone, but the operation is to go on. Returns its waker, and whether the kernel works on it.
    pub(crate) fn leave(&mut self, id: OpId, driver: &mut Driver) -> (Option<Waker>, bool) {
        // Orphaned already: its loop ended while the future lived on.
        let live = self.find(id).filter(|slot| slot.lifecycle != Some(Lifecycle::Orphaned));
        let Some(slot) = live else { return (None, false) };
        let waker = slot.waiter.take();
        match slot.lifecycle().handle_drop() {
            OnDrop::Cancel => (waker, true),
            OnDrop::Reclaim(result) => {
                self.reclaim(id, result, driver);
                (waker, false)
            }
        }
    }

    /// Takes the completion in.
    #[inline]
    pub(crate) fn handle_event(&mut self, event: Event, driver: &mut Driver, wakes: &mut Wakes) {
        let id = OpId { slot: event.key.slot(), generation: event.key.generation() };
        if event.more {
            self.handle_news(id, event.result, driver);
            return;
        }
        let slot = self.find(id).expect("a completion arrives before its slot is reused");
        match slot.lifecycle().handle_completion(event.result) {
            OnCompletion::Wake => wakes.push(&mut slot.waiter),
            OnCompletion::Reclaim(result) => self.reclaim(id, result, driver),
        }
    }

    /// A watch, which is the one that tells more than once, has told something: what it was made for ends it, the rest is not looked at.
    #[cold]
    fn handle_news(&mut self, id: OpId, events: i32, driver: &mut Driver) {
        // Before Linux 6.1 what did not fit into the completion queue may come behind the last completion.
        let Some(slot) = self.find(id) else { return };
        if request::is_hung_up(events) && slot.lifecycle == Some(Lifecycle::Submitted) {
            // SAFETY: a cancellation points to no memory.
            unsafe { driver.push(Op::Cancel { target: id.key() }, Key::IGNORED) };
        }
    }

    fn find(&mut self, id: OpId) -> Option<&mut Slot> {
        let slot = self.slots.get_mut(id.slot as usize);
        slot.filter(|slot| slot.generation == id.generation && slot.lifecycle.is_some())
    }

    fn free(&mut self, id: OpId) -> Payload {
        let slot = &mut self.slots[id.slot as usize];
        slot.lifecycle = None;
        slot.generation = slot.generation.wrapping_add(1) & GENERATION_MASK;
        self.free.push(id.slot);
        std::mem::take(&mut slot.payload)
    }

    /// Nobody takes the result: closes the descriptor that was opened, and the one worked on if nobody else has it.
    fn reclaim(&mut self, id: OpId, result: i32, driver: &mut Driver) {
        let opened = self.slots[id.slot as usize].opens && result >= 0;
        let payload = self.free(id);
        if opened {
            close(result, driver);
        }
        if let Some(fd) = payload.descriptor.into_last() {
            close(fd, driver);
        }
    }

    /// Operations that are waited for, done and not taken, or dying.
    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Forgets every operation that still has a future, for shutdown. Returns their wakers.
    pub(crate) fn cancel_all(&mut self, driver: &mut Driver) -> Vec<Option<Waker>> {
        let all = self.slots.iter().enumerate();
        let waited = all.filter(|(_, slot)| !matches!(slot.lifecycle, None | Some(Lifecycle::Orphaned)));
        let ids: Vec<_> =
            waited.map(|(slot, entry)| OpId { slot: slot as u32, generation: entry.generation }).collect();
        ids.into_iter().map(|id| self.forget(id, driver)).collect()
    }

    /// Cancels what goes on without a future, for a shutdown that has waited long enough for it.
    pub(crate) fn cancel_orphans(&mut self, driver: &mut Driver) {
        for (slot, entry) in self.slots.iter().enumerate() {
            if entry.lifecycle == Some(Lifecycle::Orphaned) {
                let id = OpId { slot: slot as u32, generation: entry.generation };
                // SAFETY: a cancellation points to no memory.
                unsafe { driver.push(Op::Cancel { target: id.key() }, Key::IGNORED) };
            }
        }
    }
}

impl Slot {
    #[inline]
    fn lifecycle(&mut self) -> &mut Lifecycle {
        self.lifecycle.as_mut().expect("found slots are in use")
    }
}

impl OpId {
    fn key(self) -> Key {
        Key::new(Kind::Op, self.slot, self.generation)
    }
}

/// Closes a descriptor through the ring: a close(2) here could overtake submissions that name its number.
fn close(fd: RawFd, driver: &mut Driver) {
    // SAFETY: a close points to no memory; the caller gave the descriptor away.
    unsafe { driver.push(Op::Close { fd }, Key::IGNORED) };
}
