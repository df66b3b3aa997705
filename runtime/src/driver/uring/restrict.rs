//! A ring that refuses what annulet never asks of it.
//!
//! Whoever gets hold of a ring's memory, by a bug of the program, can make the kernel do anything that an opcode can: run no
//! system call and yet open files, send messages to other rings, bind sockets. So a ring is made disabled, given the list of what
//! may be asked of it, and then enabled; the list cannot be changed any more (io_uring_register(2),
//! IORING_REGISTER_RESTRICTIONS). What is not on it is answered with EACCES.

#![allow(unsafe_code)]

use std::io;

use io_uring::register::Restriction;
use io_uring::{Probe, Submitter, opcode, squeue};

use super::{Capabilities, Feature};

/// Every opcode that `sqe` makes entries of. One that is missing here fails with EACCES in its first test.
const OPCODES: [u8; 24] = [
    opcode::Accept::CODE,
    opcode::AsyncCancel::CODE,
    opcode::Close::CODE,
    opcode::Connect::CODE,
    opcode::Fsync::CODE,
    opcode::Ftruncate::CODE,
    opcode::LinkAt::CODE,
    opcode::MkDirAt::CODE,
    opcode::MsgRingData::CODE,
    opcode::OpenAt::CODE,
    opcode::PollAdd::CODE,
    opcode::Read::CODE,
    opcode::Recv::CODE,
    opcode::RecvMsg::CODE,
    opcode::RenameAt::CODE,
    opcode::Send::CODE,
    opcode::SendMsg::CODE,
    opcode::SendZc::CODE,
    opcode::Statx::CODE,
    opcode::SymlinkAt::CODE,
    opcode::Timeout::CODE,
    opcode::UnlinkAt::CODE,
    opcode::WaitId::CODE,
    opcode::Write::CODE,
];

/// The calls of io_uring_register(2) that are made on a running ring: the registered ring descriptor (20 and 21, Linux 5.18)
/// and buffer rings, of which those for datagrams and for much data are made when they are first needed (22, Linux 5.19).
const REGISTER_CALLS: [u8; 3] = [20, 21, 22];

/// The flags of entries that are used.
const FLAGS: squeue::Flags = squeue::Flags::BUFFER_SELECT.union(squeue::Flags::SKIP_SUCCESS);

/// Restricts a ring that was made disabled, and enables it for the calling thread.
///
/// # Errors
///
/// When it cannot be enabled.
pub(super) fn enable(
    ring: &Submitter<'_>,
    opcodes: &Probe,
    capabilities: &mut Capabilities,
) -> io::Result<()> {
    // The kernel refuses a list that names something that it does not know. Only who is in a mesh has others to ring.
    let is_used = |code: &u8| *code != opcode::MsgRingData::CODE || capabilities.has(Feature::MsgRing);
    let operations = OPCODES
        .into_iter()
        .filter(|code| opcodes.is_supported(*code) && is_used(code))
        .map(Restriction::sqe_op);
    let mut list: Vec<_> = operations.chain([Restriction::sqe_flags_allowed(FLAGS.bits())]).collect();
    let without_calls = list.len();
    list.extend(REGISTER_CALLS.map(Restriction::register_op));
    if ring.register_restrictions(&mut list).is_err() {
        // Before 5.19 these calls are unknown, and not made.
        list.truncate(without_calls);
        if ring.register_restrictions(&mut list).is_err() {
            capabilities.remove(Feature::Restrictions);
        }
    }
    ring.register_enable_rings()
}

#[cfg(test)]
mod tests {
    use super::super::{Settings, Uring};
    use super::*;
    use crate::driver::{Key, Wait};

    /// The results of an opcode that is never used, of a flag that is never used on one that is, and of a call that is never made.
    fn forbidden(settings: &Settings) -> (bool, [i32; 2], Option<i32>) {
        let mut uring = Uring::new(settings).unwrap();
        let close = opcode::Close::new(io_uring::types::Fd(-1)).build().flags(squeue::Flags::ASYNC);
        let results = [opcode::Nop::new().build(), close].map(|entry| {
            // SAFETY: neither entry points to memory.
            unsafe { uring.sq.push(&entry.user_data(Key::IGNORED.bits())) }.unwrap();
            for _ in 0..1000 {
                uring.wait(Wait::Until(Some(crate::sys::monotonic_ns() + 1_000_000_000))).unwrap();
                if let Some(event) = uring.next_event() {
                    return event.result;
                }
            }
            panic!("no answer");
        });
        let registered = uring.submitter.register_files(&[]).err().and_then(|error| error.raw_os_error());
        (uring.capabilities().has(Feature::Restrictions), results, registered)
    }

    #[test]
    fn what_is_not_on_the_list_is_refused() {
        let (restricted, results, registered) = forbidden(&Settings::default());
        if restricted {
            assert_eq!((results, registered), ([-libc::EACCES; 2], Some(libc::EACCES)));
        } else {
            println!("skipped: no restrictions here (the mask, or the kernel)");
        }
        let (restricted, results, registered) =
            forbidden(&Settings { restricted: false, ..Settings::default() });
        assert_eq!((restricted, results), (false, [0, -libc::EBADF]));
        assert_ne!(registered, Some(libc::EACCES));
    }
}
