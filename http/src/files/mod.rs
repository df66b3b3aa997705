//! Files of a directory as answers: types, validators, conditions, ranges, compressed forms that lie beside them.
//!
//! What the kernel has in memory is looked up, and if it is short read, on the loop (`open`), once for the requests of a turn of the loop
//! that cannot tell (`turn`); anything else on the blocking pool. Longer files leave as the client takes them (`pieces`). What it does not do:
//! compress by itself, list directories, keep a cache beyond the turn (the kernel has one).
mod conditions;
mod open;
mod pieces;
mod range;
mod ready;
mod shared;
mod turn;

use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;

use http::{HeaderValue, Method, StatusCode, header};

use self::conditions::{Validators, Verdict};
use self::open::{Codings, Lookup, Way};
use self::pieces::Part;
pub(crate) use self::pieces::Pieces;
use self::range::Asked;
use self::ready::{About, Content, Ready, text};
use crate::h1::Refusal;
use crate::handler::Handler;
use crate::request::Request;
use crate::response::{IntoResponse, Response};
use crate::router::{escaped, is_common};

/// Serves the files of a directory, as a [handler](Handler) for any path below a prefix.
///
/// - `index.html` for a directory; without its slash, a redirect to it.
/// - The type from the name's extension; ETag and Last-Modified; conditional requests, one range or several (RFC 9110 sections 13, 14).
/// - A file beside it with `.br` or `.gz` behind its name, if the client takes that coding.
/// - Nothing outside of the directory: openat2(2) with RESOLVE_BENEATH, so neither `..` nor a symbolic link leads out. No hidden files
///   but those below `.well-known`, no FIFOs or devices.
/// - No files that do not say how long they are, as those of procfs and sysfs: 503, as for one that changes while it is read. What
///   would go out is an empty page with a validator that fits any content.
///
/// # Examples
///
/// ```
/// use annulet_http::{Request, Router, ServeDir};
///
/// # let folder = std::env::temp_dir();
/// let router = Router::new()
///     .get("/hello", async |_: Request| "hello")
///     .fallback(ServeDir::new(folder).unwrap());
/// ```
#[derive(Clone, Debug)]
pub struct ServeDir {
    root: Arc<OwnedFd>,
    /// Whether a lookup without waiting is worth a try.
    is_local: bool,
    /// Without a slash at its end.
    prefix: Arc<str>,
}

impl ServeDir {
    /// The files of this directory; it stays the same one if it is renamed. Opens it, which blocks a moment.
    ///
    /// # Errors
    ///
    /// When it cannot be opened; `Unsupported` before Linux 5.6, which has no openat2(2).
    pub fn new(directory: impl AsRef<Path>) -> io::Result<ServeDir> {
        let root = open::open_root(directory.as_ref())?;
        Ok(ServeDir { is_local: open::is_local(&root), root: Arc::new(root), prefix: "".into() })
    }

    /// With this part of the path left out: `/static/a.css` is the file `a.css` then. Other paths are answered 404. It is written as the
    /// paths of routes are, plain (`/my files`) or escaped, and clients may escape it as they like.
    #[must_use]
    pub fn below(mut self, prefix: &str) -> ServeDir {
        self.prefix = prefix.trim_end_matches('/').into();
        self
    }

    async fn answer(self, request: Request) -> Response {
        if *request.method() != Method::GET && *request.method() != Method::HEAD {
            return refuse_method(request.method());
        }
        let Some(path) = escaped::strip(request.path(), &self.prefix) else {
            return StatusCode::NOT_FOUND.into_response();
        };
        if path.is_empty() && !self.prefix.is_empty() {
            return redirect_to_slash(&request);
        }
        let codings = codings(&request.values("accept-encoding"));
        match self.look(path, codings, request.is_first()).await {
            Ok(Lookup::File(file)) => send(file, &request),
            Ok(Lookup::NeedsSlash) => redirect_to_slash(&request),
            Ok(Lookup::Nothing) => StatusCode::NOT_FOUND.into_response(),
            // Descriptors or memory, most likely: the next try may do.
            Err(_) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        }
    }

