//! Creating a ring: the ladder of flags, and errors that name the cause and the cure.
//!
//! The kernel answers EINVAL to a flag that it does not know, without saying which. So flags are dropped one at a time,
//! the newest first, until the kernel takes the set. ENOMEM halves the completion queue: without CAP_IPC_LOCK a ring
//! counts against the memlock limit.

#![deny(unsafe_code)]

use std::io;

use io_uring::IoUring;

use crate::driver::{Capabilities, Feature, Settings};

/// Below this size a completion queue is of no use to a server; ENOMEM is then returned.
const CQ_ENTRIES_MIN: u32 = 64;

/// Flags of io_uring_setup(2) in the order in which they are given up.
const LADDER: [Feature; 7] = [
    Feature::NoSqArray,
    Feature::DeferTaskrun,
    Feature::CoopTaskrun,
    Feature::TaskrunFlag,
    Feature::SubmitAll,
    Feature::Restrictions,
    Feature::CqSize,
];

/// Creates the ring with all of `wanted` that the kernel takes; what it refuses is removed from `wanted`.
pub(super) fn create(settings: &Settings, wanted: &mut Capabilities) -> io::Result<IoUring> {
    let ring = descend(settings, wanted, build)?;
    wanted.sq_entries = ring.params().sq_entries();
    wanted.cq_entries = ring.params().cq_entries();
    // What `build` did not use, the ring has not got.
    if wanted.has(Feature::DeferTaskrun) {
        wanted.remove(Feature::CoopTaskrun);
    } else if !wanted.has(Feature::CoopTaskrun) {
        wanted.remove(Feature::TaskrunFlag);
    }
    Ok(ring)
}

/// Goes down the ladder until `build` succeeds, or nothing is left to give up.
fn descend<T>(
    settings: &Settings,
    wanted: &mut Capabilities,
    build: impl Fn(u32, u32, &Capabilities) -> io::Result<T>,
) -> io::Result<T> {
    let mut cq_entries = settings.cq_entries.next_power_of_two();
    loop {
        let error = match build(settings.sq_entries, cq_entries, wanted) {
            Ok(ring) => return Ok(ring),
            Err(error) => error,
        };
        match error.raw_os_error() {
            Some(libc::EINVAL) => match LADDER.iter().find(|feature| wanted.has(**feature)) {
                Some(feature) => wanted.remove(*feature),
                None => return Err(explain(&error)),
            },
            Some(libc::ENOMEM) if cq_entries > CQ_ENTRIES_MIN => cq_entries /= 2,
            _ => return Err(explain(&error)),
        }
    }
}

fn build(sq_entries: u32, cq_entries: u32, wanted: &Capabilities) -> io::Result<IoUring> {
    let mut builder = IoUring::builder();
    builder.dontfork();
    if wanted.has(Feature::CqSize) {
        builder.setup_cqsize(cq_entries);
    }
    if wanted.has(Feature::SubmitAll) {
        builder.setup_submit_all();
    }
    if wanted.has(Feature::DeferTaskrun) {
        builder.setup_single_issuer().setup_defer_taskrun();
    } else if wanted.has(Feature::CoopTaskrun) {
        builder.setup_coop_taskrun();
    }
    // The kernel refuses the flag unless one of the two modes above is chosen (io_uring_setup(2)).
    if wanted.has(Feature::TaskrunFlag)
        && (wanted.has(Feature::DeferTaskrun) || wanted.has(Feature::CoopTaskrun))
    {
        builder.setup_taskrun_flag();
    }
    // Restrictions can be registered only before the ring is enabled.
    if wanted.has(Feature::Restrictions) {
        builder.setup_r_disabled();
    }
    if wanted.has(Feature::NoSqArray) {
        builder.setup_no_sqarray();
    }
    builder.build(sq_entries)
}

