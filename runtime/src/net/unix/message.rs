//! Messages with descriptors (SCM_RIGHTS of unix(7)), sent and received by calls that never wait.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};

/// The most descriptors of one message: SCM_MAX_FD of the kernel (unix(7)).
const DESCRIPTORS_MAX: usize = 253;
/// The control bytes for so many.
const CONTROL_BYTES: usize = rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX));

/// Sends never wait in the kernel, and never raise SIGPIPE.
pub(super) const SEND: SendFlags = SendFlags::DONTWAIT.union(SendFlags::NOSIGNAL);

/// Refuses what the kernel would refuse without a word, or drop.
pub(super) fn check(bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let problem = if descriptors.len() > DESCRIPTORS_MAX {
        format!(
            "{} descriptors are too many for one message: {DESCRIPTORS_MAX} is the most (unix(7)); send several messages",
            descriptors.len()
        )
    } else if bytes.is_empty() && !descriptors.is_empty() {
        "descriptors travel with bytes: send at least one (unix(7))".to_owned()
    } else {
        return Ok(());
    };
    Err(io::Error::new(io::ErrorKind::InvalidInput, problem))
}

/// Sends what the socket takes of `bytes` to its peer; the descriptors go with the first of them.
pub(super) fn send(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); CONTROL_BYTES];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        unreachable!("the space is for as many as were checked");
    }
    Ok(rustix::net::sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SEND)?)
}

/// Receives what is there into `bytes`, with its descriptors, which are closed on exec.
///
/// # Errors
///
/// `WouldBlock` when nothing is there. When descriptors were lost, because this process may have no more, those that
/// arrived are closed and the bytes with them are gone.
pub(super) fn receive(socket: BorrowedFd<'_>, bytes: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); CONTROL_BYTES];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let message = rustix::net::recvmsg(socket, &mut [IoSliceMut::new(bytes)], &mut control, flags)?;
    let mut descriptors = Vec::new();
    for part in control.drain() {
        if let RecvAncillaryMessage::ScmRights(some) = part {
            descriptors.extend(some);
        }
    }
    if message.flags.contains(ReturnFlags::CTRUNC) {
        return Err(io::Error::other(format!(
            "descriptors of a message were lost, most likely because no more may be open; the {} that arrived are closed \
             (raise the nofile limit, `ulimit -n`)",
            descriptors.len()
        )));
    }
    Ok((message.bytes, descriptors))
}
