//! The one-shot operations: one safe function each, which puts the memory into the payload and points the kernel there.
//!
//! They are submitted when the function is called, not at the first poll. Rooms above need no unsafe code for them.

#![allow(unsafe_code)]
#![allow(dead_code, reason = "datagram and Unix sockets follow")]

use std::os::fd::{OwnedFd, RawFd};
use std::rc::Rc;

use socket2::SockAddr;

use super::message::Message;
use super::operation::Operation;
use super::payload::{Memory, Payload};
use crate::driver::Op;
use crate::shard::Shard;

/// connect(2). The outcome's descriptor is `socket`.
pub(crate) fn connect(shard: &Rc<Shard>, socket: OwnedFd, address: SockAddr) -> Operation {
    let payload = Payload::new(socket, Memory::Address(Box::new(address)));
    // SAFETY: the address is the payload's.
    unsafe {
        Operation::submit(Rc::clone(shard), "connect", payload, |fd, memory| {
            let Memory::Address(address) = memory else { unreachable!("given above") };
            Op::Connect { fd, address: address.as_ptr().cast(), address_len: address.len() }
        })
    }
}

/// accept4(2) with SOCK_CLOEXEC. The result is the new descriptor, to be taken with
/// [`Outcome::into_descriptor`](super::operation::Outcome::into_descriptor).
pub(crate) fn accept(shard: &Rc<Shard>, listener: Rc<OwnedFd>) -> Operation {
    let payload = Payload::new(listener, Memory::None);
    // SAFETY: no address is asked for, so the operation points to no memory.
    unsafe {
        Operation::submit(Rc::clone(shard), "accept", payload, |fd, _| Op::Accept { fd, multishot: false })
    }
}

/// poll(2): waits until one of `events` is there. The result is those that are.
pub(crate) fn poll(shard: &Rc<Shard>, descriptor: Rc<OwnedFd>, events: u32) -> Operation {
    let payload = Payload::new(descriptor, Memory::None);
    // SAFETY: a poll points to no memory.
    unsafe {
        Operation::submit(Rc::clone(shard), "poll", payload, |fd, _| Op::Poll {
            fd,
            events,
            multishot: false,
        })
    }
}

/// The same for a descriptor that somebody else owns. If its future and the descriptor are dropped before the turn ends,
/// the number may be another file's by the time it is submitted; then nobody looks at the answer.
pub(crate) fn poll_number(shard: &Rc<Shard>, fd: RawFd, events: u32) -> Operation {
    let payload = Payload::default();
    // SAFETY: a poll points to no memory.
    let operation = unsafe {
        Operation::submit(Rc::clone(shard), "poll", payload, |_, _| Op::Poll { fd, events, multishot: false })
    };
    operation.waits_for_readiness(fd)
}

/// sendmsg(2). The result is the count; the message comes back in the payload.
pub(crate) fn send_message(
    shard: &Rc<Shard>,
    socket: Rc<OwnedFd>,
    message: Box<Message>,
    flags: u32,
) -> Operation {
    let payload = Payload::new(socket, Memory::Message(message));
    // SAFETY: the header and all that it points to are in the box or on the heap, owned by it.
    unsafe {
        Operation::submit(Rc::clone(shard), "sendmsg", payload, |fd, memory| {
            let Memory::Message(message) = memory else { unreachable!("given above") };
            Op::SendMessage { fd, message: message.header(), flags }
        })
    }
}

/// recvmsg(2). The result is the count; the message comes back in the payload.
pub(crate) fn receive_message(
    shard: &Rc<Shard>,
    socket: Rc<OwnedFd>,
    message: Box<Message>,
    flags: u32,
) -> Operation {
    let payload = Payload::new(socket, Memory::Message(message));
    // SAFETY: the header and all that it points to are in the box or on the heap, owned by it.
    unsafe {
        Operation::submit(Rc::clone(shard), "recvmsg", payload, |fd, memory| {
            let Memory::Message(message) = memory else { unreachable!("given above") };
            Op::ReceiveMessage { fd, message: message.header(), flags }
        })
    }
}
