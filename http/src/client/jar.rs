//! Cookies that servers set, until they go back (RFC 6265 section 5). No I/O and no clock.
//!
//! What it does not do: keep them across runs, and know which domains are registries (the public suffix list). A server may set
//! a cookie for `co.uk` here, as no browser would allow; names without a dot it may not.
use std::time::{Duration, SystemTime};

use super::url::Url;

/// Cookies of a client. Beyond, the oldest goes, secure ones last.
const COOKIES_MAX: usize = 3000;
/// Cookies of one domain. Beyond, its oldest goes, secure ones last.
const COOKIES_PER_DOMAIN_MAX: usize = 50;
/// Name and value of one, in bytes. A longer one is not kept. (RFC 6265 section 6.1 for all three.)
const COOKIE_BYTES_MAX: usize = 4096;

/// The cookies of a client, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Jar(Vec<Kept>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Kept {
    name: String,
    value: String,
    domain: String,
    /// For this host alone, not for those below it.
    is_host_only: bool,
    path: String,
    is_secure: bool,
    /// `None`: as long as the client lives.
    until: Option<SystemTime>,
}

impl Jar {
    /// Takes the value of a Set-Cookie field of an answer from `url`. What a server may not set is left out.
    pub(super) fn store(&mut self, field: &[u8], url: &Url, now: SystemTime) {
        let Some(cookie) = parse(field, url, now) else { return };
        self.0.retain(|kept| kept.is_alive(now));
        // Whoever can write into an open line must not change what came over a safe one (6265bis, section 5.7, step 16).
        if !url.is_secure && self.0.iter().any(|kept| kept.is_secure && cookie.lies_over(kept)) {
            return;
        }
        let is_same = |kept: &Kept| {
            kept.name == cookie.name && kept.domain == cookie.domain && kept.path == cookie.path
        };
        // One that replaces another keeps its age (section 5.3, step 11.3).
        match self.0.iter().position(is_same) {
            Some(at) if !cookie.is_alive(now) => drop(self.0.remove(at)),
            Some(at) => self.0[at] = cookie,
            None if !cookie.is_alive(now) => {}
            None if self.make_room(&cookie.domain, url.is_secure) => self.0.push(cookie),
            None => {}
        }
    }

    /// Makes room for one more cookie of this domain: the oldest goes, and those that are secure last (6265bis, section 5.7). An
    /// open line ends none of these; then there is no room.
    fn make_room(&mut self, domain: &str, from_secure: bool) -> bool {
        let of_domain = |kept: &Kept| kept.domain == domain;
        let is_crowded = self.0.iter().filter(|kept| of_domain(kept)).count() >= COOKIES_PER_DOMAIN_MAX;
        if !is_crowded && self.0.len() < COOKIES_MAX {
            return true;
        }
        let may_go = |kept: &Kept| !is_crowded || of_domain(kept);
        let open = self.0.iter().position(|kept| may_go(kept) && !kept.is_secure);
        let goes = open.or_else(|| self.0.iter().position(|kept| may_go(kept) && from_secure));
        goes.map(|at| self.0.remove(at)).is_some()
    }

    /// What goes into the Cookie field of a request to `url`: longer paths first, then older ones (section 5.4).
    pub(super) fn field(&mut self, url: &Url, now: SystemTime) -> Option<String> {
        self.0.retain(|kept| kept.is_alive(now));
        let mut sent: Vec<&Kept> = self.0.iter().filter(|kept| kept.is_for(url)).collect();
        sent.sort_by_key(|kept| std::cmp::Reverse(kept.path.len())); // stable
        let pairs: Vec<String> = sent.iter().map(|kept| format!("{}={}", kept.name, kept.value)).collect();
        (!pairs.is_empty()).then(|| pairs.join("; "))
    }

