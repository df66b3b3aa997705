//! A server under measurement: its command line, its process, its end.
//!
//! Only processes started here are ended, and only on this machine is anything started.

use std::fs::File;
use std::io::{Read, Seek};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use super::tree::Tree;
use crate::exit::{Exit, Failure};

const READY_TIME_MAX: Duration = Duration::from_secs(10);
const STOP_TIME_MAX: Duration = Duration::from_secs(5);
const POLL_TIME: Duration = Duration::from_millis(10);

/// What the user gave: a command that starts a server, and what it is called in the tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Spec {
    pub(crate) name: String,
    /// With its placeholders.
    pub(crate) command: String,
    /// Where it listens, if the command does not say it by a placeholder.
    address: Option<SocketAddr>,
}

impl Spec {
    /// Reads `COMMAND`, `NAME=COMMAND` or `NAME@ADDRESS=COMMAND`; without a name it is called by a letter.
    ///
    /// # Errors
    ///
    /// When nothing says where it listens.
    pub(crate) fn parse(text: &str, position: usize) -> Result<Spec, String> {
        let letter = char::from(b'A' + u8::try_from(position.min(25)).unwrap_or(25)).to_string();
        let (label, command) = match text.split_once('=') {
            Some((label, command)) if is_label(label) => (label, command),
            _ => (letter.as_str(), text),
        };
        let (name, address) = match label.split_once('@') {
            Some((name, address)) => {
                let address =
                    address.parse().map_err(|_| format!("{address:?} is no address with a port"))?;
                (name, Some(address))
            }
            None => (label, None),
        };
        if address.is_none() && !["{port}", "{listen}"].iter().any(|place| command.contains(place)) {
            return Err(format!(
                "{command:?} does not say where it listens: write {{listen}} (127.0.0.1:PORT) or {{port}} where the \
                 command takes it, or name the address it always has: {name}@127.0.0.1:8000={command}"
            ));
        }
        Ok(Spec { name: name.to_owned(), command: command.to_owned(), address })
    }
}

/// A name, perhaps with an address: what may stand before `=`.
fn is_label(text: &str) -> bool {
    let name = text.split_once('@').map_or(text, |(name, _)| name);
    name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

/// A server that runs.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) name: String,
    pub(crate) address: SocketAddr,
    child: Child,
}

impl Server {
    /// Starts the command on these cores and waits until its address takes a connection.
    ///
    /// # Errors
    ///
    /// When it does not start, ends again, or listens to nobody; with what it wrote to its standard error.
    pub(crate) fn start(spec: &Spec, cores: &[usize]) -> Result<Server, Failure> {
        let address =
            spec.address.map_or_else(free_address, Ok).map_err(|error| failed(spec, &error.to_string()))?;
        if TcpStream::connect_timeout(&address, POLL_TIME).is_ok() {
            return Err(failed(spec, &format!("something else answers at {address} already")));
        }
        let list: Vec<String> = cores.iter().map(ToString::to_string).collect();
        let command = spec
            .command
            .replace("{listen}", &address.to_string())
            .replace("{port}", &address.port().to_string())
            .replace("{core}", &cores[0].to_string())
            .replace("{cores}", &list.join(","));
        let words = shlex::split(&command)
            .filter(|words| !words.is_empty())
            .ok_or_else(|| failed(spec, "the quotes in the command do not match"))?;
        let errors = tempfile::tempfile().map_err(|error| failed(spec, &error.to_string()))?;
        let said = errors.try_clone().map_err(|error| failed(spec, &error.to_string()))?;
        let child = pinned(cores, || {
            Command::new(&words[0])
                .args(&words[1..])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(said)
                // A Ctrl-C in the terminal is for us; we end what we started.
                .process_group(0)
                .spawn()
        })
        .map_err(|error| failed(spec, &format!("{}: {error}", words[0])))?;
        let mut server = Server { name: spec.name.clone(), address, child };
        server.wait_ready(errors).map_err(|why| failed(spec, &why))?;
        Ok(server)
    }

