//! What handlers see of requests, and what they do not see of those before.
use std::rc::Rc;

use super::*;
use crate::h1::Limits;
use crate::h1::head::{Parse, Parser};

fn request(input: &str) -> Request {
    let mut request = Request::take();
    let parsed = request.parse(&mut Parser::new(Limits::default()), input.as_bytes());
    assert_eq!(parsed, Parse::Complete(()), "{input:?}");
    request
}

#[test]
fn what_a_handler_sees() {
    let request = request("\r\nPUT /a/b?c=d HTTP/1.0\r\nHost: h\r\nX: 1\r\nx: 2\r\n\r\n");
    assert_eq!(request.method(), Method::PUT);
    assert_eq!((request.path(), request.query(), request.host()), ("/a/b", Some("c=d"), "h"));
    assert_eq!(request.version(), Version::HTTP_10);
    assert_eq!(request.header("HOST"), Some(&b"h"[..]));
    assert_eq!(request.header("x"), Some(&b"1"[..]));
    assert_eq!(request.header("y"), None);
    assert_eq!(request.headers().map(|(name, _)| name).collect::<Vec<_>>(), ["Host", "X", "x"]);
    assert_eq!(request.param("x"), None);
}

#[test]
fn methods_are_what_was_sent() {
    // All of RFC 9110 section 5.6.2, each alone, together, and behind a GET in the same block.
    let token = "!#$%&'*+-.^_`|~019azAZ";
    for method in token.split_inclusive(|_| true).chain([token, "GETS", "get"]) {
        drop(request("GET / HTTP/1.0\r\n\r\n"));
        assert_eq!(request(&format!("{method} / HTTP/1.0\r\n\r\n")).method().as_str(), method);
    }
}

#[test]
fn a_recycled_block_keeps_nothing() {
    let mut first = request("GET /%41?q HTTP/1.1\r\nHost: h\r\nSecret: 1\r\n\r\n");
    first.push_param("%41").unwrap();
    first.set_param_names(&Rc::from([Box::from("name")]));
    assert_eq!(first.param("name"), Some("A"));
    first.set_extension(7_u8);
    first.set_extension(8_u8);
    first.set_extension("seven");
    assert_eq!((first.extension(), first.extension()), (Some(&8_u8), Some(&"seven")));
    drop(first);
    let second = request("GET / HTTP/1.0\r\n\r\n");
    assert_eq!((second.query(), second.host(), second.param("name")), (None, "", None));
    assert_eq!(second.headers().count(), 0);
    assert_eq!(second.extension::<u8>(), None);
}

#[test]
fn one_pointer() {
    assert_eq!(size_of::<Request>(), size_of::<usize>());
}
