//! Two pages that take half a second each, as if they had to be fetched; ten thousand clients at once are all answered in about that.
//!
//! ```text
//! cargo run --release --example hello_later        # on 127.0.0.1:8000
//! ```
use std::io;
use std::time::Duration;

use annulet::net::TcpListener;
use annulet_http::{Page, Request, Response, Router, Server};

const DELAY: Duration = Duration::from_millis(500);

async fn index(_: Request) -> Response {
    annulet::time::sleep(DELAY).await;
    Response::html("<h1>Index</h1>")
}

async fn hello(request: Request) -> Page {
    annulet::time::sleep(DELAY).await;
    let mut page = Page::new();
    page.push("<h1>hello, ").push_escaped(request.param("name").unwrap_or_default()).push("!</h1>");
    page
}

/// Here for itself: a parameter of the path is percent-decoded.
async fn location(request: Request) -> String {
    format!("location /{}", request.param("uri").unwrap_or_default())
}

fn router() -> Router {
    Router::new().get("/", index).get("/hello/{name}", hello).get("/{uri}", location)
}

fn main() -> io::Result<()> {
    annulet::run(async {
        let listener = TcpListener::bind("127.0.0.1:8000")?;
        println!("listening on http://{}/", listener.local_addr()?);
        Server::new(router()).serve(listener).await
    })
}

#[cfg(test)]
mod tests {
    use annulet::net::TcpStream;
    use std::time::Instant;

    use super::*;

    async fn ask(address: std::net::SocketAddr, path: &str) -> String {
        let client = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        client.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while let Some(lease) = client.recv().await.unwrap() {
            answer.extend_from_slice(&lease);
        }
        let answer = String::from_utf8(answer).unwrap();
        answer.split_once("\r\n\r\n").unwrap().1.to_owned()
    }

    #[test]
    fn all_at_once() {
        const CLIENTS: usize = 200;
        annulet::run(async {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            drop(annulet::spawn(async move { Server::new(router()).serve(listener).await }));
            assert_eq!(ask(address, "/").await, "<h1>Index</h1>");
            assert_eq!(ask(address, "/a%20b%2Fc").await, "location /a b/c");
            let begun = Instant::now();
            let clients: Vec<_> = (0..CLIENTS)
                .map(|nth| annulet::spawn(async move { ask(address, &format!("/hello/{nth}")).await }))
                .collect();
            for (nth, client) in clients.into_iter().enumerate() {
                assert_eq!(client.await.unwrap(), format!("<h1>hello, {nth}!</h1>"));
            }
            // One after the other they would take a hundred seconds.
            assert!(begun.elapsed() >= DELAY && begun.elapsed() < 20 * DELAY, "{:?}", begun.elapsed());
        });
    }
}