    fn wait_ready(&mut self, mut errors: File) -> Result<(), String> {
        let deadline = Instant::now() + READY_TIME_MAX;
        loop {
            if TcpStream::connect_timeout(&self.address, Duration::from_secs(1)).is_ok() {
                return Ok(());
            }
            let ended = self.child.try_wait().map_err(|error| error.to_string())?;
            if ended.is_none() && Instant::now() < deadline {
                thread::sleep(POLL_TIME);
                continue;
            }
            let mut said = String::new();
            let _ = errors.rewind().and_then(|()| errors.read_to_string(&mut said));
            let what = match ended {
                Some(status) => format!("ended at once ({status})"),
                None => format!("nobody answers at {} after {} s", self.address, READY_TIME_MAX.as_secs()),
            };
            let last: Vec<&str> = said.lines().rev().take(3).collect();
            let last: Vec<&str> = last.into_iter().rev().collect();
            return Err(if last.is_empty() { what } else { format!("{what}: {}", last.join(" / ")) });
        }
    }

    /// Its processes and what they have used.
    pub(crate) fn tree(&self) -> Tree {
        Tree::read(Path::new("/proc"), self.child.id())
    }

    /// Whether it still runs.
    pub(crate) fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Server {
    /// Asks it to end, then makes it.
    fn drop(&mut self) {
        end(&mut self.child, STOP_TIME_MAX);
    }
}

/// Ends a child that was started as the head of its own process group.
pub(super) fn end(child: &mut Child, patience: Duration) {
    if !matches!(child.try_wait(), Ok(None)) {
        return;
    }
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let signal = |signal| group.map(|group| kill_process_group(group, signal));
    signal(Signal::TERM);
    let deadline = Instant::now() + patience;
    while Instant::now() < deadline {
        if !matches!(child.try_wait(), Ok(None)) {
            return;
        }
        thread::sleep(POLL_TIME);
    }
    signal(Signal::KILL);
    // It cannot fail for a child of ours that nobody else has waited for.
    let _ = child.wait();
}

/// A port that was free a moment ago.
fn free_address() -> std::io::Result<SocketAddr> {
    TcpListener::bind(("127.0.0.1", 0))?.local_addr()
}

/// Runs `spawn` with this thread confined to the cores, which the child inherits; then the thread has its own back.
pub(super) fn pinned<T>(cores: &[usize], spawn: impl FnOnce() -> std::io::Result<T>) -> std::io::Result<T> {
    let mut set = CpuSet::new();
    for &core in cores {
        set.set(core);
    }
    let own = sched_getaffinity(None)?;
    sched_setaffinity(None, &set)?;
    let result = spawn();
    sched_setaffinity(None, &own)?;
    result
}

fn failed(spec: &Spec, why: &str) -> Failure {
    Failure::new(Exit::Unreachable, format!("{} does not serve: {why}", spec.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses() {
        let check = |text: &str, position, name: &str, command: &str, address: Option<&str>| {
            let spec = Spec::parse(text, position).unwrap();
            let address = address.map(|address| address.parse().unwrap());
            assert_eq!(spec, Spec { name: name.into(), command: command.into(), address }, "{text}");
        };
        check("serve {listen}", 0, "A", "serve {listen}", None);
        check("serve --port={port}", 1, "B", "serve --port={port}", None);
        check("new=serve {port}", 1, "new", "serve {port}", None);
        check("old@127.0.0.1:80=serve", 0, "old", "serve", Some("127.0.0.1:80"));
        assert!(Spec::parse("serve", 1).unwrap_err().contains("B@127.0.0.1:8000=serve"));
        assert!(Spec::parse("x@y=serve", 1).unwrap_err().contains("no address"));
    }

    #[test]
    fn what_does_not_serve_says_why() {
        let check = |command: &str, expected: &str| {
            let spec = Spec::parse(command, 0).unwrap();
            let failure = Server::start(&spec, &[own_core()]).unwrap_err();
            assert!(failure.to_string().contains(expected), "{command}: {failure}");
            assert_eq!(failure.code, Exit::Unreachable);
        };
        check("/no/such/file {port}", "No such file");
        check("sh -c 'echo no such flag: {port} >&2; exit 3'", "no such flag");
        check("sh -c 'exit 3' {port}", "ended at once (exit status: 3)");
        check("sh 'a {port}", "quotes");
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        check(&format!("A@{}=true", taken.local_addr().unwrap()), "something else answers");
    }

    fn own_core() -> usize {
        let set = sched_getaffinity(None).unwrap();
        (0..CpuSet::MAX_CPU).find(|&core| set.is_set(core)).unwrap()
    }
}
