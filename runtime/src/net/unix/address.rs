//! Paths and abstract names as the kernel takes them, and errors that say which one it was.

use std::ffi::OsStr;
use std::fmt::Write;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::SocketAddr;
use std::path::Path;

use socket2::SockAddr;

/// Bytes of a path: `sun_path` of unix(7), less the NUL at its end.
const PATH_BYTES_MAX: usize = 107;

/// A path; or, when its first byte is NUL, an abstract name.
pub(super) fn of_path(path: &Path) -> io::Result<SockAddr> {
    let bytes = path.as_os_str().as_bytes();
    let problem = match bytes {
        [] => "the path is empty".to_owned(),
        // The NUL in front of an abstract name takes the place of the one behind a path.
        [0, name @ ..] if name.len() > PATH_BYTES_MAX => {
            format!("the abstract name has {} bytes, and {PATH_BYTES_MAX} is the most (unix(7))", name.len())
        }
        [0, ..] => return SockAddr::unix(path),
        _ if bytes.contains(&0) => "the path contains a NUL byte".to_owned(),
        _ if bytes.len() > PATH_BYTES_MAX => format!(
            "the path has {} bytes, and {PATH_BYTES_MAX} is the most (unix(7)); use a shorter directory, or a path \
             relative to the working directory",
            bytes.len()
        ),
        _ => return SockAddr::unix(path),
    };
    Err(io::Error::new(io::ErrorKind::InvalidInput, problem))
}

/// The standard library's address as the kernel's.
pub(super) fn of_std(address: &SocketAddr) -> io::Result<SockAddr> {
    match (address.as_pathname(), address.as_abstract_name()) {
        (Some(path), _) => of_path(path),
        (None, Some(name)) => of_path(Path::new(OsStr::from_bytes(&[b"\0", name].concat()))),
        (None, None) => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "the address has no name: it is that of a socket that was not bound",
        )),
    }
}

/// The kernel's address as the standard library's.
pub(super) fn to_std(address: &SockAddr) -> io::Result<SocketAddr> {
    match (address.as_pathname(), address.as_abstract_namespace()) {
        (Some(path), _) => SocketAddr::from_pathname(path),
        (None, Some(name)) => SocketAddr::from_abstract_name(name),
        // The empty path stands for no name.
        (None, None) => SocketAddr::from_pathname(""),
    }
}

/// `error`, with what was being done to which address, and the cure where there is one.
pub(super) fn explain(doing: &str, address: &SockAddr, error: &io::Error) -> io::Error {
    let mut text = format!("cannot {doing} {}: {error}", name(address));
    let is_path = address.as_pathname().is_some();
    if error.kind() == io::ErrorKind::AddrInUse && is_path {
        let _ =
            write!(text, "; if no server runs there, the file was left by one that ended: remove it first");
    }
    if error.kind() == io::ErrorKind::ConnectionRefused && is_path {
        let _ = write!(text, "; the file is there, but nobody listens");
    }
    io::Error::new(error.kind(), text)
}

fn name(address: &SockAddr) -> String {
    match (address.as_pathname(), address.as_abstract_namespace()) {
        (Some(path), _) => path.display().to_string(),
        (None, Some(name)) => format!("@{}", String::from_utf8_lossy(name)),
        (None, None) => "a socket without a name".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_does_not_fit_is_refused_with_its_length() {
        let check = |bytes: &[u8], expected: &str| {
            let error = of_path(Path::new(OsStr::from_bytes(bytes))).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        };
        check(b"", "empty");
        check(&[b'x'; 108], "108 bytes, and 107 is the most");
        check(b"a\0b", "NUL");
        let mut name = vec![b'x'; 109];
        name[0] = 0;
        check(&name, "abstract name has 108 bytes");
        assert!(of_path(Path::new(OsStr::from_bytes(&[b'x'; 107]))).is_ok());
        assert!(of_path(Path::new(OsStr::from_bytes(&name[..108]))).is_ok());
    }

    #[test]
    fn names_come_back_as_they_went_in() {
        for address in [
            SocketAddr::from_pathname("/tmp/x").unwrap(),
            SocketAddr::from_abstract_name("x").unwrap(),
            SocketAddr::from_abstract_name("").unwrap(),
        ] {
            let back = to_std(&of_std(&address).unwrap()).unwrap();
            assert_eq!(
                (back.as_pathname(), back.as_abstract_name()),
                (address.as_pathname(), address.as_abstract_name())
            );
        }
    }
}
