//! The router of both peers with axum: the one on tokio, and the one on annulet.

use std::convert::Infallible;

use axum::body::{Body, Bytes};
use axum::extract::Path;
use axum::http::header::CONTENT_TYPE;
use axum::response::{Html, IntoResponse};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures_util::stream;
use http_body_util::BodyExt;
use peer_common::page;

pub fn router() -> Router {
    Router::new()
        .route("/", get(async || Html(page::INDEX)))
        .route("/hello/{name}", get(async |Path(name): Path<String>| Html(page::hello(&name))))
        .route(
            "/download/100k",
            get(async || ([(CONTENT_TYPE, page::BINARY)], Bytes::from_static(&page::DOWNLOAD))),
        )
        .route("/upload", post(upload))
        .route("/sum", post(async |Json(numbers): Json<Vec<u64>>| Json(numbers.iter().sum::<u64>())))
        .route("/count", get(count))
}

async fn upload(mut body: Body) -> impl IntoResponse {
    let mut total = 0;
    while let Some(Ok(frame)) = body.frame().await {
        total += frame.data_ref().map_or(0, Bytes::len);
    }
    total.to_string()
}

/// Content that is made while it leaves.
async fn count() -> Body {
    Body::from_stream(stream::iter(["1\n", "2\n", "3\n"].map(Ok::<_, Infallible>)))
}
