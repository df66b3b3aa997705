//! Where the counters are: a row of cells per loop, and the boards that hold rows.
//!
//! A row is written by its loop alone, with a plain load and a plain store, and read by anybody at any time. It shares no
//! cache line with anything else. Rows are on the heap, or in memory that several processes share ([`Board::shared`]).
//!
//! What it does not do: add up, name, or print. See `counter` and `text`.

#![allow(unsafe_code)]

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::mm::{MapFlags, ProtFlags};

use super::counter::{BUCKETS, Counter, Distribution};

/// Rows of a shared board: as many loops as a process can have. Keeps the length of the memory within its type.
const ROWS_MAX: usize = 1 << 16;
/// Cells of a row before the counters: whose it is.
const IDENTITY: usize = 3;
/// Zero: the row is nobody's.
const LIVE: usize = 0;
/// The core plus one; zero for a loop that is not pinned.
const CORE: usize = 1;
const PROCESS: usize = 2;
/// Cells of the counters.
const COUNTERS: usize = Counter::ALL.len();
/// Cells of a distribution: its buckets, and the sum of all values.
const OF_DISTRIBUTION: usize = BUCKETS + 1;
const CELLS: usize = IDENTITY + COUNTERS + OF_DISTRIBUTION * Distribution::ALL.len();

/// One loop's cells. Aligned to two cache lines, because processors fetch lines in pairs.
#[repr(C, align(128))]
struct Cells([AtomicU64; CELLS]);

impl Default for Cells {
    fn default() -> Self {
        Cells([const { AtomicU64::new(0) }; CELLS])
    }
}

impl Cells {
    /// Relaxed, everywhere: each cell is a value by itself, and nothing else is published through it.
    #[inline]
    fn add(&self, cell: usize, count: u64) {
        let cell = &self.0[cell];
        cell.store(cell.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
    }

    fn read(&self, worker: usize) -> Option<Reading> {
        let cell = |index: usize| self.0[index].load(Ordering::Relaxed);
        (cell(LIVE) != 0).then(|| Reading {
            worker,
            core: cell(CORE).checked_sub(1).map(|core| core as usize),
            process: cell(PROCESS) as u32,
            cells: std::array::from_fn(|index| cell(IDENTITY + index)),
        })
    }

    fn begin(&self, core: Option<usize>) {
        self.0.iter().for_each(|cell| cell.store(0, Ordering::Relaxed));
        self.0[CORE].store(core.map_or(0, |core| core as u64 + 1), Ordering::Relaxed);
        self.0[PROCESS].store(u64::from(std::process::id()), Ordering::Relaxed);
        self.0[LIVE].store(1, Ordering::Relaxed);
    }

    fn end(&self) {
        self.0[LIVE].store(0, Ordering::Relaxed);
    }
}

/// What keeps a row's memory.
#[derive(Clone)]
enum Home {
    Heap(#[expect(dead_code, reason = "kept for its memory")] Arc<Cells>),
    Mapped(#[expect(dead_code, reason = "kept for its memory")] Arc<Mapping>),
}

/// The counters of one loop, for the loop to write.
///
/// A program that counts something of a connection may use it: an increment is a load and a store, without an atomic
/// read-modify-write, which is sound because only the loop's thread has it.
///
/// # Examples
///
/// ```
/// use annulet::metrics::{Counter, Row};
///
/// annulet::run(async {
///     Row::current().add(Counter::Http2xx, 1);
/// });
/// ```
#[derive(Clone)]
pub struct Row {
    /// INVARIANT: points into `_home`, which keeps it. Not Send: so there is one writer, the thread that it was made on.
    cells: NonNull<Cells>,
    _home: Home,
}

impl Row {
    /// The row of this thread's loop; one that nobody reads outside of a loop.
    pub fn current() -> Row {
        crate::shard::with_current(|shard| match shard {
            Some(shard) => shard.row.row.clone(),
            None => Row::nobody(),
        })
    }

    /// A row that nobody reads.
    pub fn nobody() -> Row {
        Row::on_heap(&Arc::default())
    }

    fn on_heap(cells: &Arc<Cells>) -> Row {
        Row { cells: NonNull::from(&**cells), _home: Home::Heap(Arc::clone(cells)) }
    }

    #[inline]
    fn cells(&self) -> &Cells {
        // SAFETY: `_home` keeps the memory, which is initialised and only ever changed through atomics.
        unsafe { self.cells.as_ref() }
    }

    /// Adds to a counter.
    #[inline]
    pub fn add(&self, counter: Counter, count: u64) {
        self.cells().add(IDENTITY + counter as usize, count);
    }

    /// Takes away from a gauge what was added.
    #[inline]
    pub fn subtract(&self, counter: Counter, count: u64) {
        self.add(counter, count.wrapping_neg());
    }

    /// Sets a counter.
    #[inline]
    pub fn set(&self, counter: Counter, value: u64) {
        self.cells().0[IDENTITY + counter as usize].store(value, Ordering::Relaxed);
    }

    /// Counts `times` times a value.
    #[inline]
    pub fn record(&self, distribution: Distribution, value: u64, times: u64) {
        let first = IDENTITY + COUNTERS + OF_DISTRIBUTION * distribution as usize;
        self.cells().add(first + distribution.bucket(value), times);
        self.cells().add(first + BUCKETS, value.wrapping_mul(times));
    }
}

impl fmt::Debug for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Row").finish_non_exhaustive()
    }
}

/// What a loop's row said when it was read.
#[derive(Clone, Debug)]
pub struct Reading {
    worker: usize,
    core: Option<usize>,
    process: u32,
    cells: [u64; CELLS - IDENTITY],
}

impl Reading {
    /// The place of the row on its board.
    pub fn worker(&self) -> usize {
        self.worker
    }

