//! Routes and what is asked of them, one case a line.
use std::cell::RefCell;
use std::future::poll_fn;
use std::task::{Context, Poll, Waker};

use http::{HeaderName, HeaderValue, StatusCode};

use super::route::param_names;
use super::*;
use crate::h1::Limits;
use crate::h1::head::{Parse, Parser};
use crate::handler::poll_call;
use crate::response::IntoResponse;

fn router() -> Router {
    let echo = async |request: Request| {
        let names = ["name", "a", "b", "rest"];
        let params: Vec<_> =
            names.iter().filter_map(|n| Some(format!("{n}={}", request.param(n)?))).collect();
        format!("{} {}", request.method(), params.join(" "))
    };
    Router::new()
        .get("/", async |_: Request| "index")
        .get("/hello/{name}", echo)
        .post("/hello/{name}", echo)
        .get("/two/{a}/x/{b}", echo)
        .get("/files/{*rest}", echo)
        .get("/literal/{{x}}", echo)
        .route(Method::from_bytes(b"PURGE").unwrap(), "/cache", async |_: Request| "purged")
        .route(Method::HEAD, "/headed", async |_: Request| "headed")
        .get("/headed", async |_: Request| "got")
        .route(Method::OPTIONS, "/own", async |_: Request| "own")
        .any("/any", async |request: Request| format!("any {}", request.method()))
        .put("/any", async |_: Request| "put")
}

/// Status, Allow if there is one, content.
fn check(line: &str, expected: &str) {
    check_router(router(), line, expected);
}

fn check_router(router: Router, line: &str, expected: &str) {
    check_polls(router, 0, line, expected);
}

