//! The two pages.
use std::time::Duration;

use annulet_http::{IntoResponse, Page, Request, Response, Router};

/// The routes; every answer waits for `delay` first.
pub(crate) fn router(delay: Duration) -> Router {
    if delay.is_zero() {
        return Router::new()
            .get("/", async |_: Request| index())
            .get("/hello/{name}", async |request: Request| hello(&request));
    }
    Router::new()
        .get("/", move |_| async move {
            annulet::time::sleep(delay).await;
            index()
        })
        .get("/hello/{name}", move |request| async move {
            annulet::time::sleep(delay).await;
            hello(&request)
        })
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
