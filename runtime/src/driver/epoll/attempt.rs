//! Carries one operation out, as far as it goes without waiting.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::RawFd;

use super::Parked;
use crate::driver::{CURRENT_POSITION, Op};

/// How an attempt went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attempt {
    /// The operation has ended: a count, a descriptor, or a negated errno.
    Done(i32),
    /// It has ended, and that is said by saying nothing.
    Silent,
    /// Its descriptor is not ready.
    WouldBlock,
    /// It cannot go on, and no readiness will say when it can.
    Later,
    /// No readiness is needed or known: it may wait for a disk.
    Blocks,
}

/// A connect that is under way, of a socket that was in blocking or in non-blocking mode.
const CONNECTING: u32 = 1;
const CONNECTING_NONBLOCKING: u32 = 2;

/// Tries. `done` is 0 at first and belongs to this function: how many bytes were sent, or how far a connect is.
///
/// # Safety
///
/// Memory that `op` points to is valid and unaliased during the call.
pub(super) unsafe fn attempt(op: &mut Op, done: &mut u32) -> Attempt {
    // "As above" below: pointers and lengths are the operation's, for which the caller vouches.
    match *op {
        Op::Accept { fd, .. } => {
            // Each time: the mode is that of every process that has the socket, and one with a ring takes it away.
            if let Err(error) = set_nonblocking(fd, true) {
                return Attempt::Done(-errno_of(&error));
            }
            let none = std::ptr::null_mut();
            // SAFETY: as above; no address is asked for.
            outcome(unsafe { libc::accept4(fd, none, none.cast(), libc::SOCK_CLOEXEC) } as isize)
        }
        // SAFETY: as above.
        Op::Connect { fd, address, address_len } => unsafe { connect(fd, address, address_len, done) },
        Op::ReceiveInto { fd, buffer, len } => {
            // SAFETY: as above.
            let result = outcome(unsafe { libc::recv(fd, buffer.cast(), len as usize, libc::MSG_DONTWAIT) });
            // It is asked for only after readiness, and says so if that was wrong.
            if result == Attempt::WouldBlock { Attempt::Done(-libc::EAGAIN) } else { result }
        }
        // SAFETY: as above.
        Op::Send { fd, bytes, len } | Op::SendZeroCopy { fd, bytes, len } => unsafe {
            send_all(fd, bytes, len, done)
        },
        Op::SendNow { fd, bytes, len } => {
            // SAFETY: as above.
            match unsafe { send(fd, bytes, len as usize) } {
                Attempt::Done(sent) if sent as u32 == len => Attempt::Silent,
                Attempt::WouldBlock => Attempt::Done(-libc::EAGAIN),
                result => result,
            }
        }
        Op::SendMessage { fd, message } => {
            // SAFETY: as above.
            outcome(unsafe { libc::sendmsg(fd, message, libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT) })
        }
        Op::ReceiveMessage { fd, message, flags } => {
            let asked = libc::MSG_CMSG_CLOEXEC | libc::MSG_DONTWAIT | flags as i32;
            // SAFETY: as above.
            match outcome(unsafe { libc::recvmsg(fd, message, asked) }) {
                Attempt::WouldBlock if flags as i32 & libc::MSG_DONTWAIT != 0 => Attempt::Done(-libc::EAGAIN),
                result => result,
            }
        }
        Op::Read { fd, buffer, len, offset: CURRENT_POSITION } => {
            let part = libc::iovec { iov_base: buffer.cast(), iov_len: len as usize };
            // SAFETY: as above; -1 is the file's own position.
            let result = outcome(unsafe { libc::preadv2(fd, &raw const part, 1, -1, libc::RWF_NOWAIT) });
            if !is_missing(result) {
                return result;
            }
            // A terminal, for example. It is readable, but somebody else may take what there is.
            Attempt::Blocks
        }
        Op::Write { fd, bytes, len, offset: CURRENT_POSITION } => {
            let part = libc::iovec { iov_base: bytes.cast_mut().cast(), iov_len: len as usize };
            // SAFETY: as above.
            let result = outcome(unsafe { libc::pwritev2(fd, &raw const part, 1, -1, libc::RWF_NOWAIT) });
            if !is_missing(result) {
                return result;
            }
            Attempt::Blocks
        }
        Op::Read { fd, buffer, len, offset } => {
            let part = libc::iovec { iov_base: buffer.cast(), iov_len: len as usize };
            let offset = offset as libc::off64_t;
            // SAFETY: as above.
            let read = unsafe { libc::preadv2(fd, &raw const part, 1, offset, libc::RWF_NOWAIT) };
            match outcome(read) {
                // All of it was in the page cache. Less may be the end of the file, or of what was.
                Attempt::Done(count) if count as u32 == len => Attempt::Done(count),
                Attempt::Done(errno) if errno == -libc::ESPIPE => without_position(op),
                _ => Attempt::Blocks,
            }
        }
        // Only positions tell a file from a pipe, which has none.
        // SAFETY: no memory is passed.
        Op::Write { fd, .. } if unsafe { libc::lseek64(fd, 0, libc::SEEK_CUR) } < 0 => without_position(op),
        Op::WaitChild { pidfd, info } => {
            let how = libc::WEXITED | libc::WNOHANG;
            // SAFETY: as above; a child that lives leaves the field alone (waitid(2)).
            let (result, child_lives) = unsafe {
                (*info).si_signo = 0;
                let result = libc::waitid(libc::P_PIDFD, pidfd as libc::id_t, info, how);
                (result, (*info).si_signo == 0)
            };
            match outcome(result as isize) {
                Attempt::Done(0) if child_lives => Attempt::WouldBlock,
                result => result,
            }
        }
        // SAFETY: the number was given away to be closed here.
        Op::Close { fd } => match unsafe { libc::close(fd) } {
            0 => Attempt::Silent,
            _ => Attempt::Done(-errno_of(&io::Error::last_os_error())),
        },
        Op::ReceiveSelect { .. } | Op::ReceiveMessages { .. } | Op::Ring { .. } => {
            Attempt::Done(-libc::EOPNOTSUPP)
        }
        Op::Poll { .. } => Attempt::WouldBlock,
        Op::Cancel { .. } | Op::Alarm { .. } => Attempt::Silent,
        _ => Attempt::Blocks,
    }
}