    /// Opens what a request asks for, and reads it if it is short. What this turn of the loop has found already will do if it is `shared`.
    async fn look(&self, path: &str, codings: Codings, shared: bool) -> io::Result<Lookup<Ready>> {
        if shared && let Some(file) = turn::find(&self.root, path, &codings) {
            return Ok(Lookup::File(file));
        }
        let cached = match self.is_local {
            true => open::find(&self.root, path, &codings, Way::Cached),
            false => Err(io::ErrorKind::WouldBlock.into()),
        };
        let looked = match cached {
            Ok(Lookup::File(mut found)) => {
                found.read_cached();
                if !found.wants_content() {
                    let file = Ready::from(found);
                    turn::keep(&self.root, path, &codings, &file);
                    return Ok(Lookup::File(file));
                }
                annulet::spawn_blocking(move || found.read().map(|()| Lookup::File(found))).await
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let (root, path) = (self.root.clone(), path.to_owned());
                annulet::spawn_blocking(move || {
                    let mut looked = open::find(&root, &path, &codings, Way::Waiting)?;
                    if let Lookup::File(found) = &mut looked {
                        found.read()?;
                    }
                    Ok(looked)
                })
                .await
            }
            known => Ok(known),
        };
        // What was waited for is kept for nobody: they may have arrived after it was looked up.
        let looked = looked.unwrap_or_else(|_panicked| Err(io::ErrorKind::Other.into()))?;
        Ok(looked.map(Ready::from))
    }
}

impl Handler for ServeDir {
    type Future = Pin<Box<dyn Future<Output = Response>>>;
    type Answer = Response;

    fn call(&self, request: Request) -> Self::Future {
        Box::pin(self.clone().answer(request))
    }

    fn methods(&self) -> &'static [Method] {
        static SERVED: [Method; 3] = [Method::GET, Method::HEAD, Method::OPTIONS];
        &SERVED
    }
}

/// As a route of GET answers other methods.
fn refuse_method(method: &Method) -> Response {
    let status = match *method {
        // RFC 9110 section 9.3.7.
        Method::OPTIONS => StatusCode::NO_CONTENT,
        _ if is_common(method) => StatusCode::METHOD_NOT_ALLOWED,
        // RFC 9110 section 15.6.2.
        _ => return Refusal::MethodUnknown.status().into_response(),
    };
    status.into_response().with_header(header::ALLOW, HeaderValue::from_static("GET, HEAD, OPTIONS"))
}

fn redirect_to_slash(request: &Request) -> Response {
    let query = request.query().map(|query| format!("?{query}")).unwrap_or_default();
    // More than one slash at the beginning would name a host.
    let path = request.path().trim_start_matches('/');
    Response::redirect(&format!("/{path}/{query}")).with_status(StatusCode::PERMANENT_REDIRECT)
}

/// The compressed forms that a client takes, best first (RFC 9110 section 12.5.3). None where it would rather have the plain one.
fn codings<'r>(accepted: &(impl Iterator<Item = &'r [u8]> + Clone)) -> Codings {
    let weight = |coding: &str| {
        let lines = accepted.clone().map(|line| str::from_utf8(line).unwrap_or_default());
        lines.flat_map(|line| line.split(',')).find_map(|member| {
            let mut parts = member.split(';').map(str::trim);
            parts.next().filter(|name| is_coding(name, coding))?;
            let weight = parts.find_map(|part| part.strip_prefix("q=").or(part.strip_prefix("Q=")));
            Some(weight.map_or(1.0, |weight| weight.parse::<f32>().unwrap_or(0.0)))
        })
    };
    let any = weight("*");
    let of = |coding| weight(coding).or(any).unwrap_or(0.0);
    let plain = weight("identity").unwrap_or(0.0);
    let [brotli, gzip] = [("br", ".br"), ("gzip", ".gz")].map(|form| (of(form.0), form));
    let take = |(weight, form)| (weight > 0.0 && weight >= plain).then_some(form);
    if gzip.0 > brotli.0 { [take(gzip), take(brotli)] } else { [take(brotli), take(gzip)] }
}

