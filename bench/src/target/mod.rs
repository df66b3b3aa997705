//! `target`: a server of known behaviour, against which the instrument itself is measured.
//!
//! It answers each request after a delay drawn from a seeded distribution, spinning so that the delay is kept to the
//! microsecond, and logs when each request was seen and answered. It may freeze once, answer a share of requests with 500, and work
//! on each answer.
//! It looks at nothing of a request but its end and the number in its path: it is no HTTP server.
//!
//! Spinning, it also logs the gaps in which it had nothing to do and did not get to look at the clock: what the machine took.
//!
//! What the log says is what the loop could see: from the turn that fetched a request to the hand-over of its answer. The
//! kernel's way there and back is the client's to see alone.

mod delay;

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use annulet::net::{TcpListener, TcpStream};
use annulet::signal::Termination;
use clap::Args;
use delay::Delay;
use rustix::time::{ClockId, clock_gettime};

use crate::exit::{Exit, Failure};
use crate::load::parse_time;
use crate::load::stalls::Stalls;
use crate::load::usage::RunQueue;

const GOOD: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const BAD: &[u8] = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 2\r\n\r\nno";
/// Lines of the log; what comes after them is answered and not logged. 16 million are 384 MiB.
const LOG_MAX: usize = 16 << 20;
/// Arbitrary.
const GAPS_MAX: usize = 1 << 16;

/// A server of known behaviour, for tests of the instrument.
#[derive(Clone, Debug, Args)]
pub(crate) struct Options {
    /// Where to listen; port 0 takes a free one, which is printed
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// The core to run on
    #[arg(long, default_value_t = 0)]
    core: usize,
    /// How long to wait with an answer: 0us, fixed:500us, or lognormal:500us,0.8 (median, sigma)
    #[arg(long, default_value = "0us")]
    delay: Delay,
    /// Where the delays start
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Stand still once, so long after the first request
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    freeze_at: Option<Duration>,
    /// How long to stand still
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_time)]
    freeze_for: Duration,
    /// The share of requests that is answered with 500
    #[arg(long, default_value_t = 0.0)]
    fail: f64,
    /// Keep the core busy for so long with each answer, which is a limit on their number
    #[arg(long, value_name = "TIME", default_value = "0us", value_parser = parse_time)]
    work: Duration,
    /// Sleep between events instead of spinning
    #[arg(long)]
    sleep: bool,
    /// Where to write a line for each request: its number, when it was seen, when it was answered (nanoseconds of
    /// CLOCK_MONOTONIC); then the gaps of the loop, as `# gap START LENGTH`
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
}

/// One line of the log.
#[derive(Clone, Copy, Debug)]
struct Line {
    number: u64,
    seen_ns: u64,
    answered_ns: u64,
}

/// An answer that waits for its time. The first in order is the next that is due.
#[derive(Debug)]
struct Due {
    until: Instant,
    /// In the order of requests, so that answers that are due together leave in it.
    nth: u64,
    number: u64,
    seen_ns: u64,
    stream: Rc<TcpStream>,
}

impl Due {
    fn key(&self) -> (Instant, u64) {
        (self.until, self.nth)
    }
}

impl PartialEq for Due {
    fn eq(&self, other: &Due) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Due) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Due) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

#[derive(Debug)]
struct Server {
    options: Options,
    rng: RefCell<fastrand::Rng>,
    log: RefCell<Vec<Line>>,
    /// Spinning: what the machine took of the core.
    stalls: RefCell<Stalls>,
    /// As (start, length). Bounded like the log.
    gaps: RefCell<Vec<(u64, u64)>>,
    answers: Cell<u64>,
    run_queue: RunQueue,
    /// Spinning: what is to be answered. One look a turn, however many connections wait.
    due: RefCell<BinaryHeap<Reverse<Due>>>,
    /// When it is to freeze; set by the first request.
    freeze_at: Cell<Option<Instant>>,
    requests: Cell<u64>,
}

/// CLOCK_MONOTONIC, which the reader of the log can compare with its own.
pub(crate) fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Serves until it is told to end, then writes the log.
///
/// # Errors
///
/// One line for the user.
pub(crate) fn main(options: &Options) -> Result<Exit, Failure> {
    let failed = |error: io::Error| Failure::new(Exit::Failed, error.to_string());
    let termination = Termination::catch().map_err(failed)?;
    let is_over = Arc::new(AtomicBool::new(false));
    let ended = Arc::clone(&is_over);
    std::thread::spawn(move || {
        if termination.wait().is_ok() {
            ended.store(true, Ordering::Relaxed);
        }
    });
    let options = options.clone();
    let loops = annulet::Builder::new()
        .cores([options.core])
        .listen(options.listen)
        .start(move |core| run(core, options.clone(), Arc::clone(&is_over)))
        .map_err(failed)?;
    for address in loops.addresses() {
        let mut out = io::stdout().lock();
        // Who started it waits for this line.
        let _ = writeln!(out, "listening on {address}").and_then(|()| out.flush());
    }
    loops.join().map_err(failed)?;
    Ok(Exit::Good)
}

