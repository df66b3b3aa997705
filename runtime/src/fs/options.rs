//! How a file is to be opened.

use std::io;
use std::path::Path;

use super::file::File;
use super::path::{c_path, explain};
use crate::op::request;
use crate::shard::current;

/// How a file is to be opened, as [`std::fs::OpenOptions`], and with O_DIRECT.
///
/// # Examples
///
/// ```
/// # annulet::run(async {
/// # let path = std::env::temp_dir().join(format!("annulet-doc-options-{}", std::process::id()));
/// use annulet::fs::OpenOptions;
/// let file = OpenOptions::new().read(true).write(true).create(true).open(&path).await.unwrap();
/// let (count, _) = file.write_at(b"hello".to_vec(), 0).await;
/// assert_eq!(count.unwrap(), 5);
/// # annulet::fs::remove_file(&path).await.unwrap();
/// # });
/// ```
#[derive(Clone, Debug)]
pub struct OpenOptions {
    read: bool,
    write: bool,
    append: bool,
    truncate: bool,
    create: bool,
    create_new: bool,
    direct: bool,
    mode: u32,
    custom_flags: i32,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl OpenOptions {
    /// Nothing is asked for yet; mode 0o666, less the process's umask.
    pub fn new() -> Self {
        OpenOptions {
            read: false,
            write: false,
            append: false,
            truncate: false,
            create: false,
            create_new: false,
            direct: false,
            mode: 0o666,
            custom_flags: 0,
        }
    }

    /// For reading.
    pub fn read(&mut self, read: bool) -> &mut Self {
        self.read = read;
        self
    }

    /// For writing.
    pub fn write(&mut self, write: bool) -> &mut Self {
        self.write = write;
        self
    }

    /// For writing at the end, wherever that is when the write is carried out; offsets of `write_at` do not count.
    pub fn append(&mut self, append: bool) -> &mut Self {
        self.append = append;
        self
    }

    /// To a length of zero. Needs `write`.
    pub fn truncate(&mut self, truncate: bool) -> &mut Self {
        self.truncate = truncate;
        self
    }

    /// Makes the file if there is none. Needs `write` or `append`.
    pub fn create(&mut self, create: bool) -> &mut Self {
        self.create = create;
        self
    }

    /// Makes the file, and fails if there is one. Needs `write` or `append`.
    pub fn create_new(&mut self, create_new: bool) -> &mut Self {
        self.create_new = create_new;
        self
    }

    /// Permission bits of a file that is made, less the process's umask.
    pub fn mode(&mut self, mode: u32) -> &mut Self {
        self.mode = mode;
        self
    }

    /// More flags of open(2).
    pub fn custom_flags(&mut self, flags: i32) -> &mut Self {
        self.custom_flags = flags;
        self
    }

    /// Past the page cache (O_DIRECT). Buffers, lengths and offsets must be aligned then: use
    /// [`AlignedBuf`](super::AlignedBuf) with [`File::read_at`] and [`File::write_at`]. Not every file system has it.
    pub fn direct(&mut self, direct: bool) -> &mut Self {
        self.direct = direct;
        self
    }

    /// Opens the file.
    ///
    /// # Errors
    ///
    /// What open(2) says, with the path in the message; `InvalidInput` for options that contradict each other.
    ///
    /// # Cancel safety
    ///
    /// A file that was opened for a dropped future is closed. It may have been made or emptied.
    ///
    /// # Panics
    ///
    /// Outside of a loop.
    pub async fn open(&self, path: impl AsRef<Path>) -> io::Result<File> {
        let path = path.as_ref();
        let shard = current();
        let opened = async {
            let outcome = request::open(&shard, c_path(path)?, self.flags()?, self.mode).await;
            outcome.into_descriptor()
        };
        let fd = opened.await.map_err(|error| explain("open", path, &error))?;
        Ok(File::new(shard, fd, self.flags()?))
    }

    /// Flags of open(2).
    fn flags(&self) -> io::Result<i32> {
        let wrong = |message: &str| Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        let writes = self.write || self.append;
        let access = match (self.read, writes) {
            (true, false) => libc::O_RDONLY,
            (false, true) => libc::O_WRONLY,
            (true, true) => libc::O_RDWR,
            (false, false) => return wrong("the options ask for no access; set read, write or append"),
        };
        if (self.create || self.create_new || self.truncate) && !writes {
            return wrong("create, create_new and truncate need write or append");
        }
        if self.append && self.truncate {
            return wrong("append and truncate contradict each other");
        }
        let create = match (self.create, self.create_new) {
            (_, true) => libc::O_CREAT | libc::O_EXCL,
            (true, false) => libc::O_CREAT,
            (false, false) => 0,
        };
        let flag = |wanted: bool, flag: i32| if wanted { flag } else { 0 };
        Ok(access
            | create
            | flag(self.append, libc::O_APPEND)
            | flag(self.truncate, libc::O_TRUNC)
            | flag(self.direct, libc::O_DIRECT)
            | (self.custom_flags & !libc::O_ACCMODE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_become_flags_of_open() {
        let check = |options: &OpenOptions, flags| assert_eq!(options.flags().ok(), flags, "{options:?}");
        check(&OpenOptions::new(), None);
        check(OpenOptions::new().read(true), Some(libc::O_RDONLY));
        check(OpenOptions::new().read(true).create(true), None);
        check(OpenOptions::new().append(true).truncate(true), None);
        check(
            OpenOptions::new().append(true).create(true),
            Some(libc::O_WRONLY | libc::O_APPEND | libc::O_CREAT),
        );
        check(
            OpenOptions::new().read(true).write(true).create_new(true).direct(true),
            Some(libc::O_RDWR | libc::O_CREAT | libc::O_EXCL | libc::O_DIRECT),
        );
        check(
            OpenOptions::new().write(true).create(true).truncate(true).custom_flags(libc::O_NOFOLLOW),
            Some(libc::O_WRONLY | libc::O_CREAT | libc::O_TRUNC | libc::O_NOFOLLOW),
        );
    }
}
