//! Paths: parameters are decoded as anybody would, and no path leads to a file that should not be seen.
#[allow(dead_code)]
#[path = "../../src/files/conditions.rs"]
mod conditions;
#[allow(dead_code)]
#[path = "../../src/files/open.rs"]
mod open;
#[allow(dead_code)]
#[path = "../../src/files/shared.rs"]
mod shared;

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::time::Instant;

use annulet_http::offline::{Offline, Outcome};
use annulet_http::{Limits, Request, Router};
use open::{Lookup, Way, find, relative};

/// What every file that must not be seen contains.
const SECRET: &[u8] = b"secret";

struct Site {
    offline: Offline,
    root: OwnedFd,
}

thread_local! {
    static SITE: Site = site();
}

fn site() -> Site {
    let above = std::env::temp_dir().join(format!("annulet-fuzz-{}", std::process::id()));
    let root = above.join("root");
    fs::create_dir_all(root.join("d/e")).unwrap();
    for (path, content) in [
        ("secret", SECRET),
        ("root/.secret", SECRET),
        ("root/d/.git", SECRET),
        ("root/index.html", b"index"),
        ("root/a", b"a"),
        ("root/a.gz", b"a.gz"),
        ("root/d/index.html", b"d"),
        ("root/d/e/f", b"f"),
        ("root/100%", b"percent"),
    ] {
        fs::write(above.join(path), content).unwrap();
    }
    for (target, link) in
        [("../secret", "s"), ("..", "up"), ("/", "slash"), ("d/e", "in"), ("/proc/self/root", "proc")]
    {
        let _ = symlink(target, root.join(link));
    }
    let decoded = |name: &'static str| async move |request: Request| request.param(name).map(str::to_owned);
    let router = Router::new()
        .get("/one/{a}", decoded("a"))
        .get("/two/{a}/b/{c}", decoded("c"))
        .get("/rest/{*all}", decoded("all"));
    Site { offline: Offline::new(router, Limits::default()), root: open::open_root(&root).unwrap() }
}

pub(super) fn check_input(input: &[u8]) {
    let Ok(path) = str::from_utf8(input) else { return };
    // What ends a target is another target's matter.
    if path.contains([' ', '\r', '\n']) {
        return;
    }
    SITE.with(|site| {
        check_parameters(site, path);
        check_file(site, path);
    });
}

fn check_parameters(site: &Site, path: &str) {
    let head = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut answers = Vec::new();
    let outcome = site.offline.answer(head.as_bytes(), Instant::now(), &mut answers);
    assert_ne!(outcome, Outcome::NeedsConnection);
    let Some((head, content)) = split(&answers) else { return };
    if !head.starts_with(b"HTTP/1.1 200 ") {
        return;
    }
    let path = path.split('?').next().unwrap();
    let segments: Vec<&str> = path.split('/').collect();
    let raw = match &segments[..] {
        ["", "one", a] => *a,
        ["", "two", _, "b", c] => *c,
        ["", "rest", ..] => path.strip_prefix("/rest/").unwrap(),
        // The absolute form.
        _ => return,
    };
    assert_eq!(content, decode(raw.as_bytes()), "{path:?}");
}

fn split(answer: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n")?;
    Some((&answer[..end], &answer[end + 4..]))
}

/// By hand: each `%xy` is a byte, once.
fn decode(mut raw: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::new();
    while let Some((&first, rest)) = raw.split_first() {
        let digit = |b: u8| (b as char).to_digit(16);
        match (first, rest) {
            (b'%', [high, low, rest @ ..]) if digit(*high).is_some() && digit(*low).is_some() => {
                decoded.push((digit(*high).unwrap() * 16 + digit(*low).unwrap()) as u8);
                raw = rest;
            }
            _ => {
                decoded.push(first);
                raw = rest;
            }
        }
    }
    decoded
}

fn check_file(site: &Site, path: &str) {
    let Some(name) = relative(path) else { return };
    let name = name.as_bytes();
    assert!(!name.contains(&0));
    if !name.is_empty() {
        for segment in name.split(|&b| b == b'/') {
            assert!(!segment.is_empty() && (segment[0] != b'.' || segment == b".well-known"), "{path:?}");
        }
    }
    for codings in [[None, None], [Some(("br", ".br")), Some(("gzip", ".gz"))]] {
        for way in [Way::Cached, Way::Waiting] {
            if let Ok(Lookup::File(mut found)) = find(&site.root, path, &codings, way) {
                found.read().unwrap();
                assert_ne!(found.content.expect("all of them are short"), SECRET, "{path:?}");
            }
        }
    }
}
