//! Which way to wake a ring from another thread: every way this kernel offers, measured side by side.
//!
//! Goal: choose the doorbell of a shard's inbox. For a receiver asleep in `io_uring_enter`, and for one that is busy
//! and comes by the kernel every few microseconds, it prints how long it takes from before the ring until the receiver
//! runs, what the call costs the ringer, and what each ring costs the receiver. The methods take turns, round by round.
//!
//! Not its goal: throughput of a queue, or several ringers at once. Left out: a WRITE operation to an eventfd, which the
//! kernel does not carry out within the submission, so that it rings only once the ringer itself comes back.
//!
//! Start at [`Bell`], the methods. The receiver is [`Receiver::run`], the ringer is `measure`.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use io_uring::squeue::Flags;
use io_uring::{EnterFlags, IoUring, SubmissionQueue, Submitter, cqueue, opcode, squeue, types};

/// How long the ringer waits between two rings of a sleeping receiver, so that it is asleep again.
const SLEEP_GAP: Duration = Duration::from_micros(100);
/// How long it waits between two rings of a busy one, so that rounds without a ring come between.
const BUSY_GAP: Duration = Duration::from_micros(20);
/// What a busy receiver computes between two visits to the kernel.
const BUSY_WORK: Duration = Duration::from_micros(2);
/// A ring that is not heard for so long is lost.
const HEARD_WITHIN: Duration = Duration::from_secs(2);
/// user_data of whatever the bell posts.
const RUNG: u64 = 1;
/// `FUTEX2_SIZE_U32 | FUTEX2_PRIVATE` of linux/futex.h.
const FUTEX2_PRIVATE_U32: u32 = 2 | 128;
/// `FUTEX_BITSET_MATCH_ANY`.
const MATCH_ANY: u64 = 0xffff_ffff;
/// `IORING_REGISTER_SEND_MSG_RING` (Linux 6.13): MSG_RING as a system call, for threads without a ring.
const REGISTER_SEND_MSG_RING: libc::c_uint = 31;

/// A way to ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bell {
    /// `write` to an eventfd, which a multishot poll watches. Nobody reads it: each write posts an event.
    EventfdPoll,
    /// `write` to an eventfd on which a READ is pending, armed again each time.
    EventfdRead,
    /// `futex(FUTEX_WAKE)` on a word on which a FUTEX_WAIT operation is pending, armed again each time.
    Futex,
    /// `io_uring_register(REGISTER_SEND_MSG_RING)`.
    MessageCall,
    /// A FUTEX_WAKE operation of the ringer's own ring.
    FutexByRing,
    /// A MSG_RING operation of the ringer's own ring.
    MessageByRing,
}

const BELLS: [Bell; 6] = [
    Bell::EventfdPoll,
    Bell::EventfdRead,
    Bell::Futex,
    Bell::MessageCall,
    Bell::FutexByRing,
    Bell::MessageByRing,
];

impl Bell {
    fn name(self) -> &'static str {
        match self {
            Bell::EventfdPoll => "eventfd write → multishot poll",
            Bell::EventfdRead => "eventfd write → READ, re-armed",
            Bell::Futex => "futex wake → FUTEX_WAIT, re-armed",
            Bell::MessageCall => "REGISTER_SEND_MSG_RING",
            Bell::FutexByRing => "FUTEX_WAKE op → FUTEX_WAIT, re-armed",
            Bell::MessageByRing => "MSG_RING op",
        }
    }

    fn ringer_has_a_ring(self) -> bool {
        matches!(self, Bell::FutexByRing | Bell::MessageByRing)
    }
}

/// What both threads see.
struct Shared {
    eventfd: OwnedFd,
    /// The receiver's ring; -1 until it stands.
    ring: AtomicI32,
    /// Counts rings, for the futex methods.
    word: AtomicU32,
    /// Number of the last ring, stored before ringing.
    rung: AtomicU64,
    /// Number of the last ring heard, stored by the receiver on the bell's event.
    heard: AtomicU64,
    stop: AtomicBool,
}

/// What a receiver reports at its end.
#[derive(Clone, Copy, Debug, Default)]
struct Receiver {
    /// CPU time from its first to its last event.
    cpu: Duration,
    /// Median length of a busy round in which a bell was heard, less the median of those without.
    busy_extra: Duration,
}

