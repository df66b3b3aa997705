//! A request allocates nothing in the steady state, counted by the allocator. A crate of its own, because the counter is unsafe code.
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::Instant;

use annulet::net::{TcpListener, TcpStream};
use annulet_http::offline::{Offline, Outcome};
use annulet_http::{IntoResponse, Limits, Page, Request, Response, Router, Server};

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
    let server = Offline::new(Router::new().get("/", index).get("/hello/{name}", hello), Limits::default());
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
