//! Delivers cases and compares answers.
use std::fmt::Write as _;
use std::net::{Shutdown, SocketAddr};
use std::time::Instant;

use annulet::net::{TcpListener, TcpStream};
use annulet_http::Server;
use annulet_http::offline::{Offline, Outcome};

use crate::mutate::{Random, cut};
use crate::site::{TIME_MAX, limits, router};
use crate::table::{Case, Expected, State, cases};

/// Sent behind a case: it is answered if and only if the connection is still good, and then with these words.
const PROBE: &[u8] = b"GET /probe HTTP/1.1\r\nHost: p\r\nConnection: close\r\n\r\n";

/// How many different random deliveries a case has.
const RANDOM_DELIVERIES: u64 = 3;

/// Checks every case of a file in every delivery; all failures are listed.
pub(crate) fn check_all(name: &str, text: &str) {
    let mut failures = String::new();
    annulet::run(async {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = Server::new(router()).with_limits(limits());
        drop(annulet::spawn(async move { server.serve(listener).await }));
        let offline = Offline::new(router(), limits());
        let all = async {
            for case in cases(text) {
                for delivery in deliveries(case.line) {
                    let input = input_of(&case);
                    let pieces = delivery.cut(&input);
                    let answers = converse(address, &pieces).await;
                    let mut failed = compare(&case, &answers);
                    if failed.is_ok()
                        && let Some((answers, is_open)) = offline_answers(&offline, &pieces)
                    {
                        failed = compare_offline(&case, &answers, is_open);
                    }
                    if let Err(why) = failed {
                        writeln!(
                            failures,
                            "{name}.txt:{} {} {}\n    {delivery:?}: {why}",
                            case.line, case.rule, case.shown
                        )
                        .unwrap();
                        break;
                    }
                }
            }
        };
        annulet::time::timeout(TIME_MAX, all).await.expect("the cases take too long");
    });
    assert!(failures.is_empty(), "\n{failures}");
}

/// What the client sends in all.
fn input_of(case: &Case<'_>) -> Vec<u8> {
    let mut input = case.request.clone();
    if case.state != State::Cut {
        input.extend_from_slice(PROBE);
    }
    input
}

/// How a case is delivered.
#[derive(Clone, Copy, Debug)]
enum Delivery {
    Whole,
    PerLine,
    PerByte,
    /// Cut at random, with this seed.
    Random(u64),
}

fn deliveries(line: usize) -> impl Iterator<Item = Delivery> {
    let random = (0..RANDOM_DELIVERIES).map(move |nth| Delivery::Random((line as u64) << 8 | nth));
    [Delivery::Whole, Delivery::PerLine, Delivery::PerByte].into_iter().chain(random)
}

impl Delivery {
    fn cut(self, input: &[u8]) -> Vec<&[u8]> {
        match self {
            Delivery::Whole => vec![input],
            Delivery::PerLine => input.split_inclusive(|&b| b == b'\n').collect(),
            Delivery::PerByte => input.chunks(1).collect(),
            Delivery::Random(seed) => cut(input, &mut Random::new(seed)),
        }
    }
}

/// Sends the pieces, each on its own way, and reads to the end of the stream.
pub(crate) async fn converse(address: SocketAddr, pieces: &[&[u8]]) -> Vec<u8> {
    let stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    for piece in pieces {
        // An error means that the server has had enough: what it said is what counts.
        if stream.write_all(piece).await.is_err() || stream.flush().await.is_err() {
            break;
        }
        annulet::yield_now().await;
    }
    // May fail when the server was faster.
    let _ = stream.shutdown(Shutdown::Write);
    let mut answers = Vec::new();
    while let Ok(Some(lease)) = stream.recv().await {
        answers.extend_from_slice(&lease);
    }
    answers
}

/// The answers without a socket, and whether the connection was good to the last. `None` when one is needed: a body, or a handler
/// that waits.
fn offline_answers(server: &Offline, pieces: &[&[u8]]) -> Option<(Vec<u8>, bool)> {
    let (mut rest, mut answers) = (Vec::new(), Vec::new());
    for piece in pieces {
        rest.extend_from_slice(piece);
        match server.answer(&rest, Instant::now(), &mut answers) {
            Outcome::Answered { used } => drop(rest.drain(..used)),
            Outcome::Closed => return Some((answers, false)),
            Outcome::NeedsConnection => return None,
        }
    }
    Some((answers, true))
}

/// Offline, the client's end cannot be told: an unfinished request stays without an answer.
fn compare_offline(case: &Case<'_>, answers: &[u8], is_open: bool) -> Result<(), String> {
    if case.state == State::Cut {
        return if is_open { Ok(()) } else { Err("offline: the connection was closed".into()) };
    }
    compare(case, answers).map_err(|why| format!("offline: {why}"))
}

/// Whether the answers are those of the case.
fn compare(case: &Case<'_>, answers: &[u8]) -> Result<(), String> {
    let mut rest = answers;
    let mut last_says = None;
    for (nth, expected) in case.answers.iter().enumerate() {
        let head;
        (head, rest) = compare_one(expected, rest)
            .map_err(|why| format!("answer {}: {why}, in {:?}", nth + 1, text(answers)))?;
        if !expected.status.starts_with('1') {
            last_says = Some(head);
        }
    }
    let says = |option: &str| {
        last_says
            .as_ref()
            .is_some_and(|head| head.lines().any(|line| line == format!("connection: {option}")))
    };
    if case.state == State::Keep {
        let probe = Expected { status: "200".into(), content: Some(b"probe".into()), ..Expected::default() };
        (_, rest) = compare_one(&probe, rest)
            .map_err(|why| format!("the connection is not good: {why}, in {:?}", text(answers)))?;
    }
    if !rest.is_empty() {
        return Err(format!("more than expected: {:?}", text(rest)));
    }
    match case.state {
        State::Close if !says("close") => Err(format!("it did not say close: {:?}", text(answers))),
        State::Keep | State::End if says("close") => Err(format!("it said close: {:?}", text(answers))),
        _ => Ok(()),
    }
}

/// Takes one answer; its head and what follows it.
fn compare_one<'a>(expected: &Expected, input: &'a [u8]) -> Result<(String, &'a [u8]), String> {
    let end = input.windows(4).position(|window| window == b"\r\n\r\n").ok_or("there is none")?;
    let head = String::from_utf8(input[..end].to_vec()).map_err(|error| error.to_string())?;
    let rest = &input[end + 4..];
    let status = head.strip_prefix("HTTP/1.1 ").and_then(|line| line.get(..3)).ok_or("no status line")?;
    if status != expected.status {
        return Err(format!("{status}, not {}", expected.status));
    }
    if let Some(field) = &expected.field
        && !head.lines().any(|line| line == field)
    {
        return Err(format!("{field:?} is missing"));
    }
    let is_bare = status.starts_with('1') || ["204", "304"].contains(&status);
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    if is_bare != length.is_none() {
        return Err("a length that should not be there, or none".into());
    }
    if !status.starts_with('1') && !head.contains("\r\ndate: ") {
        return Err("no date".into());
    }
    let length = if expected.is_head { 0 } else { length.map_or(0, |length| length.parse().unwrap()) };
    let (content, rest) = rest.split_at_checked(length).ok_or("half of its content")?;
    match &expected.content {
        Some(wanted) if wanted != content => Err(format!("{:?}, not {:?}", text(content), text(wanted))),
        _ => Ok((head, rest)),
    }
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(2000)]).into_owned()
}
