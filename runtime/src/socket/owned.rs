//! Bytes that leave without a copy: the slot owns them until the kernel's last word on them.
//!
//! One value at a time and socket. What was written before leaves with it, in the same sendmsg(2); what is written afterwards
//! leaves behind it. It is dropped by the shard when nothing is borrowed, because its owner may be anybody's code.

#![allow(unsafe_code)]

use bytes::Bytes;

use super::send::SEND_BYTES_MAX;
use super::table::{Socket, SocketId, Sockets};
use super::zero_copy::COPIED_BYTES;
use crate::driver::{Key, Op};

/// Owned bytes of a socket, waiting or with the kernel.
pub(super) struct Owned {
    /// INVARIANT: not dropped while `flies` and the socket's `send` is not `Idle`.
    pub(super) bytes: Bytes,
    /// How many of the gathered bytes leave before it, while it waits.
    pub(super) behind: usize,
    /// Whether it leaves with `flying`, behind those bytes.
    pub(super) flies: bool,
    /// Whether the kernel is to read it where it is, and has not refused to: `zero_copy`.
    pub(super) zero_copy: bool,
    /// The zero-copy send of it whose result is not in.
    pub(super) submitted: Option<Key>,
    /// What the kernel is told of both.
    /// INVARIANT: neither moved nor changed while `send` is not `Idle`.
    message: libc::msghdr,
    parts: [libc::iovec; 2],
}

impl std::fmt::Debug for Owned {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Owned")
            .field("len", &self.bytes.len())
            .field("flies", &self.flies)
            .finish_non_exhaustive()
    }
}

impl Sockets {
    /// Lets `bytes` leave behind what is gathered. They come back if others wait, and if sending has ended: then nobody
    /// will ever see them.
    pub(crate) fn try_own(&mut self, id: SocketId, bytes: Bytes, zero_copy: bool) -> Result<(), NotOwned> {
        let socket = self.socket(id);
        if socket.send_error != 0 {
            return Err(NotOwned::Ended(bytes));
        }
        // While the gathering buffer is out, it is not known what is before these bytes.
        if socket.owned.is_some() || socket.buffers_out > 0 {
            return Err(NotOwned::Busy(bytes));
        }
        // SAFETY: both are plain data for which zeros are valid.
        let (message, parts) = unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
        let behind = socket.gather.len();
        let (flies, submitted) = (false, None);
        socket.owned = Some(Box::new(Owned { bytes, behind, flies, zero_copy, submitted, message, parts }));
        self.mark_dirty(id);
        Ok(())
    }
}

/// Bytes that were not taken.
pub(crate) enum NotOwned {
    /// Others have not left, or the send buffer is out.
    Busy(Bytes),
    /// An error has ended sending.
    Ended(Bytes),
}

impl Socket {
    /// Bytes that are not with the kernel.
    #[inline]
    pub(super) fn waiting(&self) -> usize {
        let owned = self.owned.as_ref().filter(|owned| !owned.flies);
        self.gather.len() + owned.map_or(0, |owned| owned.bytes.len())
    }

    /// Bytes of the send that is with the kernel.
    #[inline]
    pub(super) fn flight(&self) -> usize {
        let owned = self.owned.as_ref().filter(|owned| owned.flies);
        self.flying.len() + owned.map_or(0, |owned| owned.bytes.len())
    }

    /// Takes owned bytes along in the send that begins with `flying`; gives what was gathered behind them back.
    pub(super) fn board(&mut self, spare: &mut Vec<Vec<u8>>) {
        let Some(owned) = &mut self.owned else { return };
        debug_assert!(!owned.flies && owned.behind <= self.flying.len());
        owned.flies = true;
        if owned.behind < self.flying.len() {
            let mut gather = spare.pop().unwrap_or_default();
            gather.extend_from_slice(&self.flying[owned.behind..]);
            self.flying.truncate(owned.behind);
            debug_assert!(self.gather.is_empty());
            self.gather = gather;
        }
    }

    /// The next part of a send with owned bytes.
    pub(super) fn owned_op(&mut self) -> Option<Op> {
        let owned = self.owned.as_mut().filter(|owned| owned.flies)?;
        let before = self.flying.get(self.sent..).unwrap_or_default();
        let start = self.sent.saturating_sub(self.flying.len());
        let rest = &owned.bytes[start..];
        let len_max = if owned.zero_copy && !before.is_empty() { COPIED_BYTES } else { SEND_BYTES_MAX };
        let rest = &rest[..rest.len().min(len_max)];
        let part =
            |bytes: &[u8]| libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        owned.parts = [part(before), part(rest)];
        owned.message.msg_iov = owned.parts.as_mut_ptr();
        owned.message.msg_iovlen = 2;
        Some(Op::SendMessage { fd: self.fd, message: &raw const owned.message })
    }

    /// Owned bytes that have left, or never will.
    pub(super) fn take_owned(&mut self, flown: bool) -> Option<Bytes> {
        let owned = self.owned.take_if(|owned| owned.flies == flown)?;
        Some(owned.bytes)
    }
}