/// As `check_router`, of an answer that is there when its call, once it waits, has been polled so often.
fn check_polls(router: Router, polls_expected: usize, line: &str, expected: &str) {
    let router = router.seal();
    let input = format!("{line} HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut request = Request::take();
    let parsed = request.parse(&mut Parser::new(Limits::default()), input.as_bytes());
    assert_eq!(parsed, Parse::Complete(()), "{line}");
    let mut polls = 0;
    let answer = match router.find(input.as_bytes(), &mut request) {
        Ok(target) => {
            let (mut cx, mut answer) = (Context::from_waker(Waker::noop()), None);
            let mut waits = router.call(target, request, &mut cx, &mut answer);
            while let Some(call) = &mut waits
                && answer.is_none()
            {
                polls += 1;
                assert!(polls <= polls_expected, "pending: {line}");
                if let Poll::Ready(ready) = poll_call(call, &mut cx) {
                    answer = Some(ready);
                }
            }
            answer.unwrap()
        }
        Err(miss) => router.answer(miss),
    };
    assert_eq!(polls, polls_expected, "{line}");
    let mut text = answer.status().as_str().to_owned();
    for (name, value) in answer.headers() {
        text += &format!(" {name}: {}", value.to_str().unwrap());
    }
    text += &format!(" [{}]", String::from_utf8_lossy(answer.body()));
    assert_eq!(text, expected, "{line}");
}

#[test]
fn routes() {
    check("GET /", "200 [index]");
    check("GET /?q", "200 [index]");
    check("HEAD /", "200 [index]");
    check("GET /hello/bob", "200 [GET name=bob]");
    check("POST /hello/bob", "200 [POST name=bob]");
    check("GET /hello/a%20b%2Fc%C3%A9", "200 [GET name=a b/c\u{e9}]");
    check("GET /hello/100%25", "200 [GET name=100%]");
    check("GET /two/%41/x/B", "200 [GET a=A b=B]");
    check("GET /two/A/x/%42%43", "200 [GET a=A b=BC]");
    check("GET /files/a/b", "200 [GET rest=a/b]");
    check("PURGE /cache", "200 [purged]");
    check("OPTIONS /own", "200 [own]");
    check("GET http://b/hello/bob", "200 [GET name=bob]");
}

#[test]
fn any_method() {
    check("GET /any", "200 [any GET]");
    check("HEAD /any", "200 [any HEAD]");
    check("OPTIONS /any", "200 [any OPTIONS]");
    check("BREW /any", "200 [any BREW]");
    check("PUT /any", "200 [put]");
}

#[test]
fn fallbacks() {
    let router = || router().fallback(async |request: Request| format!("none {}", request.path()));
    check_router(router(), "GET /", "200 [index]");
    check_router(router(), "GET /nowhere", "200 [none /nowhere]");
    check_router(router(), "BREW /nowhere", "200 [none /nowhere]");
    check_router(router(), "POST /", "405 allow: GET, HEAD, OPTIONS [Method Not Allowed]");
    check_router(router(), "OPTIONS *", "204 []");
    let simple = Router::new().get("/", async |_: Request| "index").fallback(async |_: Request| "none");
    check_router(simple, "GET /a", "200 [none]");
}

#[test]
fn around_handlers() {
    let mark = |text: &'static str| {
        move |answer: Response| {
            let text = format!("{}{text}", String::from_utf8_lossy(answer.body()));
            Response::text(text).with_status(answer.status())
        }
    };
    let stop = |word: &'static str| {
        move |request: &mut Request| {
            (request.query() == Some(word)).then(|| format!("stopped by {word}").into_response())
        }
    };
    let router = || {
        Router::new()
            .get("/a", async |_: Request| "a")
            .before(stop("x"))
            .before(stop("y"))
            .after(mark("1"))
            .after(mark("2"))
            .get("/b", async |_: Request| "b")
            .get("/d", async |request: Request| format!("{:?}", request.state::<u32>()))
            .with_state(7u32)
            .get("/c", async |request: Request| format!("{:?}", request.state::<u32>()))
            .with_state(8u32)
            .with_state("text")
    };
    check_router(router(), "GET /a", "200 [a12]");
    check_router(router(), "GET /a?x", "200 [stopped by x12]");
    check_router(router(), "GET /a?y", "200 [stopped by y12]");
    check_router(router(), "GET /b?x", "200 [b]");
    check_router(router(), "GET /c", "200 [Some(8)]");
    check_router(router(), "GET /d", "200 [Some(7)]");
    let order = Router::new()
        .get("/order", async |_: Request| "nobody stopped it")
        .before(|_| Some("added first".into_response()))
        .before(|_| Some("added last".into_response()));
    check_router(order, "GET /order", "200 [added last]");
    check_router(router(), "POST /a?x", "200 [stopped by x12]");
    check_router(router(), "POST /a?z", "405 [Method Not Allowed12]");
}

fn mark(name: &'static str) -> impl Fn(Response) -> Response {
    let name = HeaderName::from_static(name);
    move |answer| answer.with_header(name.clone(), HeaderValue::from_static("1"))
}

/// Pending the first time.
async fn wait_once() {
    let mut waited = false;
    poll_fn(|_| if std::mem::replace(&mut waited, true) { Poll::Ready(()) } else { Poll::Pending }).await;
}

