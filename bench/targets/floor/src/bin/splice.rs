//! Copying from one socket to another: by splice(2) through a pipe, or by receiving and sending. Both on a ring.
//!
//! Goal: decide how `annulet::io::relay` copies. A feeder and a sink on threads of their own, a relay between them over TCP on
//! the loopback device; the ways take turns, round by round. It prints bytes a second, and what the relay costs per
//! megabyte: the process's CPU time, kernel workers included, without that of feeder and sink.
//!
//! Not its goal: many connections at once, or files.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use io_uring::{IoUring, opcode, squeue, types};

/// What is moved by one operation: what a pipe holds unless it is told otherwise.
const PIECE_BYTES: usize = 64 << 10;
/// No offset: sockets and pipes have none.
const NO_OFFSET: i64 = -1;

/// A way to copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Receive into memory, send out of it.
    Copy,
    /// Splice into a pipe, splice out of it. The kernel gives each to a worker thread.
    Splice,
}

const WAYS: [Way; 2] = [Way::Copy, Way::Splice];

/// What one run took.
#[derive(Clone, Copy, Debug)]
struct Cost {
    elapsed: Duration,
    cpu: Duration,
}

/// A ring with one operation at a time.
struct One(IoUring);

impl One {
    fn new() -> io::Result<Self> {
        let mut builder = IoUring::builder();
        builder.setup_single_issuer().setup_defer_taskrun();
        Ok(One(builder.build(8)?))
    }

    /// The result of an operation.
    fn result(&mut self, entry: &squeue::Entry) -> io::Result<usize> {
        // SAFETY: this waits for the end of the operation, and its callers lend what it points to for that long.
        unsafe { self.0.submission().push(entry) }.expect("one at a time fits");
        self.0.submit_and_wait(1)?;
        let result = self.0.completion().next().expect("waited for").result();
        usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result))
    }
}

fn relay(way: Way, from: &TcpStream, to: &TcpStream) -> io::Result<u64> {
    let mut ring = One::new()?;
    let (from, to) = (from.as_raw_fd(), to.as_raw_fd());
    match way {
        Way::Copy => by_copy(&mut ring, from, to),
        Way::Splice => by_splice(&mut ring, from, to),
    }
}

fn by_copy(ring: &mut One, from: RawFd, to: RawFd) -> io::Result<u64> {
    let mut piece = vec![0_u8; PIECE_BYTES];
    let mut sum = 0;
    loop {
        let receive = opcode::Recv::new(types::Fd(from), piece.as_mut_ptr(), PIECE_BYTES as u32).build();
        let count = ring.result(&receive)?;
        if count == 0 {
            return Ok(sum);
        }
        let mut sent = 0;
        while sent < count {
            let rest = &piece[sent..count];
            sent +=
                ring.result(&opcode::Send::new(types::Fd(to), rest.as_ptr(), rest.len() as u32).build())?;
        }
        sum += count as u64;
    }
}

fn by_splice(ring: &mut One, from: RawFd, to: RawFd) -> io::Result<u64> {
    let (out, into) = pipe()?;
    let mut splice = |from: RawFd, to: RawFd, count: usize| {
        let (from, to) = (types::Fd(from), types::Fd(to));
        ring.result(&opcode::Splice::new(from, NO_OFFSET, to, NO_OFFSET, count as u32).build())
    };
    let mut sum = 0;
    loop {
        let count = splice(from, into.as_raw_fd(), PIECE_BYTES)?;
        if count == 0 {
            return Ok(sum);
        }
        let mut sent = 0;
        while sent < count {
            sent += splice(out.as_raw_fd(), to, count - sent)?;
        }
        sum += count as u64;
    }
}

fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut fds = [0; 2];
    // SAFETY: room for two descriptors.
    if unsafe { libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: made above, nobody else has them.
    Ok(unsafe { (OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1])) })
}

