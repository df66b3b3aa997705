//! Buffered reading and writing, lines, copies; dropped at every Pending.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use annulet::io::{AsyncRead, AsyncWrite, BufReader, BufWriter, copy, copy_bidirectional, relay};
use annulet::stream::{Stream, StreamExt};

use super::support::pair;

/// A reader that gives these pieces, with a Pending before each.
struct Pieces {
    pieces: VecDeque<Vec<u8>>,
    is_ready: bool,
}

impl Pieces {
    fn new(pieces: &[&str]) -> Self {
        Pieces { pieces: pieces.iter().map(|piece| piece.as_bytes().to_vec()).collect(), is_ready: false }
    }
}

impl AsyncRead for Pieces {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        if !std::mem::replace(&mut self.is_ready, true) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.is_ready = false;
        let Some(mut piece) = self.pieces.pop_front() else { return Poll::Ready(Ok(0)) };
        let count = piece.len().min(buffer.len());
        buffer[..count].copy_from_slice(&piece[..count]);
        if count < piece.len() {
            self.pieces.push_front(piece.split_off(count));
        }
        Poll::Ready(Ok(count))
    }
}

/// A writer that takes at most three bytes at a time, with a Pending before each.
#[derive(Default)]
struct Slow {
    taken: Vec<u8>,
    flushed: usize,
    is_closed: bool,
    is_ready: bool,
}

impl AsyncWrite for Slow {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if !std::mem::replace(&mut self.is_ready, true) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.is_ready = false;
        let count = bytes.len().min(3);
        self.taken.extend_from_slice(&bytes[..count]);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.flushed = self.taken.len();
        Poll::Ready(Ok(()))
    }

    fn poll_close(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.is_closed = true;
        Poll::Ready(Ok(()))
    }
}

