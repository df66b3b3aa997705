//! Handlers with typed arguments, over a socket.
use std::cell::Cell;
use std::net::Shutdown;

use annulet::net::TcpStream;
use annulet_http::{Form, HeaderMap, Json, Path, Query, Request, Response, Router, State, extract};

use crate::client::{read_all, summary, with_router};

#[derive(serde::Serialize, serde::Deserialize)]
struct Point {
    x: i32,
    y: i32,
}

/// Counts calls; not `Send`.
struct Calls(Cell<u32>);

async fn point(Query(point): Query<Point>, calls: State<Calls>) -> String {
    calls.0.0.set(calls.0.0.get() + 1);
    format!("{} {} call {}", point.x, point.y, calls.0.0.get())
}

async fn mirror(Path(times): Path<i32>, Json(point): Json<Point>) -> Json<Point> {
    Json(Point { x: point.y * times, y: point.x * times })
}

fn router() -> Router {
    Router::new()
        .get("/point", extract(point))
        .with_state(Calls(Cell::new(0)))
        .get("/stateless", extract(point))
        .post("/mirror/{times}", extract(mirror))
        .get("/two/{a}/{b}", extract(async |Path((a, b)): Path<(u8, String)>| format!("{a} {b}")))
        .get("/too-few/{a}", extract(async |Path((a, b)): Path<(u8, u8)>| format!("{a} {b}")))
        .get("/too-many/{a}/{b}", extract(async |Path(a): Path<u8>| a.to_string()))
        .post("/form", extract(async |Form(point): Form<Point>| format!("{} {}", point.x, point.y)))
        .post("/text", extract(async |text: String| text))
        .with_body_limit(20)
        .post("/bytes", extract(async |bytes: bytes::Bytes| bytes.len().to_string()))
        .get("/fields", extract(async |fields: HeaderMap| fields.len().to_string()))
        .get("/cookies", async |request: Request| {
            request.cookies().map(|(name, value)| format!("{name}:{value};")).collect::<String>()
        })
        .get("/cookie", async |request: Request| request.cookie("c").map(str::to_owned))
        .get("/none", extract(async || "none"))
        .patch("/none", extract(async || "patched"))
        .get("/later", async |_: Request| {
            annulet::yield_now().await;
            "later"
        })
        .after(|answer| {
            Response::text(format!("<{}>", String::from_utf8_lossy(answer.body())))
                .with_status(answer.status())
        })
}

fn check(line: &str, fields: &str, body: &str, expected: &str) {
    with_router(router(), async |_, address| {
        let stream = TcpStream::connect(address).await.unwrap();
        let length =
            if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
        let request = format!("{line} HTTP/1.1\r\nHost: a\r\n{fields}{length}\r\n{body}");
        stream.write_all(request.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(summary(&read_all(&stream).await, false), expected, "{line}");
    });
}

#[test]
fn arguments() {
    check("GET /point?x=1&y=-2", "", "", "200 [<1 -2 call 1>]");
    check("GET /point?x=1", "", "", "400 [<the query does not fit: missing field `y`>]");
    check("GET /two/7/a%20b", "", "", "200 [<7 a b>]");
    check("GET /two/256/a", "", "", "404 [<Not Found>]");
    check("GET /too-few/7", "", "", "500 [<Internal Server Error>]");
    check("GET /too-many/7/8", "", "", "500 [<Internal Server Error>]");
    check("GET /fields", "X: 1\r\nx: 2\r\n", "", "200 [<3>]");
    check("GET /cookies", "Cookie: a=b; c=\"d\"; e\r\nCookie: f=g=h\r\n", "", "200 [<a:b;c:d;f:g=h;>]");
    check("GET /cookie", "Cookie: a=b; c=d; c=e\r\n", "", "200 [<d>]");
    check("GET /cookie", "Cookie: a=c\r\n", "", "404 [<Not Found>]");
    check("GET /none", "", "", "200 [<none>]");
    check("PATCH /none", "", "", "200 [<patched>]");
    check("GET /later", "", "", "200 [<later>]");
    check("GET /stateless?x=1&y=2", "", "", "500 [<Internal Server Error>]");
}

#[test]
fn content() {
    let json = "Content-Type: application/json; charset=utf-8\r\n";
    let form = "Content-Type: application/x-www-form-urlencoded\r\n";
    check("POST /mirror/3", json, r#"{"x":1,"y":2}"#, r#"200 [<{"x":6,"y":3}>]"#);
    check("POST /mirror/3", "Content-Type: a/b+json\r\n", r#"{"x":1,"y":2}"#, r#"200 [<{"x":6,"y":3}>]"#);
    check("POST /mirror/3", "", r#"{"x":1,"y":2}"#, "415 [<the content must be application/json>]");
    check("POST /mirror/3", json, "x", "400 [<the JSON does not fit: expected value at line 1 column 1>]");
    check("POST /form", form, "x=1&y=2", "200 [<1 2>]");
    check("POST /form", json, "x=1&y=2", "415 [<the content must be application/x-www-form-urlencoded>]");
    // The suffix is JSON's alone.
    let suffix = "Content-Type: a/b+json\r\n";
    check("POST /form", suffix, "x=1", "415 [<the content must be application/x-www-form-urlencoded>]");
    check("POST /form", form, "x=1", "400 [<the form does not fit: missing field `y`>]");
    check("POST /text", "", "h\u{e9}", "200 [<h\u{e9}>]");
}

#[test]
fn a_limit_of_a_route() {
    let body = "x".repeat(21);
    check("POST /text", "", &body[1..], &format!("200 [<{}>]", &body[1..]));
    check("POST /text", "", &body, "413 close [Payload Too Large]");
    check("POST /bytes", "", &body, "200 [<21>]");
}