#[test]
fn what_stands_after_sees_all_answers_of_its_router() {
    let inner = || {
        Router::new()
            .get("/a/{b}", async |_: Request| "a")
            .get("/panic", async |request: Request| assert!(request.query().is_some(), "on purpose"))
            .get("/late-panic", async |request: Request| {
                wait_once().await;
                assert!(request.query().is_some(), "on purpose");
            })
            .after(mark("inner"))
    };
    let full = || Router::new().fallback(async |_: Request| "full").after(mark("inner"));
    let router = || {
        Router::new()
            .get("/", async |_: Request| "index")
            .nest("/in", inner())
            .nest("/in/deeper", Router::new().nest("/in", inner()).after(mark("middle")))
            .nest("/of/{who}", inner())
            .nest("/bare", Router::new().get("/a", async |_: Request| "bare"))
            .nest("/full", full())
            .after(mark("outer"))
            .get("/added-later", async |_: Request| "late")
    };
    let check = |line, expected| check_router(router(), line, expected);
    check("GET /", "200 outer: 1 [index]");
    check("POST /", "405 allow: GET, HEAD, OPTIONS outer: 1 [Method Not Allowed]");
    check("OPTIONS /", "204 allow: GET, HEAD, OPTIONS outer: 1 []");
    check("BREW /", "501 outer: 1 [Not Implemented]");
    check("GET /none", "404 outer: 1 [Not Found]");
    check("BREW /none", "501 outer: 1 [Not Implemented]");
    check("OPTIONS *", "204 outer: 1 []");
    check("GET /in/a/b", "200 inner: 1 outer: 1 [a]");
    check("PUT /in/a/b", "405 allow: GET, HEAD, OPTIONS inner: 1 outer: 1 [Method Not Allowed]");
    check("GET /in/a/%ff", "400 inner: 1 outer: 1 [Bad Request]");
    check("GET /in/panic", "500 inner: 1 outer: 1 [Internal Server Error]");
    check_polls(router(), 1, "GET /in/late-panic", "500 inner: 1 outer: 1 [Internal Server Error]");
    check("GET /in", "404 inner: 1 outer: 1 [Not Found]");
    check("GET /in/none", "404 inner: 1 outer: 1 [Not Found]");
    check("GET /inn", "404 outer: 1 [Not Found]");
    check("GET /in/deeper/none", "404 middle: 1 outer: 1 [Not Found]");
    check("GET /in/deeper/in/%6eone", "404 inner: 1 middle: 1 outer: 1 [Not Found]");
    check("GET /of/me/a/b", "200 inner: 1 outer: 1 [a]");
    check("PUT /of/me/a/b", "405 allow: GET, HEAD, OPTIONS inner: 1 outer: 1 [Method Not Allowed]");
    check("GET /of/me/none", "404 outer: 1 [Not Found]");
    check("GET /bare/none", "404 outer: 1 [Not Found]");
    check("GET /full/none", "200 inner: 1 outer: 1 [full]");
    check("GET /added-later", "200 [late]");
    check("PUT /added-later", "405 allow: GET, HEAD, OPTIONS [Method Not Allowed]");
    // Below all it is the outer router that answers.
    let at_root = || Router::new().after(mark("outer")).nest("/", inner().nest("/deep", inner()));
    check_router(at_root(), "GET /a/b", "200 inner: 1 [a]");
    check_router(at_root(), "GET /none", "404 outer: 1 [Not Found]");
    check_router(at_root(), "GET /deep/none", "404 inner: 1 [Not Found]");
    // What a fallback answers is its own.
    let with_fallback = || router().fallback(async |_: Request| "fallback");
    check_router(with_fallback(), "GET /none", "200 [fallback]");
    check_router(with_fallback(), "GET /in/none", "200 [fallback]");
    check_router(with_fallback(), "GET /full/none", "200 inner: 1 outer: 1 [full]");
    check_router(with_fallback().after(mark("last")), "GET /in/none", "200 last: 1 [fallback]");
    // The server has not asked the router.
    assert!(router().seal().answer(Miss::misdirected()).headers().is_empty());
    let panics = || {
        Router::new().after(|answer| if answer.status().is_success() { answer } else { panic!("on purpose") })
    };
    check_router(panics(), "GET /", "500 [Internal Server Error]");
}

/// Answers where it is asked to, with what it saw: its name, the method, the parameter.
fn ask(name: &'static str) -> impl Fn(&mut Request) -> Option<Response> + Clone {
    move |request| {
        assert_ne!(request.query(), Some("panic"), "on purpose");
        let seen = format!("{name} {} {:?}", request.method(), request.param("b"));
        (request.query() == Some(name)).then(|| seen.into_response())
    }
}

