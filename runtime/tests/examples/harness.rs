//! Starts an example as a process, bounded in time, and looks at what it prints.
//!
//! [`check`] is all that most examples need: the name and the whole of its output. [`Example`] takes arguments and
//! variables; [`Running`] talks to one that waits to be told.

// Each topic uses a part of it.
#![allow(dead_code)]

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

/// No example runs for longer, on a machine that has other things to do as well.
const TIME_MAX: Duration = Duration::from_secs(60);

/// Runs the example and compares all that it prints, line by line; blanks around lines and around the text do not
/// count. A line `...` in `expected` stands for any number of lines (none as well), `*` within a line for any text.
#[track_caller]
pub(crate) fn check(name: &str, expected: &str) {
    Example::new(name).check(expected);
}

/// Like [`check`], for lines that may come in any order: both sides are sorted.
#[track_caller]
pub(crate) fn check_sorted(name: &str, expected: &str) {
    Example::new(name).run().check_sorted(expected);
}

/// An example that is to be started.
pub(crate) struct Example {
    name: String,
    command: Command,
}

/// What an example left behind.
pub(crate) struct Output {
    name: String,
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// A started example.
pub(crate) struct Running {
    name: String,
    child: Child,
    stdout: Receiver<String>,
    stderr: Receiver<String>,
    /// Lines of stdout that were taken already.
    taken: String,
    give_up_at: Instant,
}

impl Example {
    #[track_caller]
    pub(crate) fn new(name: &str) -> Self {
        let path = path_of(name);
        assert!(
            path.exists(),
            "the example {name} is not built ({}); `cargo test` builds examples, `cargo test --test examples` does \
             not: run `cargo build --examples` first",
            path.display()
        );
        if let Some(newer) = newer_source(&path) {
            panic!(
                "the example {name} is older than {}; `cargo test` builds examples, `cargo test --test examples` does \
                 not: run `cargo build --examples` first",
                newer.display()
            );
        }
        let mut command = Command::new(path);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Example { name: name.to_owned(), command }
    }

    pub(crate) fn arg(mut self, argument: &str) -> Self {
        self.command.arg(argument);
        self
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    pub(crate) fn current_dir(mut self, path: &Path) -> Self {
        self.command.current_dir(path);
        self
    }

    #[track_caller]
    pub(crate) fn start(mut self) -> Running {
        let mut child = self.command.spawn().expect("an example that exists can be started");
        let stdout = lines_of(child.stdout.take().expect("stdout is piped"));
        let stderr = lines_of(child.stderr.take().expect("stderr is piped"));
        let give_up_at = Instant::now() + TIME_MAX;
        Running { name: self.name, child, stdout, stderr, taken: String::new(), give_up_at }
    }

    /// Runs it to its end, which must be a success.
    #[track_caller]
    pub(crate) fn run(self) -> Output {
        let output = self.start().finish();
        assert!(output.status.success(), "{output}");
        output
    }

    /// See [`check`].
    #[track_caller]
    pub(crate) fn check(self, expected: &str) {
        self.run().check(expected);
    }
}

impl Running {
    pub(crate) fn pid(&self) -> rustix::process::Pid {
        rustix::process::Pid::from_child(&self.child)
    }

    /// Sends it a signal.
    #[track_caller]
    pub(crate) fn kill(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(self.pid(), signal).expect("the example lives until it is waited for");
    }

    /// The next line that it prints.
    #[track_caller]
    pub(crate) fn line(&mut self) -> String {
        match self.stdout.recv_timeout(self.give_up_at.saturating_duration_since(Instant::now())) {
            Ok(line) => {
                self.taken.push_str(&line);
                line.trim_end().to_owned()
            }
            Err(RecvTimeoutError::Disconnected) => panic!("{} ended before this line", self.name),
            Err(RecvTimeoutError::Timeout) => panic!("{} took too long for this line", self.name),
        }
    }

