//! The cursor of a file: reads and writes of borrowed slices, one after the other.
//!
//! An operation under way belongs to the file, not to the future that waits for it. So a dropped read loses nothing (the
//! next one takes its bytes), and a dropped write is finished before anything else happens.

use std::future::poll_fn;
use std::io::{self, SeekFrom};
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use super::file::File;
use super::positional::BOUNCE_BYTES_MAX;
use crate::driver::CURRENT_POSITION;
use crate::op::{Memory, Operation, request};
use crate::shard::Shard;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Stream {
    place: Place,
    /// Whether the kernel writes at the end of the file, wherever the cursor is.
    appends: bool,
    reading: Option<Operation>,
    /// Bytes that were read and not taken yet: `spare[taken..filled]`.
    taken: usize,
    filled: usize,
    writing: Option<Writing>,
    /// Memory for the next operation.
    spare: Vec<u8>,
}

/// Where the next byte is read or written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    /// Nobody asked yet.
    #[default]
    Unknown,
    /// Here; the kernel's own position is not used.
    At(u64),
    /// Where the kernel says: pipes have no places.
    Kernel,
}

#[derive(Debug)]
struct Writing {
    operation: Operation,
    /// Bytes that were written before this operation.
    done: usize,
    len: usize,
}

impl Place {
    fn of(file: &OwnedFd) -> Self {
        rustix::fs::tell(file).map_or(Place::Kernel, Place::At)
    }

    fn offset(self) -> u64 {
        match self {
            Place::At(place) => place,
            Place::Unknown | Place::Kernel => CURRENT_POSITION,
        }
    }

    fn advance(&mut self, count: usize) {
        if let Place::At(place) = self {
            *place += count as u64;
        }
    }

    fn retreat(&mut self, count: usize) {
        if let Place::At(place) = self {
            *place -= count as u64;
        }
    }
}

impl Stream {
    /// The file is dropped.
    pub(super) fn leave(self) {
        if let Some(writing) = self.writing {
            writing.operation.detach();
        }
    }

