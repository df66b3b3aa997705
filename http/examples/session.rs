//! A session: connections are used again, cookies go back, many pages at a time over few connections. aiohttp's
//! `ClientSession`.
//!
//! ```text
//! cargo run -p annulet-http --example session
//! ```
use annulet::net::TcpListener;
use annulet_http::{Client, Cookie, Request, Response, Router, Server, client};

const PAGES: usize = 20;

fn router() -> Router {
    Router::new()
        .get("/login", async |_: Request| {
            Response::text("welcome").with_cookie(&Cookie::new("session", "abc"))
        })
        .get("/whoami", async |request: Request| request.cookie("session").unwrap_or("nobody").to_owned())
        .get("/page/{n}", async |request: Request| format!("page {}", request.param("n").unwrap_or_default()))
}

/// What it has to say, line by line.
async fn session() -> Result<Vec<String>, client::Error> {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let site = format!("http://{}", listener.local_addr().expect("it is bound"));
    drop(annulet::spawn(async move { Server::new(router()).serve(listener).await }));

    let client = Client::builder().cookies(true).connections_per_host(4).build();
    let mut said = Vec::new();
    for path in ["whoami", "login", "whoami"] {
        let text = client.get(format!("{site}/{path}")).send().await?.text().await?;
        said.push(format!("{path}: {text}"));
    }
    let stats = client.stats();
    said.push(format!("connections opened {}, used again {}", stats.opened, stats.reused));

    let pages = annulet::gather(
        (0..PAGES).map(async |n| client.get(format!("{site}/page/{n}")).send().await?.text().await),
    );
    let pages: Vec<String> = pages.await.into_iter().collect::<Result<_, client::Error>>()?;
    said.push(format!("{} pages, the last: {}", pages.len(), pages[PAGES - 1]));
    let stats = client.stats();
    said.push(format!("connections opened {}, used again {}", stats.opened, stats.reused));
    Ok(said)
}

fn main() -> Result<(), client::Error> {
    for line in annulet::run(session())? {
        println!("{line}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_says() {
        let said = annulet::run(session()).unwrap();
        let expected = [
            "whoami: nobody",
            "login: welcome",
            "whoami: abc",
            "connections opened 1, used again 2",
            "20 pages, the last: page 19",
            // Four at a time to one host, of which one was there.
            "connections opened 4, used again 19",
        ];
        assert_eq!(said, expected);
    }
}
