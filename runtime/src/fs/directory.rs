//! The entries of a directory. The ring has no operation for them: a thread of the blocking pool reads some at a time.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use super::metadata::{FileType, Metadata};
use super::path::{explain, lost, on_the_pool};
use crate::blocking::BlockingTask;

/// Entries that are read at a time. Arbitrary: far more than a hand-over to the pool costs, and little memory.
const BATCH: usize = 128;

/// The entries of a directory, in no order; `.` and `..` are left out.
///
/// # Errors
///
/// What opendir(3) says, with the path in the message.
///
/// # Panics
///
/// Outside of a loop.
///
/// # Examples
///
/// ```
/// # annulet::run(async {
/// let mut entries = annulet::fs::read_dir("/proc/self").await.unwrap();
/// let mut names = Vec::new();
/// while let Some(entry) = entries.next_entry().await.unwrap() {
///     names.push(entry.file_name().to_owned());
/// }
/// assert!(names.iter().any(|name| name == "status"));
/// # });
/// ```
pub async fn read_dir(path: impl AsRef<Path>) -> io::Result<ReadDir> {
    let path = path.as_ref().to_owned();
    let (batch, rest) = on_the_pool(move || match std::fs::read_dir(&path) {
        Ok(entries) => Ok(fill(entries)),
        Err(error) => Err(explain("read the directory", &path, &error)),
    })
    .await?;
    Ok(ReadDir { batch, rest: rest.map_or(Rest::Nothing, Rest::Here) })
}

/// What is left of a directory's entries; see [`read_dir`].
#[derive(Debug)]
pub struct ReadDir {
    batch: Batch,
    rest: Rest,
}

type Batch = VecDeque<io::Result<DirEntry>>;

/// What the batch does not hold.
#[derive(Debug)]
enum Rest {
    Nothing,
    Here(std::fs::ReadDir),
    /// With a thread, which gives a batch.
    Away(BlockingTask<(Batch, Option<std::fs::ReadDir>)>),
}

/// A name in a directory.
#[derive(Debug)]
pub struct DirEntry {
    entry: std::fs::DirEntry,
    name: OsString,
}

impl ReadDir {
    /// The next entry; `None` at the end.
    ///
    /// # Errors
    ///
    /// What readdir(3) says.
    ///
    /// # Cancel safety
    ///
    /// A dropped wait loses no entry.
    pub async fn next_entry(&mut self) -> io::Result<Option<DirEntry>> {
        loop {
            if let Some(entry) = self.batch.pop_front() {
                return entry.map(Some);
            }
            match &mut self.rest {
                Rest::Nothing => return Ok(None),
                Rest::Away(task) => {
                    let done = task.await;
                    self.rest = Rest::Nothing;
                    let (batch, rest) = done.map_err(|error| lost(&error))?;
                    self.batch = batch;
                    self.rest = rest.map_or(Rest::Nothing, Rest::Here);
                }
                rest @ Rest::Here(_) => {
                    let Rest::Here(entries) = std::mem::replace(rest, Rest::Nothing) else {
                        unreachable!("matched above")
                    };
                    *rest = Rest::Away(crate::spawn_blocking(move || fill(entries)));
                }
            }
        }
    }
}

/// Reads a batch, on a thread that may wait. No rest: that was all.
fn fill(mut entries: std::fs::ReadDir) -> (Batch, Option<std::fs::ReadDir>) {
    let mut batch = Batch::new();
    while batch.len() < BATCH {
        match entries.next() {
            Some(entry) => batch.push_back(entry.map(|entry| DirEntry { name: entry.file_name(), entry })),
            None => return (batch, None),
        }
    }
    (batch, Some(entries))
}

impl DirEntry {
    /// The directory's path and the name.
    pub fn path(&self) -> PathBuf {
        self.entry.path()
    }

    /// The name alone.
    pub fn file_name(&self) -> &OsString {
        &self.name
    }

    /// What it is, without following a symbolic link.
    ///
    /// # Errors
    ///
    /// What statx(2) says.
    pub async fn file_type(&self) -> io::Result<FileType> {
        Ok(self.metadata().await?.file_type())
    }

    /// What is known about it, without following a symbolic link.
    ///
    /// # Errors
    ///
    /// What statx(2) says.
    pub async fn metadata(&self) -> io::Result<Metadata> {
        super::symlink_metadata(self.path()).await
    }
}
