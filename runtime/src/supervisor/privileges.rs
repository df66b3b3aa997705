//! Giving privileges up, before there is any thread or ring that could keep them.

use std::ffi::CString;
use std::io;

use nix::unistd::{User, geteuid, initgroups, setresgid, setresuid};

/// From now on neither this process nor what it executes gains privileges by executing (PR_SET_NO_NEW_PRIVS).
///
/// # Errors
///
/// What prctl(2) says.
pub(super) fn gain_no_more() -> io::Result<()> {
    Ok(rustix::thread::set_no_new_privs(true)?)
}

/// Becomes this user, with the user's groups. Done already: nothing happens.
///
/// # Errors
///
/// When there is no such user, when this process may not, and what the system calls say.
pub(super) fn become_user(name: &str) -> io::Result<()> {
    let explain = |why: &dyn std::fmt::Display, kind| {
        io::Error::new(kind, format!("cannot become user {name:?}: {why}"))
    };
    let failed = |errno: nix::Error| {
        let error = io::Error::from(errno);
        explain(&error, error.kind())
    };
    let user = User::from_name(name).map_err(failed)?;
    let Some(user) = user else {
        return Err(explain(&"there is none of this name; see getent(1) passwd", io::ErrorKind::NotFound));
    };
    if geteuid() == user.uid {
        return Ok(());
    }
    if !geteuid().is_root() {
        let why = "only root may; start it as root, or leave the user out";
        return Err(explain(&why, io::ErrorKind::PermissionDenied));
    }
    let c_name = CString::new(name).map_err(|error| explain(&error, io::ErrorKind::InvalidInput))?;
    // Groups first: afterwards it may not any more.
    initgroups(&c_name, user.gid).map_err(failed)?;
    setresgid(user.gid, user.gid, user.gid).map_err(failed)?;
    // glibc changes all threads, and all three kinds of number: there is no way back.
    setresuid(user.uid, user.uid, user.uid).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_cause_and_cure() {
        let error = become_user("nobody-of-this-name").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(error.to_string().contains("\"nobody-of-this-name\": there is none"), "{error}");
        let own = User::from_uid(geteuid()).unwrap().expect("who runs tests has a name");
        become_user(&own.name).unwrap();
    }
}
