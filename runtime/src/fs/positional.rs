//! Reads and writes at a given place: `&self`, no cursor, any number under way at once.

use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use super::buffer::Buffer;
use super::file::File;
use crate::op::{Memory, request};

/// What one operation of the borrowed tier moves at the most; it allocates that much.
pub(super) const BOUNCE_BYTES_MAX: usize = 256 << 10;

/// What O_DIRECT asks of addresses, lengths and offsets, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Alignment {
    memory: u32,
    offset: u32,
}

impl Alignment {
    /// A page: every file system and device takes it.
    const UNKNOWN: Alignment = Alignment { memory: 4096, offset: 4096 };

    /// What statx(2) says (STATX_DIOALIGN, Linux 6.1). It is asked without the ring: of an open file it does not wait.
    pub(super) fn of(file: &OwnedFd) -> Self {
        let flags = rustix::fs::AtFlags::EMPTY_PATH | rustix::fs::AtFlags::STATX_DONT_SYNC;
        match rustix::fs::statx(file, c"", flags, rustix::fs::StatxFlags::DIOALIGN) {
            Ok(status) if status.stx_dio_mem_align > 0 && status.stx_dio_offset_align > 0 => {
                Alignment { memory: status.stx_dio_mem_align, offset: status.stx_dio_offset_align }
            }
            _ => Self::UNKNOWN,
        }
    }

    /// Whether a read that brought `done` bytes may be followed by one behind it: a count that is no multiple is the rest of
    /// a file, which ends there.
    fn goes_on(self, done: usize) -> bool {
        done.is_multiple_of(self.offset as usize)
    }

    /// Refuses what the kernel would refuse with a bare EINVAL.
    pub(super) fn check(self, address: usize, len: usize, offset: u64) -> io::Result<()> {
        let Alignment { memory, offset: step } = self;
        let (what, value, must) = if !address.is_multiple_of(memory as usize) {
            ("the buffer's address", address as u64, memory)
        } else if !len.is_multiple_of(step as usize) {
            ("the buffer's length", len as u64, step)
        } else if !offset.is_multiple_of(u64::from(step)) {
            ("the offset", offset, step)
        } else {
            return Ok(());
        };
        Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!(
                "{what}, {value}, is no multiple of {must}, as this file, opened with direct(true) (O_DIRECT), needs; \
                 use an AlignedBuf whose length, and an offset, are multiples of {}",
                step.max(memory)
            ),
        ))
    }
}

impl File {
    /// Reads at `offset` into `buffer`, as much as is there, at most the buffer's length. The buffer comes back, on failure
    /// too; its length stays, the count says how much of it was read. 0 is the end of the file.
    ///
    /// Nothing is allocated and nothing copied: the kernel writes into the buffer. The read starts when the future is first
    /// polled.
    ///
    /// # Errors
    ///
    /// What pread(2) says; `InvalidInput` for an empty buffer, and for what is not aligned in a file that was opened with
    /// [`direct`](super::OpenOptions::direct). A pipe has no offsets; the
    /// ring takes none into account there.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cancels the read; the buffer is freed when the kernel is done with it.
    ///
    /// # Examples
    ///
    /// ```
    /// # annulet::run(async {
    /// let file = annulet::fs::File::open("/proc/self/comm").await.unwrap();
    /// let (count, buffer) = file.read_at(vec![0; 64], 0).await;
    /// println!("{}", String::from_utf8_lossy(&buffer[..count.unwrap()]));
    /// # });
    /// ```
    #[inline]
    pub async fn read_at<B: Buffer>(&self, buffer: B, offset: u64) -> (io::Result<usize>, B) {
        let bytes = buffer.as_ref();
        if bytes.is_empty() {
            return (Err(empty()), buffer);
        }
        if let Err(error) = self.check(bytes, offset) {
            return (Err(error), buffer);
        }
        let read = request::read(&self.shard, Rc::clone(self.descriptor()), buffer.lend(), 0, offset);
        let outcome = read.await;
        (outcome.result.map(|count| count as usize), B::take_back(outcome.payload.memory))
    }

