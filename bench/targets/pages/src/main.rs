//! The pages of annulet-serve, and two for large bodies: what the peers in `bench/peers` serve, on ours.
//!
//! `--burn` makes every request cost so much more CPU: a slow-down of a known size, for trying out what `annulet-bench
//! compare` finds.
#![forbid(unsafe_code)]

use std::process::ExitCode;
use std::time::{Duration, Instant};

use annulet::net::bind_one;
use annulet::signal::Termination;
use annulet::{Builder, Core};
use annulet_http::admin::Admin;
use annulet_http::{
    Error, HeaderValue, IntoResponse, Limits, Page, Request, Response, Router, Server, header,
};
use clap::Parser;

/// What `GET /download/100k` answers.
static DOWNLOAD: &str = match std::str::from_utf8(&[b'x'; 100 * 1024]) {
    Ok(text) => text,
    Err(_) => panic!("x is a character"),
};

/// Serves GET /, GET /hello/{name}, POST /upload and GET /download/100k.
#[derive(Debug, Parser)]
struct Options {
    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1:8000")]
    listen: std::net::SocketAddr,

    /// Cores to run on, such as 0,2.
    #[arg(long, value_delimiter = ',', default_value = "0")]
    cores: Vec<usize>,

    /// Answer /metrics here, e.g. 127.0.0.1:9100.
    #[arg(long, value_name = "ADDR")]
    admin: Option<std::net::SocketAddr>,

    /// The content of an upload, in bytes. Beyond: 413.
    #[arg(long, default_value_t = Limits::default().body_bytes)]
    body_bytes: u64,

    /// How long an upload may stand still, in milliseconds. Beyond: 408.
    #[arg(long, default_value_t = 30_000)]
    body_timeout_ms: u64,

    /// How long an upload may be slower than 240 bytes a second, in milliseconds. Beyond: 408.
    #[arg(long, default_value_t = 5_000)]
    body_grace_ms: u64,

    /// Send the download without the kernel's copy if it has so many bytes; 102400 is its length. Off without it.
    #[arg(long, value_name = "BYTES")]
    zero_copy_min: Option<usize>,

    /// CPU time that every request burns, in nanoseconds.
    #[arg(long, default_value_t = 0)]
    burn: u64,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("annulet-pages: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> std::io::Result<()> {
    let termination = Termination::catch()?;
    let burn = Duration::from_nanos(options.burn);
    let limits = Limits {
        body_bytes: options.body_bytes,
        body_timeout: Duration::from_millis(options.body_timeout_ms),
        body_rate_grace: Duration::from_millis(options.body_grace_ms),
        ..Limits::default()
    };
    let zero_copy_min = options.zero_copy_min;
    let loops =
        Builder::new().cores(options.cores.iter().copied()).listen(options.listen).start(move |core| {
            let server = Server::new(router(burn)).with_limits(limits.clone());
            serve(
                core,
                match zero_copy_min {
                    Some(bytes) => server.with_zero_copy(bytes),
                    None => server,
                },
            )
        })?;
    let admin = match options.admin {
        Some(address) => Some(Admin::new(loops.readiness().clone()).start(bind_one(address)?)?),
        None => None,
    };
    termination.wait()?;
    drop(admin);
    loops.stop();
    loops.join()
}

async fn serve(mut core: Core, server: Server) {
    for listener in core.take_listeners() {
        let server = server.clone();
        // Detached: it ends with the process.
        drop(annulet::spawn(async move {
            if let Err(error) = server.serve(listener).await {
                eprintln!("annulet-pages: accepting has ended: {error}");
            }
        }));
    }
    core.stopped().await;
}

fn router(burn: Duration) -> Router {
    Router::new()
        .get("/", move |_: Request| async move {
            spend(burn);
            Response::html("<h1>Index</h1>")
        })
        .get("/hello/{name}", move |request: Request| async move {
            spend(burn);
            let mut page = Page::new();
            page.push("<h1>hello, ").push_escaped(request.param("name").unwrap_or_default()).push("!</h1>");
            page.into_response()
        })
        .get("/download/100k", async |_: Request| {
            let binary = HeaderValue::from_static("application/octet-stream");
            Response::text(DOWNLOAD).with_header(header::CONTENT_TYPE, binary)
        })
        .post("/upload", upload)
}

async fn upload(mut request: Request) -> Result<Response, Error> {
    let mut count = 0;
    while let Some(chunk) = request.chunk().await? {
        count += chunk.len();
    }
    Ok(Response::text_fmt(format_args!("{count}")))
}

/// Keeps the core busy for so long.
fn spend(time: Duration) {
    if time.is_zero() {
        return;
    }
    let start = Instant::now();
    while start.elapsed() < time {
        std::hint::spin_loop();
    }
}
