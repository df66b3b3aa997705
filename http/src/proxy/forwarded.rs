//! Forwarding fields: `X-Forwarded-For` and `X-Forwarded-Proto`, or `Forwarded` (RFC 7239), as far as they are to be believed.
//!
//! Which of them is told and not guessed: a proxy that writes one passes the other on as the client has sent it.

use std::iter;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::Network;

/// The fields that proxies write.
///
/// # Examples
///
/// ```
/// use annulet_http::{ForwardingField, Router, Server};
///
/// // What HAProxy's `option forwardfor` writes; `option forwarded` writes the other.
/// let proxies = ["10.0.0.0/8".parse().unwrap()];
/// let server = Server::new(Router::new()).with_trusted_proxies(proxies, ForwardingField::XForwarded);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ForwardingField {
    /// `X-Forwarded-For` and `X-Forwarded-Proto`.
    XForwarded,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

impl ForwardingField {
    /// Where the client's address is.
    pub(super) fn of_client(self) -> &'static str {
        match self {
            ForwardingField::XForwarded => "x-forwarded-for",
            ForwardingField::Forwarded => "forwarded",
        }
    }

    /// Where the client's scheme is.
    pub(super) fn of_proto(self) -> &'static str {
        match self {
            ForwardingField::XForwarded => "x-forwarded-proto",
            ForwardingField::Forwarded => "forwarded",
        }
    }

    /// The client of a request that `peer` has sent, by the values of [its field](Self::of_client) in their order: the rightmost
    /// address that is not of a trusted proxy, as each proxy adds the one that it saw.
    ///
    /// Each element is judged by itself, from the right: what a client has written stands left of what the proxies add, and takes
    /// nothing of it away. `None` where a trusted proxy names nobody that can be understood: that is not the proxy itself, which may
    /// be allowed more, and left of it anybody may have written anything.
    pub(super) fn client(self, trusted: &[Network], peer: IpAddr, values: &[&[u8]]) -> Option<IpAddr> {
        let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(address));
        let mut client = peer;
        for element in values.iter().rev().flat_map(|value| self.elements(value)) {
            if !is_trusted(client) {
                break;
            }
            let address = match self {
                ForwardingField::XForwarded => element,
                ForwardingField::Forwarded => element.and_then(|element| parameter(element, "for")),
            };
            client = node(str::from_utf8(address?.trim_ascii()).ok()?)?;
        }
        Some(client.to_canonical())
    }

    /// `http` or `https`, as the nearest proxy has it in the last value of [its field](Self::of_proto).
    pub(super) fn proto(self, value: &[u8]) -> Option<&'static str> {
        let last = self.elements(value).next()??;
        let proto = match self {
            ForwardingField::XForwarded => last.trim_ascii(),
            ForwardingField::Forwarded => parameter(last, "proto")?,
        };
        ["http", "https"].into_iter().find(|known| known.as_bytes().eq_ignore_ascii_case(proto))
    }

    /// The elements of one value, from the right. `None` is one whose beginning cannot be told, and the last.
    fn elements(self, value: &[u8]) -> impl Iterator<Item = Option<&[u8]>> {
        let mut left = Some(value);
        iter::from_fn(move || {
            let list = left.take()?;
            let comma = match self {
                ForwardingField::XForwarded => Some(memchr::memrchr(b',', list)),
                ForwardingField::Forwarded => last_comma(list),
            };
            Some(comma.map(|comma| match comma {
                Some(at) => {
                    left = Some(&list[..at]);
                    &list[at + 1..]
                }
                None => list,
            }))
        })
    }
}

/// Where the last comma outside of quoted strings is, if there is one, read from the right: a string that a client has left open does not
/// swallow what a proxy has put behind it. `None` where a string has no beginning.
fn last_comma(list: &[u8]) -> Option<Option<usize>> {
    let mut is_quoted = false;
    for (at, letter) in list.iter().enumerate().rev() {
        match letter {
            b'"' => {
                // RFC 9110 section 5.6.4: one behind an odd number of backslashes is a letter of a string.
                let is_escaped =
                    list[..at].iter().rev().take_while(|&&letter| letter == b'\\').count() % 2 == 1;
                match (is_escaped, is_quoted) {
                    (true, true) => {}
                    (true, false) => return None,
                    (false, _) => is_quoted = !is_quoted,
                }
            }
            b',' if !is_quoted => return Some(Some(at)),
            _ => {}
        }
    }
    (!is_quoted).then_some(None)
}

