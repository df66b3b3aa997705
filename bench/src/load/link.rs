//! One connection: made, kept busy, made again when it ends.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use annulet::time::{sleep, timeout};

use super::connection::InFlight;
use super::engine::{Engine, Next, Nonsense};
use super::reader::Reader;
use super::stream::Stream;

/// The pause after connections that brought no answer doubles from the first of these to the second, so that a server that is
/// down is not hammered.
const PAUSE_MIN: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// A connection that is up.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) stream: Stream,
    pub(super) state: RefCell<State>,
}

/// What changes about it.
#[derive(Debug)]
pub(super) struct State {
    pub(super) in_flight: InFlight,
    pub(super) reader: Reader,
    /// Requests that may still be sent on it.
    pub(super) unsent: u64,
    /// Whether it is in the queue of those that have room.
    pub(super) is_queued: bool,
    pub(super) is_up: bool,
}

/// How a connection came to its end.
#[derive(Debug)]
enum End {
    /// As announced, or with nothing in flight.
    Orderly,
    /// The server ended it with answers due.
    Cut,
    /// An answer did not come in time.
    Overdue,
    /// What came was no answer.
    Nonsense(Nonsense),
    /// The connection failed.
    Failed(io::Error),
}

/// Keeps connection `number` of this core up until the load is over.
pub(super) async fn run(engine: Rc<Engine>, number: usize) {
    let mut pause = Duration::ZERO;
    let mut is_first = true;
    while !engine.is_over.get() {
        if !pause.is_zero() {
            sleep(pause).await;
        }
        if let Some(rate) = engine.config.connections_per_second {
            // The share of this core, evenly spread.
            let gap = Duration::from_secs_f64(engine.config.cores.len() as f64 / rate);
            engine.wait_for_connect_turn(gap).await;
        }
        // Connections of all cores share the source addresses in turn.
        let place = number * engine.config.cores.len() + engine.index;
        let begun = Instant::now();
        let connected = timeout(engine.config.timeout, Stream::connect(&engine.config, place)).await;
        let result = match connected {
            Ok(result) => result,
            Err(_) => Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("no connection within {:?} (--timeout)", engine.config.timeout),
            )),
        };
        let was_useful = match result {
            Ok(stream) => {
                if let Some(kind) = stream.handshake_kind() {
                    engine.handshakes.borrow_mut().take(kind, begun.elapsed());
                }
                serve(&engine, number, stream, &mut is_first).await
            }
            Err(error) => {
                let stats = &mut engine.hot.borrow_mut().stats;
                stats.take_error(1, |errors| &mut errors.connect, || error.to_string());
                false
            }
        };
        if std::mem::take(&mut is_first) {
            engine.tried.set(engine.tried.get() + 1);
        }
        pause = if was_useful { Duration::ZERO } else { (pause * 2).clamp(PAUSE_MIN, PAUSE_MAX) };
    }
}

/// Uses a connection until it ends. Gives whether it brought an answer.
async fn serve(engine: &Rc<Engine>, number: usize, stream: Stream, is_first: &mut bool) -> bool {
    let unsent = engine.config.close_after.unwrap_or(u64::MAX);
    let state = State {
        in_flight: InFlight::new(engine.config.pipeline),
        reader: Reader::default(),
        unsent,
        is_queued: false,
        is_up: true,
    };
    let link = Rc::new(Link { stream, state: RefCell::new(state) });
    link.stream.start_recv();
    engine.links.borrow_mut()[number] = Some(Rc::clone(&link));
    if std::mem::take(is_first) {
        engine.tried.set(engine.tried.get() + 1);
    }
    engine.admit(&link);
    let (end, was_useful) = receive(engine, &link).await;
    engine.links.borrow_mut()[number] = None;
    let lost = {
        let mut state = link.state.borrow_mut();
        state.is_up = false;
        state.in_flight.clear()
    };
    engine.in_flight.set(engine.in_flight.get() - lost);
    if !engine.is_over.get() {
        count(engine, &end, lost as u64);
    }
    was_useful
}

async fn receive(engine: &Rc<Engine>, link: &Rc<Link>) -> (End, bool) {
    let mut was_useful = false;
    let end = loop {
        match link.stream.recv().await {
            Ok(Some(bytes)) => match engine.handle_bytes(link, &bytes) {
                Ok(Next::Stay) => was_useful = true,
                Ok(Next::Close) => {
                    was_useful = true;
                    break if link.state.borrow().in_flight.is_empty() { End::Orderly } else { End::Cut };
                }
                Err(nonsense) => break End::Nonsense(nonsense),
            },
            Ok(None) => {
                let whole = engine.handle_end(link);
                was_useful |= whole;
                break if link.state.borrow().in_flight.is_empty() { End::Orderly } else { End::Cut };
            }
            Err(error) if error.kind() == io::ErrorKind::TimedOut => break End::Overdue,
            Err(error) => break End::Failed(error),
        }
    };
    (end, was_useful)
}

/// What a connection's end means for the figures: the requests in flight on it were not answered.
fn count(engine: &Engine, end: &End, lost: u64) {
    let stats = &mut engine.hot.borrow_mut().stats;
    match end {
        End::Orderly => {}
        End::Cut => stats.take_error(
            lost,
            |errors| &mut errors.cut,
            || "the server closed a connection on which an answer was due".to_owned(),
        ),
        End::Overdue => stats.take_error(
            lost.max(1),
            |errors| &mut errors.timeout,
            || format!("an answer did not come within {:?} (--timeout)", engine.config.timeout),
        ),
        End::Nonsense(Nonsense::Refused(why)) => {
            stats.take_error(
                lost.max(1),
                |errors| &mut errors.malformed,
                || format!("no answer of HTTP/1: {why}"),
            );
        }
        End::Nonsense(Nonsense::Unasked) => stats.take_error(
            1,
            |errors| &mut errors.malformed,
            || "the server sent more than was asked for".to_owned(),
        ),
        End::Failed(error) => {
            stats.take_error(
                lost.max(1),
                |errors| &mut errors.reset,
                || format!("a connection failed: {error}"),
            );
        }
    }
}