/// CPU time of `who`, `RUSAGE_SELF` or `RUSAGE_THREAD`.
fn cpu(who: libc::c_int) -> Duration {
    // SAFETY: a structure of numbers, which the call fills.
    let usage = unsafe {
        let mut usage = std::mem::zeroed::<libc::rusage>();
        assert_eq!(libc::getrusage(who, &mut usage), 0, "getrusage knows {who}");
        usage
    };
    let of = |time: libc::timeval| Duration::new(time.tv_sec as u64, time.tv_usec as u32 * 1000);
    of(usage.ru_utime) + of(usage.ru_stime)
}

fn pair() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let client = TcpStream::connect(listener.local_addr()?)?;
    Ok((client, listener.accept()?.0))
}

/// Sends `megabytes` through a relay, in messages of `message` bytes.
fn run(way: Way, megabytes: usize, message: usize) -> io::Result<Cost> {
    let ((mut feeding, fed), (draining, mut drained)) = (pair()?, pair()?);
    let bytes = megabytes << 20;
    let (start, before) = (Instant::now(), cpu(libc::RUSAGE_SELF));
    let feeder = thread::spawn(move || -> io::Result<Duration> {
        let content = vec![7; message];
        for _ in 0..bytes / message {
            feeding.write_all(&content)?;
        }
        drop(feeding);
        Ok(cpu(libc::RUSAGE_THREAD))
    });
    let sink = thread::spawn(move || -> io::Result<(usize, Duration)> {
        let (mut room, mut sum) = (vec![0; 256 << 10], 0);
        loop {
            match drained.read(&mut room)? {
                0 => return Ok((sum, cpu(libc::RUSAGE_THREAD))),
                count => sum += count,
            }
        }
    });
    relay(way, &fed, &draining)?;
    drop(draining);
    let others = feeder.join().expect("the feeder does not panic")?;
    let (sum, sinks) = sink.join().expect("the sink does not panic")?;
    assert_eq!(sum, bytes / message * message, "every byte arrives");
    Ok(Cost {
        elapsed: start.elapsed(),
        cpu: (cpu(libc::RUSAGE_SELF) - before).saturating_sub(others + sinks),
    })
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() -> ExitCode {
    let numbers: Option<Vec<usize>> =
        std::env::args().skip(1).map(|argument| argument.parse().ok()).collect();
    let (rounds, megabytes) = match numbers.as_deref() {
        Some([]) => (9, 512),
        Some(&[rounds, megabytes]) if rounds > 0 && megabytes > 0 => (rounds, megabytes),
        _ => {
            eprintln!("usage: splice [ROUNDS MEGABYTES]");
            return ExitCode::from(2);
        }
    };
    println!("| messages of | way | MB/s | CPU of the relay, µs per MB (min–max) |");
    println!("|---:|-----|----:|----:|");
    for message in [1 << 10, 64 << 10] {
        let mut costs = [Vec::new(), Vec::new()];
        for round in 0..rounds {
            for turn in 0..WAYS.len() {
                let which = (round + turn) % WAYS.len();
                match run(WAYS[which], megabytes, message) {
                    Ok(cost) => costs[which].push(cost),
                    Err(error) => {
                        eprintln!("splice: {:?}: {error}", WAYS[which]);
                        return ExitCode::FAILURE;
                    }
                }
            }
        }
        for (way, costs) in WAYS.iter().zip(costs) {
            let each = |of: fn(&Cost) -> Duration| -> Vec<f64> {
                costs.iter().map(|cost| of(cost).as_secs_f64() / megabytes as f64).collect()
            };
            let speed = 1.0 / median(&mut each(|cost| cost.elapsed));
            let mut cpu = each(|cost| cost.cpu);
            let middle = median(&mut cpu) * 1e6;
            let (least, most) = (cpu[0] * 1e6, cpu[cpu.len() - 1] * 1e6);
            println!("| {message} | {way:?} | {speed:.0} | {middle:.0} ({least:.0}–{most:.0}) |");
        }
    }
    ExitCode::SUCCESS
}