#[test]
fn what_stands_before_is_asked_ahead_of_all_answers_of_its_router() {
    let inner = || {
        Router::new()
            .get("/a/{b}", async |_: Request| "a")
            .get("/x/{b}/y/{c}", async |_: Request| "x")
            .before(ask("inner"))
    };
    let router = || {
        Router::new()
            .get("/", async |_: Request| "index")
            .get("/one/{b}", async |_: Request| "b")
            .nest("/in", inner())
            .nest("/in/deeper", Router::new().nest("/in", inner()).before(ask("middle")))
            .nest("/of/{who}", inner())
            .nest("/bare", Router::new().get("/a", async |_: Request| "bare"))
            .nest("/stateful", Router::new().get("/a", async |_: Request| "bare").with_state(7_u8))
            .before(ask("outer"))
            .after(mark("after"))
            .get("/added/later", async |_: Request| "late")
    };
    // The answer without a question, and that of the one who is asked.
    let check = |line: &str, without: &str, who: &str| {
        check_router(router(), line, without);
        let (method, path) = line.split_once(' ').unwrap();
        let param = ["me", "b"].into_iter().find(|value| path.ends_with(&format!("/{value}")));
        let expected = format!("200 after: 1 [{who} {method} {param:?}]");
        check_router(router(), &format!("{method} {path}?{who}"), &expected);
    };
    let allowed = "allow: GET, HEAD, OPTIONS";
    let everywhere = [
        ("GET /", "200 after: 1 [index]".to_owned()),
        ("HEAD /", "200 after: 1 [index]".to_owned()),
        ("POST /", format!("405 {allowed} after: 1 [Method Not Allowed]")),
        ("POST /one/me", format!("405 {allowed} after: 1 [Method Not Allowed]")),
        ("OPTIONS /one/me", format!("204 {allowed} after: 1 []")),
        ("BREW /one/me", "501 after: 1 [Not Implemented]".to_owned()),
        ("GET /one/%ff", "400 after: 1 [Bad Request]".to_owned()),
        ("GET /none/such", "404 after: 1 [Not Found]".to_owned()),
        ("HEAD /none/such", "404 after: 1 [Not Found]".to_owned()),
        ("BREW /none/such", "501 after: 1 [Not Implemented]".to_owned()),
        ("GET /bare/none", "404 after: 1 [Not Found]".to_owned()),
        ("GET /stateful/none", "404 after: 1 [Not Found]".to_owned()),
        ("GET /of/me/none", "404 after: 1 [Not Found]".to_owned()),
    ];
    for (line, without) in &everywhere {
        check(line, without, "outer");
    }
    let inside = [
        ("PUT /in/a/b", format!("405 {allowed} after: 1 [Method Not Allowed]")),
        ("OPTIONS /in/a/b", format!("204 {allowed} after: 1 []")),
        ("PUT /of/me/a/b", format!("405 {allowed} after: 1 [Method Not Allowed]")),
        ("GET /in/x/%ff/y/z", "400 after: 1 [Bad Request]".to_owned()),
        ("GET /in", "404 after: 1 [Not Found]".to_owned()),
        ("GET /in/none", "404 after: 1 [Not Found]".to_owned()),
        ("HEAD /in/%6eone", "404 after: 1 [Not Found]".to_owned()),
        ("BREW /in/none", "501 after: 1 [Not Implemented]".to_owned()),
        ("GET /in/deeper/in/none", "404 after: 1 [Not Found]".to_owned()),
    ];
    for (line, without) in &inside {
        check(line, without, "inner");
        check(line, without, "outer");
    }
    check("GET /in/deeper/none", "404 after: 1 [Not Found]", "middle");
    check("GET /in/deeper/in/none", "404 after: 1 [Not Found]", "middle");
    check_router(router(), "GET /in/deeper/none?inner", "404 after: 1 [Not Found]");
    check_router(router(), "GET /inn?inner", "404 after: 1 [Not Found]");
    check_router(router(), "GET /none/such?panic", "500 after: 1 [Internal Server Error]");
    check_router(router(), "GET /added/later?outer", "200 [late]");
    check_router(router(), "POST /added/later?outer", &format!("405 {allowed} [Method Not Allowed]"));
    // The server as a whole is asked; a target of that form has no query.
    let options = || Router::new().put("/a", async |_: Request| "");
    let star = |who: &'static str| {
        move |request: &mut Request| (request.path() == "*").then(|| format!("star {who}").into_response())
    };
    check_router(options().before(ask("x")), "OPTIONS *", "204 allow: PUT, OPTIONS []");
    check_router(options().before(star("x")), "OPTIONS *", "200 [star x]");
    let nested = Router::new().nest("/in", options().before(star("inner")));
    check_router(nested, "OPTIONS *", "204 allow: PUT, OPTIONS []");
    // Below all it is the outer router that answers, and a fallback that is not so far answers by itself.
    let at_root = || Router::new().before(ask("outer")).nest("/", inner().nest("/deep", inner()));
    check_router(at_root(), "GET /none?outer", "200 [outer GET None]");
    check_router(at_root(), "GET /none?inner", "404 [Not Found]");
    check_router(at_root(), "GET /deep/none?inner", "200 [inner GET None]");
    // Who has nothing before and after leaves what is below to the outer one.
    let stateful = Router::new().get("/a", async |_: Request| "").with_state(7_u8);
    let hooked_before = Router::new().before(ask("outer")).nest("/in", stateful);
    check_router(hooked_before, "GET /in/none?outer", "200 [outer GET None]");
    let with_fallback = || router().fallback(async |_: Request| "fallback");
    check_router(with_fallback(), "GET /none/such?outer", "200 [fallback]");
    check_router(with_fallback(), "GET /in/none?inner", "200 [fallback]");
    let guarded = || with_fallback().before(ask("last"));
    check_router(guarded(), "GET /in/none?last", "200 [last GET None]");
    check_router(guarded(), "TRACE /in/none?last", "200 [last TRACE None]");
    // The server has not asked the router.
    assert!(router().seal().answer(Miss::misdirected()).headers().is_empty());
}

