//! Handlers with typed arguments, over a socket.
use std::cell::Cell;
use std::net::Shutdown;

use annulet::net::TcpStream;
use annulet_http::{
    Extension, Form, HeaderMap, Json, Path, Query, Request, Response, Router, State, extract,
};

use crate::client::{read_all, summary, with_router};

#[derive(serde::Serialize, serde::Deserialize)]
struct Point {
    x: i32,
    y: i32,
}

#[derive(Debug, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
enum Color {
    Red,
}

/// A type that has rules of its own.
#[derive(serde::Deserialize)]
#[serde(try_from = "u32")]
struct Even(u32);

impl TryFrom<u32> for Even {
    type Error = &'static str;

    fn try_from(number: u32) -> Result<Even, &'static str> {
        if number.is_multiple_of(2) { Ok(Even(number)) } else { Err("an odd number") }
    }
}

/// A type that is no longer than it may be, and says so as serde would of a list.
struct Short;

impl<'de> serde::Deserialize<'de> for Short {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Short, D::Error> {
        let text = String::deserialize(from)?;
        if text.len() > 3 {
            return Err(serde::de::Error::invalid_length(text.len(), &"at most 3 bytes"));
        }
        Ok(Short)
    }
}

/// Who asks.
struct User(u32);

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
        .get(
            "/named/{y}/of/{x}",
            extract(async |Path(point): Path<Point>| format!("{} {}", point.x, point.y)),
        )
        .get("/misnamed/{a}", extract(async |Path(point): Path<Point>| point.x.to_string()))
        .get("/address/{ip}", extract(async |Path(ip): Path<std::net::IpAddr>| ip.to_string()))
        .get("/color/{name}", extract(async |Path(color): Path<Color>| format!("{color:?}")))
        .get("/even/{number}", extract(async |Path(Even(number)): Path<Even>| number.to_string()))
        .get("/short/{a}", extract(async |Path(Short): Path<Short>| "short"))
        .get("/shorts/{a}/{b}", extract(async |Path((Short, Short)): Path<(Short, Short)>| "short"))
        .get("/maybe", extract(async |Path(id): Path<Option<u8>>| format!("{id:?}")))
        .get("/maybe/{id}", extract(async |Path(id): Path<Option<u8>>| format!("{id:?}")))
        .get("/maybe/{a}/{b}", extract(async |Path(pair): Path<Option<(u8, u8)>>| format!("{pair:?}")))
        .get("/maybe-one/{a}/{b}", extract(async |Path(id): Path<Option<u8>>| format!("{id:?}")))
        .get("/maybe-named/{y}/{x}", extract(async |Path(at): Path<Option<Point>>| at.unwrap().x.to_string()))
        .get("/list/{a}/{b}", extract(async |Path(list): Path<Vec<u8>>| format!("{list:?}")))
        .get("/many/{a}/{b}", extract(async |Path((a, b)): Path<(Even, u128)>| format!("{} {b}", a.0)))
        .post("/color", extract(async |Json(color): Json<Color>| format!("{color:?}")))
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
        .get(
            "/user",
            extract(async |one: Extension<User>, same: Extension<User>| (one.0.0 + same.0.0).to_string()),
        )
        .get("/user/later", async |request: Request| {
            annulet::yield_now().await;
            request.extension::<User>().map(|User(id)| id.to_string())
        })
        .before_async(async |request: &mut Request| {
            annulet::yield_now().await;
            let id = request.header("user").map(|id| str::from_utf8(id).unwrap().parse().unwrap())?;
            request.set_extension(User(id));
            None
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
        let answer = read_all(&stream).await;
        let shown = match answer.split_once("\r\n\r\n") {
            // Which a summary counts only.
            Some((head, reason)) if reason.len() > 60 => format!("{} [{reason}]", &head[9..12]),
            _ => summary(&answer, false),
        };
        assert_eq!(shown, expected, "{line}");
    });
}

