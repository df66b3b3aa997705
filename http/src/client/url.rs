//! Where a request goes: an absolute URL with the scheme http or https, and what a `Location` makes of it (RFC 3986 section 5.2).
//!
//! What it does not do: IDNA (a name beyond ASCII has to be in its `xn--` form), credentials in the URL, other schemes. A fragment
//! is cut off, for it is never sent.
use std::fmt;
use std::net::Ipv6Addr;

/// An absolute URL, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Url {
    pub(super) is_secure: bool,
    /// In lower case; an IPv6 address in its brackets.
    pub(super) host: String,
    pub(super) port: u16,
    /// Path and query, as sent.
    pub(super) target: String,
}

impl Url {
    /// # Errors
    ///
    /// What is wrong with it, and what to write.
    pub(super) fn parse(text: &str) -> Result<Url, String> {
        let text = text.split('#').next().unwrap_or_default();
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(format!("`{text}` is no absolute URL: write http://host/path"));
        };
        let is_secure = match scheme {
            _ if scheme.eq_ignore_ascii_case("http") => false,
            _ if scheme.eq_ignore_ascii_case("https") => true,
            _ => return Err(format!("the scheme `{scheme}` is not spoken here: write http://host/path")),
        };
        let (authority, target) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let (host, port) = split_authority(authority, is_secure)?;
        Ok(Url { is_secure, host, port, target: checked_target(target)? })
    }

    /// What `reference` means on this page.
    ///
    /// # Errors
    ///
    /// When it leads to no URL.
    pub(super) fn join(&self, reference: &str) -> Result<Url, String> {
        let reference = reference.trim_ascii().split('#').next().unwrap_or_default();
        if has_scheme(reference) {
            return Url::parse(reference);
        }
        if reference.starts_with("//") {
            return Url::parse(&format!("{}:{reference}", self.scheme()));
        }
        let target = match reference.as_bytes().first() {
            None => self.target.clone(),
            Some(b'?') => format!("{}{reference}", self.path()),
            Some(_) => {
                let (path, query) = reference.split_at(reference.find('?').unwrap_or(reference.len()));
                let folder = &self.path()[..=self.path().rfind('/').unwrap_or(0)];
                let merged = if path.starts_with('/') { path.to_owned() } else { format!("{folder}{path}") };
                format!("{}{query}", without_dots(&merged))
            }
        };
        Ok(Url { target: checked_target(&target)?, ..self.clone() })
    }

    pub(super) fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// As the Host field says it: without a port that goes without saying.
    pub(super) fn authority(&self) -> String {
        if self.port == default_port(self.is_secure) {
            self.host.clone()
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// Scheme, host and port: what shares connections and credentials.
    pub(super) fn origin(&self) -> String {
        format!("{}://{}:{}", self.scheme(), self.host, self.port)
    }

    /// The host without brackets, as names are looked up.
    pub(super) fn name(&self) -> &str {
        self.host.trim_matches(['[', ']'])
    }

    /// With pairs appended to its query, which are encoded already.
    pub(super) fn push_query(&mut self, pairs: &str) {
        if !pairs.is_empty() {
            self.target.push(if self.target.contains('?') { '&' } else { '?' });
            self.target.push_str(pairs);
        }
    }

    fn scheme(&self) -> &'static str {
        if self.is_secure { "https" } else { "http" }
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme(), self.authority(), self.target)
    }
}

fn default_port(is_secure: bool) -> u16 {
    if is_secure { 443 } else { 80 }
}

/// RFC 3986 section 3.1; a colon behind a slash or a question mark belongs to what follows.
fn has_scheme(reference: &str) -> bool {
    let Some((scheme, _)) = reference.split_once(':') else { return false };
    scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
}

