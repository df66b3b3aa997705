//! The memory of sendmsg(2) and recvmsg(2): header, one vector, address, control bytes. One box, pointing into itself.

#![allow(unsafe_code)]
#![allow(dead_code, reason = "datagram and Unix sockets follow")]

use std::fmt;

use socket2::{SockAddr, SockAddrStorage};

/// A message to be sent or received.
pub(crate) struct Message {
    /// Filled in by [`header`](Self::header), and by the kernel when a message is received.
    header: libc::msghdr,
    vector: libc::iovec,
    /// What is sent, or the room for what is received: the whole length of it.
    pub(crate) bytes: Vec<u8>,
    /// The receiver's address, or the room for the sender's. None: no address is given or asked for.
    address: Option<(libc::socklen_t, SockAddrStorage)>,
    /// Control messages (cmsg(3)), in words because they are aligned to them. Empty: none given or asked for.
    pub(crate) control: Vec<usize>,
}

impl Message {
    /// A message for `address`, or for the socket's peer.
    pub(crate) fn to_send(bytes: Vec<u8>, address: Option<SockAddr>, control: Vec<usize>) -> Box<Self> {
        Self::new(bytes, address.map(|address| (address.len(), address.as_storage())), control)
    }

    /// Room for a message, for its sender's address if `wants_address`, and for control messages.
    pub(crate) fn to_receive(bytes: Vec<u8>, wants_address: bool, control: Vec<usize>) -> Box<Self> {
        let storage = SockAddrStorage::zeroed();
        let len = storage.size_of();
        Self::new(bytes, wants_address.then_some((len, storage)), control)
    }

    fn new(
        bytes: Vec<u8>,
        address: Option<(libc::socklen_t, SockAddrStorage)>,
        control: Vec<usize>,
    ) -> Box<Self> {
        // SAFETY: `msghdr` and `iovec` are plain data for which zeros are valid (null pointers, no lengths).
        let (header, vector) = unsafe { std::mem::zeroed() };
        Box::new(Message { header, vector, bytes, address, control })
    }

    /// Points the header at the parts; valid as long as the box lives and its parts are not changed.
    pub(crate) fn header(&mut self) -> *mut libc::msghdr {
        self.vector = libc::iovec { iov_base: self.bytes.as_mut_ptr().cast(), iov_len: self.bytes.len() };
        self.header.msg_iov = &raw mut self.vector;
        self.header.msg_iovlen = 1;
        if let Some((len, storage)) = &mut self.address {
            self.header.msg_namelen = *len;
            self.header.msg_name = (&raw mut *storage).cast();
        }
        if !self.control.is_empty() {
            self.header.msg_control = self.control.as_mut_ptr().cast();
            self.header.msg_controllen = size_of_val(&self.control[..]);
        }
        &raw mut self.header
    }

    /// The sender's address of a received message, if it has one.
    pub(crate) fn address(&self) -> Option<SockAddr> {
        let (len, storage) = self.address.as_ref()?;
        let written = self.header.msg_namelen.min(*len);
        let mut copy = SockAddrStorage::zeroed();
        // SAFETY: both are a whole `sockaddr_storage`, of which the kernel wrote the first `written` bytes.
        let address = unsafe {
            (&raw mut copy).copy_from(storage, 1);
            SockAddr::new(copy, written)
        };
        (written > 0).then_some(address)
    }

    /// How many bytes of `control` the kernel filled.
    pub(crate) fn control_len(&self) -> usize {
        self.header.msg_controllen
    }

    /// MSG_TRUNC, MSG_CTRUNC and the like of a received message.
    pub(crate) fn flags(&self) -> i32 {
        self.header.msg_flags
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message").field("bytes", &self.bytes.len()).finish_non_exhaustive()
    }
}
