//! Asking the kernel what it can do, by its feature bits, its list of opcodes, and by trying.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

use io_uring::{IoUring, Probe, opcode};

use super::{Capabilities, Feature, Uring};
use crate::driver::{Key, Kind, Op, Wait};

/// Opcodes without which there is no runtime; all are older than `IORING_FEAT_EXT_ARG` (5.11).
const REQUIRED: [(u8, &str); 16] = [
    (opcode::Accept::CODE, "accept"),
    (opcode::Connect::CODE, "connect"),
    (opcode::Recv::CODE, "recv"),
    (opcode::Send::CODE, "send"),
    (opcode::RecvMsg::CODE, "recvmsg"),
    (opcode::SendMsg::CODE, "sendmsg"),
    (opcode::OpenAt::CODE, "openat"),
    (opcode::Read::CODE, "read"),
    (opcode::Write::CODE, "write"),
    (opcode::Fsync::CODE, "fsync"),
    (opcode::Statx::CODE, "statx"),
    (opcode::RenameAt::CODE, "renameat"),
    (opcode::UnlinkAt::CODE, "unlinkat"),
    (opcode::PollAdd::CODE, "poll_add"),
    (opcode::Close::CODE, "close"),
    (opcode::AsyncCancel::CODE, "async_cancel"),
];

/// Removes from `capabilities` what the kernel does not have. Gives its list of opcodes.
///
/// # Errors
///
/// When something is missing for which there is no fallback.
pub(super) fn features(ring: &IoUring, capabilities: &mut Capabilities) -> io::Result<Probe> {
    let parameters = ring.params();
    if !parameters.is_feature_ext_arg() || !parameters.is_feature_nodrop() {
        return Err(too_old("waiting with a time limit"));
    }
    let mut probe = Probe::new();
    ring.submitter().register_probe(&mut probe)?;
    for (code, name) in REQUIRED {
        if !probe.is_supported(code) {
            return Err(too_old(name));
        }
    }
    let mut keep = |feature, present: bool| {
        if !present {
            capabilities.remove(feature);
        }
    };
    keep(Feature::MinWait, parameters.is_feature_min_timeout());
    // ABS_TIMER has no bit of its own; it came with min-wait in 6.12.
    keep(Feature::AbsTimer, parameters.is_feature_min_timeout());
    keep(Feature::NoIowait, parameters.is_feature_no_iowait());
    keep(Feature::SkipSuccess, parameters.is_feature_skip_cqe_on_success());
    // Silence about what went well is what makes it worth it. A ring that only one thread submits to gets messages without a
    // detour through that thread from 6.10 on, for which there is no bit.
    keep(
        Feature::MsgRing,
        probe.is_supported(opcode::MsgRingData::CODE)
            && parameters.is_feature_skip_cqe_on_success()
            && parameters.is_feature_min_timeout(),
    );
    keep(Feature::Ftruncate, probe.is_supported(opcode::Ftruncate::CODE));
    keep(Feature::WaitId, probe.is_supported(opcode::WaitId::CODE));
    keep(Feature::PathOps, probe.is_supported(opcode::LinkAt::CODE));
    // With the opcode that came in 6.1, as did a mend: in 6.0 the two events of a send could come in the wrong order.
    keep(Feature::SendZeroCopy, probe.is_supported(opcode::SendMsgZc::CODE));
    // Multishot variants have no bit either: accept's came with the socket opcode (5.19), receive's with send_zc (6.0).
    keep(Feature::AcceptMultishot, probe.is_supported(opcode::Socket::CODE));
    keep(Feature::ReceiveMultishot, probe.is_supported(opcode::SendZc::CODE));
    keep(Feature::MessageMultishot, probe.is_supported(opcode::SendZc::CODE));
    // Multishot receive delivers into provided buffers only; without them readiness is asked for first.
    if !capabilities.has(Feature::BufferRing) {
        capabilities.remove(Feature::ReceiveMultishot);
        capabilities.remove(Feature::MessageMultishot);
    }
    Ok(probe)
}

fn too_old(missing: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::Unsupported,
        format!(
            "cannot create an io_uring: this kernel's io_uring lacks {missing}; Linux 5.11 or newer is needed"
        ),
    )
}

/// Tries, on a socket pair, what [`Op::SendNow`] relies on: no event when all bytes were taken, and an event at once,
/// with the short count or EAGAIN, when they were not.
pub(super) fn sends_that_never_wait(uring: &mut Uring) -> io::Result<bool> {
    /// More than a socket pair ever buffers, so that the send is short.
    const TOO_MUCH: usize = 4 << 20;
    let (ours, theirs) = UnixStream::pair()?;
    let bytes = vec![0_u8; TOO_MUCH];
    let mut try_send = |len: usize| -> io::Result<Option<i32>> {
        let op = Op::SendNow { fd: ours.as_raw_fd(), bytes: bytes.as_ptr(), len: len as u32 };
        // SAFETY: `bytes` lives until this function returns, and is leaked if the kernel may hold on to it.
        unsafe { uring.push(op, Key::new(Kind::Send, 0, 0)) };
        uring.wait(Wait::No)?;
        Ok(uring.next_event().map(|event| event.result))
    };
    let (whole, short, full) = (try_send(1)?, try_send(TOO_MUCH)?, try_send(1)?);
    drop(theirs);
    let short_as_expected = short.is_some_and(|count| count > 0 && (count as usize) < TOO_MUCH);
    let as_expected = whole.is_none() && short_as_expected && full == Some(-libc::EAGAIN);
    if !as_expected {
        std::mem::forget(bytes);
    }
    Ok(as_expected)
}

/// Tries what [`Op::Ring`] relies on: a message to a ring arrives there and says nothing here, one to something else fails at once.
pub(super) fn messages_that_arrive(uring: &mut Uring) -> io::Result<bool> {
    let (no_ring, _other) = UnixStream::pair()?;
    let key = Key::new(Kind::Ring, 0, 0);
    let ring = uring.fd;
    let mut try_message = |fd| -> io::Result<[Option<(Key, i32)>; 2]> {
        // SAFETY: a message points to no memory.
        unsafe { uring.push(Op::Ring { fd }, key) };
        // Twice: what the first brings to this very ring may be posted by the second.
        uring.wait(Wait::No)?;
        uring.wait(Wait::No)?;
        Ok(std::array::from_fn(|_| uring.next_event().map(|event| (event.key, event.result))))
    };
    let refused = try_message(no_ring.as_raw_fd())?;
    let arrived = try_message(ring)?;
    Ok(refused == [Some((key, -libc::EBADFD)), None] && arrived == [Some((Key::IGNORED, 0)), None])
}
