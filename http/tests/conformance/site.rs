//! The site that the cases ask.
use std::time::Duration;

use annulet_http::{Error, IntoResponse, Limits, Method, Request, Response, Router, StatusCode};

/// Small, so that cases at a limit are short.
pub(crate) fn limits() -> Limits {
    Limits {
        head_bytes: 1024,
        line_bytes: 995,
        target_bytes: 256,
        headers: 16,
        body_bytes: 1000,
        chunk_extension_bytes: 64,
        trailer_bytes: 128,
        drain_bytes: 100,
        ..Limits::default()
    }
}

async fn echo(mut request: Request) -> impl IntoResponse {
    request.bytes(1000).await
}

pub(crate) fn router() -> Router {
    Router::new()
        .get("/", async |_: Request| "index")
        .get("/probe", async |_: Request| "probe")
        .get("/smuggled", async |_: Request| "smuggled")
        .get("/hello/{name}", async |request: Request| request.param("name").map(str::to_owned))
        .get("/host", async |request: Request| request.host().to_owned())
        .get("/echo-path", async |request: Request| {
            request.path().to_owned() + &request.query().map(|query| format!("?{query}")).unwrap_or_default()
        })
        .get("/fields", async |request: Request| {
            let fields = request.headers().filter(|(name, _)| *name != "Host");
            fields
                .map(|(name, value)| format!("{name}={};", String::from_utf8_lossy(value)))
                .collect::<String>()
        })
        .get("/status/{code}", async |request: Request| {
            let code = request.param("code").and_then(|code| code.parse().ok())?;
            StatusCode::from_u16(code).ok()
        })
        .get("/slow", async |_: Request| {
            annulet::yield_now().await;
            "slow"
        })
        .get("/panic", async |request: Request| assert!(request.query().is_some(), "on purpose"))
        .get("/close", async |_: Request| Response::text("bye").with_close())
        .route(Method::from_bytes(b"PURGE").expect("a token"), "/cache", async |_: Request| "purged")
        .post("/echo", echo)
        .put("/echo", echo)
        .delete("/echo", echo)
        .route(Method::PATCH, "/echo", echo)
        .post("/small", async |mut request: Request| request.bytes(10).await)
        .post("/ignore", async |_: Request| StatusCode::ACCEPTED)
        .post("/first", async |mut request: Request| {
            request.chunk().await?;
            Ok::<_, Error>(())
        })
}

/// Nothing here is about time; a test that hangs is to end all the same.
pub(crate) const TIME_MAX: Duration = Duration::from_secs(120);
