//! An open file: its descriptor, and what is done to the file as a whole. Positional reads and writes are in
//! `positional`, the cursor in `stream`.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;
use std::rc::Rc;

use super::metadata::Metadata;
use super::options::OpenOptions;
use super::path::{has, on_the_pool};
use super::positional::Alignment;
use super::stream::Stream;
use crate::driver::Feature;
use crate::op::{Memory, close_shared, request};
use crate::shard::{Shard, current};

/// An open file, pipe or device on this core's loop.
///
/// Methods that take `&self` know no position and may be used by many tasks at once; those that take `&mut self` share a
/// cursor, which starts at the file's position.
///
/// Dropping the file closes it in the background. A write of the cursor that is under way goes on to its end; nobody is
/// told how it went, so await it. When the loop ends, such a write has one more second.
///
/// # Examples
///
/// ```
/// # annulet::run(async {
/// # let path = std::env::temp_dir().join(format!("annulet-doc-file-{}", std::process::id()));
/// use annulet::fs::File;
/// let mut file = File::create(&path).await.unwrap();
/// file.write_all(b"one two three").await.unwrap();
/// file.sync_data().await.unwrap();
///
/// let file = File::open(&path).await.unwrap();
/// let (count, buffer) = file.read_at(vec![0; 3], 4).await;
/// assert_eq!((count.unwrap(), &buffer[..]), (3, &b"two"[..]));
/// # annulet::fs::remove_file(&path).await.unwrap();
/// # });
/// ```
pub struct File {
    pub(super) shard: Rc<Shard>,
    /// None only while it is dropped.
    fd: Option<Rc<OwnedFd>>,
    /// What O_DIRECT asks for, if the file was opened with it.
    pub(crate) alignment: Option<Alignment>,
    pub(super) stream: Stream,
    /// The seek that tokio's trait has started and nobody asked for the end of.
    #[cfg(feature = "tokio-io")]
    pub(super) seek_to: Option<io::SeekFrom>,
}

impl File {
    pub(super) fn new(shard: Rc<Shard>, fd: OwnedFd, flags: i32) -> Self {
        let alignment = (flags & libc::O_DIRECT != 0).then(|| Alignment::of(&fd));
        File {
            shard,
            fd: Some(Rc::new(fd)),
            alignment,
            stream: Stream::default(),
            #[cfg(feature = "tokio-io")]
            seek_to: None,
        }
    }

    pub(super) fn descriptor(&self) -> &Rc<OwnedFd> {
        self.fd.as_ref().expect("a file has its descriptor until it is dropped")
    }

    /// Opens a file for reading.
    ///
    /// # Errors
    ///
    /// As [`OpenOptions::open`].
    ///
    /// # Panics
    ///
    /// Outside of a loop.
    pub async fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        OpenOptions::new().read(true).open(path).await
    }

    /// Opens a file for writing: makes it, or empties it.
    ///
    /// # Errors
    ///
    /// As [`OpenOptions::open`].
    ///
    /// # Panics
    ///
    /// Outside of a loop.
    pub async fn create(path: impl AsRef<Path>) -> io::Result<Self> {
        OpenOptions::new().write(true).create(true).truncate(true).open(path).await
    }

    /// How a file is to be opened.
    pub fn options() -> OpenOptions {
        OpenOptions::new()
    }

    /// Takes over an open file. The cursor starts at its position, but does not move that of other descriptors of it.
    ///
    /// # Panics
    ///
    /// Outside of a loop.
    #[track_caller]
    pub fn from_std(file: std::fs::File) -> Self {
        let shard = current();
        let direct =
            rustix::fs::fcntl_getfl(&file).is_ok_and(|flags| flags.contains(rustix::fs::OFlags::DIRECT));
        Self::new(shard, OwnedFd::from(file), if direct { libc::O_DIRECT } else { 0 })
    }

    /// Waits until contents and metadata are on the disk: fsync(2).
    ///
    /// # Errors
    ///
    /// What fsync(2) says. After an error nobody knows which of the written bytes are on the disk.
    ///
    /// # Cancel safety
    ///
    /// The kernel may go on with it.
    pub async fn sync_all(&self) -> io::Result<()> {
        request::sync(&self.shard, Rc::clone(self.descriptor()), false).await.result.map(drop)
    }

    /// Waits until the contents are on the disk, with the metadata that it takes to read them: fdatasync(2).
    ///
    /// # Errors
    ///
    /// As [`sync_all`](Self::sync_all).
    ///
    /// # Cancel safety
    ///
    /// The kernel may go on with it.
    pub async fn sync_data(&self) -> io::Result<()> {
        request::sync(&self.shard, Rc::clone(self.descriptor()), true).await.result.map(drop)
    }

    /// Cuts the file off, or lengthens it by zeros: ftruncate(2). The cursor stays.
    ///
    /// # Errors
    ///
    /// What ftruncate(2) says.
    ///
    /// # Cancel safety
    ///
    /// The kernel may go on with it.
    pub async fn set_len(&self, len: u64) -> io::Result<()> {
        if has(&self.shard, Feature::Ftruncate) {
            return request::truncate(&self.shard, Rc::clone(self.descriptor()), len).await.result.map(drop);
        }
        let file = std::fs::File::from(self.descriptor().try_clone()?);
        on_the_pool(move || file.set_len(len)).await
    }

    /// What is known about the file.
    ///
    /// # Errors
    ///
    /// What statx(2) says.
    pub async fn metadata(&self) -> io::Result<Metadata> {
        let outcome = request::file_status(&self.shard, Rc::clone(self.descriptor())).await;
        outcome.result?;
        let Memory::Status(parts) = outcome.payload.memory else {
            unreachable!("statx gives its answer back")
        };
        Ok(Metadata::new(parts.1))
    }
}

impl AsRawFd for File {
    fn as_raw_fd(&self) -> RawFd {
        self.descriptor().as_raw_fd()
    }
}

impl AsFd for File {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor().as_fd()
    }
}

impl Drop for File {
    fn drop(&mut self) {
        std::mem::take(&mut self.stream).leave();
        if let Some(fd) = self.fd.take() {
            close_shared(&self.shard, fd);
        }
    }
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("File").field("fd", &self.as_raw_fd()).finish_non_exhaustive()
    }
}
