//! From a request's path to an open file below a directory. Blocks: for the blocking pool.
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use percent_encoding::percent_decode_str;
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};

use super::conditions::Validators;
use super::shared::FileId;

/// Files up to this length are read where they are opened: one trip to the pool for most. In bytes.
const READ_AT_ONCE_BYTES_MAX: u64 = 64 * 1024;

/// A file that was found.
pub(super) struct Found {
    pub(super) file: File,
    pub(super) id: FileId,
    pub(super) len: u64,
    pub(super) validators: Validators,
    /// `gzip` or `br`, if it is a compressed form of what was asked for.
    pub(super) coding: Option<&'static str>,
    /// All of it, if it is short.
    pub(super) content: Option<Vec<u8>>,
    /// The name to guess a type from.
    pub(super) name: OsString,
}

/// What a path stands for.
pub(super) enum Lookup {
    File(Box<Found>),
    /// A directory, asked for without its slash.
    NeedsSlash,
    /// Nothing, or nothing that may be seen.
    Nothing,
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
        Err(rustix::io::Errno::NOSYS) => {
            Err(io::Error::new(io::ErrorKind::Unsupported, "serving files needs openat2(2), Linux 5.6"))
        }
        Err(error) => Err(error.into()),
    }
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

/// Opens what a request asks for.
pub(super) fn find(root: &impl AsFd, path: &str, codings: &Codings) -> io::Result<Lookup> {
    let Some(mut name) = relative(path) else { return Ok(Lookup::Nothing) };
    if path.ends_with('/') {
        if !name.is_empty() {
            name.push("/");
        }
        name.push("index.html");
    }
    for (coding, suffix) in codings.iter().flatten() {
        let mut compressed = name.clone();
        compressed.push(suffix);
        if let Some(file) = open(root, &compressed)?
            && file.metadata()?.is_file()
        {
            return found(file, name, Some(coding)).map(|found| Lookup::File(Box::new(found)));
        }
    }
    let Some(file) = open(root, &name)? else { return Ok(Lookup::Nothing) };
    let kind = file.metadata()?.file_type();
    if kind.is_file() {
        found(file, name, None).map(|found| Lookup::File(Box::new(found)))
    } else if kind.is_dir() {
        Ok(Lookup::NeedsSlash)
    } else {
        Ok(Lookup::Nothing)
    }
}

/// `None` for what is not there or must not be seen.
fn open(root: &impl AsFd, name: &OsString) -> io::Result<Option<File>> {
    // NONBLOCK: opening a FIFO must not wait for its writer. Symbolic links may lead anywhere inside, never out.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    use rustix::io::Errno;
    loop {
        return match openat2(root, name, flags, Mode::empty(), resolve) {
            Ok(file) => Ok(Some(file.into())),
            // A name was moved while it was looked up: see openat2(2).
            Err(Errno::AGAIN | Errno::INTR) => continue,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::XDEV | Errno::LOOP | Errno::ACCESS | Errno::PERM) => {
                Ok(None)
            }
            Err(Errno::NAMETOOLONG | Errno::NXIO | Errno::INVAL) => Ok(None),
            Err(error) => Err(error.into()),
        };
    }
}

fn found(file: File, name: OsString, coding: Option<&'static str>) -> io::Result<Found> {
    let metadata = file.metadata()?;
    let len = metadata.len();
    let seconds = u64::try_from(metadata.mtime()).unwrap_or(0);
    // A date in the future would make every answer seem old (RFC 9110 section 8.8.2.1).
    let modified = (UNIX_EPOCH + Duration::from_secs(seconds)).min(SystemTime::now());
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
    let validators = Validators { etag, modified };
    let mut found = Found { file, id, len, validators, coding, content: None, name };
    if len <= READ_AT_ONCE_BYTES_MAX {
        let mut content = Vec::with_capacity(len as usize);
        (&found.file).take(READ_AT_ONCE_BYTES_MAX + 1).read_to_end(&mut content)?;
        // It may have changed since: then it is what was read.
        found.len = content.len() as u64;
        found.content = Some(content);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

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
