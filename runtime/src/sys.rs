//! The few system calls that have no safe wrapper in rustix or socket2, and the clock.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

/// Nanoseconds of CLOCK_MONOTONIC, the clock that io_uring's deadlines count in.
#[inline]
pub(crate) fn monotonic_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// A duration in nanoseconds; five hundred years and more are the same.
#[inline]
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// SO_PEERCRED of unix(7). (rustix has it with a process number that must not be zero, which it is for a peer outside of
/// this PID namespace.)
pub(crate) fn peer_credentials(socket: BorrowedFd<'_>) -> io::Result<libc::ucred> {
    let mut credentials = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut len = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: both pointers are to initialised values of this frame, and `len` is the size of the first.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut credentials).cast(),
            &raw mut len,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(credentials)
}

/// Whether the page cache has these bytes of a file, so that nobody waits for a disk who looks at them. cachestat(2) (Linux 6.5)
/// counts pages that are still being read, in the order of the file, hence the look at the last byte with RWF_NOWAIT of preadv2(2).
/// "No" where the kernel does not say.
pub(crate) fn is_cached(file: BorrowedFd<'_>, offset: u64, len: usize) -> bool {
    /// `struct cachestat_range` of linux/mman.h.
    #[repr(C)]
    struct Bytes {
        offset: u64,
        len: u64,
    }
    /// `struct cachestat` of linux/mman.h.
    #[repr(C)]
    #[derive(Default)]
    struct Pages {
        cached: u64,
        dirty: u64,
        writeback: u64,
        evicted: u64,
        recently_evicted: u64,
    }
    /// On every architecture that Rust has but Alpha's; libc names it for some.
    const SYS_CACHESTAT: libc::c_long = 451;
    let Some(last) = offset.checked_add(len as u64).and_then(|end| end.checked_sub(1)) else { return false };
    if len == 0 {
        return true;
    }
    let bytes = Bytes { offset, len: len as u64 };
    let mut pages = Pages::default();
    // SAFETY: both pointers are to values of this frame that are laid out as the kernel's; the flags have to be 0.
    let result =
        unsafe { libc::syscall(SYS_CACHESTAT, file.as_raw_fd(), &raw const bytes, &raw mut pages, 0) };
    let page = rustix::param::page_size() as u64;
    if result != 0 || pages.cached != last / page - offset / page + 1 {
        return false;
    }
    let mut byte = [0];
    let buffers = &mut [io::IoSliceMut::new(&mut byte)];
    matches!(rustix::io::preadv2(file, buffers, last, rustix::io::ReadWriteFlags::NOWAIT), Ok(1))
}

/// SO_ATTACH_REUSEPORT_CBPF of socket(7): `program` chooses the socket of the group. (socket2 attaches filters of packets only.)
pub(crate) fn attach_reuseport_filter(
    socket: BorrowedFd<'_>,
    program: &[libc::sock_filter],
) -> io::Result<()> {
    let len = u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let program = libc::sock_fprog { len, filter: program.as_ptr().cast_mut() };
    // SAFETY: the pointer is to a value of this frame that names `len` instructions, which the kernel copies.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_REUSEPORT_CBPF,
            (&raw const program).cast(),
            size_of_val(&program) as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// SO_DETACH_REUSEPORT_BPF (Linux 5.3): no program chooses any more.
pub(crate) fn detach_reuseport_filter(socket: BorrowedFd<'_>) -> io::Result<()> {
    let unused: libc::c_int = 0;
    // SAFETY: the pointer is to a value of this frame, with its length.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_DETACH_REUSEPORT_BPF,
            (&raw const unused).cast(),
            size_of_val(&unused) as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// sendmsg(2) with UDP_SEGMENT of udp(7): `bytes` leave as datagrams of `segment` bytes. Never waits.
pub(crate) fn send_segments(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    segment: u16,
    to: Option<&socket2::SockAddr>,
) -> io::Result<usize> {
    // SAFETY: CMSG_SPACE and CMSG_LEN only compute.
    const SPACE: usize = unsafe { libc::CMSG_SPACE(size_of::<u16>() as u32) } as usize;
    let mut control = [0_u64; SPACE.div_ceil(8)];
    let mut vector = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: `msghdr` is plain data for which zeros are valid. Every pointer is to a value of this frame, or borrowed for
    // longer, with its length. `control` is aligned and has room for one header and its data, which `CMSG_FIRSTHDR` finds.
    let sent = unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        if let Some(to) = to {
            message.msg_name = to.as_ptr().cast_mut().cast();
            message.msg_namelen = to.len();
        }
        message.msg_iov = &raw mut vector;
        message.msg_iovlen = 1;
        message.msg_control = (&raw mut control).cast();
        message.msg_controllen = SPACE;
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        (*header).cmsg_level = libc::SOL_UDP;
        (*header).cmsg_type = libc::UDP_SEGMENT;
        (*header).cmsg_len = libc::CMSG_LEN(size_of::<u16>() as u32) as usize;
        libc::CMSG_DATA(header).cast::<u16>().write_unaligned(segment);
        libc::sendmsg(socket.as_raw_fd(), &raw const message, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
    };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}
