//! axum on tokio, a current_thread runtime per core, each with its own listener.

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Path;
use axum::http::header::CONTENT_TYPE;
use axum::response::{Html, IntoResponse};
use axum::routing::{get, post};
use http_body_util::BodyExt;
use peer_common::page;

fn main() {
    let options = peer_common::options();
    peer_common::on_each_core(&options, |listener| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().expect("a runtime");
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener).expect("in a runtime");
            axum::serve(listener, router()).await.expect("serves for ever");
        });
    });
}

fn router() -> Router {
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
