//! may_minihttp: stackful coroutines over epoll, one worker per core.
//!
//! It reads bodies by Content-Length only, so POST with a chunked body is not asked of it. It sets no TCP_NODELAY on its own
//! sockets; its listener is its own as well.

use std::io::{self, BufRead};

use may_minihttp::{HttpService, HttpServiceFactory, Request, Response};
use peer_common::page;

// Its headers are whole lines.
const HTML: &str = "content-type: text/html; charset=utf-8";
const TEXT: &str = "content-type: text/plain; charset=utf-8";
const BINARY: &str = "content-type: application/octet-stream";

struct Pages;

impl HttpService for Pages {
    fn call(&mut self, request: Request, response: &mut Response) -> io::Result<()> {
        match (request.method(), request.path()) {
            ("GET", "/") => response.header(HTML).body(page::INDEX),
            ("GET", "/download/100k") => {
                response.header(BINARY).body_mut().extend_from_slice(&page::DOWNLOAD);
            }
            ("GET", path) if path.starts_with("/hello/") => {
                let page = page::hello(&path["/hello/".len()..]);
                response.header(HTML).body_mut().extend_from_slice(page.as_bytes());
            }
            ("POST", "/upload") => {
                let mut body = request.body();
                let mut total = 0;
                loop {
                    let count = body.fill_buf()?.len();
                    if count == 0 {
                        break;
                    }
                    body.consume(count);
                    total += count;
                }
                response.header(TEXT).body_vec(total.to_string().into_bytes());
            }
            _ => {
                response.status_code(404, "Not Found");
            }
        }
        Ok(())
    }
}

struct Factory;

impl HttpServiceFactory for Factory {
    type Service = Pages;

    fn new_service(&self, _: usize) -> Pages {
        Pages
    }
}

fn main() {
    let options = peer_common::options();
    // Pool and stack as in its own TechEmpower example, the stack larger: pages are formatted on it.
    may::config().set_workers(options.cores.len()).set_pool_capacity(1000).set_stack_size(0x2000);
    let server = Factory.start(options.listen).expect("an address that is free");
    server.join().expect("serves for ever");
}