    fn poll_read(
        &mut self,
        shard: &Rc<Shard>,
        file: &Rc<OwnedFd>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_settle(shard, file, cx))?;
        if buffer.is_empty() {
            return Poll::Ready(Ok(0));
        }
        if self.taken == self.filled {
            ready!(self.poll_fill(shard, file, cx, buffer.len()))?;
        }
        let count = buffer.len().min(self.filled - self.taken);
        buffer[..count].copy_from_slice(&self.spare[self.taken..self.taken + count]);
        self.taken += count;
        self.place.advance(count);
        Poll::Ready(Ok(count))
    }

    /// Has at most `len` bytes read.
    fn poll_fill(
        &mut self,
        shard: &Rc<Shard>,
        file: &Rc<OwnedFd>,
        cx: &mut Context<'_>,
        len: usize,
    ) -> Poll<io::Result<()>> {
        if self.reading.is_none() {
            self.find_place(file);
            let mut bytes = std::mem::take(&mut self.spare);
            bytes.resize(len.min(BOUNCE_BYTES_MAX), 0);
            let offset = self.place.offset();
            self.reading = Some(request::read(shard, Rc::clone(file), Memory::Bytes(bytes), 0, offset));
        }
        let operation = self.reading.as_mut().expect("made above");
        let outcome = ready!(Pin::new(operation).poll(cx));
        self.reading = None;
        if let Memory::Bytes(bytes) = outcome.payload.memory {
            self.spare = bytes;
        }
        // An error leaves nothing to be taken, whatever the read before had brought.
        (self.taken, self.filled) = (0, 0);
        self.filled = outcome.result? as usize;
        Poll::Ready(Ok(()))
    }

    /// Takes bytes over, at most so many at a time, and writes them in the background; waits for those before them.
    fn poll_write(
        &mut self,
        shard: &Rc<Shard>,
        file: &Rc<OwnedFd>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_settle(shard, file, cx))?;
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        self.find_place(file);
        self.forget_read();
        let len = bytes.len().min(BOUNCE_BYTES_MAX);
        let mut copy = if self.taken == self.filled { std::mem::take(&mut self.spare) } else { Vec::new() };
        copy.clear();
        copy.extend_from_slice(&bytes[..len]);
        let offset = self.place.offset();
        let operation = request::write(shard, Rc::clone(file), Memory::Bytes(copy), 0, offset);
        self.writing = Some(Writing { operation, done: 0, len });
        if !self.appends {
            self.place.advance(len);
        }
        Poll::Ready(Ok(len))
    }

    /// Waits for the write that is under way, to the last byte.
    fn poll_settle(
        &mut self,
        shard: &Rc<Shard>,
        file: &Rc<OwnedFd>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while let Some(writing) = &mut self.writing {
            let outcome = ready!(Pin::new(&mut writing.operation).poll(cx));
            let (done, len) = (writing.done, writing.len);
            self.writing = None;
            self.follow_append(file);
            let result = match outcome.result {
                Ok(0) => Err(io::ErrorKind::WriteZero.into()),
                result => result,
            };
            let done = match result {
                Ok(count) => done + count as usize,
                Err(error) => {
                    if !self.appends {
                        self.place.retreat(len - done);
                    }
                    return Poll::Ready(Err(error));
                }
            };
            if done < len {
                let offset = match self.place {
                    Place::At(place) if !self.appends => place - (len - done) as u64,
                    place => place.offset(),
                };
                let operation = request::write(shard, Rc::clone(file), outcome.payload.memory, done, offset);
                self.writing = Some(Writing { operation, done, len });
            } else if let Memory::Bytes(bytes) = outcome.payload.memory
                && self.taken == self.filled
            {
                self.spare = bytes;
            }
        }
        Poll::Ready(Ok(()))
    }

    fn find_place(&mut self, file: &OwnedFd) {
        if self.place == Place::Unknown {
            self.place = Place::of(file);
            self.appends =
                rustix::fs::fcntl_getfl(file).is_ok_and(|flags| flags.contains(rustix::fs::OFlags::APPEND));
        }
    }

    /// After an appending write the cursor is at the end of the file, as write(2) leaves it. (An offset is ignored for the
    /// write itself, see the bugs of pwrite(2).)
    fn follow_append(&mut self, file: &OwnedFd) {
        if self.appends
            && let Place::At(place) = &mut self.place
            && let Ok(end) = rustix::fs::seek(file, rustix::fs::SeekFrom::End(0))
        {
            *place = end;
        }
    }

    /// What was read ahead of the cursor may be stale soon. Bytes of a pipe are not read again, so they stay.
    fn forget_read(&mut self) {
        if let Place::At(_) = self.place {
            self.reading = None;
            (self.taken, self.filled) = (0, 0);
        }
    }

    fn seek(&mut self, file: &OwnedFd, to: SeekFrom) -> io::Result<u64> {
        self.find_place(file);
        self.forget_read();
        let to = match (to, self.place) {
            (SeekFrom::Start(place), _) => rustix::fs::SeekFrom::Start(place),
            (SeekFrom::End(step), _) => rustix::fs::SeekFrom::End(step),
            (SeekFrom::Current(step), Place::At(place)) => rustix::fs::SeekFrom::Start(
                place.checked_add_signed(step).ok_or(io::ErrorKind::InvalidInput)?,
            ),
            (SeekFrom::Current(step), _) => rustix::fs::SeekFrom::Current(step),
        };
        // lseek(2) does not wait for a disk: sizes of open files are known.
        let place = rustix::fs::seek(file, to)?;
        if let Place::At(at) = &mut self.place {
            *at = place;
        }
        Ok(place)
    }
}

