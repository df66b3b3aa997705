//! The one-shot operations: one safe function each, which puts the memory into the payload and points the kernel there.
//!
//! They are submitted when the function is called, not at the first poll. Rooms above need no unsafe code for them.

#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::rc::Rc;

use socket2::SockAddr;

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

/// Watches for errors and a hang-up of both sides of a descriptor that somebody else owns, as [`poll_number`] does for readiness. The
/// orderly end of one side, which the ring tells whoever polls, does not end it. Done with ECANCELED when there was one; with EINVAL
/// before Linux 5.13, which cannot go on polling.
pub(crate) fn watch_number(shard: &Rc<Shard>, fd: RawFd) -> Operation {
    let payload = Payload::default();
    // SAFETY: a poll points to no memory.
    let operation = unsafe {
        Operation::submit(Rc::clone(shard), "watch", payload, |_, _| Op::Poll {
            fd,
            events: 0,
            multishot: true,
        })
    };
    operation.waits_for_readiness(fd)
}

/// Whether a poll says that there is an error, or that both sides have ended.
pub(crate) fn is_hung_up(events: i32) -> bool {
    events > 0 && events & i32::from(libc::POLLERR | libc::POLLHUP) != 0
}

/// What one read or write moves at the most: the kernel's own limit, MAX_RW_COUNT of read(2).
const MOVED_MAX: usize = 0x7fff_f000;

/// pread(2) into `buffer[from..]`, or read(2) with [`CURRENT_POSITION`](crate::driver::CURRENT_POSITION).
///
/// # Panics
///
/// When `buffer` is no buffer, or shorter than `from`.
#[inline]
pub(crate) fn read(
    shard: &Rc<Shard>,
    file: Rc<OwnedFd>,
    buffer: Memory,
    from: usize,
    offset: u64,
) -> Operation {
    // SAFETY: the bytes are the payload's, on the heap.
    unsafe {
        Operation::submit(Rc::clone(shard), "read", Payload::new(file, buffer), |fd, memory| {
            let rest = &mut memory.buffer()[from..];
            Op::Read { fd, buffer: rest.as_mut_ptr(), len: rest.len().min(MOVED_MAX) as u32, offset }
        })
    }
}

/// pwrite(2) of `buffer[from..]`, or write(2) with [`CURRENT_POSITION`](crate::driver::CURRENT_POSITION).
///
/// # Panics
///
/// As [`read`].
#[inline]
pub(crate) fn write(
    shard: &Rc<Shard>,
    file: Rc<OwnedFd>,
    buffer: Memory,
    from: usize,
    offset: u64,
) -> Operation {
    // SAFETY: the bytes are the payload's, on the heap.
    unsafe {
        Operation::submit(Rc::clone(shard), "write", Payload::new(file, buffer), |fd, memory| {
            let rest = &memory.buffer()[from..];
            Op::Write { fd, bytes: rest.as_ptr(), len: rest.len().min(MOVED_MAX) as u32, offset }
        })
    }
}

/// fsync(2), or fdatasync(2).
pub(crate) fn sync(shard: &Rc<Shard>, file: Rc<OwnedFd>, data_only: bool) -> Operation {
    let payload = Payload::new(file, Memory::None);
    // SAFETY: it points to no memory.
    unsafe { Operation::submit(Rc::clone(shard), "fsync", payload, |fd, _| Op::Sync { fd, data_only }) }
}

/// ftruncate(2).
pub(crate) fn truncate(shard: &Rc<Shard>, file: Rc<OwnedFd>, len: u64) -> Operation {
    let payload = Payload::new(file, Memory::None);
    // SAFETY: it points to no memory.
    unsafe { Operation::submit(Rc::clone(shard), "ftruncate", payload, |fd, _| Op::Truncate { fd, len }) }
}

/// openat(2); see [`Outcome::into_descriptor`](super::operation::Outcome::into_descriptor).
pub(crate) fn open(shard: &Rc<Shard>, path: CString, flags: i32, mode: u32) -> Operation {
    on_path(shard, "openat", path, |path| Op::Open { path, flags, mode })
}

/// unlinkat(2).
pub(crate) fn unlink(shard: &Rc<Shard>, path: CString, flags: i32) -> Operation {
    on_path(shard, "unlinkat", path, |path| Op::Unlink { path, flags })
}

/// mkdirat(2).
pub(crate) fn make_directory(shard: &Rc<Shard>, path: CString, mode: u32) -> Operation {
    on_path(shard, "mkdirat", path, |path| Op::MakeDirectory { path, mode })
}

