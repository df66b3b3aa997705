//! Whole files at once.

use std::io;
use std::path::Path;
use std::rc::Rc;

use super::file::File;
use super::path::{explain, explain_two};
use crate::driver::CURRENT_POSITION;
use crate::op::{Memory, ended, request};

/// The buffer of [`copy`]. Arbitrary: a larger one copies no faster.
const COPY_BYTES: usize = 256 << 10;

/// Reads a file to its end, and not to the size that it says it has, so that pipes and files of /proc work as well.
///
/// # Errors
///
/// What open(2) and read(2) say, with the path in the message.
///
/// # Cancel safety
///
/// Dropping the future closes the file.
///
/// # Panics
///
/// Outside of a loop.
///
/// # Examples
///
/// ```
/// # annulet::run(async {
/// let status = annulet::fs::read("/proc/self/status").await.unwrap();
/// assert!(status.starts_with(b"Name:"));
/// # });
/// ```
pub async fn read(path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
    let path = path.as_ref();
    let file = File::open(path).await?;
    file.read_to_end_from_start().await.map_err(|error| explain("read", path, &error))
}

/// Reads a file to its end, as text.
///
/// # Errors
///
/// As [`read()`]; `InvalidData` when it is not UTF-8.
///
/// # Cancel safety
///
/// As [`read()`].
///
/// # Panics
///
/// Outside of a loop.
pub async fn read_to_string(path: impl AsRef<Path>) -> io::Result<String> {
    let path = path.as_ref();
    String::from_utf8(read(path).await?).map_err(|error| {
        let message = format!("{} is not UTF-8 text: {}", path.display(), error.utf8_error());
        io::Error::new(io::ErrorKind::InvalidData, message)
    })
}

/// Makes the file, or empties it, and writes `contents`. An owned `Vec<u8>` or `String` is not copied.
///
/// # Errors
///
/// What open(2) and write(2) say, with the path in the message.
///
/// # Cancel safety
///
/// A dropped future leaves a part of the contents in the file.
///
/// # Panics
///
/// Outside of a loop.
pub async fn write(path: impl AsRef<Path>, contents: impl Into<Vec<u8>>) -> io::Result<()> {
    let path = path.as_ref();
    let file = File::create(path).await?;
    let (len, mut memory) = {
        let bytes = contents.into();
        (bytes.len(), Memory::Bytes(bytes))
    };
    let mut done = 0;
    while done < len {
        // At the kernel's position: a pipe has no other.
        let fd = Rc::clone(file.descriptor());
        let outcome = request::write(&file.shard, fd, memory, done, CURRENT_POSITION).await;
        memory = outcome.payload.memory;
        match outcome.result {
            Ok(0) => return Err(explain("write", path, &io::ErrorKind::WriteZero.into())),
            Ok(count) => done += count as usize,
            Err(error) => return Err(explain("write", path, &error)),
        }
    }
    Ok(())
}

/// Copies the contents and the permission bits of a file to another, which is made or emptied. Gives the count of bytes.
/// A pipe or a device gets the contents alone.
///
/// # Errors
///
/// What open(2), read(2) and write(2) say, with the paths in the message.
///
/// # Cancel safety
///
/// A dropped future leaves a part of the contents in the other file.
///
/// # Panics
///
/// Outside of a loop.
pub async fn copy(from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<u64> {
    let (from, to) = (from.as_ref(), to.as_ref());
    let source = File::open(from).await?;
    let metadata = source.metadata().await?;
    if !metadata.is_file() {
        let error = io::Error::new(io::ErrorKind::InvalidInput, "the source is no regular file");
        return Err(explain_two("copy", from, to, &error));
    }
    let mut options = File::options();
    let target = options.write(true).create(true).truncate(true).mode(metadata.mode()).open(to).await?;
    let explain = |error: io::Error| explain_two("copy", from, to, &error);
    // An existing file keeps its bits through open(2). Those of a device or a pipe are not ours to change.
    if target.metadata().await.map_err(explain)?.is_file() {
        rustix::fs::fchmod(&target, rustix::fs::Mode::from_raw_mode(metadata.mode()))
            .map_err(|error| explain(error.into()))?;
    }
    let mut buffer = vec![0; COPY_BYTES];
    let mut copied = 0;
    loop {
        let (count, mut bytes) = source.read_at(buffer, copied).await;
        let count = count.map_err(explain)?;
        if count == 0 {
            return Ok(copied);
        }
        bytes.truncate(count);
        let (written, mut bytes) = target.write_all_at(bytes, copied).await;
        written.map_err(explain)?;
        copied += count as u64;
        if bytes.is_empty() {
            return Err(explain(ended()));
        }
        bytes.resize(COPY_BYTES, 0);
        buffer = bytes;
    }
}
