//! A request allocates nothing in the steady state, counted by the allocator. A crate of its own, because the counter is unsafe code.
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::{Duration, Instant};

use annulet::net::{TcpListener, TcpStream};
use annulet_http::offline::{Offline, Outcome};
use annulet_http::{
    HeaderValue, IntoResponse, Limits, Page, Path, Query, Request, Response, Router, Server, State,
    StatusCode, extract, header,
};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call goes on to the system's allocator unchanged; the counter is a plain cell without a destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer came from `alloc` above, hence from the system.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: as for `dealloc`, and the caller keeps the contract of `realloc`.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

async fn index(_: Request) -> impl IntoResponse {
    Response::html("<h1>Index</h1>")
}

async fn hello(request: Request) -> impl IntoResponse {
    let name = request.param("name").unwrap_or_default();
    let mut page = Page::new();
    page.push("<h1>hello, ").push_escaped(name).push("!</h1>");
    page
}

fn check(target: &str, expected: u64) {
    check_router(Router::new().get("/", index).get("/hello/{name}", hello), target, expected);
}

/// What 100 times 16 requests allocate, once everything has grown to its size.
fn check_router(router: Router, target: &str, expected: u64) {
    let server = Offline::new(router, Limits::default());
    let input = format!("GET {target} HTTP/1.1\r\nHost: a\r\nUser-Agent: b\r\n\r\n").repeat(16);
    let mut answers = Vec::new();
    let now = Instant::now();
    let mut run = || {
        answers.clear();
        assert_eq!(
            server.answer(input.as_bytes(), now, &mut answers),
            Outcome::Answered { used: input.len() }
        );
    };
    run();
    let before = ALLOCATIONS.get();
    for _ in 0..100 {
        run();
    }
    assert_eq!(ALLOCATIONS.get() - before, expected, "{target}");
}

#[test]
fn no_allocation_per_request() {
    check("/", 0);
    check("/hello/bob", 0);
    check("/hello/%3Cb%3E%20c?d=e", 0);
    check("/nowhere", 0);
}

#[derive(serde::Deserialize)]
struct Point {
    x: i32,
    y: i32,
}

/// What stands around handlers costs no memory of its own.
#[test]
fn no_allocation_for_layers() {
    const REQUESTS: u64 = 1600;
    let routes = || Router::new().get("/", index).get("/hello/{name}", hello);
    let layered = |router: Router| {
        router
            .with_state(7_u32)
            .before(|request| {
                request.header("authorization").map(|_| StatusCode::UNAUTHORIZED.into_response())
            })
            .before(|request| {
                assert!(request.state::<u32>().is_none_or(|state| *state == 7));
                None
            })
            .after(|answer| if answer.status().is_success() { answer } else { answer.with_close() })
            .with_time_limit(Duration::from_secs(1))
    };
    for target in ["/", "/hello/bob"] {
        check_router(layered(routes()), target, 0);
        check_router(layered(layered(routes())), target, 0);
        check_router(Router::new().nest("/", layered(routes())), target, 0);
        check_router(layered(Router::new().fallback(index)), target, 0);
    }
    let refused = routes().before(|_| Some(StatusCode::UNAUTHORIZED.into_response()));
    check_router(refused, "/", 0);
    // Fields are kept in a list, behind a pointer that most answers do not have.
    let dressed = || {
        routes()
            .after(|answer| answer.with_header(header::CACHE_CONTROL, HeaderValue::from_static("no-cache")))
    };
    check_router(dressed(), "/", 2 * REQUESTS);
}

/// Extractors that look at the head; what they make has the price of its type.
#[test]
fn no_allocation_for_typed_arguments() {
    const REQUESTS: u64 = 1600;
    let handlers = || {
        Router::new()
            .get("/path/{id}", extract(async |Path(id): Path<u32>| assert_eq!(id, 7)))
            .get("/pair/{a}/{b}", extract(async |Path((a, b)): Path<(u32, bool)>| assert!(a == 7 && b)))
            .get("/named/{y}/{x}", extract(async |Path(point): Path<Point>| assert!(point.x < point.y)))
            .get("/query", extract(async |Query(point): Query<Point>| assert!(point.x < point.y)))
            .get("/state", extract(async |state: State<Vec<u32>>| assert_eq!(state.len(), 2)))
            .get(
                "/all/{id}",
                extract(async |Path(id): Path<u32>, Query(point): Query<Point>, state: State<Vec<u32>>| {
                    assert_eq!((id, point.x + point.y, state.len()), (7, 3, 2));
                    index_page()
                }),
            )
            .get("/text/{name}", extract(async |Path(name): Path<String>| drop(name)))
            .with_state(vec![1_u32, 2])
    };
    for target in ["/path/7", "/pair/7/true", "/named/2/1", "/query?x=1&y=2", "/state", "/all/7?x=1&y=2"] {
        check_router(handlers(), target, 0);
        check_router(handlers().before(|_| None).after(|answer| answer), target, 0);
    }
    // The string.
    check_router(handlers(), "/text/bob", REQUESTS);
}

fn index_page() -> Response {
    Response::html("<h1>Index</h1>")
}

/// The whole way: ring, socket, pump, handler and back, with the client on the same loop.
#[test]
fn no_allocation_per_served_request() {
    const ANSWERS: usize = 2000;
    annulet::run(async {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = Server::new(Router::new().get("/", index).get("/hello/{name}", hello));
        drop(annulet::spawn(async move { server.serve(listener).await }));
        for target in ["/", "/hello/bob"] {
            let client = TcpStream::connect(address).await.unwrap();
            let request = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
            let mut before = 0;
            // The first half warms up: tables and pools grow to what is needed.
            for round in 0..2 * ANSWERS {
                if round == ANSWERS {
                    before = ALLOCATIONS.get();
                }
                client.write_all(request.as_bytes()).await.unwrap();
                let answer = client.recv().await.unwrap().expect("the connection persists");
                assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n") && answer.ends_with(b"</h1>"));
            }
            assert_eq!(ALLOCATIONS.get() - before, 0, "{target}, in {ANSWERS} answers");
        }
    });
}

#[test]
fn the_counter_counts() {
    let before = ALLOCATIONS.get();
    drop(std::hint::black_box(Box::new(1)));
    assert_eq!(ALLOCATIONS.get() - before, 1);
}
