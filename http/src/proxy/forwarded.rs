//! Forwarding fields: `X-Forwarded-For` and `X-Forwarded-Proto`, or `Forwarded` (RFC 7239), as far as they are to be believed.
//!
//! Which of them is told and not guessed: a proxy that writes one passes the other on as the client has sent it.

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
    /// What cannot be understood ends the search: left of it anybody may have written anything.
    pub(super) fn client(self, trusted: &[Network], peer: IpAddr, values: &[&[u8]]) -> IpAddr {
        let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(address));
        let addresses = values.iter().rev().flat_map(|value| self.addresses(value));
        let mut client = peer;
        for address in addresses {
            match address {
                Some(address) if is_trusted(client) => client = address,
                _ => break,
            }
        }
        client.to_canonical()
    }

    /// The addresses of one value, from the right.
    fn addresses(self, value: &[u8]) -> Vec<Option<IpAddr>> {
        let Ok(value) = str::from_utf8(value) else { return vec![None] };
        match self {
            ForwardingField::XForwarded => value.rsplit(',').map(|element| node(element.trim())).collect(),
            ForwardingField::Forwarded => match split(value, ',') {
                Some(elements) => {
                    elements.iter().rev().map(|element| node(parameter(element, "for")?)).collect()
                }
                None => vec![None],
            },
        }
    }

    /// `http` or `https`, as the nearest proxy has it in the last value of [its field](Self::of_proto).
    pub(super) fn proto(self, value: &[u8]) -> Option<&'static str> {
        let value = str::from_utf8(value).ok()?;
        let proto = match self {
            ForwardingField::XForwarded => value.rsplit(',').next()?.trim(),
            ForwardingField::Forwarded => parameter(split(value, ',')?.last()?, "proto")?,
        };
        ["http", "https"].into_iter().find(|known| known.eq_ignore_ascii_case(proto))
    }
}

/// The value of the one parameter of that name of an element of `Forwarded`, without its quotes.
fn parameter<'a>(element: &'a str, name: &str) -> Option<&'a str> {
    let pairs = split(element, ';')?;
    let mut named = pairs.iter().filter_map(|pair| {
        let (other, value) = pair.split_once('=')?;
        other.trim().eq_ignore_ascii_case(name).then(|| value.trim())
    });
    let value = named.next()?;
    // "Each parameter MUST NOT occur more than once per field-value" (section 4).
    if named.next().is_some() {
        return None;
    }
    Some(value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value))
}

/// What stands between separators outside of quoted strings (RFC 9110 section 5.6.4). `None` where a string does not end: a host that
/// a client has chosen may stand in one, and what it holds is no parameter.
fn split(text: &str, separator: char) -> Option<Vec<&str>> {
    let (mut parts, mut start) = (Vec::new(), 0);
    let (mut is_quoted, mut is_escaped) = (false, false);
    for (at, letter) in text.char_indices() {
        match letter {
            _ if is_escaped => is_escaped = false,
            '\\' if is_quoted => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            _ if letter == separator && !is_quoted => {
                parts.push(&text[start..at]);
                start = at + letter.len_utf8();
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
            let bytes: Vec<&[u8]> = values.iter().map(|value| value.as_bytes()).collect();
            let client = field.client(&trusted, peer.parse().unwrap(), &bytes);
            assert_eq!(client.to_string(), expected, "{peer} {field:?} {values:?}");
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
        // What is not understood hides what stands left of it.
        check("10.0.0.1", XForwarded, &["6.6.6.6, junk"], "10.0.0.1");
        check("10.0.0.1", XForwarded, &["6.6.6.6, junk, 10.0.0.7"], "10.0.0.7");
        check("10.0.0.1", XForwarded, &["6.6.6.6,"], "10.0.0.1");
        check("10.0.0.1", XForwarded, &["6.6.6.6", "\u{e9}"], "10.0.0.1");
        // RFC 7239.
        check("::1", Forwarded, &["for=192.0.2.60;proto=http;by=203.0.113.43"], "192.0.2.60");
        check("::1", Forwarded, &["For=\"[2001:db8:cafe::17]:4711\""], "2001:db8:cafe::17");
        check("::1", Forwarded, &["for=6.6.6.6, for=192.0.2.43, for=10.1.1.1"], "192.0.2.43");
        check("::1", Forwarded, &["for=6.6.6.6", "for=192.0.2.43", "for=10.1.1.1"], "192.0.2.43");
        check("::1", Forwarded, &["for=6.6.6.6, for=unknown"], "::1");
        check("::1", Forwarded, &["for=6.6.6.6, for=_hidden"], "::1");
        check("::1", Forwarded, &["proto=https"], "::1");
        // A string that a client has filled is no parameter, and what does not end says nothing.
        check("::1", Forwarded, &["host=\"a;for=6.6.6.6;b\";for=1.1.1.1"], "1.1.1.1");
        check("::1", Forwarded, &["host=\"a\\\";for=6.6.6.6;b\";for=1.1.1.1"], "1.1.1.1");
        check("::1", Forwarded, &["for=1.1.1.1;host=\"a, for=6.6.6.6\""], "1.1.1.1");
        check("::1", Forwarded, &["for=6.6.6.6;host=\"a, for=1.1.1.1"], "::1");
        check("::1", Forwarded, &["for=1.1.1.1;for=6.6.6.6"], "::1");
        check("::ffff:10.0.0.1", XForwarded, &["::ffff:1.1.1.1"], "1.1.1.1");
    }

    #[test]
    fn the_scheme_is_that_of_the_nearest_proxy() {
        let check = |field: ForwardingField, value: &str, expected| {
            assert_eq!(field.proto(value.as_bytes()), expected, "{value}");
        };
        check(XForwarded, "https", Some("https"));
        check(XForwarded, "https, HTTP", Some("http"));
        check(XForwarded, "ftp", None);
        check(XForwarded, "", None);
        check(Forwarded, "for=a;proto=http, for=b;Proto=\"HTTPS\"", Some("https"));
        check(Forwarded, "proto=https, for=b", None);
        check(Forwarded, "host=\"a;proto=https\"", None);
    }
}
