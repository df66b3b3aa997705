//! actix-web, one worker per core. Its accept thread is its own; the affinity of the process holds for it as well.

use actix_web::web::{self, Bytes, Payload};
use actix_web::{App, HttpResponse, HttpServer};
use futures_util::StreamExt;
use peer_common::page;

#[actix_web::main]
async fn main() -> std::io::Result<()> {
    let options = peer_common::options();
    HttpServer::new(|| {
        App::new()
            .route("/", web::get().to(async || HttpResponse::Ok().content_type(page::HTML).body(page::INDEX)))
            .route("/hello/{name}", web::get().to(hello))
            .route("/download/100k", web::get().to(download))
            .route("/upload", web::post().to(upload))
    })
    .workers(options.cores.len())
    .backlog(4096)
    .listen(peer_common::listener(options.listen))?
    .run()
    .await
}

async fn hello(name: web::Path<String>) -> HttpResponse {
    HttpResponse::Ok().content_type(page::HTML).body(page::hello(&name))
}

async fn download() -> HttpResponse {
    HttpResponse::Ok().content_type(page::BINARY).body(Bytes::from_static(&page::DOWNLOAD))
}

async fn upload(mut body: Payload) -> HttpResponse {
    let mut total = 0;
    while let Some(Ok(chunk)) = body.next().await {
        total += chunk.len();
    }
    HttpResponse::Ok().content_type(page::TEXT).body(total.to_string())
}