fn split_authority(authority: &str, is_secure: bool) -> Result<(String, u16), String> {
    if authority.contains('@') {
        return Err("credentials in a URL are refused: send an Authorization field".to_owned());
    }
    if !authority.is_ascii() {
        return Err(format!("the name `{authority}` is not ASCII: write its xn-- form"));
    }
    let (host, port) = match authority.rfind(']') {
        Some(bracket) => authority.split_at(bracket + 1),
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    let is_address = || {
        let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        inner.is_some_and(|inner| inner.parse::<Ipv6Addr>().is_ok())
    };
    let is_name = !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~".contains(&b));
    if !is_name && !is_address() {
        return Err(format!("`{authority}` is no host: write a name, 127.0.0.1 or [::1]"));
    }
    let port = match port.strip_prefix(':') {
        None if port.is_empty() => default_port(is_secure),
        Some("") => default_port(is_secure),
        Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => {
            digits.parse().map_err(|_| format!("no such port: {digits}"))?
        }
        _ => return Err(format!("`{authority}` is no host and port")),
    };
    Ok((host.to_ascii_lowercase(), port))
}

/// Path and query as sent: what is beyond ASCII as the percent-encoded bytes of UTF-8.
fn checked_target(target: &str) -> Result<String, String> {
    let mut sent = String::with_capacity(target.len() + 1);
    if !target.starts_with('/') {
        sent.push('/');
    }
    for b in target.bytes() {
        match b {
            0x21..=0x7e => sent.push(char::from(b)),
            0x80.. => sent.push_str(percent_encoding::percent_encode_byte(b)),
            _ => return Err("a space or a control character in a URL: write %20 or the like".to_owned()),
        }
    }
    match http::uri::PathAndQuery::try_from(sent.as_str()) {
        Ok(_) => Ok(sent),
        Err(error) => Err(format!("`{target}` is no path and query: {error}; percent-encode it")),
    }
}

/// RFC 3986 section 5.2.4, of a path that begins with a slash.
fn without_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        match segment {
            "." => {}
            ".." => drop(kept.pop()),
            _ => kept.push(segment),
        }
        if is_last && matches!(segment, "." | "..") {
            kept.push("");
        }
    }
    format!("/{}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absolute() {
        let check = |text: &str, host: &str, port: u16, target: &str| {
            let url = Url::parse(text).unwrap();
            assert_eq!((url.host.as_str(), url.port, url.target.as_str()), (host, port, target), "{text}");
        };
        check("http://example.com", "example.com", 80, "/");
        check("HTTP://Example.COM:8080/A?b=c#d", "example.com", 8080, "/A?b=c");
        check("https://example.com:/", "example.com", 443, "/");
        check("http://[::1]:81?q", "[::1]", 81, "/?q");
        check("http://a/ä", "a", 80, "/%C3%A4");
        check("http://a/?u=http://b@c/", "a", 80, "/?u=http://b@c/");
    }

    #[test]
    fn refused() {
        let check = |text: &str, cure: &str| {
            let error = Url::parse(text).unwrap_err();
            assert!(error.contains(cure), "{text}: {error}");
        };
        check("/path", "write http://host/path");
        check("ftp://a/", "ftp");
        check("http://", "no host");
        check("http:///x", "no host");
        check("http://u:p@a/", "Authorization");
        check("http://a\\@b/", "Authorization");
        check("http://ä.de/", "xn--");
        check("http://a b/", "no host");
        check("http://a:65536/", "65536");
        check("http://a:+1/", "no host and port");
        check("http://[::1]x/", "no host and port");
        check("http://[zz]/", "no host");
        check("http://a/x y", "%20");
        check("http://a/\r\nX: y", "%20");
    }

    #[test]
    fn references() {
        let check = |reference: &str, expected: &str| {
            let base = Url::parse("http://a:81/b/c/d?q").unwrap();
            assert_eq!(base.join(reference).unwrap().to_string(), expected, "{reference}");
        };
        check("", "http://a:81/b/c/d?q");
        check("?y", "http://a:81/b/c/d?y");
        check("g", "http://a:81/b/c/g");
        check("./g/", "http://a:81/b/c/g/");
        check("../g?x#s", "http://a:81/b/g?x");
        check("../../../g", "http://a:81/g");
        check("..", "http://a:81/b/");
        check("/g/./h/../i", "http://a:81/g/i");
        check("//x/y", "http://x/y");
        check("https://x/y", "https://x/y");
        check("g?u=http://x/", "http://a:81/b/c/g?u=http://x/");
    }
}