impl File {
    /// Reads at the cursor into `buffer`, at most 256 KiB; 0 at the end of the file (or for an empty buffer).
    ///
    /// # Errors
    ///
    /// What read(2) says, and what a write that was not awaited ended with. Files that were opened with
    /// [`direct`](super::OpenOptions::direct) refuse it.
    ///
    /// # Cancel safety
    ///
    /// A dropped read loses no byte: the next one gets what it would have got.
    pub async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        poll_fn(|cx| self.poll_read(cx, buffer)).await
    }

    /// The polling form of [`read`](Self::read).
    pub fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        self.refuse_direct()?;
        let fd = Rc::clone(self.descriptor());
        self.stream.poll_read(&self.shard, &fd, cx, buffer)
    }

    /// Fills `buffer`.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read); `UnexpectedEof` when the file ends first.
    ///
    /// # Cancel safety
    ///
    /// None: bytes that were copied into `buffer` before the drop are known to its owner only.
    pub async fn read_exact(&mut self, mut buffer: &mut [u8]) -> io::Result<()> {
        while !buffer.is_empty() {
            match self.read(buffer).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => buffer = &mut buffer[count..],
            }
        }
        Ok(())
    }

    /// Appends the rest of the file to `bytes`, to its end and not to the size that it says it has. Gives the count.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read); what was read before stays in `bytes`.
    ///
    /// # Cancel safety
    ///
    /// What was read before the drop is in `bytes`.
    pub async fn read_to_end(&mut self, bytes: &mut Vec<u8>) -> io::Result<usize> {
        let before = bytes.len();
        let mut room = vec![0; 32 << 10];
        loop {
            match self.read(&mut room).await? {
                0 => return Ok(bytes.len() - before),
                count => bytes.extend_from_slice(&room[..count]),
            }
        }
    }

    /// Writes at the cursor, at most 256 KiB: the count says how much.
    ///
    /// # Errors
    ///
    /// What write(2) says. Files that were opened with [`direct`](super::OpenOptions::direct) refuse it.
    ///
    /// # Cancel safety
    ///
    /// The bytes are taken when the future is first polled and no earlier write is under way. From then on a drop takes
    /// nothing back: they are written before the next operation of the cursor, which tells the error if there was one.
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = poll_fn(|cx| self.poll_write(cx, bytes)).await?;
        self.flush().await?;
        Ok(count)
    }

    /// Takes bytes over, at most 256 KiB, and writes them in the background. Pending while earlier ones are under way; tells
    /// their error. [`poll_flush`](Self::poll_flush) waits for the end.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.refuse_direct()?;
        let fd = Rc::clone(self.descriptor());
        self.stream.poll_write(&self.shard, &fd, cx, bytes)
    }

    /// Writes all bytes at the cursor.
    ///
    /// # Errors
    ///
    /// As [`write`](Self::write).
    ///
    /// # Cancel safety
    ///
    /// A dropped future has written a part that nobody is told of.
    pub async fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let count = self.write(bytes).await?;
            bytes = &bytes[count..];
        }
        Ok(())
    }

    /// Waits until written bytes are with the kernel; [`sync_all`](Self::sync_all) waits for the disk.
    ///
    /// # Errors
    ///
    /// As [`write`](Self::write).
    ///
    /// # Cancel safety
    ///
    /// A dropped wait loses nothing.
    pub async fn flush(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.poll_flush(cx)).await
    }

    /// The polling form of [`flush`](Self::flush).
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let fd = Rc::clone(self.descriptor());
        self.stream.poll_settle(&self.shard, &fd, cx)
    }

    /// Moves the cursor, and gives its new place.
    ///
    /// # Errors
    ///
    /// What lseek(2) says, for a pipe for example, and what a write that was not awaited ended with.
    ///
    /// # Cancel safety
    ///
    /// A dropped seek has not moved the cursor.
    pub async fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        poll_fn(|cx| self.poll_seek(cx, to)).await
    }

    /// The polling form of [`seek`](Self::seek).
    pub fn poll_seek(&mut self, cx: &mut Context<'_>, to: SeekFrom) -> Poll<io::Result<u64>> {
        let fd = Rc::clone(self.descriptor());
        ready!(self.stream.poll_settle(&self.shard, &fd, cx))?;
        Poll::Ready(self.stream.seek(&fd, to))
    }
}
