//! Files: dropped at every await point, no byte is lost that may not be, and nothing stays.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::future::{Future, poll_fn};
use std::io::{ErrorKind, Read, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use annulet::fs::{self, AlignedBuf, File};
use annulet::time::sleep;

use super::{Random, allocator, alone, attempt, check, descriptors, stretch};

/// How long the files of known content are.
const LEN: u64 = 1 << 18;
/// More entries than are read ahead.
const ENTRIES: usize = 150;

/// A directory that is removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(parent: &Path) -> Self {
        let path = parent.join(format!("annulet-cancel-files-{}", std::process::id()));
        // The rest of a run that was killed, if any.
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir(&path).unwrap();
        Scratch(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

/// Drops futures, and counts which.
struct Dropper<'a> {
    random: &'a Random,
    dropped: &'a mut BTreeMap<&'static str, u64>,
}

impl Dropper<'_> {
    async fn run<F: Future>(&mut self, what: &'static str, future: F) -> Option<F::Output> {
        let output = attempt(future, self.random.below(4)).await;
        *self.dropped.entry(what).or_default() += u64::from(output.is_none());
        output
    }

    fn below(&self, bound: u64) -> u64 {
        self.random.below(bound)
    }
}

/// What changes names may find them changed: the one before it was dropped, and may have been done or not.
fn names(result: Option<std::io::Result<()>>) {
    if let Some(Err(error)) = result {
        let kinds = [ErrorKind::NotFound, ErrorKind::AlreadyExists, ErrorKind::DirectoryNotEmpty];
        assert!(kinds.contains(&error.kind()), "{error}");
    }
}

/// What was not dropped has gone well.
fn done(result: Option<std::io::Result<()>>) {
    result.transpose().unwrap();
}

fn file_of(end: impl Into<OwnedFd>) -> std::fs::File {
    end.into().into()
}

/// Every byte of this file is that of its place, so any read and any part of a write is right, in any order.
async fn positional(file: &File, dropper: &mut Dropper<'_>) {
    let offset = dropper.below(LEN - 8192);
    let len = 1 + dropper.below(8192);
    let compare = |bytes: &[u8]| check(bytes, &mut offset.clone());
    match dropper.below(6) {
        0 => {
            if let Some((count, bytes)) =
                dropper.run("read_at", file.read_at(vec![0; len as usize], offset)).await
            {
                compare(&bytes[..count.unwrap()]);
            }
        }
        1 => {
            let done = dropper.run("read_exact_at", file.read_exact_at(vec![0; len as usize], offset)).await;
            if let Some((result, bytes)) = done {
                result.unwrap();
                compare(&bytes);
            }
        }
        2 => {
            let mut bytes = vec![0; len as usize];
            if let Some(count) = dropper.run("read_slice_at", file.read_slice_at(&mut bytes, offset)).await {
                compare(&bytes[..count.unwrap()]);
            }
        }
        3 => {
            if let Some((count, bytes)) =
                dropper.run("write_at", file.write_at(stretch(offset, len), offset)).await
            {
                assert!((1..=len).contains(&(count.unwrap() as u64)));
                compare(&bytes);
            }
        }
        4 => {
            let done = dropper.run("write_all_at", file.write_all_at(stretch(offset, len), offset)).await;
            if let Some((result, bytes)) = done {
                result.unwrap();
                compare(&bytes);
            }
        }
        _ => {
            let bytes = stretch(offset, len);
            if let Some(count) = dropper.run("write_slice_at", file.write_slice_at(&bytes, offset)).await {
                assert!((1..=len).contains(&(count.unwrap() as u64)));
            }
        }
    }
}

/// A cursor over such a file. Its place is known, unless a `write` was dropped, which may have been taken.
struct Cursor {
    file: File,
    place: Option<u64>,
}