impl Receiver {
    /// Hears bells until told to stop.
    fn run(bell: Bell, busy: bool, core: usize, shared: &Shared) -> io::Result<Receiver> {
        pin(core)?;
        let mut uring = ring()?;
        let fd = uring.as_raw_fd();
        let (mut submitter, mut submissions, mut completions) = uring.split();
        submitter.register_ring_fd()?;
        let mut read = Box::new(0u64);
        arm(bell, shared, &mut read, &mut submissions);
        enter(&submitter, &mut submissions, 0)?;
        // Release: the ringer's acquire load of it sees a ring that is armed.
        shared.ring.store(fd, Ordering::Release);
        let mut cpu_start = thread_cpu();
        let mut first = true;
        let (mut with, mut without) = (Vec::new(), Vec::new());
        loop {
            let start = Instant::now();
            if busy {
                while start.elapsed() < BUSY_WORK {
                    std::hint::spin_loop();
                }
            }
            enter(&submitter, &mut submissions, u32::from(!busy))?;
            let mut heard = false;
            completions.sync();
            for completion in &mut completions {
                if completion.user_data() != RUNG {
                    continue;
                }
                // EAGAIN: the futex word had moved on before the wait was armed, which is a ring as well.
                if completion.result() < 0 && completion.result() != -libc::EAGAIN {
                    return Err(io::Error::from_raw_os_error(-completion.result()));
                }
                heard = true;
                // Acquire, Release: pair with the ringer's store of `rung` and load of `heard`.
                shared.heard.store(shared.rung.load(Ordering::Acquire), Ordering::Release);
                if !cqueue::more(completion.flags()) {
                    arm(bell, shared, &mut read, &mut submissions);
                }
            }
            if busy {
                if heard { &mut with } else { &mut without }.push(start.elapsed());
            }
            if heard && first {
                first = false;
                cpu_start = thread_cpu();
            }
            if shared.stop.load(Ordering::Acquire) {
                break;
            }
        }
        let cpu = thread_cpu() - cpu_start;
        drop((submitter, submissions, completions));
        drop(uring);
        // Closing a ring cancels what is in flight, but not before the close returns: the READ may still point here.
        Box::leak(read);
        let busy_extra = percentile(&mut with, 50).saturating_sub(percentile(&mut without, 50));
        Ok(Receiver { cpu, busy_extra })
    }
}

/// Puts the receiver's half of the bell in place; it is submitted with the next enter.
fn arm(bell: Bell, shared: &Shared, read: &mut u64, submissions: &mut SubmissionQueue<'_>) {
    let eventfd = types::Fd(shared.eventfd.as_raw_fd());
    let entry = match bell {
        Bell::EventfdPoll => opcode::PollAdd::new(eventfd, libc::POLLIN as u32).multi(true).build(),
        Bell::EventfdRead => opcode::Read::new(eventfd, std::ptr::from_mut(read).cast(), 8).build(),
        Bell::Futex | Bell::FutexByRing => {
            let value = u64::from(shared.word.load(Ordering::Acquire));
            opcode::FutexWait::new(shared.word.as_ptr(), value, MATCH_ANY, FUTEX2_PRIVATE_U32).build()
        }
        Bell::MessageCall | Bell::MessageByRing => return,
    };
    // SAFETY: the eventfd and the word live in `Shared`, which outlives the receiver; `read` is leaked by it.
    unsafe { submissions.push(&entry.user_data(RUNG)).expect("an empty queue") };
}

/// Submits, and waits for so many completions.
fn enter(submitter: &Submitter<'_>, submissions: &mut SubmissionQueue<'_>, want: u32) -> io::Result<()> {
    submissions.sync();
    let flags = EnterFlags::GETEVENTS | EnterFlags::NO_IOWAIT;
    let queued = submissions.len() as u32;
    // SAFETY: no argument is passed.
    let result = unsafe { submitter.enter::<libc::sigset_t>(queued, want, flags.bits(), None) };
    submissions.sync();
    match result {
        Err(error) if error.raw_os_error() != Some(libc::EINTR) => Err(error),
        _ => Ok(()),
    }
}

/// The ringer's half, with its own ring where the method needs one.
struct Ringer<'a> {
    bell: Bell,
    shared: &'a Shared,
    submitter: Submitter<'a>,
    submissions: SubmissionQueue<'a>,
    one: &'static u64,
}