    /// Writes `buffer` at `offset`, or a part of it: the count says how much. The buffer comes back, on failure too.
    ///
    /// Nothing is allocated and nothing copied. The write starts when the future is first polled.
    ///
    /// # Errors
    ///
    /// What pwrite(2) says; `InvalidInput` for what is not aligned in a file that was opened with
    /// [`direct`](super::OpenOptions::direct).
    ///
    /// # Cancel safety
    ///
    /// A dropped write may have been carried out, or may still be, in whole or in part.
    ///
    /// # Examples
    ///
    /// ```
    /// # annulet::run(async {
    /// # let path = std::env::temp_dir().join(format!("annulet-doc-write-at-{}", std::process::id()));
    /// let file = annulet::fs::File::create(&path).await.unwrap();
    /// let (count, buffer) = file.write_at(b"hello".to_vec(), 100).await;
    /// assert_eq!((count.unwrap(), buffer.len()), (5, 5));
    /// assert_eq!(file.metadata().await.unwrap().len(), 105);
    /// # annulet::fs::remove_file(&path).await.unwrap();
    /// # });
    /// ```
    #[inline]
    pub async fn write_at<B: Buffer>(&self, buffer: B, offset: u64) -> (io::Result<usize>, B) {
        if let Err(error) = self.check(buffer.as_ref(), offset) {
            return (Err(error), buffer);
        }
        let write = request::write(&self.shard, Rc::clone(self.descriptor()), buffer.lend(), 0, offset);
        let outcome = write.await;
        (outcome.result.map(|count| count as usize), B::take_back(outcome.payload.memory))
    }

    /// Fills the whole of `buffer` from `offset` on.
    ///
    /// # Errors
    ///
    /// As [`read_at`](Self::read_at); `UnexpectedEof` when the file ends first.
    ///
    /// # Cancel safety
    ///
    /// As [`read_at`](Self::read_at).
    pub async fn read_exact_at<B: Buffer>(&self, buffer: B, offset: u64) -> (io::Result<()>, B) {
        if let Err(error) = self.check(buffer.as_ref(), offset) {
            return (Err(error), buffer);
        }
        let (len, mut memory) = (buffer.as_ref().len(), buffer.lend());
        let mut done = 0;
        while done < len {
            let place = offset + done as u64;
            let outcome = request::read(&self.shard, Rc::clone(self.descriptor()), memory, done, place).await;
            memory = outcome.payload.memory;
            match outcome.result {
                Ok(0) => return (Err(io::ErrorKind::UnexpectedEof.into()), B::take_back(memory)),
                Ok(count) => done += count as usize,
                Err(error) => return (Err(error), B::take_back(memory)),
            }
            if done < len && self.alignment.is_some_and(|alignment| !alignment.goes_on(done)) {
                return (Err(io::ErrorKind::UnexpectedEof.into()), B::take_back(memory));
            }
        }
        (Ok(()), B::take_back(memory))
    }

    /// Writes the whole of `buffer` at `offset`.
    ///
    /// # Errors
    ///
    /// As [`write_at`](Self::write_at).
    ///
    /// # Cancel safety
    ///
    /// As [`write_at`](Self::write_at).
    pub async fn write_all_at<B: Buffer>(&self, buffer: B, offset: u64) -> (io::Result<()>, B) {
        if let Err(error) = self.check(buffer.as_ref(), offset) {
            return (Err(error), buffer);
        }
        let (len, mut memory) = (buffer.as_ref().len(), buffer.lend());
        let mut done = 0;
        while done < len {
            let place = offset + done as u64;
            let outcome =
                request::write(&self.shard, Rc::clone(self.descriptor()), memory, done, place).await;
            memory = outcome.payload.memory;
            match outcome.result {
                Ok(0) => return (Err(io::ErrorKind::WriteZero.into()), B::take_back(memory)),
                Ok(count) => done += count as usize,
                Err(error) => return (Err(error), B::take_back(memory)),
            }
        }
        (Ok(()), B::take_back(memory))
    }