impl Cursor {
    async fn step(&mut self, dropper: &mut Dropper<'_>) {
        let Some(place) = self.place.filter(|place| *place < LEN - 8192) else {
            let to = dropper.below(LEN - 8192);
            if let Some(place) = dropper.run("seek", self.file.seek(SeekFrom::Start(to))).await {
                assert_eq!(place.unwrap(), to);
                self.place = Some(to);
            }
            return;
        };
        let len = 1 + dropper.below(8192);
        match dropper.below(6) {
            0 | 1 => {
                let mut bytes = vec![0; len as usize];
                if let Some(count) = dropper.run("read", self.file.read(&mut bytes)).await {
                    let mut at = place;
                    check(&bytes[..count.unwrap()], &mut at);
                    self.place = Some(at);
                }
            }
            2 => {
                let bytes = stretch(place, len);
                let taken = dropper.run("poll_write", poll_fn(|cx| self.file.poll_write(cx, &bytes))).await;
                self.place = Some(place + taken.map_or(0, |count| count.unwrap() as u64));
            }
            3 => {
                let bytes = stretch(place, len);
                let done = dropper.run("write", self.file.write(&bytes)).await;
                self.place = done.map(|count| place + count.unwrap() as u64);
            }
            4 => drop(dropper.run("flush", self.file.flush()).await),
            _ => {
                let step = dropper.below(64) as i64 - place.min(32) as i64;
                if let Some(to) = dropper.run("seek", self.file.seek(SeekFrom::Current(step))).await {
                    assert_eq!(
                        Some(to.unwrap()),
                        place.checked_add_signed(step),
                        "a dropped seek has not moved it"
                    );
                    self.place = place.checked_add_signed(step);
                }
            }
        }
    }
}

/// Pipes, where operations stay with the kernel for as long as nobody is at the other end.
struct Pipes {
    reader: File,
    reader_peer: std::fs::File,
    sent: u64,
    read: u64,
    writer: File,
    writer_peer: std::fs::File,
    taken: u64,
    received: u64,
    /// Its reads have buffers of their own; what a dropped one has read is lost.
    lossy: File,
    lossy_peer: std::fs::File,
}

impl Pipes {
    fn new() -> Self {
        let ((reader, reader_peer), (writer_peer, writer), (lossy, lossy_peer)) =
            (std::io::pipe().unwrap(), std::io::pipe().unwrap(), std::io::pipe().unwrap());
        rustix::io::ioctl_fionbio(&writer_peer, true).unwrap();
        let on_loop = |end| File::from_std(file_of(end));
        Pipes {
            reader: on_loop(OwnedFd::from(reader)),
            reader_peer: file_of(reader_peer),
            sent: 0,
            read: 0,
            writer: on_loop(OwnedFd::from(writer)),
            writer_peer: file_of(writer_peer),
            taken: 0,
            received: 0,
            lossy: on_loop(OwnedFd::from(lossy)),
            lossy_peer: file_of(lossy_peer),
        }
    }

    async fn step(&mut self, dropper: &mut Dropper<'_>) {
        let mut bytes = vec![0; 1 + dropper.below(3000) as usize];
        match dropper.below(6) {
            0 if self.sent - self.read < 30_000 => {
                let count = dropper.below(3000);
                self.reader_peer.write_all(&stretch(self.sent, count)).unwrap();
                self.sent += count;
            }
            0 | 1 => {
                if let Some(count) = dropper.run("read of a pipe", self.reader.read(&mut bytes)).await {
                    check(&bytes[..count.unwrap()], &mut self.read);
                }
            }
            2 => {
                let bytes = stretch(self.taken, 40_000);
                let write = poll_fn(|cx| self.writer.poll_write(cx, &bytes));
                let taken = dropper.run("poll_write of a pipe", write).await;
                self.taken += taken.map_or(0, |count| count.unwrap() as u64);
            }
            3 => drop(dropper.run("flush of a pipe", self.writer.flush()).await),
            4 => self.receive(),
            _ => {
                let read = dropper.run("read_at of a pipe", self.lossy.read_at(bytes, 0)).await;
                assert!(
                    read.is_none_or(|(count, bytes)| bytes[..count.unwrap()].iter().all(|byte| *byte == 7))
                );
                if dropper.below(4) == 0 {
                    self.lossy_peer.write_all(&[7; 100]).unwrap();
                    // Whatever reads of dropped futures left.
                    while rustix::io::ioctl_fionread(&self.lossy).unwrap() > 10_000 {
                        self.lossy.read_at(vec![0; 10_000], 0).await.0.unwrap();
                    }
                }
            }
        }
    }

