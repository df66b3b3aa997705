//! What `--send skip` relies on, asked of the running kernel: a send with `MSG_DONTWAIT | MSG_WAITALL` and
//! `IOSQE_CQE_SKIP_SUCCESS` is finished when the enter that submitted it returns, and posts a completion exactly when
//! not all of it went out.

use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

use io_uring::squeue::Flags;
use io_uring::{IoUring, opcode, types};

const DONTWAIT: i32 = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
const SEND_BUFFER_BYTES: usize = 8 * 1024;

/// A ring as the server sets it up, or `None` where it is not to be had.
fn ring() -> Option<IoUring> {
    let ring = IoUring::builder().setup_single_issuer().setup_defer_taskrun().setup_submit_all().build(8);
    match ring {
        Ok(ring) => Some(ring),
        Err(error) => {
            eprintln!("skipped: no io_uring here ({error})");
            None
        }
    }
}

fn tcp_pair() -> io::Result<(socket2::Socket, socket2::Socket)> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let near = std::net::TcpStream::connect(listener.local_addr()?)?;
    let far = listener.accept()?.0;
    Ok((near.into(), far.into()))
}

fn unix_pair() -> io::Result<(socket2::Socket, socket2::Socket)> {
    let (near, far) = UnixStream::pair()?;
    Ok((near.into(), far.into()))
}

/// Submits one send without waiting for anything and returns the results it posted.
fn send(ring: &mut IoUring, socket: &socket2::Socket, bytes: &[u8], flags: i32, skip: bool) -> Vec<i32> {
    let entry = opcode::Send::new(types::Fd(socket.as_raw_fd()), bytes.as_ptr(), bytes.len() as u32)
        .flags(flags)
        .build()
        .flags(if skip { Flags::SKIP_SUCCESS } else { Flags::empty() });
    // SAFETY: `bytes` outlives the call, and every case below either completes within the submit or leaks its bytes.
    unsafe { ring.submission().push(&entry).expect("an empty queue") };
    assert_eq!(ring.submit().expect("submit"), 1);
    ring.completion().map(|completion| completion.result()).collect()
}

/// Fills a socket until nothing more fits and returns how much that was.
fn fill(socket: &socket2::Socket) -> usize {
    socket.set_nonblocking(true).expect("nonblocking");
    let chunk = [0u8; 1024];
    let mut filled = 0;
    loop {
        match socket.send(&chunk) {
            Ok(sent) => filled += sent,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => panic!("{error}"),
        }
    }
    socket.set_nonblocking(false).expect("blocking");
    filled
}

fn check(name: &str, pair: fn() -> io::Result<(socket2::Socket, socket2::Socket)>) {
    let Some(mut ring) = ring() else { return };
    let (near, mut far) = pair().expect("a pair");
    near.set_send_buffer_size(SEND_BUFFER_BYTES).expect("SO_SNDBUF");
    let large: &'static [u8] = vec![7u8; 8 << 20].leak();

    // All of it fits: silence.
    assert_eq!(send(&mut ring, &near, b"hello", DONTWAIT | libc::MSG_WAITALL, true), [], "{name}: whole");
    let mut read = [0u8; 5];
    far.read_exact(&mut read).expect("read");
    assert_eq!(&read, b"hello");

    // A part of it fits: a completion with the part, at once.
    let results = send(&mut ring, &near, large, DONTWAIT | libc::MSG_WAITALL, true);
    assert_eq!(results.len(), 1, "{name}: partly");
    let partly = results[0];
    assert!(partly > 0 && (partly as usize) < large.len(), "{name}: partly: {partly}");

    // Nothing fits: a completion with EAGAIN, at once.
    let filled = fill(&near);
    assert_eq!(
        send(&mut ring, &near, b"x", DONTWAIT | libc::MSG_WAITALL, true),
        [-libc::EAGAIN],
        "{name}: full"
    );

    // The peer got exactly what the kernel said it took, and nothing of the refused byte.
    far.set_nonblocking(true).expect("nonblocking");
    let mut received = 0;
    let mut chunk = vec![0u8; 1 << 16];
    while received < partly as usize + filled {
        match far.read(&mut chunk) {
            Ok(0) => break,
            Ok(bytes) => received += bytes,
            // Loopback TCP moves what is queued on acknowledgement; yield until it has.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(received, partly as usize + filled, "{name}");
    assert_eq!(far.read(&mut chunk).map_err(|error| error.kind()), Err(io::ErrorKind::WouldBlock), "{name}");

    // Without WAITALL a short send counts as a success: silence, and the rest would be lost.
    assert_eq!(send(&mut ring, &near, large, DONTWAIT, true), [], "{name}: short without WAITALL");
    drop(near);

    // Without DONTWAIT it waits for room, as a plain send does: nothing yet, so the bytes must stay.
    let (near, far) = pair().expect("a pair");
    near.set_send_buffer_size(SEND_BUFFER_BYTES).expect("SO_SNDBUF");
    assert_eq!(send(&mut ring, &near, large, libc::MSG_WAITALL, true), [], "{name}: waits");

    // A peer that is gone: a completion with the error, no signal.
    drop(far);
    let (near, far) = pair().expect("a pair");
    drop(far);
    near.shutdown(std::net::Shutdown::Write).expect("shutdown");
    let results = send(&mut ring, &near, b"x", DONTWAIT | libc::MSG_WAITALL, true);
    assert!(results.contains(&-libc::EPIPE), "{name}: gone: {results:?}");
}

#[test]
fn a_silent_send_reports_exactly_what_did_not_go_out_unix() {
    check("unix", unix_pair);
}

#[test]
fn a_silent_send_reports_exactly_what_did_not_go_out_tcp() {
    check("tcp", tcp_pair);
}
