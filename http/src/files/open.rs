//! From a request's path to an open file below a directory: out of what the kernel has in memory, on the loop, or with a wait for the
//! disk, on the blocking pool.
use std::ffi::OsString;
use std::fs::{File, Metadata};
use std::io::{self, IoSliceMut, Read, Seek};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use percent_encoding::percent_decode_str;
use rustix::fs::{Mode, OFlags, ResolveFlags, fstatfs, openat2};
use rustix::io::{Errno, ReadWriteFlags, preadv2};

use super::conditions::Validators;
use super::shared::FileId;

/// Files up to this length are read before the answer is made. In bytes.
const READ_AT_ONCE_BYTES_MAX: u64 = 64 * 1024;

/// File systems that answer out of memory what they have there: the numbers of statfs(2) for ext2 to ext4, XFS, Btrfs, F2FS, ZFS, tmpfs,
/// overlayfs, SquashFS and EROFS. Others may ask a server about each name.
const LOCAL: [u64; 9] = [
    0xef53,
    0x5846_5342,
    0x9123_683e,
    0xf2f5_2010,
    0x2fc1_2fc1,
    0x0102_1994,
    0x794c_7630,
    0x7371_7368,
    0xe0f5_e1e2,
];

/// So often a file that cannot be opened now is waited for: half a second in all, on a thread of the blocking pool. Arbitrary.
const PAUSES_MAX: u32 = 9;

/// How old a file has to be before its date alone tells its versions apart (RFC 9110 section 8.8.2.2): a second, and what clocks may
/// differ, as RFC 7232 had it.
const DATE_STRONG_AFTER: Duration = Duration::from_secs(60);

/// How a lookup may go about it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// Out of what the kernel has in memory, or `WouldBlock`: for the loop.
    Cached,
    /// It may wait for a disk: for the blocking pool.
    Waiting,
}

/// A file that was found.
pub(super) struct Found {
    pub(super) file: File,
    pub(super) id: FileId,
    pub(super) len: u64,
    pub(super) validators: Validators,
    /// `gzip` or `br`, if it is a compressed form of what was asked for.
    pub(super) coding: Option<&'static str>,
    /// All of it, once it is read, if it is short.
    pub(super) content: Option<Vec<u8>>,
    /// The name to guess a type from.
    pub(super) name: OsString,
}

/// What a path stands for.
pub(super) enum Lookup<F = Box<Found>> {
    File(F),
    /// A directory, asked for without its slash.
    NeedsSlash,
    /// Nothing, or nothing that may be seen.
    Nothing,
}

impl<F> Lookup<F> {
    pub(super) fn map<T>(self, file: impl FnOnce(F) -> T) -> Lookup<T> {
        match self {
            Lookup::File(found) => Lookup::File(file(found)),
            Lookup::NeedsSlash => Lookup::NeedsSlash,
            Lookup::Nothing => Lookup::Nothing,
        }
    }
}

/// Which compressed forms the client takes, best first.
pub(super) type Codings = [Option<(&'static str, &'static str)>; 2];

/// The directory itself, and whether this kernel can keep lookups inside of it.
pub(super) fn open_root(path: &Path) -> io::Result<OwnedFd> {
    let root: OwnedFd = File::open(path)?.into();
    // Linux 5.6: openat2(2). Without it nothing is served rather than too much.
    match openat2(
        &root,
        ".",
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::BENEATH,
    ) {
        Ok(_) => Ok(root),
        Err(Errno::NOSYS) => {
            Err(io::Error::new(io::ErrorKind::Unsupported, "serving files needs openat2(2), Linux 5.6"))
        }
        Err(error) => Err(error.into()),
    }
}

/// Whether lookups below it are worth a try without waiting.
pub(super) fn is_local(root: &impl AsFd) -> bool {
    fstatfs(root).is_ok_and(|file_system| LOCAL.contains(&(file_system.f_type as u64)))
}

/// The relative path that a request's path stands for; `None` for what is never served: `..`, hidden names, an encoded slash or NUL.
pub(super) fn relative(path: &str) -> Option<OsString> {
    let mut relative = Vec::new();
    let mut segments = path.strip_prefix('/')?.split('/').peekable();
    while let Some(segment) = segments.next() {
        let decoded: Vec<u8> = percent_decode_str(segment).collect();
        let is_last = segments.peek().is_none();
        if decoded.is_empty() && is_last {
            break;
        }
        // RFC 8615: the one hidden name that is meant to be seen.
        let is_hidden = decoded.first() == Some(&b'.') && decoded != b".well-known";
        if decoded.is_empty() || is_hidden || decoded.iter().any(|b| matches!(b, b'/' | 0)) {
            return None;
        }
        if !relative.is_empty() {
            relative.push(b'/');
        }
        relative.extend_from_slice(&decoded);
    }
    Some(OsString::from_vec(relative))
}