/// As ahead of handlers: they wait, and have state.
#[test]
fn what_waits_before_answers_of_the_router() {
    let router = || {
        Router::new()
            .get("/{b}", async |_: Request| "b")
            .before_async(async |request: &mut Request| {
                wait_once().await;
                assert_eq!(request.state(), Some(&7_u32));
                ask("later")(request)
            })
            .with_state(7_u32)
    };
    let with_after = || router().after(|answer| answer);
    for router in [&router as &dyn Fn() -> Router, &with_after] {
        check_polls(router(), 1, "PUT /me?later", "200 [later PUT Some(\"me\")]");
        check_polls(router(), 1, "PUT /me", "405 allow: GET, HEAD, OPTIONS [Method Not Allowed]");
        check_polls(router(), 1, "GET /none/such?later", "200 [later GET None]");
        check_polls(router(), 1, "GET /none/such", "404 [Not Found]");
        check_polls(router(), 1, "OPTIONS *", "204 allow: GET, HEAD, OPTIONS []");
        check_polls(router(), 1, "GET /none/such?panic", "500 [Internal Server Error]");
    }
}

#[test]
fn what_waits_before_handlers() {
    type Trace = Rc<RefCell<String>>;
    /// Answers those that ask for it by their query.
    fn note(trace: &Trace, word: &'static str) -> impl Fn(&mut Request) -> Option<Response> + 'static {
        let trace = trace.clone();
        move |request| {
            *trace.borrow_mut() += word;
            (request.query() == Some(word)).then(|| format!("{} early", trace.take()).into_response())
        }
    }
    let router = || {
        let trace = Trace::default();
        let [one, two, three, four] = ["1", "2", "3", "4"].map(|word| note(&trace, word));
        Router::new()
            .get("/{of}", move |request: Request| {
                let passed = trace.take();
                async move {
                    assert_ne!(request.query(), Some("panic"), "on purpose");
                    format!("{passed} of {} {:?}", request.param("of").unwrap(), request.state::<u32>())
                }
            })
            .before(one)
            .before_async(async move |request: &mut Request| {
                wait_once().await;
                assert_eq!(request.state(), Some(&7_u32));
                two(request)
            })
            .before(three)
            .before_async(async move |request: &mut Request| {
                wait_once().await;
                assert_ne!(request.query(), Some("early-panic"), "on purpose");
                four(request)
            })
            .with_state(7_u32)
    };
    for has_after in [false, true] {
        let after = if has_after { " after: 1" } else { "" };
        let router = || if has_after { router().after(mark("after")) } else { router() };
        let check = |polls, line, status, content| {
            check_polls(router(), polls, line, &format!("{status}{after} [{content}]"));
        };
        check(2, "GET /me", "200", "4321 of me Some(7)");
        check(1, "GET /me?4", "200", "4 early");
        check(1, "GET /me?3", "200", "43 early");
        check(2, "GET /me?2", "200", "432 early");
        check(2, "GET /me?1", "200", "4321 early");
        check(1, "GET /me?early-panic", "500", "Internal Server Error");
        check(2, "GET /me?panic", "500", "Internal Server Error");
    }
    // Where nothing waits, no call does.
    let ready =
        || Router::new().get("/", async |_: Request| "index").before_async(async |_: &mut Request| None);
    check_router(ready(), "GET /", "200 [index]");
    check_router(ready().after(mark("after")), "GET /", "200 after: 1 [index]");
    let refused =
        || ready().before_async(async |_: &mut Request| Some(StatusCode::FORBIDDEN.into_response()));
    check_router(refused(), "GET /", "403 [Forbidden]");
    // The handler waits itself. It is polled a second time at once.
    let later = Router::new().get("/", async |_: Request| {
        wait_once().await;
        wait_once().await;
        "later"
    });
    check_polls(later.before_async(async |_: &mut Request| None), 1, "GET /", "200 [later]");
}

#[test]
fn nested() {
    let inner = || {
        Router::new()
            .get("/", async |_: Request| "root")
            .get("/{id}", async |request: Request| format!("id {}", request.param("id").unwrap()))
            .fallback(async |request: Request| format!("none {}", request.path()))
            .after(|answer| answer.with_status(StatusCode::ACCEPTED))
    };
    let router = || {
        Router::new().get("/", async |_: Request| "outer").nest("/in", inner()).nest(
            "/of/{who}/",
            Router::new().get("/it", async |request: Request| format!("{:?}", request.param("who"))),
        )
    };
    check_router(router(), "GET /", "200 [outer]");
    check_router(router(), "GET /in", "202 [root]");
    check_router(router(), "GET /in/7", "202 [id 7]");
    check_router(router(), "GET /in/7/8", "202 [none /in/7/8]");
    check_router(router(), "GET /of/me/it", "200 [Some(\"me\")]");
    check_router(router(), "GET /out", "404 [Not Found]");
    check_router(router(), "GET /inn", "404 [Not Found]");
    check_router(Router::new().nest("/x", router()), "GET /x/in/7/8", "202 [none /x/in/7/8]");
}

#[test]
fn what_the_router_answers_itself() {
    check("GET /nowhere", "404 [Not Found]");
    check("GET /hello/", "404 [Not Found]");
    check("GET /hello", "404 [Not Found]");
    check("GET /hello/a/b", "404 [Not Found]");
    check("GET //", "404 [Not Found]");
    check("POST /", "405 allow: GET, HEAD, OPTIONS [Method Not Allowed]");
    check("TRACE /", "405 allow: GET, HEAD, OPTIONS [Method Not Allowed]");
    check("PURGE /", "405 allow: GET, HEAD, OPTIONS [Method Not Allowed]");
    check("PUT /hello/bob", "405 allow: GET, HEAD, POST, OPTIONS [Method Not Allowed]");
    check("HEAD /cache", "405 allow: PURGE, OPTIONS [Method Not Allowed]");
    check("OPTIONS /hello/bob", "204 allow: GET, HEAD, POST, OPTIONS []");
    check("PUT /own", "405 allow: OPTIONS [Method Not Allowed]");
    check("PUT /headed", "405 allow: HEAD, GET, OPTIONS [Method Not Allowed]");
    // What takes any method does not say which.
    check("OPTIONS *", "204 []");
    let named = || {
        Router::new()
            .get("/", async |_: Request| "")
            .post("/a", async |_: Request| "")
            .route(Method::from_bytes(b"PURGE").unwrap(), "/b", async |_: Request| "")
            .get("/b", async |_: Request| "")
    };
    check_router(named(), "OPTIONS *", "204 allow: GET, HEAD, POST, PURGE, OPTIONS []");
    check_router(Router::new(), "OPTIONS *", "204 allow: OPTIONS []");
    check("BREW /", "501 [Not Implemented]");
    check("BREW /nowhere", "501 [Not Implemented]");
    check("GET /hello/%ff", "400 [Bad Request]");
}

/// RFC 3986 section 6.2.2: however it is written, it is the same path.
#[test]
fn a_path_is_matched_however_it_is_escaped() {
    let guarded = |name: &'static str| {
        Router::new()
            .get("/a", async |_: Request| "a")
            .fallback(async |request: Request| format!("in {}", request.path()))
            .before(move |_| Some(format!("no: {name}").into_response()))
    };
    let router = || {
        Router::new()
            .nest("/private", guarded("private"))
            .nest("/my files+@", guarded("spaces"))
            .nest("/caf\u{e9}", guarded("beyond ASCII"))
            .nest("/s%C3%bc%7e", guarded("escaped by the program"))
            .get("/{{x}}", async |_: Request| "braces")
            .get("/a%2fb", async |request: Request| format!("slash {}", request.path()))
            .get("/users/me", async |_: Request| "me")
            .get("/users/{name}", async |request: Request| request.param("name").unwrap().to_owned())
            .get("/two/{a}/{b}", async |request: Request| {
                format!("{} {}", request.param("a").unwrap(), request.param("b").unwrap())
            })
            .fallback(async |request: Request| format!("open {}", request.path()))
    };
    let check = |path: &str, expected: &str| {
        check_router(router(), &format!("GET {path}"), &format!("200 [{expected}]"));
        check_router(router(), &format!("GET http://b{path}?%41"), &format!("200 [{expected}]"));
    };
    check("/private/x", "no: private");
    check("/%70rivate/x", "no: private");
    check("/p%72iv%61te/x", "no: private");
    check("/%70rivate", "no: private");
    check("/%70rivate/%61", "no: private");
    check("/my%20files+@/x", "no: spaces");
    check("/my%20files%2b%40/x", "no: spaces");
    check("/caf%C3%A9/x", "no: beyond ASCII");
    check("/%63af%c3%a9/x", "no: beyond ASCII");
    check("/s%c3%Bc~", "no: escaped by the program");
    check("/%7Bx%7d", "braces");
    check("/users/m%65", "me");
    // Decoded once, and an encoded slash is data.
    check("/users/a%2541", "a%41");
    check("/users/%6De%2Fx", "me/x");
    check("/users/%25%32%66", "%2f");
    check("/two/%41%2f/%25", "A/ %");
    check("/%61%2fb", "slash /a%2Fb");
    check("/private%2fx", "open /private%2Fx");
    // What else a handler sees: RFC 3986 section 6.2.2, no further.
    check("/%6Fpen/%2e%7e%5F%2d/%3b%40/%c3%a9", "open /open/.~_-/%3B%40/%C3%A9");
    check_router(router(), "GET /users/%6de/%ff", "200 [open /users/me/%FF]");
    check_router(router(), "GET /users/%ff", "400 [Bad Request]");
    check_router(router(), "POST /%75sers/me", "405 allow: GET, HEAD, OPTIONS [Method Not Allowed]");
}

