//! Heads whole and in parts, one case a line.
use super::*;

fn limits() -> Limits {
    Limits { head_bytes: 256, target_bytes: 64, line_bytes: 128, headers: 4, ..Limits::default() }
}

/// Everything that matters about a head, as one line.
fn describe(input: &[u8]) -> Result<String, Parse<()>> {
    let (mut head, mut fields) = (Head::default(), Vec::new());
    match Parser::new(limits()).parse(input, &mut head, &mut fields) {
        Parse::Complete(()) => {
            let bytes = head.bytes(input);
            let show = |span: Span| String::from_utf8_lossy(&bytes[span.range()]);
            let mut text = format!("{} {}", show(head.method), show(head.path));
            if let Some(query) = head.query {
                text += &format!(" ?{}", show(query));
            }
            text += &format!(" {:?} @{}", head.version, show(head.host));
            for field in &fields {
                let name = String::from_utf8_lossy(field.name(bytes)).into_owned();
                if !name.eq_ignore_ascii_case("host") {
                    text += &format!(" {name}={}", String::from_utf8_lossy(field.value(bytes)));
                }
            }
            if head.framing != Framing::None {
                text += &format!(" {:?}", head.framing);
            }
            text += if head.keep_alive { " keep" } else { " close" };
            if head.expect_continue {
                text += " expect";
            }
            text += &format!(" +{}", input.len() - head.used());
            Ok(text)
        }
        Parse::Partial => Err(Parse::Partial),
        Parse::Error(why) => Err(Parse::Error(why)),
    }
}

/// No proper beginning of a good head may be complete or refused.
fn check(input: &str, expected: &str) {
    let input = input.as_bytes();
    assert_eq!(describe(input).as_deref(), Ok(expected), "{:?}", String::from_utf8_lossy(input));
    let used = input.len() - expected.rsplit_once('+').unwrap().1.parse::<usize>().unwrap();
    for end in 0..used {
        assert_eq!(describe(&input[..end]), Err(Parse::Partial), "first {end} of {expected}");
    }
}

/// Delivered whole or in pieces, the first thing that is not Partial is the same error.
fn check_error(input: impl AsRef<[u8]>, expected: Refusal) {
    let input = input.as_ref();
    let expected = Err(Parse::Error(expected));
    assert_eq!(describe(input), expected, "{:?}", String::from_utf8_lossy(input));
    let first =
        (0..=input.len()).map(|end| describe(&input[..end])).find(|seen| *seen != Err(Parse::Partial));
    assert_eq!(first, Some(expected), "byte by byte: {:?}", String::from_utf8_lossy(input));
}