    pub(super) fn value(&self, url: &Url, name: &str, now: SystemTime) -> Option<&str> {
        let is_it = |kept: &&Kept| kept.is_alive(now) && kept.name == name && kept.is_for(url);
        self.0.iter().filter(is_it).max_by_key(|kept| kept.path.len()).map(|kept| kept.value.as_str())
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

impl Kept {
    fn is_alive(&self, now: SystemTime) -> bool {
        self.until.is_none_or(|until| until > now)
    }

    /// Whether some request that has `kept` would have this one of the same name beside it or instead.
    fn lies_over(&self, kept: &Kept) -> bool {
        let is_near = is_within(&self.domain, &kept.domain) || is_within(&kept.domain, &self.domain);
        self.name == kept.name && is_near && is_below(&self.path, &kept.path)
    }

    fn is_for(&self, url: &Url) -> bool {
        let is_host =
            if self.is_host_only { url.host == self.domain } else { is_within(&url.host, &self.domain) };
        is_host && is_below(url.path(), &self.path) && (url.is_secure || !self.is_secure)
    }
}

/// Section 5.2 and 5.3.
fn parse(field: &[u8], url: &Url, now: SystemTime) -> Option<Kept> {
    let field = std::str::from_utf8(field).ok()?;
    let mut parts = field.split(';');
    let (name, value) = parts.next()?.split_once('=')?;
    let (name, value) = (name.trim_ascii(), value.trim_ascii());
    let is_sendable = field.bytes().all(|b| matches!(b, b'\t' | 0x20..=0x7e | 0x80..));
    if name.is_empty() || name.len() + value.len() > COOKIE_BYTES_MAX || !is_sendable {
        return None;
    }
    let mut cookie = Kept {
        name: name.to_owned(),
        value: value.to_owned(),
        domain: url.host.clone(),
        is_host_only: true,
        path: default_path(url.path()).to_owned(),
        is_secure: false,
        until: None,
    };
    let (mut age, mut expires, mut has_path) = (None, None, false);
    for attribute in parts {
        let (name, value) = attribute.split_once('=').unwrap_or((attribute, ""));
        let value = value.trim_ascii();
        match name.trim_ascii().to_ascii_lowercase().as_str() {
            "expires" => expires = date(value).or(expires),
            "max-age" => age = seconds(value).or(age),
            "domain" if !value.is_empty() => {
                cookie.domain = value.strip_prefix('.').unwrap_or(value).to_ascii_lowercase();
                cookie.is_host_only = false;
            }
            "path" => {
                has_path = value.starts_with('/');
                cookie.path = if has_path { value } else { default_path(url.path()) }.to_owned();
            }
            "secure" => cookie.is_secure = true,
            _ => {}
        }
    }
    if !cookie.is_host_only && cookie.domain != url.host {
        // A dot at an end makes no name of one label two.
        let is_registry = !cookie.domain.trim_matches('.').contains('.');
        if is_registry || !is_within(&url.host, &cookie.domain) {
            return None;
        }
    }
    // Max-Age counts more than Expires (section 5.3, step 3). A second or less before now is over.
    cookie.until = match age {
        Some(age) => now.checked_add(age),
        None => expires,
    };
    // The successor of the RFC (6265bis, section 5.7): nobody sets a secure cookie over an open line, and the names promise.
    let prefix =
        |prefix: &str| name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
    let is_promised = !prefix("__Secure-") && !prefix("__Host-") || cookie.is_secure;
    let is_host = !prefix("__Host-") || cookie.is_host_only && has_path && cookie.path == "/";
    (is_promised && is_host && (url.is_secure || !cookie.is_secure)).then_some(cookie)
}

/// Section 5.1.3: the same, or a name below it; never an address below another.
fn is_within(host: &str, domain: &str) -> bool {
    host == domain || !is_address(host) && host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'))
}

/// No name ends in a number, but what getaddrinfo(3) takes for an address does: `127.1`, `127.0.0.0x1`, `127.0.0.1.`.
fn is_address(host: &str) -> bool {
    let last = host.trim_end_matches('.').rsplit('.').next().unwrap_or_default();
    host.starts_with('[') || last.starts_with("0x") || last.bytes().all(|b| b.is_ascii_digit())
}

/// Section 5.1.4.
fn is_below(path: &str, folder: &str) -> bool {
    match path.strip_prefix(folder) {
        Some(rest) => rest.is_empty() || rest.starts_with('/') || folder.ends_with('/'),
        None => false,
    }
}

/// Section 5.1.4: up to the last slash, not included.
fn default_path(path: &str) -> &str {
    match path.rfind('/') {
        None | Some(0) => "/",
        Some(slash) => &path[..slash],
    }
}

/// Section 5.2.2: a number, and one that is not above zero is over at once.
fn seconds(value: &str) -> Option<Duration> {
    let digits = value.strip_prefix('-').unwrap_or(value);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let age = if digits.len() < value.len() { 0 } else { digits.parse().unwrap_or(u64::from(u32::MAX)) };
    Some(Duration::from_secs(age.min(u64::from(u32::MAX))))
}

/// The dates of RFC 9110 section 5.6.7, and the dashes of Netscape's. Section 5.1.1 would read more; such a cookie lives as long
/// as the client.
fn date(value: &str) -> Option<SystemTime> {
    httpdate::parse_http_date(value).or_else(|_| httpdate::parse_http_date(&value.replace('-', " "))).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + seconds)
    }

    /// What is sent to `to` after `from` has set these.
    fn check(from: &str, fields: &[&str], to: &str, expected: &str) {
        let mut jar = Jar::default();
        for field in fields {
            jar.store(field.as_bytes(), &url(from), at(0));
        }
        assert_eq!(jar.field(&url(to), at(10)).unwrap_or_default(), expected, "{fields:?} of {from} to {to}");
    }

