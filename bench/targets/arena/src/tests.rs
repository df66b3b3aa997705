//! What the contest checks before it measures (its scripts/validate.sh), as tests on the loop.
use std::time::Duration;

use annulet::net::{TcpListener, TcpStream};

use super::*;

/// The head in small letters and the content of the answer to a request that is sent in these pieces.
async fn ask(router: Router, pieces: &[&str]) -> (String, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    client.set_nodelay(true).unwrap();
    drop(annulet::spawn(async move { Server::new(router).serve(listener).await }));
    for piece in pieces {
        client.write_all(piece.as_bytes()).await.unwrap();
        client.flush().await.unwrap();
        // So that the server most often sees one piece at a time; the answer must not depend on it.
        annulet::time::sleep(Duration::from_millis(2)).await;
    }
    let mut answer = Vec::new();
    while let Some(bytes) = client.recv().await.unwrap() {
        answer.extend_from_slice(&bytes);
    }
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").expect("a whole answer");
    (head.to_ascii_lowercase(), body.to_owned())
}

async fn get(router: Router, target: &str, headers: &str) -> (String, String) {
    ask(router, &[&format!("GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{headers}\r\n")]).await
}

fn plain() -> Router {
    router(Rc::default(), None)
}

/// The content is `expected`, as plain text, in one piece and in these.
async fn check(pieces: &[&str], expected: &str) {
    for pieces in [&[pieces.concat().as_str()], pieces] {
        let (head, body) = ask(plain(), pieces).await;
        assert!(
            head.starts_with("http/1.1 200") && head.contains("content-type: text/plain"),
            "{pieces:?}: {head}"
        );
        assert_eq!(body, expected, "{pieces:?}");
    }
}

const SUM: &str =
    "POST /baseline11?a=13&b=42 HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Type: text/plain\r\n";

#[annulet::test]
async fn sums_in_any_slices() {
    check(&["GET /baseli", "ne11?a=13&b=42 HTTP/1.1\r\n", "Host: a\r\nConnection: close\r\n\r\n"], "55")
        .await;
    check(&["GET /baseline11?a=431&b=-7 HTTP/1.1\r\n", "Host: a\r\n", "Connection: close\r\n\r\n"], "424")
        .await;
    check(&[SUM, "Content-Length: 2\r\n\r\n", "2", "0"], "75").await;
    check(&[SUM, "Content-Length: 3\r\n\r\n", "917"], "972").await;
    check(&[SUM, "Transfer-Encoding: chunked\r\n\r\n", "2\r\n", "20\r\n0\r\n", "\r\n"], "75").await;
    check(&["GET /pipeline HTTP/1.1\r\nHost: a\r\n", "Connection: close\r\n\r\n"], "ok").await;
}

#[annulet::test]
async fn uploads_are_counted() {
    let content = "x".repeat(300_000);
    let head = "POST /upload HTTP/1.1\r\nHost: a\r\nConnection: close\r\n";
    check(&[head, "Content-Length: 300000\r\n\r\n", &content], "300000").await;
    check(&[head, "Transfer-Encoding: chunked\r\n\r\n493e0\r\n", &content, "\r\n0\r\n\r\n"], "300000").await;
}

#[annulet::test]
async fn json_has_its_type() {
    let (head, body) = get(plain(), "/json/7?m=3", "").await;
    assert!(head.contains("content-type: application/json") && !head.contains("content-encoding"), "{head}");
    assert_eq!(body, r#"{"items":[],"count":0}"#);
    assert!(get(plain(), "/json/many", "").await.0.starts_with("http/1.1 400"));
}

/// With the header that it sends; and a file that changes is read anew.
#[annulet::test]
async fn files_as_they_are_and_compressed() {
    let directory = env::temp_dir().join(format!("annulet-arena-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    for (name, content) in [
        ("app.js", "plain"),
        ("app.js.br", "br"),
        ("logo.svg", "<svg/>"),
        ("reset.css", "a{}"),
        ("manifest.json", "{}"),
    ] {
        std::fs::write(directory.join(name), content).unwrap();
    }
    let files = files(directory.to_str().unwrap()).unwrap();
    let router = || router(Rc::new(Dataset::default()), files.clone());
    let (head, body) = get(router(), "/static/app.js", "").await;
    assert!(head.starts_with("http/1.1 200") && head.contains("content-type: text/javascript"), "{head}");
    assert!(body == "plain" && !head.contains("content-encoding"), "{head}");
    let (head, body) = get(router(), "/static/app.js", "Accept-Encoding: br;q=1, gzip;q=0.8\r\n").await;
    assert!(
        head.contains("content-type: text/javascript") && head.contains("content-encoding: br"),
        "{head}"
    );
    assert_eq!(body, "br");
    for (name, kind) in
        [("logo.svg", "image/svg+xml"), ("reset.css", "text/css"), ("manifest.json", "application/json")]
    {
        let (head, _) = get(router(), &format!("/static/{name}"), "").await;
        assert!(head.contains(&format!("content-type: {kind}")), "{head}");
    }
    std::fs::write(directory.join("reset.css"), "/* new */").unwrap();
    assert_eq!(get(router(), "/static/reset.css", "").await.1, "/* new */");
    assert!(get(router(), "/static/nonexistent.txt", "").await.0.starts_with("http/1.1 404"));
    for missing in ["/app.js", "/static/../arena"] {
        let (head, _) = get(router(), missing, "").await;
        assert!(head.starts_with("http/1.1 404") || head.starts_with("http/1.1 400"), "{missing}: {head}");
    }
    std::fs::remove_dir_all(&directory).unwrap();
    assert!(super::files("/no/such/directory").unwrap().is_none());
}