/// The value of the one parameter of that name of an element of `Forwarded`, without its quotes.
fn parameter<'a>(element: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let pairs = split(element, b';')?;
    let mut named = pairs.iter().filter_map(|pair| {
        let equals = memchr::memchr(b'=', pair)?;
        pair[..equals]
            .trim_ascii()
            .eq_ignore_ascii_case(name.as_bytes())
            .then(|| pair[equals + 1..].trim_ascii())
    });
    let value = named.next()?;
    // "Each parameter MUST NOT occur more than once per field-value" (section 4).
    if named.next().is_some() {
        return None;
    }
    Some(value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value))
}

/// What stands between separators outside of quoted strings (RFC 9110 section 5.6.4). `None` where a string does not end: a host that
/// a client has chosen may stand in one, and what it holds is no parameter.
fn split(text: &[u8], separator: u8) -> Option<Vec<&[u8]>> {
    let (mut parts, mut start) = (Vec::new(), 0);
    let (mut is_quoted, mut is_escaped) = (false, false);
    for (at, &letter) in text.iter().enumerate() {
        match letter {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_quoted => is_escaped = true,
            b'"' => is_quoted = !is_quoted,
            _ if letter == separator && !is_quoted => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    (!is_quoted).then_some(parts)
}

/// An address with or without a port, as RFC 7239 section 6 and usage have it: `192.0.2.1`, `192.0.2.1:80`, `[2001:db8::1]:80`,
/// `2001:db8::1`. `unknown` and hidden names are none.
fn node(text: &str) -> Option<IpAddr> {
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Some(address.ip());
    }
    let inner = text.strip_prefix('[')?.strip_suffix(']')?;
    inner.parse::<Ipv6Addr>().ok().map(IpAddr::V6)
}

#[cfg(test)]
mod tests {
    use super::ForwardingField::{Forwarded, XForwarded};
    use super::*;

    #[test]
    fn the_client_is_the_rightmost_who_is_not_trusted() {
        let trusted = ["10.0.0.0/8", "::1"].map(|network| network.parse::<Network>().unwrap());
        let check = |peer: &str, field: ForwardingField, values: &[&str], expected: &str| {
            // An e with an accent stands for a byte that is no UTF-8.
            let bytes = |value: &&str| value.chars().map(|letter| letter as u8).collect();
            let values: Vec<Vec<u8>> = values.iter().map(bytes).collect();
            let values: Vec<&[u8]> = values.iter().map(Vec::as_slice).collect();
            let client = field.client(&trusted, peer.parse().unwrap(), &values);
            let client = client.map_or_else(|| "-".to_owned(), |client| client.to_string());
            let values: Vec<_> = values.iter().map(|value| value.escape_ascii().to_string()).collect();
            assert_eq!(client, expected, "{peer} {field:?} {values:?}");
        };
        // Nobody believes a stranger.
        check("192.0.2.9", XForwarded, &["1.1.1.1"], "192.0.2.9");
        check("192.0.2.9", Forwarded, &["for=1.1.1.1"], "192.0.2.9");
        check("10.0.0.1", XForwarded, &[], "10.0.0.1");
        check("10.0.0.1", XForwarded, &["1.1.1.1"], "1.1.1.1");
        check("10.0.0.1", XForwarded, &["6.6.6.6, 1.1.1.1"], "1.1.1.1");
        check("10.0.0.1", XForwarded, &["6.6.6.6, 1.1.1.1, 10.0.0.7"], "1.1.1.1");
        check("10.0.0.1", XForwarded, &["6.6.6.6", "1.1.1.1 ,10.0.0.7"], "1.1.1.1");
        check("10.0.0.1", XForwarded, &["10.0.0.2, 10.0.0.3"], "10.0.0.2");
        check("10.0.0.1", XForwarded, &["1.1.1.1:5555"], "1.1.1.1");
        check("10.0.0.1", XForwarded, &["[2001:db8::1]:5555"], "2001:db8::1");
        check("10.0.0.1", XForwarded, &["2001:db8::1"], "2001:db8::1");
        // What is not understood hides what stands left of it, and is nobody.
        for junk in ["junk", "6.6.6.6, junk", "6.6.6.6, junk, 10.0.0.7", "6.6.6.6,", "", "\u{e9}"] {
            check("10.0.0.1", XForwarded, &["6.6.6.6", junk], "-");
        }
        // It takes nothing of what stands right of it.
        check("10.0.0.1", XForwarded, &["\u{e9}, 9.9.9.9"], "9.9.9.9");
        check("10.0.0.1", XForwarded, &["\u{e9}", "9.9.9.9, 10.0.0.7"], "9.9.9.9");
        check("10.0.0.1", XForwarded, &["junk,, 9.9.9.9"], "9.9.9.9");
        // RFC 7239.
        check("::1", Forwarded, &["for=192.0.2.60;proto=http;by=203.0.113.43"], "192.0.2.60");
        check("::1", Forwarded, &["For=\"[2001:db8:cafe::17]:4711\""], "2001:db8:cafe::17");
        check("::1", Forwarded, &["for=6.6.6.6, for=192.0.2.43, for=10.1.1.1"], "192.0.2.43");
        check("::1", Forwarded, &["for=6.6.6.6", "for=192.0.2.43", "for=10.1.1.1"], "192.0.2.43");
        check("::1", Forwarded, &[], "::1");
        check("::1", Forwarded, &["for=6.6.6.6, for=unknown"], "-");
        check("::1", Forwarded, &["for=6.6.6.6, for=_hidden"], "-");
        check("::1", Forwarded, &["proto=https"], "-");
        // A string that a client has filled is no parameter, and what does not end says nothing.
        check("::1", Forwarded, &["host=\"a;for=6.6.6.6;b\";for=1.1.1.1"], "1.1.1.1");
        check("::1", Forwarded, &["host=\"a\\\";for=6.6.6.6;b\";for=1.1.1.1"], "1.1.1.1");
        check("::1", Forwarded, &["for=1.1.1.1;host=\"a, for=6.6.6.6\""], "1.1.1.1");
        check("::1", Forwarded, &["for=1.1.1.1;host=\"a\\\", for=6.6.6.6\""], "1.1.1.1");
        check("::1", Forwarded, &["for=1.1.1.1;host=\"\u{e9}\""], "1.1.1.1");
        check("::1", Forwarded, &["for=6.6.6.6;host=\"a, for=1.1.1.1"], "1.1.1.1");
        check("::1", Forwarded, &["for=6.6.6.6;host=\"a, for=1.1.1.1;host=\"b\""], "1.1.1.1");
        check("::1", Forwarded, &["for=6.6.6.6;host=\"a\\, for=1.1.1.1;host=\"b\""], "1.1.1.1");
        check("::1", Forwarded, &["for=\u{e9}, for=9.9.9.9"], "9.9.9.9");
        check("::1", Forwarded, &["for=1.1.1.1, host=\"a;for=6.6.6.6"], "-");
        check("::1", Forwarded, &["for=1.1.1.1;host=\\\", for=6.6.6.6\\\""], "-");
        check("::1", Forwarded, &["for=1.1.1.1;for=6.6.6.6"], "-");
        check("::ffff:10.0.0.1", XForwarded, &["::ffff:1.1.1.1"], "1.1.1.1");
    }

    #[test]
    fn the_scheme_is_that_of_the_nearest_proxy() {
        let check = |field: ForwardingField, value: &str, expected| {
            let bytes: Vec<u8> = value.chars().map(|letter| letter as u8).collect();
            assert_eq!(field.proto(&bytes), expected, "{value}");
        };
        check(XForwarded, "\u{e9}, https", Some("https"));
        check(Forwarded, "for=\"\u{e9}, for=b;proto=https", Some("https"));
        check(XForwarded, "https", Some("https"));
        check(XForwarded, "https, HTTP", Some("http"));
        check(XForwarded, "ftp", None);
        check(XForwarded, "", None);
        check(Forwarded, "for=a;proto=http, for=b;Proto=\"HTTPS\"", Some("https"));
        check(Forwarded, "proto=https, for=b", None);
        check(Forwarded, "host=\"a;proto=https\"", None);
    }
}