/// RFC 9110 section 8.4.1.3: `x-gzip` is `gzip`.
fn is_coding(name: &str, coding: &str) -> bool {
    name.eq_ignore_ascii_case(coding) || coding == "gzip" && name.eq_ignore_ascii_case("x-gzip")
}

/// The answer for a file that is there.
fn send(file: Ready, request: &Request) -> Response {
    let Ready { about, content } = file;
    let verdict = conditions::judge(|name| request.values(name), &about.validators);
    let asked = match (verdict, conditions::only(request.values("range"))) {
        (Verdict::Failed, _) => return about.dress(StatusCode::PRECONDITION_FAILED.into_response()),
        (Verdict::NotModified, _) => return about.dress(Response::new(StatusCode::NOT_MODIFIED)),
        // RFC 9110 section 14.2: for GET only.
        (Verdict::Send, Some(range)) if *request.method() == Method::GET => {
            match range::parse(range, about.len) {
                // Content-Encoding would be that of the parts with their heads (RFC 9110 section 8.4), which nobody has compressed.
                Asked::Ranges(ranges) if ranges.len() > 1 && about.coding.is_some() => Asked::Whole,
                asked => asked,
            }
        }
        _ => Asked::Whole,
    };
    let (len, kind) = (about.len, about.kind.clone());
    let parts = |range| vec![Part { head: String::new(), range }];
    match asked {
        Asked::Nothing => StatusCode::RANGE_NOT_SATISFIABLE
            .into_response()
            .with_header(header::CONTENT_RANGE, text(format!("bytes */{len}"))),
        Asked::Whole => {
            fill(Response::new(StatusCode::OK), &about, content, parts(0..len), String::new(), kind)
        }
        Asked::Ranges(ranges) if ranges.len() == 1 => {
            let Range { start, end } = ranges[0];
            let answer = Response::new(StatusCode::PARTIAL_CONTENT)
                .with_header(header::CONTENT_RANGE, text(format!("bytes {start}-{}/{len}", end - 1)));
            fill(answer, &about, content, parts(start..end), String::new(), kind)
        }
        // RFC 9110 section 14.6.
        Asked::Ranges(ranges) => {
            let boundary = boundary(&about.validators);
            let part = |range| Part { head: part_head(&boundary, &kind, &range, len), range };
            let parts = ranges.into_iter().map(part).collect();
            let kind = text(format!("multipart/byteranges; boundary={boundary}"));
            let answer = Response::new(StatusCode::PARTIAL_CONTENT);
            fill(answer, &about, content, parts, format!("\r\n--{boundary}--\r\n"), kind)
        }
    }
}

/// The answer with these parts of the file in it, and what describes them.
fn fill(
    answer: Response,
    about: &About,
    content: Content,
    parts: Vec<Part>,
    tail: String,
    kind: HeaderValue,
) -> Response {
    let mut answer = about.dress(answer).with_header(header::CONTENT_TYPE, kind);
    if let Some(coding) = about.coding {
        answer = answer.with_header(header::CONTENT_ENCODING, HeaderValue::from_static(coding));
    }
    let content = match content {
        Content::Read(content) => content,
        Content::Open(file) => return answer.with_pieces(Pieces::new(file, parts, tail)),
    };
    if let [Part { head, range }] = &parts[..]
        && head.is_empty()
    {
        return answer.with_body(content.slice(range.start as usize..range.end as usize));
    }
    let mut body = Vec::new();
    for Part { head, range } in parts {
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(&content[range.start as usize..range.end as usize]);
    }
    body.extend_from_slice(tail.as_bytes());
    answer.with_body(body.into())
}

/// Nobody can foresee it who does not know the file, and no file can hold its own inode, length and time by accident.
fn boundary(validators: &Validators) -> String {
    format!("annulet-{}", validators.etag.trim_matches('"'))
}

