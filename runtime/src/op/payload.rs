//! What an operation owns until its last completion: a descriptor and the memory that the kernel may touch.

use std::ffi::CString;
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd, RawFd};
use std::rc::Rc;

use super::aligned::AlignedBuf;

/// The parts of an operation that must outlive its future.
#[derive(Debug, Default)]
pub(crate) struct Payload {
    pub(crate) descriptor: Descriptor,
    pub(crate) memory: Memory,
}

/// The descriptor that an operation works on. It stays open, so its number names nothing else meanwhile.
#[derive(Debug, Default)]
pub(crate) enum Descriptor {
    #[default]
    None,
    /// The operation's own: a socket that is not connected yet.
    Owned(OwnedFd),
    /// Somebody else's as well; the last one closes it.
    Shared(Rc<OwnedFd>),
}

/// Memory on the heap, at an address that does not change when the payload moves.
#[derive(Debug, Default)]
pub(crate) enum Memory {
    #[default]
    None,
    Bytes(Vec<u8>),
    /// For O_DIRECT.
    Aligned(AlignedBuf),
    Path(CString),
    /// From and to.
    Paths(CString, CString),
    Address(Box<socket2::SockAddr>),
    /// statx(2): the path that is read and the answer that is written.
    Status(Box<(CString, libc::statx)>),
    /// waitid(2).
    Child(Box<libc::siginfo_t>),
}

impl Payload {
    pub(crate) fn new(descriptor: impl Into<Descriptor>, memory: Memory) -> Self {
        Payload { descriptor: descriptor.into(), memory }
    }
}

impl Memory {
    /// The bytes of a buffer.
    ///
    /// # Panics
    ///
    /// When it is none.
    #[inline]
    pub(super) fn buffer(&mut self) -> &mut [u8] {
        match self {
            Memory::Bytes(bytes) => bytes,
            Memory::Aligned(bytes) => bytes,
            _ => unreachable!("asked of reads and writes only"),
        }
    }
}

impl Descriptor {
    /// The number; -1 for none.
    #[inline]
    pub(crate) fn number(&self) -> RawFd {
        match self {
            Descriptor::None => -1,
            Descriptor::Owned(fd) => fd.as_raw_fd(),
            Descriptor::Shared(fd) => fd.as_raw_fd(),
        }
    }

    /// The number, to be closed by the caller, if nobody else has the descriptor.
    pub(crate) fn into_last(self) -> Option<RawFd> {
        match self {
            Descriptor::None => None,
            Descriptor::Owned(fd) => Some(fd.into_raw_fd()),
            Descriptor::Shared(fd) => Rc::try_unwrap(fd).ok().map(IntoRawFd::into_raw_fd),
        }
    }
}

impl From<OwnedFd> for Descriptor {
    fn from(fd: OwnedFd) -> Self {
        Descriptor::Owned(fd)
    }
}

impl From<Rc<OwnedFd>> for Descriptor {
    #[inline]
    fn from(fd: Rc<OwnedFd>) -> Self {
        Descriptor::Shared(fd)
    }
}
