//! Answers as a client reads them: any slicing comes to the same, and so does a parser that remembers the head before.
use annulet_http::h1::head::Parse;
use annulet_http::h1::response::{Body, Framing, Head, Parser};
use annulet_http::{Limits, Refusal};

use crate::mutate::{Random, cut};

/// One answer: its head, its fields and its content.
type Answer = (Head, Vec<(Vec<u8>, Vec<u8>)>, Vec<u8>);

/// How the bytes ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Idle,
    InHead,
    Refused(Refusal),
    Cut,
    Closed,
}

pub(super) fn check_input(input: &[u8]) {
    let limits = Limits {
        head_bytes: 512,
        headers: 8,
        chunk_extension_bytes: 16,
        trailer_bytes: 32,
        ..Limits::default()
    };
    for to_head in [false, true] {
        let mut fresh = Parser::new(limits.clone());
        let whole = listen(&mut fresh, &limits, &[input], to_head);
        let mut random = Random::of(input);
        assert_eq!(listen(&mut fresh, &limits, &cut(input, &mut random), to_head), whole);
        // The other kind of request in between.
        listen(&mut fresh, &limits, &[input], !to_head);
        assert_eq!(listen(&mut fresh, &limits, &input.chunks(1).collect::<Vec<_>>(), to_head), whole);
        whole.0.first().inspect(|(head, fields, _)| compare(&input[..head.len], head, fields));
    }
}

/// Reads answer after answer, as a client that pipelines.
fn listen(parser: &mut Parser, limits: &Limits, pieces: &[&[u8]], to_head: bool) -> (Vec<Answer>, End) {
    let mut answers: Vec<Answer> = Vec::new();
    let mut body: Option<Body> = None;
    let mut rest = Vec::new();
    let mut may_go_on = true;
    for piece in pieces {
        rest.extend_from_slice(piece);
        loop {
            if let Some(reading) = &mut body {
                match reading.decode(&rest) {
                    Ok(decoded) => {
                        let (used, is_end) = (decoded.used, decoded.is_end);
                        answers.last_mut().unwrap().2.extend_from_slice(&rest[decoded.data]);
                        rest.drain(..used);
                        if is_end {
                            body = None;
                            if !may_go_on {
                                return (answers, End::Closed);
                            }
                        } else if used == 0 || rest.is_empty() {
                            break;
                        }
                    }
                    Err(why) => return (answers, End::Refused(why)),
                }
                continue;
            }
            if rest.is_empty() {
                break;
            }
            match parser.parse(&rest, to_head) {
                Parse::Complete(head) => {
                    let text = &rest[..head.len];
                    let field = |field: &annulet_http::h1::head::Field| {
                        (field.name(text).to_vec(), field.value(text).to_vec())
                    };
                    let fields = parser.fields().iter().map(field).collect();
                    answers.push((head, fields, Vec::new()));
                    may_go_on = head.keep_alive || head.is_interim();
                    assert!(head.framing != Framing::Close || !head.keep_alive);
                    body = Some(Body::new(head.framing, limits));
                    rest.drain(..head.len);
                }
                Parse::Partial => break,
                Parse::Error(why) => return (answers, End::Refused(why)),
            }
        }
    }
    let end = match body {
        Some(body) if body.end().is_err() => End::Cut,
        Some(_) => End::Closed,
        None if rest.is_empty() => End::Idle,
        None => End::InHead,
    };
    (answers, end)
}

/// What we take, httparse takes too, and finds the same in it.
fn compare(bytes: &[u8], head: &Head, fields: &[(Vec<u8>, Vec<u8>)]) {
    let mut table = [httparse::EMPTY_HEADER; 128];
    let mut response = httparse::Response::new(&mut table);
    assert_eq!(response.parse(bytes), Ok(httparse::Status::Complete(bytes.len())));
    assert_eq!(response.code, Some(head.status));
    let theirs: Vec<_> =
        response.headers.iter().map(|field| (field.name.as_bytes().to_vec(), field.value.to_vec())).collect();
    // The date of a remembered head is the new one.
    assert_eq!(theirs, fields);
}
