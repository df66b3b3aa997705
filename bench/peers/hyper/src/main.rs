//! hyper on tokio, a current_thread runtime per core, each with its own listener.
//!
//! `pipeline_flush` as hyper's own pipelining benchmark has it. No timer is configured, so hyper sets no read deadlines.

use std::convert::Infallible;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use peer_common::page;

fn main() {
    let options = peer_common::options();
    peer_common::on_each_core(&options, |listener| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().expect("a runtime");
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener).expect("in a runtime");
            loop {
                let Ok((stream, _)) = listener.accept().await else { continue };
                tokio::spawn(
                    http1::Builder::new()
                        .pipeline_flush(true)
                        .serve_connection(TokioIo::new(stream), service_fn(serve)),
                );
            }
        });
    });
}

async fn serve(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(match (request.method(), request.uri().path()) {
        (&Method::GET, "/") => answer(page::HTML, Bytes::from_static(page::INDEX.as_bytes())),
        (&Method::GET, "/download/100k") => answer(page::BINARY, Bytes::from_static(&page::DOWNLOAD)),
        (&Method::GET, path) if path.starts_with("/hello/") => {
            answer(page::HTML, Bytes::from(page::hello(&path["/hello/".len()..])))
        }
        (&Method::POST, "/upload") => {
            let mut body = request.into_body();
            let mut total = 0;
            while let Some(Ok(frame)) = body.frame().await {
                total += frame.data_ref().map_or(0, Bytes::len);
            }
            answer(page::TEXT, Bytes::from(total.to_string()))
        }
        _ => {
            let mut response = Response::new(Full::new(Bytes::new()));
            *response.status_mut() = StatusCode::NOT_FOUND;
            response
        }
    })
}

fn answer(content_type: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