/// Every path is found, or not, as the tree finds it.
#[test]
fn the_lanes_agree_with_the_tree() {
    let handler = async |request: Request| format!("{:?}", request.param("x"));
    let mut router = ["/", "/a", "/a/{x}", "/a/b", "/{x}", "/c/d/{x}", "/c/d/"]
        .iter()
        .fold(Router::new(), |router, path| router.get(path, handler));
    let segments = ["", "/", "a", "b", "c", "d", "%41"];
    for path in segments
        .iter()
        .flat_map(|one| {
            segments.iter().flat_map(move |two| {
                segments.map(|three| [format!("/{one}/{two}/{three}"), format!("/{one}{two}{three}")])
            })
        })
        .flatten()
    {
        let outcomes = [true, false].map(|is_simple| {
            router.is_simple = is_simple;
            let mut request = Request::take();
            let input = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
            let parsed = request.parse(&mut Parser::new(Limits::default()), input.as_bytes());
            assert_eq!(parsed, Parse::Complete(()), "{path}");
            let found = router.find(input.as_bytes(), &mut request).map_err(|miss| miss.status);
            (found, request.param("x").map(str::to_owned))
        });
        assert_eq!(outcomes[0], outcomes[1], "{path}");
    }
    assert!(router.literal.len() == 4 && router.prefixed.len() == 3);
}

