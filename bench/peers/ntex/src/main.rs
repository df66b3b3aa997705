//! ntex on its io_uring driver ("neon"), one worker per core.

use ntex::web::{self, App, HttpResponse, HttpServer};
use peer_common::page;

#[ntex::main]
async fn main() -> std::io::Result<()> {
    let options = peer_common::options();
    HttpServer::new(async || {
        App::new().service((
            web::resource("/").route(web::get().to(index)),
            web::resource("/hello/{name}").route(web::get().to(hello)),
            web::resource("/download/100k").route(web::get().to(download)),
            web::resource("/upload").route(web::post().to(upload)),
        ))
    })
    .workers(options.cores.len())
    .backlog(4096)
    .listen(peer_common::listener(options.listen))?
    .run()
    .await
}

async fn index() -> HttpResponse {
    HttpResponse::Ok().content_type(page::HTML).body(page::INDEX)
}

async fn hello(name: web::types::Path<String>) -> HttpResponse {
    HttpResponse::Ok().content_type(page::HTML).body(page::hello(&name))
}

async fn download() -> HttpResponse {
    HttpResponse::Ok().content_type(page::BINARY).body(&page::DOWNLOAD[..])
}

async fn upload(mut body: web::types::Payload) -> HttpResponse {
    let mut total = 0;
    while let Some(Ok(chunk)) = body.recv().await {
        total += chunk.len();
    }
    HttpResponse::Ok().content_type(page::TEXT).body(total.to_string())
}
