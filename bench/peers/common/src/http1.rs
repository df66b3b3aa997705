//! HTTP/1.1 without I/O, for the peers that are a runtime only: bytes in, bytes out, over httparse.
//!
//! As lean as such a layer can be while it still parses every head, routes, reads bodies with Content-Length and chunked, and
//! writes a current date. It is less strict than annulet-http, so it is if anything cheaper.

use std::cell::RefCell;
use std::time::{Duration, SystemTime};

use crate::page;

const HEADERS_MAX: usize = 64;
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// The server's end of one connection.
#[derive(Debug, Default)]
pub struct Connection {
    state: State,
    /// The start of what is not complete yet.
    pending: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default)]
enum State {
    #[default]
    Head,
    Length {
        left: usize,
        total: usize,
        close: bool,
    },
    Chunk(Chunk, usize, bool),
}

/// Where in a chunked body the next byte stands.
#[derive(Clone, Copy, Debug)]
enum Chunk {
    Size,
    Data { left: usize },
    Trailer,
}

/// What is to be done with the connection after its answers are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    Keep,
    Close,
}

impl Connection {
    /// Takes what was received and appends the answers to `out`.
    pub fn received(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> After {
        refresh_date();
        if self.pending.is_empty() {
            let (used, after) = self.advance(bytes, out);
            self.pending.extend_from_slice(&bytes[used..]);
            return after;
        }
        let mut pending = std::mem::take(&mut self.pending);
        pending.extend_from_slice(bytes);
        let (used, after) = self.advance(&pending, out);
        pending.drain(..used);
        self.pending = pending;
        after
    }

    fn advance(&mut self, input: &[u8], out: &mut Vec<u8>) -> (usize, After) {
        let mut used = 0;
        loop {
            let rest = &input[used..];
            match self.state {
                State::Head => match self.head(rest, out) {
                    Step::Used(count, After::Keep) => used += count,
                    Step::Used(count, After::Close) => return (used + count, After::Close),
                    Step::More => return (used, After::Keep),
                    Step::Wrong => {
                        out.extend_from_slice(
                            b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
                        );
                        return (input.len(), After::Close);
                    }
                },
                State::Length { left, total, close } => {
                    let count = left.min(rest.len());
                    used += count;
                    if count < left {
                        self.state = State::Length { left: left - count, total, close };
                        return (used, After::Keep);
                    }
                    self.state = State::Head;
                    if uploaded(total, close, out) == After::Close {
                        return (used, After::Close);
                    }
                }
                State::Chunk(Chunk::Size, total, close) => match httparse::parse_chunk_size(rest) {
                    Ok(httparse::Status::Complete((count, 0))) => {
                        used += count;
                        self.state = State::Chunk(Chunk::Trailer, total, close);
                    }
                    Ok(httparse::Status::Complete((count, size))) => {
                        used += count;
                        let size = usize::try_from(size).expect("64 bits");
                        // With the CRLF that ends it.
                        self.state = State::Chunk(Chunk::Data { left: size + 2 }, total + size, close);
                    }
                    Ok(httparse::Status::Partial) => return (used, After::Keep),
                    Err(_) => return (input.len(), After::Close),
                },
                State::Chunk(Chunk::Data { left }, total, close) => {
                    let count = left.min(rest.len());
                    used += count;
                    if count < left {
                        self.state = State::Chunk(Chunk::Data { left: left - count }, total, close);
                        return (used, After::Keep);
                    }
                    self.state = State::Chunk(Chunk::Size, total, close);
                }
                State::Chunk(Chunk::Trailer, total, close) => {
                    let Some(end) = rest.iter().position(|&byte| byte == b'\n') else {
                        return (used, After::Keep);
                    };
                    used += end + 1;
                    // An empty line ends the trailers.
                    if end <= 1 {
                        self.state = State::Head;
                        if uploaded(total, close, out) == After::Close {
                            return (used, After::Close);
                        }
                    }
                }
            }
        }
    }

    fn head(&mut self, input: &[u8], out: &mut Vec<u8>) -> Step {
        if input.is_empty() {
            return Step::More;
        }
        let mut headers = [const { std::mem::MaybeUninit::uninit() }; HEADERS_MAX];
        let mut request = httparse::Request::new(&mut []);
        let used = match request.parse_with_uninit_headers(input, &mut headers) {
            Ok(httparse::Status::Complete(used)) => used,
            Ok(httparse::Status::Partial) if input.len() < HEAD_BYTES_MAX => return Step::More,
            _ => return Step::Wrong,
        };
        let mut close = request.version == Some(0);
        let mut length = None;
        let mut chunked = false;
        for header in request.headers.iter() {
            if header.name.eq_ignore_ascii_case("content-length") {
                let Some(count) =
                    std::str::from_utf8(header.value).ok().and_then(|text| text.parse::<usize>().ok())
                else {
                    return Step::Wrong;
                };
                length = Some(count);
            } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
                chunked = header.value.eq_ignore_ascii_case(b"chunked");
            } else if header.name.eq_ignore_ascii_case("connection") {
                close = header.value.eq_ignore_ascii_case(b"close")
                    || (close && !header.value.eq_ignore_ascii_case(b"keep-alive"));
            } else if header.name.eq_ignore_ascii_case("expect") {
                out.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
            }
        }
        match (request.method, request.path) {
            (Some("GET"), Some("/")) => answer(page::HTML, page::INDEX.as_bytes(), close, out),
            (Some("GET"), Some("/download/100k")) => answer(page::BINARY, &page::DOWNLOAD, close, out),
            (Some("GET"), Some(path)) => match path.strip_prefix("/hello/") {
                Some(name) => answer(page::HTML, page::hello(name).as_bytes(), close, out),
                None => not_found(out),
            },
            (Some("POST"), Some("/upload")) => {
                self.state = match length {
                    _ if chunked => State::Chunk(Chunk::Size, 0, close),
                    length => State::Length { left: length.unwrap_or(0), total: length.unwrap_or(0), close },
                };
                return Step::Used(used, After::Keep);
            }
            _ => {
                not_found(out);
                close |= length.is_some() || chunked;
            }
        }
        Step::Used(used, if close { After::Close } else { After::Keep })
    }
}