/// Turns an errno of io_uring_setup(2) into a sentence with the likely cause and the cure.
pub(crate) fn explain(error: &io::Error) -> io::Error {
    let advice = match error.raw_os_error() {
        Some(libc::EPERM) => match disabled_by_sysctl() {
            Some(level) => format!(
                "io_uring is switched off on this machine (kernel.io_uring_disabled = {level}); \
                 the cure is `sysctl kernel.io_uring_disabled=0`"
            ),
            None => "io_uring is forbidden here, most likely by a container's seccomp profile; allow io_uring_setup, \
                     io_uring_enter and io_uring_register in it"
                .to_owned(),
        },
        Some(libc::ENOSYS) => "this kernel has no io_uring (Linux 5.11 or newer is needed), or a sandbox hides it".to_owned(),
        Some(libc::ENOMEM) => "the ring does not fit into the memory that may be locked; raise the memlock limit \
                               (`ulimit -l`, LimitMEMLOCK= in systemd) or give the process CAP_IPC_LOCK"
            .to_owned(),
        Some(libc::EMFILE | libc::ENFILE) => "no file descriptor is left; raise the nofile limit (`ulimit -n`)".to_owned(),
        Some(libc::EINVAL) => "the kernel refuses every set of ring flags; Linux 5.11 or newer is needed".to_owned(),
        _ => "io_uring_setup failed".to_owned(),
    };
    let kind = match error.raw_os_error() {
        Some(libc::EINVAL) => io::ErrorKind::Unsupported,
        _ => error.kind(),
    };
    io::Error::new(kind, format!("cannot create an io_uring: {advice} ({error})"))
}

/// Whether an error of making a ring means that there is none to be had on this machine, whatever is left of its resources.
pub(crate) fn is_forbidden(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::Unsupported)
}

/// The value of the sysctl if it forbids rings: 1 for unprivileged processes, 2 for all.
fn disabled_by_sysctl() -> Option<String> {
    let level = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok()?;
    let level = level.trim();
    (level != "0").then(|| level.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_the_cause_and_the_cure() {
        let check = |errno, words: &[&str]| {
            let text = explain(&io::Error::from_raw_os_error(errno)).to_string();
            for word in words {
                assert!(text.contains(word), "{text:?} does not say {word:?}");
            }
        };
        check(libc::EPERM, &["io_uring"]);
        check(libc::ENOSYS, &["5.11", "sandbox"]);
        check(libc::ENOMEM, &["memlock", "CAP_IPC_LOCK"]);
        check(libc::EMFILE, &["nofile"]);
    }

    #[test]
    fn what_a_machine_forbids_is_told_from_what_it_has_run_out_of() {
        let check = |errno, forbidden| {
            let error = explain(&io::Error::from_raw_os_error(errno));
            assert_eq!(is_forbidden(&error), forbidden, "{error}");
        };
        for errno in [libc::EPERM, libc::EACCES, libc::ENOSYS, libc::EINVAL] {
            check(errno, true);
        }
        for errno in [libc::ENOMEM, libc::EMFILE, libc::ENFILE, libc::EAGAIN] {
            check(errno, false);
        }
    }

    #[test]
    fn too_little_memory_halves_the_completion_queue_and_is_an_error_at_last() {
        let with_room_for = |room: u32| {
            let mut wanted = Capabilities::all();
            descend(&Settings::default(), &mut wanted, |_, cq_entries, _| match cq_entries <= room {
                true => Ok(cq_entries),
                false => Err(io::Error::from_raw_os_error(libc::ENOMEM)),
            })
        };
        let check = |room, expected| assert_eq!(with_room_for(room).unwrap(), expected);
        check(8192, 8192);
        check(8191, 4096);
        check(100, 64);
        let error = with_room_for(63).unwrap_err().to_string();
        assert!(error.contains("memlock") && error.contains("CAP_IPC_LOCK"), "{error}");
    }

    #[test]
    fn flags_are_given_up_newest_first() {
        let mut wanted = Capabilities::all();
        let mut tried = std::cell::RefCell::new(Vec::new());
        let refused = descend(&Settings::default(), &mut wanted, |_, _, wanted| {
            tried.borrow_mut().push(LADDER.iter().filter(|feature| wanted.has(**feature)).count());
            Err::<(), _>(io::Error::from_raw_os_error(libc::EINVAL))
        });
        assert!(refused.unwrap_err().to_string().contains("every set of ring flags"));
        assert_eq!(*tried.get_mut(), [7, 6, 5, 4, 3, 2, 1, 0]);
    }
}