/// Opens what a request asks for; its content is not read yet.
///
/// # Errors
///
/// What open(2) says, but for what means that there is nothing to be seen. Of [`Way::Cached`] `WouldBlock` too, when that is not known
/// without a wait.
pub(super) fn find(root: &impl AsFd, path: &str, codings: &Codings, way: Way) -> io::Result<Lookup> {
    let Some(mut name) = relative(path) else { return Ok(Lookup::Nothing) };
    if path.ends_with('/') {
        if !name.is_empty() {
            name.push("/");
        }
        name.push("index.html");
    }
    let plain = match open(root, &name, way)? {
        Some(file) => {
            let metadata = file.metadata()?;
            match metadata.is_dir() {
                true if path.ends_with('/') => return Ok(Lookup::Nothing),
                true => return Ok(Lookup::NeedsSlash),
                false => Some((file, metadata)),
            }
        }
        None => None,
    };
    for (coding, suffix) in codings.iter().flatten() {
        let mut compressed = name.clone();
        compressed.push(suffix);
        if let Some(file) = open(root, &compressed, way)? {
            let metadata = file.metadata()?;
            if metadata.is_file() {
                return Ok(Lookup::File(Box::new(Found::new(file, &metadata, name, Some(coding)))));
            }
        }
    }
    Ok(match plain {
        Some((file, metadata)) if metadata.is_file() => {
            Lookup::File(Box::new(Found::new(file, &metadata, name, None)))
        }
        _ => Lookup::Nothing,
    })
}

