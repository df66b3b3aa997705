//! Servers that misbehave as they are told, and the instrument as a process.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

pub(crate) const HELLO: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

/// What a run came to.
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
    pub(crate) took: Duration,
}

impl Ran {
    /// It took no longer than it may. Where other tests run beside it, this can only tell a run that hangs;
    /// `ANNULET_STRICT=1` holds the bound itself.
    #[track_caller]
    pub(crate) fn within(&self, at_most: Duration) {
        let strict = std::env::var_os("ANNULET_STRICT").is_some();
        let at_most = if strict { at_most } else { at_most + Duration::from_secs(20) };
        assert!(self.took < at_most, "{:?}: {}", self.took, self.err);
    }

    /// The report, for runs with `--json -`.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}\n{}", self.out, self.err))
    }
}

/// Runs `annulet-bench` with the words of a line.
pub(crate) fn run(line: &str) -> Ran {
    let start = Instant::now();
    let Output { status, stdout, stderr } = Command::new(env!("CARGO_BIN_EXE_annulet-bench"))
        .args(line.split_whitespace())
        .stdin(Stdio::null())
        .output()
        .expect("the binary was built");
    let text = |bytes| String::from_utf8(bytes).expect("it writes UTF-8");
    let ran = Ran {
        code: status.code().unwrap_or(-1),
        out: text(stdout),
        err: text(stderr),
        took: start.elapsed(),
    };
    assert!(!ran.err.contains("panicked"), "{line}: {}", ran.err);
    ran
}

/// A server that calls `serve` with each connection, on a thread each. It ends with the test's process.
pub(crate) fn server(serve: impl Fn(TcpStream) + Send + Clone + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let serve = serve.clone();
            thread::spawn(move || serve(stream));
        }
    });
    address
}

/// A server that answers every request with the same bytes.
pub(crate) fn answering(answer: &'static [u8]) -> SocketAddr {
    server(move |mut stream| while read_request(&mut stream).is_some() && stream.write_all(answer).is_ok() {})
}

/// Reads up to the end of a head; `None` at the end of the stream.
pub(crate) fn read_request(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return None,
        }
    }
    Some(head)
}