/// Whether this file, this kernel or this sandbox does not know RWF_NOWAIT.
fn is_missing(result: Attempt) -> bool {
    matches!(result, Attempt::Done(errno) if [libc::EOPNOTSUPP, libc::ENOSYS, libc::EPERM].contains(&-errno))
}

/// The ring takes the position away from operations on what has none. So does this, and it is waited for then.
fn without_position(op: &mut Op) -> Attempt {
    if let Op::Read { offset, .. } | Op::Write { offset, .. } = op {
        *offset = CURRENT_POSITION;
    }
    Attempt::WouldBlock
}

/// What an operation answers that is cancelled where it stands.
pub(super) fn cancelled(parked: &Parked) -> i32 {
    match parked.op {
        Op::Send { .. } if parked.done > 0 => parked.done as i32,
        Op::Connect { fd, .. } if parked.done == CONNECTING => {
            let _ = set_nonblocking(fd, false);
            -libc::ECANCELED
        }
        _ => -libc::ECANCELED,
    }
}

/// Carries out what may wait for a disk. To be called on a thread that may.
///
/// # Safety
///
/// As [`attempt`].
pub(super) unsafe fn block(op: &Op) -> i32 {
    const HERE: i32 = libc::AT_FDCWD;
    // SAFETY: pointers and lengths are the operation's, for which the caller vouches.
    let result = unsafe {
        match *op {
            Op::Open { path, flags, mode } => {
                libc::openat(HERE, path, flags | libc::O_CLOEXEC | libc::O_LARGEFILE, mode) as isize
            }
            Op::Read { fd, buffer, len, offset: CURRENT_POSITION } => {
                libc::read(fd, buffer.cast(), len as usize)
            }
            Op::Read { fd, buffer, len, offset } => {
                libc::pread64(fd, buffer.cast(), len as usize, offset as libc::off64_t)
            }
            Op::Write { fd, bytes, len, offset: CURRENT_POSITION } => {
                libc::write(fd, bytes.cast(), len as usize)
            }
            Op::Write { fd, bytes, len, offset } => {
                libc::pwrite64(fd, bytes.cast(), len as usize, offset as libc::off64_t)
            }
            Op::Sync { fd, data_only: true } => libc::fdatasync(fd) as isize,
            Op::Sync { fd, data_only: false } => libc::fsync(fd) as isize,
            Op::Truncate { fd, len } => libc::ftruncate64(fd, len as libc::off64_t) as isize,
            Op::Status { fd, path, flags, status } => {
                libc::statx(fd, path, flags, libc::STATX_BASIC_STATS | libc::STATX_BTIME, status) as isize
            }
            Op::Rename { from, to } => libc::renameat(HERE, from, HERE, to) as isize,
            Op::Unlink { path, flags } => libc::unlinkat(HERE, path, flags) as isize,
            Op::MakeDirectory { path, mode } => libc::mkdirat(HERE, path, mode) as isize,
            Op::Symlink { target, path } => libc::symlinkat(target, HERE, path) as isize,
            Op::Link { from, to } => libc::linkat(HERE, from, HERE, to, 0) as isize,
            _ => return -libc::EOPNOTSUPP,
        }
    };
    if result >= 0 { result as i32 } else { -errno_of(&io::Error::last_os_error()) }
}

