//! An axum router on annulet's loops, one on each core, its handlers as they would be written for tokio.
//!
//! ```text
//! cargo run --release -p annulet-hyper --example axum -- 127.0.0.1:8000
//! curl http://127.0.0.1:8000/hello/you
//! curl --http2-prior-knowledge -d '{"name": "you", "visits": 1}' -H 'content-type: application/json' http://127.0.0.1:8000/visit
//! curl http://127.0.0.1:8000/count
//! ```
use std::convert::Infallible;
use std::net::SocketAddr;

use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::response::Html;
use axum::routing::{get, post};
use axum::{Json, Router};
use futures_util::stream;
use serde::{Deserialize, Serialize};

#[derive(Deserialize, Serialize)]
struct Visit {
    name: String,
    visits: u64,
}

#[derive(Clone)]
struct Greeting(&'static str);

async fn index() -> Html<&'static str> {
    Html("<h1>Index</h1>")
}

async fn hello(State(greeting): State<Greeting>, Path(name): Path<String>) -> String {
    format!("{}, {name}!", greeting.0)
}

async fn visit(Json(visit): Json<Visit>) -> Json<Visit> {
    Json(Visit { visits: visit.visits + 1, ..visit })
}

/// Content that is made while it leaves.
async fn count() -> Body {
    let lines = (1..=3).map(|line| Ok::<_, Infallible>(Bytes::from(format!("{line}\n"))));
    Body::from_stream(stream::iter(lines))
}

fn app() -> Router {
    Router::new()
        .route("/", get(index))
        .route("/hello/{name}", get(hello))
        .route("/visit", post(visit))
        .route("/count", get(count))
        .with_state(Greeting("hello"))
}

fn main() -> std::io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8000".to_owned());
    let address: SocketAddr = address.parse().map_err(std::io::Error::other)?;
    let loops = annulet::Builder::new().listen(address).start(|mut core| async move {
        let server = annulet_hyper::Server::new(app());
        for listener in core.take_listeners() {
            let server = server.clone();
            drop(annulet::spawn(async move { server.serve(listener).await }));
        }
        core.stopped().await;
        server.start_drain();
        server.drained().await;
    })?;
    println!("listening on http://{}/", loops.addresses()[0]);
    loops.join()
}

#[test]
fn the_handlers_answer() {
    use annulet::net::TcpListener;

    annulet::run(async {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let site = format!("http://{}", listener.local_addr().unwrap());
        drop(annulet::spawn(annulet_hyper::serve(listener, app())));
        let client = annulet_http::Client::new();
        for (path, expected) in
            [("/", "<h1>Index</h1>"), ("/hello/you", "hello, you!"), ("/count", "1\n2\n3\n")]
        {
            let answer = client.get(format!("{site}{path}")).send().await.unwrap();
            assert_eq!(answer.text().await.unwrap(), expected, "{path}");
        }
        let sent = Visit { name: "you".to_owned(), visits: 1 };
        let answer = client.post(format!("{site}/visit")).json(&sent).send().await.unwrap();
        assert_eq!(answer.text().await.unwrap(), r#"{"name":"you","visits":2}"#);
    });
}
