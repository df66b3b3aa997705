//! Request heads: what is complete must read as httparse reads it, nothing may depend on how the bytes arrived, and no memory of
//! an earlier head may change a later one.
use annulet_http::Limits;
use annulet_http::h1::head::{Field, Head, Parse, Parser};

use crate::mutate::Random;

pub(super) fn check_input(input: &[u8]) {
    check(input, Limits::default());
    check(input, Limits { head_bytes: 100, target_bytes: 20, headers: 3, ..Limits::default() });
}

fn check(input: &[u8], limits: Limits) {
    let (whole, head, fields) = parse(&mut Parser::new(limits.clone()), input);
    if whole == Parse::Complete(()) {
        compare(input, &head, &fields);
    }
    // Two beginnings at random, and the ones around the end of the head: first comes "more", then the outcome.
    let mut random = Random::of(input);
    let mut parser = Parser::new(limits);
    let mut ends = [random.below(input.len() + 1), random.below(input.len() + 1), input.len()];
    ends.sort_unstable();
    for end in ends {
        let (part, part_head, part_fields) = parse(&mut parser, &input[..end]);
        match (part, &whole) {
            (Parse::Partial, Parse::Partial) => {}
            (Parse::Partial, _) => assert!(end < input.len(), "whole it is {whole:?}"),
            (Parse::Complete(()), Parse::Complete(())) => {
                assert!(part_head == head && part_fields == fields);
                assert!(head.used() <= end);
            }
            (Parse::Error(one), Parse::Error(other)) => assert_eq!(one, *other, "first {end}"),
            (part, whole) => panic!("first {end}: {part:?}, whole: {whole:?}"),
        }
    }
    // Once more, with a parser that has seen it.
    assert_eq!(parse(&mut parser, input), (whole, head, fields));
}

fn parse(parser: &mut Parser, input: &[u8]) -> (Parse<()>, Head, Vec<Field>) {
    let (mut head, mut fields) = (Head::default(), Vec::new());
    let parsed = parser.parse(input, &mut head, &mut fields);
    if parsed != Parse::Complete(()) {
        fields.clear();
    }
    (parsed, head, fields)
}

/// What we take, httparse takes too, and finds the same in it.
fn compare(input: &[u8], head: &Head, fields: &[Field]) {
    let bytes = head.bytes(input);
    let mut patched = bytes.to_vec();
    let line_end = bytes.iter().position(|&b| b == b'\r').expect("a request line ends");
    if patched[line_end - 1] > b'1' {
        // httparse knows 1.0 and 1.1 only.
        patched[line_end - 1] = b'1';
    }
    let mut table = [httparse::EMPTY_HEADER; 128];
    let mut request = httparse::Request::new(&mut table);
    assert_eq!(request.parse(&patched), Ok(httparse::Status::Complete(bytes.len())));
    assert_eq!(request.method.map(str::as_bytes), Some(&bytes[head.method.range()]));
    assert_eq!(request.headers.len(), fields.len());
    for (theirs, ours) in request.headers.iter().zip(fields) {
        assert_eq!((theirs.name.as_bytes(), theirs.value), (ours.name(bytes), ours.value(bytes)));
    }
    let target = request.path.expect("it is complete").as_bytes();
    let path = &bytes[head.path.range()];
    assert!(!path.is_empty() && (path[0] == b'/' || path == b"*"));
    assert!(bytes.iter().all(|b| !b"\0".contains(b)));
    if target[0] == b'/' || target == b"*" {
        let query = head.query.map_or(Vec::new(), |query| [b"?", &bytes[query.range()]].concat());
        assert_eq!(target, [path, &query[..]].concat());
    }
}
