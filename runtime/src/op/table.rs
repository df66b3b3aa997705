//! The slab of one-shot operations: who waits, what came back, and the memory that the kernel may touch.

#![allow(unsafe_code)]

use std::os::fd::{IntoRawFd, OwnedFd};
use std::task::{Poll, Waker};

use super::lifecycle::{Completion, Lifecycle, OnCompletion, OnDrop, OnPoll};
use crate::driver::{Driver, Event, GENERATION_MASK, Key, Kind, Op};
use crate::socket::Wakes;

/// What an operation owns until its last completion.
#[derive(Debug)]
pub(crate) enum Payload {
    /// A connecting socket and the address the kernel reads.
    Connect { socket: OwnedFd, address: Box<socket2::SockAddr> },
}

/// The result of an operation, with its payload.
pub(crate) struct Outcome {
    pub(crate) result: i32,
    pub(crate) payload: Payload,
}

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
    payload: Option<Payload>,
}

/// All one-shot operations of a core.
#[derive(Debug, Default)]
pub(crate) struct Ops {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

impl Ops {
    /// Submits an operation on `payload`; `op` describes it, given the payload where it will stay.
    pub(crate) fn submit(
        &mut self,
        payload: Payload,
        op: impl FnOnce(&Payload) -> Op,
        driver: &mut Driver,
    ) -> OpId {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, lifecycle: None, waiter: None, payload: None });
            (self.slots.len() - 1) as u32
        });
        let entry = &mut self.slots[slot as usize];
        entry.lifecycle = Some(Lifecycle::one_shot());
        let op = op(entry.payload.insert(payload));
        let id = OpId { slot, generation: entry.generation };
        // SAFETY: what `op` points to is owned by the payload on the heap and stays until the last completion.
        unsafe { driver.push(op, id.key()) };
        id
    }

    /// The outcome, once it is there. The waker that was registered before comes back in `old`.
    pub(crate) fn poll(&mut self, id: OpId, waker: Waker, old: &mut Option<Waker>) -> Poll<Outcome> {
        let slot = self.find(id).expect("an operation lives as long as its future");
        match slot.lifecycle.as_mut().expect("found slots are in use").handle_poll() {
            OnPoll::Pending => {
                *old = slot.waiter.replace(waker);
                Poll::Pending
            }
            OnPoll::Ready { completion, free } => {
                debug_assert!(free, "one-shot operations complete once");
                *old = Some(waker);
                let payload = self.free(id);
                Poll::Ready(Outcome { result: completion.result, payload })
            }
            OnPoll::Ended => unreachable!("a one-shot operation ends with its result"),
        }
    }

    /// The future is gone. Returns its waker, to be dropped when nothing is borrowed.
    pub(crate) fn forget(&mut self, id: OpId, driver: &mut Driver) -> Option<Waker> {
        // Orphaned already: its loop ended while the future lived on.
        let slot = self.find(id).filter(|slot| slot.lifecycle != Some(Lifecycle::Orphaned))?;
        let waker = slot.waiter.take();
        match slot.lifecycle.as_mut().expect("found slots are in use").handle_drop() {
            // SAFETY: a cancellation points to no memory.
            OnDrop::RequestCancel => unsafe { driver.push(Op::Cancel { target: id.key() }, Key::IGNORED) },
            OnDrop::Reclaim { free: true, .. } | OnDrop::Free => reclaim(self.free(id), driver),
            OnDrop::Reclaim { free: false, .. } => unreachable!("one-shot operations complete once"),
        }
        waker
    }

    /// Takes the completion in.
    pub(crate) fn handle_event(&mut self, event: Event, driver: &mut Driver, wakes: &mut Wakes) {
        let id = OpId { slot: event.key.slot(), generation: event.key.generation() };
        let slot = self.find(id).expect("a completion arrives before its slot is reused");
        let completion = Completion { result: event.result, flags: 0 };
        match slot
            .lifecycle
            .as_mut()
            .expect("found slots are in use")
            .handle_completion(completion, event.more)
        {
            OnCompletion::Wake => wakes.push(&mut slot.waiter),
            OnCompletion::Reclaim { free: true, .. } => reclaim(self.free(id), driver),
            OnCompletion::Reclaim { free: false, .. } | OnCompletion::Deliver(_) => {
                unreachable!("one-shot operations complete once")
            }
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
        slot.payload.take().expect("an operation keeps its payload until it is freed")
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
}

impl OpId {
    fn key(self) -> Key {
        Key::new(Kind::Op, self.slot, self.generation)
    }
}

/// Closes a payload's descriptor through the ring: a close(2) here could overtake submissions that name its number.
fn reclaim(payload: Payload, driver: &mut Driver) {
    let Payload::Connect { socket, .. } = payload;
    let fd = socket.into_raw_fd();
    // SAFETY: a close points to no memory; the payload gave its descriptor away.
    unsafe { driver.push(Op::Close { fd }, Key::IGNORED) };
}
