//! The access log: a line for each answer, into a buffer of the core, which the blocking pool writes to a file.
//!
//! Off by default, and then it costs nothing. What it does not do: rotate files (open it with `O_APPEND` and copy and truncate), wait
//! for a slow disk: beyond its bound lines are dropped and counted.
use std::cell::{Cell, RefCell};
use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::proxy::Peer;

/// Lines are handed to the pool when so many bytes are there, or a second has passed since the last time.
const WRITE_BYTES: usize = 64 * 1024;
/// Beyond this lines are dropped: the disk does not keep up. In bytes.
const WAITING_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Of a request line or a field no more than this is written, in bytes.
const TEXT_BYTES_MAX: usize = 1024;

/// How a line looks.
///
/// The status is 0 if the client was gone, or the connection over, before there was an answer; the bytes are those that were written for
/// the client, which may not have taken all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LogFormat {
    /// `127.0.0.1 - - [06/Nov/1994:08:49:37 +0000] "GET / HTTP/1.1" 200 14`, as NCSA's server wrote it.
    Common,
    /// The same, with Referer and User-Agent behind it.
    Combined,
    /// An object a line: `time`, `client`, `request`, `status`, `bytes`, `referer`, `agent`, `us`.
    Json,
}

/// The access log of one core; see [`Server::with_access_log`](crate::Server::with_access_log).
#[derive(Debug)]
pub struct AccessLog {
    file: Arc<File>,
    format: LogFormat,
    waiting: RefCell<String>,
    is_writing: Cell<bool>,
    /// When the lines that wait are due.
    due: Cell<Option<Instant>>,
    dropped: Cell<u64>,
}

/// What is known of an answer.
#[derive(Debug)]
pub(crate) struct Entry {
    request: String,
    referer: String,
    agent: String,
    /// Where the server keeps it in mind.
    pub(crate) client: Option<IpAddr>,
    begun: Instant,
    pub(crate) status: u16,
    /// Of the content, in bytes.
    pub(crate) bytes: u64,
}

impl AccessLog {
    /// Lines for this file, which several cores may share if it was opened to append.
    #[must_use]
    pub fn new(file: Arc<File>, format: LogFormat) -> AccessLog {
        AccessLog {
            file,
            format,
            waiting: RefCell::default(),
            is_writing: Cell::new(false),
            due: Cell::new(None),
            dropped: Cell::new(0),
        }
    }

    /// Lines that were dropped because the file did not take them in time.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.get()
    }

    /// Adds a line.
    pub(crate) fn push(self: &Rc<AccessLog>, entry: &Entry, client: Option<IpAddr>, now: Instant) {
        if self.waiting.borrow().len() > WAITING_BYTES_MAX {
            self.dropped.set(self.dropped.get() + 1);
            return;
        }
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        entry.write(self.format, client, since_epoch, now, &mut self.waiting.borrow_mut());
        let is_first = self.due.get().is_none();
        if is_first {
            self.due.set(Some(now + Duration::from_secs(1)));
        }
        if self.waiting.borrow().len() >= WRITE_BYTES {
            self.write_out();
        } else if is_first {
            let log = self.clone();
            drop(annulet::spawn(async move {
                annulet::time::sleep(Duration::from_secs(1)).await;
                log.write_out();
            }));
        }
    }

    /// Hands what waits to the pool, unless it is writing already; it comes back here then.
    pub(crate) fn write_out(self: &Rc<AccessLog>) {
        if self.is_writing.get() || self.waiting.borrow().is_empty() {
            return;
        }
        self.due.set(None);
        let lines = self.waiting.take();
        self.is_writing.set(true);
        let (log, file) = (self.clone(), self.file.clone());
        drop(annulet::spawn(async move {
            // Nobody can be told of a full disk but the one who looks at the file.
            let _ = annulet::spawn_blocking(move || (&*file).write_all(lines.as_bytes())).await;
            log.have_written();
        }));
    }

    /// The file is free again. What came due meanwhile follows: its timer has been and gone.
    fn have_written(self: &Rc<AccessLog>) {
        self.is_writing.set(false);
        let is_due = self.due.get().is_some_and(|due| due <= annulet::time::now());
        if is_due || self.waiting.borrow().len() >= WRITE_BYTES {
            self.write_out();
        }
    }
}

