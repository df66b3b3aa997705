//! The slab of one-shot operations: who waits, what came back, and the memory that the kernel may touch.

#![allow(unsafe_code)]

use std::os::fd::{IntoRawFd, OwnedFd};
use std::task::{Poll, Waker};

use crate::driver::{Driver, Event, GENERATION_MASK, Key, Kind, Op};
use crate::socket::Wakes;

/// What an operation owns until its last completion.
#[derive(Debug)]
pub(crate) enum Payload {
    /// A connecting socket and the address the kernel reads.
    Connect { socket: OwnedFd, address: Box<socket2::SockAddr> },
    /// A descriptor kept open while its readiness is awaited.
    #[expect(dead_code, reason = "the readiness watch uses it")]
    Poll { fd: OwnedFd },
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
    state: State,
    waiter: Option<Waker>,
    payload: Option<Payload>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Free,
    Waiting,
    Done(i32),
    Orphaned,
}

/// All one-shot operations of a core.
#[derive(Debug, Default)]
pub(crate) struct Ops {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

impl Ops {
    /// Submits an operation on `payload`; `op` describes it, given the payload where it will stay.
    pub(crate) fn submit(&mut self, payload: Payload, op: impl FnOnce(&Payload) -> Op, driver: &mut Driver) -> OpId {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, state: State::Free, waiter: None, payload: None });
            (self.slots.len() - 1) as u32
        });
        let entry = &mut self.slots[slot as usize];
        entry.state = State::Waiting;
        let op = op(entry.payload.insert(payload));
        let id = OpId { slot, generation: entry.generation };
        // SAFETY: what `op` points to is owned by the payload on the heap and stays until the last completion.
        unsafe { driver.push(op, Key::new(Kind::Op, slot, id.generation)) };
        id
    }

    /// The outcome, once it is there. The waker that was registered before comes back in `old`.
    pub(crate) fn poll(&mut self, id: OpId, waker: Waker, old: &mut Option<Waker>) -> Poll<Outcome> {
        let slot = &mut self.slots[id.slot as usize];
        debug_assert_eq!(slot.generation, id.generation);
        match slot.state {
            State::Done(result) => {
                *old = Some(waker);
                let payload = slot.payload.take().expect("an operation keeps its payload");
                self.release(id);
                Poll::Ready(Outcome { result, payload })
            }
            _ => {
                *old = slot.waiter.replace(waker);
                Poll::Pending
            }
        }
    }

    /// The future is gone. Returns its waker, to be dropped when nothing is borrowed.
    pub(crate) fn forget(&mut self, id: OpId, driver: &mut Driver) -> Option<Waker> {
        let slot = self.slots.get_mut(id.slot as usize).filter(|slot| slot.generation == id.generation)?;
        let waker = slot.waiter.take();
        match slot.state {
            State::Waiting => {
                slot.state = State::Orphaned;
                let target = Key::new(Kind::Op, id.slot, id.generation);
                // SAFETY: a cancellation points to no memory.
                unsafe { driver.push(Op::Cancel { target }, Key::IGNORED) };
            }
            State::Done(_) => {
                let payload = slot.payload.take();
                self.release(id);
                close(payload, driver);
            }
            State::Free | State::Orphaned => {}
        }
        waker
    }

    /// Takes the completion in.
    pub(crate) fn handle_event(&mut self, event: Event, driver: &mut Driver, wakes: &mut Wakes) {
        let slot = &mut self.slots[event.key.slot() as usize];
        debug_assert_eq!(slot.generation, event.key.generation(), "a completion arrives before its slot is reused");
        match slot.state {
            State::Waiting => {
                slot.state = State::Done(event.result);
                wakes.push(&mut slot.waiter);
            }
            State::Orphaned => {
                let payload = slot.payload.take();
                self.release(OpId { slot: event.key.slot(), generation: event.key.generation() });
                close(payload, driver);
            }
            State::Free | State::Done(_) => unreachable!("a one-shot operation completes once"),
        }
    }

    fn release(&mut self, id: OpId) {
        let slot = &mut self.slots[id.slot as usize];
        slot.state = State::Free;
        slot.generation = slot.generation.wrapping_add(1) & GENERATION_MASK;
        self.free.push(id.slot);
    }

    /// Operations that are waited for, done and not taken, or dying.
    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Forgets every operation, for shutdown. Returns their wakers.
    pub(crate) fn cancel_all(&mut self, driver: &mut Driver) -> Vec<Option<Waker>> {
        let ids: Vec<_> = (0..self.slots.len())
            .map(|slot| OpId { slot: slot as u32, generation: self.slots[slot].generation })
            .collect();
        ids.into_iter().map(|id| self.forget(id, driver)).collect()
    }
}

/// Closes a payload's descriptor through the ring: a close(2) here could overtake submissions that name its number.
fn close(payload: Option<Payload>, driver: &mut Driver) {
    if let Some(Payload::Connect { socket: fd, .. } | Payload::Poll { fd }) = payload {
        let fd = fd.into_raw_fd();
        // SAFETY: a close points to no memory; the payload gave its descriptor away.
        unsafe { driver.push(Op::Close { fd }, Key::IGNORED) };
    }
}