fn part_head(boundary: &str, kind: &HeaderValue, range: &Range<u64>, len: u64) -> String {
    let kind = kind.to_str().unwrap_or_default();
    let Range { start, end } = range;
    format!(
        "\r\n--{boundary}\r\ncontent-type: {kind}\r\ncontent-range: bytes {start}-{}/{len}\r\n\r\n",
        end - 1
    )
}

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use super::*;

    fn content_of(looked: Lookup<Ready>) -> String {
        let Lookup::File(Ready { content: Content::Read(content), .. }) = looked else {
            panic!("a short file is there")
        };
        String::from_utf8(content.to_vec()).unwrap()
    }

    #[test]
    fn what_is_in_memory_needs_no_other_thread() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("a"), "content").unwrap();
        annulet::run(async {
            let files = ServeDir::new(directory.path()).unwrap();
            // Again, because somebody who mounts a file system meanwhile makes the kernel look twice.
            for _ in 0..100 {
                let mut look = Box::pin(files.look("/a", Codings::default(), false));
                let polled = std::future::poll_fn(|cx| Poll::Ready(look.as_mut().poll(cx))).await;
                if let Poll::Ready(looked) = polled {
                    return assert_eq!(content_of(looked.unwrap()), "content");
                }
            }
            let at_once = open::find(&files.root, "/a", &Codings::default(), Way::Cached);
            let Ok(Lookup::File(mut at_once)) = at_once else {
                return println!(
                    "skipped: this kernel, or this file system, does not look up without waiting"
                );
            };
            at_once.read_cached();
            assert!(at_once.wants_content(), "the file is in memory");
            println!("skipped: this file system does not read without waiting");
        });
    }

    #[test]
    fn what_a_turn_has_found_is_good_until_its_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a");
        let files = ServeDir::new(directory.path()).unwrap();
        let other = ServeDir::new(directory.path()).unwrap();
        if open::find(&files.root, "/", &Codings::default(), Way::Cached).is_err() {
            return println!("skipped: this kernel, or this file system, does not look up without waiting");
        }
        let look = async |files: &ServeDir, codings, shared| {
            let turn = annulet::future::turn();
            let content = content_of(files.look("/a", codings, shared).await.unwrap());
            assert_eq!(annulet::future::turn(), turn, "it had to wait");
            content
        };
        let plain = Codings::default();
        for content in ["1", "2", "3"] {
            // Another loop on this thread counts its turns from the beginning.
            std::fs::write(&path, content).unwrap();
            annulet::run(async { assert_eq!(look(&files, plain, true).await, content) });
        }
        annulet::run(async {
            std::fs::write(&path, "old").unwrap();
            std::fs::write(directory.path().join("a.gz"), "smaller").unwrap();
            assert_eq!(look(&files, plain, true).await, "old");
            std::fs::write(&path, "new").unwrap();
            assert_eq!(look(&files, plain, true).await, "old");
            assert_eq!(look(&files.clone(), plain, true).await, "old", "a clone is the same");
            assert_eq!(look(&other, plain, true).await, "new", "another one has not looked yet");
            let gzip = codings(&[&b"gzip"[..]].into_iter());
            assert_eq!(look(&files, gzip, true).await, "smaller");
            assert_eq!(look(&files, plain, false).await, "new", "not shared");
            assert_eq!(look(&files, plain, true).await, "new", "the last look counts");
            std::fs::write(&path, "newest").unwrap();
            annulet::future::end_turn();
            annulet::yield_now().await;
            assert_eq!(look(&files, plain, true).await, "newest");
        });
        assert!(turn::find(&files.root, "/a", &plain).is_none(), "outside of a loop nothing is kept");
    }

    #[test]
    fn accepted_codings() {
        let check = |accepted: &str, expected: &str| {
            let names: Vec<_> =
                codings(&[accepted.as_bytes()].into_iter()).iter().flatten().map(|form| form.0).collect();
            assert_eq!(names.join(" "), expected, "{accepted:?}");
        };
        check("", "");
        check("gzip", "gzip");
        check("gzip, deflate, br", "br gzip");
        check("GZIP;q=0.5, br;q=0.1", "gzip br");
        check("br;q=0", "");
        check("*", "br gzip");
        check("*, br;q=0", "gzip");
        check("gzip;q=0.5, identity", "");
        check("gzip;q=nonsense", "");
        check("gzipx", "");
        check("x-gzip", "gzip");
        check("X-GZIP;q=0, *", "br");
        check("x-br", "");
    }
}