/// What the loop has not written yet is written here: the loop is ending.
impl Drop for AccessLog {
    fn drop(&mut self) {
        let _ = (&*self.file).write_all(self.waiting.borrow().as_bytes());
    }
}

impl Entry {
    /// From the bytes of a request, whole or not, of `peer` if that is known.
    pub(crate) fn new(head: &[u8], peer: Option<&Rc<Peer>>, begun: Instant) -> Entry {
        let mut lines =
            head.split(|b| *b == b'\n').map(<[u8]>::trim_ascii).skip_while(|line| line.is_empty());
        let request = lines.next().unwrap_or_default();
        let field = |name: &[u8]| {
            lines.clone().take_while(|line| !line.is_empty()).find_map(|line| {
                let value = line.get(name.len()..)?;
                line.starts_with_ignore_case(name).then(|| shown(value.trim_ascii()))
            })
        };
        let client = peer.and_then(|peer| {
            peer.client_of(|name| {
                let fields = lines.clone().take_while(|line| !line.is_empty());
                let named = fields.filter_map(|line| {
                    let (field, value) =
                        line.split_at_checked(line.iter().position(|byte| *byte == b':')?)?;
                    field.eq_ignore_ascii_case(name.as_bytes()).then(|| value[1..].trim_ascii())
                });
                named.collect()
            })
        });
        let (referer, agent) = (field(b"referer:"), field(b"user-agent:"));
        Entry {
            request: shown(request),
            client,
            referer: referer.unwrap_or_default(),
            agent: agent.unwrap_or_default(),
            begun,
            status: 0,
            bytes: 0,
        }
    }

    /// As `new`, of bytes that are no head, or not yet: what they say of a client is not believed.
    pub(crate) fn refused(head: &[u8], peer: Option<&Rc<Peer>>, begun: Instant) -> Entry {
        let mut entry = Entry::new(head, None, begun);
        entry.believe_no_field(peer);
        entry
    }

    /// The head was refused: its fields are whatever somebody wrote.
    pub(crate) fn believe_no_field(&mut self, peer: Option<&Rc<Peer>>) {
        self.client = peer.and_then(|peer| Some(peer.address?.ip().to_canonical()));
    }

    /// Takes what has been written of the answer.
    pub(crate) fn note(&mut self, answer: &[u8]) {
        let status = answer.get(9..12).and_then(|digits| str::from_utf8(digits).ok());
        self.status = status.and_then(|status| status.parse().ok()).unwrap_or(self.status);
        let head_end = answer.windows(4).position(|window| window == b"\r\n\r\n");
        self.bytes += head_end.map_or(0, |end| answer.len() - end - 4) as u64;
    }

    fn write(&self, format: LogFormat, client: Option<IpAddr>, seconds: u64, now: Instant, out: &mut String) {
        let Entry { request, referer, agent, status, bytes, .. } = self;
        let client = client.map_or_else(|| "-".to_owned(), |client| client.to_string());
        // Writing to a String cannot fail.
        let _ = match format {
            LogFormat::Common | LogFormat::Combined => {
                let time = time_of(seconds);
                write!(out, "{client} - - [{time}] \"{request}\" {status} {bytes}")
            }
            LogFormat::Json => {
                let us = now.saturating_duration_since(self.begun).as_micros();
                write!(
                    out,
                    "{{\"time\":{seconds},\"client\":\"{client}\",\"request\":\"{request}\",\"status\":{status},\
                     \"bytes\":{bytes},\"referer\":\"{referer}\",\"agent\":\"{agent}\",\"us\":{us}}}"
                )
            }
        };
        if format == LogFormat::Combined {
            let or_dash = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
            let _ = write!(out, " \"{}\" \"{}\"", or_dash(referer), or_dash(agent));
        }
        out.push('\n');
    }
}

trait StartsWith {
    fn starts_with_ignore_case(&self, beginning: &[u8]) -> bool;
}

impl StartsWith for &[u8] {
    fn starts_with_ignore_case(&self, beginning: &[u8]) -> bool {
        self.get(..beginning.len()).is_some_and(|start| start.eq_ignore_ascii_case(beginning))
    }
}

