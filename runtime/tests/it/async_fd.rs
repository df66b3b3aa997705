//! Readiness of any descriptor.

use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use annulet::net::{AsyncFd, Interest};
use annulet::time::timeout;

const SOON: Duration = Duration::from_millis(5);
const LATE: Duration = Duration::from_secs(5);

#[test]
fn a_socket_pair_is_readable_once_something_was_written() {
    annulet::run(async {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let ours = AsyncFd::new(ours).unwrap();
        assert!(timeout(SOON, ours.readable()).await.is_err(), "nothing is there");
        timeout(LATE, ours.writable()).await.unwrap().unwrap();
        theirs.write_all(b"abc").unwrap();
        let mut guard = timeout(LATE, ours.readable()).await.unwrap().unwrap();
        let mut bytes = [0; 8];
        let count = guard.try_io(|fd| fd.inner().read(&mut bytes)).unwrap().unwrap();
        assert_eq!(&bytes[..count], b"abc");
        let error = guard.try_io(|fd| fd.inner().read(&mut bytes)).unwrap_err();
        assert!(error.to_string().contains("wait for it again"));
        assert!(timeout(SOON, ours.readable()).await.is_err(), "it was read empty");
        drop(theirs);
        timeout(LATE, ours.readable()).await.unwrap().unwrap();
        assert_eq!(ours.inner().read(&mut bytes).unwrap(), 0, "the end makes it readable");
    });
}

#[test]
fn async_io_tries_until_it_is_done() {
    annulet::run(async {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let ours = AsyncFd::new(ours).unwrap();
        let reading = annulet::spawn(async move {
            let mut bytes = [0; 8];
            let read = ours.async_io(Interest::Readable, |mut socket| socket.read(&mut bytes));
            let count = timeout(LATE, read).await.unwrap().unwrap();
            bytes[..count].to_vec()
        });
        annulet::yield_now().await;
        theirs.write_all(b"late").unwrap();
        assert_eq!(reading.await.unwrap(), b"late");
    });
}

#[test]
fn pipes_and_regular_files_answer_as_poll_does() {
    annulet::run(async {
        let (reader, writer) = io::pipe().unwrap();
        let (reader, writer) = (AsyncFd::new(reader).unwrap(), AsyncFd::new(writer).unwrap());
        timeout(LATE, writer.writable()).await.unwrap().unwrap();
        assert!(timeout(SOON, reader.readable()).await.is_err());
        drop(writer);
        timeout(LATE, reader.readable()).await.unwrap().unwrap();

        let file = AsyncFd::new(std::fs::File::open("/proc/self/exe").unwrap()).unwrap();
        timeout(LATE, file.readable()).await.unwrap().unwrap();
    });
}

#[test]
fn two_tasks_may_wait_for_the_same() {
    annulet::run(async {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let ours = std::rc::Rc::new(AsyncFd::new(ours).unwrap());
        let waits: Vec<_> = (0..2)
            .map(|_| {
                let ours = std::rc::Rc::clone(&ours);
                annulet::spawn(async move { timeout(LATE, ours.readable()).await.unwrap().map(drop) })
            })
            .collect();
        annulet::yield_now().await;
        theirs.write_all(b"x").unwrap();
        for wait in waits {
            wait.await.unwrap().unwrap();
        }
    });
}

#[test]
fn what_is_no_descriptor_is_refused() {
    struct Nothing;
    impl AsRawFd for Nothing {
        fn as_raw_fd(&self) -> i32 {
            -1
        }
    }
    annulet::run(async {
        let error = AsyncFd::new(Nothing).map(drop).unwrap_err();
        assert_eq!(error.to_string(), "-1 is no descriptor");
    });
}

#[test]
fn a_dropped_wait_leaves_nothing() {
    annulet::run(async {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let ours = AsyncFd::new(ours).unwrap();
        assert!(timeout(SOON, ours.readable()).await.is_err());
        drop(ours);
        for _ in 0..1000 {
            if annulet::metrics().operations == 0 {
                return;
            }
            annulet::yield_now().await;
        }
        panic!("the poll was not cancelled: {:?}", annulet::metrics());
    });
}
