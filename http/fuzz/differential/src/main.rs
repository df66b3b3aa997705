//! The same bytes to us and to hyper: which requests are taken, what their bodies are, what is refused.
//!
//! `differential COUNT [SEED]` compares so many mutated requests of the conformance cases. Each class of difference that it finds must
//! stand, judged, in `differences.md`; another one is printed with an example and fails. `differential COUNT SEED dump` writes the
//! inputs and what we make of them, a line each, for `with_h11.py`.
#[allow(dead_code)]
#[path = "../../../tests/conformance/model.rs"]
mod model;
#[allow(dead_code)]
#[path = "../../../tests/conformance/mutate.rs"]
mod mutate;
#[allow(dead_code)]
#[path = "../../../tests/conformance/table.rs"]
mod table;
mod theirs;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use annulet_http::Limits;
use model::{End, listen};
use mutate::{Random, mutate};

const JUDGED: &str = include_str!("../../differences.md");

/// What is heard, one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A whole request: method, whom it is for (the host, then path and query), and body.
    Request(String, String, Vec<u8>),
    /// Nothing more is heard, and the client is told so.
    Refused(String),
    /// More would be needed.
    Waits,
    /// The last request was the last.
    Closed,
}

impl Event {
    fn class(&self) -> String {
        match self {
            Event::Refused(why) => format!("refuses: {why}"),
            Event::Closed => "has closed".into(),
            Event::Request(..) | Event::Waits => "goes on".into(),
        }
    }
}

fn ours(input: &[u8]) -> Vec<Event> {
    let heard = listen(&Limits::default(), [input]);
    let mut events: Vec<Event> = heard
        .requests
        .into_iter()
        .map(|request| {
            Event::Request(request.method, format!("{} {}", request.host, request.target), request.body)
        })
        .collect();
    // The last of them may be cut or refused.
    if matches!(heard.end, End::InBody | End::BodyRefused(_)) {
        events.pop();
    }
    events.push(match heard.end {
        End::Idle | End::InHead | End::InBody => Event::Waits,
        End::HeadRefused(why) | End::BodyRefused(why) => Event::Refused(format!("{why:?}")),
        End::Closed => Event::Closed,
    });
    events
}

/// The first thing that is heard differently.
fn difference(ours: &[Event], theirs: &[Event]) -> Option<String> {
    let (ours, theirs) = ours.iter().zip(theirs).find(|(ours, theirs)| ours != theirs)?;
    match (ours, theirs) {
        // An end between two requests and one behind the last look the same from outside.
        (Event::Waits | Event::Closed, Event::Waits | Event::Closed) => None,
        // Both refuse: why is a matter of taste.
        (Event::Refused(_), Event::Refused(_)) => None,
        (Event::Request(method, _, body), Event::Request(their_method, _, their_body))
            if (method, body) == (their_method, their_body) =>
        {
            Some("the same request is for somebody else to hyper".into())
        }
        (Event::Request(..), Event::Request(..)) => Some("another request is heard by hyper".into()),
        // What it makes of that is its own matter: there is nobody here to hear another request in it.
        (Event::Closed, _) => Some("annulet has closed, hyper hears on".into()),
        _ => Some(format!("annulet {}, hyper {}", ours.class(), theirs.class())),
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/conformance/cases");
    let mut files: Vec<_> = std::fs::read_dir(cases).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    let mut seeds = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(file).unwrap();
        for case in table::cases(&text).filter(|case| case.request.len() <= 2000) {
            let is_good = case.answers.iter().all(|answer| answer.status.starts_with('2'));
            seeds.extend(std::iter::repeat_n(case.request, if is_good { 8 } else { 1 }));
        }
    }
    seeds
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let number =
        |nth: usize, default: u64| words.get(nth).map_or(default, |word| word.parse().expect("a number"));
    let (count, seed) = (number(0, 100_000), number(1, 1));
    let dumps = words.get(2).is_some_and(|word| word == "dump");
    let seeds = seeds();
    let mut classes: BTreeMap<String, (u64, Vec<u8>)> = BTreeMap::new();
    let mut input = Vec::new();
    for nth in 0..count {
        let mut random = Random::new(seed << 40 ^ nth);
        input.clear();
        input.extend_from_slice(&seeds[random.below(seeds.len())]);
        for _ in 0..random.below(4) {
            mutate(&mut input, &seeds[random.below(seeds.len())], &mut random);
        }
        input.truncate(2000);
        let ours = ours(&input);
        if dumps {
            println!("{}", line(&input, &ours));
            continue;
        }
        if let Some(class) = difference(&ours, &theirs::hear(&input)) {
            let (count, example) = classes.entry(class).or_insert((0, input.clone()));
            *count += 1;
            if input.len() < example.len() {
                example.clone_from(&input);
            }
        }
    }
    let mut unknown = 0;
    for (class, (count, example)) in &classes {
        let is_judged = JUDGED.contains(&format!("`{class}`"));
        unknown += u32::from(!is_judged);
        let mark = if is_judged { "judged" } else { "NOT JUDGED" };
        println!("{mark}: {class}: {count} times, such as {:?}", String::from_utf8_lossy(example));
    }
    println!("{count} inputs, {} classes of difference, {unknown} not judged", classes.len());
    if unknown == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Tab-separated: the input in hexadecimal, then the events.
fn line(input: &[u8], events: &[Event]) -> String {
    let mut line = hex(input);
    for event in events {
        let said = match event {
            Event::Request(method, target, body) => {
                format!("request {method} {} {}", hex(target.as_bytes()), hex(body))
            }
            other => other.class(),
        };
        write!(line, "\t{said}").unwrap();
    }
    line
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