#[test]
fn arguments() {
    check("GET /point?x=1&y=-2", "", "", "200 [<1 -2 call 1>]");
    check("GET /point?x=1", "", "", "400 [<the query does not fit: missing field `y`>]");
    check("GET /two/7/a%20b", "", "", "200 [<7 a b>]");
    let why = "a: number too large to fit in target type: \"256\"";
    check("GET /two/256/a", "", "", &format!("404 [<the path does not fit: {why}>]"));
    check("GET /named/1/of/-2", "", "", "200 [<-2 1>]");
    let why = "x: invalid digit found in string: \"\\n\\u{1b}[31m\"";
    check("GET /named/1/of/%0a%1b[31m", "", "", &format!("404 [<the path does not fit: {why}>]"));
    let why =
        |name| format!("404 [<the path does not fit: {name}: length 4, expected at most 3 bytes: \"long\">]");
    check("GET /short/abc", "", "", "200 [<short>]");
    check("GET /short/long", "", "", &why("a"));
    check("GET /shorts/abc/long", "", "", &why("b"));
    check("GET /misnamed/1", "", "", "500 [<Internal Server Error>]");
    check("GET /address/::1", "", "", "200 [<::1>]");
    check(
        "GET /address/1.2",
        "",
        "",
        "404 [<the path does not fit: ip: invalid IP address syntax: \"1.2\">]",
    );
    check("GET /color/red", "", "", "200 [<Red>]");
    let why = "name: unknown variant `pink`, expected `red`: \"pink\"";
    check("GET /color/pink", "", "", &format!("404 [<the path does not fit: {why}>]"));
    check("GET /even/4", "", "", "200 [<4>]");
    check("GET /even/3", "", "", "404 [<the path does not fit: number: an odd number: \"3\">]");
    check("GET /maybe/7", "", "", "200 [<Some(7)>]");
    check("GET /maybe", "", "", "200 [<None>]");
    check("GET /maybe/7/8", "", "", "200 [<Some((7, 8))>]");
    check("GET /maybe-named/7/8", "", "", "200 [<8>]");
    let why = "id: invalid digit found in string: \"x\"";
    check("GET /maybe/x", "", "", &format!("404 [<the path does not fit: {why}>]"));
    check("GET /maybe-one/7/8", "", "", "500 [<Internal Server Error>]");
    check("GET /list/3/4", "", "", "200 [<[3, 4]>]");
    check("GET /many/2/4", "", "", "200 [<2 4>]");
    check("GET /many/3/4", "", "", "404 [<the path does not fit: a: an odd number: \"3\">]");
    check("GET /too-few/7", "", "", "500 [<Internal Server Error>]");
    check("GET /too-many/7/8", "", "", "500 [<Internal Server Error>]");
    let why = "x: invalid digit found in string: \"a\\rb\u{e9}\"";
    check("GET /point?y=1&x=a%0Db%C3%A9", "", "", &format!("400 [<the query does not fit: {why}>]"));
    let (long, cut) = ("1".repeat(170), "1".repeat(156));
    let why = format!("x: number too large to fit in target type: \"{cut} \u{2026}");
    check(&format!("GET /point?x={long}"), "", "", &format!("400 [<the query does not fit: {why}>]"));
    check("GET /fields", "X: 1\r\nx: 2\r\n", "", "200 [<3>]");
    check("GET /cookies", "Cookie: a=b; c=\"d\"; e\r\nCookie: f=g=h\r\n", "", "200 [<a:b;c:d;f:g=h;>]");
    check("GET /cookie", "Cookie: a=b; c=d; c=e\r\n", "", "200 [<d>]");
    check("GET /cookie", "Cookie: a=c\r\n", "", "404 [<Not Found>]");
    check("GET /none", "", "", "200 [<none>]");
    check("PATCH /none", "", "", "200 [<patched>]");
    check("GET /later", "", "", "200 [<later>]");
    check("GET /user", "User: 7\r\n", "", "200 [<14>]");
    check("GET /user/later", "User: 7\r\n", "", "200 [<7>]");
    check("GET /user/later", "", "", "404 [<Not Found>]");
    check("GET /user", "", "", "500 [<Internal Server Error>]");
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
    let why = "unknown variant `\\u{1b}[31m`, expected `red` at line 1 column 12";
    check("POST /color", json, r#""\u001b[31m""#, &format!("400 [<the JSON does not fit: {why}>]"));
    check("POST /form", form, "x=1&y=2", "200 [<1 2>]");
    check("POST /form", json, "x=1&y=2", "415 [<the content must be application/x-www-form-urlencoded>]");
    // The suffix is JSON's alone.
    let suffix = "Content-Type: a/b+json\r\n";
    check("POST /form", suffix, "x=1", "415 [<the content must be application/x-www-form-urlencoded>]");
    check("POST /form", form, "x=1", "400 [<the form does not fit: missing field `y`>]");
    let why = "y: invalid digit found in string: \"a b\"";
    check("POST /form", form, "x=1&y=a+b", &format!("400 [<the form does not fit: {why}>]"));
    check("POST /text", "", "h\u{e9}", "200 [<h\u{e9}>]");
}

#[test]
fn a_limit_of_a_route() {
    let body = "x".repeat(21);
    check("POST /text", "", &body[1..], &format!("200 [<{}>]", &body[1..]));
    check("POST /text", "", &body, "413 close [Payload Too Large]");
    check("POST /bytes", "", &body, "200 [<21>]");
}
