//! Requests without a body.
use std::net::Shutdown;

use annulet::net::TcpStream;
use annulet_http::{Method, Request, Router};

use crate::client::{check, read_all, summary, with_router};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const INDEX: &str = "200 [<h1>Index</h1>]";

#[test]
fn pages() {
    check(GET, INDEX);
    check("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", "200 []");
    check("GET /hello/bob HTTP/1.1\r\nHost: a\r\n\r\n", "200 [<h1>hello, bob!</h1>]");
    check("GET /hello/%3Cb%3E HTTP/1.1\r\nHost: a\r\n\r\n", "200 [<h1>hello, &lt;b&gt;!</h1>]");
    check("GET / HTTP/1.0\r\n\r\n", "200 close [<h1>Index</h1>]");
    check("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", "200 keep-alive [<h1>Index</h1>]");
    check("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "200 close [<h1>Index</h1>]");
    check("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n", "200 [slow]");
    check("GET /close HTTP/1.1\r\nHost: a\r\n\r\n", "200 close [bye]");
    check("OPTIONS / HTTP/1.1\r\nHost: a\r\n\r\n", "204 allow: GET, HEAD, OPTIONS []");
}

#[test]
fn pipelines() {
    check(&GET.repeat(3), &[INDEX; 3].join(" "));
    check(
        &format!("{GET}GET /slow HTTP/1.1\r\nHost: a\r\n\r\n{GET}"),
        "200 [<h1>Index</h1>] 200 [slow] 200 [<h1>Index</h1>]",
    );
    check(&format!("GET /close HTTP/1.1\r\nHost: a\r\n\r\n{GET}"), "200 close [bye]");
    check(&format!("{GET}GET / HTTP/1.1\r\n\r\n{GET}"), "200 [<h1>Index</h1>] 400 close [Bad Request]");
    check(&"GET /large HTTP/1.1\r\nHost: a\r\n\r\n".repeat(20), &["200 [40000 bytes]"; 20].join(" "));
}

#[test]
fn empty_lines_before_a_request() {
    check(&format!("\r\n{GET}\r\n\r\n\r\n\r\n{GET}"), &format!("{INDEX} {INDEX}"));
    check(&format!("{GET}\r\n"), INDEX);
    check(&format!("{GET}\r"), INDEX);
    check("\r\n\r\n", "");
    check(&format!("{GET}{}", "\r\n".repeat(5)), &format!("{INDEX} 400 close [Bad Request]"));
    check(&"\r\n".repeat(5000), "400 close [Bad Request]");
}

#[test]
fn statuses() {
    check("GET /none HTTP/1.1\r\nHost: a\r\n\r\n", "404 [Not Found]");
    check("POST / HTTP/1.1\r\nHost: a\r\n\r\n", "405 allow: GET, HEAD, OPTIONS [Method Not Allowed]");
    check("BREW / HTTP/1.1\r\nHost: a\r\n\r\n", "501 [Not Implemented]");
    check("GET / HTTP/2.0\r\nHost: a\r\n\r\n", "505 close [HTTP Version Not Supported]");
    check("GET / HTTP/1.1\r\nHost: a\r\nExpect: magic\r\n\r\n", "417 close [Expectation Failed]");
    check(&format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(300)), "414 close [URI Too Long]");
    let large = format!("GET / HTTP/1.1\r\nHost: a\r\nx: {}\r\n\r\n", "x".repeat(2000));
    check(&large, "431 close [Request Header Fields Too Large]");
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "x: y\r\n".repeat(8));
    check(&many, "431 close [Request Header Fields Too Large]");
}

#[test]
fn refused_head_requests_get_no_content() {
    check("HEAD / HTTP/1.1\r\n\r\n", "400 close []");
    check("\r\nHEAD / HTTP/1.1\r\n\r\n", "400 close []");
    check("HEAD / HTTP/1.1\r\nHost: a\r\nExpect: magic\r\n\r\n", "417 close []");
    check("HEAD / HTTP/1.1\r\nHost: a\r\nContent-Length: 100001\r\n\r\n", "413 close []");
    check("HEAD / HTTP/1.1\r\nHost", "400 close []");
}

#[test]
fn refused_with_400() {
    let check = |input: &str| check(input, "400 close [Bad Request]");
    check("GET / HTTP/1.1\nHost: a\n\n");
    check("GET / HTTP/1.1\r\n\r\n");
    check("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n");
    check("GET / HTTP/1.1\r\nHost : a\r\n\r\n");
    check("GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n");
    check("GET /hello/%zz HTTP/1.1\r\nHost: a\r\n\r\n");
    check("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
    check("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\nx");
    check("GET / HTTP/1.1\r\nHost:");
}

#[test]
fn a_panic_is_one_answer() {
    check(
        &format!("GET /panic HTTP/1.1\r\nHost: a\r\n\r\n{GET}"),
        "500 [Internal Server Error] 200 [<h1>Index</h1>]",
    );
    check(
        &format!("GET /panic/later HTTP/1.1\r\nHost: a\r\n\r\n{GET}"),
        "500 [Internal Server Error] 200 [<h1>Index</h1>]",
    );
}

/// RFC 9110 section 9.3.8: what is sent back may hold what the browser keeps from its pages.
#[test]
fn trace_is_only_for_who_names_it() {
    let router = || {
        Router::new()
            .any("/any", async |request: Request| request.method().to_string())
            .any("/named", async |_: Request| "any")
            .route(Method::TRACE, "/named", async |_: Request| "traced")
            .nest("/below", Router::new().fallback(async |_: Request| "below"))
            .fallback(async |_: Request| "fallback")
    };
    let all = "GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH";
    let refused = format!("405 allow: {all} [Method Not Allowed]");
    for (line, expected) in [
        ("TRACE /any", &*refused),
        ("TRACE /below/x", &refused),
        ("TRACE /nowhere", &refused),
        ("TRACE /named", "200 [traced]"),
        ("BREW /any", "200 [BREW]"),
        ("GET /any", "200 [GET]"),
        ("PUT /named", "200 [any]"),
        ("DELETE /nowhere", "200 [fallback]"),
        ("BREW /below", "200 [below]"),
    ] {
        with_router(router(), async |_, address| {
            let stream = TcpStream::connect(address).await.unwrap();
            let request = format!("{line} HTTP/1.1\r\nHost: a\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            stream.flush().await.unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            assert_eq!(summary(&read_all(&stream).await, false), expected, "{line}");
        });
    }
}
