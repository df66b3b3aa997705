//! Writes the requests of the conformance cases, and a few answers, paths and ranges, where the fuzz targets find them: `corpus/`
//! in the folder that is named. What they add is up to `cargo fuzz cmin`.
#[allow(dead_code)]
#[path = "../../tests/conformance/table.rs"]
mod table;

use std::fs;
use std::path::Path;

const ANSWERS: &[&str] = &[
    "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nDate: Sat, 21 Nov 2026 08:00:00 GMT\r\n\r\nhello",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nx: y\r\n\r\n",
    "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nup to the end",
    "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 404 \r\nContent-Length: 0\r\n\r\n",
    "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n",
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
    "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
    "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
    "HTTP/1.1 200 OK\r\nx: a\r\n folded\r\n\r\n",
];

const PATHS: &[&str] = &[
    "/",
    "/a",
    "/a.gz",
    "/d",
    "/d/",
    "/d/e/f",
    "/in/f",
    "/one/x",
    "/one/%41%2f",
    "/two/a/b/c",
    "/rest/a/b/c",
    "/rest/%2e%2e/%2e%2e/secret",
    "/../secret",
    "/d/../../secret",
    "/%2e%2e/secret",
    "/..%2fsecret",
    "/up/secret",
    "/s",
    "/slash/etc/passwd",
    "/proc/etc/passwd",
    "/.secret",
    "/d/.git",
    "/%2esecret",
    "/100%25",
    "/a%00",
    "/a/",
    "//a",
    "/d//e",
    "/one/a?b=c",
    "http://a/one/x",
    "*",
    "/one/%",
    "/one/%ff",
];

const RANGES: &[&str] = &[
    "bytes=0-0",
    "bytes=2-",
    "bytes=-3",
    "bytes=0-4,6-8",
    "bytes=8-9, 0-1,",
    "bytes=10-",
    "bytes=4-2",
    "bytes=-0",
    "bytes=0-18446744073709551615",
    "Bytes = 1-1",
    "lines=0-1",
    "bytes=",
    "bytes=-18446744073709551616",
];

fn main() {
    let folder = std::env::args().nth(1).expect("seeds FOLDER");
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/conformance/cases");
    let mut requests = Vec::new();
    for file in fs::read_dir(cases).unwrap() {
        let text = fs::read_to_string(file.unwrap().path()).unwrap();
        requests.extend(table::cases(&text).map(|case| case.request));
    }
    // `server` begins with those of `connection`.
    for target in ["head", "connection"] {
        write(&folder, target, &requests);
    }
    let bodies = requests.iter().filter(|request| find(request, b"chunked").is_some());
    let bodies = bodies.filter_map(|request| Some(request[find(request, b"\r\n\r\n")? + 4..].to_vec()));
    write(&folder, "chunked", &bodies.collect::<Vec<_>>());
    write(&folder, "response", ANSWERS);
    write(&folder, "target", PATHS);
    write(&folder, "range", RANGES);
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

fn write(folder: &str, target: &str, inputs: &[impl AsRef<[u8]>]) {
    let folder = Path::new(folder).join(target);
    fs::create_dir_all(&folder).unwrap();
    for (nth, input) in inputs.iter().enumerate() {
        fs::write(folder.join(format!("seed-{nth:04}")), input).unwrap();
    }
}