async fn run(mut core: annulet::Core, options: Options, is_over: Arc<AtomicBool>) {
    let listener = core.take_listeners().pop().expect("one address was given");
    let capacity = if options.log.is_some() { LOG_MAX } else { 0 };
    let server = Rc::new(Server {
        rng: RefCell::new(fastrand::Rng::with_seed(options.seed)),
        log: RefCell::new(Vec::with_capacity(capacity)),
        stalls: RefCell::new(Stalls::new()),
        gaps: RefCell::new(Vec::with_capacity(capacity.min(GAPS_MAX))),
        answers: Cell::new(0),
        run_queue: RunQueue::of_this_thread(),
        due: RefCell::new(BinaryHeap::new()),
        freeze_at: Cell::new(None),
        requests: Cell::new(0),
        options,
    });
    drop(annulet::spawn(accept(Rc::clone(&server), listener)));
    while !is_over.load(Ordering::Relaxed) {
        if server.options.sleep {
            annulet::time::sleep(Duration::from_millis(20)).await;
        } else {
            server.answer_what_is_due();
            server.look_at_the_clock();
            annulet::yield_now().await;
        }
    }
    if let Some(path) = &server.options.log
        && let Err(error) = write_log(path, &server.log.borrow(), &server.gaps.borrow())
    {
        eprintln!("annulet-bench: cannot write the log to {}: {error}", path.display());
    }
}

async fn accept(server: Rc<Server>, listener: TcpListener) {
    while let Ok(stream) = listener.accept().await {
        drop(annulet::spawn(serve(Rc::clone(&server), stream)));
    }
}

/// Answers leave in the order of requests: what follows in the same piece is not answered before.
async fn serve(server: Rc<Server>, stream: TcpStream) {
    let stream = Rc::new(stream);
    let mut input = Vec::new();
    let mut last = Instant::now();
    // The peer is gone: it says itself what it makes of that.
    while let Ok(Some(lease)) = stream.recv().await {
        // When the turn fetched it, which is before the tasks of the turn had theirs.
        let seen = annulet::time::now();
        let seen_ns = monotonic_ns() - seen.elapsed().as_nanos() as u64;
        input.extend_from_slice(&lease);
        drop(lease);
        while let Some(end) = input.windows(4).position(|four| four == b"\r\n\r\n") {
            let nth = server.requests.get();
            let number = number_in(&input[..end]).unwrap_or(nth);
            input.drain(..end + 4);
            server.requests.set(nth + 1);
            server.freeze_when_it_is_time(seen);
            let until = last.max(seen + server.options.delay.draw(&mut server.rng.borrow_mut()));
            last = until;
            let due = Due { until, nth, number, seen_ns, stream: Rc::clone(&stream) };
            if server.options.sleep {
                annulet::time::sleep_until(until).await;
                server.answer(&due);
            } else {
                server.due.borrow_mut().push(Reverse(due));
            }
        }
        server.answer_what_is_due();
    }
}

impl Server {
    fn answer_what_is_due(&self) {
        loop {
            let mut waiting = self.due.borrow_mut();
            if waiting.peek().is_none_or(|Reverse(first)| first.until > Instant::now()) {
                return;
            }
            let due = waiting.pop();
            drop(waiting);
            due.iter().for_each(|Reverse(due)| self.answer(due));
        }
    }

    fn answer(&self, due: &Due) {
        self.answers.set(self.answers.get() + 1);
        if !self.options.work.is_zero() {
            let until = Instant::now() + self.options.work;
            while Instant::now() < until {
                std::hint::spin_loop();
            }
        }
        let fails = self.options.fail > 0.0 && self.rng.borrow_mut().f64() < self.options.fail;
        due.stream.with_send_buffer(|out| out.extend_from_slice(if fails { BAD } else { GOOD }));
        self.note(Line { number: due.number, seen_ns: due.seen_ns, answered_ns: monotonic_ns() });
    }

    /// Spinning: has anybody taken time of this core since the last look?
    fn look_at_the_clock(&self) {
        let deeds = self.requests.get() + self.answers.get();
        let gap = self.stalls.borrow_mut().look(monotonic_ns(), deeds, || self.run_queue.waited_ns());
        let mut gaps = self.gaps.borrow_mut();
        if gaps.len() < gaps.capacity() {
            gaps.extend(gap);
        }
    }

    fn note(&self, line: Line) {
        let mut log = self.log.borrow_mut();
        if log.len() < log.capacity() {
            log.push(line);
        }
    }

    fn freeze_when_it_is_time(&self, now: Instant) {
        let Some(after) = self.options.freeze_at else { return };
        match self.freeze_at.get() {
            None => self.freeze_at.set(Some(now + after)),
            Some(at) if now >= at => {
                // Far away: once only.
                self.freeze_at.set(Some(now + Duration::from_secs(31_536_000)));
                std::thread::sleep(self.options.freeze_for);
            }
            Some(_) => {}
        }
    }
}

/// The number at the end of the path of a request line: `GET /17 HTTP/1.1`.
fn number_in(head: &[u8]) -> Option<u64> {
    let path = head.split(|&b| b == b' ').nth(1)?;
    let digits = path.rsplit(|&b| b == b'/').next()?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn write_log(path: &Path, log: &[Line], gaps: &[(u64, u64)]) -> io::Result<()> {
    let mut out = BufWriter::new(File::create(path)?);
    for Line { number, seen_ns, answered_ns } in log {
        writeln!(out, "{number} {seen_ns} {answered_ns}")?;
    }
    for (start_ns, length_ns) in gaps {
        writeln!(out, "# gap {start_ns} {length_ns}")?;
    }
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        let check = |head: &str, expected| assert_eq!(number_in(head.as_bytes()), expected, "{head}");
        check("GET /17 HTTP/1.1\r\nHost: a", Some(17));
        check("GET /a/b/0 HTTP/1.1", Some(0));
        check("GET / HTTP/1.1", None);
        check("GET", None);
    }
}
