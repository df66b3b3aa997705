//! Files on the ring: regular ones, pipes, /proc, O_DIRECT.

use std::future::Future;
use std::io::{self, ErrorKind, Read, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use annulet::fs::{self, AlignedBuf, File, FileType, OpenOptions};

use crate::support::{ends, open_files, until};

/// A directory of its own, removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("annulet-fs-{name}-{}", std::process::id()));
        // The rest of a run that was killed, if any.
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir(&path).unwrap();
        Scratch(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

fn poll_once<F: Future>(future: F) -> Option<F::Output> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

#[annulet::test]
async fn whole_files() {
    let scratch = Scratch::new("whole");
    for len in [0, 1, 8191, 8192, 8193, 1_000_000] {
        let path = scratch.path("file");
        let bytes: Vec<u8> = (0..len).map(|byte| (byte % 251) as u8).collect();
        fs::write(&path, bytes.clone()).await.unwrap();
        assert_eq!(fs::read(&path).await.unwrap(), bytes);
        let copy = scratch.path("copy");
        assert_eq!(fs::copy(&path, &copy).await.unwrap(), len as u64);
        assert_eq!(std::fs::read(&copy).unwrap(), bytes);
    }
    fs::write(scratch.path("text"), "grüße").await.unwrap();
    assert_eq!(fs::read_to_string(scratch.path("text")).await.unwrap(), "grüße");
    fs::write(scratch.path("text"), vec![0xff]).await.unwrap();
    let error = fs::read_to_string(scratch.path("text")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidData);
    assert!(error.to_string().contains("text is not UTF-8"), "{error}");
}

#[annulet::test]
async fn errors_name_the_path() {
    let missing = Path::new("/nowhere/at/all");
    let check = |result: io::Result<()>, kind, words: &str| {
        let error = result.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(words), "{error} does not say {words:?}");
    };
    let not_found = ErrorKind::NotFound;
    check(File::open(missing).await.map(drop), not_found, "cannot open /nowhere/at/all: No such file");
    check(fs::read(missing).await.map(drop), not_found, "/nowhere/at/all");
    check(fs::write(missing, "x").await, not_found, "/nowhere/at/all");
    check(fs::metadata(missing).await.map(drop), not_found, "cannot look at /nowhere/at/all");
    check(fs::remove_file(missing).await, not_found, "cannot remove /nowhere/at/all");
    check(fs::remove_dir(missing).await, not_found, "cannot remove the directory /nowhere/at/all");
    check(fs::rename(missing, "/tmp/x").await, not_found, "cannot rename /nowhere/at/all to /tmp/x");
    check(fs::hard_link(missing, "/tmp/x").await, not_found, "cannot link /nowhere/at/all to /tmp/x");
    check(fs::symlink("x", missing).await, not_found, "x to /nowhere/at/all");
    check(fs::create_dir(missing).await, not_found, "cannot make the directory /nowhere/at/all");
    check(fs::read_dir(missing).await.map(drop), not_found, "cannot read the directory /nowhere/at/all");
    check(fs::canonicalize(missing).await.map(drop), not_found, "cannot resolve /nowhere/at/all");
    check(fs::copy(missing, "/tmp/x").await.map(drop), not_found, "/nowhere/at/all");
    check(fs::create_dir_all("/proc/self/comm/x").await, ErrorKind::NotADirectory, "/proc/self/comm/x");
    check(File::open("a\0b").await.map(drop), ErrorKind::InvalidInput, "NUL byte");
    check(
        OpenOptions::new().open("/dev/null").await.map(drop),
        ErrorKind::InvalidInput,
        "set read, write or append",
    );
    assert!(!fs::exists(missing).await.unwrap() && fs::exists("/proc").await.unwrap());
}

#[annulet::test]
async fn the_buffer_comes_back_on_failure_too() {
    let scratch = Scratch::new("failure");
    let file = File::create(scratch.path("file")).await.unwrap();
    let (result, buffer) = file.read_at(vec![7; 100], 0).await;
    assert_eq!(result.unwrap_err().raw_os_error(), Some(libc_ebadf()), "it is not open for reading");
    assert_eq!(buffer, [7; 100]);
    let (result, buffer) = file.read_at(Vec::with_capacity(100), 0).await;
    let text = result.unwrap_err().to_string();
    assert!(text.contains("give vec![0; n]"), "{text}");
    assert_eq!(buffer.capacity(), 100);
    let (result, buffer) = file.write_at(vec![1; 3], u64::MAX).await;
    let text = result.unwrap_err().to_string();
    assert!(text.contains("2^63 - 1") && buffer == [1; 3], "{text}");
    let (result, _) = File::open("/dev/null").await.unwrap().read_exact_at(vec![0; 3], 0).await;
    assert_eq!(result.unwrap_err().kind(), ErrorKind::UnexpectedEof);
}

fn libc_ebadf() -> i32 {
    rustix::io::Errno::BADF.raw_os_error()
}

#[annulet::test]
async fn positional_reads_and_writes_at_once() {
    const BLOCKS: usize = 64;
    let scratch = Scratch::new("positional");
    let file = File::options().read(true).write(true).create_new(true).open(scratch.path("file")).await;
    let file = Rc::new(file.unwrap());
    let tasks: Vec<_> = (0..BLOCKS)
        .map(|block| {
            let file = Rc::clone(&file);
            annulet::spawn(async move {
                let offset = (block * 4096) as u64;
                let (result, buffer) = file.write_all_at(vec![block as u8; 4096], offset).await;
                result.unwrap();
                let (result, buffer) = file.read_exact_at(buffer, offset).await;
                result.unwrap();
                assert_eq!(buffer, [block as u8; 4096]);
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    file.sync_all().await.unwrap();
    file.sync_data().await.unwrap();
    assert_eq!(file.metadata().await.unwrap().len(), (BLOCKS * 4096) as u64);
    file.set_len(5000).await.unwrap();
    let mut slice = [0; 5000];
    assert_eq!(file.read_slice_at(&mut slice, 4000).await.unwrap(), 1000);
    assert!(slice[..96].iter().all(|byte| *byte == 0) && slice[96..1000].iter().all(|byte| *byte == 1));
    assert_eq!(file.write_slice_at(b"end", 5000).await.unwrap(), 3);
    assert_eq!(file.metadata().await.unwrap().len(), 5003);
}

#[annulet::test]
async fn a_cursor_reads_writes_and_seeks() {
    let scratch = Scratch::new("cursor");
    let path = scratch.path("file");
    let mut file = File::options().read(true).write(true).create(true).open(&path).await.unwrap();
    file.write_all(b"hello, world").await.unwrap();
    assert_eq!(file.seek(SeekFrom::Start(7)).await.unwrap(), 7);
    let mut word = [0; 5];
    file.read_exact(&mut word).await.unwrap();
    assert_eq!(&word, b"world");
    assert_eq!(file.read(&mut word).await.unwrap(), 0);
    assert_eq!(file.seek(SeekFrom::Current(-5)).await.unwrap(), 7);
    file.write_all(b"there").await.unwrap();
    assert_eq!(file.seek(SeekFrom::End(-5)).await.unwrap(), 7);
    assert_eq!(fs::read(&path).await.unwrap(), b"hello, there");
    assert!(file.seek(SeekFrom::Current(-8)).await.is_err());
    let mut rest = Vec::new();
    assert_eq!(file.read_to_end(&mut rest).await.unwrap(), 5);
    assert_eq!(rest, b"there");

    let mut appending = File::options().append(true).open(&path).await.unwrap();
    appending.write_all(b"!").await.unwrap();
    file.seek(SeekFrom::Start(0)).await.unwrap();
    appending.write_all(b"!").await.unwrap();
    assert_eq!(fs::read(&path).await.unwrap(), b"hello, there!!");

    let mut std = std::fs::File::open(&path).unwrap();
    std.read_exact(&mut [0; 7]).unwrap();
    let mut taken = File::from_std(std);
    taken.read_exact(&mut word).await.unwrap();
    assert_eq!(&word, b"there", "the cursor starts where the file stood");
}

#[annulet::test]
async fn a_file_that_is_appended_to_is_read_as_std_reads_it() {
    let scratch = Scratch::new("append");
    let path = scratch.path("file");
    let mut options = std::fs::OpenOptions::new();
    options.read(true).append(true);
    std::fs::write(&path, "abcdef").unwrap();
    let expected = {
        let mut file = options.open(&path).unwrap();
        let mut taken = Vec::new();
        let mut two = [0; 2];
        for step in 0..3 {
            taken.push((file.read(&mut two).unwrap(), two));
            file.write_all(&[b'0' + step]).unwrap();
        }
        io::Seek::seek(&mut file, SeekFrom::Start(5)).unwrap();
        taken.push((file.read(&mut two).unwrap(), two));
        taken.push((file.read(&mut two).unwrap(), two));
        taken
    };
    let whole = std::fs::read(&path).unwrap();

    std::fs::write(&path, "abcdef").unwrap();
    let mut file = File::from_std(options.open(&path).unwrap());
    let mut taken = Vec::new();
    let mut two = [0; 2];
    for step in 0..3 {
        taken.push((file.read(&mut two).await.unwrap(), two));
        file.write_all(&[b'0' + step]).await.unwrap();
    }
    file.seek(SeekFrom::Start(5)).await.unwrap();
    taken.push((file.read(&mut two).await.unwrap(), two));
    taken.push((file.read(&mut two).await.unwrap(), two));
    assert_eq!(taken, expected);
    assert_eq!(std::fs::read(&path).unwrap(), whole);

    // What a dropped read has fetched is not what stands at another place.
    file.seek(SeekFrom::Start(0)).await.unwrap();
    assert!(poll_once(file.read(&mut two)).is_none());
    file.seek(SeekFrom::Start(2)).await.unwrap();
    file.read_exact(&mut two).await.unwrap();
    assert_eq!(&two, b"cd");
}

#[annulet::test]
async fn a_write_that_was_dropped_is_finished_first() {
    let scratch = Scratch::new("dropped-write");
    let path = scratch.path("file");
    let mut file = File::create(&path).await.unwrap();
    for round in 0..50_u8 {
        assert!(poll_once(file.write(&[round; 3000])).is_none());
    }
    file.flush().await.unwrap();
    // One that waits for another is not taken; so at least every other was.
    let bytes = std::fs::read(&path).unwrap();
    assert!(bytes.len() >= 3000 && bytes.len().is_multiple_of(3000), "{}", bytes.len());
    for part in bytes.chunks(3000) {
        assert!(part.iter().all(|byte| *byte == part[0]), "writes are not mixed");
    }
    // A dropped file lets its write go on.
    let path = scratch.path("left");
    let mut file = File::create(&path).await.unwrap();
    assert!(poll_once(file.write(&[1; 200_000])).is_none());
    drop(file);
    until("the write ends", || std::fs::metadata(&path).unwrap().len() == 200_000).await;
}

#[annulet::test]
async fn errors_of_writes_are_told() {
    let mut full = File::options().write(true).open("/dev/full").await.unwrap();
    assert_eq!(full.write_all(b"x").await.unwrap_err().kind(), ErrorKind::StorageFull);
    assert!(poll_once(full.write(b"x")).is_none());
    assert_eq!(full.flush().await.unwrap_err().kind(), ErrorKind::StorageFull);
    full.flush().await.unwrap();
    let error = fs::write("/dev/full", "x").await.unwrap_err();
    assert!(error.to_string().contains("cannot write /dev/full"), "{error}");
}

fn pipe() -> (File, std::fs::File) {
    let (reader, writer) = io::pipe().unwrap();
    let reader = File::from_std(std::fs::File::from(OwnedFd::from(reader)));
    (reader, std::fs::File::from(OwnedFd::from(writer)))
}

#[annulet::test]
async fn pipes_are_read_to_their_end_and_drops_lose_nothing() {
    let (mut reader, mut writer) = pipe();
    let mut buffer = [0; 100];
    assert!(poll_once(reader.read(&mut buffer)).is_none());
    writer.write_all(b"one").unwrap();
    annulet::yield_now().await;
    annulet::yield_now().await;
    // The read that was dropped has the bytes.
    assert_eq!(reader.read(&mut buffer[..2]).await.unwrap(), 2);
    assert_eq!(&buffer[..2], b"on");
    assert_eq!(reader.read(&mut buffer).await.unwrap(), 1);
    assert_eq!(buffer[0], b'e');
    writer.write_all(b"two").unwrap();
    drop(writer);
    let mut rest = Vec::new();
    reader.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, b"two");

    let (mut reader, _writer) = pipe();
    assert!(reader.seek(SeekFrom::Start(0)).await.is_err());
}

#[annulet::test]
async fn a_read_that_fails_gives_no_bytes_of_the_one_before() {
    // A refused datagram is an error of read(2) that comes once.
    let [one, other] = [(); 2].map(|()| std::net::UdpSocket::bind("127.0.0.1:0").unwrap());
    one.connect(other.local_addr().unwrap()).unwrap();
    other.send_to(b"hello", one.local_addr().unwrap()).unwrap();
    drop(other);
    let mut file = File::from_std(std::fs::File::from(OwnedFd::from(one.try_clone().unwrap())));
    let mut buffer = [0; 100];
    assert_eq!(file.read(&mut buffer).await.unwrap(), 5);
    one.send(b"anybody?").unwrap();
    assert_eq!(file.read(&mut buffer).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    assert!(poll_once(file.read(&mut buffer)).is_none());
}

#[test]
fn a_write_that_nobody_takes_ends_with_its_loop() {
    let (mut reader, mut writer) = io::pipe().unwrap();
    rustix::io::ioctl_fionbio(&reader, true).unwrap();
    // What a pipe holds (pipe(7)).
    writer.write_all(&[0; 65_536]).unwrap();
    annulet::run(async {
        let mut writer = File::from_std(std::fs::File::from(OwnedFd::from(writer)));
        assert!(poll_once(writer.write(b"too much")).is_none());
    });
    let mut bytes = vec![0; 65_536];
    reader.read_exact(&mut bytes).unwrap();
    // The loop has let go of the other end.
    ends(&mut reader);
}

#[annulet::test]
async fn a_file_larger_than_memory_is_an_error() {
    let scratch = Scratch::new("huge");
    let path = scratch.path("file");
    // Nothing but a hole, below the 16 TiB of ext4.
    if let Err(error) = std::fs::File::create(&path).unwrap().set_len(15 << 40) {
        println!("skipped: no sparse file of that size here: {error}");
        return;
    }
    assert_eq!(fs::read(&path).await.unwrap_err().kind(), ErrorKind::OutOfMemory);
}

#[annulet::test]
async fn a_copy_leaves_the_bits_of_what_is_no_file() {
    let scratch = Scratch::new("copy-to-pipe");
    let (file, pipe) = (scratch.path("file"), scratch.path("pipe"));
    std::fs::write(&file, "contents").unwrap();
    let bits = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, bits, 0).unwrap();
    let reader = annulet::spawn(fs::read(pipe.clone()));
    fs::copy(&file, &pipe).await.unwrap();
    assert_eq!(reader.await.unwrap().unwrap(), b"contents");
    assert_eq!(fs::metadata(&pipe).await.unwrap().mode(), 0o600);
}

#[annulet::test]
async fn a_named_pipe_is_opened_and_read_without_blocking_the_loop() {
    let scratch = Scratch::new("fifo");
    let path = scratch.path("fifo");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &path,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    let reader = annulet::spawn({
        let path = path.clone();
        async move { fs::read(path).await.unwrap() }
    });
    fs::write(&path, "through the pipe").await.unwrap();
    assert_eq!(reader.await.unwrap(), b"through the pipe");
    assert_eq!(fs::metadata(&path).await.unwrap().file_type(), FileType::Pipe);
}

#[annulet::test]
async fn proc_is_read_to_its_end() {
    let ours = fs::read_to_string("/proc/self/comm").await.unwrap();
    assert_eq!(ours, std::fs::read_to_string("/proc/self/comm").unwrap());
    assert_eq!(fs::metadata("/proc/self/comm").await.unwrap().len(), 0, "it does not say how long it is");
    // Longer than a first guess: one line a mapping.
    let maps = fs::read_to_string("/proc/self/maps").await.unwrap();
    assert!(maps.ends_with('\n') && maps.len() > 100);
    let mut file = File::open("/proc/self/comm").await.unwrap();
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).await.unwrap();
    assert_eq!(bytes, ours.as_bytes());
}

#[annulet::test]
async fn direct_files_want_aligned_memory_and_say_so() {
    // Not /tmp, which may be a tmpfs.
    let path = std::env::current_exe().unwrap().with_extension(format!("direct-{}", std::process::id()));
    std::fs::write(&path, vec![5; 16384]).unwrap();
    let opened = OpenOptions::new().read(true).write(true).direct(true).open(&path).await;
    let Ok(mut file) = opened else {
        std::fs::remove_file(&path).unwrap();
        println!("skipped: no O_DIRECT on {}: {opened:?}", path.display());
        return;
    };
    let (count, mut buffer) = file.read_at(AlignedBuf::new(8192), 4096).await;
    assert_eq!(count.unwrap(), 8192);
    assert!(buffer.iter().all(|byte| *byte == 5));
    buffer.fill(6);
    let (result, buffer) = file.write_all_at(buffer, 8192).await;
    result.unwrap();
    let (result, buffer) = file.read_exact_at(buffer, 8192).await;
    result.unwrap();
    assert!(buffer.iter().all(|byte| *byte == 6));

    // The end of a file need not be aligned, and nothing can be read behind it.
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(12_288 + 1000).unwrap();
    let (result, _) = file.read_exact_at(buffer, 8192).await;
    assert_eq!(result.unwrap_err().kind(), ErrorKind::UnexpectedEof);

    let check = |result: io::Result<usize>, words: &str| {
        let error = result.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        let text = error.to_string();
        assert!(text.contains(words) && text.contains("AlignedBuf"), "{text}");
    };
    check(file.read_at(AlignedBuf::new(4096), 1).await.0, "the offset, 1, is no multiple");
    check(file.read_at(AlignedBuf::new(4095), 0).await.0, "the buffer's length, 4095,");
    let mut odd = AlignedBuf::new(4097).to_vec();
    odd.truncate(4096);
    if (odd.as_ptr() as usize).is_multiple_of(512) {
        println!("skipped: the allocator gave aligned memory");
    } else {
        check(file.write_at(odd, 0).await.0, "the buffer's address");
    }
    check(file.read(&mut [0; 4096]).await, "needs aligned memory");
    check(file.read_slice_at(&mut [0; 4096], 0).await, "needs aligned memory");
    check(file.write_slice_at(&[0; 4096], 0).await, "needs aligned memory");
    drop(file);
    fs::remove_file(&path).await.unwrap();
}

#[annulet::test]
async fn names_are_made_changed_and_removed() {
    let scratch = Scratch::new("names");
    let deep = scratch.path("a/b/c");
    fs::create_dir_all(&deep).await.unwrap();
    fs::create_dir_all(&deep).await.unwrap();
    assert!(fs::metadata(&deep).await.unwrap().is_dir());
    let error = fs::create_dir(&deep).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);

    let (one, two, link) = (deep.join("one"), deep.join("two"), deep.join("link"));
    fs::write(&one, "1").await.unwrap();
    fs::hard_link(&one, &two).await.unwrap();
    let metadata = fs::metadata(&two).await.unwrap();
    assert_eq!((metadata.nlink(), metadata.len(), metadata.is_file()), (2, 1, true));
    let std = std::fs::metadata(&two).unwrap();
    assert_eq!(metadata.modified(), std.modified().unwrap());
    assert_eq!(metadata.created(), std.created().ok());
    fs::symlink("two", &link).await.unwrap();
    assert!(fs::symlink_metadata(&link).await.unwrap().is_symlink());
    assert!(fs::metadata(&link).await.unwrap().is_file());
    assert_eq!(fs::canonicalize(&link).await.unwrap(), std::fs::canonicalize(&two).unwrap());
    fs::remove_file(&one).await.unwrap();
    fs::rename(&two, &one).await.unwrap();
    assert!(!fs::exists(&link).await.unwrap(), "it points to nothing now");
    assert_eq!(fs::remove_dir(&deep).await.unwrap_err().kind(), ErrorKind::DirectoryNotEmpty);

    for number in 0..300 {
        fs::write(deep.join(format!("file-{number}")), "").await.unwrap();
    }
    let mut entries = fs::read_dir(&deep).await.unwrap();
    let mut names = Vec::new();
    let mut dropped = 0;
    loop {
        // Dropped waits lose no entry.
        match poll_once(entries.next_entry()) {
            Some(Ok(None)) => break,
            Some(entry) => names.push(entry.unwrap().unwrap()),
            None => {
                dropped += 1;
                match entries.next_entry().await.unwrap() {
                    Some(entry) => names.push(entry),
                    None => break,
                }
            }
        }
    }
    // How many waits were dropped is up to the pool's thread; three of them were begun.
    assert_eq!(names.len(), 302, "{dropped} waits were dropped");
    let link_entry = names.iter().find(|entry| entry.file_name() == "link").unwrap();
    assert_eq!(link_entry.file_type().await.unwrap(), FileType::Symlink);
    assert_eq!(link_entry.path(), link);
    fs::remove_dir_all(scratch.path("a")).await.unwrap();
    assert!(!fs::exists(scratch.path("a")).await.unwrap());
}

#[test]
fn dropped_opens_and_files_leave_no_descriptor() {
    let scratch = Scratch::new("descriptors");
    let path = scratch.path("file");
    std::fs::write(&path, "contents").unwrap();
    annulet::run(async {
        for round in 0..200 {
            let file = poll_once(File::create(&path));
            assert!(file.is_none());
            if round % 2 == 0 {
                annulet::yield_now().await;
            }
            let file = File::open(&path).await.unwrap();
            assert!(poll_once(file.read_at(vec![0; 100], 0)).is_none());
            assert!(poll_once(file.metadata()).is_none());
        }
        let closed = || !open_files().contains(&path) && annulet::metrics().operations == 0;
        until("everything is closed", closed).await;
    });
}

#[test]
fn a_file_that_outlives_its_loop_says_so() {
    let mut file = annulet::run(async { File::open("/proc/self/comm").await.unwrap() });
    annulet::run(async move {
        let error = file.read(&mut [0; 10]).await.unwrap_err();
        assert!(error.to_string().contains("has ended"), "{error}");
        let (result, buffer) = file.read_at(vec![3; 10], 0).await;
        assert!(result.is_err() && buffer == [3; 10]);
    });
}

#[test]
#[should_panic(expected = "there is no annulet loop on this thread")]
fn outside_of_a_loop_there_are_no_files() {
    let _ = poll_once(File::open("/dev/null"));
}
