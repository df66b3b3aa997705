//! Names: directories, links, renaming, removing, asking.

use std::ffi::CString;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::metadata::Metadata;
use super::path::{c_path, explain, explain_two, has, on_the_pool};
use crate::driver::Feature;
use crate::op::{Memory, Operation, request};
use crate::shard::{Shard, current};

/// Permission bits of a new directory, less the process's umask.
const DIRECTORY_MODE: u32 = 0o777;

/// What is known about a path; symbolic links are followed.
///
/// # Errors
///
/// What statx(2) says, with the path in the message.
///
/// # Panics
///
/// Outside of a loop.
pub async fn metadata(path: impl AsRef<Path>) -> io::Result<Metadata> {
    status(path.as_ref(), 0).await
}

/// What is known about a path itself, be it a symbolic link.
///
/// # Errors
///
/// As [`metadata`].
///
/// # Panics
///
/// Outside of a loop.
pub async fn symlink_metadata(path: impl AsRef<Path>) -> io::Result<Metadata> {
    status(path.as_ref(), libc::AT_SYMLINK_NOFOLLOW).await
}

async fn status(path: &Path, flags: i32) -> io::Result<Metadata> {
    let explain = |error: io::Error| explain("look at", path, &error);
    let outcome = request::status(&current(), c_path(path)?, flags).await;
    outcome.result.map_err(explain)?;
    let Memory::Status(parts) = outcome.payload.memory else { unreachable!("statx gives its answer back") };
    Ok(Metadata::new(parts.1))
}

