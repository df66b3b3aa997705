//! The request target: its four forms, and which characters may stand in them (RFC 9112 section 3.2).
use super::span::Span;
use super::syntax::{self, PATH, QUERY};
use super::{Limits, Refusal};

/// The parts of a request target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) path: Span,
    pub(super) query: Option<Span>,
    /// Only of the absolute form.
    pub(super) authority: Option<Span>,
    pub(super) path_is_escaped: bool,
    /// Whether it is an `https` URI.
    pub(super) is_https: bool,
}

/// The four forms of RFC 9112 section 3.2. `start` is where the target stands in the head.
pub(super) fn split_target(method: &[u8], target: &[u8], start: u16) -> Result<Target, Refusal> {
    if method == b"CONNECT" {
        return Err(Refusal::MethodUnknown);
    }
    if target.first() == Some(&b'/') {
        return split_path(target, start);
    }
    if target == b"*" && method == b"OPTIONS" {
        let path = Span { start, len: 1 };
        return Ok(Target { path, query: None, authority: None, path_is_escaped: false, is_https: false });
    }
    split_absolute(target, start)
}

/// Path and query, each character checked.
fn split_path(target: &[u8], start: u16) -> Result<Target, Refusal> {
    let path_len = memchr::memchr(b'?', target).unwrap_or(target.len());
    let (path, query) = target.split_at(path_len);
    let query = query.get(1..);
    if !syntax::all(path, PATH) || !syntax::all(query.unwrap_or_default(), QUERY) {
        return Err(Refusal::Target);
    }
    // Not in the query: the URL standard lets browsers send "100%" there as it was typed.
    let path_is_escaped = memchr::memchr(b'%', path).is_some();
    if path_is_escaped && !syntax::escapes_are_whole(path) {
        return Err(Refusal::Escape);
    }
    Ok(Target {
        path: Span { start, len: path_len as u16 },
        query: query.map(|query| Span { start: start + path_len as u16 + 1, len: query.len() as u16 }),
        authority: None,
        path_is_escaped,
        is_https: false,
    })
}

/// RFC 9112 section 3.2.2.
#[cold]
fn split_absolute(target: &[u8], start: u16) -> Result<Target, Refusal> {
    let scheme_len = [&b"http://"[..], b"https://"]
        .into_iter()
        .find(|scheme| target.get(..scheme.len()).is_some_and(|head| head.eq_ignore_ascii_case(scheme)))
        .map(<[u8]>::len)
        .ok_or(Refusal::Target)?;
    let rest = &target[scheme_len..];
    let (authority, rest) = rest.split_at(rest.iter().position(|b| b"/?".contains(b)).unwrap_or(rest.len()));
    // RFC 9110 section 4.2.1: an http URI without a host is invalid. User information is no host either.
    if authority.is_empty() || authority[0] == b':' || !syntax::is_host(authority) {
        return Err(Refusal::HostMalformed);
    }
    let authority = Span { start: start + scheme_len as u16, len: authority.len() as u16 };
    let mut split = split_path(rest, authority.start + authority.len)?;
    if split.path.len == 0 {
        // An empty path means "/", and there is one right before the authority.
        split.path = Span { start: authority.start - 1, len: 1 };
    }
    Ok(Target { authority: Some(authority), is_https: scheme_len == b"https://".len(), ..split })
}

#[cold]
pub(super) fn target_is_too_long(window: &[u8], limits: &Limits) -> bool {
    let line = &window[..memchr::memchr(b'\n', window).unwrap_or(window.len())];
    line.splitn(3, |&b| b == b' ').nth(1).is_some_and(|target| target.len() > limits.target_bytes)
}