/// renameat(2).
pub(crate) fn rename(shard: &Rc<Shard>, from: CString, to: CString) -> Operation {
    on_paths(shard, "renameat", from, to, |from, to| Op::Rename { from, to })
}

/// symlinkat(2): `path` is made to point to `target`.
pub(crate) fn symlink(shard: &Rc<Shard>, target: CString, path: CString) -> Operation {
    on_paths(shard, "symlinkat", target, path, |target, path| Op::Symlink { target, path })
}

/// linkat(2): `to` becomes another name of `from`.
pub(crate) fn link(shard: &Rc<Shard>, from: CString, to: CString) -> Operation {
    on_paths(shard, "linkat", from, to, |from, to| Op::Link { from, to })
}

fn on_path(
    shard: &Rc<Shard>,
    name: &'static str,
    path: CString,
    op: impl FnOnce(*const libc::c_char) -> Op,
) -> Operation {
    let payload = Payload { memory: Memory::Path(path), ..Payload::default() };
    // SAFETY: the path is the payload's, on the heap, and ends with its NUL.
    unsafe {
        Operation::submit(Rc::clone(shard), name, payload, |_, memory| {
            let Memory::Path(path) = memory else { unreachable!("given above") };
            op(path.as_ptr())
        })
    }
}

fn on_paths(
    shard: &Rc<Shard>,
    name: &'static str,
    from: CString,
    to: CString,
    op: impl FnOnce(*const libc::c_char, *const libc::c_char) -> Op,
) -> Operation {
    let payload = Payload { memory: Memory::Paths(from, to), ..Payload::default() };
    // SAFETY: both paths are the payload's, on the heap, and end with their NULs.
    unsafe {
        Operation::submit(Rc::clone(shard), name, payload, |_, memory| {
            let Memory::Paths(from, to) = memory else { unreachable!("given above") };
            op(from.as_ptr(), to.as_ptr())
        })
    }
}

/// statx(2) of a path; the answer is in the payload.
pub(crate) fn status(shard: &Rc<Shard>, path: CString, flags: i32) -> Operation {
    status_at(shard, Payload::default(), path, flags)
}

/// statx(2) of an open file; the answer is in the payload.
pub(crate) fn file_status(shard: &Rc<Shard>, file: Rc<OwnedFd>) -> Operation {
    let payload = Payload::new(file, Memory::None);
    status_at(shard, payload, CStr::to_owned(c""), libc::AT_EMPTY_PATH)
}

fn status_at(shard: &Rc<Shard>, mut payload: Payload, path: CString, flags: i32) -> Operation {
    // SAFETY: `statx` is plain data for which zeros are valid.
    payload.memory = Memory::Status(Box::new((path, unsafe { std::mem::zeroed() })));
    // SAFETY: path and answer are in the payload's box; the path's bytes are on the heap as well.
    unsafe {
        Operation::submit(Rc::clone(shard), "statx", payload, |fd, memory| {
            let Memory::Status(parts) = memory else { unreachable!("given above") };
            let fd = if flags & libc::AT_EMPTY_PATH == 0 { libc::AT_FDCWD } else { fd };
            Op::Status { fd, path: parts.0.as_ptr(), flags, status: &raw mut parts.1 }
        })
    }
}

/// waitid(2) of the child behind `pidfd`; how it ended is in the payload.
pub(crate) fn wait_child(shard: &Rc<Shard>, pidfd: Rc<OwnedFd>) -> Operation {
    // SAFETY: `siginfo_t` is plain data for which zeros are valid.
    let payload = Payload::new(pidfd, Memory::Child(Box::new(unsafe { std::mem::zeroed() })));
    // SAFETY: the answer is in the payload's box.
    unsafe {
        Operation::submit(Rc::clone(shard), "waitid", payload, |pidfd, memory| {
            let Memory::Child(info) = memory else { unreachable!("given above") };
            Op::WaitChild { pidfd, info: &raw mut **info }
        })
    }
}

/// How a child ended, from what waitid(2) wrote, packed as wait(2) does.
pub(crate) fn child_end(info: &libc::siginfo_t) -> ExitStatus {
    // SAFETY: waitid(2) fills the fields of SIGCHLD, of which this is one.
    let status = unsafe { info.si_status() };
    ExitStatus::from_raw(match info.si_code {
        libc::CLD_EXITED => (status & 0xff) << 8,
        libc::CLD_DUMPED => status | 0x80,
        _ => status,
    })
}