    /// The core that the loop is pinned to.
    pub fn core(&self) -> Option<usize> {
        self.core
    }

    /// The process that the loop is in.
    pub fn process(&self) -> u32 {
        self.process
    }

    /// A counter's value.
    pub fn value(&self, counter: Counter) -> u64 {
        self.cells[counter as usize]
    }

    /// How many values each bucket has, and the sum of all values.
    pub(super) fn buckets(&self, distribution: Distribution) -> (&[u64], u64) {
        let first = COUNTERS + OF_DISTRIBUTION * distribution as usize;
        (&self.cells[first..first + BUCKETS], self.cells[first + BUCKETS])
    }

    /// How many values a distribution has.
    pub fn count(&self, distribution: Distribution) -> u64 {
        self.buckets(distribution).0.iter().sum()
    }
}

/// Rows of loops. Clones are the same board.
///
/// Without asking, every loop has a row on the board of its process. A supervisor of processes makes a shared board, whose
/// descriptor its workers inherit; then each of them can read all rows.
///
/// Gauges and most counters are written once a turn, so those of a loop that is stuck in a poll stand still. The time of a
/// poll is the turn's time divided by its polls; after a turn that took too long
/// ([`Builder::stall_limit`](crate::Builder::stall_limit)) the polls of the next ones are timed one by one.
///
/// # Examples
///
/// ```
/// use annulet::metrics::{Board, Counter};
///
/// annulet::run(async {
///     annulet::yield_now().await;
///     let readings = Board::process().read();
///     println!("{} loops, {} turns", readings.len(), readings[0].value(Counter::Turns));
///     println!("{}", annulet::metrics::prometheus(&readings));
/// });
/// ```
#[derive(Clone, Debug, Default)]
pub struct Board(Kind);

#[derive(Clone, Debug, Default)]
enum Kind {
    #[default]
    Process,
    Shared(Arc<Mapping>),
    Nobody,
}

/// The rows of this process; a loop that has ended leaves its place to the next one.
static PROCESS_ROWS: Mutex<Vec<Option<Arc<Cells>>>> = Mutex::new(Vec::new());

fn process_rows() -> MutexGuard<'static, Vec<Option<Arc<Cells>>>> {
    PROCESS_ROWS.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Board {
    /// The board of this process.
    pub fn process() -> Board {
        Board(Kind::Process)
    }

    /// A board that nobody reads, for a loop that should not be seen among the others.
    pub fn nobody() -> Board {
        Board(Kind::Nobody)
    }

    /// A board in memory that can be shared with other processes, by its descriptor.
    ///
    /// # Errors
    ///
    /// What memfd_create(2) and mmap(2) say; `InvalidInput` for more than 65 536 rows.
    pub fn shared(rows: usize) -> io::Result<Board> {
        if rows > ROWS_MAX {
            let text = format!("a board of {rows} rows; it has {ROWS_MAX} at the most");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let fd =
            rustix::fs::memfd_create("annulet-metrics", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        rustix::fs::ftruncate(&fd, bytes_of(rows) as u64)?;
        // From here on nobody can make it shorter, which would end with SIGBUS whoever reads.
        rustix::fs::fcntl_add_seals(&fd, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        let mapping = Mapping::new(fd, rows)?;
        mapping.layout().store(LAYOUT, Ordering::Relaxed);
        Ok(Board(Kind::Shared(Arc::new(mapping))))
    }

    /// The board behind a descriptor, of [`fd`](Self::fd) in another process of the same program.
    ///
    /// # Errors
    ///
    /// `InvalidData` when it is no board, or one of another version of the program; what mmap(2) says.
    pub fn from_fd(fd: OwnedFd) -> io::Result<Board> {
        let wrong =
            |why: &str| io::Error::new(io::ErrorKind::InvalidData, format!("no board of counters: {why}"));
        let seals = rustix::fs::fcntl_get_seals(&fd).map_err(|_| wrong("it is no sealed memory file"))?;
        if !seals.contains(SealFlags::SHRINK) {
            return Err(wrong("it could be made shorter while it is read"));
        }
        let bytes = rustix::fs::fstat(&fd)?.st_size as usize;
        let rows = bytes.saturating_sub(size_of::<Cells>()) / size_of::<Cells>();
        if bytes != bytes_of(rows) {
            return Err(wrong("its length does not fit"));
        }
        let mapping = Mapping::new(fd, rows)?;
        if mapping.layout().load(Ordering::Relaxed) != LAYOUT {
            return Err(wrong("it was made by another version of this program"));
        }
        Ok(Board(Kind::Shared(Arc::new(mapping))))
    }

    fn mapping(&self) -> Option<&Arc<Mapping>> {
        match &self.0 {
            Kind::Shared(mapping) => Some(mapping),
            Kind::Process | Kind::Nobody => None,
        }
    }

    /// The descriptor of a shared board; none of another one.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.mapping().map(|mapping| mapping.fd.as_fd())
    }

    /// How many rows a shared board has; none of a process's own, which grows.
    pub fn rows(&self) -> Option<usize> {
        self.mapping().map(|mapping| mapping.rows)
    }

    /// Reads the rows of all loops that live.
    pub fn read(&self) -> Vec<Reading> {
        match &self.0 {
            Kind::Process => {
                let rows = process_rows();
                let rows = rows.iter().enumerate();
                rows.filter_map(|(index, cells)| cells.as_ref()?.read(index)).collect()
            }
            Kind::Shared(mapping) => {
                (0..mapping.rows).filter_map(|row| mapping.cells(row).read(row)).collect()
            }
            Kind::Nobody => Vec::new(),
        }
    }

    /// Takes a row of a shared board out of the readings, after the process that wrote it has died without doing so. On the
    /// board of a process it does nothing.
    ///
    /// # Panics
    ///
    /// When the board has no such row.
    pub fn retire(&self, row: usize) {
        if let Some(mapping) = self.mapping() {
            mapping.cells(row).end();
        }
    }

    /// Takes a row for the loop that the calling thread is about to run: `row` of a shared board, any of the process's.
    ///
    /// # Errors
    ///
    /// `InvalidInput` when the board has no such row.
    pub(crate) fn take(&self, row: usize, core: Option<usize>) -> io::Result<Place> {
        let mapping = match &self.0 {
            Kind::Shared(mapping) => mapping,
            Kind::Nobody => return Ok(Place { row: Row::nobody(), index: None }),
            Kind::Process => {
                let cells = Arc::<Cells>::default();
                cells.begin(core);
                let row = Row::on_heap(&cells);
                let mut rows = process_rows();
                let index = rows.iter().position(Option::is_none).unwrap_or_else(|| {
                    rows.push(None);
                    rows.len() - 1
                });
                rows[index] = Some(cells);
                return Ok(Place { row, index: Some(index) });
            }
        };
        if row >= mapping.rows {
            let text = format!("row {row} for the counters of a loop, on a board of {} rows", mapping.rows);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let cells = mapping.cells(row);
        cells.begin(core);
        let row = Row { cells: NonNull::from(cells), _home: Home::Mapped(Arc::clone(mapping)) };
        Ok(Place { row, index: None })
    }
}

/// A loop's place on a board; left when it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) row: Row,
    /// On the board of the process.
    index: Option<usize>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.row.cells().end();
        if let Some(index) = self.index {
            process_rows()[index] = None;
        }
    }
}

/// Says that memory is a board of this shape. One more for every change of the counters' order would be needed if two
/// versions of a program could share a board; the size of a row and the version of the package catch what is likely.
const LAYOUT: u64 = {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64 ^ CELLS as u64;
    let version = env!("CARGO_PKG_VERSION").as_bytes();
    let mut index = 0;
    while index < version.len() {
        hash = (hash ^ version[index] as u64).wrapping_mul(0x0100_0000_01b3);
        index += 1;
    }
    hash
};

/// Shared memory: one row's length for the head, then the rows.
struct Mapping {
    /// INVARIANT: `rows + 1` values of `Cells`, mapped until this is dropped; the file cannot shrink (sealed).
    base: NonNull<Cells>,
    rows: usize,
    fd: OwnedFd,
}

// SAFETY: the memory is reached through atomics only, from any thread and process.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

const fn bytes_of(rows: usize) -> usize {
    (rows + 1) * size_of::<Cells>()
}

impl Mapping {
    fn new(fd: OwnedFd, rows: usize) -> io::Result<Mapping> {
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory of ours.
        let base = unsafe {
            rustix::mm::mmap(
                std::ptr::null_mut(),
                bytes_of(rows),
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                &fd,
                0,
            )
        }?;
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Mapping { base, rows, fd })
    }

    fn cells(&self, row: usize) -> &Cells {
        assert!(row < self.rows, "row {row} of a board of {} rows", self.rows);
        // SAFETY: inside the mapping, page-aligned at its base, and any bytes are valid atomics.
        unsafe { self.base.add(row + 1).as_ref() }
    }

    /// The head's only word.
    fn layout(&self) -> &AtomicU64 {
        // SAFETY: as in `cells`; the head is as long as a row.
        unsafe { &self.base.as_ref().0[0] }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped in `new` with this length; every row that points into it keeps this value.
        // An error would mean that it is not mapped, which leaves nothing to do.
        let _ = unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), bytes_of(self.rows)) };
    }
}