#[test]
fn mistakes_of_the_program() {
    let check = |build: fn() -> Router| assert!(std::panic::catch_unwind(build).is_err());
    check(|| Router::new().get("a", async |_: Request| ""));
    check(|| Router::new().get("/{a", async |_: Request| ""));
    check(|| Router::new().get("/{a}", async |_: Request| "").get("/{b}", async |_: Request| ""));
    check(|| Router::new().route(Method::CONNECT, "/a", async |_: Request| ""));
    check(|| Router::new().get("/a", async |_: Request| "").get("/a", async |_: Request| ""));
}

/// RFC 9110 section 10.2.1: what is advertised is served.
#[test]
fn allow_names_what_is_served() {
    let files = || crate::ServeDir::new(std::env::temp_dir()).unwrap();
    let router = || {
        Router::new()
            .any("/any", async |_: Request| "")
            .any("/files", files())
            .any("/both", files())
            .put("/both", async |_: Request| "")
            .fallback(files())
    };
    let check = |path: &str, allow: &str| {
        let expected = format!("405 allow: {allow} [Method Not Allowed]");
        check_router(router(), &format!("TRACE {path}"), &expected);
    };
    check("/any", "GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH");
    check("/files", "GET, HEAD, OPTIONS");
    check("/both", "PUT, GET, HEAD, OPTIONS");
    check("/none", "GET, HEAD, OPTIONS");
    check_router(
        Router::new().nest("/in", router()),
        "TRACE /in/x",
        "405 allow: GET, HEAD, OPTIONS [Method Not Allowed]",
    );
}

