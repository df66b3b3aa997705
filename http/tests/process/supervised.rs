//! A running annulet-serve whose processes, and what they say, are looked at while it runs.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

use crate::served::{answer, ask};

/// Nothing takes as long, on a machine that has other things to do as well.
pub(crate) const TIME_MAX: Duration = Duration::from_secs(100);

/// A supervisor; killed when it is dropped, and with it whoever has taken over.
pub(crate) struct Supervised {
    child: Child,
    pub(crate) address: SocketAddr,
    /// What it said when it was ready.
    pub(crate) greeting: String,
    /// What all its processes say on stderr.
    said: Arc<Mutex<String>>,
    /// Whoever took over, to be killed in the end.
    pub(crate) successors: Vec<u32>,
}

/// Asks again and again, with pauses, until there is an answer.
#[track_caller]
pub(crate) fn until<T>(what: &str, mut asked: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = asked() {
            return found;
        }
        assert!(start.elapsed() < TIME_MAX, "it did not come to pass: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

impl Supervised {
    /// Starts it on a free port and waits until it serves.
    #[track_caller]
    pub(crate) fn start(arguments: &[&str]) -> Supervised {
        let mut command = Command::new(env!("CARGO_BIN_EXE_annulet-serve"));
        command.args(["--listen", "127.0.0.1:0"]).args(arguments);
        Supervised::of(&mut command)
    }

    /// Starts `command` and waits until it says where it listens.
    #[track_caller]
    pub(crate) fn of(command: &mut Command) -> Supervised {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("annulet-serve starts");
        let said = Arc::new(Mutex::new(String::new()));
        let heard = Arc::clone(&said);
        let mut stderr = BufReader::new(child.stderr.take().expect("piped"));
        std::thread::spawn(move || {
            let mut line = String::new();
            while stderr.read_line(&mut line).is_ok_and(|count| count > 0) {
                eprint!("{line}");
                heard.lock().unwrap_or_else(PoisonError::into_inner).push_str(&std::mem::take(&mut line));
            }
        });
        let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
        let (line_of, lines) = mpsc::channel();
        // Reads on after the greeting: a successor greets as well, and must not find the pipe closed.
        std::thread::spawn(move || {
            let mut line = String::new();
            while stdout.read_line(&mut line).is_ok_and(|count| count > 0) {
                // Nobody listens any more once it serves.
                let _ = line_of.send(std::mem::take(&mut line));
            }
        });
        let mut greeting = String::new();
        while !greeting.contains("ring ") {
            match lines.recv_timeout(TIME_MAX) {
                Ok(line) => greeting.push_str(&line),
                Err(error) => {
                    let _ = child.kill();
                    panic!("it does not serve ({error}), after saying {greeting:?}");
                }
            }
        }
        let address = greeting.split("://").nth(1).and_then(|rest| rest.split('/').next()).unwrap();
        Supervised { child, address: address.parse().unwrap(), greeting, said, successors: Vec::new() }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, name: &str) {
        signal(self.pid(), name);
    }

    pub(crate) fn said(&self) -> MutexGuard<'_, String> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `words` have been said, `times` times.
    #[track_caller]
    pub(crate) fn hear(&self, words: &str, times: usize) {
        until(words, || (self.said().matches(words).count() >= times).then_some(()));
    }

    /// Its workers, once there are so many.
    #[track_caller]
    pub(crate) fn workers(&self, count: usize) -> Vec<u32> {
        workers(self.pid(), count)
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn wait(&mut self) -> ExitStatus {
        until("it ends", || self.child.try_wait().unwrap())
    }

    /// A new connection is answered, sooner or later: one that is made while a worker dies may die with it.
    #[track_caller]
    pub(crate) fn check_serves_again(&self) {
        until("it serves again", || {
            let mut stream = TcpStream::connect(self.address).ok()?;
            stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
            stream.write_all(b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").ok()?;
            let mut all = String::new();
            stream.read_to_string(&mut all).ok()?;
            all.ends_with("<h1>Index</h1>").then_some(())
        });
    }

    /// A new connection is answered.
    #[track_caller]
    pub(crate) fn check_serves(&self) {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(TIME_MAX)).unwrap();
        ask(&mut stream, "/");
        assert_eq!(answer(&mut stream), ("HTTP/1.1 200 OK".to_owned(), "<h1>Index</h1>".to_owned()));
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        // Any of them may have ended by itself; workers end with their supervisors.
        let _ = self.child.kill();
        let _ = self.child.wait();
        for pid in &self.successors {
            let _ =
                Command::new("kill").args(["-s", "KILL", &pid.to_string()]).stderr(Stdio::null()).status();
        }
    }
}

/// Sends a signal.
#[track_caller]
pub(crate) fn signal(pid: u32, name: &str) {
    let sent = Command::new("kill").args(["-s", name, &pid.to_string()]).status().unwrap();
    assert!(sent.success(), "SIG{name} to {pid}");
}

/// The workers of a supervisor once there are so many: its children that have a ring.
#[track_caller]
pub(crate) fn workers(supervisor: u32, count: usize) -> Vec<u32> {
    until(&format!("{supervisor} has {count} workers"), || {
        let mut workers = children(supervisor);
        workers.retain(|&pid| has_ring(pid));
        (workers.len() == count).then_some(workers)
    })
}

/// Whether one of its descriptors is an io_uring.
pub(crate) fn has_ring(pid: u32) -> bool {
    let Ok(descriptors) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    let mut targets = descriptors.flatten().flat_map(|entry| std::fs::read_link(entry.path()));
    targets.any(|target| target.to_string_lossy().contains("io_uring"))
}

/// Its child processes.
pub(crate) fn children(pid: u32) -> Vec<u32> {
    let list = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    list.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

/// A field of /proc/PID/status; none when the process is gone.
pub(crate) fn status(pid: u32, field: &str) -> Option<String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find(|line| line.starts_with(&format!("{field}:")))?;
    line.split_once(':').map(|(_, value)| value.trim().to_owned())
}

/// Whether it is there, and no zombie.
pub(crate) fn lives(pid: u32) -> bool {
    status(pid, "State").is_some_and(|state| !state.starts_with('Z'))
}