/// # Safety
///
/// As [`attempt`], for `len` bytes.
unsafe fn send(fd: RawFd, bytes: *const u8, len: usize) -> Attempt {
    // SAFETY: passed on.
    outcome(unsafe { libc::send(fd, bytes.cast(), len, libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT) })
}

/// Goes on from byte `done` until all are taken.
///
/// # Safety
///
/// As [`attempt`].
unsafe fn send_all(fd: RawFd, bytes: *const u8, len: u32, done: &mut u32) -> Attempt {
    loop {
        // SAFETY: `done` is at most `len`.
        match unsafe { send(fd, bytes.add(*done as usize), (len - *done) as usize) } {
            Attempt::Done(sent) if sent >= 0 => {
                *done += sent as u32;
                if *done == len || sent == 0 {
                    return Attempt::Done(*done as i32);
                }
            }
            // What was taken was taken; the next one meets the error again.
            Attempt::Done(_) if *done > 0 => return Attempt::Done(*done as i32),
            result => return result,
        }
    }
}

/// # Safety
///
/// As [`attempt`].
unsafe fn connect(fd: RawFd, address: *const libc::sockaddr, len: u32, done: &mut u32) -> Attempt {
    if *done != 0 {
        // Asked, because what was reported may be another file's that had this number.
        let mut polled = libc::pollfd { fd, events: libc::POLLOUT, revents: 0 };
        // SAFETY: one entry, on this stack.
        if unsafe { libc::poll(&raw mut polled, 1, 0) } == 0 {
            return Attempt::WouldBlock;
        }
        if *done == CONNECTING {
            let _ = set_nonblocking(fd, false);
        }
        return Attempt::Done(-socket_error(fd));
    }
    let was_nonblocking = match set_nonblocking(fd, true) {
        Ok(was) => was,
        Err(error) => return Attempt::Done(-errno_of(&error)),
    };
    // SAFETY: passed on.
    let result = match unsafe { libc::connect(fd, address, len) } {
        0 => Attempt::Done(0),
        _ => match errno_of(&io::Error::last_os_error()) {
            libc::EINPROGRESS | libc::EINTR => {
                *done = if was_nonblocking { CONNECTING_NONBLOCKING } else { CONNECTING };
                return Attempt::WouldBlock;
            }
            // The backlog of a Unix socket is full.
            libc::EAGAIN => Attempt::Later,
            errno => Attempt::Done(-errno),
        },
    };
    if !was_nonblocking {
        let _ = set_nonblocking(fd, false);
    }
    result
}

/// SO_ERROR of socket(7), as an errno.
fn socket_error(fd: RawFd) -> i32 {
    let mut error: i32 = 0;
    let mut len = size_of::<i32>() as libc::socklen_t;
    // SAFETY: both pointers are to values of this frame, and `len` is the size of the first.
    let result = unsafe {
        libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_ERROR, (&raw mut error).cast(), &raw mut len)
    };
    if result == 0 { error } else { errno_of(&io::Error::last_os_error()) }
}

/// Sets O_NONBLOCK, or takes it away. Returns whether it was set.
fn set_nonblocking(fd: RawFd, nonblocking: bool) -> io::Result<bool> {
    // SAFETY: no memory is passed.
    let flags = unsafe { libc::fcntl(fd, libc::F_GETFL) };
    if flags < 0 {
        return Err(io::Error::last_os_error());
    }
    let was = flags & libc::O_NONBLOCK != 0;
    // SAFETY: no memory is passed.
    if was != nonblocking && unsafe { libc::fcntl(fd, libc::F_SETFL, flags ^ libc::O_NONBLOCK) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(was)
}

/// What a call has returned, with its errno.
fn outcome(result: isize) -> Attempt {
    if result >= 0 {
        return Attempt::Done(result as i32);
    }
    match errno_of(&io::Error::last_os_error()) {
        libc::EAGAIN => Attempt::WouldBlock,
        errno => Attempt::Done(-errno),
    }
}

fn errno_of(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(libc::EIO)
}
