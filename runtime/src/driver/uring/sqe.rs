//! From an [`Op`] to a submission entry.

#![deny(unsafe_code)]

use io_uring::types::{Fd, FsyncFlags, TimeoutFlags, Timespec};
use io_uring::{opcode, squeue};

use super::{Capabilities, Feature};
use crate::driver::{BufferGroup, Key, Op};

/// `MSG_WAITALL`: the kernel goes on until all bytes are taken, so that one completion means "all sent".
const SEND_ALL: i32 = libc::MSG_NOSIGNAL | libc::MSG_WAITALL;

#[inline]
pub(super) fn entry(
    op: Op,
    key: Key,
    capabilities: &Capabilities,
    alarm: &mut Timespec,
    message: &libc::msghdr,
) -> squeue::Entry {
    // Cancellations and closes are fire and forget: their success is seen in the operation they end.
    let quiet = if capabilities.has(Feature::SkipSuccess) {
        squeue::Flags::SKIP_SUCCESS
    } else {
        squeue::Flags::empty()
    };
    let entry = match op {
        Op::Accept { fd, multishot: true } => {
            opcode::AcceptMulti::new(Fd(fd)).flags(libc::SOCK_CLOEXEC).build()
        }
        Op::Accept { fd, multishot: false } => {
            opcode::Accept::new(Fd(fd), std::ptr::null_mut(), std::ptr::null_mut())
                .flags(libc::SOCK_CLOEXEC)
                .build()
        }
        Op::Connect { fd, address, address_len } => {
            opcode::Connect::new(Fd(fd), address, address_len).build()
        }
        Op::ReceiveSelect { fd, group, multishot: true } => {
            opcode::RecvMulti::new(Fd(fd), group as u16).build()
        }
        Op::ReceiveSelect { fd, group, multishot: false } => {
            opcode::Recv::new(Fd(fd), std::ptr::null_mut(), 0)
                .buf_group(group as u16)
                .build()
                .flags(squeue::Flags::BUFFER_SELECT)
        }
        Op::ReceiveMessages { fd } => {
            opcode::RecvMsgMulti::new(Fd(fd), message, BufferGroup::Datagrams as u16).build()
        }
        Op::ReceiveInto { fd, buffer, len } => {
            opcode::Recv::new(Fd(fd), buffer, len).flags(libc::MSG_DONTWAIT).build()
        }
        Op::Send { fd, bytes, len } => opcode::Send::new(Fd(fd), bytes, len).flags(SEND_ALL).build(),
        // MSG_DONTWAIT marks the request as one that never waits (REQ_F_NOWAIT in the kernel): it is carried out or
        // failed while it is submitted, and never kept for later. `probe` makes sure of it before it is relied on.
        Op::SendNow { fd, bytes, len } => opcode::Send::new(Fd(fd), bytes, len)
            .flags(SEND_ALL | libc::MSG_DONTWAIT)
            .build()
            .flags(squeue::Flags::SKIP_SUCCESS),
        Op::SendZeroCopy { fd, bytes, len } => {
            opcode::SendZc::new(Fd(fd), bytes, len).flags(SEND_ALL).build()
        }
        Op::SendMessage { fd, message } => {
            opcode::SendMsg::new(Fd(fd), message).flags(libc::MSG_NOSIGNAL as u32).build()
        }
        Op::ReceiveMessage { fd, message, flags } => {
            opcode::RecvMsg::new(Fd(fd), message).flags(libc::MSG_CMSG_CLOEXEC as u32 | flags).build()
        }
        Op::Open { path, flags, mode } => opcode::OpenAt::new(Fd(libc::AT_FDCWD), path)
            .flags(flags | libc::O_CLOEXEC | libc::O_LARGEFILE)
            .mode(mode)
            .build(),
        Op::Read { fd, buffer, len, offset } => opcode::Read::new(Fd(fd), buffer, len).offset(offset).build(),
        Op::Write { fd, bytes, len, offset } => opcode::Write::new(Fd(fd), bytes, len).offset(offset).build(),
        Op::Sync { fd, data_only } => {
            let flags = if data_only { FsyncFlags::DATASYNC } else { FsyncFlags::empty() };
            opcode::Fsync::new(Fd(fd)).flags(flags).build()
        }
        Op::Truncate { fd, len } => opcode::Ftruncate::new(Fd(fd), len).build(),
        Op::Status { fd, path, flags, status } => opcode::Statx::new(Fd(fd), path, status.cast())
            .flags(flags)
            .mask(libc::STATX_BASIC_STATS | libc::STATX_BTIME)
            .build(),
        Op::Rename { from, to } => {
            opcode::RenameAt::new(Fd(libc::AT_FDCWD), from, Fd(libc::AT_FDCWD), to).build()
        }
        Op::Unlink { path, flags } => opcode::UnlinkAt::new(Fd(libc::AT_FDCWD), path).flags(flags).build(),
        Op::MakeDirectory { path, mode } => opcode::MkDirAt::new(Fd(libc::AT_FDCWD), path).mode(mode).build(),
        Op::Symlink { target, path } => opcode::SymlinkAt::new(Fd(libc::AT_FDCWD), target, path).build(),
        Op::Link { from, to } => {
            opcode::LinkAt::new(Fd(libc::AT_FDCWD), from, Fd(libc::AT_FDCWD), to).build()
        }
        Op::WaitChild { pidfd, info } => {
            opcode::WaitId::new(libc::P_PIDFD, pidfd as u32, libc::WEXITED).infop(info).build()
        }
        Op::Poll { fd, events, multishot } => opcode::PollAdd::new(Fd(fd), events).multi(multishot).build(),
        // What arrives there is nobody's: that something arrives is all.
        Op::Ring { fd } => {
            opcode::MsgRingData::new(Fd(fd), 0, Key::IGNORED.bits(), None).build().flags(quiet)
        }
        Op::Alarm { deadline } => {
            *alarm = timespec(deadline);
            opcode::Timeout::new(alarm).flags(TimeoutFlags::ABS).build()
        }
        Op::Close { fd } => opcode::Close::new(Fd(fd)).build().flags(quiet),
        Op::Cancel { target } => opcode::AsyncCancel::new(target.bits()).build().flags(quiet),
    };
    entry.user_data(key.bits())
}

/// Nanoseconds as the kernel's `struct __kernel_timespec`.
pub(super) fn timespec(nanos: u64) -> Timespec {
    Timespec::new().sec(nanos / 1_000_000_000).nsec((nanos % 1_000_000_000) as u32)
}