/// `None` for what is not there or must not be seen.
fn open(root: &impl AsFd, name: &OsString, way: Way) -> io::Result<Option<File>> {
    // NONBLOCK: opening a FIFO must not wait for its writer. Symbolic links may lead anywhere inside, never out.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let mut resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    if way == Way::Cached {
        // What is mounted below may be another kind of file system.
        resolve |= ResolveFlags::CACHED | ResolveFlags::NO_XDEV;
    }
    let look = || openat2(root, name, flags, Mode::empty(), resolve);
    let looked = match way {
        Way::Cached => look(),
        Way::Waiting => insist(look, std::thread::sleep),
    };
    match looked {
        Ok(file) => Ok(Some(file.into())),
        // Not known by now, or another file system; INVAL: before Linux 5.12. What is leased is waited for elsewhere too.
        Err(Errno::AGAIN | Errno::INTR | Errno::XDEV | Errno::INVAL) if way == Way::Cached => {
            Err(io::ErrorKind::WouldBlock.into())
        }
        Err(Errno::NOENT | Errno::NOTDIR | Errno::XDEV | Errno::LOOP | Errno::ACCESS | Errno::PERM) => {
            Ok(None)
        }
        Err(Errno::NAMETOOLONG | Errno::NXIO | Errno::INVAL) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Looks again while the kernel says so, with a pause before each time: 1 ms, then twice as long as the one before.
///
/// A name was moved while it was looked up (openat2(2)), and the next look will do; or somebody holds a lease on the file (fcntl(2): file
/// servers for other machines do), who has been told by the first look and may take `/proc/sys/fs/lease-break-time` to write what they
/// have.
fn insist<T>(
    mut look: impl FnMut() -> Result<T, Errno>,
    mut pause: impl FnMut(Duration),
) -> Result<T, Errno> {
    let mut length = Duration::from_millis(1);
    for _ in 0..PAUSES_MAX {
        match look() {
            Err(Errno::AGAIN | Errno::INTR) => pause(length),
            looked => return looked,
        }
        length *= 2;
    }
    look()
}

/// A short file whose length is another one than when it was looked at is read so often.
const READS_MAX: u32 = 4;

impl Found {
    fn new(file: File, metadata: &Metadata, name: OsString, coding: Option<&'static str>) -> Found {
        let (id, validators) = identity(metadata);
        Found { file, id, len: id.len, validators, coding, content: None, name }
    }

    /// Whether its content has to be read before the answer can be made.
    pub(super) fn wants_content(&self) -> bool {
        self.len <= READ_AT_ONCE_BYTES_MAX && self.content.is_none()
    }

    /// Reads the content of a short file, with a wait if need be. An error if it changes all the time.
    pub(super) fn read(&mut self) -> io::Result<()> {
        for _ in 0..READS_MAX {
            if !self.wants_content() {
                return Ok(());
            }
            let mut content = Vec::with_capacity(self.len as usize);
            self.file.rewind()?;
            (&self.file).take(READ_AT_ONCE_BYTES_MAX + 1).read_to_end(&mut content)?;
            if content.len() as u64 == self.len {
                self.keep(content);
                return Ok(());
            }
            // Somebody is at work on it: what was read may be neither what it was nor what it is.
            self.look_again()?;
        }
        Err(io::Error::other("its length is not what it says, or changes all the time"))
    }

    /// It has changed since it was looked at: its validators and its length are others.
    fn look_again(&mut self) -> io::Result<()> {
        (self.id, self.validators) = identity(&self.file.metadata()?);
        self.len = self.id.len;
        Ok(())
    }

    /// As `read`, if the page cache has all of it; otherwise nothing happens.
    pub(super) fn read_cached(&mut self) {
        if !self.wants_content() {
            return;
        }
        // One more than there was: it may have become longer.
        let mut content = vec![0; self.len as usize + 1];
        // Linux 4.14; refused by file systems that cannot tell. Who gets less than it asked for may have met a page that is not there.
        let read = preadv2(&self.file, &mut [IoSliceMut::new(&mut content)], 0, ReadWriteFlags::NOWAIT);
        if read == Ok(self.len as usize) {
            content.truncate(self.len as usize);
            self.keep(content);
        }
    }

    fn keep(&mut self, content: Vec<u8>) {
        // It may have changed since it was looked at: then it is what was read.
        self.len = content.len() as u64;
        self.content = Some(content);
    }
}

/// What tells this version of a file from others, on this machine and to clients.
fn identity(metadata: &Metadata) -> (FileId, Validators) {
    let len = metadata.len();
    let seconds = u64::try_from(metadata.mtime()).unwrap_or(0);
    // A date in the future would make every answer seem old (RFC 9110 section 8.8.2.1).
    let now = SystemTime::now();
    let modified = (UNIX_EPOCH + Duration::from_secs(seconds)).min(now);
    let is_date_strong = now >= modified + DATE_STRONG_AFTER;
    let since_epoch = modified.duration_since(UNIX_EPOCH).unwrap_or_default();
    let modified = UNIX_EPOCH + Duration::from_secs(since_epoch.as_secs());
    // The inode too: a file that was moved into place may be as old and as long as the one before.
    let etag = format!("\"{:x}-{:x}-{:x}{:x}\"", metadata.ino(), len, seconds, metadata.mtime_nsec());
    let id = FileId {
        dev: metadata.dev(),
        ino: metadata.ino(),
        len,
        modified: (metadata.mtime(), metadata.mtime_nsec()),
    };
    (id, Validators { etag, modified, is_date_strong })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find_cached(root: &OwnedFd, path: &str) -> io::Result<Lookup> {
        find(root, path, &Codings::default(), Way::Cached)
    }

    /// Stands for what the memory does not know: nobody has ever asked for this name.
    #[test]
    fn a_name_that_was_never_looked_up_is_not_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let root = open_root(directory.path()).unwrap();
        let error = find_cached(&root, "/new").err().expect("it is not known");
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        let found = find(&root, "/new", &Codings::default(), Way::Waiting).unwrap();
        assert!(matches!(found, Lookup::Nothing));
    }

    #[test]
    fn another_file_system_is_not_looked_into_at_once() {
        let device = |path| std::fs::metadata(path).unwrap().dev();
        if device("/") == device("/dev") {
            return println!("skipped: nothing is mounted at /dev");
        }
        let root = open_root(Path::new("/")).unwrap();
        // Known in any case; most of /proc and /sys is asked again for each lookup.
        File::open("/dev/null").unwrap();
        let error = find_cached(&root, "/dev/null").err().expect("it is another file system");
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn what_is_in_memory_is_found_and_read_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let root = open_root(directory.path()).unwrap();
        for len in [0, 1, 4096, READ_AT_ONCE_BYTES_MAX] {
            std::fs::write(directory.path().join("a"), vec![b'x'; len as usize]).unwrap();
            let found = match find_cached(&root, "/a") {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    println!("skipped: this kernel, or this file system, does not look up without waiting");
                    return;
                }
                found => found.unwrap(),
            };
            let Lookup::File(mut found) = found else { panic!("the file is there") };
            assert!(found.wants_content());
            found.read_cached();
            if found.wants_content() {
                // As overlayfs may.
                println!("skipped: this file system does not read without waiting");
                return;
            }
            assert_eq!(found.content.as_ref().map(Vec::len), Some(len as usize));
            assert_eq!(found.len, len);
        }
    }

    /// What has changed since it was looked at is left to `read`, which takes it as it is then.
    #[test]
    fn a_file_that_became_longer_or_shorter_is_read_as_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let root = open_root(directory.path()).unwrap();
        let path = directory.path().join("a");
        for (before, after) in [(5, 0), (5, 3), (5, 9), (5, READ_AT_ONCE_BYTES_MAX as usize)] {
            std::fs::write(&path, vec![b'x'; before]).unwrap();
            let found = find(&root, "/a", &Codings::default(), Way::Waiting).unwrap();
            let Lookup::File(mut found) = found else { panic!("the file is there") };
            std::fs::write(&path, vec![b'y'; after]).unwrap();
            found.read_cached();
            assert!(found.wants_content(), "{before} became {after}");
            found.read().unwrap();
            assert_eq!(found.content, Some(vec![b'y'; after]));
            assert_eq!(found.len, after as u64);
            assert_eq!(found.validators, validators(&root), "{before} became {after}");
        }
    }

    fn validators(root: &OwnedFd) -> Validators {
        let found = find(root, "/a", &Codings::default(), Way::Waiting).unwrap();
        let Lookup::File(found) = found else { panic!("the file is there") };
        found.validators
    }

    #[test]
    fn a_file_that_became_too_long_to_be_read_at_once_is_left_to_be_sent_as_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let root = open_root(directory.path()).unwrap();
        let path = directory.path().join("a");
        std::fs::write(&path, "short").unwrap();
        let found = find(&root, "/a", &Codings::default(), Way::Waiting).unwrap();
        let Lookup::File(mut found) = found else { panic!("the file is there") };
        let len = READ_AT_ONCE_BYTES_MAX + 10;
        std::fs::write(&path, vec![b'y'; len as usize]).unwrap();
        found.read().unwrap();
        assert_eq!((found.content.as_deref(), found.len, found.id.len), (None, len, len));
        assert_eq!(found.validators, validators(&root));
    }

    /// As long as a lease is held, and when it is given up.
    #[test]
    fn a_file_that_cannot_be_opened_now_is_not_waited_for_for_ever() {
        let check = |refusals: u32, refusal: Errno, expected: Result<(), Errno>, pauses_ms: &[u128]| {
            let mut left = refusals;
            let mut pauses = Vec::new();
            let looked = insist(
                || match left.checked_sub(1) {
                    Some(less) => {
                        left = less;
                        Err(refusal)
                    }
                    None => Ok(()),
                },
                |length| {
                    pauses.push(length.as_millis());
                    assert!(pauses.len() < 100, "it does not come to an end");
                },
            );
            assert_eq!(looked, expected, "{refusals} times {refusal:?}");
            assert_eq!(pauses, pauses_ms, "{refusals} times {refusal:?}");
        };
        check(0, Errno::AGAIN, Ok(()), &[]);
        check(2, Errno::AGAIN, Ok(()), &[1, 2]);
        check(1, Errno::INTR, Ok(()), &[1]);
        check(1, Errno::NOENT, Err(Errno::NOENT), &[]);
        check(u32::MAX, Errno::AGAIN, Err(Errno::AGAIN), &[1, 2, 4, 8, 16, 32, 64, 128, 256]);
    }

    #[test]
    fn paths() {
        let check = |path: &str, expected: Option<&str>| {
            assert_eq!(relative(path).as_deref(), expected.map(std::ffi::OsStr::new), "{path:?}");
        };
        check("/", Some(""));
        check("/a", Some("a"));
        check("/a/", Some("a"));
        check("/a/b%20c", Some("a/b c"));
        check("/.well-known/x", Some(".well-known/x"));
        check("/..", None);
        check("/../a", None);
        check("/a/../b", None);
        check("/a/./b", None);
        check("/%2e%2e/a", None);
        check("/.%2e/a", None);
        check("/..%2fa", None);
        check("/a%2fb", None);
        check("/a%00b", None);
        check("/.git/config", None);
        check("/a/.env", None);
        check("//a", None);
        check("/a//b", None);
        check("*", None);
        check("/a/%2e%2e%2f%2e%2e%2fetc/passwd", None);
        check("/...", None);
    }
}
