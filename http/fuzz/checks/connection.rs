//! What a whole connection says, in any slicing, without a socket: the same requests, the same bodies, the same end; and one answer
//! of the server's own code to each request that has no body.
use std::time::Instant;

use annulet_http::offline::{Offline, Outcome};
use annulet_http::{Limits, Request, Router};

use crate::model::{Conversation, End, listen};
use crate::mutate::{Random, cut};

thread_local! {
    static OFFLINE: Offline = Offline::new(router(), limits());
}

fn limits() -> Limits {
    Limits {
        head_bytes: 512,
        target_bytes: 128,
        headers: 8,
        body_bytes: 200,
        chunk_extension_bytes: 16,
        trailer_bytes: 32,
        ..Limits::default()
    }
}

fn router() -> Router {
    Router::new().fallback(async |_: Request| "ok")
}

pub(super) fn check_input(input: &[u8]) {
    let limits = limits();
    let whole = listen(&limits, [input]);
    let mut random = Random::of(input);
    let pieces = cut(input, &mut random);
    assert_eq!(listen(&limits, pieces.iter().copied()), whole, "{pieces:?}");
    assert_eq!(listen(&limits, input.chunks(1)), whole, "byte by byte");
    OFFLINE.with(|offline| {
        answer(offline, &[input], &whole);
        answer(offline, &pieces, &whole);
    });
}

/// Counts the answers.
fn answer(offline: &Offline, pieces: &[&[u8]], heard: &Conversation) {
    let (mut rest, mut answers) = (Vec::new(), Vec::new());
    let now = Instant::now();
    let mut outcome = Outcome::Answered { used: 0 };
    for piece in pieces {
        rest.extend_from_slice(piece);
        outcome = offline.answer(&rest, now, &mut answers);
        match outcome {
            Outcome::Answered { used } => drop(rest.drain(..used)),
            Outcome::Closed | Outcome::NeedsConnection => break,
        }
    }
    let count = answers.windows(9).filter(|bytes| bytes == b"HTTP/1.1 ").count();
    let before = heard.requests.iter().take_while(|request| !request.has_content).count();
    match outcome {
        Outcome::NeedsConnection => assert_eq!(count, before),
        Outcome::Closed => {
            assert!(matches!(heard.end, End::Closed | End::HeadRefused(_)), "{:?}", heard.end);
            assert_eq!(count, heard.answers());
        }
        Outcome::Answered { .. } => {
            assert!(matches!(heard.end, End::Idle | End::InHead), "{:?}", heard.end);
            assert_eq!(count, heard.requests.len());
        }
    }
}