/// What a client sent, so that it can break out of no line and no quotes, in JSON either.
fn shown(bytes: &[u8]) -> String {
    let mut out = String::new();
    for &b in &bytes[..bytes.len().min(TEXT_BYTES_MAX)] {
        match b {
            b'"' | b'\\' => {
                out.push('\\');
                out.push(char::from(b));
            }
            b' '..=b'~' => out.push(char::from(b)),
            _ => {
                let _ = write!(out, "\\u{b:04x}");
            }
        }
    }
    out
}

/// `06/Nov/1994:08:49:37 +0000`
fn time_of(seconds: u64) -> String {
    // `Sun, 06 Nov 1994 08:49:37 GMT`
    let date = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds));
    format!("{}/{}/{}:{} +0000", &date[5..7], &date[8..11], &date[12..16], &date[17..25])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_bounded() {
        let head = format!("GET /{} HTTP/1.1\r\nReferer: {}\r\n\r\n", "x".repeat(5000), "y".repeat(5000));
        let entry = Entry::new(head.as_bytes(), None, Instant::now());
        assert_eq!((entry.request.len(), entry.referer.len()), (TEXT_BYTES_MAX, TEXT_BYTES_MAX));
    }

    #[test]
    fn lines_that_were_dropped_are_counted() {
        annulet::run(async {
            let log = Rc::new(AccessLog::new(Arc::new(tempfile::tempfile().unwrap()), LogFormat::Common));
            // The disk takes nothing.
            log.is_writing.set(true);
            let now = annulet::time::now();
            let entry = Entry::new("x".repeat(1000).as_bytes(), None, now);
            while log.waiting.borrow().len() <= WAITING_BYTES_MAX {
                assert_eq!(log.dropped(), 0, "so much may wait");
                log.push(&entry, None, now);
            }
            let waiting = log.waiting.borrow().len();
            for dropped in 1..=3 {
                log.push(&entry, None, now);
                assert_eq!((log.dropped(), log.waiting.borrow().len()), (dropped, waiting));
            }
        });
    }

    /// The file is slow: the second line's timer comes while the first is being written.
    #[test]
    fn lines_that_came_due_during_a_write_follow_it() {
        let ran = annulet::Builder::new().virtual_clock(true).run_local(async {
            let log = Rc::new(AccessLog::new(Arc::new(tempfile::tempfile().unwrap()), LogFormat::Common));
            let push = || {
                let now = annulet::time::now();
                log.push(&Entry::new(b"GET / HTTP/1.1", None, now), None, now);
            };
            log.is_writing.set(true);
            push();
            annulet::time::sleep(Duration::from_secs(5)).await;
            assert!(!log.waiting.borrow().is_empty(), "the file is not free");
            log.have_written();
            assert!(log.waiting.borrow().is_empty(), "nobody else would write it");
            // What is not due has its timer.
            push();
            log.have_written();
            assert!(!log.waiting.borrow().is_empty(), "it is not due");
            annulet::time::sleep(Duration::from_secs(5)).await;
            assert!(log.waiting.borrow().is_empty() || log.is_writing.get());
        });
        ran.unwrap();
    }

    #[test]
    fn lines() {
        let head = b"GET /a\"b HTTP/1.1\r\nHost: a\r\nUSER-AGENT: c\\d\x01\r\n\r\nReferer: no\r\n";
        let begun = Instant::now();
        let mut entry = Entry::new(head, None, begun);
        entry.note(b"HTTP/1.1 404 Not Found\r\na: b\r\n\r\nabc");
        let check = |format, expected: &str| {
            let mut out = String::new();
            let client = Some(IpAddr::from([127, 0, 0, 1]));
            entry.write(format, client, 784_111_777, begun + Duration::from_micros(7), &mut out);
            assert_eq!(out, format!("{expected}\n"));
        };
        let common = r#"127.0.0.1 - - [06/Nov/1994:08:49:37 +0000] "GET /a\"b HTTP/1.1" 404 3"#;
        check(LogFormat::Common, common);
        check(LogFormat::Combined, &format!(r#"{common} "-" "c\\d\u0001""#));
        check(
            LogFormat::Json,
            r#"{"time":784111777,"client":"127.0.0.1","request":"GET /a\"b HTTP/1.1","status":404,"bytes":3,"referer":"","agent":"c\\d\u0001","us":7}"#,
        );
    }
}
