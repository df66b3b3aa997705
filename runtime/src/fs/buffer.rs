//! Memory that can be lent to the kernel and comes back.

use super::AlignedBuf;
use crate::op::Memory;

/// A buffer that [`File::read_at`](super::File::read_at) and its like take and give back: `Vec<u8>` or [`AlignedBuf`].
///
/// The whole length of it is read into or written from; spare capacity is not touched. No other type can be one.
pub trait Buffer: sealed::Lend {}

impl Buffer for Vec<u8> {}
impl Buffer for AlignedBuf {}

pub(super) mod sealed {
    use super::Memory;

    #[allow(private_interfaces, reason = "the trait is sealed: nobody outside can name its methods")]
    pub trait Lend: AsRef<[u8]> + Sized {
        /// To the table of operations.
        fn lend(self) -> Memory;
        /// And back. Empty if the loop ended meanwhile.
        fn take_back(memory: Memory) -> Self;
    }
}

#[allow(private_interfaces, reason = "see above")]
impl sealed::Lend for Vec<u8> {
    #[inline]
    fn lend(self) -> Memory {
        Memory::Bytes(self)
    }

    #[inline]
    fn take_back(memory: Memory) -> Self {
        match memory {
            Memory::Bytes(bytes) => bytes,
            _ => Vec::new(),
        }
    }
}

#[allow(private_interfaces, reason = "see above")]
impl sealed::Lend for AlignedBuf {
    #[inline]
    fn lend(self) -> Memory {
        Memory::Aligned(self)
    }

    #[inline]
    fn take_back(memory: Memory) -> Self {
        match memory {
            Memory::Aligned(bytes) => bytes,
            _ => AlignedBuf::default(),
        }
    }
}
