//! Paths for the kernel, and errors that name them.

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::JoinError;
use crate::driver::Feature;
use crate::shard::Shard;

/// The path as the kernel wants it.
pub(super) fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| {
        let message = format!("the path {path:?} contains a NUL byte, at which the kernel would cut it off");
        io::Error::new(io::ErrorKind::InvalidInput, message)
    })
}

/// Puts what was tried, and with which path, in front of an error. The kind stays.
pub(super) fn explain(what: &str, path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot {what} {}: {error}", path.display()))
}

/// The same for two paths.
pub(super) fn explain_two(what: &str, from: &Path, to: &Path, error: &io::Error) -> io::Error {
    let (from, to) = (from.display(), to.display());
    io::Error::new(error.kind(), format!("cannot {what} {from} to {to}: {error}"))
}

/// Whether the loop's ring has `feature`.
pub(super) fn has(shard: &Shard, feature: Feature) -> bool {
    shard.io.borrow().driver.capabilities().has(feature)
}

/// A closure of ours does not panic; it is cancelled when everything ends.
pub(super) fn lost(error: &JoinError) -> io::Error {
    io::Error::other(format!("the blocking pool did not do the work: {error}"))
}

/// Lets a thread of the pool do what the ring has no operation for.
pub(super) async fn on_the_pool<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    crate::spawn_blocking(work).await.map_err(|error| lost(&error))?
}