enum Step {
    Used(usize, After),
    More,
    Wrong,
}

fn uploaded(total: usize, close: bool, out: &mut Vec<u8>) -> After {
    answer(page::TEXT, itoa::Buffer::new().format(total).as_bytes(), close, out);
    if close { After::Close } else { After::Keep }
}

fn answer(content_type: &str, body: &[u8], close: bool, out: &mut Vec<u8>) {
    out.extend_from_slice(b"HTTP/1.1 200 OK\r\ncontent-type: ");
    out.extend_from_slice(content_type.as_bytes());
    if close {
        out.extend_from_slice(b"\r\nconnection: close");
    }
    out.extend_from_slice(b"\r\ncontent-length: ");
    out.extend_from_slice(itoa::Buffer::new().format(body.len()).as_bytes());
    DATE.with_borrow(|date| out.extend_from_slice(&date.line));
    out.extend_from_slice(body);
}

fn not_found(out: &mut Vec<u8>) {
    out.extend_from_slice(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n");
}

/// The end of every head: the date of the current second and the empty line.
struct Date {
    second: i64,
    line: Vec<u8>,
}

thread_local! {
    static DATE: RefCell<Date> = const { RefCell::new(Date { second: 0, line: Vec::new() }) };
}

/// Looks at the clock once per receive, as a runtime's own date cache would.
fn refresh_date() {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel (or the vDSO) writes one timespec.
    unsafe { libc::clock_gettime(libc::CLOCK_REALTIME_COARSE, &mut now) };
    DATE.with_borrow_mut(|date| {
        if date.second != now.tv_sec {
            date.second = now.tv_sec;
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(now.tv_sec as u64);
            date.line = format!("\r\ndate: {}\r\n\r\n", httpdate::fmt_http_date(time)).into_bytes();
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In any slicing the same answers, dates apart.
    fn check(input: &str, bodies: &[&str]) {
        for size in [1, 2, 7, input.len()] {
            let mut connection = Connection::default();
            let mut out = Vec::new();
            for piece in input.as_bytes().chunks(size) {
                connection.received(piece, &mut out);
            }
            let text = String::from_utf8(out).unwrap();
            let got: Vec<&str> = text
                .split("HTTP/1.1 200 OK")
                .skip(1)
                .map(|answer| answer.split_once("\r\n\r\n").unwrap().1)
                .collect();
            assert_eq!(got, bodies, "in pieces of {size}");
        }
    }

    #[test]
    fn pages_and_uploads() {
        check("GET / HTTP/1.1\r\nhost: a\r\n\r\n", &["<h1>Index</h1>"]);
        check(
            "GET /hello/you HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n",
            &["<h1>hello, you!</h1>", "<h1>Index</h1>"],
        );
        check(
            "POST /upload HTTP/1.1\r\ncontent-length: 3\r\n\r\nabcGET / HTTP/1.1\r\n\r\n",
            &["3", "<h1>Index</h1>"],
        );
        check(
            "POST /upload HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n1\r\nd\r\n0\r\nx: y\r\n\r\nGET / HTTP/1.1\r\n\r\n",
            &["4", "<h1>Index</h1>"],
        );
    }
}