    #[test]
    fn hosts() {
        check("http://a.b/", &["x=1"], "http://a.b:81/", "x=1");
        check("http://a.b/", &["x=1"], "http://c.a.b/", "");
        check("http://a.b/", &["x=1"], "http://b/", "");
        check("http://c.a.b/", &["x=1; Domain=A.b"], "http://d.a.b/", "x=1");
        check("http://c.a.b/", &["x=1; Domain=.a.b"], "http://a.b/", "x=1");
        check("http://c.a.b/", &["x=1; domain=a.b"], "http://xa.b/", "");
        check("http://a.b/", &["x=1; Domain=c.a.b"], "http://c.a.b/", "");
        check("http://a.b/", &["x=1; Domain=other.b"], "http://other.b/", "");
        check("http://a.b/", &["x=1; Domain=b"], "http://a.b/", "");
        check("http://localhost/", &["x=1; Domain=localhost"], "http://localhost/", "x=1");
        check("http://127.0.0.1/", &["x=1; Domain=0.0.1"], "http://127.0.0.1/", "");
    }

    #[test]
    fn dots_do_not_make_a_name_of_a_registry() {
        check("http://evil.com./", &["x=1; Domain=com."], "http://bank.com./", "");
        check("http://evil..com/", &["x=1; Domain=..com"], "http://bank..com/", "");
        check("http://evil.com../", &["x=1; Domain=com.."], "http://bank.com../", "");
        check("http://c.a.b./", &["x=1; Domain=a.b."], "http://d.a.b./", "x=1");
        check("http://com./", &["x=1; Domain=com."], "http://com./", "x=1");
        // As getaddrinfo(3) reads them these are addresses.
        check("http://127.0.0.1./", &["x=1; Domain=0.0.1."], "http://10.0.0.1./", "");
        check("http://127.0.1/", &["x=1; Domain=0.1"], "http://10.0.1/", "");
        check("http://127.0x1.0x2/", &["x=1; Domain=0x1.0x2"], "http://10.0x1.0x2/", "");
    }

    /// What is sent to `to` after each of them has set its cookie.
    fn check_in_turn(sets: &[(&str, &str)], to: &str, expected: &str) {
        let mut jar = Jar::default();
        for (from, field) in sets {
            jar.store(field.as_bytes(), &url(from), at(0));
        }
        assert_eq!(jar.field(&url(to), at(0)).unwrap_or_default(), expected, "{sets:?} to {to}");
    }

    #[test]
    fn an_open_line_leaves_secure_cookies_alone() {
        let check = check_in_turn;
        let kept = ("https://a.b/", "x=1; Secure");
        check(&[kept, ("http://a.b/", "x=2")], "https://a.b/", "x=1");
        check(&[kept, ("http://a.b/", "x=; Max-Age=0")], "https://a.b/", "x=1");
        check(&[kept, ("http://a.b/", "x=2; Path=/c")], "https://a.b/c", "x=1");
        check(&[kept, ("http://a.b/", "y=2")], "https://a.b/", "x=1; y=2");
        check(&[kept, ("http://c.b/", "x=2; Domain=c.b")], "https://a.b/", "x=1");
        check(&[kept, ("https://a.b/", "x=2")], "http://a.b/", "x=2");
        check(&[kept, ("https://a.b/", "x=; Max-Age=0"), ("http://a.b/", "x=2")], "https://a.b/", "x=2");
        check(&[("http://a.b/", "x=1"), ("http://a.b/", "x=2")], "https://a.b/", "x=2");
        // Above and below its domain.
        check(
            &[("https://c.a.b/", "x=1; Secure"), ("http://d.a.b/", "x=2; Domain=a.b")],
            "https://c.a.b/",
            "x=1",
        );
        check(
            &[("https://c.a.b/", "x=1; Secure; Domain=a.b"), ("http://c.a.b/", "x=2")],
            "https://c.a.b/",
            "x=1",
        );
        check(&[("https://c.a.b/", "x=1; Secure"), ("http://d.a.b/", "x=2")], "http://d.a.b/", "x=2");
        // A path above its own is another matter.
        check(
            &[("https://a.b/", "x=1; Secure; Path=/c"), ("http://a.b/", "x=2; Path=/")],
            "https://a.b/c",
            "x=1; x=2",
        );
    }