    /// Reads at `offset` into a borrowed slice, at most 256 KiB at a time. It goes through a buffer that is allocated for it;
    /// [`read_at`](Self::read_at) needs none.
    ///
    /// # Errors
    ///
    /// As [`read_at`](Self::read_at). Files that were opened with [`direct`](super::OpenOptions::direct) refuse it.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cancels the read.
    pub async fn read_slice_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        self.refuse_direct()?;
        let (count, bounce) = self.read_at(vec![0; buffer.len().min(BOUNCE_BYTES_MAX)], offset).await;
        let count = count?;
        buffer[..count].copy_from_slice(&bounce[..count]);
        Ok(count)
    }

    /// Writes a borrowed slice at `offset`, at most 256 KiB at a time. It goes through a buffer that is allocated for it;
    /// [`write_at`](Self::write_at) needs none.
    ///
    /// # Errors
    ///
    /// As [`write_at`](Self::write_at). Files that were opened with [`direct`](super::OpenOptions::direct) refuse it.
    ///
    /// # Cancel safety
    ///
    /// As [`write_at`](Self::write_at).
    pub async fn write_slice_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.refuse_direct()?;
        self.write_at(bytes[..bytes.len().min(BOUNCE_BYTES_MAX)].to_vec(), offset).await.0
    }

    #[inline]
    fn check(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if offset > i64::MAX as u64 {
            let message = "the offset is beyond the largest that a file can have, 2^63 - 1";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        match self.alignment {
            None => Ok(()),
            Some(alignment) => alignment.check(bytes.as_ptr() as usize, bytes.len(), offset),
        }
    }

    /// Borrowed slices are bounced through memory that is not aligned.
    pub(super) fn refuse_direct(&self) -> io::Result<()> {
        if self.alignment.is_none() {
            return Ok(());
        }
        Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "a file that was opened with direct(true) (O_DIRECT) needs aligned memory; use read_at and write_at with \
             an AlignedBuf",
        ))
    }
}

#[cold]
fn empty() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidInput,
        "the buffer is empty, and nothing can be read into it; its length is what counts, so give vec![0; n], not \
         Vec::with_capacity(n)",
    )
}

/// For whole files: reads until the end, into a vector that grows.
impl File {
    pub(super) async fn read_to_end_from_start(&self) -> io::Result<Vec<u8>> {
        // Files of /proc say 0 and pipes say nothing; one more byte sees the end without another read.
        let hint = rustix::fs::fstat(self.descriptor()).map_or(0, |status| status.st_size);
        let hint = usize::try_from(hint).unwrap_or(0).saturating_add(1);
        let mut bytes = vec![0; hint.clamp(FIRST_READ_BYTES, FIRST_READ_BYTES_MAX)];
        let mut done = 0;
        loop {
            if done == bytes.len() {
                // A file may be larger than memory, or say so: that is an error and not the end of the process.
                let more = hint.saturating_sub(done).max(done);
                bytes.try_reserve_exact(more).map_err(|_| io::ErrorKind::OutOfMemory)?;
                bytes.resize(done + more, 0);
            }
            let offset = crate::driver::CURRENT_POSITION;
            let memory = Memory::Bytes(bytes);
            let outcome =
                request::read(&self.shard, Rc::clone(self.descriptor()), memory, done, offset).await;
            let Memory::Bytes(returned) = outcome.payload.memory else { return Err(crate::op::ended()) };
            bytes = returned;
            match outcome.result? {
                0 => break,
                count => done += count as usize,
            }
        }
        bytes.truncate(done);
        Ok(bytes)
    }
}

/// The first read of a file that does not say how large it is. Arbitrary; most files of /proc fit.
const FIRST_READ_BYTES: usize = 8 << 10;
/// What is taken on a file's word alone. Arbitrary: what every machine has.
const FIRST_READ_BYTES_MAX: usize = 64 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_aligned_is_refused_with_its_name() {
        let check = |address, len, offset, word: Option<&str>| {
            let alignment = Alignment { memory: 4, offset: 512 };
            let text = alignment.check(address, len, offset).err().map(|error| error.to_string());
            match (word, text) {
                (None, None) => {}
                (Some(word), Some(text)) => {
                    assert!(
                        text.contains(word) && text.contains("AlignedBuf") && text.contains("512"),
                        "{text}"
                    );
                }
                (word, text) => panic!("expected {word:?}, found {text:?}"),
            }
        };
        check(4096, 512, 1024, None);
        check(4098, 512, 1024, Some("address"));
        check(4096, 100, 1024, Some("length"));
        check(4096, 512, 1000, Some("the offset, 1000"));
    }
}