impl fmt::Debug for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mapping").field("rows", &self.rows).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shared_board_is_read_through_another_mapping() {
        let board = Board::shared(3).unwrap();
        let other = Board::from_fd(board.fd().unwrap().try_clone_to_owned().unwrap()).unwrap();
        assert_eq!((other.rows(), other.read().len()), (Some(3), 0));
        let place = board.take(1, Some(5)).unwrap();
        place.row.add(Counter::Accepts, 2);
        place.row.add(Counter::Accepts, 3);
        place.row.set(Counter::Timers, 9);
        place.row.record(Distribution::LoopLag, 5000, 2);
        let readings = other.read();
        let reading = &readings[0];
        assert_eq!((reading.worker(), reading.core()), (1, Some(5)));
        assert_eq!((reading.value(Counter::Accepts), reading.value(Counter::Timers)), (5, 9));
        assert_eq!(reading.buckets(Distribution::LoopLag).1, 10_000);
        assert_eq!((reading.count(Distribution::LoopLag), reading.count(Distribution::PollTime)), (2, 0));
        // Who died without a word is struck out by the supervisor; the next one begins at zero.
        let died = std::mem::ManuallyDrop::new(place);
        assert_eq!(other.read().len(), 1);
        board.retire(1);
        assert_eq!(other.read().len(), 0);
        let _next = board.take(1, None).unwrap();
        let readings = other.read();
        assert_eq!((readings[0].core(), readings[0].value(Counter::Accepts)), (None, 0));
        // For the sake of leak checkers.
        drop(std::mem::ManuallyDrop::into_inner(died));
    }

    #[test]
    fn wrong_descriptors_are_refused() {
        let check = |fd: OwnedFd, why: &str| {
            let error = Board::from_fd(fd).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        };
        check(std::fs::File::open("/dev/null").unwrap().into(), "no sealed memory");
        let memory = |bytes| {
            let fd = rustix::fs::memfd_create("x", MemfdFlags::ALLOW_SEALING).unwrap();
            rustix::fs::ftruncate(&fd, bytes).unwrap();
            fd
        };
        let sealed = |bytes| {
            let fd = memory(bytes);
            rustix::fs::fcntl_add_seals(&fd, SealFlags::SHRINK).unwrap();
            fd
        };
        check(memory(bytes_of(1) as u64), "shorter");
        check(sealed(5), "length");
        check(sealed(bytes_of(1) as u64), "another version");
        let error = Board::shared(usize::MAX / size_of::<Cells>()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        let error = Board::shared(1).unwrap().take(1, None).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn rows_share_no_cache_line() {
        assert_eq!((align_of::<Cells>(), size_of::<Cells>() % 128), (128, 0));
    }
}