#[test]
fn request_lines() {
    check("GET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET / HTTP/1.1 @a keep +0");
    check("GET / HTTP/1.1\r\nHost: a\r\n\r\nGET", "GET / HTTP/1.1 @a keep +3");
    check("\r\n\r\nGET / HTTP/1.1\r\nhost:a\r\n\r\n", "GET / HTTP/1.1 @a keep +0");
    check("GET / HTTP/1.0\r\n\r\n", "GET / HTTP/1.0 @ close +0");
    check("GET / HTTP/1.7\r\nHost: a\r\n\r\n", "GET / HTTP/1.1 @a keep +0");
    check("GET /a%20b?c=[%&d HTTP/1.1\r\nHost:h\r\n\r\n", "GET /a%20b ?c=[%&d HTTP/1.1 @h keep +0");
    check("GET /? HTTP/1.1\r\nHost: a\r\n\r\n", "GET / ? HTTP/1.1 @a keep +0");
    check("M-SEARCH / HTTP/1.1\r\nHost: a\r\n\r\n", "M-SEARCH / HTTP/1.1 @a keep +0");
    check("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "OPTIONS * HTTP/1.1 @a keep +0");
    check("GET http://b:8/c?d HTTP/1.1\r\nHost: a\r\n\r\n", "GET /c ?d HTTP/1.1 @b:8 keep +0");
    check("GET HTTPS://b HTTP/1.1\r\nHost: a\r\n\r\n", "GET / HTTP/1.1 @b keep +0");
    check("GET http://b?d HTTP/1.1\r\nHost: a\r\n\r\n", "GET / ?d HTTP/1.1 @b keep +0");
}

#[test]
fn refused_request_lines() {
    use Refusal::*;
    let check = |line: &str, expected| check_error(format!("{line}\r\nHost: a\r\n\r\n"), expected);
    check("GET  / HTTP/1.1", RequestLine);
    check("GET /  HTTP/1.1", RequestLine);
    check("GET / HTTP/1.1 ", LineEnd);
    check(" GET / HTTP/1.1", RequestLine);
    check("GET\t/ HTTP/1.1", RequestLine);
    check("GET /", RequestLine);
    check("GET", RequestLine);
    check("G(T / HTTP/1.1", RequestLine);
    check("GET / http/1.1", RequestLine);
    check("GET / HTTP/11", RequestLine);
    check("GET / HTTP/1.10", LineEnd);
    check("GET / HTTP/1,1", RequestLine);
    check("GET / HTTPS/1.1", RequestLine);
    check("GET / HTTP/2.0", Version);
    check("GET / HTTP/0.9", Version);
    check("GET / HTTP/3.7", Version);
    check("GET a HTTP/1.1", Target);
    check("GET * HTTP/1.1", Target);
    check("GET ftp://a/ HTTP/1.1", Target);
    check("GET http:///a HTTP/1.1", HostMalformed);
    check("GET http://:80/ HTTP/1.1", HostMalformed);
    check("GET http://u@b/ HTTP/1.1", HostMalformed);
    check("GET /#a HTTP/1.1", Target);
    check("GET /?a#b HTTP/1.1", Target);
    check("GET /\"a HTTP/1.1", Target);
    check("GET /<a> HTTP/1.1", Target);
    check("GET /\\a HTTP/1.1", Target);
    check("GET /\u{e9} HTTP/1.1", Target);
    check("GET /?\u{e9} HTTP/1.1", Target);
    check("GET /% HTTP/1.1", Escape);
    check("GET /%2x HTTP/1.1", Escape);
    check("GET /%?20 HTTP/1.1", Escape);
    check("CONNECT a:80 HTTP/1.1", MethodUnknown);
    check("CONNECT / HTTP/1.1", MethodUnknown);
    check_error(b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n", RequestLine);
    check_error(b"GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n", RequestLine);
}

#[test]
fn line_ends() {
    use Refusal::*;
    check_error("GET / HTTP/1.1\nHost: a\r\n\r\n", LineEnd);
    check_error("GET / HTTP/1.1\r\nHost: a\n\r\n", LineEnd);
    check_error("GET / HTTP/1.1\r\nHost: a\nb: c\r\n\r\n", LineEnd);
    check_error("GET / HTTP/1.1\r\nHost: a\r\n\n", LineEnd);
    check_error("GET / HTTP/1.1\r\nHost:\n\r\n", LineEnd);
    check_error("GET / HTTP/1.0\n\n", LineEnd);
    check_error("GET / HTTP/1.0\r\n\n", LineEnd);
    check_error("\nGET / HTTP/1.0\r\n\r\n", LineEnd);
    check_error("\r\rGET / HTTP/1.0\r\n\r\n", LineEnd);
    check_error("GET / HTTP/1.1\rHost: a\r\n\r\n", LineEnd);
    check_error("GET / HTTP/1.1\r\nHost: a\rb: c\r\n\r\n", FieldValue);
    check_error("GET / HTTP/1.1\r\nHost: a\r\n\rb: c\r\n\r\n", LineEnd);
}

#[test]
fn empty_lines() {
    const GET: &str = "GET / HTTP/1.0\r\n\r\n";
    check(&("\r\n".repeat(4) + GET), "GET / HTTP/1.0 @ close +0");
    check_error("\r\n".repeat(5) + GET, Refusal::LineEnd);
    check_error("\r\n".repeat(4) + "\r", Refusal::LineEnd);
    check_error("\r\n".repeat(4) + "\n", Refusal::LineEnd);
}

#[test]
fn fields() {
    let check = |lines: &str, expected: &str| {
        check(
            &format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n"),
            &format!("GET / HTTP/1.1 @a {expected} +0"),
        );
    };
    check("B: c\r\n", "B=c keep");
    check("b: \t c d \t\r\n", "b=c d keep");
    check("b:\r\n", "b= keep");
    check("b:  \r\n", "b= keep");
    check("b: \u{e9}\r\n", "b=\u{e9} keep");
    check("Connection: close\r\n", "Connection=close close");
    check("connection: Keep-Alive, CLOSE\r\n", "connection=Keep-Alive, CLOSE close");
    check("Connection: closed\r\n", "Connection=closed keep");
    check("Content-Length: 5\r\n", "Content-Length=5 Length(5) keep");
    check("transfer-encoding: Chunked\r\n", "transfer-encoding=Chunked Chunked keep");
    check("Expect: 100-Continue\r\n", "Expect=100-Continue keep");
    check(
        "Expect: 100-continue\r\ncontent-length: 1\r\n",
        "Expect=100-continue content-length=1 Length(1) keep expect",
    );
}

#[test]
fn old_version() {
    let check = |lines: &str, expected: &str| {
        check(&format!("GET / HTTP/1.0\r\n{lines}\r\n"), &format!("GET / HTTP/1.0 @ {expected} +0"));
    };
    check("Connection: keep-alive\r\n", "Connection=keep-alive keep");
    check("Connection: keep-alive\r\nConnection: close\r\n", "Connection=keep-alive Connection=close close");
    check("Expect: magic\r\n", "Expect=magic close");
    check(
        "Expect: 100-continue\r\nContent-Length: 1\r\n",
        "Expect=100-continue Content-Length=1 Length(1) close",
    );
    check_error("GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n", Refusal::HostRepeated);
    check_error("GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", Refusal::CodingInOldVersion);
}

#[test]
fn refused_fields() {
    use Refusal::*;
    let check = |lines: &str, expected| check_error(format!("GET / HTTP/1.1\r\n{lines}\r\n"), expected);
    check("", HostMissing);
    check("b: c\r\n", HostMissing);
    check("Host: a\r\nhost: a\r\n", HostRepeated);
    check("Host: a b\r\n", HostMalformed);
    check("Host: a, b\r\n", HostMalformed);
    check("Host : a\r\n", FieldName);
    check("Host: a\r\n b: c\r\n", FieldName);
    check("Host: a\r\n\tb\r\n", FieldName);
    check(" Host: a\r\n", FieldName);
    check("Host: a\r\nb\r\n", FieldName);
    check("Host: a\r\n: c\r\n", FieldName);
    check("Host: a\r\nb(: c\r\n", FieldName);
    check("Host: a\r\nb\u{e9}: c\r\n", FieldName);
    check("Host: a\r\nb: \u{0}\r\n", FieldValue);
    check("Host: a\r\nb: \u{7f}\r\n", FieldValue);
    check("Host: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n", LengthAndCoding);
    check("Host: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n", LengthRepeated);
    check("Host: a\r\nContent-Length: 5, 5\r\n", LengthMalformed);
    check("Host: a\r\nTransfer-Encoding: gzip\r\n", CodingUnknown);
    check("Host: a\r\nExpect: magic\r\n", Expectation);
    check("Host: a\r\nExpect: 100-continue, magic\r\n", Expectation);
}

#[test]
fn bounds() {
    let line = |len: usize| format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(len - 1));
    assert!(describe(line(64).as_bytes()).is_ok());
    let field = |len: usize, end: &str| {
        format!("GET / HTTP/1.1\r\nHost: a\r\nb: {}{end}\r\nc: d\r\n\r\n", "x".repeat(len - 3 - end.len()))
    };
    for end in ["", " ", "\t  "] {
        assert!(describe(field(128, end).as_bytes()).is_ok(), "{end:?}");
        check_error(field(129, end), Refusal::LineTooLong);
        assert!(describe(field(128, end).replace("c: d\r\n", "").as_bytes()).is_ok(), "{end:?}");
        check_error(field(129, end).replace("c: d\r\n", ""), Refusal::LineTooLong);
    }
    check_error(line(65), Refusal::TargetTooLong);
    check_error(line(1000), Refusal::TargetTooLong);
    check_error(line(1000).replace("\r\n\r\n", "\n\n"), Refusal::TargetTooLong);
    check_error(line(70).replace("Host", "H st"), Refusal::TargetTooLong);
    check_error(line(70).replace("/x", "/\0"), Refusal::RequestLine);
    check_error(line(70).replace("x HTTP", "\0 HTTP"), Refusal::TargetTooLong);
    let head = |len: usize| {
        let (half, rest) = ((len - 37) / 2, (len - 37) % 2);
        let (one, two) = ("x".repeat(half), "x".repeat(half + rest));
        format!("GET / HTTP/1.1\r\nHost: a\r\nb: {one}\r\nc: {two}\r\n\r\n")
    };
    assert_eq!(head(100).len(), 100);
    assert!(describe(head(256).as_bytes()).is_ok());
    check_error(head(257), Refusal::HeadTooLarge);
    check_error(head(1000), Refusal::HeadTooLarge);
    check_error("x".repeat(1000), Refusal::RequestLine);
    let fields = |count: usize| format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "b: c\r\n".repeat(count - 1));
    assert!(describe(fields(4).as_bytes()).is_ok());
    check_error(fields(5), Refusal::TooManyFields);
}
