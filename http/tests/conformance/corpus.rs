//! What the fuzz targets ask, of the inputs that their runs have left in `http/fuzz/corpus`. So the targets compile with everything
//! else, and what a run has reached once stays good.
use std::fs;
use std::path::Path;

#[path = "../../fuzz/checks/chunked.rs"]
mod chunked;
#[path = "../../fuzz/checks/connection.rs"]
mod connection;
#[path = "../../fuzz/checks/head.rs"]
mod head;
#[path = "../../fuzz/checks/range.rs"]
mod range;
#[path = "../../fuzz/checks/response.rs"]
mod response;
#[path = "../../fuzz/checks/server.rs"]
mod server;
#[path = "../../fuzz/checks/target.rs"]
mod target;

fn check(corpus: &str, check_input: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(corpus);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    for file in &files {
        // Shown with a failure: the last one is its input.
        println!("{}", file.display());
        check_input(&fs::read(file).unwrap());
    }
    assert!(files.len() >= 50, "{} inputs in {}", files.len(), folder.display());
}

#[test]
fn heads() {
    check("head", head::check_input);
}

#[test]
fn chunked_bodies() {
    check("chunked", chunked::check_input);
}

#[test]
fn connections() {
    check("connection", connection::check_input);
}

#[test]
fn connections_over_sockets() {
    check("connection", server::check_input);
}

#[test]
fn answers() {
    check("response", response::check_input);
}

#[test]
fn ranges() {
    check("range", range::check_input);
}

#[test]
fn paths() {
    check("target", target::check_input);
}
