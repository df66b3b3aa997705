//! A running annulet-serve.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// A server process; killed when it is dropped.
pub(crate) struct Served {
    child: Child,
    pub(crate) address: SocketAddr,
    /// What it said when it was ready.
    pub(crate) greeting: String,
}

/// annulet-serve with these arguments.
pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_annulet-serve"));
    command.args(arguments).stdin(Stdio::null());
    command
}

impl Served {
    /// Starts it on a free port and waits until it listens.
    pub(crate) fn start(arguments: &[&str]) -> Served {
        Served::start_by(command(&[]).args(arguments))
    }

    /// Starts it by this command, which is given the address besides.
    pub(crate) fn start_by(command: &mut Command) -> Served {
        let mut child = command
            .args(["--listen", "127.0.0.1:0"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("annulet-serve starts");
        let mut greeting = String::new();
        let mut lines = BufReader::new(child.stdout.take().expect("piped"));
        while !greeting.contains("ring ") {
            assert_ne!(lines.read_line(&mut greeting).unwrap(), 0, "it ended after saying {greeting:?}");
        }
        let address = greeting.split("://").nth(1).and_then(|rest| rest.split('/').next()).unwrap();
        Served { child, address: address.parse().unwrap(), greeting }
    }

    /// The process's number.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Resident memory in bytes.
    pub(crate) fn resident(&self) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Waits until it says a line on stderr with these words; `said` gives what follows.
    #[cfg(feature = "tls")]
    pub(crate) fn wait_for_line(&mut self, words: &str) {
        use rustix::event::{PollFd, PollFlags, Timespec};
        let mut line = String::new();
        let stderr = self.child.stderr.as_mut().expect("piped");
        // Byte by byte: nothing behind the line is taken.
        while !(line.ends_with('\n') && line.contains(words)) {
            if line.ends_with('\n') {
                line.clear();
            }
            let mut waits = [PollFd::new(stderr, PollFlags::IN)];
            let ready = rustix::event::poll(&mut waits, Some(&Timespec { tv_sec: 30, tv_nsec: 0 })).unwrap();
            assert_ne!(ready, 0, "it does not say {words:?}, but {line:?}");
            let mut byte = [0];
            stderr.read_exact(&mut byte).expect("it goes on");
            line.push(char::from(byte[0]));
        }
    }

    /// What it said on stderr, once it has ended.
    pub(crate) fn said(&mut self) -> String {
        let mut said = String::new();
        self.child.stderr.as_mut().expect("piped").read_to_string(&mut said).unwrap();
        said
    }

    /// Whether it has ended.
    pub(crate) fn is_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits until it has ended.
    pub(crate) fn wait(&mut self, at_most: Duration) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(start.elapsed() < at_most, "it is still there after {at_most:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks for `path`; the connection stays open.
pub(crate) fn ask(stream: &mut TcpStream, path: &str) {
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n").as_bytes()).unwrap();
}

/// Reads once. A read with a time limit is not restarted after a signal, whatever its handler asks for (signal(7)).
pub(crate) fn read(stream: &mut TcpStream, bytes: &mut [u8]) -> usize {
    loop {
        match stream.read(bytes) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result.unwrap(),
        }
    }
}

/// Reads one answer with a Content-Length: status line and body. Nothing may follow it.
pub(crate) fn answer(stream: &mut TcpStream) -> (String, String) {
    let mut bytes = [0; 4096];
    let mut filled = 0;
    loop {
        // As few reads as there are packets: ten thousand clients are read one after the other.
        let count = read(stream, &mut bytes[filled..]);
        assert_ne!(count, 0, "the connection ended after {:?}", String::from_utf8_lossy(&bytes[..filled]));
        filled += count;
        let text = std::str::from_utf8(&bytes[..filled]).unwrap();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head
            .lines()
            .find_map(|line| line.to_lowercase().strip_prefix("content-length: ").map(String::from));
        let length: usize = length.expect("an answer with a length").parse().unwrap();
        assert!(body.len() <= length, "{text:?}");
        if body.len() == length {
            return (head.lines().next().unwrap().to_owned(), body.to_owned());
        }
    }
}

/// A core that this process may use.
pub(crate) fn first_core() -> String {
    annulet::placement::available_cores().unwrap()[0].to_string()
}