impl Ringer<'_> {
    fn message(&self) -> squeue::Entry {
        let target = types::Fd(self.shared.ring.load(Ordering::Acquire));
        opcode::MsgRingData::new(target, 0, RUNG, None).build()
    }

    fn ring(&mut self) -> io::Result<()> {
        let eventfd = self.shared.eventfd.as_raw_fd();
        let result = match self.bell {
            Bell::EventfdPoll | Bell::EventfdRead => {
                // SAFETY: eight valid bytes.
                unsafe { libc::write(eventfd, std::ptr::from_ref(self.one).cast(), 8) as libc::c_long }
            }
            Bell::Futex => {
                self.shared.word.fetch_add(1, Ordering::Release);
                // SAFETY: the word lives in `Shared`.
                unsafe {
                    libc::syscall(
                        libc::SYS_futex,
                        self.shared.word.as_ptr(),
                        libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG,
                        1,
                    )
                }
            }
            Bell::MessageCall => {
                let entry = self.message();
                // SAFETY: `Entry` has the layout of `io_uring_sqe`, which this call reads one of; -1 says "no ring".
                unsafe {
                    libc::syscall(
                        libc::SYS_io_uring_register,
                        -1,
                        REGISTER_SEND_MSG_RING,
                        &raw const entry,
                        1,
                    )
                }
            }
            Bell::FutexByRing => {
                self.shared.word.fetch_add(1, Ordering::Release);
                let word = self.shared.word.as_ptr();
                return self.submit(&opcode::FutexWake::new(word, 1, MATCH_ANY, FUTEX2_PRIVATE_U32).build());
            }
            Bell::MessageByRing => {
                let entry = self.message();
                return self.submit(&entry);
            }
        };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// One operation, without waiting and without a completion unless it fails.
    fn submit(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        let entry = entry.clone().flags(Flags::SKIP_SUCCESS);
        // SAFETY: what the entries above point to is never freed while the ringer lives.
        unsafe { self.submissions.push(&entry).map_err(io::Error::other)? };
        self.submissions.sync();
        // As a shard enters, running its deferred work too.
        enter(&self.submitter, &mut self.submissions, 0)
    }
}

/// What one round of one method found.
#[derive(Clone, Copy, Debug)]
struct Sample {
    p50: Duration,
    p99: Duration,
    /// Median length of the ringing call.
    call: Duration,
    /// What a ring costs the receiver.
    receiver: Duration,
}

/// Rings `rings` times and waits each time until it is heard.
fn measure(bell: Bell, busy: bool, rings: u32, cores: [usize; 2]) -> io::Result<Sample> {
    // SAFETY: a fresh descriptor that nobody else owns.
    let eventfd = unsafe {
        let fd = libc::eventfd(0, libc::EFD_CLOEXEC);
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        OwnedFd::from_raw_fd(fd)
    };
    let shared = Arc::new(Shared {
        eventfd,
        ring: AtomicI32::new(-1),
        word: AtomicU32::new(0),
        rung: AtomicU64::new(0),
        heard: AtomicU64::new(0),
        stop: AtomicBool::new(false),
    });
    let receiver = {
        let shared = Arc::clone(&shared);
        thread::spawn(move || Receiver::run(bell, busy, cores[0], &shared))
    };
    pin(cores[1])?;
    while shared.ring.load(Ordering::Acquire) < 0 && !receiver.is_finished() {
        thread::yield_now();
    }
    let mut uring = ring()?;
    let (mut submitter, submissions, _completions) = uring.split();
    submitter.register_ring_fd()?;
    let mut ringer = Ringer { bell, shared: &shared, submitter, submissions, one: &1 };
    let (mut latencies, mut calls) = (Vec::new(), Vec::new());
    let mut outcome = Ok(());
    for number in 1..=u64::from(rings) {
        let gap = Instant::now();
        while gap.elapsed() < if busy { BUSY_GAP } else { SLEEP_GAP } {
            std::hint::spin_loop();
        }
        shared.rung.store(number, Ordering::Release);
        let start = Instant::now();
        outcome = ringer.ring();
        calls.push(start.elapsed());
        while outcome.is_ok() && shared.heard.load(Ordering::Acquire) != number {
            if start.elapsed() > HEARD_WITHIN || receiver.is_finished() {
                outcome = Err(io::Error::other("a ring was not heard"));
            }
            std::hint::spin_loop();
        }
        latencies.push(start.elapsed());
        if outcome.is_err() {
            break;
        }
    }
    shared.stop.store(true, Ordering::Release);
    if outcome.is_ok() {
        ringer.ring()?;
    } else if !busy && !receiver.is_finished() {
        // A receiver that cannot be woken cannot be joined either; it sleeps until the process ends.
        return outcome.map(|()| unreachable!("just seen to have failed"));
    }
    let receiver = receiver.join().expect("the receiver does not panic")?;
    // A thread has 16 places for registered rings, and dropping the ring alone does not give the place back.
    ringer.submitter.unregister_ring_fd()?;
    outcome?;
    Ok(Sample {
        p50: percentile(&mut latencies, 50),
        p99: percentile(&mut latencies, 99),
        call: percentile(&mut calls, 50),
        receiver: if busy { receiver.busy_extra } else { receiver.cpu / rings },
    })
}