/// Whether there is something at `path`; a symbolic link that points to nothing does not count.
///
/// # Errors
///
/// When it cannot be known: no permission to look into a directory on the way, for example.
///
/// # Panics
///
/// Outside of a loop.
pub async fn exists(path: impl AsRef<Path>) -> io::Result<bool> {
    match metadata(path).await {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Removes a name of a file; the file goes with its last name and its last user.
///
/// # Errors
///
/// What unlink(2) says, with the path in the message.
///
/// # Cancel safety
///
/// It may have been done.
///
/// # Panics
///
/// Outside of a loop.
pub async fn remove_file(path: impl AsRef<Path>) -> io::Result<()> {
    let path = path.as_ref();
    on_one("remove", path, |shard, path| request::unlink(shard, path, 0)).await
}

/// Removes an empty directory.
///
/// # Errors
///
/// What rmdir(2) says, with the path in the message.
///
/// # Cancel safety
///
/// It may have been done.
///
/// # Panics
///
/// Outside of a loop.
pub async fn remove_dir(path: impl AsRef<Path>) -> io::Result<()> {
    let path = path.as_ref();
    on_one("remove the directory", path, |shard, path| request::unlink(shard, path, libc::AT_REMOVEDIR)).await
}

/// Removes a directory with all that is in it; symbolic links are removed, not followed. On the blocking pool.
///
/// # Errors
///
/// The first that was met, with the path in the message; what was removed before is gone.
///
/// # Cancel safety
///
/// Once a thread has begun it goes on to the end.
///
/// # Panics
///
/// Outside of a loop.
pub async fn remove_dir_all(path: impl AsRef<Path>) -> io::Result<()> {
    let path = path.as_ref().to_owned();
    on_the_pool(move || {
        std::fs::remove_dir_all(&path).map_err(|error| explain("remove the directory", &path, &error))
    })
    .await
}

/// Gives a file another name; what had that name is replaced. Both must be on one file system.
///
/// # Errors
///
/// What rename(2) says, with the paths in the message.
///
/// # Cancel safety
///
/// It may have been done.
///
/// # Panics
///
/// Outside of a loop.
pub async fn rename(from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<()> {
    on_two("rename", from.as_ref(), to.as_ref(), request::rename).await
}

/// Makes a directory in one that is there.
///
/// # Errors
///
/// What mkdir(2) says, with the path in the message.
///
/// # Cancel safety
///
/// It may have been done.
///
/// # Panics
///
/// Outside of a loop.
pub async fn create_dir(path: impl AsRef<Path>) -> io::Result<()> {
    make_directory(path.as_ref()).await.map_err(|error| explain("make the directory", path.as_ref(), &error))
}

/// Makes a directory and those on the way to it; one that is there already is no error.
///
/// # Errors
///
/// What mkdir(2) says, with the path in the message.
///
/// # Cancel safety
///
/// Some of them may have been made.
///
/// # Panics
///
/// Outside of a loop.
pub async fn create_dir_all(path: impl AsRef<Path>) -> io::Result<()> {
    let whole = path.as_ref();
    // Up to the first that is there, then down again.
    let mut missing = Vec::new();
    let mut next = Some(whole);
    while let Some(path) = next.filter(|path| !path.as_os_str().is_empty()) {
        match make_directory(path).await {
            Ok(()) => break,
            Err(error) if error.kind() == io::ErrorKind::NotFound => missing.push(path),
            // "Is there" comes before "may not": a directory in a place where none can be made is fine.
            Err(_) if status(path, 0).await.is_ok_and(|metadata| metadata.is_dir()) => break,
            Err(error) => return Err(explain("make the directory", path, &error)),
        }
        next = path.parent();
    }
    for path in missing.into_iter().rev() {
        match make_directory(path).await {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(explain("make the directory", path, &error));
            }
            _ => {}
        }
    }
    Ok(())
}

async fn make_directory(path: &Path) -> io::Result<()> {
    let shard = current();
    if has(&shard, Feature::PathOps) {
        let made = request::make_directory(&shard, c_path(path)?, DIRECTORY_MODE).await;
        return made.result.map(drop);
    }
    let path = path.to_owned();
    on_the_pool(move || std::fs::create_dir(path)).await
}

/// Gives a file one more name.
///
/// # Errors
///
/// What link(2) says, with the paths in the message.
///
/// # Cancel safety
///
/// It may have been done.
///
/// # Panics
///
/// Outside of a loop.
pub async fn hard_link(original: impl AsRef<Path>, link: impl AsRef<Path>) -> io::Result<()> {
    let (from, to) = (original.as_ref(), link.as_ref());
    if has(&current(), Feature::PathOps) {
        return on_two("link", from, to, request::link).await;
    }
    on_the_pool_with("link", from, to, |from, to| std::fs::hard_link(from, to)).await
}

/// Makes `link` a symbolic link that says `original`, which need not be there.
///
/// # Errors
///
/// What symlink(2) says, with the paths in the message.
///
/// # Cancel safety
///
/// It may have been done.
///
/// # Panics
///
/// Outside of a loop.
pub async fn symlink(original: impl AsRef<Path>, link: impl AsRef<Path>) -> io::Result<()> {
    let (from, to) = (original.as_ref(), link.as_ref());
    if has(&current(), Feature::PathOps) {
        return on_two("link symbolically", from, to, request::symlink).await;
    }
    on_the_pool_with("link symbolically", from, to, |from, to| std::os::unix::fs::symlink(from, to)).await
}

/// The absolute path without symbolic links and dots. On the blocking pool.
///
/// # Errors
///
/// What realpath(3) says, with the path in the message.
///
/// # Panics
///
/// Outside of a loop.
pub async fn canonicalize(path: impl AsRef<Path>) -> io::Result<PathBuf> {
    let path = path.as_ref().to_owned();
    on_the_pool(move || std::fs::canonicalize(&path).map_err(|error| explain("resolve", &path, &error))).await
}

async fn on_one(
    what: &str,
    path: &Path,
    submit: impl FnOnce(&Rc<Shard>, CString) -> Operation,
) -> io::Result<()> {
    let done = submit(&current(), c_path(path)?).await.result;
    done.map(drop).map_err(|error| explain(what, path, &error))
}

async fn on_two(
    what: &str,
    from: &Path,
    to: &Path,
    submit: impl FnOnce(&Rc<Shard>, CString, CString) -> Operation,
) -> io::Result<()> {
    let done = submit(&current(), c_path(from)?, c_path(to)?).await.result;
    done.map(drop).map_err(|error| explain_two(what, from, to, &error))
}

async fn on_the_pool_with(
    what: &'static str,
    from: &Path,
    to: &Path,
    work: fn(&Path, &Path) -> io::Result<()>,
) -> io::Result<()> {
    let (from, to) = (from.to_owned(), to.to_owned());
    on_the_pool(move || work(&from, &to).map_err(|error| explain_two(what, &from, &to, &error))).await
}
