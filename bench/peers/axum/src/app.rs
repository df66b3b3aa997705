//! The router of both peers with axum: the one on tokio, and the one on annulet.

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Path;
use axum::http::header::CONTENT_TYPE;
use axum::response::{Html, IntoResponse};
use axum::routing::{get, post};
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
}

async fn upload(mut body: Body) -> impl IntoResponse {
    let mut total = 0;
    while let Some(Ok(frame)) = body.frame().await {
        total += frame.data_ref().map_or(0, Bytes::len);
    }
    total.to_string()
}
