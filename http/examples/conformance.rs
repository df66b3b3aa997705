//! A server to point test suites at.
//!
//! - Any method and path: reads the whole body and answers 200 with it; a GET without a body gets `OK`.
//! - `/echo`: the header fields of the request, one a line, names and values as they were sent.
//! - `/cookie`: each cookie as `name=value`, one a line.
//!
//! ```text
//! cargo run --release --example conformance -- 127.0.0.1:8080
//! ```
//!
//! At a second address, if there is one, it expects a PROXY header before each connection, from this machine.
use std::io;

use annulet::net::TcpListener;
use annulet_http::{Error, IntoResponse, Method, Request, Response, Router, Server};

/// What a body may have, in bytes: more than the server's own limit, which answers first.
const BODY_BYTES_MAX: usize = usize::MAX;

async fn body(mut request: Request) -> Result<Response, Error> {
    let body = request.bytes(BODY_BYTES_MAX).await?;
    // HEAD is told of what GET would get (RFC 9110 section 9.3.2).
    let is_asking = matches!(*request.method(), Method::GET | Method::HEAD);
    Ok(if body.is_empty() && is_asking { Response::text("OK") } else { answer(body.into()) })
}

async fn echo(mut request: Request) -> Result<Response, Error> {
    // A body that is not wanted is read all the same, so that whoever sends a long one gets an answer.
    request.bytes(BODY_BYTES_MAX).await?;
    let lines = request.headers().map(|(name, value)| [name.as_bytes(), b": ", value, b"\n"].concat());
    Ok(answer(lines.flatten().collect()))
}

async fn cookie(mut request: Request) -> Result<Response, Error> {
    request.bytes(BODY_BYTES_MAX).await?;
    let cookies = request.headers().filter(|(name, _)| name.eq_ignore_ascii_case("cookie"));
    // RFC 6265 section 4.2.1.
    let pairs = cookies.flat_map(|(_, value)| value.split(|b| *b == b';')).map(<[u8]>::trim_ascii);
    let lines = pairs.filter(|pair| !pair.is_empty()).map(|pair| [pair, b"\n"].concat());
    Ok(answer(lines.flatten().collect()))
}

/// As text, if it is some.
fn answer(bytes: Vec<u8>) -> Response {
    match String::from_utf8(bytes) {
        Ok(text) => Response::text(text),
        Err(error) => error.into_bytes().into_response(),
    }
}

fn router() -> Router {
    Router::new().any("/echo", echo).any("/cookie", cookie).fallback(body)
}

fn main() -> io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    annulet::run(async {
        let listener = TcpListener::bind(address.as_str())?;
        println!("listening on http://{}/", listener.local_addr()?);
        if let Some(address) = std::env::args().nth(2) {
            let listener = TcpListener::bind(address.as_str())?;
            println!("behind a proxy on http://{}/", listener.local_addr()?);
            let here = ["127.0.0.0/8", "::1"].map(|text| text.parse().expect("a network"));
            let server = Server::new(router()).with_proxy_protocol(here);
            // Detached: it ends with the loop.
            drop(annulet::spawn(async move { server.serve(listener).await }));
        }
        Server::new(router()).serve(listener).await
    })
}

#[cfg(test)]
mod tests {
    use annulet::net::TcpStream;

    use super::*;

    #[test]
    fn what_is_answered() {
        check("GET /any HTTP/1.1\r\nHost: a\r\n", "", "OK");
        check("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n", "", "");
        check("HEAD / HTTP/1.1\r\nHost: a\r\n", "", "");
        check("OPTIONS / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n", "hi", "hi");
        check("BREW /x/y?z HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n", "hi", "hi");
        check("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n", "2\r\nhi\r\n0\r\n\r\n", "hi");
        check("GET /echo HTTP/1.1\r\nHost: a\r\nX-y:  z\r\n", "", "Host: a\nX-y: z\nConnection: close\n");
        check(
            "GET /echo HTTP/1.1\r\nHost: a\r\nx: y\r\nX: y\r\nz:\r\n",
            "",
            "Host: a\nx: y\nX: y\nz: \nConnection: close\n",
        );
        check(
            "GET /cookie HTTP/1.1\r\nHost: a\r\nCookie: a=b; c=\"d\"\r\nCookie: e=f\r\n",
            "",
            "a=b\nc=\"d\"\ne=f\n",
        );
    }

    fn check(head: &str, body: &str, expected: &str) {
        annulet::run(async {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let server = Server::new(router());
            drop(annulet::spawn(async move { server.serve(listener).await }));
            client.write_all(format!("{head}Connection: close\r\n\r\n{body}").as_bytes()).await.unwrap();
            let mut answer = Vec::new();
            while let Some(lease) = client.recv().await.unwrap() {
                answer.extend_from_slice(&lease);
            }
            let answer = String::from_utf8(answer).unwrap();
            let (head_of_answer, content) = answer.split_once("\r\n\r\n").unwrap();
            assert!(head_of_answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
            assert_eq!(content, expected, "{head:?}");
        });
    }
}