    fn receive(&mut self) {
        let mut bytes = [0; 10_000];
        match self.writer_peer.read(&mut bytes) {
            Ok(count) => check(&bytes[..count], &mut self.received),
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
    }

    /// Everything that was sent or taken arrives.
    async fn finish(mut self) {
        let mut bytes = vec![0; 10_000];
        while self.read < self.sent {
            let count = self.reader.read(&mut bytes).await.unwrap();
            check(&bytes[..count], &mut self.read);
        }
        for _ in 0..100_000 {
            if self.received == self.taken {
                break;
            }
            self.receive();
            attempt(self.writer.flush(), 1).await;
            annulet::yield_now().await;
        }
        assert_eq!((self.read, self.received), (self.sent, self.taken));
        self.writer.flush().await.unwrap();
    }
}

/// Everything that takes a path.
async fn paths(scratch: &Path, dropper: &mut Dropper<'_>) {
    let name = |dropper: &Dropper<'_>| scratch.join(format!("name-{}", dropper.below(4)));
    let (path, other, known) = (name(dropper), name(dropper), scratch.join("known"));
    match dropper.below(16) {
        0 => drop(dropper.run("open", File::open(&known)).await.map(Result::unwrap)),
        1 => drop(dropper.run("create", File::create(scratch.join("made"))).await.map(Result::unwrap)),
        2 => {
            let done = dropper.run("metadata", fs::metadata(&known)).await;
            assert!(done.is_none_or(|metadata| metadata.unwrap().len() == LEN));
        }
        3 => names(
            dropper.run("symlink_metadata", fs::symlink_metadata(&path)).await.map(|done| done.map(drop)),
        ),
        4 => names(dropper.run("rename", fs::rename(&path, &other)).await),
        5 => names(dropper.run("remove_file", fs::remove_file(&path)).await),
        6 => names(dropper.run("hard_link", fs::hard_link(&known, &path)).await),
        7 => names(dropper.run("symlink", fs::symlink(&known, &path)).await),
        8 => names(dropper.run("create_dir", fs::create_dir(scratch.join("directory"))).await),
        9 => names(dropper.run("remove_dir", fs::remove_dir(scratch.join("directory"))).await),
        10 => names(dropper.run("create_dir_all", fs::create_dir_all(scratch.join("directory/a/b"))).await),
        11 => names(dropper.run("remove_dir_all", fs::remove_dir_all(scratch.join("directory"))).await),
        12 => {
            if let Some(bytes) = dropper.run("fs::read", fs::read(&known)).await {
                check(&bytes.unwrap(), &mut 0);
            }
        }
        13 => {
            drop(dropper.run("fs::write", fs::write(scratch.join("written"), stretch(0, 10_000))).await);
            // What dropped ones have written is a beginning, all the same.
            if let Ok(bytes) = std::fs::read(scratch.join("written")) {
                check(&bytes, &mut 0);
            }
        }
        14 => {
            let copied = dropper.run("copy", fs::copy(&known, scratch.join("copied"))).await;
            assert!(copied.is_none_or(|count| count.unwrap() == LEN));
        }
        _ => drop(dropper.run("canonicalize", fs::canonicalize(&known)).await.map(Result::unwrap)),
    }
}

/// Files of O_DIRECT: reads and writes that wait for a disk. None where there is no such thing.
fn direct(scratch: &Path) -> Option<File> {
    use std::os::unix::fs::OpenOptionsExt;
    let flag = rustix::fs::OFlags::DIRECT.bits() as i32;
    let opened = OpenOptions::new().read(true).write(true).custom_flags(flag).open(scratch.join("known"));
    match opened {
        Ok(file) => Some(File::from_std(file)),
        Err(error) => {
            println!("skipped: no O_DIRECT in {}: {error}", scratch.display());
            None
        }
    }
}

async fn directly(file: &File, dropper: &mut Dropper<'_>) {
    let offset = dropper.below(LEN / 4096 - 2) * 4096;
    let mut buffer = AlignedBuf::new(8192);
    if dropper.below(2) == 0 {
        if let Some((count, bytes)) = dropper.run("direct read", file.read_at(buffer, offset)).await {
            check(&bytes[..count.unwrap()], &mut offset.clone());
        }
    } else {
        buffer.copy_from_slice(&stretch(offset, 8192));
        if let Some((count, _)) = dropper.run("direct write", file.write_at(buffer, offset)).await {
            count.unwrap();
        }
    }
}

async fn drop_everywhere(scratch: &Path, dropper: &mut Dropper<'_>, rounds: u64) {
    std::fs::write(scratch.join("known"), stretch(0, LEN)).unwrap();
    let open = || {
        let opened = OpenOptions::new().read(true).write(true).open(scratch.join("known"));
        File::from_std(opened.unwrap())
    };
    let file = open();
    let cut = File::create(scratch.join("cut")).await.unwrap();
    let direct = direct(scratch);
    let mut cursor = Cursor { file: open(), place: None };
    let mut pipes = Pipes::new();
    let mut directory = None;
    let mut entries = 0;
    for _ in 0..rounds {
        match dropper.below(8) {
            0 => positional(&file, dropper).await,
            1 => cursor.step(dropper).await,
            2 | 3 => pipes.step(dropper).await,
            4 => paths(scratch, dropper).await,
            5 => match dropper.below(4) {
                0 => done(dropper.run("sync_all", file.sync_all()).await),
                1 => done(dropper.run("sync_data", file.sync_data()).await),
                2 => done(dropper.run("set_len", cut.set_len(dropper.below(10_000))).await),
                _ => {
                    let done = dropper.run("metadata of a file", file.metadata()).await;
                    assert!(done.is_none_or(|metadata| metadata.unwrap().len() == LEN));
                }
            },
            6 => match &mut directory {
                None => {
                    let opened = dropper.run("read_dir", fs::read_dir(scratch.join("many"))).await;
                    directory = opened.map(Result::unwrap);
                }
                // Dropped half-way, at times while a thread has it.
                Some(_) if dropper.below(ENTRIES as u64) == 0 => (directory, entries) = (None, 0),
                Some(open) => match dropper.run("next_entry", open.next_entry()).await {
                    Some(Ok(Some(_))) => entries += 1,
                    Some(end) => {
                        assert!(end.unwrap().is_none());
                        assert_eq!(entries, ENTRIES, "a dropped wait lost an entry");
                        (directory, entries) = (None, 0);
                    }
                    None => {}
                },
            },
            _ => {
                if let Some(file) = &direct {
                    directly(file, dropper).await;
                }
                if dropper.below(100) == 0 {
                    // Dropped with whatever it has under way. What a dropped write had taken is written before it closes.
                    cursor = Cursor { file: open(), place: None };
                }
            }
        }
    }
    pipes.finish().await;
    let bytes = fs::read(scratch.join("known")).await.unwrap();
    assert_eq!(bytes.len() as u64, LEN);
    check(&bytes, &mut 0);
}

#[test]
fn files_survive_dropped_waits() {
    let _alone = alone();
    let variable = |name: &str| std::env::var(name).ok().map(|value| value.parse::<u64>().unwrap());
    let rounds = variable("ANNULET_CANCEL_ROUNDS").unwrap_or(100_000) / 5;
    let seed = variable("ANNULET_SEED").unwrap_or_else(|| u64::from(std::process::id()) << 17 | 1);
    println!("ANNULET_SEED={seed}, {rounds} futures");
    annulet::run(async {});
    let before = descriptors();
    let random = Random(Cell::new(seed));
    // Beside the test's binary and not in /tmp, which may be a tmpfs and have no O_DIRECT.
    let scratch = Scratch::new(std::env::current_exe().unwrap().parent().unwrap());
    std::fs::create_dir(scratch.0.join("many")).unwrap();
    for entry in 0..ENTRIES {
        std::fs::write(scratch.0.join(format!("many/{entry}")), "").unwrap();
    }
    let mut dropped = BTreeMap::new();
    for mask in ["", "path_ops,ftruncate"] {
        println!("mask {mask:?}");
        let test = async {
            let mut dropper = Dropper { random: &random, dropped: &mut dropped };
            drop_everywhere(&scratch.0, &mut dropper, rounds / 2).await;
            let pool = annulet::blocking::process_pool();
            for _ in 0..10_000 {
                if annulet::metrics().operations == 0 && pool.queued() == 0 {
                    break;
                }
                sleep(Duration::from_micros(100)).await;
            }
            let metrics = annulet::metrics();
            assert_eq!((metrics.operations, metrics.timers, metrics.tasks), (0, 0, 0), "{metrics:?}");
            assert_eq!(pool.queued(), 0, "a closure of a dropped future waits on");
        };
        annulet::Builder::new().ring_mask(mask).run_local(test).unwrap();
    }
    // A thread of the pool may still be at what a dropped future gave it.
    for _ in 0..1000 {
        if descriptors() == before {
            break;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(descriptors(), before, "descriptors leaked");
    let (checked, damaged) = allocator::inspect();
    println!("dropped: {dropped:?}; {checked} freed blocks looked at, {damaged} damaged");
    assert_eq!(damaged, 0, "memory was written to after it was freed");
    assert!(dropped.len() > 35 || rounds < 10_000, "something was hardly ever tried: {dropped:?}");
    for (what, count) in dropped {
        assert!(count > rounds / 10_000, "{what} was hardly ever dropped");
    }
}