/// What is written as other routers have it is refused with the way to write it here; escaped it is literal.
#[test]
fn old_patterns() {
    let said = |build: &dyn Fn() -> Router| {
        let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(build)).unwrap_err();
        panic.downcast_ref::<String>().unwrap().clone()
    };
    let check = |path: &str, pattern: &str| {
        let handler = async |_: Request| "";
        let inner = || Router::new().get("/", handler);
        for text in [
            said(&|| Router::new().get(path, handler)),
            said(&|| Router::new().any(path, handler)),
            said(&|| Router::new().nest(path, inner())),
        ] {
            assert!(text.contains(&format!("a parameter is written /{pattern}, ")), "{path}: {text}");
        }
    };
    check("/:id", "{id}");
    check("/users/:id/posts", "{id}");
    check("/a/:", "{name}");
    check("/files/*rest", "{*rest}");
    check("/*", "{*rest}");
    let literal = || {
        let inner = || {
            Router::new().get("/%3aid", async |_: Request| "colon").get("/a:b*", async |_: Request| "inside")
        };
        inner().nest("/%2A", inner())
    };
    check_router(literal(), "GET /:id", "200 [colon]");
    check_router(literal(), "GET /a:b*", "200 [inside]");
    check_router(literal(), "GET /*/%3Aid", "200 [colon]");
}

#[test]
fn names() {
    let check = |path: &str, expected: &[&str]| {
        assert_eq!(param_names(path).collect::<Vec<_>>(), expected);
    };
    check("/", &[]);
    check("/{a}/x{b}/{*c}", &["a", "b", "c"]);
    check("/{{a}}/{b}", &["b"]);
}
