//! What the tests share.
use std::net::SocketAddr;
use std::time::Duration;

use annulet::net::{TcpListener, TcpStream};
use annulet_hyper::Server;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Path;
use axum::routing::{get, post};

/// No test waits for longer.
pub(crate) const TIME_MAX: Duration = Duration::from_secs(30);

pub(crate) fn app() -> Router {
    Router::new()
        .route("/", get(async || "index"))
        .route("/hello/{name}", get(async |Path(name): Path<String>| format!("hello, {name}!")))
        .route(
            "/json",
            post(async |axum::Json(numbers): axum::Json<Vec<u32>>| axum::Json(numbers.iter().sum::<u32>())),
        )
        .route("/echo", post(async |body: Body| body))
        .route("/length", post(async |bytes: Bytes| bytes.len().to_string()))
}

/// A server with this router, and where it is.
pub(crate) fn start(app: Router) -> (Server<Router>, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = Server::new(app);
    let serving = server.clone();
    drop(annulet::spawn(async move { serving.serve(listener).await.unwrap() }));
    (server, address)
}

/// Runs a test, for so long at the most.
pub(crate) fn run<F: Future<Output = ()>>(test: F) {
    annulet::run(async { annulet::time::timeout(TIME_MAX, test).await.expect("the test takes too long") });
}

/// Everything up to the end of the stream.
pub(crate) async fn read_all(stream: &TcpStream) -> String {
    let mut bytes = Vec::new();
    while let Ok(Some(lease)) = stream.recv().await {
        bytes.extend_from_slice(&lease);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