/// A ring as a shard has one.
fn ring() -> io::Result<IoUring> {
    IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_taskrun_flag()
        .setup_submit_all()
        .setup_cqsize(1024)
        .build(64)
}

fn thread_cpu() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a valid pointer; this clock exists everywhere.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn pin(core: usize) -> io::Result<()> {
    // SAFETY: all zeroes is the empty set; `core` is one this process may use, hence within it.
    let result = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(core, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The first and the last core this process may use; the same one where there is only one.
fn cores() -> io::Result<[usize; 2]> {
    // SAFETY: all zeroes is the empty set, and the size is the set's.
    let set = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        if libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set) != 0 {
            return Err(io::Error::last_os_error());
        }
        set
    };
    // SAFETY: every index is below CPU_SETSIZE.
    let mine = (0..libc::CPU_SETSIZE as usize).filter(|&core| unsafe { libc::CPU_ISSET(core, &set) });
    let mine: Vec<usize> = mine.collect();
    Ok([mine[0], mine[mine.len() - 1]])
}

fn percentile(values: &mut [Duration], percent: usize) -> Duration {
    values.sort_unstable();
    values
        .get((values.len() * percent / 100).min(values.len().saturating_sub(1)))
        .copied()
        .unwrap_or_default()
}

fn median(samples: &[Sample], of: fn(&Sample) -> Duration) -> f64 {
    let mut values: Vec<Duration> = samples.iter().map(of).collect();
    percentile(&mut values, 50).as_secs_f64() * 1e6
}

fn print_table(title: &str, results: &[(Bell, io::Result<Vec<Sample>>)]) {
    println!("\n{title}\n");
    println!("| bell | ringer | p50 µs (min–max of rounds) | p99 µs | call µs | receiver CPU µs |");
    println!("|------|--------|---------------------------:|-------:|--------:|----------------:|");
    for (bell, result) in results {
        let ringer = if bell.ringer_has_a_ring() { "owns a ring" } else { "any thread" };
        match result {
            Err(error) => println!("| {} | {ringer} | not here: {error} | | | |", bell.name()),
            Ok(samples) => {
                let us = |duration: Duration| duration.as_secs_f64() * 1e6;
                let low = samples.iter().map(|sample| sample.p50).min().unwrap_or_default();
                let high = samples.iter().map(|sample| sample.p50).max().unwrap_or_default();
                println!(
                    "| {} | {ringer} | {:.2} ({:.2}–{:.2}) | {:.1} | {:.2} | {:.2} |",
                    bell.name(),
                    median(samples, |sample| sample.p50),
                    us(low),
                    us(high),
                    median(samples, |sample| sample.p99),
                    median(samples, |sample| sample.call),
                    median(samples, |sample| sample.receiver),
                );
            }
        }
    }
}

fn run(rounds: u32, rings: u32) -> io::Result<()> {
    let cores = cores()?;
    if cores[0] == cores[1] {
        return Err(io::Error::other("this needs two cores: the ringer spins until it is heard"));
    }
    println!("receiver on core {}, ringer on core {}; {rounds} rounds of {rings} rings", cores[0], cores[1]);
    for (busy, title) in [
        (false, "Receiver asleep in io_uring_enter"),
        (true, "Receiver busy, enters every 2 µs or so without waiting"),
    ] {
        let mut results: Vec<_> = BELLS.map(|bell| (bell, Ok(Vec::new()))).into();
        for _ in 0..rounds {
            for (bell, result) in &mut results {
                let Ok(samples) = result else { continue };
                match measure(*bell, busy, rings, cores) {
                    Ok(sample) => samples.push(sample),
                    Err(error) => *result = Err(error),
                }
            }
        }
        print_table(title, &results);
    }
    Ok(())
}

fn main() -> ExitCode {
    let mut numbers = [5, 2000];
    let mut arguments = std::env::args().skip(1);
    while let Some(flag) = arguments.next() {
        let index = ["--rounds", "--rings"].iter().position(|&known| known == flag);
        let value = arguments.next().and_then(|value| value.parse::<u32>().ok()).filter(|&value| value > 0);
        match (index, value) {
            (Some(index), Some(value)) => numbers[index] = value,
            _ => {
                eprintln!("doorbell [--rounds N] [--rings N]: ways to wake a ring, measured ({numbers:?})");
                return ExitCode::from(2);
            }
        }
    }
    match run(numbers[0], numbers[1]) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("doorbell: {error}");
            ExitCode::FAILURE
        }
    }
}
