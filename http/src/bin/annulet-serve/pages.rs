//! The two pages.
use std::time::Duration;

use annulet_http::{IntoResponse, Page, Request, Response, Router, ServeDir};

/// The routes, and the files beside them.
pub(crate) fn site(delay: Duration, files: Option<ServeDir>) -> Router {
    match files {
        Some(files) => with_hello(Router::new(), delay).fallback(files),
        None => router(delay),
    }
}

fn with_hello(router: Router, delay: Duration) -> Router {
    router.get("/hello/{name}", move |request| async move {
        annulet::time::sleep(delay).await;
        hello(&request)
    })
}

/// The routes; every answer waits for `delay` first.
fn router(delay: Duration) -> Router {
    if delay.is_zero() {
        return Router::new()
            .get("/", async |_: Request| index())
            .get("/hello/{name}", async |request: Request| hello(&request));
    }
    let index = move |_| async move {
        annulet::time::sleep(delay).await;
        index()
    };
    with_hello(Router::new().get("/", index), delay)
}

fn index() -> Response {
    Response::html("<h1>Index</h1>")
}

fn hello(request: &Request) -> Response {
    let name = request.param("name").unwrap_or_default();
    let mut page = Page::new();
    page.push("<h1>hello, ").push_escaped(name).push("!</h1>");
    page.into_response()
}
