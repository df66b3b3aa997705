//! The HTTP/1.1 endpoints of HttpArena (github.com/MDA2AV/HttpArena) on annulet-http.
//!
//! Written as a program of a user, not tuned for the contest. It listens on port 8080 on every core that the process may use
//! and reads /data/dataset.json and /data/static; `ARENA_LISTEN`, `DATASET_PATH` and `STATIC_PATH` say otherwise.
#![forbid(unsafe_code)]

mod dataset;

use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;
use std::{env, io};

use annulet::Builder;
use annulet::signal::Termination;
use annulet_http::{
    Error, HeaderValue, IntoResponse, Limits, Request, Response, Router, ServeDir, Server, StatusCode, header,
};

use crate::dataset::Dataset;

/// A number fits in with room to spare.
const NUMBER_BYTES_MAX: usize = 1024;
const UPLOAD_BYTES_MAX: u64 = 64 << 20;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("annulet-arena: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> io::Result<()> {
    let termination = Termination::catch()?;
    let listen = env::var("ARENA_LISTEN").unwrap_or_else(|_| "0.0.0.0:8080".to_owned());
    let listen =
        listen.parse().map_err(|_| io::Error::other(format!("ARENA_LISTEN: {listen:?} is no address")))?;
    let path = env::var("DATASET_PATH").unwrap_or_else(|_| "/data/dataset.json".to_owned());
    let dataset = Dataset::read(&path)?;
    let files = files(&env::var("STATIC_PATH").unwrap_or_else(|_| "/data/static".to_owned()))?;
    let loops = Builder::new().listen(listen).start(move |mut core| {
        let server = Server::new(router(Rc::new(dataset.clone()), files.clone())).with_limits(limits());
        async move {
            for listener in core.take_listeners() {
                let server = server.clone();
                // Detached: it ends with the process.
                drop(annulet::spawn(async move { server.serve(listener).await }));
            }
            core.stopped().await;
        }
    })?;
    termination.wait()?;
    loops.stop();
    loops.join()
}

/// The directory of the files; without one there are none.
fn files(path: &str) -> io::Result<Option<ServeDir>> {
    match ServeDir::new(path) {
        Ok(files) => Ok(Some(files.below("/static"))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            eprintln!("annulet-arena: there is no {path}: /static has no files");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Uploads are as large as 20 MiB.
fn limits() -> Limits {
    Limits { body_bytes: UPLOAD_BYTES_MAX, ..Limits::default() }
}

fn router(dataset: Rc<Dataset>, files: Option<ServeDir>) -> Router {
    let router = Router::new()
        .get("/baseline11", sum)
        .post("/baseline11", sum)
        .get("/pipeline", async |_: Request| "ok")
        .get("/json/{count}", move |request: Request| {
            let dataset = dataset.clone();
            async move { items(&dataset, &request) }
        })
        .post("/upload", upload)
        .get("/delay/{milliseconds}", delay);
    match files {
        Some(files) => router.fallback(files),
        None => router,
    }
}

/// `a` and `b` of the query, and the body if it is a number, added up.
async fn sum(mut request: Request) -> Result<Response, Error> {
    let body = request.bytes(NUMBER_BYTES_MAX).await?;
    let body = std::str::from_utf8(&body).ok().and_then(|text| text.trim().parse().ok());
    let total =
        [number(&request, "a"), number(&request, "b"), body].into_iter().flatten().fold(0, i64::wrapping_add);
    Ok(Response::text_fmt(format_args!("{total}")))
}

/// A number of the query, by name.
fn number(request: &Request, name: &str) -> Option<i64> {
    let pairs = request.query()?.split('&').filter_map(|pair| pair.split_once('='));
    pairs.filter(|(key, _)| *key == name).find_map(|(_, value)| value.parse().ok())
}

/// The first items of the data set, with totals that depend on `m`.
fn items(dataset: &Dataset, request: &Request) -> Response {
    let Some(count) = request.param("count").and_then(|text| text.parse().ok()) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let json = dataset.json(count, number(request, "m").unwrap_or(1));
    Response::text(json).with_header(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))
}

/// How many bytes the body has; it is not kept.
async fn upload(mut request: Request) -> Result<Response, Error> {
    let mut count = 0;
    while let Some(chunk) = request.chunk().await? {
        count += chunk.len();
    }
    Ok(Response::text_fmt(format_args!("{count}")))
}

/// Answers after so many milliseconds.
async fn delay(request: Request) -> Response {
    let Some(milliseconds) = request.param("milliseconds").and_then(|text| text.parse().ok()) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    annulet::time::sleep(Duration::from_millis(milliseconds)).await;
    Response::text("ok")
}

#[cfg(test)]
mod tests;
