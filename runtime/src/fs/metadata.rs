//! What statx(2) says of a file.

use std::fmt;
use std::time::{Duration, SystemTime};

/// What is known about a file: its size, kind, times and owner.
///
/// # Examples
///
/// ```
/// # annulet::run(async {
/// let metadata = annulet::fs::metadata("/proc/self").await.unwrap();
/// assert!(metadata.is_dir() && !metadata.is_file());
/// # });
/// ```
#[derive(Clone)]
pub struct Metadata(libc::statx);

/// Whether a path names a file, a directory, a symbolic link or something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FileType {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A symbolic link.
    Symlink,
    /// A pipe with a name, or one without.
    Pipe,
    /// A Unix socket.
    Socket,
    /// A block or character device, or something newer than this list.
    Device,
}

impl Metadata {
    pub(super) fn new(status: libc::statx) -> Self {
        Metadata(status)
    }

    /// The size in bytes. Files of /proc and pipes say 0 whatever they hold.
    #[allow(clippy::len_without_is_empty, reason = "as std::fs::Metadata")]
    pub fn len(&self) -> u64 {
        self.0.stx_size
    }

    /// What it is.
    pub fn file_type(&self) -> FileType {
        match u32::from(self.0.stx_mode) & libc::S_IFMT {
            libc::S_IFREG => FileType::File,
            libc::S_IFDIR => FileType::Dir,
            libc::S_IFLNK => FileType::Symlink,
            libc::S_IFIFO => FileType::Pipe,
            libc::S_IFSOCK => FileType::Socket,
            _ => FileType::Device,
        }
    }

    /// Whether it is a regular file.
    pub fn is_file(&self) -> bool {
        self.file_type() == FileType::File
    }

    /// Whether it is a directory.
    pub fn is_dir(&self) -> bool {
        self.file_type() == FileType::Dir
    }

    /// Whether it is a symbolic link, which only [`symlink_metadata`](super::symlink_metadata) sees.
    pub fn is_symlink(&self) -> bool {
        self.file_type() == FileType::Symlink
    }

    /// The permission bits, as chmod(2) takes them.
    pub fn mode(&self) -> u32 {
        u32::from(self.0.stx_mode) & 0o7777
    }

    /// The owner's user id.
    pub fn uid(&self) -> u32 {
        self.0.stx_uid
    }

    /// The group id.
    pub fn gid(&self) -> u32 {
        self.0.stx_gid
    }

    /// The inode's number.
    pub fn ino(&self) -> u64 {
        self.0.stx_ino
    }

    /// How many names (hard links) it has.
    pub fn nlink(&self) -> u32 {
        self.0.stx_nlink
    }

    /// Blocks of 512 bytes that it takes on the disk.
    pub fn blocks(&self) -> u64 {
        self.0.stx_blocks
    }

    /// When its contents last changed.
    pub fn modified(&self) -> SystemTime {
        time(self.0.stx_mtime.tv_sec, self.0.stx_mtime.tv_nsec)
    }

    /// When it was last read, as far as the file system's mount options keep it.
    pub fn accessed(&self) -> SystemTime {
        time(self.0.stx_atime.tv_sec, self.0.stx_atime.tv_nsec)
    }

    /// When it was made, where the file system knows.
    pub fn created(&self) -> Option<SystemTime> {
        (self.0.stx_mask & libc::STATX_BTIME != 0)
            .then(|| time(self.0.stx_btime.tv_sec, self.0.stx_btime.tv_nsec))
    }
}

fn time(seconds: i64, nanos: u32) -> SystemTime {
    let whole = Duration::from_secs(seconds.unsigned_abs());
    let nanos = Duration::from_nanos(u64::from(nanos));
    if seconds >= 0 { SystemTime::UNIX_EPOCH + whole + nanos } else { SystemTime::UNIX_EPOCH - whole + nanos }
}

impl fmt::Debug for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metadata")
            .field("file_type", &self.file_type())
            .field("len", &self.len())
            .field("mode", &format_args!("{:o}", self.mode()))
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_1970_are_times_too() {
        let check = |seconds, nanos, since_ns: i128| {
            let found = match time(seconds, nanos).duration_since(SystemTime::UNIX_EPOCH) {
                Ok(after) => after.as_nanos() as i128,
                Err(error) => -(error.duration().as_nanos() as i128),
            };
            assert_eq!(found, since_ns);
        };
        check(0, 0, 0);
        check(1, 5, 1_000_000_005);
        check(-1, 5, -999_999_995);
    }
}