    /// The next line that it writes to stderr.
    #[track_caller]
    pub(crate) fn error_line(&mut self) -> String {
        let left = self.give_up_at.saturating_duration_since(Instant::now());
        match self.stderr.recv_timeout(left) {
            Ok(line) => line.trim_end().to_owned(),
            Err(error) => panic!("{} wrote no such line to stderr: {error}", self.name),
        }
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn finish(mut self) -> Output {
        let mut stdout = std::mem::take(&mut self.taken);
        let mut stderr = String::new();
        let mut is_complete = true;
        for (pipe, text) in [(&self.stdout, &mut stdout), (&self.stderr, &mut stderr)] {
            loop {
                match pipe.recv_timeout(self.give_up_at.saturating_duration_since(Instant::now())) {
                    Ok(line) => text.push_str(&line),
                    Err(RecvTimeoutError::Disconnected) => break,
                    Err(RecvTimeoutError::Timeout) => {
                        is_complete = false;
                        break;
                    }
                }
            }
        }
        if !is_complete {
            // Fails only if it has just ended.
            let _ = self.child.kill();
        }
        // Its pipes are closed: it ends now, or was killed.
        let status = self.child.wait().expect("a child can be waited for");
        let output = Output { name: std::mem::take(&mut self.name), status, stdout, stderr };
        assert!(is_complete, "it took longer than {TIME_MAX:?} and was killed\n{output}");
        output
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // A test that fails half-way leaves no process behind; both calls fail only after `finish`.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Output {
    /// See [`check`].
    #[track_caller]
    pub(crate) fn check(&self, expected: &str) {
        assert!(matches(&lines(expected), &lines(&self.stdout)), "expected:\n{expected}\n\n{self}");
    }

    /// See [`check_sorted`].
    #[track_caller]
    pub(crate) fn check_sorted(&self, expected: &str) {
        let (mut expected_lines, mut found) = (lines(expected), lines(&self.stdout));
        expected_lines.sort_unstable();
        found.sort_unstable();
        assert!(matches(&expected_lines, &found), "expected in any order:\n{expected}\n\n{self}");
    }

    /// The lines of stdout.
    pub(crate) fn lines(&self) -> Vec<&str> {
        lines(&self.stdout)
    }
}

impl std::fmt::Display for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}\n--- stdout\n{}\n--- stderr\n{}", self.name, self.status, self.stdout, self.stderr)
    }
}

/// Beside this test's own binary: target/PROFILE/deps/examples-HASH and target/PROFILE/examples/NAME.
fn path_of(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("a test knows its path");
    let profile = own.parent().and_then(Path::parent).expect("a test lies in target/PROFILE/deps");
    profile.join("examples").join(name)
}

/// A source that was changed after the example was built, or is gone. Cargo lists them in NAME.d beside the example: its
/// own and those of every package of the workspace that is in it.
fn newer_source(example: &Path) -> Option<PathBuf> {
    let changed = |path: &Path| std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    let built = changed(example);
    let list = std::fs::read_to_string(example.with_extension("d")).expect("cargo lists the sources");
    sources(&list).find(|source| changed(source).is_none_or(|changed| Some(changed) > built))
}

/// The right side of `target: source source`; a blank within a path is escaped.
fn sources(list: &str) -> impl Iterator<Item = PathBuf> {
    let list = list.split_once(": ").map_or("", |(_, sources)| sources).trim().replace("\\ ", "\0");
    let sources: Vec<_> = list.split(' ').map(|source| source.replace('\0', " ")).collect();
    sources.into_iter().filter(|source| !source.is_empty()).map(PathBuf::from)
}

fn lines_of(pipe: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let mut pipe = BufReader::new(pipe);
        loop {
            let mut line = Vec::new();
            match pipe.read_until(b'\n', &mut line) {
                Ok(count) if count > 0 => {}
                // The end, or the example was killed.
                _ => return,
            }
            if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                return;
            }
        }
    });
    receiver
}

fn lines(text: &str) -> Vec<&str> {
    text.trim().lines().map(str::trim).collect()
}

fn matches(expected: &[&str], found: &[&str]) -> bool {
    match (expected, found) {
        ([], []) => true,
        (["...", rest @ ..], _) => (0..=found.len()).any(|skipped| matches(rest, &found[skipped..])),
        ([pattern, expected @ ..], [line, found @ ..]) => {
            line_matches(pattern, line) && matches(expected, found)
        }
        _ => false,
    }
}

fn line_matches(pattern: &str, line: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == line,
        Some((start, rest)) => line.strip_prefix(start).is_some_and(|line| {
            line.char_indices()
                .map(|(at, _)| at)
                .chain([line.len()])
                .any(|at| line_matches(rest, &line[at..]))
        }),
    }
}

#[test]
fn patterns_match_what_they_say() {
    let check = |expected: &str, found: &str, is_match| {
        assert_eq!(matches(&lines(expected), &lines(found)), is_match, "{expected:?} against {found:?}");
    };
    check("a\nb", "a\nb\n", true);
    check("a\nb", "b\na", false);
    check("a", "a\nb", false);
    check("...\nb", "b", true);
    check("a\n...\nd", "a\nb\nc\nd", true);
    check("a\n...\ne", "a\nb\nc\nd", false);
    check("took * ms", "took 5 ms", true);
    check("took * ms", "took 5 s", false);
    check("*", "", false);
    check("", "", true);
}

#[test]
fn an_example_that_is_older_than_a_source_is_found() {
    let folder = std::env::temp_dir().join(format!("annulet-harness {}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (example, source) = (folder.join("example"), folder.join("source.rs"));
    let blank_escaped = source.display().to_string().replace(' ', "\\ ");
    std::fs::write(example.with_extension("d"), format!("target: {blank_escaped} {blank_escaped}\n"))
        .unwrap();
    let at = |path: &Path, seconds| {
        let time = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        std::fs::File::create(path).unwrap().set_modified(time).unwrap();
    };
    at(&example, 2000);
    assert_eq!(newer_source(&example), Some(source.clone()), "it is gone");
    at(&source, 1000);
    assert_eq!(newer_source(&example), None);
    at(&source, 3000);
    assert_eq!(newer_source(&example), Some(source));
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
#[should_panic(expected = "cargo build --examples")]
fn an_example_that_is_not_there_is_named_with_the_cure() {
    check("no_such_example", "");
}
