//! Room in the process's table of descriptors, made before connections come.
//!
//! The kernel's table begins with 64 places and is doubled by whoever needs a place that it does not have. Where threads share it, which
//! they do wherever there is more than one, each doubling waits for a grace period of RCU (`expand_fdtable` of Linux's fs/file.c):
//! an accept that comes to it keeps its loop from everything else for 5 to 14 ms. So it is made large at once: before the loops are
//! made, when there is most likely one thread and nothing to wait for; or, with a listener of a program that has begun otherwise, by a
//! thread that has nothing else to do. Those that find a place do not wait for it.

use std::sync::Once;
use std::thread;

use rustix::io::fcntl_dupfd_cloexec;
use rustix::process::{Resource, getrlimit};

/// Places that are made at the most, 8 bytes of the kernel's memory each: as many as a core has connections unless it is told otherwise.
/// With more the table doubles as ever.
const PLACES_MAX: u64 = 65_536;

/// Enough for a thread that makes a few system calls.
const STACK_BYTES: usize = 64 * 1024;

static MADE: Once = Once::new();

/// Makes the table as large as the limit of the process allows, once, before there are loops. Nothing depends on it, so nobody is told
/// when it fails.
pub(crate) fn make_room_first() {
    MADE.call_once(grow);
}

/// The same, behind the caller's back.
pub(super) fn make_room() {
    MADE.call_once(|| {
        let thread = thread::Builder::new().name("annulet-fds".to_owned()).stack_size(STACK_BYTES);
        // Without a thread the table grows as ever.
        let _ = thread.spawn(grow);
    });
}

/// A descriptor with the highest number makes the table so large, and it stays so when that is closed, which is at once.
fn grow() {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX).min(PLACES_MAX);
    if let Ok(last) = i32::try_from(limit.saturating_sub(1)) {
        // Of whatever there is. An error: where there is no room for it, there is none for connections either.
        drop(fcntl_dupfd_cloexec(std::io::stderr(), last));
    }
}