/// Makes a new future for every poll, so that each is dropped when it is Pending.
fn drop_at_every_pending<T>(mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> T {
    for _ in 0..10_000 {
        if let Poll::Ready(value) = poll(&mut Context::from_waker(Waker::noop())) {
            return value;
        }
    }
    panic!("it is never done");
}

/// The lines of the pieces, whether futures are dropped between or not; the error's text where there is one.
#[track_caller]
fn check_lines(pieces: &[&str], expected: &[&str]) {
    let limited = || BufReader::with_capacity(4, Pieces::new(pieces)).line_limit(10).lines();
    let text = |line: io::Result<String>| line.unwrap_or_else(|error| error.to_string());
    let mut lines = limited();
    let mut seen = Vec::new();
    while let Some(line) = drop_at_every_pending(|cx| pin!(lines.next()).poll(cx)) {
        seen.push(text(line));
    }
    assert_eq!(seen, expected, "each future dropped when it waits");
    let seen = annulet::run(async {
        let mut stream = limited();
        let mut seen = Vec::new();
        while let Some(line) = poll_fn(|cx| Pin::new(&mut stream).poll_next(cx)).await {
            seen.push(text(line));
        }
        seen
    });
    assert_eq!(seen, expected, "as a stream");
}

#[test]
fn lines_come_whole_in_any_slicing() {
    check_lines(&[], &[]);
    check_lines(&["a\nb\r\nc"], &["a", "b", "c"]);
    check_lines(&["a", "\n", "b\r", "\n", "\n\nd\n"], &["a", "b", "", "", "d"]);
    check_lines(&["0123456789\n", "x"], &["0123456789", "x"]);
    check_lines(
        &["012345", "6789\r\n"],
        &["a line is longer than 10 bytes; BufReader::line_limit sets the bound"],
    );
    check_lines(
        &["ok\n", "01234567890 and more"],
        &["ok", "a line is longer than 10 bytes; BufReader::line_limit sets the bound"],
    );
    check_lines(&["\r\n\r"], &["", "\r"]);
}

#[test]
fn what_is_no_text_is_an_error_and_stays_readable() {
    annulet::run(async {
        let mut reader = BufReader::new(&b"\xff\xfe\nrest"[..]);
        let mut line = String::from("before ");
        let error = reader.read_line(&mut line).await.unwrap_err();
        assert!(error.to_string().contains("read_until"), "{error}");
        assert_eq!(line, "before ");
        let mut bytes = Vec::new();
        assert_eq!(reader.read_until(b'\n', &mut bytes).await.unwrap(), 3);
        assert_eq!(bytes, b"\xff\xfe\n");
        assert_eq!(reader.read_line(&mut line).await.unwrap(), 4);
        assert_eq!(line, "before rest");
        assert_eq!(reader.read_line(&mut line).await.unwrap(), 0);
    });
}

#[test]
fn a_reader_gives_exactly_and_to_the_end_within_bounds() {
    annulet::run(async {
        let mut reader = BufReader::with_capacity(3, Pieces::new(&["ab", "cdef", "g", "hij"]));
        let mut word = [0; 5];
        reader.read_exact(&mut word).await.unwrap();
        assert_eq!(&word, b"abcde");
        let mut rest = Vec::new();
        let error = reader.read_to_end(&mut rest, 4).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert_eq!(rest, b"fghi");
        assert_eq!(reader.read_to_end(&mut rest, 1).await.unwrap(), 1);
        assert_eq!(rest, b"fghij");
        let error = reader.read_exact(&mut word).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    });
}

#[test]
fn a_writer_gathers_and_loses_nothing_when_it_is_dropped() {
    let mut writer = BufWriter::with_capacity(8, Slow::default());
    let mut written = 0;
    let bytes = b"0123456789abcdefghijklmnopqrstuvwxyz";
    while written < bytes.len() {
        let next = &bytes[written..(written + 5).min(bytes.len())];
        written += drop_at_every_pending(|cx| pin!(writer.write(next)).poll(cx)).unwrap();
    }
    assert!(writer.get_ref().taken.len() < bytes.len(), "something is gathered");
    drop_at_every_pending(|cx| pin!(writer.flush()).poll(cx)).unwrap();
    assert_eq!(writer.get_ref().taken, bytes);
    assert_eq!(writer.get_ref().flushed, bytes.len());
    drop_at_every_pending(|cx| pin!(writer.write(b"!")).poll(cx)).unwrap();
    drop_at_every_pending(|cx| pin!(writer.close()).poll(cx)).unwrap();
    assert!(writer.get_ref().is_closed && writer.get_ref().taken.ends_with(b"z!"));
}

#[test]
fn a_copy_goes_at_the_pace_of_its_writer() {
    annulet::run(async {
        let mut slow = Slow::default();
        let count = copy(&mut Pieces::new(&["one ", "two ", "three"]), &mut slow).await.unwrap();
        assert_eq!((count, slow.taken.as_slice(), slow.flushed), (13, &b"one two three"[..], 13));
        assert!(!slow.is_closed);
    });
}

#[test]
fn a_relay_carries_bytes_and_the_end() {
    const BYTES: usize = 3 << 20;
    annulet::run(async {
        let (source, entry) = pair().await;
        let (exit, target) = pair().await;
        let relayed = annulet::spawn(async move {
            let count = relay(&entry, &exit).await.unwrap();
            exit.shutdown(std::net::Shutdown::Write).unwrap();
            count
        });
        let sender = annulet::spawn(async move {
            source.write_all(&vec![7; BYTES]).await.unwrap();
            source.flush().await.unwrap();
        });
        let mut seen = 0;
        while let Some(bytes) = target.recv().await.unwrap() {
            assert!(bytes.iter().all(|byte| *byte == 7));
            seen += bytes.len();
        }
        sender.await.unwrap();
        assert_eq!((seen, relayed.await.unwrap()), (BYTES, BYTES as u64));
    });
}

#[test]
fn both_directions_end_by_themselves() {
    annulet::run(async {
        let (client, mut entry) = pair().await;
        let (mut exit, server) = pair().await;
        let proxy = annulet::spawn(async move { copy_bidirectional(&mut entry, &mut exit).await.unwrap() });
        client.write_all(b"question").await.unwrap();
        client.flush().await.unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        let mut question = Vec::new();
        BufReader::new(&server).read_to_end(&mut question, 100).await.unwrap();
        assert_eq!(question, b"question", "the end came through");
        server.write_all(b"answer!").await.unwrap();
        drop(server);
        let mut answer = Vec::new();
        BufReader::new(&client).read_to_end(&mut answer, 100).await.unwrap();
        assert_eq!(answer, b"answer!");
        assert_eq!(proxy.await.unwrap(), (8, 7));
    });
}

#[test]
fn a_flush_waits_for_a_slow_reader() {
    // More than the kernel's buffers on loopback take.
    const BYTES: usize = 16 << 20;
    annulet::run(async {
        let (client, server) = pair().await;
        let mut writer = BufWriter::new(&client);
        let mut left = BYTES;
        let chunk = vec![1; 32 * 1024];
        // Writes until nothing goes any more.
        loop {
            let wrote = annulet::time::timeout(Duration::from_millis(200), writer.write(&chunk)).await;
            let Ok(count) = wrote else { break };
            left -= count.unwrap();
            assert!(left > 0, "the kernel took everything without a reader");
        }
        let reader = annulet::spawn(async move {
            let mut seen = 0;
            while let Some(bytes) = server.recv().await.unwrap() {
                seen += bytes.len();
            }
            seen
        });
        writer.flush().await.unwrap();
        assert_eq!(client.send_buffered(), 0, "flushed is taken by the kernel");
        writer.close().await.unwrap();
        assert_eq!(reader.await.unwrap(), BYTES - left);
    });
}

#[test]
fn listeners_are_streams() {
    annulet::run(async {
        let listener = annulet::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let clients = annulet::spawn(async move {
            let mut clients = Vec::new();
            for _ in 0..3 {
                clients.push(annulet::net::TcpStream::connect(address).await.unwrap());
            }
            clients
        });
        let mut incoming = listener.incoming();
        let mut accepted = vec![incoming.next().await.unwrap().unwrap()];
        while accepted.len() < 3 {
            accepted.push(StreamExt::next(&mut incoming).await.unwrap().unwrap());
        }
        assert_eq!(clients.await.unwrap().len(), accepted.len());
    });
}

#[annulet::test(start_paused = true)]
async fn intervals_are_streams() {
    let start = annulet::time::now();
    let mut interval = annulet::time::interval(Duration::from_secs(1));
    for second in 0..3 {
        let tick = StreamExt::next(&mut interval).await.unwrap();
        assert_eq!(tick - start, Duration::from_secs(second));
    }
}

#[test]
fn a_copy_leaves_nothing_behind_while_its_reader_waits() {
    /// Gives one piece, then waits for ever.
    struct Stalls(bool);
    impl AsyncRead for Stalls {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buffer: &mut [u8],
        ) -> Poll<io::Result<usize>> {
            if std::mem::replace(&mut self.0, true) {
                return Poll::Pending;
            }
            buffer[..5].copy_from_slice(b"hello");
            Poll::Ready(Ok(5))
        }
    }
    let mut writer = BufWriter::new(Vec::new());
    let mut reader = Stalls(false);
    {
        let mut copying = pin!(copy(&mut reader, &mut writer));
        assert!(copying.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }
    assert_eq!(writer.get_ref(), b"hello");
}

#[test]
fn a_large_write_does_not_overtake_what_is_buffered() {
    let mut writer = BufWriter::with_capacity(4, Slow::default());
    for bytes in ["ab", "cdefgh", "i"] {
        let mut left = bytes.as_bytes();
        while !left.is_empty() {
            let count = drop_at_every_pending(|cx| pin!(writer.write(left)).poll(cx)).unwrap();
            left = &left[count..];
        }
    }
    assert_eq!(writer.buffer(), b"fghi");
    drop_at_every_pending(|cx| pin!(writer.close()).poll(cx)).unwrap();
    assert_eq!(writer.get_ref().taken, b"abcdefghi");
}

#[test]
fn a_relay_waits_for_a_slow_target_and_flushes_it() {
    const BYTES: usize = 16 << 20;
    annulet::run(async {
        let (source, entry) = pair().await;
        let (exit, target) = pair().await;
        let exit = std::rc::Rc::new(exit);
        let held = std::rc::Rc::clone(&exit);
        let relayed = annulet::spawn(async move {
            relay(&entry, &*held).await.unwrap();
            held.send_buffered()
        });
        let sender = annulet::spawn(async move {
            source.write_all(&vec![7; BYTES]).await.unwrap();
            source.flush().await.unwrap();
        });
        // Nobody reads: it fills the buffers on the way and stops.
        for _ in 0..200 {
            annulet::time::sleep(Duration::from_millis(1)).await;
            assert!(exit.send_buffered() < BYTES / 8, "{} bytes are kept", exit.send_buffered());
        }
        assert!(!relayed.is_finished());
        let mut seen = 0;
        while seen < BYTES {
            seen += target.recv().await.unwrap().expect("not the end").len();
        }
        assert_eq!(relayed.await.unwrap(), 0, "flushed is taken by the kernel");
        sender.await.unwrap();
    });
}

#[test]
fn a_copy_from_memory_is_flushed() {
    annulet::run(async {
        let mut writer = BufWriter::new(Vec::new());
        assert_eq!(copy(&mut &b"five!"[..], &mut writer).await.unwrap(), 5);
        assert_eq!(writer.get_ref(), b"five!");
    });
}

#[test]
fn a_reader_that_was_asked_for_something_else_gives_what_it_has() {
    let mut reader = BufReader::with_capacity(4, Pieces::new(&["abc", "defgh"]));
    let mut out = Vec::new();
    for _ in 0..2 {
        // Dropped at its Pending, with `abc` searched for what is not in it.
        let mut cx = Context::from_waker(Waker::noop());
        assert!(pin!(reader.read_until(b'x', &mut out)).poll(&mut cx).is_pending());
    }
    drop_at_every_pending(|cx| pin!(reader.read_until(b'b', &mut out)).poll(cx)).unwrap();
    assert_eq!(out, b"ab");
    let mut large = [0; 100];
    assert_eq!(drop_at_every_pending(|cx| pin!(reader.read(&mut large)).poll(cx)).unwrap(), 1);
    assert_eq!(large[0], b'c', "what is buffered comes before what is not");
}
