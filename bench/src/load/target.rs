//! Where requests go: URLs taken apart, the host's address.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::exit::{Exit, Failure};

/// One URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Url {
    /// What goes into Host.
    pub(crate) authority: String,
    /// The host without brackets, for the resolver.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// Whether it begins with https.
    pub(crate) is_tls: bool,
    /// Path and query. Placeholders are in it as they were given.
    pub(crate) target: String,
}

impl Url {
    /// Takes a URL apart.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Url, Failure> {
        let wrong = |why: &str| Failure::usage(format!("{text}: {why}"));
        let (is_tls, rest) = match text.split_once("://") {
            Some(("http", rest)) => (false, rest),
            Some(("https", rest)) => (true, rest),
            Some(_) => return Err(wrong("only http:// and https:// can be measured")),
            None => (false, text),
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        if authority.contains('@') {
            return Err(wrong("name and password do not belong into it; use -H 'Authorization: …'"));
        }
        // A fragment is the browser's own.
        let target = target.split('#').next().unwrap_or_default();
        let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
        if target.bytes().any(|b| b <= b' ' || b == 0x7f) {
            return Err(wrong("the path has a character that no request line may have; write it as %20"));
        }
        let (host, port) = match authority.strip_prefix('[').map(|rest| rest.split_once(']')) {
            Some(Some((host, port))) => (host, port),
            Some(None) => return Err(wrong("a ] is missing")),
            None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
        };
        let port = match port {
            "" if is_tls => 443,
            "" => 80,
            port => port
                .strip_prefix(':')
                .and_then(|port| port.parse().ok())
                .ok_or_else(|| wrong("what is the port?"))?,
        };
        if host.is_empty() || !host.is_ascii() || host.bytes().any(|b| b <= b' ' || b == b'"') {
            return Err(wrong("what is the host?"));
        }
        Ok(Url { authority: authority.to_owned(), host: host.to_owned(), port, is_tls, target })
    }
}

/// Looks a host up.
///
/// The resolver of the C library cannot be interrupted and takes its own time, so it runs on a thread that is left behind.
///
/// # Errors
///
/// No such name, or no answer in time.
pub(crate) fn resolve(host: &str, port: u16, timeout: Duration) -> Result<SocketAddr, Failure> {
    if let Ok(address) = host.parse() {
        return Ok(SocketAddr::new(address, port));
    }
    let name = host.to_owned();
    look_up(host, timeout, move || (name.as_str(), port).to_socket_addrs().map(Iterator::collect))
}

/// The same with any resolver.
fn look_up(
    host: &str,
    timeout: Duration,
    resolver: impl FnOnce() -> io::Result<Vec<SocketAddr>> + Send + 'static,
) -> Result<SocketAddr, Failure> {
    let unreachable = |why: String| Failure::new(Exit::Unreachable, format!("cannot look up {host}: {why}"));
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        // Nobody listens any more when it was too late.
        let _ = sender.send(resolver());
    });
    match receiver.recv_timeout(timeout) {
        Ok(Ok(addresses)) => {
            addresses.first().copied().ok_or_else(|| unreachable("the name has no address".into()))
        }
        Ok(Err(error)) => Err(unreachable(error.to_string())),
        Err(_) => Err(unreachable(format!("no answer from the resolver within {timeout:?} (--timeout)"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let check = |text: &str, host: &str, port, authority: &str, target: &str| {
            let (authority, host, target) = (authority.into(), host.into(), target.into());
            let expected = Url { authority, host, port, is_tls: text.starts_with("https"), target };
            assert_eq!(Url::parse(text).unwrap(), expected, "{text}");
        };
        check("http://127.0.0.1:8000/", "127.0.0.1", 8000, "127.0.0.1:8000", "/");
        check("http://a", "a", 80, "a", "/");
        check("a:81/x", "a", 81, "a:81", "/x");
        check("http://a?q=1#top", "a", 80, "a", "/?q=1");
        check("http://[::1]:8/a/{counter}", "::1", 8, "[::1]:8", "/a/{counter}");
        check("http://[::1]/", "::1", 80, "[::1]", "/");
        check("https://a/x", "a", 443, "a", "/x");
        check("https://a:8443", "a", 8443, "a:8443", "/");
    }

    #[test]
    fn urls_that_are_none() {
        let check = |text: &str, expected: &str| {
            let error = Url::parse(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        };
        check("ftp://a/", "only http:// and https://");
        check("http:///", "what is the host");
        check("http://a:x/", "what is the port");
        check("http://a:99999/", "what is the port");
        check("http://u:p@a/", "Authorization");
        check("http://[::1/", "] is missing");
        check("http://a/x y", "%20");
    }

    #[test]
    fn names() {
        let second = Duration::from_secs(2);
        assert_eq!(resolve("::1", 80, second).unwrap().to_string(), "[::1]:80");
        assert!(resolve("localhost", 80, second).unwrap().ip().is_loopback());
    }

    #[test]
    fn resolvers_that_are_slow_or_have_nothing() {
        let (hold, held) = mpsc::channel::<()>();
        // Ends when the test has.
        let slow = move || {
            let _ = held.recv();
            Ok(Vec::new())
        };
        let failure = look_up("a.example", Duration::from_millis(20), slow).unwrap_err();
        assert_eq!(failure.code, Exit::Unreachable);
        assert!(failure.to_string().contains("no answer from the resolver within 20ms"), "{failure}");
        drop(hold);
        let minute = Duration::from_secs(60);
        let failure = look_up("a.example", minute, || Ok(Vec::new())).unwrap_err();
        assert!(failure.to_string().contains("the name has no address"), "{failure}");
        let failure = look_up("a.example", minute, || Err(io::Error::other("no such name"))).unwrap_err();
        assert!(failure.to_string().contains("cannot look up a.example: no such name"), "{failure}");
    }
}