    #[test]
    fn secure_cookies_are_the_last_to_go() {
        let names = |jar: &Jar| jar.0.iter().map(|kept| kept.name.clone()).collect::<Vec<_>>();
        let (open, secure) = (url("http://a/"), url("https://a/"));
        let mut jar = Jar::default();
        jar.store(b"s=1; Secure", &secure, at(0));
        for n in 0..60 {
            jar.store(format!("c{n}=1").as_bytes(), &open, at(0));
        }
        let kept = names(&jar);
        assert_eq!(
            (kept.len(), kept[0].as_str(), kept[1].as_str(), kept[49].as_str()),
            (50, "s", "c11", "c59")
        );
        // Where all are secure, an open line brings nothing more, and a secure one ends the oldest.
        for n in 0..49 {
            jar.store(format!("s{n}=1; Secure").as_bytes(), &secure, at(0));
        }
        jar.store(b"late=1", &open, at(0));
        assert!(!names(&jar).contains(&"late".to_owned()) && names(&jar)[0] == "s", "{:?}", names(&jar));
        jar.store(b"late=1", &secure, at(0));
        assert_eq!(
            (names(&jar).len(), names(&jar)[0].as_str(), names(&jar)[49].as_str()),
            (50, "s0", "late")
        );
        // What is over goes first of all.
        jar.store(b"over=1; Max-Age=5", &secure, at(0));
        jar.store(b"new=1; Secure", &secure, at(10));
        assert_eq!((names(&jar).len(), names(&jar)[0].as_str(), names(&jar)[49].as_str()), (50, "s0", "new"));
        let mut jar = Jar::default();
        jar.store(b"s=1; Secure", &secure, at(0));
        for n in 0..COOKIES_MAX {
            jar.store(b"c=1", &url(&format!("http://h{n}.b/")), at(0));
        }
        assert_eq!((jar.0.len(), jar.value(&secure, "s", at(0))), (COOKIES_MAX, Some("1")));
    }

    #[test]
    fn paths() {
        check("http://a/b/c", &["x=1"], "http://a/b/d", "x=1");
        check("http://a/b/c", &["x=1"], "http://a/b", "x=1");
        check("http://a/b/c", &["x=1"], "http://a/bc", "");
        check("http://a/b/c", &["x=1"], "http://a/", "");
        check("http://a/b/c", &["x=1; Path=/"], "http://a/z", "x=1");
        check("http://a/b/c", &["x=1; Path=b"], "http://a/b/", "x=1");
        check("http://a/", &["x=1; Path=/", "y=2; Path=/b", "z=3; Path=/"], "http://a/b", "y=2; x=1; z=3");
    }

    #[test]
    fn secure() {
        check("https://a/", &["x=1; Secure"], "https://a/", "x=1");
        check("https://a/", &["x=1; Secure"], "http://a/", "");
        check("http://a/", &["x=1; Secure"], "https://a/", "");
        check("https://a/", &["__Host-x=1; Secure; Path=/"], "https://a/", "__Host-x=1");
        check("https://a.b/", &["__Host-x=1; Secure; Path=/; Domain=a.b"], "https://a.b/", "");
        check("http://a/", &["__Secure-x=1"], "http://a/", "");
    }

    #[test]
    fn times() {
        check("http://a/", &["x=1; Max-Age=11"], "http://a/", "x=1");
        check("http://a/", &["x=1; Max-Age=10"], "http://a/", "");
        check("http://a/", &["x=1", "x=; Max-Age=0"], "http://a/", "");
        check("http://a/", &["x=1", "x=2; Max-Age=-1"], "http://a/", "");
        check("http://a/", &["x=1; Expires=Wed, 21 Oct 2015 07:28:00 GMT"], "http://a/", "");
        check("http://a/", &["x=1; Expires=Wed, 21-Oct-2015 07:28:00 GMT"], "http://a/", "");
        check("http://a/", &["x=1; Expires=Wed, 21 Oct 2015 07:28:00 GMT; Max-Age=99"], "http://a/", "x=1");
        check("http://a/", &["x=1; Expires=never; Max-Age=ever"], "http://a/", "x=1");
    }

    #[test]
    fn what_is_none() {
        check("http://a/", &["x", "=1", "", ";", "y=\x01", "z=ok"], "http://a/", "z=ok");
        check("http://a/", &["x=1", "x=2"], "http://a/", "x=2");
        check("http://a/", &["x=a=b; HttpOnly; SameSite=Strict"], "http://a/", "x=a=b");
        check("http://a/", &[&format!("x={}", "y".repeat(4096))], "http://a/", "");
    }

    #[test]
    fn bounded() {
        let mut jar = Jar::default();
        for n in 0..60 {
            jar.store(format!("c{n}=1").as_bytes(), &url("http://a/"), at(0));
        }
        let of_a: Vec<_> = jar.0.iter().map(|kept| kept.name.clone()).collect();
        assert_eq!((of_a.len(), of_a[0].as_str(), of_a[49].as_str()), (50, "c10", "c59"));
        for n in 0..COOKIES_MAX {
            jar.store(b"c=1", &url(&format!("http://h{n}.b/")), at(0));
        }
        assert_eq!(jar.0.len(), COOKIES_MAX);
        assert_eq!(jar.value(&url("http://a/"), "c59", at(0)), None);
    }
}
